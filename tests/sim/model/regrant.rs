//! The turn: who is examined, in which order, and what comes of it.

use bursar::BudgetId;

use crate::ask::{Asks, units_of};
use crate::event::{Seen, Why};

use super::{Model, Path, Rank, SPIN, State, Waiter};

/// Grants in one go.
pub(super) const BREATH: usize = 64;

/// Why a filing was looked at in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InTheWay {
    /// What was in the way before.
    TheSame,
    Another(BudgetId),
    Cap,
    /// Others were asked to end first: it is to be looked at again.
    Preempted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    Done,
    Breath,
    LookAhead,
}

/// A budget, or the cap of a module there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Budget(BudgetId),
    Cap(u64, BudgetId),
}

/// A filing: rank, alternative, waiter, place.
pub(super) type Filing = (Rank, usize, usize, Place);

impl Model {
    /// Something changed at a budget that concerns those from rank `from` on.
    pub(super) fn mark(&mut self, id: BudgetId, from: Rank) {
        self.mark_place(Place::Budget(id), from);
    }

    pub(super) fn mark_place(&mut self, place: Place, from: Rank) {
        let marked = self.dirty.entry(place).or_insert((from, 0));
        *marked = (from, 0).min(*marked);
    }

    pub(super) fn settle(&mut self) {
        self.finish_turn();
        self.told = self.seen.len();
    }

    fn finish_turn(&mut self) {
        for turns in 0.. {
            assert!(turns < SPIN, "a turn of the model has no end");
            self.look_at_modules();
            self.inherit();
            match self.regrant() {
                Settled::Done if self.consider_holders() || self.modules_have_changed() || self.preempt() => {}
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
        if self.settings.by_ratio {
            return self.regrant_by_ratio();
        }
        let (mut in_vain, mut granted) = (0, 0);
        let mut done: Option<(Rank, usize)> = None;
        while let Some(filing) = self.next(done) {
            let (rank, alternative, at, place) = filing;
            if granted == BREATH {
                return Settled::Breath;
            }
            let Err(in_the_way) = self.examine_at(at, alternative, place) else {
                granted += 1;
                done = Some((rank, usize::MAX));
                continue;
            };
            if in_the_way == InTheWay::Preempted {
                return Settled::Breath;
            }
            if in_vain == self.settings.look_ahead {
                self.dirty.values_mut().for_each(|from| *from = (rank, alternative).max(*from));
                return Settled::LookAhead;
            }
            in_vain += 1;
            done = Some((rank, alternative));
            self.react(at, alternative, in_the_way);
        }
        Settled::Done
    }

    /// What follows from a look in vain.
    pub(super) fn react(&mut self, at: usize, alternative: usize, in_the_way: InTheWay) {
        match in_the_way {
            InTheWay::TheSame => {}
            InTheWay::Another(to) => {
                self.file(at, alternative, to);
                // Whoever took what it had found here has passed it.
                self.pass(at);
            }
            InTheWay::Cap => self.park(at, alternative),
            InTheWay::Preempted => {}
        }
    }

    /// The first filing at a dirty place that this turn has not looked at. Places with nothing to look at become clean.
    pub(super) fn next(&mut self, done: Option<(Rank, usize)>) -> Option<Filing> {
        let mut first: Option<Filing> = None;
        for (place, from) in self.dirty.clone() {
            let line = if self.is_too_little_for_all(place) { Vec::new() } else { self.line_of(place) };
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

    /// Whether a loan has less than anybody asks for who is filed there, or a cap leaves less.
    pub(super) fn is_too_little_for_all(&self, place: Place) -> bool {
        match place {
            Place::Budget(id) => !self.stocks[&id].is_rate() && self.stocks[&id].free(self.now) < self.least(id),
            Place::Cap(number, id) => !self.has_room_for_any(number, id),
        }
    }

    pub(super) fn examine_at(&mut self, at: usize, alternative: usize, place: Place) -> Result<(), InTheWay> {
        match place {
            Place::Budget(id) => self.examine(at, alternative, id),
            Place::Cap(..) => self.examine_kept(at, alternative),
        }
    }

    /// Grants if nothing is in the way.
    pub(super) fn examine(&mut self, at: usize, alternative: usize, place: BudgetId) -> Result<(), InTheWay> {
        if self.is_capped(&self.waiters[at], alternative) {
            return Err(InTheWay::Cap);
        }
        loop {
            let waiter = &self.waiters[at];
            let (low, who) = (self.low(waiter, alternative), self.who(waiter));
            if self.blocks(place, units_of(low, place), &who) {
                self.waiters[at].held_back[alternative] = None;
                self.harden_if_due(at);
                return Err(InTheWay::TheSame);
            }
            if let Some(elsewhere) = self.witness(low, &who) {
                return Err(InTheWay::Another(elsewhere));
            }
            let Some(path) = self.path(waiter, alternative) else {
                return Err(self.keep_for_safety(at, alternative, place));
            };
            let (waiter, bundle) = (waiter.clone(), waiter.ladders[path.0][path.1].clone());
            if !self.harden_due(&bundle, &waiter) {
                if self.preempt_before(&waiter, &bundle) {
                    return Err(InTheWay::Preempted);
                }
                self.offer(at, path, place);
                return Ok(());
            }
        }
    }

    fn offer(&mut self, at: usize, path: Path, budget: BudgetId) {
        let waiter = self.waiters[at].clone();
        let bundle = &waiter.ladders[path.0][path.1];
        let kept = self.ids(&self.passed_by_entry(&waiter, bundle));
        self.take_fairly(&waiter, path);
        self.leave(at);
        let expiry = self.now + self.settings.offer_expiry * (1 << waiter.expiries.min(16));
        self.waiters[at].state = State::Offered { expiry, path };
        self.next_look = self.next_look.min(expiry);
        let waited = self.now - waiter.since;
        self.seen.push(Seen::Offered { id: waiter.id, level: waiter.level, budget, waited });
        self.forget_bounds();
        self.granted(bundle, waiter.rank, &kept);
    }

    pub(super) fn end(&mut self, at: usize, why: Why) {
        let waiter = self.waiters[at].clone();
        let short = self.short_at(&waiter);
        if waiter.state == State::Waiting {
            self.leave(at);
        }
        // It is not among those that wait for what it was short of.
        self.waiters[at].state = State::Dormant;
        self.forget_gone();
        let short = match why {
            Why::NeverFits => self.above_limit(&waiter),
            _ => self.figures(short.0, short.1),
        };
        let waited = self.now - waiter.since;
        self.waiters[at].state = State::Ended { why, waited, short };
        self.forget_bounds();
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
        self.unlend(self.waiters[at].id);
        let (tag, asks) = (self.waiters[at].tag, self.offered(at).to_vec());
        let is_bounded = self.is_bounded(tag) && self.names_a_loan(&asks);
        self.mark_caps(tag, &asks);
        self.waiters[at].state = State::Dormant;
        self.forget_gone();
        if is_bounded {
            self.look_at_unsafe();
        }
    }

    /// The bundle of an offer; nothing in any other state.
    pub(super) fn offered(&self, at: usize) -> &[(BudgetId, u64)] {
        self.bundle_of(&self.waiters[at])
    }

    pub(super) fn bundle_of<'a>(&self, waiter: &'a Waiter) -> &'a [(BudgetId, u64)] {
        match waiter.state {
            State::Offered { path: (alternative, rung), .. } => &waiter.ladders[alternative][rung],
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
