//! Seeded simulations of owners who submit, poll, forget to poll, cancel, release in parts, while capacities and rates
//! change and the clock jumps. Oracles that know no more than the owners judge every event; counters make sure that
//! everything happened.

use std::hash::{DefaultHasher, Hash, Hasher};

use bursar::{Config, Order, Supply};
use fastrand::Rng;

use crate::crowd::{Crowd, Owner};
use crate::driven::Driven;
use crate::event::{Arrival, Event, Seen};
use crate::oracle::Oracle;
use crate::profile::Profile;
use crate::tally::{Case, Tally};
use crate::trace::{guarded, seeds, shrink, tail};
use crate::world::World;

const START: u64 = 1_000_000_000;

/// Events of a simulation before it is drained.
const LENGTH: u64 = 400;

/// Rounds of polls, releases and turns in which everybody must be served once nobody new comes.
const DRAIN: usize = 2_000;

struct Simulation<D> {
    driven: D,
    oracle: Oracle,
    crowd: Crowd,
}

impl<D: Driven> Simulation<D> {
    fn new(profile: &Profile) -> Simulation<D> {
        Simulation {
            driven: D::new(&profile.config, START),
            oracle: Oracle::new(&profile.config, START),
            crowd: Crowd::new(START),
        }
    }

    fn step(&mut self, event: &Event) -> Result<Vec<Seen>, String> {
        let Simulation { driven, oracle, crowd } = self;
        guarded(|| {
            let seen = driven.apply(event);
            crowd.note(event, &seen);
            oracle.judge(event, &seen, driven).map_err(|wrong| format!("{wrong}\n  of {seen:?}"))?;
            Ok(seen)
        })
    }

    /// What everybody does once nobody new comes.
    fn drain_step(&self) -> Vec<Event> {
        let end = |(id, owner): (u32, &Owner)| match owner {
            Owner::Queued { .. } => Event::Poll(id),
            Owner::Holding(_) => Event::Release { id, late: false },
        };
        self.crowd.iter().map(end).chain([Event::Sleep(50_000_000)]).collect()
    }

    /// Nobody is left, and nothing of anybody.
    fn judge_end(&mut self) -> Result<(), String> {
        let view = self.driven.view()?;
        let residue = view.shelves.iter().any(|shelf| shelf.granted + shelf.offered + shelf.naming > 0);
        let slots = self.driven.residue();
        if residue || view.leases > 0 || view.waiting > 0 || view.due != u64::MAX || slots > 0 {
            return Err(format!("{slots} slots are in use at the end: {view:?}"));
        }
        Ok(())
    }
}

/// Everything as configured again.
fn restored(config: &Config) -> Vec<Event> {
    let restore = |budget: &bursar::Budget| match budget.supply {
        Supply::Loan { capacity } => Event::Capacity(budget.id, capacity),
        Supply::Rate { per_second, burst, .. } => Event::Rate(budget.id, per_second, burst),
    };
    config.budgets.iter().map(restore).chain([Event::Enter]).collect()
}

/// A simulation in progress: what was done so far, for the report.
struct Run<'a, D> {
    profile: &'a Profile,
    seed: u64,
    simulation: Simulation<D>,
    trace: Vec<Event>,
    log: Vec<Vec<Seen>>,
}

impl<D: Driven> Run<'_, D> {
    fn new(profile: &Profile, seed: u64) -> Run<'_, D> {
        Run { profile, seed, simulation: Simulation::new(profile), trace: Vec::new(), log: Vec::new() }
    }

    fn step(&mut self, event: Event) {
        self.trace.push(event);
        match self.simulation.step(&self.trace[self.trace.len() - 1]) {
            Ok(seen) => self.log.push(seen),
            Err(wrong) => self.report(&wrong),
        }
    }

    fn report(&self, wrong: &str) -> ! {
        let Run { profile, seed, trace, .. } = self;
        let first = format!("{}: seed {seed}, step {}: {wrong}\n{}", profile.name, trace.len() - 1, tail(trace));
        let least = shrink(trace.clone(), |events| failure::<D>(profile, events).map(|(step, ..)| step));
        let Some((step, wrong, simulation)) = failure::<D>(profile, &least) else { panic!("{first}") };
        panic!(
            "{first}\nThe least trace that fails, at its step {step}: {wrong}\n{}\n{}\n{:?}",
            tail(&least),
            simulation.driven.describe(),
            simulation.oracle,
        );
    }
}

/// A simulation that came to its end.
struct Done {
    trace: Vec<Event>,
    log: Vec<Vec<Seen>>,
    tally: Tally,
}

/// Where a trace first goes wrong.
fn failure<D: Driven>(profile: &Profile, events: &[Event]) -> Option<(usize, String, Simulation<D>)> {
    let mut simulation = Simulation::new(profile);
    for (step, event) in events.iter().enumerate() {
        if let Err(wrong) = simulation.step(event) {
            return Some((step, wrong, simulation));
        }
    }
    None
}

/// A task is gone with all that it had: what it held and what it waited for, the latest first, as a stack unwinds.
fn panicked(rng: &mut Rng, crowd: &Crowd) -> Vec<Event> {
    let task = rng.u32(..5);
    let its = crowd.iter().filter(|(id, _)| id % 5 == task);
    let mut gone: Vec<_> = its
        .map(|(id, owner)| match owner {
            Owner::Queued { .. } => Event::Cancel(id),
            Owner::Holding(_) => Event::Release { id, late: false },
        })
        .collect();
    gone.reverse();
    gone
}

/// One simulation from its seed to the end of its last owner. After `often` in a hundred events the driver runs.
fn simulate<D: Driven>(profile: &Profile, seed: u64, often: u32) -> Done {
    let mut rng = Rng::with_seed(seed);
    let mut run = Run::<D>::new(profile, seed);
    for _ in 0..LENGTH {
        let next_id = run.trace.len() as u32;
        run.step(profile.event(&mut rng, &run.simulation.crowd, next_id));
        if rng.u32(..150) == 0 {
            run.simulation.oracle.tally.count(Case::Panicked);
            panicked(&mut rng, &run.simulation.crowd).into_iter().for_each(|event| run.step(event));
        }
        if rng.u32(..300) == 0 {
            // The clock jumps: the machine was suspended for a day.
            run.step(Event::Stall(86_400_000_000_000));
        }
        if rng.u32(..100) < often {
            run.step(Event::Sleep(0));
        }
    }
    if seed.is_multiple_of(2) {
        run.step(Event::Close);
    }
    restored(&profile.config).into_iter().for_each(|event| run.step(event));
    for _ in 0..DRAIN {
        if run.simulation.crowd.is_empty() {
            break;
        }
        run.simulation.drain_step().into_iter().for_each(|event| run.step(event));
    }
    // Looks at offers that were taken up come to nothing, and then there is nothing to come back for.
    run.step(Event::Sleep(10_000_000_000));
    if let Err(wrong) = run.simulation.judge_end() {
        run.report(&wrong);
    }
    Done { trace: run.trace, log: run.log, tally: run.simulation.oracle.tally }
}

/// Simulates until `events` events were judged, and demands what must have happened.
pub fn all<D: Driven>(profile: &Profile, events: u64, least: &[(Case, u64)]) {
    let mut tally = Tally::default();
    for seed in seeds(events, LENGTH) {
        tally.add(&simulate::<D>(profile, seed, 40).tally);
    }
    tally.demand(least);
}

#[test]
fn p57_p58_loans_are_conserved_and_nobody_is_passed_or_forgotten() {
    let least = [
        (Case::PastEngine, 200),
        (Case::Blocked, 1_500),
        (Case::Offered, 800),
        (Case::Accepted, 700),
        (Case::OfferedAndCancelled, 40),
        (Case::DormantAndCancelled, 8),
        (Case::EndedAndCancelled, 20),
        (Case::Expired, 100),
        (Case::Reactivated, 60),
        (Case::Regained, 15),
        (Case::Late, 100),
        (Case::NeverFits, 150),
        (Case::DeficitDrained, 60),
        (Case::LateRelease, 200),
        (Case::NotNow, 120),
        (Case::AcceptedAfterClose, 10),
        (Case::EndedByClose, 100),
        (Case::QuietCrowd, 8_000),
    ];
    all::<World>(&Profile::four_budgets(), 16_000, &least);
}

#[test]
fn p57_p58_rates_are_conserved_too() {
    let least =
        [(Case::RateBlocked, 250), (Case::OfferedAndCancelled, 20), (Case::Expired, 80), (Case::QuietCrowd, 10_000)];
    all::<World>(&Profile::eight_with_rates(), 14_000, &least);
}

#[test]
fn p58_offers_that_nobody_polls_pass_on() {
    let least = [
        (Case::Expired, 700),
        (Case::Reactivated, 400),
        (Case::Regained, 150),
        (Case::DormantAndCancelled, 70),
        (Case::NeverFitsAfterOffer, 4),
        (Case::RateBlocked, 250),
    ];
    all::<World>(&Profile::short_offers(), 14_000, &least);
}

#[test]
fn p58_a_turn_that_may_examine_one_in_vain_forgets_nobody() {
    let least = [(Case::LookAhead, 400), (Case::QuietCrowd, 5_000)];
    all::<World>(&Profile::look_ahead(1, "look-ahead of 1"), 10_000, &least);
}

#[test]
fn p58_one_unit_of_each_serves_everybody_in_turn() {
    let least = [(Case::Full, 300), (Case::RateBlocked, 150), (Case::DeficitDrained, 8), (Case::Late, 60)];
    all::<World>(&Profile::tight(), 10_000, &least);
}

#[test]
fn p58_equals_are_served_in_order_of_arrival() {
    all::<World>(&Profile::equal_ranks(), 4_000, &[(Case::Passed, 100)]);
}

#[test]
fn p58_figures_near_the_largest_are_exact() {
    all::<World>(&Profile::vast(), 6_000, &[(Case::Offered, 200), (Case::RateBlocked, 40), (Case::DeficitDrained, 5)]);
}

/// Modules come, have quotas, and are gone.
#[test]
fn r9_modules_with_quotas_lose_and_keep_nothing() {
    all::<World>(&Profile::quotas(), 14_000, &[(Case::Parked, 200), (Case::Expired, 80), (Case::ModuleGone, 40)]);
}

#[test]
fn c7_holders_that_grow_and_wait_for_each_other_all_go_on() {
    all::<World>(&Profile::growth(), 14_000, &[(Case::Grown, 250), (Case::Inherited, 350)]);
    all::<World>(&Profile::deadlocks(), 14_000, &[(Case::RolledBack, 15), (Case::ToldToSplit, 25)]);
}

/// Who is asked to end does so in time, late or never, and nothing is lost by it.
#[test]
fn c8_leases_that_are_asked_to_end_give_way_or_are_reported() {
    let least = [
        (Case::Revoked, 350),
        (Case::EndedInGrace, 200),
        (Case::EndedLate, 100),
        (Case::Overdue, 80),
        (Case::Expired, 40),
    ];
    all::<World>(&Profile::preemption(), 14_000, &least);
    all::<World>(&Profile::preemption_of_holders(), 14_000, &least);
}

/// All that can happen, each of it often.
#[test]
fn p58_everything_together() {
    let least = [
        (Case::Blocked, 2_000),
        (Case::Passed, 800),
        (Case::Hardened, 600),
        (Case::Aged, 500),
        (Case::Revoked, 100),
        (Case::EndedInGrace, 40),
        (Case::Overdue, 20),
        (Case::Elastic, 40),
        (Case::Grown, 300),
        (Case::RolledBack, 15),
        (Case::ToldToSplit, 30),
        (Case::Expired, 300),
        (Case::Inherited, 600),
        (Case::Parked, 200),
        (Case::Critical, 200),
        (Case::Panicked, 60),
        (Case::ModuleGone, 50),
        (Case::OfferedAndCancelled, 60),
        (Case::DeficitDrained, 40),
        (Case::LookAhead, 100),
        (Case::QuietCrowd, 8_000),
    ];
    all::<World>(&Profile::everything(Order::Deadline), 20_000, &least);
    all::<World>(&Profile::everything(Order::Shares), 20_000, &least);
}

#[test]
fn p60_a_seed_replays_exactly() {
    for profile in [Profile::eight_with_rates(), Profile::look_ahead(2, "look-ahead of 2")] {
        for seed in 1..=4 {
            let (first, again) = (simulate::<World>(&profile, seed, 40), simulate::<World>(&profile, seed, 40));
            assert_eq!(first.trace, again.trace, "{}: seed {seed}", profile.name);
            assert_eq!(hash(&first.log), hash(&again.log), "{}: seed {seed}", profile.name);
        }
    }
}

fn hash(log: &[Vec<Seen>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{log:?}").hash(&mut hasher);
    hasher.finish()
}

#[test]
fn c14_r14_forcing_every_request_through_the_engine_grants_the_same() {
    let mut past = Tally::default();
    for profile in [
        Profile::four_budgets().rigid(),
        Profile::eight_with_rates(),
        Profile::short_offers(),
        Profile::tight(),
        Profile::look_ahead(2, "look-ahead of 2"),
    ] {
        for seed in seeds(2_000, LENGTH) {
            // The driver runs after every event, so that what time does is not left to whoever comes first.
            let run = simulate::<World>(&profile, seed, 100);
            let forced: Vec<Event> = run.trace.iter().cloned().map(force).collect();
            let mut world = World::new(&profile.config, START);
            let log: Vec<_> = forced.iter().map(|event| world.apply(event)).collect();
            assert_eq!(moments(&run.trace, &run.log), moments(&forced, &log), "{}: seed {seed}", profile.name);
            past.add(&run.tally);
        }
    }
    past.demand(&[(Case::PastEngine, 100)]);
}

fn force(event: Event) -> Event {
    match event {
        Event::Submit(arrival) => Event::Submit(Arrival { past: false, ..arrival }),
        event => event,
    }
}

/// What is seen between two sleeps, in no order, and without the turns of the driver.
fn moments(trace: &[Event], log: &[Vec<Seen>]) -> Vec<Vec<String>> {
    let mut moments = vec![Vec::new()];
    for (event, seen) in trace.iter().zip(log) {
        let told = seen.iter().filter(|seen| !matches!(seen, Seen::Turned(_) | Seen::LookAhead));
        let last = moments.len() - 1;
        moments[last].extend(told.map(|seen| format!("{seen:?}")));
        if matches!(event, Event::Sleep(_)) {
            moments[last].sort();
            moments.push(Vec::new());
        }
    }
    moments
}
