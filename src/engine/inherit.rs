//! Inheritance (R8, P25): who holds what a higher rank waits for waits with that rank.
//!
//! Priority inheritance for holders of many resources (Sha, Rajkumar and Lehoczky, "Priority Inheritance Protocols",
//! 1990), transitive. A bounded waiter also waits for what those hold who have to end before it is safe (`avoid`). A
//! holder comes right behind whom it inherits from: before all whom that one goes before, and not before itself, which
//! takes what both could use. When nobody of that rank waits for what it holds any more, it falls back. What is
//! inherited is found anew each time from the ranks that waiters have of their own, so holders that wait for each other
//! do not keep a rank among them whose owner is gone.
//!
//! Not inherited is the rank of whom only the cap of its module keeps: it stands in no line and passes nobody's turn to
//! anybody (`caps`), so it waits behind the waits of its module's other holders with the ranks that these have. To pass
//! its rank on to those alone, and not to every holder of the same budget, what an activity holds would have to be
//! known by module, and a cap be a place here as a budget is. What `awaited_through` counts for the parked is another
//! matter: there, too much only lets a holder go on that a claim would have kept.

use crate::ledger::Books;
use crate::model::BudgetId;
use crate::policy::Rank;

use super::Engine;
use super::activity::{Party, Sure};
use super::ratio::Pace;

/// A waiter of a holder, or of one that was.
struct Heir {
    slot: u32,
    own: Rank,
    /// What it has, with what it inherits, and the pace that goes with it.
    rank: Rank,
    pace: Pace,
    /// The budgets in whose lines it stands, and those of which something has to come back before it is safe.
    awaits: u64,
    /// The budgets of which its activity holds something.
    holds: u64,
}

impl Engine {
    /// The rank that a waiter has of its own, whatever it has inherited.
    pub(super) fn own_rank(&self, slot: u32) -> Rank {
        let own = self.queue.flexible(slot).and_then(|flexible| flexible.own_rank);
        own.unwrap_or(self.queue.get(slot).rank)
    }

    /// Gives a waiter another rank of its own. It shows at once, unless it has inherited one; then once that is gone.
    pub(super) fn set_own_rank(&mut self, slot: u32, own: Rank) {
        let inherits = self.own_rank(slot) != self.queue.get(slot).rank;
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.own_rank = inherits.then_some(own);
        }
        if !inherits {
            self.rerank(slot, own);
        }
    }

    /// Brings the ranks of the holders' waiters up to date.
    #[inline]
    pub(super) fn inherit(&mut self, books: &Books) {
        if !self.parties.is_empty() {
            self.pass_ranks_on(books);
        }
    }

    /// The same where there are holders.
    #[inline(never)]
    fn pass_ranks_on(&mut self, books: &Books) {
        for Heir { slot, own, rank, pace, .. } in self.heirs(books) {
            if rank != self.queue.get(slot).rank {
                self.inheritances += u64::from(own == self.queue.get(slot).rank);
                self.rerank(slot, rank);
            }
            if let Some(flexible) = self.queue.flexible_mut(slot) {
                flexible.own_rank = Some(own).filter(|&own| own != rank);
                flexible.pace = Some(pace).filter(|_| own != rank);
            }
        }
    }

    /// The rank of every waiter of a holder: its own, or right behind the first of those who wait, directly or through
    /// others, for what its activity holds. Each round passes ranks on by one holder, so there are at most as many
    /// rounds as holders: nobody comes before the one that a rank set out from.
    fn heirs(&self, books: &Books) -> Vec<Heir> {
        // Whoever holds nothing any more falls back.
        let concerned = |party: &Party| party.holds(Sure::Implied) != 0 || self.inherits(party);
        let parties = self.parties.engaged().filter(|(_, party)| concerned(party));
        let mut heirs: Vec<Heir> = parties.flat_map(|(_, party)| self.heirs_of(books, party)).collect();
        if heirs.is_empty() {
            return heirs;
        }
        heirs.sort_unstable_by_key(|heir| heir.slot);
        let held = heirs.iter().fold(0, |set, heir| set | heir.holds);
        let mut others: [Option<(Rank, Pace)>; BudgetId::LIMIT] = [None; BudgetId::LIMIT];
        for id in BudgetId::in_set(held) {
            let is_heir = |slot| heirs.binary_search_by_key(&slot, |heir| heir.slot).is_ok();
            others[id.index()] = self.first_in_line(id, |slot| !is_heir(slot));
        }
        self.add_unsafe(books, &heirs, &mut others);
        loop {
            let mut lines = others;
            for heir in &heirs {
                for id in BudgetId::in_set(heir.awaits) {
                    let first = &mut lines[id.index()];
                    *first = Some(first.filter(|first| first.0 < heir.rank).unwrap_or((heir.rank, heir.pace)));
                }
            }
            let mut changed = false;
            for heir in &mut heirs {
                let first = BudgetId::in_set(heir.holds).filter_map(|id| lines[id.index()]);
                let first = first.min_by_key(|&(rank, _)| rank);
                let inherited = first.map(|(first, pace)| (first.behind(heir.own.arrival()), pace));
                let own = (heir.own, self.pace(heir.slot));
                let (rank, pace) = inherited.filter(|&(rank, _)| rank < heir.own).unwrap_or(own);
                heir.pace = pace;
                changed |= std::mem::replace(&mut heir.rank, rank) != rank;
            }
            if !changed {
                return heirs;
            }
        }
    }

    /// Adds those who hold nothing and whom safety keeps, where others hold what has to come back.
    fn add_unsafe(&self, books: &Books, heirs: &[Heir], others: &mut [Option<(Rank, Pace)>; BudgetId::LIMIT]) {
        let held = heirs.iter().fold(0, |set, heir| set | heir.holds);
        let bounded = self.parties.bounds().filter_map(|(party, _)| self.parties.get(party));
        let waiters = bounded.filter(|party| party.holds(Sure::Implied) == 0);
        let waiters = waiters.flat_map(|party| party.waiters(Sure::Declared));
        let mut waiters: Vec<(Rank, u32)> = waiters.map(|slot| (self.own_rank(slot), slot)).collect();
        waiters.sort_unstable();
        for (rank, slot) in waiters {
            let behind = |id: &BudgetId| others[id.index()].is_none_or(|(first, _)| rank < first);
            let behind = BudgetId::in_set(held).filter(behind).fold(0, |set, id| set | id.bit());
            if behind == 0 {
                return;
            }
            for id in BudgetId::in_set(behind & self.unsafe_before(books, slot)) {
                others[id.index()] = Some((rank, self.pace(slot)));
            }
        }
    }

    /// Whether a waiter of an activity has a rank that is not its own.
    pub(super) fn inherits(&self, party: &Party) -> bool {
        party.waiters(Sure::Implied).any(|slot| self.own_rank(slot) != self.queue.get(slot).rank)
    }

    /// The waiters of an activity, with the ranks that they have of their own.
    fn heirs_of<'a>(&'a self, books: &'a Books, party: &'a Party) -> impl Iterator<Item = Heir> + 'a {
        let holds = party.holds(Sure::Implied);
        party.waiters(Sure::Implied).map(move |slot| {
            let own = self.own_rank(slot);
            let places = self.queue.filings(slot).fold(0, |set, (_, id)| set | id.bit());
            let awaits = places | self.unsafe_before(books, slot);
            Heir { slot, own, rank: own, pace: self.pace(slot), awaits, holds }
        })
    }

    /// The first in the line of a budget that counts.
    fn first_in_line(&self, id: BudgetId, counts: impl Fn(u32) -> bool) -> Option<(Rank, Pace)> {
        let mut next = self.queue.head(id);
        while let Some((rank, filing)) = next {
            if counts(filing.slot()) {
                return Some((rank, self.pace(filing.slot())));
            }
            next = self.queue.next(id, (rank, filing.alternative()), Some(filing));
        }
        None
    }
}
