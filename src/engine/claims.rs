//! Hard claims (R2): what waiters that were passed too often, or too long, keep others of lower rank from taking. A
//! claim holds nothing: its units stay free.

use std::collections::BTreeMap;

use crate::model::{BudgetId, Priority};
use crate::policy::Rank;

use super::steps::step;

/// Twice as many claims are halved into two blocks.
const BLOCK: usize = 64;

/// The claims of one level at one budget.
#[derive(Debug, Default)]
struct Level {
    sum: u128,
    /// Units and slot of the claimant.
    claims: BTreeMap<Rank, (u64, u32)>,
    /// How many there are, and of how much in all, from one rank on up to the next that is here: so that a sum need not
    /// look at each of them.
    blocks: BTreeMap<Rank, (usize, u128)>,
}

impl Level {
    fn add(&mut self, rank: Rank, units: u64, slot: u32) {
        let before = self.claims.insert(rank, (units, slot));
        debug_assert!(before.is_none());
        self.sum += u128::from(units);
        let start = self.block_of(rank).unwrap_or(Rank::BEFORE_ALL);
        let (count, sum) = self.blocks.entry(start).or_default();
        (*count, *sum) = (*count + 1, *sum + u128::from(units));
        if *count > 2 * BLOCK {
            self.halve(start);
        }
    }

    fn remove(&mut self, rank: Rank) -> Option<u64> {
        let (units, _) = self.claims.remove(&rank)?;
        self.sum -= u128::from(units);
        let start = self.block_of(rank)?;
        let (count, sum) = self.blocks.get_mut(&start)?;
        (*count, *sum) = (*count - 1, *sum - u128::from(units));
        if *count == 0 {
            self.blocks.remove(&start);
        }
        Some(units)
    }

    /// Where the block begins that a rank belongs to.
    fn block_of(&self, rank: Rank) -> Option<Rank> {
        self.blocks.range(..=rank).next_back().map(|(&start, _)| start)
    }

    fn halve(&mut self, start: Rank) {
        let Some((count, sum)) = self.blocks.get_mut(&start) else { return };
        let mut claims = self.claims.range(start..);
        let kept: u128 = claims.by_ref().take(BLOCK).map(|(_, &(units, _))| u128::from(units)).sum();
        if let Some((&middle, _)) = claims.next() {
            let rest = (*count - BLOCK, *sum - kept);
            (*count, *sum) = (BLOCK, kept);
            self.blocks.insert(middle, rest);
        }
    }

    /// What those claim that rank above `rank`, or more than `enough` of it.
    fn above(&self, rank: Rank, enough: u128) -> u128 {
        // Newcomers, who ask most often, come after all of their level.
        if self.claims.last_key_value().is_none_or(|(&last, _)| last < rank) {
            return self.sum;
        }
        let Some(start) = self.block_of(rank) else { return 0 };
        let blocks = self.blocks.range(..start).map(|(_, &(_, sum))| sum);
        let others = self.claims.range(start..rank).map(|(_, &(units, _))| u128::from(units));
        let mut sum = 0;
        for part in blocks.chain(others) {
            step();
            sum += part;
            if sum > enough {
                break;
            }
        }
        sum
    }
}

/// All hard claims.
#[derive(Debug)]
pub(super) struct Claims {
    /// The budgets where there is one.
    claimed: u64,
    /// By budget, made at the first claim there.
    levels: Vec<Option<Box<[Level; Priority::COUNT]>>>,
}

impl Claims {
    pub(super) fn new() -> Self {
        Claims { claimed: 0, levels: (0..BudgetId::LIMIT).map(|_| None).collect() }
    }

    /// The budgets where somebody claims something.
    #[inline]
    pub(super) fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Adds a claim. A waiter, which its rank stands for, has one claim at a budget.
    pub(super) fn add(&mut self, budget: BudgetId, rank: Rank, units: u64, slot: u32) {
        let levels = self.levels[budget.index()].get_or_insert_with(Box::default);
        levels[rank.level().index()].add(rank, units, slot);
        self.claimed |= budget.bit();
    }

    /// Withdraws the claim of a waiter. What it was.
    pub(super) fn remove(&mut self, budget: BudgetId, rank: Rank) -> Option<u64> {
        let levels = self.levels[budget.index()].as_mut()?;
        let units = levels[rank.level().index()].remove(rank)?;
        if levels.iter().all(|level| level.claims.is_empty()) {
            self.claimed &= !budget.bit();
        }
        Some(units)
    }

    /// What waiters that rank above `rank` claim, or more than `enough` of it.
    #[inline]
    pub(super) fn above(&self, budget: BudgetId, rank: Rank, enough: u64) -> u64 {
        if self.claimed & budget.bit() == 0 { 0 } else { self.sum_above(budget, rank, enough) }
    }

    /// What those claim that rank above `rank` and whom `binds` picks by their slots, or more than `enough` of it.
    /// Looks at each of them: whom a claim binds changes with who holds what (R3), and few hold while they wait.
    pub(super) fn above_if(
        &self,
        budget: BudgetId,
        rank: Rank,
        enough: u64,
        mut binds: impl FnMut(u32) -> bool,
    ) -> u64 {
        let Some(levels) = &self.levels[budget.index()] else { return 0 };
        let above = levels.iter().flat_map(|level| level.claims.range(..rank)).map(|(_, claim)| claim);
        let mut sum = 0;
        for &(units, slot) in above {
            step();
            if binds(slot) {
                sum += u128::from(units);
            }
            if sum > u128::from(enough) {
                break;
            }
        }
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    fn sum_above(&self, budget: BudgetId, rank: Rank, enough: u64) -> u64 {
        let Some(levels) = &self.levels[budget.index()] else { return 0 };
        let own = rank.level().index();
        let higher: u128 = levels[..own].iter().map(|level| level.sum).sum();
        let left = u128::from(enough).saturating_sub(higher);
        u64::try_from(higher + levels[own].above(rank, left)).unwrap_or(u64::MAX)
    }

    /// What a waiter claims.
    pub(super) fn of(&self, budget: BudgetId, rank: Rank) -> Option<u64> {
        self.levels[budget.index()].as_ref()?[rank.level().index()].claims.get(&rank).map(|&(units, _)| units)
    }
}

#[cfg(test)]
mod tests {
    use super::super::steps;
    use super::*;

    const CLAIMS: u64 = 1_000;

    fn rank(at: u64) -> Rank {
        Rank::new(Priority::Normal, at, at)
    }

    fn units(at: u64) -> u64 {
        1 + at % 3
    }

    /// What these claim before one of them is told exactly, or more than what is enough where it is more; and never by
    /// more looks than there are claims, or than blocks and claims of one block.
    fn assert_sums(level: &Level, there: &[u64]) {
        for (before, &at) in there.iter().enumerate() {
            let each: Vec<u128> = there[..before].iter().map(|&at| u128::from(units(at))).collect();
            let all: u128 = each.iter().sum();
            let steps_before = steps::taken();
            assert_eq!(level.above(rank(at), u128::MAX), all, "what is claimed before {at}");
            let looks = steps::taken() - steps_before;
            let most = before.min(2 * there.len().div_ceil(BLOCK) + 2 * BLOCK);
            assert!(looks <= most as u64, "{looks} looks at {before} claims before {at}");
            let but_one = all - each.last().unwrap_or(&0);
            for enough in [0, all / 2, but_one, all] {
                let told = level.above(rank(at), enough);
                assert!(if all > enough { told > enough } else { told == all }, "{told} of {all}, {enough} is enough");
            }
        }
    }

    #[test]
    fn r11_the_claims_before_a_rank_are_summed_up_by_blocks_in_whatever_order_they_came_and_went() {
        let (rising, falling, mixed) = (|at| at, |at| CLAIMS - 1 - at, |at| at * 577 % CLAIMS);
        for order in [rising, falling, mixed] {
            let mut level = Level::default();
            (0..CLAIMS).map(order).for_each(|at| level.add(rank(at), units(at), 0));
            let all: Vec<u64> = (0..CLAIMS).collect();
            assert_sums(&level, &all);
            let (few, gone): (Vec<u64>, Vec<u64>) = all.into_iter().partition(|at| *at >= CLAIMS - 10 || at % 300 == 0);
            gone.into_iter().for_each(|at| assert_eq!(level.remove(rank(at)), Some(units(at))));
            assert_sums(&level, &few);
        }
    }

    #[test]
    fn r11_no_more_claims_are_looked_at_than_it_takes_to_be_enough() {
        let mut level = Level::default();
        (0..CLAIMS).for_each(|at| level.add(rank(at), units(at), 0));
        let before = steps::taken();
        level.above(rank(CLAIMS - 1), 0);
        assert_eq!(steps::taken() - before, 1);
    }
}
