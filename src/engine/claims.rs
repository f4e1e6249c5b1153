//! Hard claims (R2): what waiters that were passed too often, or too long, keep others of lower rank from taking. A
//! claim holds nothing: its units stay free.

use std::collections::BTreeMap;

use crate::model::{BudgetId, Priority};
use crate::policy::Rank;

/// The claims of one level at one budget.
#[derive(Debug, Default)]
struct Level {
    sum: u128,
    /// Units and slot of the claimant.
    claims: BTreeMap<Rank, (u64, u32)>,
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
        let level = &mut levels[rank.level().index()];
        level.sum += u128::from(units);
        let before = level.claims.insert(rank, (units, slot));
        debug_assert!(before.is_none());
        self.claimed |= budget.bit();
    }

    /// Withdraws the claim of a waiter. What it was.
    pub(super) fn remove(&mut self, budget: BudgetId, rank: Rank) -> Option<u64> {
        let levels = self.levels[budget.index()].as_mut()?;
        let level = &mut levels[rank.level().index()];
        let (units, _) = level.claims.remove(&rank)?;
        level.sum -= u128::from(units);
        if levels.iter().all(|level| level.claims.is_empty()) {
            self.claimed &= !budget.bit();
        }
        Some(units)
    }

    /// What waiters that rank above `rank` claim; no more than `enough` and one claim is looked at within its level.
    #[inline]
    pub(super) fn above(&self, budget: BudgetId, rank: Rank, enough: u64) -> u64 {
        if self.claimed & budget.bit() == 0 { 0 } else { self.sum_above(budget, rank, enough) }
    }

    /// What those claim that rank above `rank` and whom `binds` picks by their slots.
    pub(super) fn above_if(&self, budget: BudgetId, rank: Rank, binds: impl Fn(u32) -> bool) -> u64 {
        let Some(levels) = &self.levels[budget.index()] else { return 0 };
        let above = levels.iter().flat_map(|level| level.claims.range(..rank)).map(|(_, claim)| claim);
        let sum: u128 = above.filter(|(_, slot)| binds(*slot)).map(|(units, _)| u128::from(*units)).sum();
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    fn sum_above(&self, budget: BudgetId, rank: Rank, enough: u64) -> u64 {
        let Some(levels) = &self.levels[budget.index()] else { return 0 };
        let own = rank.level().index();
        let mut sum: u128 = levels[..own].iter().map(|level| level.sum).sum();
        let level = &levels[own];
        // Newcomers, who ask most often, come after all of their level.
        if level.claims.last_key_value().is_none_or(|(&last, _)| last < rank) {
            sum += level.sum;
        } else {
            for &(units, _) in level.claims.range(..rank).map(|(_, claim)| claim) {
                if sum > u128::from(enough) {
                    break;
                }
                sum += u128::from(units);
            }
        }
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// What a waiter claims.
    pub(super) fn of(&self, budget: BudgetId, rank: Rank) -> Option<u64> {
        self.levels[budget.index()].as_ref()?[rank.level().index()].claims.get(&rank).map(|&(units, _)| units)
    }
}
