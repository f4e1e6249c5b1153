//! The holders that have a name: a sharded table, touched only by leases that carry a label (R12).

use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

use dashmap::DashMap;

use crate::ledger::Held;
use crate::model::{Amounts, BudgetId, Priority};
use crate::rt::sync::{AtomicU64, Ordering};

/// A labelled lease that is out, or was forgotten.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Holder {
    /// Its label.
    pub label: Cow<'static, str>,
    /// Its module, if the request named one.
    pub module: Option<Arc<str>>,
    /// Its level.
    pub priority: Priority,
    /// What it holds.
    pub amounts: Amounts,
    /// Whether the lease was forgotten, so that nothing of it will ever come back.
    pub forgotten: bool,
    /// Smaller is older.
    pub(super) number: u64,
}

/// The table, by the place of a lease in the store.
#[derive(Debug, Default)]
pub(super) struct Known {
    holders: DashMap<u32, Holder>,
    entered: AtomicU64,
}

impl Known {
    pub(super) fn enter(&self, held: Held, mut holder: Holder) {
        holder.number = self.entered.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = held.known() {
            self.holders.insert(place, holder);
        }
    }

    #[cold]
    pub(super) fn leave(&self, held: Held) {
        if let Some(place) = held.known() {
            self.holders.remove(&place);
        }
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
    pub(super) fn of(&self, budget: BudgetId) -> Vec<Holder> {
        let holds = |holder: &Holder| holder.amounts.get(budget);
        let mut all: Vec<Holder> =
            self.holders.iter().filter(|entry| holds(entry) > 0).map(|entry| entry.clone()).collect();
        all.sort_by_key(|holder| (Reverse(holds(holder)), holder.number));
        all
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
    }
}
