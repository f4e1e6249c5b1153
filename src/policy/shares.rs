//! Weighted shares inside a level: start-time fair queuing.
//!
//! P. Goyal, H. M. Vin and H. Cheng, "Start-time Fair Queuing", SIGCOMM 1996. A request starts at the virtual time of
//! its level, or where the last one of its module finished, if that is later; it finishes its cost divided by the
//! weight of its module after that. The smallest start is served first, and the virtual time is the start of what was
//! served last. So a module that was idle starts where the others are: it has neither lost nor saved up anything.

use std::collections::BTreeMap;

use crate::model::Priority;

use super::Rank;

/// Virtual times start here.
#[derive(Debug)]
pub(crate) struct Shares {
    virtual_time: [u64; Priority::COUNT],
    /// Where the last request of each module finished, by level. A request without a module is of the nameless one.
    finish: [BTreeMap<Box<str>, u64>; Priority::COUNT],
}

impl Shares {
    /// The whole of a budget, as a cost: parts of it are counted in millionths.
    pub(crate) const WHOLE: u64 = 1_000_000;
    /// Virtual time that a cost of one takes at a weight of one.
    const FINENESS: u128 = 1_000;

    /// Nobody has had anything.
    pub(crate) fn new() -> Self {
        Shares { virtual_time: [0; Priority::COUNT], finish: Default::default() }
    }

    /// The virtual time of a level.
    pub(crate) fn now(&self, level: Priority) -> u64 {
        self.virtual_time[level.index()]
    }

    /// Where a request of a module would start.
    pub(crate) fn start(&self, level: Priority, module: Option<&str>) -> u64 {
        let finish = self.finish[level.index()].get(module.unwrap_or_default()).copied();
        self.virtual_time[level.index()].max(finish.unwrap_or(0))
    }

    /// A request waits or was served; it costs so much, to a module of this weight. One that goes before its turn, as
    /// growth and what is inside a minimum, is charged from where its turn would have been.
    pub(crate) fn charge(&mut self, level: Priority, module: Option<&str>, cost: u128, weight: u32) {
        let takes = u64::try_from(cost.max(1) * Self::FINENESS / u128::from(weight.max(1))).unwrap_or(u64::MAX);
        let (start, name) = (self.start(level, module), module.unwrap_or_default());
        let finish = &mut self.finish[level.index()];
        // The name is copied for the first of its requests only.
        match finish.get_mut(name) {
            Some(finish) => *finish = start.saturating_add(takes),
            None => _ = finish.insert(name.into(), start.saturating_add(takes)),
        }
    }

    /// A request of this rank was served. One that had no turn in its level does not move the time there.
    pub(crate) fn served(&mut self, rank: Rank) {
        if rank.is_last() {
            return;
        }
        let now = &mut self.virtual_time[rank.level().index()];
        *now = rank.order_by().max(*now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a module stands that was charged once, from the beginning.
    fn finish(cost: u128, weight: u32) -> u64 {
        let mut shares = Shares::new();
        shares.charge(Priority::Normal, Some("a"), cost, weight);
        shares.start(Priority::Normal, Some("a"))
    }

    #[test]
    fn the_smallest_parts_of_a_budget_are_told_apart_and_divided_by_weights() {
        assert_eq!(finish(3, 1), 3 * finish(1, 1));
        assert_eq!(finish(1, 1), 1_000 * finish(1, 1_000));
        assert!(finish(1, 1_000) > 0, "nobody is served for nothing");
        assert_eq!(finish(0, 1), finish(1, 1));
    }
}
