//! The holders that have a name: a sharded table, touched only by leases that carry a label (R12).

use std::borrow::Cow;
use std::sync::Arc;

use dashmap::DashMap;

use crate::model::{Amounts, BudgetId, Priority};
use crate::rt::sync::{AtomicU32, Ordering};

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
    pub(super) number: u32,
}

/// The table. Number 0 stands for a lease that is not in it.
#[derive(Debug, Default)]
pub(super) struct Known {
    holders: DashMap<u32, Holder>,
    next: AtomicU32,
}

impl Known {
    pub(super) fn enter(&self, mut holder: Holder) -> u32 {
        use dashmap::Entry;
        loop {
            // Numbers come round after four thousand million labelled leases; one that is still out keeps its own.
            holder.number = self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            if holder.number == 0 {
                continue;
            }
            if let Entry::Vacant(place) = self.holders.entry(holder.number) {
                let number = holder.number;
                place.insert(holder);
                return number;
            }
        }
    }

    #[cold]
    pub(super) fn leave(&self, number: u32) {
        if number != 0 {
            self.holders.remove(&number);
        }
    }

    /// Changes an entry, if the lease has one.
    pub(super) fn amend(&self, number: u32, change: impl FnOnce(&mut Holder)) {
        if number != 0
            && let Some(mut holder) = self.holders.get_mut(&number)
        {
            change(&mut holder);
        }
    }

    /// A copy of the entry with other amounts, for a part that was split off.
    pub(super) fn split(&self, number: u32, amounts: &Amounts) -> u32 {
        let copy = self.holders.get(&number).map(|holder| holder.clone());
        copy.map_or(0, |holder| self.enter(Holder { amounts: amounts.clone(), ..holder }))
    }

    pub(super) fn label(&self, number: u32) -> Option<Cow<'static, str>> {
        self.holders.get(&number).map(|holder| holder.label.clone())
    }

    /// Who holds a budget, largest first, then oldest.
    pub(super) fn of(&self, budget: BudgetId) -> Vec<Holder> {
        let holds = |holder: &Holder| holder.amounts.get(budget);
        let mut all: Vec<Holder> =
            self.holders.iter().filter(|entry| holds(entry) > 0).map(|entry| entry.clone()).collect();
        all.sort_by_key(|holder| (std::cmp::Reverse(holds(holder)), holder.number));
        all
    }

    pub(super) fn clear(&self) {
        self.holders.clear();
    }
}
