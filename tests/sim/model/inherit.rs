//! Inheritance (R8): who holds what a higher rank waits for waits with that rank.

use std::collections::BTreeSet;

use bursar::BudgetId;

use crate::event::party;

use super::ratio::Pace;
use super::{Model, Rank, State, Waiter};

impl Model {
    /// Brings the ranks of those who hold and wait up to date: each goes right behind the first of those who wait,
    /// directly or through others, for what its activity holds, if that is better than its own rank.
    pub(super) fn inherit(&mut self) {
        if self.waiters.iter().all(|waiter| waiter.tag.activity == 0) {
            return;
        }
        let mut ranks: Vec<Rank> = self.waiters.iter().map(|waiter| waiter.own).collect();
        let mut paces: Vec<Pace> = self.waiters.iter().map(Waiter::pace).collect();
        let active = |(_, waiter): &(usize, &Waiter)| waiter.state == State::Waiting;
        let waits_at = |waiter: &Waiter| -> BTreeSet<BudgetId> {
            waiter.filed.iter().flatten().copied().chain(self.unsafe_before(waiter)).collect()
        };
        let awaited: Vec<_> = self.waiters.iter().map(waits_at).collect();
        loop {
            let before = ranks.clone();
            for (at, waiter) in self.waiters.iter().enumerate().filter(active) {
                let holds = self.holds(party(waiter.tag));
                let waits_for = |(other, _): &(usize, &Waiter)| !awaited[*other].is_disjoint(&holds);
                let first = self.waiters.iter().enumerate().filter(active).filter(waits_for);
                if let Some(((level, order, _), first)) = first.map(|(other, _)| (ranks[other], other)).min() {
                    let inherited = (level, order + 1, waiter.own.2);
                    ranks[at] = waiter.own.min(inherited);
                    paces[at] = if inherited < waiter.own { paces[first] } else { waiter.pace() };
                }
            }
            if ranks == before {
                break;
            }
        }
        for (at, rank) in ranks.into_iter().enumerate() {
            self.waiters[at].inherited = Some(paces[at]).filter(|_| rank != self.waiters[at].own);
            let waiter = &self.waiters[at];
            if waiter.state == State::Waiting && waiter.rank != rank {
                self.inherited += u64::from(waiter.rank == waiter.own);
                self.rerank(at, rank);
            }
        }
    }

    /// Another rank: the waiter is looked at where it is filed. Those whom its claim binds no more are, too.
    pub(super) fn rerank(&mut self, at: usize, rank: Rank) {
        let waiter = &mut self.waiters[at];
        let before = std::mem::replace(&mut waiter.rank, rank);
        let waiter = &self.waiters[at];
        let claimed = if before < rank { self.claim(waiter) } else { Vec::new() };
        let places: Vec<_> = (0..waiter.filed.len()).filter_map(|alternative| waiter.place(alternative)).collect();
        for place in places {
            self.mark_place(place, rank);
        }
        for (id, _) in claimed {
            self.mark(id, before);
        }
        if before < rank {
            self.let_in(at, before);
        }
    }
}
