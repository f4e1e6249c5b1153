//! How much could come back at most if everybody was asked to end who may be.

use std::collections::BTreeMap;

use crate::model::{Amounts, BudgetId, Priority};

use super::steps::step;

/// Of each budget, how much the leases of each level hold that may be asked. A search that cannot succeed, which is the
/// rule where few are preemptible, ends here and looks at none of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reach(BTreeMap<BudgetId, [u128; Priority::COUNT]>);

impl Reach {
    /// Counts a lease.
    pub(super) fn add(&mut self, level: Priority, amounts: &Amounts) {
        step();
        for (id, units) in amounts.iter() {
            self.0.entry(id).or_default()[level.index()] += u128::from(units);
        }
    }

    /// Counts a lease no more.
    pub(super) fn take(&mut self, level: Priority, amounts: &Amounts) {
        for (id, units) in amounts.iter() {
            let levels = self.0.entry(id).or_default();
            levels[level.index()] = levels[level.index()].saturating_sub(u128::from(units));
            if levels.iter().all(|&units| units == 0) {
                self.0.remove(&id);
            }
        }
    }

    /// Whether leases below a level hold that much of every budget.
    pub(super) fn has(&self, lacks: &[(BudgetId, u64)], level: Priority) -> bool {
        lacks.iter().all(|&(id, lack)| {
            let below = self.0.get(&id).map_or(&[][..], |levels| &levels[level.index() + 1..]);
            below.iter().sum::<u128>() >= u128::from(lack)
        })
    }
}
