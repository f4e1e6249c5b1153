//! Aging (C4): a waiter gains a level each time it has waited a step, up to `High`.

use crate::policy::Rank;

use super::{Engine, Timer};

impl Engine {
    /// Since when a waiter has waited: with another request before this one, if it goes on with that.
    pub(super) fn ages_since(&self, slot: u32) -> u64 {
        let since = self.queue.get(slot).since;
        let before = self.queue.flexible(slot).map_or(0, |flexible| flexible.terms.waits_since);
        if before == 0 { since } else { before.min(since) }
    }

    /// Starts the clock of a waiter that stands at its level since `from`.
    #[inline]
    pub(super) fn start_aging(&mut self, slot: u32, from: u64) {
        self.queue.get_mut(slot).raise_at = self.settings.aging.due(self.queue.get(slot).rank.level(), from);
        self.resume_aging(slot);
    }

    /// Stops the clock of a waiter, whatever state it is in.
    #[inline]
    pub(super) fn stop_aging(&mut self, slot: u32) {
        if !self.raises.is_empty() {
            let timer = self.timer(slot, self.queue.get(slot).raise_at);
            self.raises.remove(&timer);
        }
    }

    pub(super) fn timer(&self, slot: u32, at: u64) -> Timer {
        (at, self.queue.get(slot).rank.arrival(), slot)
    }

    /// Raises everybody whose time has come, in order of time.
    pub(super) fn age(&mut self) {
        while let Some(&(due, _, slot)) = self.raises.first() {
            if due > self.now {
                break;
            }
            self.raise(slot, due);
        }
    }

    /// Lets the clock of a waiter run up to the time that is noted; one that was dormant has kept it.
    #[inline]
    pub(super) fn resume_aging(&mut self, slot: u32) {
        let at = self.queue.get(slot).raise_at;
        if at != u64::MAX {
            let timer = self.timer(slot, at);
            self.raises.insert(timer);
        }
    }

    /// Gives a waiter every raise that came due while it was dormant.
    pub(super) fn catch_up(&mut self, slot: u32) {
        let mut due = self.queue.get(slot).raise_at;
        while due <= self.now {
            self.raise(slot, due);
            due = self.queue.get(slot).raise_at;
        }
    }

    /// One level up, as if it had arrived there at `due`.
    fn raise(&mut self, slot: u32, due: u64) {
        self.stop_aging(slot);
        let rank = self.own_rank(slot);
        let raised = self.settings.aging.raised(rank, due);
        let level = raised.level();
        let rank = match &self.shares {
            // Growth goes before admission of whatever level it has risen to (C7).
            _ if self.queue.flexible(slot).is_some_and(|flexible| flexible.terms.grows) => {
                Rank::new(level, 0, rank.arrival())
            }
            // Its turn is now, in virtual time.
            Some(shares) => Rank::new(level, shares.now(level), rank.arrival()),
            None => raised,
        };
        self.set_own_rank(slot, rank);
        self.queue.get_mut(slot).raise_at = self.settings.aging.due(level, due);
        self.resume_aging(slot);
    }

    /// Gives a waiter another rank: it stands in the same lines, in another place, and claims the same. Those whom its
    /// claim binds no more, as it has fallen behind them, are to be looked at.
    pub(super) fn rerank(&mut self, slot: u32, rank: Rank) {
        let before = self.queue.get(slot).rank;
        let filed: Vec<_> = self.queue.filings(slot).collect();
        let claimed = self.unclaim(slot);
        filed.iter().for_each(|&(filing, _)| self.queue.leave(filing));
        let old = std::mem::replace(&mut self.queue.get_mut(slot).rank, rank);
        if !self.modules.is_empty() {
            self.rerank_in_module(slot, old, rank);
        }
        for &(filing, place) in &filed {
            self.queue.join(filing, place);
            self.held_back.rerank(filing, rank);
            self.mark_from(place, rank);
        }
        self.note_guard(slot);
        for &(id, units) in &claimed {
            self.claims.add(id, rank, units, slot);
            if before < rank {
                self.mark_from(id, before);
            }
        }
        if before < rank {
            self.let_in(slot, before);
        }
    }
}
