//! The one way by which a waiter is granted.

use std::collections::BTreeMap;

use crate::ledger::Held;
use crate::model::BudgetId;
use crate::policy::Rank;

use super::caps::Place;
use super::lines::{Filing, Key};
use super::queue::{Asks, State};
use super::{Effect, Engine, Turn};

/// Accepted offers whose slots are freed per offer, so that it is more than come.
const SWEEP: usize = 2;

/// Grants after which a turn lets go of the books for a moment, so that the fast path of other budgets is not shut out.
/// About 10 us.
pub(super) const BREATH: usize = 64;

/// How far a turn came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a turn that only paused for breath has to go on"]
pub enum Settled {
    /// Nobody who waits can be granted.
    Done,
    /// More is to be granted, or looked at from the beginning; call again at once. Only there to let others at the
    /// books in between.
    Breath,
    /// As many as allowed were examined in vain. The flags stay, and the next call, from any thread, goes on first
    /// (R11).
    LookAhead,
}

/// What came of looking at a filing.
pub(super) enum Found {
    Granted,
    /// It is blocked; if not where it stands, by this.
    InVain(Option<BudgetId>),
    /// The cap of its module keeps it.
    Capped,
    /// Somebody was asked to end for another whom it would have passed. It is to be looked at again, after that one.
    Asked,
}

/// The budgets where something changed, and from where in their lines on that matters.
#[derive(Debug)]
pub(super) struct Dirty {
    set: u64,
    /// Who comes up to here was looked at since.
    after: [Key; BudgetId::LIMIT],
    /// Who was looked at last there: where to go on without a walk, if that one still stands there.
    last: [Option<Filing>; BudgetId::LIMIT],
    /// The same of the caps of modules: those that have more room, by module and budget, and who was looked at.
    caps: BTreeMap<(u64, BudgetId), Key>,
}

impl Dirty {
    pub(super) fn none() -> Self {
        let after = [(Rank::BEFORE_ALL, 0); BudgetId::LIMIT];
        Dirty { set: 0, after, last: [None; BudgetId::LIMIT], caps: BTreeMap::new() }
    }

    /// Units came back, or may be taken otherwise than before.
    #[inline]
    pub(super) fn mark(&mut self, set: u64) {
        self.set |= set;
        for id in BudgetId::in_set(set) {
            self.after[id.index()] = (Rank::BEFORE_ALL, 0);
        }
    }

    #[inline]
    pub(super) fn is_clean(&self) -> bool {
        self.set == 0 && self.caps.is_empty()
    }

    pub(super) fn note_last(&mut self, place: Place, filing: Filing) {
        if let Place::Budget(id) = place {
            self.last[id.index()] = Some(filing);
        }
    }

    /// A cap leaves more room, which matters from a filing on.
    pub(super) fn mark_cap(&mut self, module: u64, id: BudgetId, key: Key) {
        let before = just_before(key);
        let after = self.caps.entry((module, id)).or_insert(before);
        *after = before.min(*after);
    }

    /// A module is gone, and its caps with it.
    pub(super) fn forget_caps(&mut self, module: u64) {
        self.caps.retain(|&(of, _), _| of != module);
    }
}

/// What comes before a filing, with nothing in between.
fn just_before((rank, alternative): Key) -> Key {
    if alternative > 0 { (rank, alternative - 1) } else { (rank.before(), u8::MAX) }
}

impl Engine {
    /// A change that matters from a rank on.
    pub(super) fn mark_from(&mut self, id: BudgetId, rank: Rank) {
        self.mark_from_filing(id, (rank, 0));
    }

    /// A change that matters from a filing on.
    pub(super) fn mark_from_filing(&mut self, id: BudgetId, key: Key) {
        let after = &mut self.dirty.after[id.index()];
        let before = just_before(key);
        *after = if self.dirty.set & id.bit() == 0 { before } else { before.min(*after) };
        self.dirty.set |= id.bit();
    }

    /// Regrants: looks at those who stand in line at dirty budgets, in order of rank, until nobody there can be
    /// granted.
    ///
    /// One pass in that order is complete: a grant takes units and withdraws a claim, and both matter only to lower
    /// ranks.
    #[inline]
    pub fn settle(&mut self, turn: &mut Turn<'_>) -> Settled {
        self.look_at_modules(turn);
        self.inherit(turn.books);
        let regrants = !self.dirty.is_clean();
        let settled = if regrants { self.regrant(turn) } else { Settled::Done };
        if settled == Settled::Done && (self.consider_holders(turn, regrants) || self.modules.have_changed()) {
            // What holders may have, or what a cap leaves room for, is to be looked at.
            return Settled::Breath;
        }
        if settled == Settled::Done && self.preempt(turn) {
            // Somebody goes first in its level now.
            return Settled::Breath;
        }
        if self.unnamed != 0 {
            let gone = std::mem::take(&mut self.unnamed);
            let nobody = |id: &BudgetId| self.naming[id.index()] == 0;
            turn.books.set_shut(BudgetId::in_set(gone).filter(nobody).fold(0, |set, id| set | id.bit()), false);
        }
        #[cfg(debug_assertions)]
        if settled == Settled::Done {
            self.assert_sound(turn.books);
        }
        settled
    }

    /// Finishes what an earlier turn left, before anybody else is looked at.
    #[inline]
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        while !self.dirty.is_clean() && self.regrant(turn) == Settled::Breath {}
    }

    fn regrant(&mut self, turn: &mut Turn<'_>) -> Settled {
        if self.holds.is_some() {
            return self.regrant_by_ratio(turn);
        }
        let granted = self.regrant_heads(turn);
        if self.dirty.is_clean() { Settled::Done } else { self.regrant_all(turn, granted) }
    }

    /// Looks at everybody whom what has changed may concern; so many were granted already.
    fn regrant_all(&mut self, turn: &mut Turn<'_>, mut granted: usize) -> Settled {
        let mut in_vain = 0;
        let mut at = (Rank::BEFORE_ALL, 0);
        while let Some((key, filing, place)) = self.next_dirty(turn, at) {
            if granted == BREATH {
                return Settled::Breath;
            }
            match self.look_where(turn, filing, place) {
                Found::Granted => {
                    granted += 1;
                    at = (key.0, u8::MAX);
                }
                Found::InVain(_) | Found::Capped if in_vain == self.settings.look_ahead => {
                    self.leave_off_before(key);
                    return Settled::LookAhead;
                }
                Found::InVain(instead) => {
                    in_vain += 1;
                    at = key;
                    instead.into_iter().for_each(|instead| self.move_to(turn, filing, instead));
                }
                Found::Capped => {
                    in_vain += 1;
                    at = key;
                    self.park(turn, filing);
                }
                Found::Asked => return Settled::Breath,
            }
            self.dirty.note_last(place, filing);
        }
        Settled::Done
    }

    /// The commonest turn by far: one budget is dirty from the start of its line on, and goes to those who come first
    /// there until nothing is left of it. How many were granted; whatever this does not finish is left as it was.
    #[inline]
    fn regrant_heads(&mut self, turn: &mut Turn<'_>) -> usize {
        let mut granted = 0;
        if let Some(id) = BudgetId::first_of(self.dirty.set)
            && self.dirty.after[id.index()].0 == Rank::BEFORE_ALL
            && self.dirty.caps.is_empty()
        {
            while granted < BREATH && self.dirty.set == id.bit() {
                let head = if self.nobody_can(turn, id) { None } else { self.queue.head(id) };
                let Some((rank, filing)) = head else {
                    self.dirty.set = 0;
                    break;
                };
                let Asks::One(_, units) = self.queue.asks(filing.slot(), 0) else { break };
                if self.blocks(turn.books, id, units, rank.into()) {
                    break;
                }
                self.offer_head(turn, filing.slot(), id, units);
                granted += 1;
            }
        }
        granted
    }

    /// The first in line at any dirty budget or cap that comes after `at`. Those without one are clean.
    #[inline]
    pub(super) fn next_dirty(&mut self, turn: &Turn<'_>, at: Key) -> Option<(Key, Filing, Place)> {
        let mut first = if self.dirty.caps.is_empty() { None } else { self.next_at_a_cap(at) };
        for id in BudgetId::in_set(self.dirty.set) {
            let after = self.dirty.after[id.index()].max(at);
            let found = if self.nobody_can(turn, id) {
                None
            } else if after.0 == Rank::BEFORE_ALL {
                self.queue.head(id)
            } else {
                self.queue.next(id, after, self.dirty.last[id.index()])
            };
            match found {
                None => self.dirty.set &= !id.bit(),
                Some((rank, filing)) => {
                    let key = (rank, filing.alternative());
                    if first.is_none_or(|(first, ..)| key < first) {
                        first = Some((key, filing, Place::Budget(id)));
                    }
                }
            }
        }
        first
    }

    fn next_at_a_cap(&mut self, at: Key) -> Option<(Key, Filing, Place)> {
        let (modules, mut first) = (&self.modules, None);
        self.dirty.caps.retain(|&(module, id), after| {
            let next = modules.next_kept(module, id, at.max(*after));
            let found = next.map(|(key, filing)| (key, filing, Place::Cap(module, id)));
            first = [first, found].into_iter().flatten().min_by_key(|&(key, ..)| key);
            found.is_some()
        });
        first
    }

    /// Whether a loan has too little for anybody in its line. Saves a walk along a line of equal requests.
    #[inline]
    pub(super) fn nobody_can(&self, turn: &Turn<'_>, id: BudgetId) -> bool {
        turn.books.rates() & id.bit() == 0 && turn.books.loan_free(id) < self.queue.lines.least(id).max(1)
    }

    pub(super) fn leave_off_before(&mut self, key: Key) {
        self.leave_behind(just_before(key));
    }

    /// Nobody up to here is to be looked at again for what is known so far.
    pub(super) fn leave_behind(&mut self, at: Key) {
        for id in BudgetId::in_set(self.dirty.set) {
            let after = &mut self.dirty.after[id.index()];
            *after = at.max(*after);
        }
        self.dirty.caps.values_mut().for_each(|after| *after = at.max(*after));
    }

    /// Whether a place has too little for anybody in its line.
    pub(super) fn is_too_little_for_all(&self, turn: &Turn<'_>, place: Place) -> bool {
        match place {
            Place::Budget(id) => self.nobody_can(turn, id),
            Place::Cap(module, id) => !self.modules.has_room_for_any(module, id),
        }
    }

    /// Whether a filing stands there.
    pub(super) fn stands(&self, filing: Filing, place: Place) -> bool {
        match place {
            Place::Budget(id) => self.queue.place(filing) == Some(id),
            Place::Cap(_, id) => self.keeper(filing) == Some(id),
        }
    }

    /// Looks at a filing where it stands.
    #[inline]
    pub(super) fn look_where(&mut self, turn: &mut Turn<'_>, filing: Filing, place: Place) -> Found {
        match place {
            Place::Budget(id) => self.look_at(turn, filing, id),
            Place::Cap(..) => self.look_at_kept(turn, filing),
        }
    }

    /// Grants a filing if nothing blocks it.
    #[inline]
    pub(super) fn look_at(&mut self, turn: &mut Turn<'_>, filing: Filing, place: BudgetId) -> Found {
        let (slot, alternative) = (filing.slot(), filing.alternative());
        let rank = self.queue.get(slot).rank;
        if self.is_capped(filing) {
            return Found::Capped;
        }
        loop {
            if self.blocks(turn.books, place, self.queue.asks(slot, alternative).get(place), self.claimant(slot)) {
                if self.parties.are_bounded() {
                    // It may be units that keep it now, and no more safety.
                    self.held_back.remove(filing);
                    self.harden_if_due(turn, slot);
                }
                return Found::InVain(None);
            }
            if let Some(blocking) = self.blocking_filing(turn.books, filing) {
                return Found::InVain(Some(blocking));
            }
            self.fit(turn.books, filing);
            if self.grant_endangers(turn.books, slot) {
                // Out of the line of a rate.
                let metered = turn.books.rates() & place.bit() != 0;
                let instead = self.first_loan(turn.books, filing).filter(|_| metered);
                self.note_unsafe(turn.books, filing, instead.unwrap_or(place));
                return Found::InVain(instead);
            }
            let set = self.queue.granted(slot).set();
            if !self.protect(turn, set, rank, self.entry_of(turn.books, slot, set)) {
                if self.preempts_first(turn, self.tag(slot), self.queue.get(slot).base, set, rank) {
                    return Found::Asked;
                }
                break;
            }
        }
        self.offer(turn, filing, place);
        Found::Granted
    }

    /// Moves a filing to another line. That it can no longer be served there is somebody's doing, and counts as a pass.
    pub(super) fn move_to(&mut self, turn: &mut Turn<'_>, filing: Filing, place: BudgetId) {
        if self.held_back.place(filing) != Some(place) {
            self.held_back.remove(filing);
        }
        self.queue.leave(filing);
        self.queue.join(filing, place);
        self.pass(turn, filing.slot());
    }

    /// Takes out of the books what a waiter is granted, of whom nothing is blocked.
    #[inline]
    pub(super) fn take(&mut self, turn: &mut Turn<'_>, slot: u32, alternative: u8) -> Held {
        let waiter = self.queue.get(slot);
        let level = waiter.base;
        let held = match self.queue.flexible(slot) {
            None => match self.queue.asks(slot, alternative) {
                Asks::One(id, units) => turn.books.take_one(id, units, level),
                Asks::Many(amounts) => turn.books.take(amounts, level),
            },
            Some(flexible) => {
                let (path, amounts) = &flexible.granted;
                turn.books.take_flexibly(amounts, *path, flexible.terms.tag, level)
            }
        };
        if held.is_tagged() {
            let tag = self.tag(slot);
            self.gain(turn, tag, &self.queue.granted(slot).bundle());
            if tag.preemptible {
                self.lend(turn.books, held, self.arrived(slot));
            }
        }
        held
    }

    /// Grants a waiter and lays the grant on the board.
    fn offer(&mut self, turn: &mut Turn<'_>, filing: Filing, place: BudgetId) {
        let slot = filing.slot();
        let set = self.queue.granted(slot).set();
        let kept = self.passed_by_entry(turn, self.entry_of(turn.books, slot, set));
        let held = self.take(turn, slot, filing.alternative());
        let rank = self.queue.get(slot).rank;
        self.lay_down(turn, slot, place, held);
        self.granted(turn, set, rank, &kept);
    }

    /// The same for one that belongs to nobody and asks for one budget only, in whose line it is the first: it passes
    /// nobody.
    #[inline]
    fn offer_head(&mut self, turn: &mut Turn<'_>, slot: u32, place: BudgetId, units: u64) {
        let (rank, level) = (self.queue.get(slot).rank, self.queue.get(slot).base);
        let held = turn.books.take_one(place, units, level);
        self.lay_down(turn, slot, place, held);
        self.served(rank);
    }

    /// What a waiter was granted lies on the board until it is taken up.
    #[inline]
    fn lay_down(&mut self, turn: &mut Turn<'_>, slot: u32, place: BudgetId, held: Held) {
        self.deactivate(slot);
        self.forget_timers(slot);
        let waiter = self.queue.get_mut(slot);
        waiter.state = State::Offered;
        // Doubling per expiry, at most 2^16 times the first.
        let patience = self.settings.offer_expiry.saturating_mul(1 << waiter.expiries.min(16));
        let (level, waited) = (waiter.base, self.now - waiter.since);
        let expiry = self.now.saturating_add(patience);
        self.next_expiry = self.next_expiry.min(expiry);
        self.sweep(turn, SWEEP);
        self.offers.push_back((expiry, slot));
        turn.board.offer(slot, held.place().unwrap_or(0));
        self.effects.push(Effect::Offer { slot, level, budget: place, waited });
    }

    /// Frees the slots of a few offers that were taken up.
    pub(super) fn sweep(&mut self, turn: &Turn<'_>, most: usize) {
        for _ in 0..most.min(self.offers.len()) {
            let Some((expiry, slot)) = self.offers.pop_front() else { return };
            if turn.board.accepted(slot) {
                self.queue.remove(slot);
            } else {
                self.offers.push_back((expiry, slot));
            }
        }
    }

    /// Frees the slots of all offers that were taken up.
    pub fn sweep_all(&mut self, turn: &Turn<'_>) {
        self.sweep(turn, usize::MAX);
    }
}
