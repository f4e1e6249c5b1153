//! Everything at once, by chance: alternatives, elastic amounts, claims, aging, shares, expiry, cancels, changes of
//! capacity and rate (C1, C3, C5, R2, R4, R10). Whatever happened, everybody who waits is served in the end.

mod common;

use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Lease, Order, Priority, Request};
use common::*;
use tokio_test::task;

const IDS: [BudgetId; 3] = [GPU, HOST, IO];

/// One way to serve a request: what is wanted, and what would do.
type Way = (Vec<(BudgetId, u64)>, Vec<(BudgetId, u64)>);

struct Storm {
    rig: Rig,
    dice: Dice,
    waiting: Vec<(Waiting, Vec<Way>)>,
    leases: Vec<Lease>,
    /// Grants of another alternative than the first, and of less than was wanted.
    others: u64,
    rungs: u64,
}

fn config(dice: &mut Dice) -> Config {
    let budgets = Config::new()
        .with(Budget::loan(GPU, 10))
        .with(Budget::loan(HOST, 10))
        .with(Budget::rate(IO, 1_000).burst(10).max_debt(10));
    Config {
        bypass_limit: [0, 1, 3, 16][dice.below(4) as usize],
        bypass_time: [0, 5, 100][dice.below(3) as usize] * MS,
        aging_step: [None, Some(3 * MS), Some(50 * MS)][dice.below(3) as usize],
        age_idle: dice.below(2) == 0,
        order: [Order::Deadline, Order::Shares, Order::ResponseRatio][dice.below(3) as usize],
        look_ahead: [1, 2, 64][dice.below(3) as usize],
        offer_expiry: 4 * MS,
        ..budgets
    }
}

impl Storm {
    fn way(&mut self) -> Way {
        let (mut want, mut least) = (Vec::new(), Vec::new());
        let first = self.dice.below(3) as usize;
        let count = 1 + self.dice.below(3) as usize;
        for &id in IDS.iter().cycle().skip(first).take(count) {
            let units = 1 + self.dice.below(10);
            let floor = if self.dice.below(3) == 0 { 1 + self.dice.below(units) } else { units };
            want.push((id, units));
            least.push((id, floor));
        }
        (want, least)
    }

    fn request_of((want, least): &Way) -> Request {
        let floors = want.iter().zip(least).filter(|(want, floor)| want.1 != floor.1);
        floors.fold(ask(want), |request, (_, &(id, floor))| request.down_to(id, floor))
    }

    fn request(&mut self) -> (Request, Vec<Way>) {
        let count = [1, 1, 2, 3][self.dice.below(4) as usize];
        let ways: Vec<Way> = (0..count).map(|_| self.way()).collect();
        let mut request = Self::request_of(&ways[0]);
        request = ways[1..].iter().fold(request, |request, way| request.or(Self::request_of(way)));
        if self.dice.below(2) == 0 {
            request = request.patience(self.dice.below(20) as u32 * MS);
        }
        if self.dice.below(6) == 0 {
            request = request.deadline((1 + self.dice.below(30)) as u32 * MS);
        }
        request = request.expected_hold(self.dice.below(20) as u32 * MS);
        request = request.ladder([0.3, 0.5, 0.9][self.dice.below(3) as usize]);
        let level = Priority::ALL[self.dice.below(5) as usize];
        (request.priority(level).module(["a", "b", "c"][self.dice.below(3) as usize]), ways)
    }

    fn check(&mut self, lease: &Lease, ways: &[Way]) {
        let (path, held) = (lease.path(), lease.amounts());
        let (want, least) = &ways[usize::from(path.alternative)];
        for (&(id, want), &(_, least)) in want.iter().zip(least).filter(|((id, _), _)| *id != IO) {
            assert!((least..=want).contains(&held.get(id)), "{id}: {least} to {want}, {path:?}: {held:?}");
            assert!(path.rung > 0 || held.get(id) == want);
        }
        self.others += u64::from(path.alternative > 0);
        self.rungs += u64::from(path.rung > 0);
        assert!(held.iter().all(|(id, _)| want.iter().any(|&(wanted, _)| wanted == id)));
    }

    fn poll(&mut self, at: usize) {
        match self.waiting[at].0.poll() {
            std::task::Poll::Pending => {}
            std::task::Poll::Ready(result) => {
                let (_, ways) = self.waiting.swap_remove(at);
                if let Ok(lease) = result {
                    self.check(&lease, &ways);
                    self.leases.push(lease);
                }
            }
        }
    }

    fn arrive(&mut self) {
        let (request, ways) = self.request();
        if self.dice.below(3) == 0 {
            if let Ok(lease) = self.rig.scheduler.try_reserve(request) {
                self.check(&lease, &ways);
                self.leases.push(lease);
            }
            return;
        }
        let reservation = task::spawn(self.rig.scheduler.reserve(request));
        self.waiting.push((reservation, ways));
        self.poll(self.waiting.len() - 1);
    }

    fn change(&mut self) {
        let capacity = 6 + self.dice.below(8);
        let id = [GPU, HOST][self.dice.below(2) as usize];
        match self.dice.below(3) {
            0 => self.rig.scheduler.set_rate(IO, 500 + self.dice.below(1_000), capacity).unwrap(),
            _ => self.rig.scheduler.set_capacity(id, capacity).unwrap(),
        }
    }

    fn step(&mut self) {
        let some = |dice: &mut Dice, of: usize| (of > 0).then(|| dice.below(of.max(1) as u64) as usize);
        match self.dice.below(16) {
            0..6 => self.arrive(),
            6..9 => {
                if let Some(at) = some(&mut self.dice, self.leases.len()) {
                    drop(self.leases.swap_remove(at));
                }
            }
            9 | 10 => {
                if let Some(at) = some(&mut self.dice, self.waiting.len()) {
                    drop(self.waiting.swap_remove(at));
                }
            }
            11..14 => {
                if let Some(at) = some(&mut self.dice, self.waiting.len()) {
                    self.poll(at);
                }
            }
            14 => {
                let by = self.dice.below(8) as u32 * MS;
                self.rig.pass(by);
            }
            _ => self.change(),
        }
        self.rig.scheduler.verify().unwrap();
    }

    /// Polls whoever was woken and gives back at once what they get, until nobody waits.
    fn drain(&mut self) {
        for _ in 0..2_000 {
            self.leases.clear();
            for at in (0..self.waiting.len()).rev() {
                if self.waiting[at].0.is_woken() {
                    self.poll(at);
                }
            }
            if self.waiting.is_empty() && self.leases.is_empty() {
                return;
            }
            self.rig.pass(MS);
        }
        panic!("{} wait for ever: {:?}", self.waiting.len(), self.waiting[0].1);
    }
}

#[test]
fn c1_c3_c5_whatever_happens_everybody_is_served_in_the_end_and_nothing_is_lost() {
    let mut seen = [0; 4];
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let rig = Rig::new(config(&mut dice));
        let mut storm = Storm { rig, dice, waiting: Vec::new(), leases: Vec::new(), others: 0, rungs: 0 };
        (0..150).for_each(|_| storm.step());
        for id in [GPU, HOST] {
            storm.rig.scheduler.set_capacity(id, 10).unwrap();
        }
        storm.rig.scheduler.set_rate(IO, 1_000, 10).unwrap();
        storm.drain();
        storm.rig.pass(Duration::from_secs(1));
        assert_untouched(&storm.rig.scheduler);
        let stats = storm.rig.scheduler.stats();
        let [others, rungs, expired, cancelled] = &mut seen;
        (*others, *rungs) = (*others + storm.others, *rungs + storm.rungs);
        *expired += stats.expired_offers;
        *cancelled += stats.levels.iter().map(|level| level.cancelled).sum::<u64>();
    }
    assert!(seen.iter().all(|&count| count > 400), "too little happened: {seen:?}");
}
