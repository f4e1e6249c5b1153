//! The reference model: who is granted what, when, by brute force.
//!
//! It is written from the contracts and rules of the design and from the definitions at the top of `engine`: *what
//! blocks*, *witness*, *filed*, *passed*, *due*, *hard claim*, *dirty*. It shares no code with the engine. Waiters lie
//! in one plain vector; whoever is first somewhere is found by looking at all.
//!
//! Where the definitions leave a choice, the model reads them so:
//!
//! * A deadline has passed when the clock shows it: at that very nanosecond nothing is granted any more.
//! * A due offer that nobody could use when the driver looked is looked at again one `offer_expiry` later, or when
//!   another offer is looked at before that.
//! * A waiter whose offer expires asks again. If that can no longer fit, it ends at once like any other that cannot.
//! * A turn goes through filings in order of rank and preference and looks at no filing twice; another alternative of
//!   the same waiter has its own turn.
//! * A rate is ready when it no longer blocks one of the filings in its line, with the claims as they are.
//! * A cap parks a filing at the beginning of a turn, and when it is looked at. Its line is looked at as that of a
//!   budget is, from when something of it comes back; who has room goes to the line of what it lacks, which is no pass.
//! * A request is inside a minimum if all that its first alternative wants is. Of those that wait and want no more than
//!   the whole minimum, it is looked for among the first `look_ahead`, and again from the first when one was found.
//! * A waiter that only safety keeps claims nothing from when that is found until it is found to be kept by units:
//!   that is looked for when the waiter is looked at, is passed, or asks or stands otherwise than before.
//! * Whom a grant passes is found as it was before it, as far as safety is what keeps them; of those who may be passed
//!   no more, the first in rank claims first.
//! * Who keeps bounded activities from beginning does so while it stands in a line. Whether two of them concern each
//!   other goes by what they said and who holds something at that moment.
//! * Who stands at a loan for safety alone, and lacks something else by the end of the turn, so that the check finds
//!   nothing unsafe any more, is looked at again.
//! * A verdict takes safety into account: a holder is served if the bounded ones among those who cannot be served
//!   could end with it.
//! * What only scopes imply binds claims and passes ranks on as what is declared does. It counts in alerts only, not in
//!   verdicts and not against bounds. An alert names the first of what its activity lacks.
//! * Ratios order those who are to be looked at, as many at a time as the turn may still look at in vain, and of one
//!   level. A hold of nothing is one of a nanosecond. Who has inherited its rank has the ratio of whom it has it from,
//!   wherever that one stands.
//! * Whom to ask to end is looked for once a turn has nothing else to do: for the first eight filings of every line, in
//!   order of rank and preference. Those who were asked are waited for while somebody of them is there and the
//!   beneficiary is active; the grace ends when the driver finds it over. If the beneficiary does not wait any more by
//!   then, nobody is overdue.
//! * The same is looked for, among those who rank before it, before one is granted anything that may be asked back. If
//!   the first who can be helped needs something of that, and is of a higher level than the request, it asks now.
//! * A holder asks for the highest level among its own request and those of the first eight in every line of what its
//!   activity holds, and of what the activities of these hold, and so on.
//! * What is lacking counts beyond the claims and the reserve that bind, and beyond a deficit; what those hold who were
//!   asked and still have time is there already, whomever they were asked for.
//! * Of a module's leases those are lent that are asked last: a lease is, if without those that are asked before it,
//!   and those that were and have time, the module has more than its minimum of something that is lacking and it holds.
//! * The place at the head of the level, and the claim on the alternative that asked, stay for the rest of the wait;
//!   who rises by waiting leaves that place. Who is served from a minimum keeps the rank of that.
//! * Work that is taken up again counts from its first arrival, unless it has a deadline, which then orders it; and an
//!   arrival in the future is one now.

mod alert;
mod arrive;
mod block;
mod bound;
mod check;
mod claim;
mod entry;
mod hold;
mod inherit;
mod look;
mod module;
mod preempt;
mod ratio;
mod regrant;
mod time;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use bursar::{BudgetId, Config, Order, Priority, Tag};

use crate::ask::{Ask, Asks};
use crate::event::{Event, Figures, Seen, Why};
use crate::stock::Stock;

use hold::{Lease, Notes};
use module::Module;
use preempt::Preemption;
use ratio::Pace;
use regrant::Place;

/// Effective level, order, arrival: smaller goes first.
type Rank = (Priority, u64, u64);

/// Times in ranks, and virtual times, end here.
const LATEST: u64 = (1 << 61) - 1;

/// Before every other.
const BEGINNING: Rank = (Priority::Critical, 0, 0);

/// More turns than this without the time going on, and the driver is said to spin.
const SPIN: usize = 10_000;

/// Alternative and rung.
type Path = (usize, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Offered { expiry: u64, path: Path },
    Dormant,
    Ended { why: Why, waited: u64, short: Figures },
}

#[derive(Debug, Clone)]
struct Waiter {
    id: u32,
    /// The level that it asked for; aging does not change it.
    level: Priority,
    /// Its rank, with what it has inherited, and without.
    rank: Rank,
    own: Rank,
    /// The pace of whom it has inherited its rank from, if that is not its own.
    inherited: Option<Pace>,
    /// How long it will hold what it gets.
    hold: u64,
    tag: Tag,
    grows: bool,
    /// It is served from the minimum of its module: the rank that it would have otherwise.
    guaranteed: Option<Rank>,
    ask: Ask,
    /// The rungs of each alternative.
    ladders: Vec<Vec<Asks>>,
    deadline: Option<u64>,
    state: State,
    since: u64,
    /// When its work first arrived, which may be before that.
    arrived: u64,
    /// When it asks for less than the whole.
    ripe_at: u64,
    /// When it came to its effective level.
    entered: u64,
    /// The place of each alternative: what blocked it when it was last looked at.
    filed: Vec<Option<BudgetId>>,
    /// The line in which each alternative is to stand that was found to be kept by nothing but safety.
    held_back: Vec<Option<BudgetId>>,
    /// Which alternatives a cap of its module keeps out of the lines of budgets, and which cap.
    parked: Vec<Option<BudgetId>>,
    expiries: u32,
    passes: u32,
    first_pass: u64,
    /// It may be passed no more.
    spent: bool,
    hard: bool,
    /// The alternative that carries the hard claim.
    claiming: Option<usize>,
}

/// What the configuration says beside the budgets, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Settings {
    offer_expiry: u64,
    edf_horizon: u64,
    look_ahead: usize,
    max_waiters: usize,
    bypass_limit: u32,
    bypass_time: u64,
    aging_step: Option<u64>,
    age_idle: bool,
    shares: bool,
    by_ratio: bool,
    verdict_after: u64,
    roll_backs: u32,
    grace: u64,
}

/// Somebody who asks, as far as claims and reserves go: the rank, and the budgets of which its activity holds anything.
#[derive(Debug, Clone)]
struct Who {
    rank: Rank,
    holds: BTreeSet<BudgetId>,
}

/// The model.
#[derive(Debug)]
pub struct Model {
    stocks: BTreeMap<BudgetId, Stock>,
    /// In order of arrival.
    waiters: Vec<Waiter>,
    held: BTreeMap<u32, Lease>,
    modules: BTreeMap<u64, Module>,
    preemption: Preemption,
    /// What is known of activities beside their leases and waiters.
    notes: BTreeMap<u64, Notes>,
    /// What is kept of a budget for growth.
    reserves: BTreeMap<BudgetId, u64>,
    /// When the driver looks for a deadlock next.
    verdict_at: u64,
    inherited: u64,
    /// What activities said that they will ever hold at most.
    bounds: BTreeMap<u64, Asks>,
    /// Where somebody was found to stand whom nothing but safety keeps.
    /// Places where something changed, and the filing, by rank and alternative, from which on that concerns anybody.
    dirty: BTreeMap<Place, (Rank, usize)>,
    /// Releases whose threads have not entered yet.
    late: Vec<BTreeSet<BudgetId>>,
    clock: u64,
    lag: u64,
    /// The latest time that a turn was given.
    now: u64,
    /// Until when patience has been seen to run out: claims are entered then, and not when the time comes.
    patience_seen: u64,
    arrivals: u64,
    /// When the driver looks at the offers next.
    next_look: u64,
    closed: bool,
    leases: u64,
    immediate: [u64; Priority::COUNT],
    /// The virtual time of each level, and the finish tag of each module there.
    virtual_time: [u64; Priority::COUNT],
    finish: BTreeMap<(Priority, Option<u8>), u64>,
    settings: Settings,
    seen: Vec<Seen>,
    /// How many of these were seen when the last turn ended.
    told: usize,
    /// The first rule that a grant broke.
    broken: Option<String>,
}

impl Model {
    pub fn new(config: &Config, clock: u64) -> Model {
        let nanos = |time: std::time::Duration| time.as_nanos() as u64;
        Model {
            stocks: config.budgets.iter().map(|budget| (budget.id, Stock::new(budget, clock))).collect(),
            waiters: Vec::new(),
            held: BTreeMap::new(),
            modules: BTreeMap::new(),
            preemption: Preemption::default(),
            notes: BTreeMap::new(),
            reserves: config.budgets.iter().map(|budget| (budget.id, budget.growth_reserve)).collect(),
            verdict_at: u64::MAX,
            inherited: 0,
            bounds: BTreeMap::new(),
            dirty: BTreeMap::new(),
            late: Vec::new(),
            clock,
            lag: 0,
            now: 0,
            patience_seen: 0,
            arrivals: 0,
            next_look: u64::MAX,
            closed: false,
            leases: 0,
            immediate: [0; Priority::COUNT],
            virtual_time: [0; Priority::COUNT],
            finish: BTreeMap::new(),
            settings: Settings {
                offer_expiry: nanos(config.offer_expiry),
                edf_horizon: nanos(config.edf_horizon),
                look_ahead: config.look_ahead,
                max_waiters: config.max_waiters,
                bypass_limit: config.bypass_limit,
                bypass_time: nanos(config.bypass_time),
                aging_step: config.aging_step.map(nanos),
                age_idle: config.age_idle,
                shares: config.order == Order::Shares,
                by_ratio: config.order == Order::ResponseRatio,
                verdict_after: nanos(config.verdict_after),
                roll_backs: config.roll_backs,
                grace: nanos(config.grace),
            },
            seen: Vec::new(),
            told: 0,
            broken: None,
        }
    }

    /// Does what `event` says, and tells what is seen.
    pub fn apply(&mut self, event: &Event) -> Vec<Seen> {
        self.told = 0;
        match event {
            Event::Submit(arrival) => self.submit(arrival),
            Event::Poll(id) => self.poll(*id),
            Event::Cancel(id) => self.cancel(*id),
            Event::Release { id, late } => self.release(*id, *late),
            Event::Shrink { id, by } => self.shrink(*id, by),
            Event::Split { id, by, into } => self.split(*id, by, *into),
            Event::Merge { id, other } => self.merge(*id, *other),
            Event::Grow { of, more } => self.grow(*of, more),
            Event::Register { number, name, weight, quotas } => self.register(*number, *name, *weight, quotas),
            Event::Deregister(number) => self.deregister(*number),
            Event::Outside { activity, begins } => self.wait_outside(*activity, *begins),
            Event::Enter => std::mem::take(&mut self.late).into_iter().for_each(|budgets| self.released(budgets)),
            Event::Capacity(id, units) => self.change(*id, |stock, _| stock.set_capacity(*units)),
            Event::Rate(id, per_second, burst) => {
                self.change(*id, |stock, now| stock.set_rate(*per_second, *burst, now));
            }
            Event::Stall(time) => self.clock += time,
            Event::Sleep(time) => self.sleep(*time),
            Event::Early => self.drive(),
            Event::Lag(time) => self.lag = *time,
            Event::Close => self.close(),
        }
        std::mem::take(&mut self.seen)
    }

    fn poll(&mut self, id: u32) {
        let Some(at) = self.at(id) else { return };
        match self.waiters[at].state {
            State::Offered { path, .. } => {
                let taken_up = self.waiters.remove(at);
                let grant = self.hold(&taken_up, path);
                self.seen.push(Seen::Accepted(id, grant));
                return;
            }
            State::Ended { why, waited, short } => {
                self.waiters.remove(at);
                self.seen.push(Seen::Collected { id, why, waited, short });
            }
            State::Waiting | State::Dormant => {
                self.advance();
                self.resume();
                if self.waiters[at].state == State::Dormant {
                    self.ask_again(at);
                }
            }
        }
        self.settle();
    }

    fn cancel(&mut self, id: u32) {
        let Some(at) = self.at(id) else { return };
        self.advance();
        match self.waiters[at].state {
            State::Waiting => self.leave(at),
            State::Offered { .. } => self.undo(at),
            State::Dormant | State::Ended { .. } => {}
        }
        if !matches!(self.waiters[at].state, State::Ended { .. }) {
            self.seen.push(Seen::Cancelled(self.waiters[at].level));
        }
        self.waiters.remove(at);
        self.forget_gone();
        self.settle();
    }

    fn released(&mut self, budgets: BTreeSet<BudgetId>) {
        self.advance();
        budgets.into_iter().for_each(|id| self.mark(id, BEGINNING));
        self.settle();
    }

    /// Another capacity or rate.
    fn change(&mut self, id: BudgetId, change: impl FnOnce(&mut Stock, u64)) {
        if self.closed {
            return;
        }
        self.advance();
        let now = self.now;
        if !self.stocks[&id].is_rate() {
            self.look_at_unsafe();
        }
        // What is claimed may depend on the limit.
        let claims: Vec<_> = self.waiters.iter().map(|waiter| self.claim(waiter)).collect();
        change(self.stock(id), now);
        for (at, claimed) in claims.into_iter().enumerate() {
            let waits = matches!(self.waiters[at].state, State::Waiting | State::Dormant);
            if waits && self.waiters[at].ask.names(id) {
                self.refit(at, id, claimed);
            }
        }
        self.mark(id, BEGINNING);
        self.settle();
    }

    /// The limit of a budget changed that a waiter names: some of its alternatives may have become possible, or
    /// impossible.
    fn refit(&mut self, at: usize, id: BudgetId, claimed: Asks) {
        if self.waiters[at].state == State::Waiting {
            for alternative in 0..self.waiters[at].ladders.len() {
                let waiter = &self.waiters[at];
                if !self.possible(waiter, alternative) {
                    self.unfile(at, alternative);
                } else if waiter.parked[alternative].is_some() || waiter.filed[alternative].is_some() {
                    continue;
                } else if self.is_capped(waiter, alternative) {
                    self.park(at, alternative);
                } else {
                    // If nothing blocks it, it is found where the change was, which is dirty.
                    let place = self.witness(self.low(waiter, alternative), &self.who(waiter));
                    let place = place.or_else(|| self.unsafe_place(at, alternative)).unwrap_or(id);
                    self.file(at, alternative, place);
                }
            }
            self.claim_again(at);
            self.mark_lowered(at, claimed);
            self.let_in_if_nowhere(at);
        }
        let waiter = &self.waiters[at];
        if !(0..waiter.ladders.len()).any(|alternative| self.possible(waiter, alternative)) {
            self.end(at, Why::NeverFits);
        }
    }

    fn close(&mut self) {
        if !self.closed {
            self.advance();
            self.closed = true;
            for at in 0..self.waiters.len() {
                if matches!(self.waiters[at].state, State::Waiting | State::Dormant) {
                    self.end(at, Why::Closed);
                }
            }
            self.dirty.clear();
            self.settle();
        }
    }

    fn sleep(&mut self, time: u64) {
        self.lag = 0;
        let until = self.clock + time;
        let mut turns = 0;
        while self.due() <= until {
            turns = if self.due() > self.clock { 0 } else { turns + 1 };
            assert!(turns < SPIN, "the driver spins at {}", self.clock);
            self.clock = self.clock.max(self.due());
            self.seen.push(Seen::Turned(self.clock));
            self.drive();
        }
        self.clock = until;
    }
}
