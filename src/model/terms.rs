//! What few requests say beyond one fixed bundle: other ways to serve them, and how little would do.

use super::activity::{IMPLIED, UNDECLARED};
use std::sync::Arc;

use super::amounts::Amounts;
use super::budget::BudgetId;

/// The most alternatives of one request.
pub(crate) const MOST_ALTERNATIVES: usize = 8;

/// The last rung of a ladder, on which every amount is at its floor whatever the factor. With the usual factor of one
/// half that is more than any amount needs.
const LAST_RUNG: u8 = 63;

/// A factor of one, in millionths.
pub(crate) const WHOLE: u32 = 1_000_000;

/// One way to serve a request: how much of which budgets, and how little would do.
#[derive(Debug, Clone)]
pub struct Alternative {
    want: Amounts,
    /// The same budgets; smaller where the amount is elastic.
    least: Amounts,
}

impl Alternative {
    /// A rigid one.
    pub fn rigid(want: Amounts) -> Self {
        Alternative { least: want.clone(), want }
    }

    /// One whose amounts may shrink to these floors. Floors of budgets that it does not want, and floors above what it
    /// wants, say nothing.
    pub fn elastic(want: Amounts, floors: &Amounts) -> Self {
        let floor = |id, units| if floors.get(id) == 0 { units } else { floors.get(id).min(units) };
        Alternative { least: want.iter().map(|(id, units)| (id, floor(id, units))).collect(), want }
    }

    /// What is wanted.
    pub fn want(&self) -> &Amounts {
        &self.want
    }

    /// What would do.
    pub fn least(&self) -> &Amounts {
        &self.least
    }

    /// Whether less than what is wanted would do.
    pub fn is_elastic(&self) -> bool {
        self.want.iter().any(|(id, units)| self.least.get(id) < units)
    }

    /// The rungs of its ladder from what is wanted down to the floors, numbered from zero. Every rung has the same
    /// fraction `factor` (in millionths) of the one before, rounded down, of every elastic amount, and no less than
    /// its floor.
    pub fn rungs(&self, factor: u32) -> impl Iterator<Item = (u8, Amounts)> + '_ {
        let mut next = Some((0, self.want.clone()));
        std::iter::from_fn(move || {
            let (rung, amounts) = next.take()?;
            if amounts.iter().any(|(id, units)| self.least.get(id) < units) {
                next = Some((rung + 1, self.below(&amounts, factor, rung + 1)));
            }
            Some((rung, amounts))
        })
    }

    fn below(&self, amounts: &Amounts, factor: u32, rung: u8) -> Amounts {
        if rung >= LAST_RUNG {
            return self.least.clone();
        }
        let less = |id: BudgetId, units: u64| {
            // A fraction of a u64 is one.
            let part = (u128::from(units) * u128::from(factor) / u128::from(WHOLE)) as u64;
            if self.least.get(id) < units { part.max(self.least.get(id)) } else { units }
        };
        amounts.iter().map(|(id, units)| (id, less(id, units))).collect()
    }
}

/// What a flexible request says: at least one alternative, in order of preference.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The ways to serve it, the best first.
    pub alternatives: Vec<Alternative>,
    /// The fraction of an elastic amount that the next rung of the ladder has, in millionths.
    pub factor: u32,
    /// How long it insists on what it wants, in nanoseconds.
    pub patience: u64,
    /// Who it is for.
    pub tag: Tag,
    /// It is more for a lease that is held already, and goes before what is not.
    pub grows: bool,
    /// The most that its activity will ever hold, if it has said so.
    pub most: Option<Arc<Amounts>>,
    /// When its work first arrived, if that was before; zero if not.
    pub arrived: u64,
    /// Since when it has waited for a grant, if it goes on with that; zero if it begins to.
    pub waits_since: u64,
}

impl Terms {
    /// All budgets it names.
    pub(crate) fn set(&self) -> u64 {
        self.alternatives.iter().fold(0, |set, alternative| set | alternative.want.set())
    }
}

/// Whom a request or a lease belongs to; zero is nobody in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tag {
    /// The number of a registered module.
    pub module: u64,
    /// The number of an activity, and whether that is only implied: see `party`.
    pub activity: u64,
    /// Whether it may be asked to end early.
    pub preemptible: bool,
}

impl Tag {
    /// Nobody in particular.
    pub const NOBODY: Tag = Tag { module: 0, activity: 0, preemptible: false };

    /// The number of the activity as such.
    #[inline]
    pub(crate) fn party(self) -> u64 {
        self.activity & !IMPLIED
    }

    /// Whether nobody has named the activity, and only the scope says that something belongs to it.
    #[inline]
    pub(crate) fn is_implied(self) -> bool {
        self.activity & IMPLIED != 0
    }

    /// Whether somebody has said what belongs to the activity, and so that none of it comes back while it waits. If
    /// not, it is that of one lease, and has no part in what is split off the lease.
    pub(crate) fn is_declared(self) -> bool {
        self.activity & UNDECLARED == 0
    }
}

/// How a request was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path {
    /// Which of its alternatives, counted from zero in order of preference.
    pub alternative: u8,
    /// How many rungs of the ladder below what it wanted; zero is all of it.
    pub rung: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_ends_at_the_floors_and_leaves_rigid_amounts_alone() {
        let mut want = Amounts::of(BudgetId::GPU, 100);
        assert!(want.add(BudgetId::HOST, 7));
        let alternative = Alternative::elastic(want, &Amounts::of(BudgetId::GPU, 20));
        let rungs: Vec<_> = alternative.rungs(500_000).map(|(_, rung)| rung.get(BudgetId::GPU)).collect();
        assert_eq!(rungs, [100, 50, 25, 20]);
        assert!(alternative.rungs(500_000).all(|(_, rung)| rung.get(BudgetId::HOST) == 7));
        assert_eq!(alternative.rungs(999_999).last().map(|(at, rung)| (at, rung.get(BudgetId::GPU))), Some((63, 20)));
        assert_eq!(Alternative::rigid(Amounts::of(BudgetId::GPU, 5)).rungs(1).count(), 1);
    }
}
