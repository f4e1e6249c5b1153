//! Some thirty activities that reserve, grow, split, shrink, give up, wait for each other outside and roll back, each
//! by chance, over the scheduler itself on paused time. Whatever they do, every wait ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bursar::{Budget, Priority, Reservation, Stats};
use futures::future::join;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::*;

const ACTORS: usize = 30;
const STEPS: u64 = 20_000;
const SEEDS: u64 = 20;
/// No wait takes so long unless it hangs.
const HANG: Duration = Duration::from_secs(600);
const IDS: [BudgetId; 3] = [GPU, HOST, DISK];
const CAPACITY: u64 = 40;

/// What happened, over all actors.
#[derive(Debug, Default)]
struct Seen {
    steps: Cell<u64>,
    granted: Cell<u64>,
    grown: Cell<u64>,
    rolled_back: Cell<u64>,
    split: Cell<u64>,
    given_up: Cell<u64>,
    late: Cell<u64>,
    outside: Cell<u64>,
    merged: Cell<u64>,
}

fn count(cell: &Cell<u64>) {
    cell.set(cell.get() + 1);
}

/// What an actor is to do about the end of a wait.
#[derive(Debug, PartialEq, Eq)]
enum After {
    GoOn,
    GiveBack,
}

struct World {
    scheduler: Scheduler,
    seen: Seen,
    limit: u64,
    /// How often each actor has given back all it held, and whether it holds anything.
    rounds: Vec<watch::Sender<u64>>,
    holds: RefCell<Vec<bool>>,
}

struct Actor {
    world: Rc<World>,
    number: usize,
    dice: Dice,
    activity: Activity,
    leases: Vec<Lease>,
}

impl Actor {
    fn chance(&mut self, percent: u64) -> bool {
        self.dice.below(100) < percent
    }

    fn ms(&mut self, below: u64) -> Duration {
        Duration::from_micros(self.dice.below(below * 1_000))
    }

    fn some(&mut self) -> Amounts {
        let mut amounts = Amounts::new();
        for _ in 0..=self.dice.below(2) {
            let (id, units) = (IDS[self.dice.below(3) as usize], 1 + self.dice.below(CAPACITY / 3));
            if amounts.get(id) == 0 {
                assert!(amounts.add(id, units));
            }
        }
        amounts
    }

    fn request(&mut self) -> Request {
        let amounts = self.some();
        let mut request = amounts.iter().fold(Request::new(), |request, (id, units)| request.amount(id, units));
        if self.chance(10) {
            let (id, units) = amounts.iter().next().expect("not empty");
            request = request.down_to(id, units.div_ceil(2)).patience(self.ms(5));
        }
        if self.chance(10) {
            let other = self.some();
            request = request.or(other.iter().fold(Request::new(), |all, (id, units)| all.amount(id, units)));
        }
        if self.chance(10) {
            request = request.deadline(self.ms(20));
        }
        let level = Priority::ALL[self.dice.below(4) as usize];
        request.priority(level).activity(&self.activity)
    }

    /// Awaits something; sometimes gives up before it has ended.
    async fn wait<T>(&mut self, wait: impl Future<Output = Result<T, ReserveError>>) -> (Option<T>, After) {
        let patience = if self.chance(10) { self.ms(15) } else { HANG };
        let ended = timeout(patience, wait).await;
        let seen = &self.world.seen;
        let after = match &ended {
            Err(_) if patience == HANG => panic!("actor {} hangs\n{}", self.number, self.world.scheduler.stats()),
            Err(_) => (count(&seen.given_up), After::GoOn).1,
            Ok(Ok(_)) => (count(&seen.granted), After::GoOn).1,
            Ok(Err(ReserveError::Late { .. })) => (count(&seen.late), After::GoOn).1,
            Ok(Err(ReserveError::RolledBack { .. })) => (count(&seen.rolled_back), After::GiveBack).1,
            Ok(Err(ReserveError::Split { .. })) => (count(&seen.split), After::GiveBack).1,
            Ok(Err(error)) => panic!("{error}"),
        };
        (ended.ok().and_then(Result::ok), after)
    }

    fn keep(&mut self, lease: Option<Lease>) {
        self.leases.extend(lease);
        let holds = self.leases.iter().any(|lease| !lease.amounts().is_empty());
        let held = std::mem::replace(&mut self.world.holds.borrow_mut()[self.number], holds);
        if held && !holds {
            self.world.rounds[self.number].send_modify(|round| *round += 1);
        }
    }

    fn reservation(&mut self) -> Reservation {
        let request = self.request();
        self.world.scheduler.reserve(request)
    }

    async fn reserve(&mut self) -> After {
        let reservation = self.reservation();
        let (lease, after) = self.wait(reservation).await;
        self.keep(lease);
        after
    }

    /// Two waits at once.
    async fn reserve_two(&mut self) -> After {
        let (one, two) = (self.reservation(), self.reservation());
        let both = async {
            let (one, two) = join(one, two).await;
            Ok::<_, ReserveError>([one, two])
        };
        let (both, mut after) = self.wait(both).await;
        for ended in both.into_iter().flatten() {
            let (lease, then) = self.wait(async { ended }).await;
            self.keep(lease);
            if then == After::GiveBack {
                after = then;
            }
        }
        after
    }

    async fn grow(&mut self) -> After {
        let Some(mut lease) = self.leases.pop() else { return After::GoOn };
        let more = self.some();
        let (grown, after) = if self.chance(20) {
            (lease.try_grow(&more).ok(), After::GoOn)
        } else {
            self.wait(lease.grow(&more)).await
        };
        if grown.is_some() {
            count(&self.world.seen.grown);
        }
        self.keep(Some(lease));
        after
    }

    fn rearrange(&mut self) {
        let Some(mut lease) = self.leases.pop() else { return };
        let part: Amounts = lease.amounts().iter().map(|(id, units)| (id, units.div_ceil(2))).collect();
        match self.dice.below(4) {
            _ if part.is_empty() => {}
            0 => self.leases.extend(lease.split(&part)),
            1 => lease.shrink(&part).expect("it holds that"),
            2 => drop(lease.split(&part)),
            _ => {
                if let Some(other) = self.leases.pop() {
                    lease.merge(other).expect("of one scheduler");
                    count(&self.world.seen.merged);
                }
            }
        }
        self.keep(Some(lease));
    }

    /// Waits until an actor of a higher number, which holds something, has given back all of it.
    async fn wait_outside(&mut self) {
        let other = self.number + 1 + self.dice.below(5) as usize;
        if other < ACTORS && self.world.holds.borrow()[other] {
            count(&self.world.seen.outside);
            let mut rounds = self.world.rounds[other].subscribe();
            let _waiting = self.activity.external_wait(&self.world.scheduler);
            let ended = timeout(HANG, rounds.changed()).await;
            assert!(ended.is_ok(), "actor {} hangs outside\n{}", self.number, self.world.scheduler.stats());
        }
    }

    /// Polls a reservation once and comes back to it much later: its grant may have expired, or a verdict lie there.
    async fn stall(&mut self) -> After {
        let mut reservation = self.reservation();
        if let std::task::Poll::Ready(ended) = futures::poll!(&mut reservation) {
            let (lease, after) = self.wait(async { ended }).await;
            self.keep(lease);
            return after;
        }
        sleep(Duration::from_millis(50 + self.dice.below(100))).await;
        let (lease, after) = self.wait(reservation).await;
        self.keep(lease);
        after
    }

    async fn step(&mut self) -> After {
        count(&self.world.seen.steps);
        match self.dice.below(100) {
            0..35 => return self.reserve().await,
            35..55 => return self.grow().await,
            55..60 => return self.reserve_two().await,
            60..75 => self.rearrange(),
            75..79 => self.wait_outside().await,
            79..80 => return self.stall().await,
            80..85 => {
                self.leases.pop();
                self.keep(None);
            }
            _ => sleep(self.ms(4)).await,
        }
        After::GoOn
    }

    async fn run(mut self) {
        while self.world.seen.steps.get() < self.world.limit {
            if self.chance(20) {
                self.activity = Activity::new(format!("actor {}", self.number));
            }
            for _ in 0..2 + self.dice.below(8) {
                if self.step().await == After::GiveBack {
                    // Some give back a part and try it again.
                    if self.chance(30) && self.leases.len() > 1 {
                        self.leases.pop();
                        self.keep(None);
                        continue;
                    }
                    break;
                }
            }
            self.leases.clear();
            self.keep(None);
            sleep(self.ms(2)).await;
        }
    }
}

/// Runs one seed to its end. What was seen, and what the scheduler has counted.
fn run(seed: u64, steps: u64) -> (Seen, Stats) {
    let mut dice = Dice(seed);
    let config = IDS.into_iter().fold(Config::new(), |all, id| all.with(Budget::loan(id, CAPACITY)));
    // Without aging a LOW one may wait as long as others come; that would look like a hang.
    let config = config.with_aging_step(100 * MS).with_bypass_limit(dice.below(8) as u32);
    let config = config.with_roll_backs(dice.below(4) as u32).with_verdict_after((1 + dice.below(10) as u32) * MS);
    let runtime = paused();
    let world = LocalSet::new().block_on(&runtime, async {
        let scheduler = Scheduler::builder().config(config).spawn().expect("a good configuration");
        let world = Rc::new(World {
            scheduler,
            seen: Seen::default(),
            limit: steps,
            rounds: (0..ACTORS).map(|_| watch::Sender::new(0)).collect(),
            holds: RefCell::new(vec![false; ACTORS]),
        });
        let actor = |number| {
            let (world, dice) = (Rc::clone(&world), Dice(seed << 8 | number as u64));
            Actor { world, number, dice, activity: Activity::new("first"), leases: Vec::new() }
        };
        let running: Vec<_> = (0..ACTORS).map(|number| tokio::task::spawn_local(actor(number).run())).collect();
        for actor in running {
            actor.await.unwrap_or_else(|panicked| panic!("seed {seed}: {panicked}"));
        }
        world
    });
    let stats = world.scheduler.stats();
    assert_untouched(&world.scheduler);
    let world = Rc::into_inner(world).expect("the actors have ended");
    (world.seen, stats)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn c7_every_wait_of_activities_that_do_anything_at_all_ends() {
    // A twentieth of what a long run tries.
    let factor = number("BURSAR_SIM_FACTOR").unwrap_or(1).clamp(1, 20);
    let seeds = number("BURSAR_SIM_SEED").map_or(1..=SEEDS, |seed| seed..=seed);
    let runs = seeds.clone().count() as u64;
    let mut sum = [0; 10];
    for seed in seeds {
        let (seen, stats) = run(seed, STEPS * factor / 20);
        let told = stats.levels.iter().map(|level| level.rolled_back + level.split).sum::<u64>();
        let counted = seen.rolled_back.get() + seen.split.get();
        assert!(told >= counted, "seed {seed}: {told} verdicts, {counted} received");
        let Seen { steps, granted, grown, rolled_back, split, given_up, late, outside, merged } = seen;
        let all = [steps, granted, grown, rolled_back, split, given_up, late, outside, merged].map(Cell::into_inner);
        sum.iter_mut().zip(all.into_iter().chain([stats.inherited])).for_each(|(sum, one)| *sum += one);
    }
    let [steps, granted, grown, rolled_back, split, given_up, late, outside, merged, inherited] = sum;
    println!(
        "{steps} steps: {granted} granted, {grown} grown, {rolled_back} rolled back, {split} split, {inherited} \
         inherited, {given_up} given up, {late} late, {outside} waits outside, {merged} merged"
    );
    let often = runs * factor;
    for (what, times, least) in [
        ("granted", granted, 100),
        ("grown", grown, 20),
        ("rolled back", rolled_back, 5),
        ("split", split, 2),
        ("inherited", inherited, 20),
        ("given up", given_up, 5),
        ("late", late, 1),
        ("waits outside", outside, 2),
        ("merged", merged, 5),
    ] {
        assert!(times >= often * least, "{what}: {times} times, less than {least} a run");
    }
}
