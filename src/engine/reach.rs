//! How much could come back at most if everybody was asked to end who may be.

use std::collections::BTreeMap;

use crate::model::{Amounts, BudgetId, Priority};

/// Of each budget, how much the leases of each level hold that may be asked. A search that cannot succeed, which is the
/// rule where few are preemptible, ends here and looks at none of them.
#[derive(Debug, Default)]
pub(super) struct Reach(BTreeMap<BudgetId, [u64; Priority::COUNT]>);

impl Reach {
    /// Counts a lease.
    pub(super) fn add(&mut self, level: Priority, amounts: &Amounts) {
        for (id, units) in amounts.iter() {
            let of_level = &mut self.0.entry(id).or_default()[level.index()];
            *of_level = of_level.saturating_add(units);
        }
    }

    /// Whether leases below a level hold that much of every budget.
    pub(super) fn has(&self, lacks: &[(BudgetId, u64)], level: Priority) -> bool {
        lacks.iter().all(|&(id, lack)| {
            let below = self.0.get(&id).map_or(&[][..], |levels| &levels[level.index() + 1..]);
            below.iter().fold(0, |sum: u64, units| sum.saturating_add(*units)) >= lack
        })
    }
}
