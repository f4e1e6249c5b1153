//! Kinds of random traces: which budgets, how crowded, how hasty; and the next event of one.

use std::ops::RangeInclusive;
use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Order, Priority, Quota, Supply, Tag};
use fastrand::Rng;

use crate::ask::{Alternative, Ask, Asks};
use crate::crowd::Crowd;
use crate::event::{Arrival, Event, IMPLIED, is_implied};

/// One kind of trace.
#[derive(Debug, Clone)]
pub struct Profile {
    pub name: &'static str,
    pub config: Config,
    /// Units of one budget that a usual request asks for.
    pub units: RangeInclusive<u64>,
    /// Most budgets in a bundle.
    pub bundle: usize,
    /// Reservations that the trace tends to.
    pub crowd: usize,
    pub levels: &'static [Priority],
    /// Requests in a hundred that have a deadline.
    pub deadlines: u32,
    /// A usual step of the clock, in nanoseconds.
    pub step: u64,
    /// Polls of owners that were woken, in a hundred polls.
    pub attentive: u32,
    /// Requests in a hundred that have two or three alternatives, and alternatives that are elastic.
    pub alternatives: u32,
    pub elastic: u32,
    /// Whether modules come and go, with quotas.
    pub quotas: bool,
    /// How many activities there are, beside those that are one lease each; and whether most of them are bounded.
    pub activities: u64,
    pub bounds: bool,
    /// Requests in a hundred of an activity that only the scope of a task says to be its.
    pub implied: u32,
    /// Requests in a hundred whose leases may be asked to end, and whose work arrived earlier.
    pub preemptible: u32,
    pub senior: u32,
    /// Threads with old clock readings; excludes the way past the engine, which takes any reading.
    pub lag: bool,
}

const MS: u64 = 1_000_000;

/// The largest amount that a request or a budget can name.
const LARGEST: u64 = i64::MAX as u64;

/// What may come next, and how often beside the others.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Submit,
    Poll,
    Cancel,
    Release,
    Yield,
    Shrink,
    Split,
    Merge,
    Grow,
    Register,
    Deregister,
    Outside,
    Enter,
    Change,
    Stall,
    Sleep,
    Early,
    Lag,
}

/// A loan on the `index`-th custom budget.
fn loan(index: u8, capacity: u64) -> Budget {
    Budget::loan(BudgetId::custom(index).expect("profiles use few budgets"), capacity)
}

fn config(budgets: Vec<Budget>, expiry_ms: u64, look_ahead: usize) -> Config {
    Config {
        budgets,
        offer_expiry: Duration::from_millis(expiry_ms),
        look_ahead,
        edf_horizon: Duration::from_millis(300),
        ..Config::new()
    }
}

impl Profile {
    fn usual(name: &'static str, config: Config) -> Profile {
        Profile {
            name,
            config,
            units: 1..=6,
            bundle: 3,
            crowd: 25,
            levels: &Priority::ALL,
            deadlines: 25,
            step: 40 * MS,
            attentive: 70,
            alternatives: 20,
            elastic: 20,
            quotas: false,
            activities: 0,
            bounds: false,
            implied: 0,
            preemptible: 0,
            senior: 0,
            lag: false,
        }
    }

    /// So many bypasses, and so long.
    pub fn bypass(mut self, limit: u32, time_ms: u64) -> Profile {
        self.config.bypass_limit = limit;
        self.config.bypass_time = Duration::from_millis(time_ms);
        self
    }

    /// Exact bundles only.
    pub fn rigid(self) -> Profile {
        Profile { alternatives: 0, elastic: 0, ..self }
    }

    pub fn one_budget() -> Profile {
        Profile { bundle: 1, ..Profile::usual("one budget", config(vec![Budget::loan(BudgetId::GPU, 10)], 100, 64)) }
    }

    pub fn four_budgets() -> Profile {
        let budgets = vec![
            Budget::loan(BudgetId::GPU, 12),
            Budget::loan(BudgetId::HOST, 9),
            Budget::loan(BudgetId::DISK, 15),
            Budget::loan(BudgetId::COMPUTE, 7),
        ];
        Profile { bundle: 4, ..Profile::usual("four budgets", config(budgets, 100, 64)) }
    }

    pub fn eight_with_rates() -> Profile {
        let mut budgets: Vec<_> = (0..4).map(|index| loan(index * 9, 8 + u64::from(index))).collect();
        budgets.push(Budget::loan(BudgetId::GPU, 14));
        budgets.push(Budget::rate(BudgetId::IO, 40).burst(9));
        budgets.push(Budget::rate(BudgetId::NETWORK, 7).burst(4).max_debt(3));
        budgets.push(Budget::rate(BudgetId::custom(31).expect("the last"), 333).burst(20).max_debt(5));
        Profile { bundle: 5, ..Profile::usual("eight with rates", config(budgets, 100, 64)) }
    }

    /// More budgets than a bundle holds inline, and bundles of all of them.
    pub fn wide_bundles() -> Profile {
        let mut budgets: Vec<_> = (0..11).map(|index| loan(index * 2, 20)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 100).burst(30));
        Profile { bundle: 12, units: 1..=5, ..Profile::usual("wide bundles", config(budgets, 50, 64)) }
    }

    pub fn look_ahead(most: usize, name: &'static str) -> Profile {
        let mut budgets: Vec<_> = (0..4).map(|index| loan(index, 12)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 60).burst(10));
        Profile { crowd: 40, bundle: 4, units: 1..=4, ..Profile::usual(name, config(budgets, 100, most)) }
    }

    pub fn equal_ranks() -> Profile {
        let budgets = vec![Budget::loan(BudgetId::GPU, 120), Budget::loan(BudgetId::HOST, 100)];
        Profile {
            units: 1..=3,
            bundle: 2,
            crowd: 110,
            levels: &[Priority::Normal],
            deadlines: 0,
            ..Profile::usual("equal ranks", config(budgets, 100, 64))
        }
    }

    /// One to three units of each budget, and room for a few waiters only.
    pub fn tight() -> Profile {
        let budgets = vec![loan(0, 1), loan(1, 2), loan(2, 3), Budget::rate(BudgetId::IO, 3).burst(1).max_debt(2)];
        let config = Config { max_waiters: 12, ..config(budgets, 20, 64) };
        Profile { units: 1..=2, senior: 15, ..Profile::usual("tight", config) }
    }

    /// Whoever is blocked is passed once or twice.
    pub fn passed(limit: u32, name: &'static str) -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 12)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 60).burst(10).max_debt(4));
        let usual = Profile::usual(name, config(budgets, 100, 64));
        Profile { units: 1..=9, deadlines: 10, ..usual }.bypass(limit, 60)
    }

    /// Nearly all is elastic or has alternatives.
    pub fn flexible() -> Profile {
        let mut budgets: Vec<_> = (0..4).map(|index| loan(index, 10)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 80).burst(12).max_debt(6));
        let usual = Profile::usual("flexible", config(budgets, 100, 64));
        Profile { units: 1..=9, alternatives: 70, elastic: 60, ..usual }.bypass(2, 200)
    }

    /// Levels rise while they wait, some of them from the very bottom.
    pub fn aging() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 8)).collect();
        budgets.push(Budget::rate(BudgetId::NETWORK, 50).burst(8));
        let config = Config { aging_step: Some(Duration::from_millis(90)), age_idle: true, ..config(budgets, 60, 64) };
        Profile::usual("aging", config).bypass(16, 40)
    }

    /// Modules have shares; and levels rise, but not from the very bottom.
    pub fn shares() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 9)).collect();
        budgets.push(Budget::rate(BudgetId::NETWORK, 70).burst(8));
        let aging_step = Some(Duration::from_millis(250));
        let config = Config { order: Order::Shares, aging_step, ..config(budgets, 100, 64) };
        Profile::usual("shares", config).bypass(1, 500)
    }

    /// Whoever has waited long beside what it says it will hold goes first.
    pub fn ratio(look_ahead: usize, limit: u32, name: &'static str) -> Profile {
        let budgets = vec![loan(0, 12), loan(1, 12), Budget::rate(BudgetId::NETWORK, 70).burst(8)];
        let aging_step = Some(Duration::from_millis(2_000));
        let config = Config { order: Order::ResponseRatio, aging_step, ..config(budgets, 100, look_ahead) };
        let levels = &[Priority::High, Priority::Normal, Priority::Normal];
        let usual = Profile::usual(name, config);
        Profile { levels, units: 1..=4, bundle: 2, crowd: 40, ..usual }.bypass(limit, 2_000)
    }

    /// Modules with quotas come and go.
    pub fn quotas() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 10)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 80).burst(12).max_debt(6));
        let usual = Profile::usual("quotas", config(budgets, 100, 64));
        Profile { quotas: true, units: 1..=5, ..usual }.bypass(2, 200)
    }

    /// Leases grow, and a part of each budget is kept for that.
    pub fn growth() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 10).growth_reserve(1 + u64::from(index))).collect();
        budgets.push(Budget::rate(BudgetId::IO, 80).burst(12).max_debt(6));
        let usual = Profile::usual("growth", config(budgets, 100, 64));
        Profile { activities: 12, units: 1..=5, crowd: 15, ..usual }.bypass(2, 200)
    }

    /// Scopes that wait for each other.
    pub fn scopes() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 6)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 80).burst(12));
        let config = config(budgets, 20, 64).with_verdict_after(Duration::from_millis(15)).with_roll_backs(1);
        let usual = Profile::usual("scopes", config);
        Profile { activities: 5, implied: 40, units: 1..=3, crowd: 12, deadlines: 5, ..usual }.bypass(1, 100)
    }

    /// Activities that say how much they will ever hold, and some that do not.
    pub fn bounds() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 12)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 80).burst(12));
        let usual = Profile::usual("bounds", config(budgets, 100, 64).with_verdict_after(Duration::from_millis(60)));
        Profile { activities: 8, bounds: true, units: 1..=4, bundle: 2, crowd: 15, ..usual }.bypass(2, 200)
    }

    /// Few activities that hold much of little, and wait for each other.
    pub fn deadlocks() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 6)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 80).burst(12));
        let config = config(budgets, 20, 64).with_verdict_after(Duration::from_millis(15)).with_roll_backs(1);
        let usual = Profile::usual("deadlocks", config);
        Profile { activities: 5, units: 1..=3, crowd: 12, deadlines: 5, ..usual }.bypass(1, 100)
    }

    /// Many can be asked to end, few of them at a time; some do at once, some late, some never. Nothing but that.
    pub fn preemption() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 10)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 80).burst(12).max_debt(6));
        let config = config(budgets, 60, 64).with_grace(Duration::from_millis(30));
        let usual = Profile::usual("preemption", config);
        Profile { preemptible: 60, senior: 20, units: 1..=5, crowd: 15, deadlines: 15, ..usual }.bypass(4, 200)
    }

    /// The same with minima that are asked back, holders that inherit, levels that rise and a reserve for growth.
    pub fn preemption_of_holders() -> Profile {
        let plain = Profile::preemption();
        let mut config = plain.config.clone().with_aging_step(Duration::from_millis(120)).with_look_ahead(8);
        config.budgets.iter_mut().take(2).for_each(|budget| budget.growth_reserve = 1);
        Profile { name: "preemption of holders", config, quotas: true, activities: 6, preemptible: 75, ..plain }
    }

    /// Shares, aging, quotas, growth, deadlocks and preemption together.
    pub fn everything(order: Order) -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 9).growth_reserve(u64::from(index))).collect();
        budgets.push(Budget::rate(BudgetId::NETWORK, 70).burst(8));
        let config = Config {
            order,
            aging_step: Some(Duration::from_millis(150)),
            age_idle: true,
            roll_backs: 2,
            grace: Duration::from_millis(20),
            ..config(budgets, 30, 8)
        };
        let usual = Profile::usual("everything", config);
        Profile {
            quotas: true,
            activities: 6,
            bounds: true,
            implied: 12,
            preemptible: 30,
            senior: 5,
            units: 1..=4,
            crowd: 15,
            ..usual
        }
        .bypass(1, 100)
    }

    /// Amounts near the largest.
    pub fn vast() -> Profile {
        let rate = Budget::rate(BudgetId::IO, LARGEST / 4).burst(LARGEST / 32).max_debt(LARGEST / 64);
        let budgets = vec![loan(0, LARGEST - 3), loan(1, LARGEST / 2), rate];
        let usual = Profile::usual("vast figures", config(budgets, 100, 64));
        Profile { units: LARGEST / 64..=LARGEST / 3, ..usual }
    }

    pub fn short_offers() -> Profile {
        let mut budgets: Vec<_> = (0..3).map(|index| loan(index, 6)).collect();
        budgets.push(Budget::rate(BudgetId::IO, 500).burst(12));
        let config = config(budgets, 1, 64);
        Profile { units: 1..=3, attentive: 20, step: 2 * MS, ..Profile::usual("short offers", config) }
    }

    pub fn old_readings() -> Profile {
        let budgets = vec![loan(0, 8), loan(1, 8), Budget::rate(BudgetId::IO, 50).burst(10)];
        Profile { lag: true, ..Profile::usual("old readings", config(budgets, 10, 4)) }
    }

    /// The next event of a random trace.
    pub fn event(&self, rng: &mut Rng, crowd: &Crowd, next_id: u32) -> Event {
        let crowded = crowd.queued(false).len() > self.crowd;
        loop {
            let made = match self.kind(rng, crowded, crowd.is_late()) {
                Kind::Submit => Some(Event::Submit(self.arrival(rng, crowd, next_id))),
                Kind::Poll => self.who_polls(rng, crowd).map(Event::Poll),
                Kind::Cancel => pick(rng, crowd.queued(false)).map(Event::Cancel),
                Kind::Release => pick(rng, crowd.holding()).map(|id| Event::Release { id, late: rng.u32(..100) < 12 }),
                Kind::Yield => pick(rng, crowd.yielding()).map(|id| Event::Release { id, late: false }),
                Kind::Shrink => pick(rng, crowd.holding()).map(|id| Event::Shrink { id, by: self.asks(rng) }),
                Kind::Split => {
                    pick(rng, crowd.holding()).map(|id| Event::Split { id, by: self.asks(rng), into: next_id })
                }
                Kind::Merge => {
                    let pair = pick(rng, crowd.holding()).zip(pick(rng, crowd.holding()));
                    pair.map(|(id, other)| Event::Merge { id, other })
                }
                Kind::Grow => pick(rng, crowd.holding()).map(|of| self.more(rng, of, next_id)),
                Kind::Register => Some(self.module(rng, next_id)),
                Kind::Deregister => pick(rng, crowd.modules().to_vec()).map(Event::Deregister),
                Kind::Outside => Some(Event::Outside { activity: rng.u64(1..=self.activities), begins: rng.bool() }),
                Kind::Enter => Some(Event::Enter),
                Kind::Change => Some(self.change(rng)),
                Kind::Stall => Some(Event::Stall(self.time(rng))),
                Kind::Sleep => Some(Event::Sleep(self.time(rng))),
                Kind::Early => Some(Event::Early),
                Kind::Lag => Some(Event::Lag(self.time(rng).min(crowd.clock()))),
            };
            if let Some(event) = made {
                return event;
            }
        }
    }

    fn kind(&self, rng: &mut Rng, crowded: bool, late: bool) -> Kind {
        let weights = [
            (Kind::Submit, if crowded { 6 } else { 34 }),
            (Kind::Poll, 24),
            (Kind::Cancel, if crowded { 12 } else { 5 }),
            (Kind::Release, if crowded { 26 } else { 16 }),
            (Kind::Yield, if self.preemptible == 0 { 0 } else { 16 }),
            (Kind::Shrink, 3),
            (Kind::Split, if self.preemptible == 0 { 1 } else { 3 }),
            (Kind::Merge, if self.belongs() { 2 } else { 0 }),
            (Kind::Grow, if self.activities == 0 || crowded { 0 } else { 10 }),
            (Kind::Register, if self.quotas { 2 } else { 0 }),
            (Kind::Deregister, if self.quotas { 1 } else { 0 }),
            (Kind::Outside, if self.activities == 0 { 0 } else { 2 }),
            (Kind::Enter, if late { 20 } else { 0 }),
            (Kind::Change, 2),
            (Kind::Stall, 4),
            (Kind::Sleep, 9),
            (Kind::Early, 1),
            (Kind::Lag, if self.lag { 6 } else { 0 }),
        ];
        let sum: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.u32(..sum);
        for (kind, weight) in weights {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        Kind::Submit
    }

    /// Whether requests belong to modules or activities, or may be asked to end.
    fn belongs(&self) -> bool {
        self.quotas || self.activities > 0 || self.preemptible > 0
    }

    fn arrival(&self, rng: &mut Rng, crowd: &Crowd, id: u32) -> Arrival {
        let wait = rng.u32(..100) >= 8;
        let deadline = match rng.u32(..100) {
            _ if !wait => None,
            0 => Some(0),
            1 => Some(u64::MAX - 1),
            at if at < self.deadlines => Some(rng.u64(1..=self.step * 20)),
            _ => None,
        };
        let level = self.levels[rng.usize(..self.levels.len())];
        let (ask, past, tag) = (self.ask(rng), !self.lag && rng.bool(), self.tag(rng, crowd));
        let before = |rng: &mut Rng| crowd.clock() - rng.u64(..=self.step * 10).min(crowd.clock() - 1);
        let seniority = (self.senior > 0 && rng.u32(..100) < self.senior).then(|| before(rng));
        let (hold, most) = (self.hold(rng), self.bound_of(tag));
        Arrival { id, ask, level, deadline, wait, past, tag, grows: false, hold, most, seniority }
    }

    /// What an activity says that it will ever hold, if it says so: always the same.
    fn bound_of(&self, tag: Tag) -> Option<Asks> {
        let activity = tag.activity;
        if !self.bounds || activity == 0 || activity.is_multiple_of(3) || is_implied(tag) {
            return None;
        }
        let bound = |(at, budget): (u64, &Budget)| {
            let Supply::Loan { capacity } = budget.supply else { return None };
            let units = match (activity + at) % 4 {
                0 => capacity,
                1 => capacity * 2 / 3,
                2 => capacity / 2,
                _ => capacity + 3,
            };
            (!(activity * 3 + at).is_multiple_of(7)).then_some((budget.id, units.max(1)))
        };
        Some((0..).zip(&self.config.budgets).filter_map(bound).collect())
    }

    /// Some say nothing, some too much, and some the same as others.
    fn hold(&self, rng: &mut Rng) -> Option<u64> {
        if self.config.order != Order::ResponseRatio {
            return None;
        }
        match rng.u32(..20) {
            0..3 => None,
            3 => Some(0),
            4 => Some(u64::MAX),
            5..10 => Some(self.step << rng.u32(..5)),
            _ => Some(rng.u64(1..=self.step * 20)),
        }
    }

    fn tag(&self, rng: &mut Rng, crowd: &Crowd) -> Tag {
        let mut tag = Tag::NOBODY;
        if self.quotas && rng.u32(..4) > 0 {
            tag.module = pick(rng, crowd.modules().to_vec()).unwrap_or(0);
        }
        if self.activities > 0 && rng.u32(..4) > 0 {
            tag.activity = rng.u64(1..=self.activities);
            if self.implied > 0 && rng.u32(..100) < self.implied {
                tag.activity |= IMPLIED;
            }
        }
        tag.preemptible = self.preemptible > 0 && rng.u32(..100) < self.preemptible;
        tag
    }

    fn more(&self, rng: &mut Rng, of: u32, id: u32) -> Event {
        let mut ask = Ask::plain(&self.asks(rng));
        ask.module = None;
        let deadline = (rng.u32(..100) < self.deadlines).then(|| rng.u64(1..=self.step * 20));
        let plain = Arrival::plain(id, ask, Priority::Normal);
        Event::Grow { of, more: Arrival { deadline, wait: rng.u32(..10) > 0, past: false, grows: true, ..plain } }
    }

    /// Most modules have quotas that can be kept.
    fn module(&self, rng: &mut Rng, number: u32) -> Event {
        let quota = |budget: &Budget| {
            let capacity = match budget.supply {
                Supply::Loan { capacity } => capacity,
                Supply::Rate { .. } if rng.u32(..20) > 0 => return None,
                Supply::Rate { burst, .. } => burst,
            };
            let cap = if rng.u32(..4) == 0 { u64::MAX } else { rng.u64(0..40).max(1).min(1 + rng.u64(..=capacity)) };
            let minimum = rng.u64(..=capacity / 2).min(if rng.u32(..30) == 0 { u64::MAX } else { cap });
            Some((budget.id, Quota { minimum, cap: if rng.u32(..40) == 0 { 0 } else { cap } }))
        };
        let quotas = self.config.budgets.iter().filter_map(quota).collect();
        let weight = if rng.u32(..20) == 0 { rng.u32(0..3) * 501 } else { rng.u32(1..=4) };
        Event::Register { number: u64::from(number) + 1, name: rng.u8(..4), weight, quotas }
    }

    fn ask(&self, rng: &mut Rng) -> Ask {
        let count = if rng.u32(..100) < self.alternatives { rng.usize(2..=3) } else { 1 };
        Ask {
            alternatives: (0..count).map(|_| self.alternative(rng)).collect(),
            factor: [500_000, 500_000, 800_000, 250_000, 1, 999_999][rng.usize(..6)],
            patience: match rng.u32(..100) {
                0 => u64::MAX - 1,
                1..40 => 0,
                _ => rng.u64(..self.step * 4),
            },
            module: Some(rng.u8(..5)).filter(|module| *module < 4),
        }
    }

    fn alternative(&self, rng: &mut Rng) -> Alternative {
        let wants = self.asks(rng);
        let mut floors = Asks::new();
        if rng.u32(..100) < self.elastic {
            let shrinks = |&(id, want): &(BudgetId, u64)| (want > 1 && rng.bool()).then(|| (id, rng.u64(1..want)));
            floors = wants.iter().filter_map(shrinks).collect();
        }
        Alternative { wants, floors }
    }

    fn asks(&self, rng: &mut Rng) -> Asks {
        let most = if rng.u32(..3) == 0 { self.bundle } else { 2 };
        let count = rng.usize(1..=most.min(self.bundle));
        let chosen = rng.choose_multiple(&self.config.budgets, count);
        let mut asks: Asks = chosen.into_iter().map(|budget| (budget.id, self.units_of(rng, budget))).collect();
        if rng.u32(..400) == 0 {
            asks.push((BudgetId::gpu(9).expect("a GPU that no profile has"), 1));
        }
        asks.sort();
        asks
    }

    fn units_of(&self, rng: &mut Rng, budget: &Budget) -> u64 {
        let limit = match budget.supply {
            Supply::Loan { capacity } => capacity,
            Supply::Rate { burst, max_debt, .. } => burst + max_debt,
        };
        match rng.u32(..100) {
            0 => limit + rng.u64(1..=3),
            1..8 => rng.u64(1..=limit),
            _ => rng.u64(self.units.clone()).min(limit),
        }
    }

    fn change(&self, rng: &mut Rng) -> Event {
        let budget = &self.config.budgets[rng.usize(..self.config.budgets.len())];
        // Every other change restores what the configuration says.
        let quarters = [4, 4, 4, 0, 2, 5][rng.usize(..6)];
        match budget.supply {
            Supply::Loan { capacity } => Event::Capacity(budget.id, quartered(capacity, quarters)),
            Supply::Rate { per_second, burst, .. } => {
                let changed = |figure| quartered(figure, quarters).max(1);
                Event::Rate(budget.id, changed(per_second), changed(burst))
            }
        }
    }

    fn time(&self, rng: &mut Rng) -> u64 {
        match rng.u32(..20) {
            0..3 => 0,
            3..5 => 1,
            5 => rng.u64(..=self.step * 20),
            _ => rng.u64(..=self.step),
        }
    }

    fn who_polls(&self, rng: &mut Rng, crowd: &Crowd) -> Option<u32> {
        let woken = rng.u32(..100) < self.attentive;
        pick(rng, crowd.queued(woken))
    }
}

fn quartered(figure: u64, quarters: u64) -> u64 {
    (u128::from(figure) * u128::from(quarters) / 4).min(LARGEST.into()) as u64
}

fn pick<T: Copy>(rng: &mut Rng, from: Vec<T>) -> Option<T> {
    if from.is_empty() { None } else { Some(from[rng.usize(..from.len())]) }
}
