//! The one total order of everything that waits.

use crate::model::Priority;

/// Times at and above this are as good as no deadline: 73 years.
const LATEST: u64 = (1 << 61) - 1;

/// The order in which waiters are served: priority, then deadline (earliest first), then arrival. Smaller goes first.
///
/// Earliest deadline first inside a level is Liu and Layland, 1973. A request without a deadline gets, for order only,
/// one `edf_horizon` after its arrival, so that an endless stream of deadlines cannot keep it waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Level in the top three bits, deadline below: one comparison orders both.
    urgency: u64,
    /// Arrivals are numbered, so no two ranks are equal.
    arrival: u64,
}

impl Rank {
    /// Before every rank that is given out: arrivals are numbered from one.
    pub const BEFORE_ALL: Rank = Rank { urgency: 0, arrival: 0 };

    /// A rank. `order_by` is a time in nanoseconds, by the clock or virtual.
    #[inline]
    pub fn new(level: Priority, order_by: u64, arrival: u64) -> Self {
        Rank { urgency: (level.index() as u64) << 61 | order_by.min(LATEST), arrival }
    }

    /// A rank before this one, with no other in between.
    #[inline]
    pub fn before(self) -> Rank {
        Rank { arrival: self.arrival.saturating_sub(1), ..self }
    }

    /// The rank of another arrival that goes right behind this one: before all that are later by more than an instant.
    pub(crate) fn behind(self, arrival: u64) -> Rank {
        Rank::new(self.level(), self.order_by() + 1, arrival)
    }

    /// Its number among all arrivals.
    #[inline]
    pub fn arrival(self) -> u64 {
        self.arrival
    }

    /// Whether a deadline is so late that it is none.
    #[inline]
    pub fn is_never(deadline: u64) -> bool {
        deadline >= LATEST
    }

    /// What orders it inside its level.
    #[inline]
    pub fn order_by(self) -> u64 {
        self.urgency & LATEST
    }

    /// The level.
    #[inline]
    pub fn level(self) -> Priority {
        Priority::ALL[(self.urgency >> 61) as usize % Priority::COUNT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_goes_before_deadline_and_deadline_before_arrival() {
        let ordered = [
            Rank::new(Priority::Critical, u64::MAX, 9),
            Rank::new(Priority::High, 5, 8),
            Rank::new(Priority::High, 6, 1),
            Rank::new(Priority::High, 6, 2),
            Rank::new(Priority::Idle, 0, 0),
        ];
        assert!(ordered.is_sorted());
        assert!(ordered.iter().map(|rank| rank.level()).is_sorted());
        assert_eq!(ordered[4].level(), Priority::Idle);
    }
}
