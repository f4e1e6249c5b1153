//! What time does: deadlines pass, offers expire, rates refill.

use crate::model::BudgetId;

use super::queue::State;
use super::{Effect, Engine, Turn, Verdict};

impl Engine {
    /// Takes note of the time. A deadline that has passed ends its wait before anything is granted in the same turn.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>) {
        self.now = self.now.max(turn.now);
        while let Some(&(deadline, _, slot)) = self.deadlines.first() {
            if deadline > self.now {
                break;
            }
            self.end(turn, slot, Verdict::Late);
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        self.advance(turn);
        if self.waiting > 0 && self.next_expiry <= self.now {
            self.expire_offers(turn);
        }
        for id in BudgetId::in_set(turn.books.rates()) {
            if self.rate_ready_at(turn.books, id).is_some_and(|at| at <= self.now) {
                self.dirty |= id.bit();
            }
        }
    }

    /// Brings the rates up to now.
    pub fn refresh(&mut self, turn: &mut Turn<'_>) {
        self.advance(turn);
        for id in BudgetId::in_set(turn.books.rates()) {
            if let Some(bucket) = turn.books.bucket_mut(id) {
                bucket.refill(self.now);
            }
        }
    }

    /// When [`Engine::handle_timeout`] has something to do next; `u64::MAX` for never. Only submissions, releases,
    /// expiries and changes of capacity change it.
    pub fn poll_timeout(&self, books: &mut crate::ledger::Books) -> u64 {
        if self.dirty != 0 {
            return self.now;
        }
        let mut next = self.deadlines.first().map_or(u64::MAX, |&(deadline, ..)| deadline);
        if self.waiting > 0 {
            next = next.min(self.next_expiry);
            for id in BudgetId::in_set(books.rates()) {
                next = next.min(self.rate_ready_at(books, id).unwrap_or(u64::MAX));
            }
        }
        next
    }

    /// When the first at a rate can be served, as far as the rate goes.
    fn rate_ready_at(&self, books: &mut crate::ledger::Books, id: BudgetId) -> Option<u64> {
        let (_, slot) = self.queue.head(id)?;
        let units = self.queue.asks(slot).get(id);
        let bucket = books.bucket_mut(id)?;
        bucket.refill(self.now);
        Some(bucket.ready_at(units))
    }

    /// Takes back offers whose time has passed, while somebody is blocked at a budget of theirs (R5): one at a time,
    /// the oldest first, and what comes back is granted before the next is looked at. So no more expire than can be
    /// used. Frees the slots of those that were taken up on the way.
    fn expire_offers(&mut self, turn: &mut Turn<'_>) {
        self.next_expiry = u64::MAX;
        let mut due = Vec::new();
        for slot in std::mem::take(&mut self.offers) {
            let waiter = self.queue.get(slot);
            if turn.board.accepted(slot) {
                self.queue.remove(slot);
            } else if waiter.expiry <= self.now {
                due.push((waiter.expiry, waiter.rank, slot));
            } else {
                self.next_expiry = self.next_expiry.min(waiter.expiry);
                self.offers.push_back(slot);
            }
        }
        due.sort_unstable();
        for (_, _, slot) in due {
            let wanted = BudgetId::in_set(self.queue.set(slot)).any(|id| self.queue.head(id).is_some());
            match if wanted { turn.board.retract(slot) } else { None } {
                Some(place) => {
                    self.expire(turn, slot, place);
                    self.resume(turn);
                }
                None => {
                    // Of no use to anybody, or just taken up: look again later.
                    self.next_expiry = self.next_expiry.min(self.now.saturating_add(self.settings.offer_expiry));
                    self.offers.push_back(slot);
                }
            }
        }
    }

    /// Makes the owner of an offer that was taken back dormant.
    fn expire(&mut self, turn: &mut Turn<'_>, slot: u32, place: u32) {
        self.undo(turn.books, slot, place);
        let waiter = self.queue.get_mut(slot);
        waiter.state = State::Dormant;
        waiter.expiries = waiter.expiries.saturating_add(1);
        self.deadlines.extend(self.queue.deadline(slot));
        self.effects.push(Effect::Expired { slot });
        // The budget may have shrunk below it while it lay there.
        if self.queue.asks(slot).bundle().iter().any(|(id, units)| units > turn.books.limit(id)) {
            self.end(turn, slot, Verdict::NeverFits);
        }
    }
}
