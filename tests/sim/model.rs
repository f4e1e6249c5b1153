//! The reference model: who is granted what, when, by brute force.
//!
//! It is written from the contracts and rules of the design and from the definitions at the top of `engine`: *blocked*,
//! *examined*,
//! *filed*, *dirty*. It shares no code with the engine. Waiters lie in one plain vector; whoever is first somewhere is
//! found by looking at all.
//!
//! Where the definitions leave a choice, the model reads them so:
//!
//! * A deadline has passed when the clock shows it: at that very nanosecond nothing is granted any more.
//! * A claim that is withdrawn changes something at its budget if it was the first claim there; a waiter that is
//!   examined in vain and filed elsewhere withdraws all claims that it does not renew.
//! * A due offer that nobody could use when the driver looked is looked at again one `offer_expiry` later, or when
//!   another offer is looked at before that.
//! * A waiter whose offer expires asks again. If that can no longer fit, it ends at once like any other that cannot.

mod look;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use bursar::{BudgetId, Config, Priority};

use crate::event::{Arrival, Asks, Event, Figures, Refused, Seen, Why, part_of, rest_of};
use crate::stock::Stock;

type Set = BTreeSet<BudgetId>;

/// Level, deadline for order, arrival: smaller goes first.
type Rank = (Priority, u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Offered { expiry: u64 },
    Dormant,
    Ended { why: Why, waited: u64, short: Figures },
}

#[derive(Debug, Clone)]
struct Waiter {
    id: u32,
    rank: Rank,
    asks: Asks,
    deadline: Option<u64>,
    /// Where it is blocked since it was last examined: its soft claim.
    filed: Set,
    state: State,
    since: u64,
    expiries: u32,
    /// How often it gave up a claim on a loan.
    yielded: u8,
}

/// The model.
#[derive(Debug)]
pub struct Model {
    stocks: BTreeMap<BudgetId, Stock>,
    waiters: Vec<Waiter>,
    held: BTreeMap<u32, Asks>,
    /// Budgets where something changed since their first was examined.
    dirty: Set,
    /// Releases whose threads have not entered yet.
    late: Vec<Set>,
    clock: u64,
    lag: u64,
    /// The latest time that a turn was given.
    now: u64,
    arrivals: u64,
    /// When the driver looks at the offers next.
    next_look: u64,
    closed: bool,
    leases: u64,
    immediate: [u64; Priority::COUNT],
    offer_expiry: u64,
    edf_horizon: u64,
    look_ahead: usize,
    max_waiters: usize,
    seen: Vec<Seen>,
}

impl Model {
    pub fn new(config: &Config, clock: u64) -> Model {
        Model {
            stocks: config.budgets.iter().map(|budget| (budget.id, Stock::new(budget, clock))).collect(),
            waiters: Vec::new(),
            held: BTreeMap::new(),
            dirty: Set::new(),
            late: Vec::new(),
            clock,
            lag: 0,
            now: 0,
            arrivals: 0,
            next_look: u64::MAX,
            closed: false,
            leases: 0,
            immediate: [0; Priority::COUNT],
            offer_expiry: config.offer_expiry.as_nanos() as u64,
            edf_horizon: config.edf_horizon.as_nanos() as u64,
            look_ahead: config.look_ahead,
            max_waiters: config.max_waiters,
            seen: Vec::new(),
        }
    }

    /// Does what `event` says, and tells what is seen.
    pub fn apply(&mut self, event: &Event) -> Vec<Seen> {
        match event {
            Event::Submit(arrival) => self.submit(arrival),
            Event::Poll(id) => self.poll(*id),
            Event::Cancel(id) => self.cancel(*id),
            Event::Release { id, late } => self.release(*id, *late),
            Event::Shrink { id, by } => self.shrink(*id, by),
            Event::Split { id, by, into } => self.split(*id, by, *into),
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

    fn submit(&mut self, arrival: &Arrival) {
        if arrival.past && self.past_engine(arrival) {
            return;
        }
        let answer = self.arrive(arrival);
        self.seen.push(answer);
        self.settle();
    }

    /// While nobody waits for any of it, what fits is granted without a turn (R1).
    fn past_engine(&mut self, arrival: &Arrival) -> bool {
        let known = arrival.asks.iter().all(|(id, _)| self.stocks.contains_key(id));
        let fits = |&(id, units): &(BudgetId, u64)| {
            let stock = &self.stocks[&id];
            units <= stock.limit() && stock.serves(units, self.clock)
        };
        let loans = known && arrival.asks.iter().all(|(id, _)| !self.stocks[id].is_rate());
        let open = loans && !self.closed && !self.named(&arrival.asks) && arrival.asks.iter().all(fits);
        if open {
            self.grant_at_once(arrival, self.clock);
            self.seen.push(Seen::Granted(arrival.id));
        }
        open
    }

    fn grant_at_once(&mut self, arrival: &Arrival, now: u64) {
        self.take(&arrival.asks, now);
        self.immediate[arrival.level as usize] += 1;
        self.held.insert(arrival.id, self.loans(&arrival.asks));
    }

    fn arrive(&mut self, arrival: &Arrival) -> Seen {
        let (id, asks) = (arrival.id, &arrival.asks);
        let refused = |why| Seen::Refused(id, why);
        if self.closed {
            return refused(Refused::Closed);
        }
        self.advance();
        if let Some((unknown, _)) = asks.iter().find(|(id, _)| !self.stocks.contains_key(id)) {
            return refused(Refused::UnknownBudget(*unknown));
        }
        if let Some(above) = self.above_limit(asks) {
            return refused(Refused::NeverFits(self.figures(asks, Some(above))));
        }
        // What an earlier turn left undone goes first (R11).
        self.regrant();
        let deadline = arrival.deadline.map(|within| self.now.saturating_add(within));
        let rank = (arrival.level, deadline.unwrap_or(self.now + self.edf_horizon), self.arrivals);
        let filed = self.blocked(asks, rank);
        if filed.is_empty() {
            self.grant_at_once(arrival, self.now);
            return Seen::Granted(id);
        }
        let short = self.figures(asks, filed.first().copied());
        if !arrival.wait {
            return refused(Refused::NotNow(short));
        }
        if arrival.deadline == Some(0) {
            return refused(Refused::Late(short));
        }
        if self.active() >= self.max_waiters {
            return refused(Refused::Full(self.active(), short));
        }
        self.arrivals += 1;
        let (asks, since) = (asks.clone(), self.now);
        self.waiters.push(Waiter {
            id,
            rank,
            asks,
            deadline,
            filed,
            state: State::Waiting,
            since,
            expiries: 0,
            yielded: 0,
        });
        Seen::Waits(id)
    }

    fn poll(&mut self, id: u32) {
        let Some(at) = self.at(id) else { return };
        match self.waiters[at].state {
            State::Offered { .. } => {
                let taken_up = self.waiters.remove(at);
                self.held.insert(id, self.loans(&taken_up.asks));
                self.seen.push(Seen::Accepted(id));
                return;
            }
            State::Ended { why, waited, short } => {
                self.waiters.remove(at);
                self.seen.push(Seen::Collected { id, why, waited, short });
            }
            State::Waiting | State::Dormant => {
                self.advance();
                self.regrant();
                if self.waiters[at].state == State::Dormant {
                    self.ask_again(at);
                }
            }
        }
        self.settle();
    }

    fn ask_again(&mut self, at: usize) {
        let blocked = self.blocked(&self.waiters[at].asks, self.waiters[at].rank);
        if blocked.is_empty() {
            let regained = self.waiters.remove(at);
            self.take(&regained.asks, self.now);
            self.held.insert(regained.id, self.loans(&regained.asks));
            self.seen.push(Seen::Regained(regained.id));
        } else {
            let waiter = &mut self.waiters[at];
            (waiter.state, waiter.filed) = (State::Waiting, blocked);
            self.seen.push(Seen::Waits(waiter.id));
        }
    }

    fn cancel(&mut self, id: u32) {
        let Some(at) = self.at(id) else { return };
        self.advance();
        let level = self.waiters[at].rank.0;
        match self.waiters[at].state {
            State::Waiting => self.withdraw(at),
            State::Offered { .. } => self.undo(at),
            State::Dormant | State::Ended { .. } => {}
        }
        if !matches!(self.waiters[at].state, State::Ended { .. }) {
            self.seen.push(Seen::Cancelled(level));
        }
        self.waiters.remove(at);
        self.settle();
    }

    fn release(&mut self, id: u32, late: bool) {
        let Some(asks) = self.held.remove(&id) else { return };
        self.leases -= 1;
        self.give(&asks, late);
    }

    fn shrink(&mut self, id: u32, by: &Asks) {
        let Some(held) = self.held.get(&id) else { return };
        let part = part_of(held, by);
        if !part.is_empty() {
            let rest = rest_of(held, &part);
            self.held.insert(id, rest);
            self.give(&part, false);
        }
    }

    fn split(&mut self, id: u32, by: &Asks, into: u32) {
        let Some(held) = self.held.get(&id) else { return };
        let part = part_of(held, by);
        if !part.is_empty() {
            let rest = rest_of(held, &part);
            self.held.extend([(id, rest), (into, part)]);
            self.leases += 1;
        }
    }

    /// Units come back; the engine hears of it if somebody waits for any of them.
    fn give(&mut self, asks: &Asks, late: bool) {
        for (id, units) in asks {
            self.stock(*id).give(*units);
        }
        if self.closed || self.named(asks) {
            let budgets = asks.iter().map(|(id, _)| *id).collect();
            if late { self.late.push(budgets) } else { self.released(budgets) }
        }
    }

    fn released(&mut self, budgets: Set) {
        self.advance();
        self.dirty.extend(budgets);
        self.settle();
    }

    /// Another capacity or rate; `change` says whether it is less than before.
    fn change(&mut self, id: BudgetId, change: impl FnOnce(&mut Stock, u64) -> bool) {
        if self.closed {
            return;
        }
        self.advance();
        let now = self.now;
        if change(self.stock(id), now) {
            let limit = self.stocks[&id].limit();
            for at in 0..self.waiters.len() {
                let waits = matches!(self.waiters[at].state, State::Waiting | State::Dormant);
                if waits && self.waiters[at].asks.iter().any(|&(asked, units)| asked == id && units > limit) {
                    self.end(at, Why::NeverFits);
                }
            }
        }
        self.dirty.insert(id);
        self.settle();
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
        while self.due() <= until {
            self.clock = self.clock.max(self.due());
            self.seen.push(Seen::Turned(self.clock));
            self.drive();
        }
        self.clock = until;
    }
}
