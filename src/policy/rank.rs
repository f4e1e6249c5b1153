//! The one total order of everything that waits.

use crate::model::Priority;

/// The bits of a rank that order it inside its level.
const ORDER: u64 = (1 << 61) - 1;

/// Ranks that can go right behind one another, without coming to where others are.
const ROOM: u64 = 1 << 20;

/// Times at and above this are as good as no deadline: 73 years.
const LATEST: u64 = ORDER - 2 * ROOM;

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

    /// A rank after all others of a level.
    pub(crate) fn last_of(level: Priority, arrival: u64) -> Self {
        Rank { urgency: (level.index() as u64) << 61 | (LATEST + ROOM), arrival }
    }

    /// Whether it is one of those that [`last_of`](Rank::last_of) gives out, or right behind one.
    pub(crate) fn is_last(self) -> bool {
        self.order_by() >= LATEST + ROOM
    }

    /// A rank before this one, with no other in between.
    #[inline]
    pub fn before(self) -> Rank {
        Rank { arrival: self.arrival.saturating_sub(1), ..self }
    }

    /// The rank of another arrival that goes right behind this one: before all that are later by more than an instant.
    pub(crate) fn behind(self, arrival: u64) -> Rank {
        Rank { urgency: self.urgency + 1, arrival }
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
        self.urgency & ORDER
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
            Rank::new(Priority::Critical, u64::MAX, 9).behind(3),
            Rank::last_of(Priority::Critical, 2),
            Rank::last_of(Priority::Critical, 2).behind(1),
            Rank::new(Priority::High, 5, 8),
            Rank::new(Priority::High, 6, 1),
            Rank::new(Priority::High, 6, 2),
            Rank::last_of(Priority::High, 1),
            Rank::new(Priority::Idle, 0, 0),
        ];
        assert!(ordered.is_sorted());
        assert!(ordered.iter().map(|rank| rank.level()).is_sorted());
        assert_eq!(ordered[8].level(), Priority::Idle);
        let last: Vec<_> = (0..9).filter(|&at| ordered[at].is_last()).collect();
        assert_eq!(last, [2, 3, 7], "the latest of all times is not among them");
    }
}
