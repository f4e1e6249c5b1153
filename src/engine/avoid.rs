//! Deadlocks that cannot come about: activities that say beforehand how much they will ever hold.
//!
//! The banker's algorithm (Dijkstra 1965, for several kinds of resource Habermann, "Prevention of System Deadlocks",
//! 1969). A state is *safe* if the bounded activities can end one after the other, each with its maximum in hand, from
//! what is not held by such activities and what those before it gave back. Leases of others count as coming back. What
//! a bounded activity asks for is granted only if the state stays safe; so none of them ever waits for ever because of
//! the others, and none of them needs a verdict.
//!
//! A waiter that would make the state unsafe stands in the line of a loan that it asks for, claims nothing (R9), and is
//! looked at when an activity gives something back. One check costs n² comparisons for n bounded activities that hold
//! something, times the budgets they name.

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, Tag, Terms};

use super::lines::Filing;
use super::{Engine, Turn};

/// What a bounded activity holds, and what it may yet ask for.
struct Row {
    held: Amounts,
    needs: Amounts,
}

impl Engine {
    /// A bounded activity asks for something.
    pub(super) fn note_bound(&mut self, terms: &Terms) {
        if let Some(most) = &terms.most {
            self.parties.bound(terms.tag.party(), most);
        }
    }

    /// How much more of a budget an activity may ever ask for.
    pub(super) fn room(&self, tag: Tag, id: BudgetId) -> u64 {
        let Some(most) = self.parties.most(tag.party()) else { return u64::MAX };
        let held = self.parties.get(tag.party()).map_or(0, |party| party.held_for_certain().get(id));
        most.get(id).saturating_sub(held)
    }

    /// Whether a grant of this to a bounded activity could lead to a deadlock.
    #[inline]
    pub(super) fn endangers(&self, books: &Books, tag: Tag, amounts: &Amounts) -> bool {
        self.parties.most(tag.party()).is_some() && !self.stays_safe(books, tag, amounts)
    }

    /// The same for what an alternative of a waiter asks for now.
    pub(super) fn filing_endangers(&self, books: &Books, filing: Filing) -> bool {
        if !self.parties.are_bounded() {
            return false;
        }
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        self.endangers(books, self.tag(filing.slot()), &asks)
    }

    /// The same for what a waiter is about to be granted.
    pub(super) fn grant_endangers(&self, books: &Books, slot: u32) -> bool {
        self.parties.are_bounded() && self.endangers(books, self.tag(slot), &self.queue.granted(slot).bundle())
    }

    /// Where an alternative stands that nothing keeps but safety: in the line of its first budget.
    pub(super) fn unsafe_place(&mut self, books: &Books, filing: Filing) -> Option<BudgetId> {
        if !self.filing_endangers(books, filing) {
            return None;
        }
        let place = self.first_loan(books, filing)?;
        self.unsafe_places |= place.bit();
        Some(place)
    }

    /// Where a filing stands that is kept by safety. Never at a rate: the scheduler task comes back whenever a rate has
    /// enough for those in its line.
    pub(super) fn first_loan(&self, books: &Books, filing: Filing) -> Option<BudgetId> {
        BudgetId::first_of(self.queue.asks(filing.slot(), filing.alternative()).set() & !books.rates())
    }

    fn stays_safe(&self, books: &Books, tag: Tag, amounts: &Amounts) -> bool {
        let loans = books.budgets() & !books.rates();
        let mut rows: Vec<Row> =
            self.parties.bounds().filter_map(|(party, most)| self.row(books, party, most, tag, amounts)).collect();
        // What is not held by bounded activities is there, or comes back.
        let mut work: Vec<(BudgetId, u64)> = BudgetId::in_set(loans)
            .map(|id| {
                let held = rows.iter().fold(0u64, |sum, row| sum.saturating_add(row.held.get(id)));
                (id, books.capacity(id).saturating_sub(held))
            })
            .collect();
        // Who can end, ends; it does not matter in which order.
        while let Some(at) = rows.iter().position(|row| work.iter().all(|&(id, there)| row.needs.get(id) <= there)) {
            let row = rows.swap_remove(at);
            work.iter_mut().for_each(|(id, there)| *there = there.saturating_add(row.held.get(*id)));
        }
        rows.is_empty()
    }

    /// What a bounded activity would hold and may yet ask for, if `tag` had these amounts. `None` for one that holds
    /// nothing: it can come after all others. More than there is of a budget it will never get, so it does not count.
    fn row(&self, books: &Books, party: u64, most: &Amounts, tag: Tag, amounts: &Amounts) -> Option<Row> {
        let mut held = self.parties.get(party).map_or_else(Amounts::new, |party| party.held_for_certain().clone());
        if party == tag.party() {
            // The sum is at most the capacity, or it would not be granted.
            let _ = held.put_all(amounts);
        }
        if held.is_empty() {
            return None;
        }
        let mut needs = Amounts::new();
        for (id, most) in most.iter().filter(|(id, _)| books.rates() & id.bit() == 0) {
            let _ = needs.add(id, most.min(books.capacity(id)).saturating_sub(held.get(id)));
        }
        Some(Row { held, needs })
    }

    /// Whether some way of a waiter is kept by nothing but safety: it claims nothing then.
    #[inline]
    pub(super) fn is_kept_for_safety(&self, turn: &mut Turn<'_>, slot: u32) -> bool {
        self.parties.are_bounded()
            && self.queue.filings(slot).any(|(filing, _)| {
                self.filing_endangers(turn.books, filing) && self.blocking_filing(turn.books, filing).is_none()
            })
    }

    /// A waiter stands in this line although the budget has enough, because it would make the state unsafe. Its claim
    /// is withdrawn: it would keep others from what they need to end.
    pub(super) fn note_unsafe(&mut self, slot: u32, place: BudgetId) {
        self.unsafe_places |= place.bit();
        if self.queue.get(slot).hard {
            self.withdraw(slot);
            self.queue.get_mut(slot).hard = false;
        }
    }

    /// An activity gave something back, or there is more: what was unsafe may be safe now.
    pub(super) fn look_at_unsafe(&mut self) {
        self.dirty.mark(std::mem::take(&mut self.unsafe_places));
    }
}
