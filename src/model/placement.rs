//! Where memory may be taken, and how far the places are from each other.

use thiserror::Error;

use super::budget::{SpaceId, Tier};
use super::error::RequestError;

/// Which spaces may serve a request for memory, the better ones first: what
/// [`Scheduler::place`](crate::Scheduler::place) turns into a request with alternatives.
///
/// Where a rule leaves a choice, the lower index goes first. Spaces that the scheduler has no budget for, and those
/// that are smaller than what is asked, do not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Placement {
    /// Any space of a tier.
    AnyIn(Tier),
    /// This space, else another of its tier, else one of a lower tier.
    Preferred(SpaceId),
    /// This space and no other.
    Specific(SpaceId),
    /// The spaces of these tiers, tier by tier.
    Ordered(Vec<Tier>),
    /// The spaces of a tier, that of which the smallest part is in use first.
    LeastLoaded(Tier),
    /// The spaces of a tier, the nearest to a space first.
    Nearest {
        /// To this space.
        to: SpaceId,
        /// Of this tier.
        tier: Tier,
    },
    /// Where to move what has to leave this space: the next lower tier that can hold it, the nearest space first.
    DowngradeFrom(SpaceId),
    /// Where to move what is to be faster than in this space: the next higher tier that can hold it, the nearest space
    /// first.
    UpgradeFrom(SpaceId),
}

/// How far two spaces are from each other, in whatever unit the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
pub struct Distance {
    /// One space.
    pub from: SpaceId,
    /// The other.
    pub to: SpaceId,
    /// The same both ways, unless the other way is in the table too.
    pub distance: u32,
}

/// A table of distances between spaces. Spaces that are not in the table are as far from each other as their indices
/// are: GPU 1 is nearest to host node 1.
///
/// ```
/// use bursar::{SpaceId, Tier, Topology};
///
/// let space = |tier, index| SpaceId { tier, index };
/// let (gpu2, node0, node2) = (space(Tier::Gpu, 2), space(Tier::Host, 0), space(Tier::Host, 2));
/// let topology = Topology::new().with(gpu2, node0, 0);
/// assert_eq!((topology.distance(gpu2, node0), topology.distance(node0, gpu2)), (0, 0));
/// assert_eq!(topology.distance(gpu2, node2), 0);
/// assert_eq!(Topology::new().distance(gpu2, node0), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Topology {
    /// The table.
    pub distances: Vec<Distance>,
}

impl Topology {
    /// An empty table.
    pub const fn new() -> Self {
        Topology { distances: Vec::new() }
    }

    /// One more entry. The first for a way counts.
    #[must_use]
    pub fn with(mut self, from: SpaceId, to: SpaceId, distance: u32) -> Self {
        self.distances.push(Distance { from, to, distance });
        self
    }

    /// How far one space is from another.
    pub fn distance(&self, from: SpaceId, to: SpaceId) -> u32 {
        let listed = |from, to| self.distances.iter().find(|each| each.from == from && each.to == to);
        let listed = listed(from, to).or_else(|| listed(to, from));
        listed.map_or(u32::from(from.index.abs_diff(to.index)), |each| each.distance)
    }
}

/// No space qualifies.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlacementError {
    /// The placement leads nowhere: no tier is named, or none lies below or above.
    #[error("the placement names no tier to look in: there is none below disk and none above GPU")]
    NoTier,
    /// The scheduler has a budget for none of the spaces.
    #[error("the scheduler has no space that the placement allows; it has {known}")]
    NoSpace {
        /// The spaces it has.
        known: String,
    },
    /// None of the spaces is large enough.
    #[error("{bytes} bytes fit in no space that the placement allows; the largest, {space}, has {capacity}")]
    TooLarge {
        /// What was asked.
        bytes: u64,
        /// The largest space.
        space: SpaceId,
        /// Its capacity.
        capacity: u64,
    },
    /// The request would be malformed.
    #[error(transparent)]
    Invalid(#[from] RequestError),
}
