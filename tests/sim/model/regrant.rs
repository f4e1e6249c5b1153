//! The turn: who is examined, in which order, and what comes of it.

use bursar::BudgetId;

use crate::ask::{Asks, units_of};
use crate::event::{Seen, Why};

use super::{Model, Path, Rank, State};

/// Grants in one go.
const BREATH: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Done,
    Breath,
    LookAhead,
}

/// A filing: rank, alternative, waiter, place.
type Filing = (Rank, usize, usize, BudgetId);

impl Model {
    /// Something changed at a place that concerns those from rank `from` on.
    pub(super) fn mark(&mut self, id: BudgetId, from: Rank) {
        let marked = self.dirty.entry(id).or_insert((from, 0));
        *marked = (from, 0).min(*marked);
    }

    pub(super) fn settle(&mut self) {
        loop {
            match self.regrant() {
                Settled::Done => return,
                Settled::Breath => {}
                Settled::LookAhead => return self.seen.push(Seen::LookAhead),
            }
        }
    }

    /// Finishes what an earlier turn left, as far as a turn may look.
    pub(super) fn resume(&mut self) {
        while self.regrant() == Settled::Breath {}
    }

    fn regrant(&mut self) -> Settled {
        let (mut in_vain, mut granted) = (0, 0);
        let mut done: Option<(Rank, usize)> = None;
        while let Some(filing) = self.next(done) {
            let (rank, alternative, at, place) = filing;
            if granted == BREATH {
                return Settled::Breath;
            }
            let Err(moved) = self.examine(at, alternative, place) else {
                granted += 1;
                done = Some((rank, usize::MAX));
                continue;
            };
            if in_vain == self.settings.look_ahead {
                self.dirty.values_mut().for_each(|from| *from = (rank, alternative).max(*from));
                return Settled::LookAhead;
            }
            in_vain += 1;
            done = Some((rank, alternative));
            if let Some(to) = moved {
                self.unfile(at, alternative);
                self.file(at, alternative, to);
                // Whoever took what it had found here has passed it.
                self.pass(at);
            }
        }
        Settled::Done
    }

    /// The first filing at a dirty place that this turn has not looked at. Places with nothing to look at become clean.
    fn next(&mut self, done: Option<(Rank, usize)>) -> Option<Filing> {
        let mut first: Option<Filing> = None;
        for (place, from) in self.dirty.clone() {
            let least = self.least(place);
            let stock = &self.stocks[&place];
            let line = if !stock.is_rate() && stock.free(self.now) < least { Vec::new() } else { self.line(place) };
            let to_look_at = |(rank, alternative, _): &(Rank, usize, usize)| {
                (*rank, *alternative) >= from && done.is_none_or(|done| (*rank, *alternative) > done)
            };
            match line.into_iter().find(to_look_at) {
                Some((rank, alternative, at)) => {
                    let filing = (rank, alternative, at, place);
                    first = Some(first.map_or(filing, |first| first.min(filing)));
                }
                None => drop(self.dirty.remove(&place)),
            }
        }
        first
    }

    /// Grants if nothing blocks. Otherwise in vain: the place to move to, if it is another that blocks now.
    fn examine(&mut self, at: usize, alternative: usize, place: BudgetId) -> Result<(), Option<BudgetId>> {
        loop {
            let waiter = &self.waiters[at];
            let low = self.low(waiter, alternative);
            if self.blocks(place, units_of(low, place), waiter.rank) {
                return Err(None);
            }
            if let Some(elsewhere) = self.witness(low, waiter.rank) {
                return Err(Some(elsewhere));
            }
            let path = self.path(waiter, alternative).expect("nothing blocks its low ask");
            let bundle = waiter.ladders[path.0][path.1].clone();
            if !self.harden_due(&bundle, self.waiters[at].rank) {
                self.offer(at, path, place);
                return Ok(());
            }
        }
    }

    fn offer(&mut self, at: usize, path: Path, budget: BudgetId) {
        let waiter = self.waiters[at].clone();
        self.grant(&waiter, path);
        self.leave(at);
        let expiry = self.now + self.settings.offer_expiry * (1 << waiter.expiries.min(16));
        self.waiters[at].state = State::Offered { expiry, path };
        self.next_look = self.next_look.min(expiry);
        let waited = self.now - waiter.since;
        self.seen.push(Seen::Offered { id: waiter.id, level: waiter.level, budget, waited });
    }

    pub(super) fn end(&mut self, at: usize, why: Why) {
        let waiter = self.waiters[at].clone();
        self.leave(at);
        // It is not among those that wait for what it was short of.
        self.waiters[at].state = State::Dormant;
        let short = if why == Why::NeverFits { self.above_limit(&waiter) } else { self.short_of(&waiter) };
        let waited = self.now - waiter.since;
        self.waiters[at].state = State::Ended { why, waited, short };
        self.seen.push(Seen::Ended { id: waiter.id, level: waiter.level, why });
    }

    /// Takes a grant back that nobody took up.
    pub(super) fn undo(&mut self, at: usize) {
        let now = self.now;
        for (id, units) in self.offered(at).to_vec() {
            self.stock(id).undo(units, now);
            self.mark(id, super::BEGINNING);
        }
        self.leases -= 1;
    }

    /// The bundle of an offer; nothing in any other state.
    pub(super) fn offered(&self, at: usize) -> &[(BudgetId, u64)] {
        match self.waiters[at].state {
            State::Offered { path: (alternative, rung), .. } => &self.waiters[at].ladders[alternative][rung],
            _ => &[],
        }
    }

    pub(super) fn take(&mut self, asks: &Asks, now: u64) {
        for (id, units) in asks {
            self.stock(*id).take(*units, now);
        }
        self.leases += 1;
    }
}
