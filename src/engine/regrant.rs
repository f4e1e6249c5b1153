//! The one way by which a waiter is granted.

use crate::ledger::{Books, Held};
use crate::model::{Amounts, BudgetId};
use crate::policy::Rank;

use super::queue::{Asks, State};
use super::{Effect, Ended, Engine, Turn, Verdict};

/// Accepted offers whose slots are freed per turn. A turn usually makes one offer, so two keep up with it.
const SWEEP: usize = 2;

/// Grants after which a turn lets go of the books for a moment, so that the fast path of other budgets is not shut out.
/// About 10 us.
const BREATH: usize = 64;

/// How often a waiter gives up its claim on a loan that has enough for it, while another blocks it.
const PATIENCE: u8 = 8;

/// How far a turn came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a turn that only paused for breath has to go on"]
pub enum Settled {
    /// Nobody who waits can be granted.
    Done,
    /// More is to be granted; call again at once. Only there to let others at the books in between.
    Breath,
    /// As many as allowed were examined in vain. The flags stay, and the next call, from any thread, goes on first
    /// (R11).
    LookAhead,
}

impl Engine {
    /// Regrants: examines the heads at dirty budgets, highest rank first, until nobody there can be granted.
    ///
    /// One pass in rank order is complete: a grant takes units and withdraws claims, and both matter only to lower
    /// ranks.
    pub fn settle(&mut self, turn: &mut Turn<'_>) -> Settled {
        self.sweep(turn);
        let settled = self.regrant(turn);
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
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        while self.dirty != 0 && self.regrant(turn) == Settled::Breath {}
    }

    fn regrant(&mut self, turn: &mut Turn<'_>) -> Settled {
        let (mut in_vain, mut granted) = (0, 0);
        while let Some(slot) = self.first_dirty() {
            if granted == BREATH {
                return Settled::Breath;
            }
            let blocked = self.blocked_head(turn.books, slot);
            if blocked == 0 {
                granted += 1;
                self.offer(turn, slot);
                continue;
            }
            if in_vain == self.settings.look_ahead {
                return Settled::LookAhead;
            }
            in_vain += 1;
            let filed = self.queue.get(slot).filed;
            let kept = blocked | self.lasting_claim(slot, filed & !blocked & !turn.books.rates());
            // What it no longer claims may help those behind it. Where it is filed it is the first, so all behind it
            // are blocked too.
            self.dirty |= filed;
            self.queue.file(slot, kept);
            self.dirty &= !kept;
        }
        Settled::Done
    }

    /// Which of the loans that no longer block a waiter it goes on claiming: none at first, so that others can use
    /// them; all once that has happened `PATIENCE` times, or lower ranks could take turns with the parts of its bundle
    /// for ever.
    fn lasting_claim(&mut self, slot: u32, loans: u64) -> u64 {
        let waiter = self.queue.get_mut(slot);
        if waiter.yielded >= PATIENCE {
            return loans;
        }
        waiter.yielded += u8::from(loans != 0);
        0
    }

    /// The highest-ranked of the heads at dirty budgets. Budgets where nobody is filed are clean.
    #[inline]
    fn first_dirty(&mut self) -> Option<u32> {
        if self.dirty.is_power_of_two() {
            let first = BudgetId::first_of(self.dirty).and_then(|id| self.queue.head(id));
            if first.is_none() {
                self.dirty = 0;
            }
            return first.map(|(_, slot)| slot);
        }
        let mut first: Option<(Rank, u32)> = None;
        for id in BudgetId::in_set(self.dirty) {
            match self.queue.head(id) {
                Some(head) => first = Some(first.map_or(head, |first| first.min(head))),
                None => self.dirty &= !id.bit(),
            }
        }
        first.map(|(_, slot)| slot)
    }

    /// The budgets that block a bundle of this rank: those with a higher-ranked waiter filed, and those with too
    /// little. Rates are tested last: while a loan blocks, no rate does (R7).
    pub(super) fn blocked(&self, books: &mut Books, amounts: &Amounts, rank: Rank, slot: Option<u32>) -> u64 {
        let claimed = |id: &BudgetId| self.queue.head(*id).is_some_and(|(first, of)| first < rank && Some(of) != slot);
        let claims = BudgetId::in_set(amounts.set()).filter(claimed).fold(0, |set, id| set | id.bit());
        let loans = claims & !books.rates();
        let short = books.short(amounts, self.now);
        if loans | (short & !books.rates()) != 0 { loans | (short & !books.rates()) } else { claims | short }
    }

    /// The same for a waiter.
    pub(super) fn blocked_slot(&self, books: &mut Books, slot: u32) -> u64 {
        let rank = self.queue.get(slot).rank;
        self.blocked(books, &self.queue.asks(slot).bundle(), rank, Some(slot))
    }

    /// The same for a waiter that is the first at one of its budgets. If it has only one, nobody's claim can block it.
    #[inline]
    fn blocked_head(&self, books: &mut Books, slot: u32) -> u64 {
        match self.queue.asks(slot) {
            Asks::One(id, units) => {
                if books.short_of(id, units, self.now) {
                    id.bit()
                } else {
                    0
                }
            }
            Asks::Many(amounts) => self.blocked(books, amounts, self.queue.get(slot).rank, Some(slot)),
        }
    }

    /// Takes what a waiter asks for, which blocks it nowhere.
    #[inline]
    pub(super) fn take(&self, books: &mut Books, slot: u32) -> Held {
        let level = self.queue.get(slot).rank.level();
        match self.queue.asks(slot) {
            Asks::One(id, units) => books.take_one(id, units, level),
            Asks::Many(amounts) => books.take(amounts, level),
        }
    }

    /// Grants a waiter its bundle and lays it on the board.
    fn offer(&mut self, turn: &mut Turn<'_>, slot: u32) {
        let held = self.take(turn.books, slot);
        let waiter = *self.queue.get(slot);
        // Whoever is behind it may be next; what it was first at is examined again.
        self.dirty |= waiter.filed;
        self.uncount(slot);
        if let Some(deadline) = self.queue.deadline(slot) {
            self.deadlines.remove(&deadline);
        }
        // Doubling per expiry, at most 2^16 times the first.
        let patience = self.settings.offer_expiry.saturating_mul(1 << waiter.expiries.min(16));
        let expiry = self.now.saturating_add(patience);
        let offered = self.queue.get_mut(slot);
        offered.state = State::Offered;
        offered.expiry = expiry;
        self.next_expiry = self.next_expiry.min(expiry);
        self.offers.push_back(slot);
        turn.board.offer(slot, held.place().unwrap_or(0));
        self.effects.push(Effect::Offer {
            slot,
            level: waiter.rank.level(),
            budget: BudgetId::first_of(waiter.filed).unwrap_or(BudgetId::GPU),
            waited: self.now - waiter.since,
        });
    }

    /// Makes a waiter count: sets the flags of every budget it names (R1) and files it where it is blocked.
    pub(super) fn activate(&mut self, books: &mut Books, slot: u32, blocked: u64) {
        let set = self.queue.set(slot);
        for id in BudgetId::in_set(set) {
            self.naming[id.index()] += 1;
        }
        if set & !books.shut() != 0 {
            books.set_shut(set, true);
        }
        self.waiting += 1;
        self.queue.get_mut(slot).state = State::Waiting;
        self.queue.file(slot, blocked);
    }

    /// Makes a waiter count no more. Where it came first, those behind it may be next.
    pub(super) fn deactivate(&mut self, slot: u32) {
        for id in BudgetId::in_set(self.queue.get(slot).filed) {
            if self.queue.head(id).is_some_and(|(_, first)| first == slot) {
                self.dirty |= id.bit();
            }
        }
        self.uncount(slot);
    }

    /// Takes a waiter out of the lanes and the counts.
    #[inline]
    fn uncount(&mut self, slot: u32) {
        self.queue.file(slot, 0);
        for id in BudgetId::in_set(self.queue.set(slot)) {
            self.naming[id.index()] -= 1;
            if self.naming[id.index()] == 0 {
                self.unnamed |= id.bit();
            }
        }
        self.waiting -= 1;
    }

    /// Ends a wait without a grant; the slot stays until the owner collects the reason. What blocked it is noted now:
    /// by the time the owner asks, other budgets may be short.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, slot: u32, why: Verdict) {
        let asks = self.queue.asks(slot).bundle();
        let waiter = *self.queue.get(slot);
        let above = asks.iter().find(|&(id, units)| units > turn.books.limit(id)).map(|(id, _)| id.bit());
        let blocked = match (why, waiter.state) {
            (Verdict::NeverFits, _) => above.unwrap_or(waiter.filed),
            (_, State::Waiting) => waiter.filed,
            _ => turn.books.short(&asks, self.now),
        };
        if waiter.state == State::Waiting {
            self.deactivate(slot);
        }
        self.queue.get_mut(slot).state = State::Ended;
        if let Some(deadline) = self.queue.deadline(slot) {
            self.deadlines.remove(&deadline);
        }
        let short = self.short_at(turn.books, &asks, blocked);
        self.ended.insert(slot, Ended { why, waited: self.now - waiter.since, short });
        turn.board.end(slot);
        self.effects.push(Effect::End { slot, level: waiter.rank.level(), why });
    }

    /// Takes a grant back that nobody took up.
    pub(super) fn undo(&mut self, books: &mut Books, slot: u32, place: u32) {
        let amounts = self.queue.asks(slot).bundle();
        let held = Held::offered(&amounts, books.rates(), place, self.queue.get(slot).rank.level());
        books.undo(&amounts, held);
        self.dirty |= self.queue.set(slot);
    }

    /// Frees a slot.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(deadline) = self.queue.deadline(slot) {
            self.deadlines.remove(&deadline);
        }
        self.ended.remove(&slot);
        self.queue.remove(slot);
    }

    /// Frees the slots of a few offers that were taken up.
    fn sweep(&mut self, turn: &Turn<'_>) {
        for _ in 0..SWEEP {
            let Some(slot) = self.offers.pop_front() else { return };
            if turn.board.accepted(slot) {
                self.queue.remove(slot);
            } else {
                self.offers.push_back(slot);
            }
        }
    }

    /// Frees the slots of all offers that were taken up.
    pub fn sweep_all(&mut self, turn: &Turn<'_>) {
        for _ in 0..self.offers.len() {
            let Some(slot) = self.offers.pop_front() else { return };
            if turn.board.accepted(slot) {
                self.queue.remove(slot);
            } else {
                self.offers.push_back(slot);
            }
        }
    }
}
