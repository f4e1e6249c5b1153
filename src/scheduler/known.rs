//! The holders that have a name: a sharded table, touched only by leases that carry a label (R12).

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use hdrhistogram::Histogram;

use crate::ledger::Held;
use crate::model::{BudgetId, Holder, WaitSummary};
use crate::observe::{Times, summary};
use crate::rt::sync::{AtomicU64, Ordering};

/// The table, by the place of a lease in the store.
#[derive(Debug, Default)]
pub(super) struct Known {
    holders: DashMap<u32, Holder>,
    entered: AtomicU64,
    /// How long those were held that have ended.
    holds: Mutex<Times>,
}

impl Known {
    /// Enters a lease; a part of one that was split off is as old as that.
    pub(super) fn enter(&self, held: Held, mut holder: Holder) {
        holder.number = self.entered.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = held.known() {
            self.holders.insert(place, holder);
        }
    }

    /// A lease ends. Its label, if it had one.
    #[cold]
    pub(super) fn leave(&self, held: Held, now: u64) -> Option<Cow<'static, str>> {
        let (_, holder) = held.known().and_then(|place| self.holders.remove(&place))?;
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.record(now.saturating_sub(holder.since));
        Some(holder.label)
    }

    /// A lease became a part of another: it is no holder any more, and its hold has not ended.
    pub(super) fn absorb(&self, held: Held) {
        if let Some(place) = held.known() {
            self.holders.remove(&place);
        }
    }

    /// The label of the lease in a place, if it has one.
    pub(super) fn label(&self, place: u32) -> Option<Cow<'static, str>> {
        self.holders.get(&place).map(|holder| holder.label.clone())
    }

    /// How long the labelled leases were held that have ended.
    pub(super) fn holds(&self) -> WaitSummary {
        self.hold_times().as_ref().map(summary).unwrap_or_default()
    }

    /// The same, each of them.
    pub(super) fn hold_times(&self) -> Option<Histogram<u64>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).copy()
    }

    /// Changes an entry, if the lease has one.
    pub(super) fn amend(&self, held: Held, change: impl FnOnce(&mut Holder)) {
        if let Some(mut holder) = held.known().and_then(|place| self.holders.get_mut(&place)) {
            change(&mut holder);
        }
    }

    /// The entry of a lease, if it has one.
    pub(super) fn get(&self, held: Held) -> Option<Holder> {
        let place = held.known()?;
        self.holders.get(&place).map(|holder| holder.clone())
    }

    /// Who holds a budget, largest first, then oldest.
    pub(super) fn of(&self, budget: BudgetId, now: u64) -> Vec<Holder> {
        let holds = |holder: &Holder| holder.amounts.get(budget);
        let found = self.holders.iter().filter(|entry| holds(entry) > 0);
        let mut all: Vec<Holder> = found.map(|entry| aged(&entry, now)).collect();
        all.sort_by_key(|holder| (Reverse(holds(holder)), holder.number));
        all
    }

    /// The `most` that were granted first, and how many there are in all. Looks at each once, and not at all for none.
    pub(super) fn oldest(&self, most: usize, now: u64) -> (Vec<Holder>, u64) {
        let all = self.holders.len();
        let mut first = BinaryHeap::with_capacity(most.min(all) + 1);
        if most > 0 {
            for entry in &self.holders {
                let found = (entry.number, *entry.key());
                if first.len() < most {
                    first.push(found);
                } else if let Some(mut last) = first.peek_mut().filter(|last| found < **last) {
                    *last = found;
                }
            }
        }
        // Who has ended in between is left out.
        let found = |(number, place): (u64, u32)| {
            self.holders.get(&place).filter(|holder| holder.number == number).map(|holder| aged(&holder, now))
        };
        (first.into_sorted_vec().into_iter().filter_map(found).collect(), all as u64)
    }

    /// The labels and amounts of the `most` that hold most of a budget, largest first. Copies nothing of the others.
    pub(super) fn largest(&self, budget: BudgetId, most: usize) -> Vec<(Arc<str>, u64)> {
        let mut found: Vec<(u64, Reverse<u64>, Arc<str>)> = Vec::with_capacity(most + 1);
        for holder in &self.holders {
            let key = (holder.amounts.get(budget), Reverse(holder.number));
            if key.0 > 0 && (found.len() < most || found.last().is_some_and(|last| (last.0, last.1) < key)) {
                let at = found.partition_point(|other| (other.0, other.1) > key);
                found.insert(at, (key.0, key.1, Arc::from(&*holder.label)));
                found.truncate(most);
            }
        }
        found.into_iter().map(|(units, _, label)| (label, units)).collect()
    }

    /// The same, with what all of them hold together.
    pub(super) fn summary(&self, budget: BudgetId, most: usize) -> (Vec<(Arc<str>, u64)>, u64) {
        let sum = self.holders.iter().map(|holder| holder.amounts.get(budget)).fold(0, u64::saturating_add);
        (self.largest(budget, most), sum)
    }

    pub(super) fn clear(&self) {
        self.holders.clear();
        *self.holds.lock().unwrap_or_else(PoisonError::into_inner) = Times::default();
    }
}

/// An entry, as old as it is now.
fn aged(holder: &Holder, now: u64) -> Holder {
    Holder { held_for: Duration::from_nanos(now.saturating_sub(holder.since)), ..holder.clone() }
}
