//! Inheritance (R8, P25): who holds what a higher rank waits for waits with that rank.
//!
//! Priority inheritance for holders of many resources (Sha, Rajkumar and Lehoczky, "Priority Inheritance Protocols",
//! 1990), transitive. A holder comes right behind whom it inherits from: before all whom that one goes before, and not
//! before itself, which takes what both could use. When nobody of that rank waits for what it holds any more, it falls
//! back. What is inherited is found anew each time from the ranks that waiters have of their own, so holders that wait
//! for each other do not keep a rank among them whose owner is gone.

use std::collections::BTreeMap;

use crate::model::BudgetId;
use crate::policy::Rank;

use super::Engine;

impl Engine {
    /// The rank that a waiter has of its own, whatever it has inherited.
    pub(super) fn own_rank(&self, slot: u32) -> Rank {
        let own = self.queue.flexible(slot).and_then(|flexible| flexible.own_rank);
        own.unwrap_or(self.queue.get(slot).rank)
    }

    /// Brings the ranks of the holders' waiters up to date.
    pub(super) fn inherit(&mut self) {
        if self.parties.is_empty() {
            return;
        }
        for (slot, rank) in self.inherited() {
            if rank != self.queue.get(slot).rank {
                let own = self.own_rank(slot);
                self.inheritances += u64::from(own == self.queue.get(slot).rank);
                self.rerank(slot, rank);
                if let Some(flexible) = self.queue.flexible_mut(slot) {
                    flexible.own_rank = Some(own).filter(|&own| own != rank);
                }
            }
        }
    }

    /// The rank of every waiter of a holder: its own, or right behind the first of those who wait, directly or through
    /// others, for what its activity holds. Each round passes ranks on by one holder, so there are at most as many
    /// rounds as holders: nobody comes before the one that a rank set out from.
    fn inherited(&self) -> BTreeMap<u32, Rank> {
        // Whoever holds nothing any more falls back as well.
        let slots = self.parties.iter().flat_map(|(_, party)| party.waiters.iter().copied());
        let mut ranks: BTreeMap<u32, Rank> = slots.map(|slot| (slot, self.own_rank(slot))).collect();
        if ranks.is_empty() {
            return ranks;
        }
        let held = self.parties.holders().fold(0, |set, (_, party)| set | party.held.set());
        let mut others: [Option<Rank>; BudgetId::LIMIT] = [None; BudgetId::LIMIT];
        for id in BudgetId::in_set(held) {
            others[id.index()] = self.first_in_line(id, |slot| !ranks.contains_key(&slot));
        }
        loop {
            let mut lines = others;
            for (&slot, &rank) in &ranks {
                for (_, place) in self.queue.filings(slot) {
                    let first = &mut lines[place.index()];
                    *first = Some(first.map_or(rank, |first| first.min(rank)));
                }
            }
            let mut changed = false;
            for (_, party) in self.parties.holders() {
                let first = BudgetId::in_set(party.held.set()).filter_map(|id| lines[id.index()]).min();
                for &slot in &party.waiters {
                    let own = self.own_rank(slot);
                    let rank = first.map_or(own, |first| first.behind(own.arrival()).min(own));
                    changed |= ranks.insert(slot, rank) != Some(rank);
                }
            }
            if !changed {
                return ranks;
            }
        }
    }

    /// The first in the line of a budget that counts.
    fn first_in_line(&self, id: BudgetId, counts: impl Fn(u32) -> bool) -> Option<Rank> {
        let mut next = self.queue.head(id);
        while let Some((rank, filing)) = next {
            if counts(filing.slot()) {
                return Some(rank);
            }
            next = self.queue.next(id, (rank, filing.alternative()), Some(filing));
        }
        None
    }
}
