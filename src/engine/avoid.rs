//! Deadlocks that cannot come about: activities that say beforehand how much they will ever hold.
//!
//! The banker's algorithm (Dijkstra 1965, for several kinds of resource Habermann, "Prevention of System Deadlocks",
//! 1969). A state is *safe* if the bounded activities can end one after the other, each with its maximum in hand, from
//! what is not held by such activities and what those before it gave back. Leases of others count as coming back. What
//! a bounded activity asks for is granted only if the state stays safe; so none of them ever waits for ever because of
//! the others, and none of them needs a verdict.
//!
//! A waiter that would make the state unsafe is held back (`held_back`): it stands in the line of a loan that it asks
//! for, claims nothing (R9), and is looked at when a bounded activity gives something back or takes a lease in, or a
//! loan has another capacity. So is one that would take its activity above its bound, as another request of the
//! activity was granted first; that it may be told to split (`verdict`). When units are what keeps it again, and it may
//! be passed no more, it claims hard again. That it does not wait for ever is the business of `entry`.
//!
//! A grant makes nothing safe that was not, unless it takes units that the request in question asks for: then the check
//! answers for more than there is. Such a request waits for units like any other, and is held back no more.
//!
//! What a request asks of rates comes back with time and is no matter of safety; what only the scope of a task implies
//! (R12) is neither limited nor counted. A bound is known from when its activity asks until it has neither a lease
//! nor a reservation. Merging leases is not checked: whoever takes a lease in has it already.
//!
//! One check costs n² comparisons for n bounded activities that hold something, times the budgets they name; those that
//! only wait, however many they are, cost it nothing.

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, Tag, Terms};

use super::Engine;
use super::activity::{Claimant, Party, Sure};
use super::lines::Filing;
use super::steps::step;

/// What a bounded activity holds, and what it may yet ask for.
struct Row {
    party: u64,
    held: Amounts,
    needs: Amounts,
}

impl Engine {
    /// A bounded activity asks for something. It should have said how much it will ever hold before it was first used;
    /// if it says something else, others may be safe now.
    pub(super) fn note_bound(&mut self, terms: &Terms) {
        let Some(most) = &terms.most else { return };
        let said = self.parties.bound(terms.tag.party(), most);
        if said.as_ref() == Some(most) {
            return;
        }
        let waiters = self.parties.get(terms.tag.party()).into_iter().flat_map(|party| party.waiters(Sure::Declared));
        waiters.collect::<Vec<_>>().into_iter().for_each(|slot| self.note_guard(slot));
        if said.is_some() {
            self.look_at_unsafe();
        }
    }

    /// The bound of whoever asks. What only a scope implies is not asked for by the activity itself.
    #[inline]
    pub(super) fn bound_of(&self, tag: Tag) -> Option<&Amounts> {
        if tag.is_implied() { None } else { self.parties.most(tag.party()) }
    }

    /// The most that whoever it is will ever hold of a loan.
    #[inline]
    pub(super) fn bound(&self, tag: Tag, id: BudgetId) -> u64 {
        self.bound_of(tag).map_or(u64::MAX, |most| most.get(id))
    }

    /// How much more of a loan an activity may ask for now.
    pub(super) fn room(&self, tag: Tag, id: BudgetId) -> u64 {
        let held = |party: &Party| party.held_for_certain().get(id);
        let held = self.parties.get(tag.party()).map_or(0, held);
        self.bound_of(tag).map_or(u64::MAX, |most| most.get(id).saturating_sub(held))
    }

    /// Whether a grant of this to a bounded activity could lead to a deadlock, or to more than it said, or is kept out
    /// for whom it would keep waiting by that (`entry`).
    #[inline]
    pub(super) fn endangers(&self, books: &Books, tag: Tag, amounts: &Amounts, who: Claimant) -> bool {
        self.bound_of(tag).is_some()
            && (self.kept_by(books, tag, amounts, |_| true) != 0 || self.is_kept_out(books, tag, amounts, who))
    }

    /// Where a bounded activity has to wait for something to come back, as far as safety goes: the loans of which it
    /// would hold more than it said, or those that the bounded activities hold that might then not end. Of these only
    /// some count; the others have ended.
    pub(super) fn kept_by(&self, books: &Books, tag: Tag, amounts: &Amounts, counts: impl Fn(u64) -> bool) -> u64 {
        self.kept_by_without(books, tag, amounts, counts, &[])
    }

    /// Whether a bounded activity could have something, as far as safety goes, if these leases had ended.
    pub(super) fn is_safe_without(
        &self,
        books: &Books,
        tag: Tag,
        amounts: &Amounts,
        ended: &[(Tag, &Amounts)],
    ) -> bool {
        self.kept_by_without(books, tag, amounts, |_| true, ended) == 0
    }

    fn kept_by_without(
        &self,
        books: &Books,
        tag: Tag,
        amounts: &Amounts,
        counts: impl Fn(u64) -> bool,
        ended: &[(Tag, &Amounts)],
    ) -> u64 {
        if self.bound_of(tag).is_none() {
            return 0;
        }
        let loans = amounts.without(books.rates());
        if loans.is_empty() {
            return 0;
        }
        let above = |&(id, units): &(BudgetId, u64)| units > self.room(tag, id);
        let above = loans.iter().filter(above).fold(0, |set, (id, _)| set | id.bit());
        if above != 0 {
            return above;
        }
        let held = |party: u64| self.held_without(books, party, ended);
        let others = self.parties.bounded_holders().filter(|&(party, _)| party != tag.party() && counts(party));
        let others = others.filter_map(|(party, most)| row(books, (party, most), held(party)));
        let mut own = held(tag.party());
        // The sum is at most the capacity, or it would not be granted.
        let _ = own.put_all(&loans);
        let own = self.bound_of(tag).and_then(|most| row(books, (tag.party(), most), own));
        let rows = others.chain(own).collect();
        let others = left_over(books, rows).into_iter().filter(|row| row.party != tag.party());
        others.fold(0, |set, row| set | row.held.set())
    }

    /// The same for what an alternative of a waiter asks for now.
    pub(super) fn filing_endangers(&self, books: &Books, filing: Filing) -> bool {
        if !self.parties.are_bounded() {
            return false;
        }
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        self.endangers(books, self.tag(filing.slot()), &asks, self.claimant(filing.slot()))
    }

    /// What has to come back before it is safe to serve a waiter that stands in line, also if units are what keeps it:
    /// it depends on those who hold that, as on those who hold the units that it asks for (R3, R8).
    pub(super) fn unsafe_before(&self, books: &Books, slot: u32) -> u64 {
        let tag = self.tag(slot);
        if self.bound_of(tag).is_none() {
            return 0;
        }
        let asks = self.queue.filings(slot).map(|(filing, _)| self.queue.asks(slot, filing.alternative()).bundle());
        asks.fold(0, |set, asks| set | self.kept_by(books, tag, &asks, |_| true))
    }

    /// The same for what a waiter is about to be granted.
    pub(super) fn grant_endangers(&self, books: &Books, slot: u32) -> bool {
        self.parties.are_bounded()
            && self.endangers(books, self.tag(slot), &self.queue.granted(slot).bundle(), self.claimant(slot))
    }

    /// Where an alternative stands that nothing keeps but safety: in the line of its first budget.
    pub(super) fn unsafe_place(&mut self, books: &Books, filing: Filing) -> Option<BudgetId> {
        if !self.filing_endangers(books, filing) {
            return None;
        }
        let place = self.first_loan(books, filing)?;
        self.hold_back(books, filing, place);
        Some(place)
    }

    /// Where a filing stands that is kept by safety. Never at a rate: the scheduler task comes back whenever a rate has
    /// enough for those in its line.
    pub(super) fn first_loan(&self, books: &Books, filing: Filing) -> Option<BudgetId> {
        BudgetId::first_of(self.queue.asks(filing.slot(), filing.alternative()).set() & !books.rates())
    }

    /// What a bounded activity will hold when some leases have ended.
    fn held_without(&self, books: &Books, party: u64, ended: &[(Tag, &Amounts)]) -> Amounts {
        let mut held = self.parties.get(party).map_or_else(Amounts::new, |party| party.held_for_certain().clone());
        for (_, amounts) in ended.iter().filter(|(tag, _)| !tag.is_implied() && tag.party() == party) {
            // What a lease holds is a part of that.
            let _ = held.take(&amounts.without(books.rates()));
        }
        held
    }

    /// A filing stands in this line, or is about to, although the budget has enough, because it would make the state
    /// unsafe.
    pub(super) fn note_unsafe(&mut self, books: &Books, filing: Filing, place: BudgetId) {
        self.hold_back(books, filing, place);
        self.withdraw(filing.slot());
        self.soften(filing.slot());
    }

    /// Nothing but safety keeps a waiter: it claims nothing, which would keep others from what they need to end.
    pub(super) fn soften(&mut self, slot: u32) {
        self.queue.get_mut(slot).hard = false;
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.claiming = None;
        }
    }
}

/// What a bounded activity may yet ask for, if it holds this. `None` for one that holds nothing: it can come after all
/// others. More than there is of a budget it will never get, so it does not count.
fn row(books: &Books, (party, most): (u64, &Amounts), held: Amounts) -> Option<Row> {
    step();
    if held.is_empty() {
        return None;
    }
    let mut needs = Amounts::new();
    for (id, most) in most.iter().filter(|(id, _)| books.rates() & id.bit() == 0) {
        let _ = needs.add(id, most.min(books.capacity(id)).saturating_sub(held.get(id)));
    }
    Some(Row { party, held, needs })
}

/// The bounded activities that could not end however the others did: who can end, ends, and it does not matter in which
/// order. What none of these activities holds is there, or comes back.
fn left_over(books: &Books, mut rows: Vec<Row>) -> Vec<Row> {
    // Below zero while a shrunk loan is overdrawn: what comes back makes up for that first. Of rates nobody holds or
    // needs anything here.
    let mut work: Vec<(BudgetId, i128)> = BudgetId::in_set(books.budgets())
        .map(|id| {
            let held: i128 = rows.iter().map(|row| i128::from(row.held.get(id))).sum();
            (id, i128::from(books.capacity(id)) - held)
        })
        .collect();
    let can_end = |row: &Row, work: &[(BudgetId, i128)]| {
        let needs = work.iter().map(|&(id, there)| (row.needs.get(id), there));
        needs.into_iter().all(|(needs, there)| needs == 0 || i128::from(needs) <= there)
    };
    while let Some(at) = rows.iter().position(|row| can_end(row, &work)) {
        let row = rows.swap_remove(at);
        work.iter_mut().for_each(|(id, there)| *there += i128::from(row.held.get(*id)));
    }
    rows
}
