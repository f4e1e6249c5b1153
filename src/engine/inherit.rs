//! Inheritance (R8, P25): who holds what a higher rank waits for waits with that rank.
//!
//! Priority inheritance for holders of many resources (Sha, Rajkumar and Lehoczky, "Priority Inheritance Protocols",
//! 1990), transitive. A holder inherits the level, and goes before all that it inherits from; when nobody of that rank
//! waits for what it holds any more, it falls back.

use crate::policy::Rank;

use super::Engine;

impl Engine {
    /// Brings the ranks of the holders' waiters up to date, until nothing changes: each round passes a rank on by one
    /// holder, so there are at most as many rounds as holders.
    #[inline]
    pub(super) fn inherit(&mut self) {
        if !self.parties.is_empty() {
            let holders = self.parties.holders().count();
            for _ in 0..holders {
                if !self.inherit_once() {
                    break;
                }
            }
        }
    }

    fn inherit_once(&mut self) -> bool {
        let mut changes = Vec::new();
        for (_, party) in self.parties.holders() {
            let wanted = crate::model::BudgetId::in_set(party.held.set());
            let foremost = wanted.filter_map(|id| self.foremost(id, &party.waiters)).min();
            for &slot in &party.waiters {
                let now = self.queue.get(slot).rank;
                let own = self.queue.flexible(slot).and_then(|flexible| flexible.own_rank).unwrap_or(now);
                let rank = match foremost.filter(|first| first.level() < own.level()) {
                    Some(first) => Rank::new(first.level(), 0, own.arrival()),
                    None => own,
                };
                if rank != now {
                    changes.push((slot, rank, own));
                }
            }
        }
        for &(slot, rank, own) in &changes {
            self.rerank(slot, rank);
            if let Some(flexible) = self.queue.flexible_mut(slot) {
                flexible.own_rank = Some(own).filter(|&own| own != rank);
            }
        }
        !changes.is_empty()
    }

    /// The first in the line of a budget that is none of these.
    fn foremost(&self, id: crate::model::BudgetId, but: &[u32]) -> Option<Rank> {
        let mut next = self.queue.head(id);
        while let Some((rank, filing)) = next {
            if !but.contains(&filing.slot()) {
                return Some(rank);
            }
            next = self.queue.next(id, (rank, filing.alternative()), Some(filing));
        }
        None
    }
}
