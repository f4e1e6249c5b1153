//! The waiters of bounded activities that may be passed no more and stand in line: they let nobody begin (`entry`).

use std::collections::BTreeMap;

use crate::policy::Rank;

use super::Engine;
use super::queue::State;
use super::steps::step;

/// In order of rank, apart by the loans that their activities may ask for. These are few, and whom somebody concerns is
/// a matter of them: so the first are found without a look at the others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Guards {
    all: BTreeMap<u32, (u64, Rank)>,
    in_order: BTreeMap<u64, BTreeMap<Rank, u32>>,
}

impl Guards {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Of those whose activities may ask for some of these loans, and for the same as each other, the ones that rank
    /// before `rank`.
    pub(super) fn before(&self, loans: u64, rank: Rank) -> impl Iterator<Item = impl Iterator<Item = u32> + '_> + '_ {
        let concerned = self.in_order.iter().filter(move |&(may_ask, _)| may_ask & loans != 0);
        concerned.map(move |(_, in_order)| in_order.range(..rank).map(|(_, &slot)| slot).inspect(|_| step()))
    }

    fn set(&mut self, slot: u32, guard: Option<(u64, Rank)>) {
        if self.all.get(&slot) == guard.as_ref() {
            return;
        }
        if let Some((may_ask, rank)) = self.all.remove(&slot)
            && let Some(in_order) = self.in_order.get_mut(&may_ask)
        {
            in_order.remove(&rank);
            if in_order.is_empty() {
                self.in_order.remove(&may_ask);
            }
        }
        if let Some((may_ask, rank)) = guard {
            self.all.insert(slot, (may_ask, rank));
            self.in_order.entry(may_ask).or_default().insert(rank, slot);
        }
    }
}

impl Engine {
    /// Whether a waiter lets nobody begin may have changed: it may be passed no more, came into a line or left it, or
    /// has another rank.
    #[inline]
    pub(super) fn note_guard(&mut self, slot: u32) {
        if self.parties.are_bounded() || !self.guards.is_empty() {
            let guard = self.guard(slot);
            self.guards.set(slot, guard);
        }
    }

    fn guard(&self, slot: u32) -> Option<(u64, Rank)> {
        let waiter = self.queue.get(slot);
        let guards = waiter.spent && waiter.state == State::Waiting && self.queue.filings(slot).next().is_some();
        let most = if guards { self.bound_of(self.tag(slot)) } else { None };
        most.map(|most| (most.set(), waiter.rank))
    }

    /// All of them, found anew; for checks.
    pub(super) fn guards_there(&self) -> Guards {
        let mut guards = Guards::default();
        self.queue.iter().for_each(|(slot, _)| guards.set(slot, self.guard(slot)));
        guards
    }

    /// Checks that they are known.
    pub(super) fn are_guards_known(&self) -> bool {
        self.guards == self.guards_there()
    }
}
