//! What could come back at most if everybody was asked to end who may be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Amounts, BudgetId, Priority};

use super::steps::step;

/// The order in which leases are asked: level, grant and part, the last first, and the place.
pub(super) type Order = (Reverse<Priority>, Reverse<(u64, u64)>, u32);

/// What of one budget the leases hold that may be asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holders {
    units: [u128; Priority::COUNT],
    in_order: BTreeSet<Order>,
}

/// Of each budget, how much the leases of each level hold that may be asked, and which do. A search that cannot
/// succeed, which is the rule where few are preemptible, ends here and looks at none of them; any other looks at those
/// only that hold some of what is lacking.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reach(BTreeMap<BudgetId, Holders>);

impl Reach {
    /// Counts a lease.
    pub(super) fn add(&mut self, order: Order, amounts: &Amounts) {
        step();
        for (id, units) in amounts.iter() {
            let holders = self.0.entry(id).or_default();
            holders.units[order.0.0.index()] += u128::from(units);
            holders.in_order.insert(order);
        }
    }

    /// Counts a lease no more.
    pub(super) fn take(&mut self, order: Order, amounts: &Amounts) {
        for (id, units) in amounts.iter() {
            let Some(holders) = self.0.get_mut(&id) else { continue };
            let of_level = &mut holders.units[order.0.0.index()];
            *of_level = of_level.saturating_sub(u128::from(units));
            holders.in_order.remove(&order);
            if holders.in_order.is_empty() {
                self.0.remove(&id);
            }
        }
    }

    /// Whether leases below a level hold that much of every budget.
    pub(super) fn has(&self, lacks: &[(BudgetId, u64)], level: Priority) -> bool {
        lacks.iter().all(|&(id, lack)| {
            let below = self.0.get(&id).map_or(&[][..], |holders| &holders.units[level.index() + 1..]);
            below.iter().sum::<u128>() >= u128::from(lack)
        })
    }

    /// The leases that hold some of what is lacking, in the order in which they are asked.
    pub(super) fn holding(&self, lacks: &[(BudgetId, u64)]) -> impl Iterator<Item = Order> + '_ {
        let holders = lacks.iter().filter_map(|(id, _)| self.0.get(id));
        let mut lists: Vec<_> = holders.map(|holders| holders.in_order.iter().copied().peekable()).collect();
        std::iter::from_fn(move || {
            let first = lists.iter_mut().filter_map(|list| list.peek().copied()).min()?;
            for list in &mut lists {
                list.next_if_eq(&first);
            }
            step();
            Some(first)
        })
    }
}
