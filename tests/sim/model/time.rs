//! What time does: deadlines, patience, aging, offers, rates; and when the driver has to come back.

use std::collections::BTreeSet;

use bursar::{BudgetId, Priority};

use crate::ask::units_of;
use crate::event::{Seen, Why};

use super::{LATEST, Model, Place, Rank, State, Waiter};

/// As many at a rate are asked when they are ready.
pub(super) const FIRST_AT_A_RATE: usize = 64;

impl Model {
    /// Takes note of the time: what it ends, then what it makes smaller, then whom it raises.
    pub(super) fn advance(&mut self) {
        let before = self.now;
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
        self.patience_seen = self.now;
        let ripens = |(at, waiter): (usize, &Waiter)| {
            let is_now = self.patience_ends(waiter)? > before && self.is_ripe(waiter);
            is_now.then_some((waiter.ripe_at, at))
        };
        let mut ripe: Vec<_> = self.waiters.iter().enumerate().filter_map(ripens).collect();
        ripe.sort();
        for (_, at) in ripe {
            self.ripen(at);
        }
        while let Some((_, at)) = self.next_raise().filter(|(due, _)| *due <= self.now) {
            self.raise(at);
        }
        self.look_at_rates();
    }

    /// What has come in is for those that wait for it, before anybody else.
    fn look_at_rates(&mut self) {
        for id in self.stocks.keys().copied().collect::<Vec<_>>() {
            let ready = self.first_at_a_rate(id).into_iter().find(|(_, ready_at)| *ready_at <= self.now);
            if let Some((filing, _)) = ready {
                // What is looked at already goes on where it was: starting over each time, a short turn gets nowhere.
                let from = self.dirty.entry(Place::Budget(id)).or_insert(filing);
                *from = filing.min(*from);
            }
        }
    }

    /// Of an active waiter that will ask for less, or does: since when.
    pub(super) fn patience_ends(&self, waiter: &Waiter) -> Option<u64> {
        (waiter.state == State::Waiting && waiter.ask.is_elastic()).then_some(waiter.ripe_at)
    }

    /// When it rises, if it stays active.
    pub(super) fn raise_due(&self, waiter: &Waiter) -> Option<u64> {
        let rises = match waiter.own.0 {
            Priority::Critical | Priority::High => false,
            Priority::Normal | Priority::Low => true,
            Priority::Idle => self.settings.age_idle,
        };
        self.settings.aging_step.filter(|_| rises).map(|step| waiter.entered.saturating_add(step))
    }

    /// The next active waiter to rise: those of one moment in order of arrival.
    fn next_raise(&self) -> Option<(u64, usize)> {
        let due = |(at, waiter): (usize, &Waiter)| Some((self.raise_due(waiter)?, at));
        let active = self.waiters.iter().enumerate().filter(|(_, waiter)| waiter.state == State::Waiting);
        active.filter_map(due).min()
    }

    /// One level up, at the time when that was due.
    pub(super) fn raise(&mut self, at: usize) {
        let due = self.raise_due(&self.waiters[at]).expect("only for those that rise");
        let waiter = &self.waiters[at];
        let level = Priority::ALL[waiter.own.0 as usize - 1];
        let order = match self.settings.shares {
            _ if waiter.grows => 0,
            true => self.virtual_time[level as usize],
            false => due.saturating_add(self.settings.edf_horizon),
        };
        let inherits = waiter.own != waiter.rank;
        let rank = (level, order.min(LATEST), waiter.own.2);
        let waiter = &mut self.waiters[at];
        (waiter.own, waiter.entered) = (rank, due);
        if !inherits {
            self.rerank(at, rank);
        }
    }

    /// One turn of the driver: what time does, then offers.
    pub(super) fn drive(&mut self) {
        self.advance();
        if self.active() > 0 && self.next_look <= self.now {
            self.look_at_offers();
        }
        self.end_grace();
        self.settle();
    }

    /// Takes back the offers that are due and hold what somebody is blocked at (R5): one at a time, the oldest first,
    /// and what comes back is granted before the next.
    fn look_at_offers(&mut self) {
        self.next_look = u64::MAX;
        let mut due = Vec::new();
        for (at, waiter) in self.waiters.iter().enumerate() {
            match waiter.state {
                State::Offered { expiry, .. } if expiry > self.now => self.next_look = self.next_look.min(expiry),
                State::Offered { expiry, .. } => due.push((expiry, waiter.rank, at)),
                _ => {}
            }
        }
        due.sort();
        for (_, _, at) in due {
            if !self.offered(at).iter().any(|(id, _)| self.is_filed_at(*id)) {
                self.next_look = self.next_look.min(self.now + self.settings.offer_expiry);
                continue;
            }
            self.undo(at);
            let waiter = &mut self.waiters[at];
            waiter.expiries += 1;
            self.seen.push(Seen::Expired(waiter.id));
            let waiter = &self.waiters[at];
            if !(0..waiter.ladders.len()).any(|alternative| self.possible(waiter, alternative)) {
                self.end(at, Why::NeverFits);
            }
            self.inherit();
            self.resume();
        }
    }

    /// The first that are filed at a rate, by rank and alternative, and when it no longer blocks them.
    fn first_at_a_rate(&self, id: BudgetId) -> Vec<((Rank, usize), u64)> {
        let ready = |(rank, alternative, at): (Rank, usize, usize)| {
            let waiter = &self.waiters[at];
            let (units, claimed) = (units_of(self.low(waiter, alternative), id), self.claimed(id, &self.who(waiter)));
            Some(((rank, alternative), self.stocks[&id].ready_at(units, claimed, self.now)?))
        };
        self.line(id).into_iter().take(FIRST_AT_A_RATE).filter_map(ready).collect()
    }

    /// When a rate no longer blocks one of the first that are filed there.
    fn ready_at(&self, id: BudgetId) -> Option<u64> {
        self.first_at_a_rate(id).into_iter().map(|(_, ready_at)| ready_at).min()
    }

    /// When the driver has to turn next.
    pub(super) fn due(&self) -> u64 {
        if !self.dirty.is_empty() {
            return self.now;
        }
        let waits = self.waiters.iter().filter(|w| matches!(w.state, State::Waiting | State::Dormant));
        let deadline = waits.filter_map(|waiter| waiter.deadline).min().unwrap_or(u64::MAX);
        if self.active() == 0 {
            return deadline;
        }
        let rates = self.stocks.keys().filter_map(|id| self.ready_at(*id));
        let patience = self.waiters.iter().filter_map(|waiter| self.patience_ends(waiter));
        let patience = patience.filter(|ripe_at| *ripe_at > self.now);
        let raise = self.next_raise().map(|(due, _)| due);
        let timers = rates.chain(patience).chain(raise).chain(self.grace_ends());
        timers.chain([deadline, self.next_look, self.verdict_at]).min().unwrap_or(u64::MAX)
    }

    /// The rates that are ready by now.
    pub(super) fn ready(&self) -> BTreeSet<BudgetId> {
        let by_now = |id: &BudgetId| self.ready_at(*id).is_some_and(|at| at <= self.now);
        self.stocks.keys().copied().filter(by_now).collect()
    }
}
