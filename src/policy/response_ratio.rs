//! Highest response ratio next.
//!
//! P. Brinch Hansen, "An Analysis of Response Ratio Scheduling", IFIP Congress 1971. Who waits is served in order of
//! (wait + hold) / hold, the highest first, where the hold is how long it says that it will keep what it gets. Short
//! ones go first, as with shortest job first, but every wait makes a ratio grow without limit, so long ones get their
//! turn too.

use std::cmp::Ordering;

/// How long somebody has waited, relative to how long it will hold. Larger goes first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseRatio {
    waited: u64,
    hold: u64,
}

impl ResponseRatio {
    /// Of a wait and an expected hold in the same unit. A hold of nothing counts as one unit.
    pub(crate) fn new(waited: u64, hold: u64) -> Self {
        ResponseRatio { waited, hold: hold.max(1) }
    }
}

impl Ord for ResponseRatio {
    /// Exact: (a + b) / b is ordered as a / b, and two such fractions as their cross products, which fit.
    fn cmp(&self, other: &Self) -> Ordering {
        let product = |waited: u64, hold: u64| u128::from(waited) * u128::from(hold);
        product(self.waited, other.hold).cmp(&product(other.waited, self.hold))
    }
}

impl PartialOrd for ResponseRatio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Equal ratios are equal, whatever they are made of.
impl PartialEq for ResponseRatio {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ResponseRatio {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_grows_with_the_wait_and_falls_with_the_hold() {
        let ratio = ResponseRatio::new;
        assert!(ratio(10, 5) > ratio(9, 5));
        assert!(ratio(10, 5) > ratio(10, 6));
        assert_eq!(ratio(10, 5), ratio(2, 1));
        assert_eq!(ratio(0, 5), ratio(0, 7));
        assert_eq!(ratio(3, 0), ratio(3, 1));
        assert_ne!(ratio(10, 5), ratio(9, 5));
    }

    /// One part in 2^64 of a difference is one, where a float would see none.
    #[test]
    fn ratios_of_the_largest_figures_are_compared_exactly() {
        let most = u64::MAX;
        assert!(ResponseRatio::new(most, most - 1) > ResponseRatio::new(most - 1, most - 1));
        assert!(ResponseRatio::new(most - 1, most) > ResponseRatio::new(most - 2, most - 1));
    }
}
