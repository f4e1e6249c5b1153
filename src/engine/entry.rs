//! Bounded activities that begin: whom they pass, and who keeps them out (C3, R4).
//!
//! A waiter that nothing but safety keeps (`avoid`) is not short of units, and to claim them would keep others from
//! what they need to end. What it waits for is that bounded activities end. Those that hold something do, whatever
//! their rank, once they get what they ask for; what could go on for ever is that others begin in their place. So it is
//! passed by those: by a grant to a bounded activity of lower rank that holds nothing yet and that *concerns* it. They
//! concern each other if there is a loan that both may ask for, or a chain of such loans by way of activities that hold
//! something; otherwise neither of them can wait for the other, whatever is granted.
//!
//! A bounded waiter that may be passed no more (`bypass`) keeps those out while it stands in line, also when units are
//! what keeps it: those that began meanwhile would keep it once the units are there. Who is kept out stands in line
//! like one that safety keeps, and claims nothing either. Who holds something, be it by the scope of a task only, goes
//! on: others may wait for that (R3).
//!
//! So nobody of lower rank begins any more, and the m activities that have begun can end one after the other, as the
//! state is safe. When they have, it is safe to serve the waiter, and what it is short of then it claims. If each ends
//! at most H after those before it, and nobody of higher rank arrives, that takes m H; then `bypass` has the bound.

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, Tag};
use crate::policy::Rank;

use super::activity::Claimant;
use super::lines::Filing;
use super::{Engine, Turn};

/// A bounded activity that holds nothing yet and is about to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    party: u64,
    rank: Rank,
}

impl Engine {
    /// What a grant of these budgets begins, if it begins anything.
    #[inline]
    pub(super) fn entry(&self, books: &Books, tag: Tag, set: u64, who: Claimant) -> Option<Entry> {
        let begins = who.holds == 0 && self.bound_of(tag).is_some() && set & !books.rates() != 0;
        begins.then_some(Entry { party: tag.party(), rank: who.rank })
    }

    /// The same for a grant of these budgets to a waiter.
    #[inline]
    pub(super) fn entry_of(&self, books: &Books, slot: u32, set: u64) -> Option<Entry> {
        if self.parties.are_bounded() { self.entry(books, self.tag(slot), set, self.claimant(slot)) } else { None }
    }

    /// Whether somebody who may be passed no more keeps a bounded activity out.
    pub(super) fn is_kept_out(&self, books: &Books, tag: Tag, amounts: &Amounts, who: Claimant) -> bool {
        let entry = self.entry(books, tag, amounts.set(), who).filter(|_| !self.guards.is_empty());
        entry.is_some_and(|entry| {
            let mut before = self.guards.before(self.concerned(books, entry.party), entry.rank);
            before.any(|mut guards| guards.any(|slot| self.tag(slot).party() != entry.party))
        })
    }

    /// Those of other bounded activities whom safety keeps, and whom an entry concerns and passes.
    #[inline]
    pub(super) fn passed_by_entry(&self, turn: &mut Turn<'_>, entry: Option<Entry>) -> Vec<u32> {
        let entry = entry.filter(|_| !self.held_back.is_empty());
        entry.map_or_else(Vec::new, |entry| self.kept_ahead_of(turn, entry))
    }

    /// Those whom safety keeps, and who go before an entry that concerns them.
    #[inline(never)]
    fn kept_ahead_of(&self, turn: &mut Turn<'_>, entry: Entry) -> Vec<u32> {
        let ahead = self.held_back.before(self.concerned(turn.books, entry.party), entry.rank).map(Filing::slot);
        let others = ahead.filter(|&slot| self.tag(slot).party() != entry.party);
        others.filter(|&slot| self.is_kept_for_safety(turn, slot)).collect()
    }

    /// The loans that a bounded activity may ask for, and those that activities may that hold something and may ask for
    /// one of these, and so on.
    fn concerned(&self, books: &Books, party: u64) -> u64 {
        let loans = books.budgets() & !books.rates();
        let mut concerned = self.parties.most(party).map_or(0, Amounts::set) & loans;
        loop {
            let others = self.parties.bounded_holders().filter(|&(_, most)| most.set() & concerned != 0);
            let more = others.fold(concerned, |set, (_, most)| set | most.set() & loans);
            if more == concerned {
                return concerned;
            }
            concerned = more;
        }
    }

    /// A waiter keeps nobody out any more that ranks behind `rank`: they are looked at.
    #[inline]
    pub(super) fn let_in(&mut self, slot: u32, rank: Rank) {
        if !self.held_back.is_empty() && self.queue.get(slot).spent && self.bound_of(self.tag(slot)).is_some() {
            BudgetId::in_set(self.held_back.places()).for_each(|place| self.mark_from(place, rank));
        }
    }

    /// The same for one that may have left its last line.
    pub(super) fn let_in_if_nowhere(&mut self, slot: u32) {
        if self.queue.filings(slot).next().is_none() {
            self.let_in(slot, self.queue.get(slot).rank);
        }
    }
}
