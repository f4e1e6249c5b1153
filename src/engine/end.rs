//! How waits end other than by a grant, and how grants are undone.

use crate::ledger::{Books, Held};
use crate::model::{Amounts, BudgetId};

use super::lines::Filing;
use super::queue::State;
use super::{Effect, Ended, Engine, Short, Turn, Verdict};

impl Engine {
    /// The owner gives up, in whatever state the waiter is (C5).
    pub fn cancel(&mut self, turn: &mut Turn<'_>, slot: u32) {
        self.advance(turn);
        let level = self.queue.get(slot).base;
        match self.queue.get(slot).state {
            State::Waiting => self.deactivate(slot),
            State::Offered => {
                // Taken up, it would be a lease and nothing to cancel. Either way the sweep frees the slot.
                if let Some(place) = turn.board.discard(slot) {
                    self.undo(turn, slot, place);
                    self.parties.count_use(self.tag(slot), false);
                    self.effects.push(Effect::Cancelled { level });
                }
                return;
            }
            State::Dormant => self.dormant -= 1,
            State::Ended => return self.forget(slot),
            State::Free => return,
        }
        self.effects.push(Effect::Cancelled { level });
        self.parties.count_use(self.tag(slot), false);
        self.forget(slot);
    }

    /// The same for a waiter that nobody waits for, nobody inherits from and nothing is due for, and that is not the
    /// last at any of its budgets. `false`, and nothing happened, when that is not so.
    pub fn cancel_quietly(&mut self, slot: u32) -> bool {
        let waiter = self.queue.get(slot);
        let plain = waiter.state == State::Waiting && !waiter.hard && self.queue.flexible(slot).is_none();
        let plain = plain && self.parties.is_empty();
        if !plain || BudgetId::in_set(self.queue.set(slot)).any(|id| self.naming[id.index()] < 2) {
            return false;
        }
        let level = waiter.base;
        self.deactivate(slot);
        self.effects.push(Effect::Cancelled { level });
        self.forget(slot);
        true
    }

    /// Why a wait ended; frees the slot. `None` when it has not ended.
    pub fn collect(&mut self, slot: u32) -> Option<Ended> {
        let ended = self.ended.remove(&slot)?;
        self.forget(slot);
        Some(ended)
    }

    /// Makes a waiter count no more, and claim nothing.
    #[inline]
    pub(super) fn deactivate(&mut self, slot: u32) {
        self.withdraw(slot);
        if self.queue.flexible(slot).is_some() {
            self.note_wait(slot, false);
        }
        for alternative in 0..self.queue.alternatives(slot) {
            self.queue.leave(Filing::new(slot, alternative));
        }
        self.leave_held_back(slot);
        // Where others are held back: it is not among them any more.
        self.let_in(slot, self.queue.get(slot).rank);
        self.note_guard(slot);
        if let Some(own) = self.queue.flexible_mut(slot).and_then(|flexible| flexible.own_rank.take()) {
            self.queue.get_mut(slot).rank = own;
        }
        for id in BudgetId::in_set(self.queue.set(slot)) {
            self.naming[id.index()] -= 1;
            if self.naming[id.index()] == 0 {
                self.unnamed |= id.bit();
            }
        }
        self.waiting -= 1;
        self.waiting_at[self.queue.get(slot).base.index()] -= 1;
    }

    /// Ends a wait without a grant; the slot stays until the owner collects the reason. What blocked it is noted now:
    /// by the time the owner asks, other budgets may be short.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>, slot: u32, why: Verdict) {
        let waiter = *self.queue.get(slot);
        self.ripen_if_due(slot);
        let filed = self.queue.filings(slot).next();
        let blocked = match (why, filed) {
            (Verdict::NeverFits, _) => None,
            (_, Some((filing, place))) => Some((place, self.queue.asks(slot, filing.alternative()).get(place))),
            (_, None) => Some(self.blocked_now(turn.books, slot)),
        };
        match waiter.state {
            State::Waiting => self.deactivate(slot),
            State::Dormant => self.dormant -= 1,
            _ => {}
        }
        self.queue.get_mut(slot).state = State::Ended;
        self.forget_timers(slot);
        let short = match blocked {
            Some(by) => self.short_of(turn.books, by),
            None => {
                let (tag, least) = (self.tag(slot), self.floors(slot));
                self.above_limit(turn.books, &least, |books, id| self.limit(books, tag, id))
            }
        };
        self.parties.count_use(self.tag(slot), false);
        self.ended.insert(slot, Ended { why, waited: self.now - waiter.since, short });
        turn.board.end(slot);
        self.effects.push(Effect::End { slot, level: waiter.base, why });
    }

    /// What blocks a waiter that stands nowhere: of its first possible alternative, or what that asks first.
    fn blocked_now(&self, books: &mut Books, slot: u32) -> (BudgetId, u64) {
        // Those that no budget could ever serve have ended.
        let first = self.possible(books, slot).trailing_zeros() as u8 % self.queue.alternatives(slot);
        let asks = self.queue.asks(slot, first).bundle();
        let at = self.keeps(books, self.tag(slot), &asks, self.claimant(slot));
        let at = at.or(BudgetId::first_of(asks.set())).unwrap_or(BudgetId::GPU);
        (at, asks.get(at))
    }

    /// The least that the first alternative of a waiter would do with.
    fn floors(&self, slot: u32) -> Amounts {
        match self.queue.flexible(slot).and_then(|flexible| flexible.terms.alternatives.first()) {
            Some(first) => first.least().clone(),
            None => self.queue.asks(slot, 0).bundle(),
        }
    }

    /// Takes a grant back that nobody took up.
    pub(super) fn undo(&mut self, turn: &mut Turn<'_>, slot: u32, place: u32) {
        let amounts = self.queue.granted(slot).bundle();
        let level = self.queue.get(slot).base;
        let held = match self.queue.flexible(slot) {
            Some(_) => Held::placed(place, level),
            None => Held::offered(&amounts, turn.books.rates(), place, level),
        };
        self.unlend(turn.books, held);
        turn.books.undo(&amounts, held);
        self.lose(turn, self.tag(slot), &amounts);
        self.dirty.mark(amounts.set());
    }

    /// Frees a slot.
    #[inline]
    pub(super) fn forget(&mut self, slot: u32) {
        self.forget_timers(slot);
        if !self.ended.is_empty() {
            self.ended.remove(&slot);
        }
        self.queue.remove(slot);
    }

    /// What is asked of a budget, and what it has right now, in figures.
    pub(super) fn short_of(&self, books: &mut Books, (budget, asked): (BudgetId, u64)) -> Short {
        if let Some(bucket) = books.bucket_mut(budget) {
            bucket.refill(self.now);
        }
        Short { budget, asked, free: books.free(budget), limit: books.limit(budget), waiting: self.naming(budget) }
    }

    /// The first budget of which an amount is above its limit, in figures.
    pub(super) fn above_limit(
        &self,
        books: &mut Books,
        amounts: &Amounts,
        limit: impl Fn(&Books, BudgetId) -> u64,
    ) -> Short {
        let above = amounts.iter().find(|&(id, units)| units > limit(books, id));
        let (budget, asked) = above.or(amounts.iter().next()).unwrap_or((BudgetId::GPU, 0));
        Short { limit: limit(books, budget), ..self.short_of(books, (budget, asked)) }
    }
}
