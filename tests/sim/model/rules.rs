//! Who is blocked, who is examined, who is granted; and what time does.

use bursar::BudgetId;

use crate::event::{Asks, Seen, Why};
use crate::stock::Stock;

use super::{Model, Rank, Set, State, Waiter};

impl Model {
    /// One turn of the driver: deadlines, then offers, then rates.
    pub(super) fn drive(&mut self) {
        self.advance();
        if self.active() > 0 && self.next_look <= self.now {
            self.look_at_offers();
        }
        let ready = |(id, stock): (&BudgetId, &Stock)| {
            let first = self.first_at(*id).filter(|_| stock.is_rate())?;
            stock.serves(self.asked(first, *id), self.now).then_some(*id)
        };
        let ready: Set = self.stocks.iter().filter_map(ready).collect();
        self.dirty.extend(ready);
        self.settle();
    }

    /// Takes back the offers that are due and hold what somebody is blocked at (R5): one at a time, the oldest first,
    /// and what comes back is granted before the next.
    pub(super) fn look_at_offers(&mut self) {
        self.next_look = u64::MAX;
        let mut due = Vec::new();
        for (at, waiter) in self.waiters.iter().enumerate() {
            match waiter.state {
                State::Offered { expiry } if expiry > self.now => self.next_look = self.next_look.min(expiry),
                State::Offered { expiry } => due.push((expiry, waiter.rank, at)),
                _ => {}
            }
        }
        due.sort();
        for (_, _, at) in due {
            if !self.waiters[at].asks.iter().any(|(id, _)| self.first_at(*id).is_some()) {
                self.next_look = self.next_look.min(self.now + self.offer_expiry);
                continue;
            }
            self.undo(at);
            let waiter = &mut self.waiters[at];
            waiter.state = State::Dormant;
            waiter.expiries += 1;
            self.seen.push(Seen::Expired(waiter.id));
            if self.above_limit(&self.waiters[at].asks).is_some() {
                self.end(at, Why::NeverFits);
            }
            self.regrant();
        }
    }

    /// Takes note of the time; deadlines that have passed end their waits.
    pub(super) fn advance(&mut self) {
        self.now = self.now.max(self.clock - self.lag);
        let late = |(at, waiter): (usize, &Waiter)| {
            let waits = matches!(waiter.state, State::Waiting | State::Dormant);
            waiter.deadline.filter(|&deadline| waits && deadline <= self.now).map(|deadline| (deadline, at))
        };
        let mut late: Vec<_> = self.waiters.iter().enumerate().filter_map(late).collect();
        late.sort();
        for (_, at) in late {
            self.end(at, Why::Late);
        }
    }

    pub(super) fn settle(&mut self) {
        if !self.regrant() {
            self.seen.push(Seen::LookAhead);
        }
    }

    /// Examines the first waiters at dirty budgets, highest rank first. `false`: more to examine than is allowed in
    /// vain.
    pub(super) fn regrant(&mut self) -> bool {
        let mut in_vain = 0;
        while let Some(at) = self.first_dirty() {
            let blocked = self.blocked(&self.waiters[at].asks, self.waiters[at].rank);
            if blocked.is_empty() {
                self.offer(at);
                continue;
            }
            if in_vain == self.look_ahead {
                return false;
            }
            in_vain += 1;
            // What no longer blocks it is given up eight times; from then on claims on loans are kept.
            let filed = self.waiters[at].filed.clone();
            let loan = |id: &BudgetId| !self.stocks[id].is_rate();
            let spare: Set = filed.iter().copied().filter(|id| loan(id) && !blocked.contains(id)).collect();
            let mut kept = blocked;
            if self.waiters[at].yielded >= 8 {
                kept.extend(spare);
            } else if !spare.is_empty() {
                self.waiters[at].yielded += 1;
            }
            self.dirty.extend(&filed);
            self.dirty.retain(|id| !kept.contains(id));
            self.waiters[at].filed = kept;
        }
        true
    }

    pub(super) fn first_dirty(&mut self) -> Option<usize> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|id| self.first_at(*id).is_some());
        self.dirty = dirty;
        self.dirty.iter().filter_map(|id| self.first_at(*id)).min_by_key(|at| self.waiters[*at].rank)
    }

    /// Who comes first at a budget.
    pub(super) fn first_at(&self, id: BudgetId) -> Option<usize> {
        let filed = |at: &usize| self.waiters[*at].filed.contains(&id);
        (0..self.waiters.len()).filter(filed).min_by_key(|at| self.waiters[*at].rank)
    }

    /// The budgets that block a bundle of this rank; no rate while a loan does (R7).
    pub(super) fn blocked(&self, asks: &Asks, rank: Rank) -> Set {
        let blocks = |&&(id, units): &&(BudgetId, u64)| {
            self.first_at(id).is_some_and(|first| self.waiters[first].rank < rank)
                || !self.stocks[&id].serves(units, self.now)
        };
        self.loans_first(asks.iter().filter(blocks).map(|(id, _)| *id).collect())
    }

    /// The budgets that have too little for a bundle; no rate while a loan has.
    pub(super) fn short(&self, asks: &Asks) -> Set {
        let short = asks.iter().filter(|(id, units)| !self.stocks[id].serves(*units, self.now));
        self.loans_first(short.map(|(id, _)| *id).collect())
    }

    pub(super) fn loans_first(&self, all: Set) -> Set {
        let loans: Set = all.iter().copied().filter(|id| !self.stocks[id].is_rate()).collect();
        if loans.is_empty() { all } else { loans }
    }

    pub(super) fn offer(&mut self, at: usize) {
        let asks = self.waiters[at].asks.clone();
        self.take(&asks, self.now);
        let budget = self.waiters[at].filed.first().copied().unwrap_or(BudgetId::GPU);
        self.withdraw(at);
        let waiter = &mut self.waiters[at];
        let expiry = self.now + self.offer_expiry * (1 << waiter.expiries.min(16));
        waiter.state = State::Offered { expiry };
        self.next_look = self.next_look.min(expiry);
        let waited = self.now - waiter.since;
        self.seen.push(Seen::Offered { id: waiter.id, level: waiter.rank.0, budget, waited });
    }

    /// Withdraws the claims of a waiter; where it came first, something changed.
    pub(super) fn withdraw(&mut self, at: usize) {
        let first: Set = self.waiters[at].filed.iter().copied().filter(|id| self.first_at(*id) == Some(at)).collect();
        self.dirty.extend(first);
        self.waiters[at].filed.clear();
    }

    pub(super) fn end(&mut self, at: usize, why: Why) {
        let waiter = self.waiters[at].clone();
        let blocked = match (why, &waiter.state) {
            (Why::NeverFits, _) => self.above_limit(&waiter.asks),
            (_, State::Waiting) => waiter.filed.first().copied(),
            _ => self.short(&waiter.asks).first().copied(),
        };
        self.withdraw(at);
        self.waiters[at].state = State::Dormant;
        let short = self.figures(&waiter.asks, blocked);
        let waited = self.now - waiter.since;
        let waiter = &mut self.waiters[at];
        waiter.state = State::Ended { why, waited, short };
        self.seen.push(Seen::Ended { id: waiter.id, level: waiter.rank.0, why });
    }

    /// Takes a grant back that nobody took up.
    pub(super) fn undo(&mut self, at: usize) {
        let now = self.now;
        for (id, units) in self.waiters[at].asks.clone() {
            self.stock(id).undo(units, now);
            self.dirty.insert(id);
        }
        self.leases -= 1;
    }

    pub(super) fn take(&mut self, asks: &Asks, now: u64) {
        for (id, units) in asks {
            self.stock(*id).take(*units, now);
        }
        self.leases += 1;
    }
}
