//! Names of budgets and memory spaces.

use std::fmt;

/// Names a budget of a scheduler. Small, plain, the same in every scheduler.
///
/// The common kinds have fixed numbers, so that a request can be written without asking a scheduler for ids; the first
/// of each kind are neighbours, so that an ordinary bundle touches few cache lines of the ledger. [`BudgetId::custom`]
/// names 32 more for whatever a service has to ration.
///
/// ```
/// use bursar::BudgetId;
///
/// assert_eq!(BudgetId::gpu(0), Some(BudgetId::GPU));
/// assert_eq!(BudgetId::gpu(99), None);
/// assert_eq!(BudgetId::gpu(1).unwrap().to_string(), "gpu1");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BudgetId(u8);

impl BudgetId {
    /// How many budgets one scheduler can have: a set of budgets is one machine word.
    pub const LIMIT: usize = 64;
    /// How many custom budgets there are.
    pub const CUSTOM: u8 = 32;

    /// Memory of the first GPU, in bytes.
    pub const GPU: BudgetId = BudgetId(0);
    /// Host memory of the first NUMA node, in bytes.
    pub const HOST: BudgetId = BudgetId(1);
    /// Space on the first disk, in bytes.
    pub const DISK: BudgetId = BudgetId(2);
    /// Compute slots.
    pub const COMPUTE: BudgetId = BudgetId(3);
    /// Attention, in millionths of the whole.
    pub const ATTENTION: BudgetId = BudgetId(4);
    /// I/O, in bytes per second.
    pub const IO: BudgetId = BudgetId(5);
    /// Network, in bytes per second.
    pub const NETWORK: BudgetId = BudgetId(6);

    /// Memory of GPU `index` (0 to 15).
    pub const fn gpu(index: u8) -> Option<BudgetId> {
        match index {
            0 => Some(Self::GPU),
            1..=15 => Some(BudgetId(7 + index)),
            _ => None,
        }
    }

    /// Host memory of NUMA node `index` (0 to 7).
    pub const fn host(index: u8) -> Option<BudgetId> {
        match index {
            0 => Some(Self::HOST),
            1..=7 => Some(BudgetId(23 + index)),
            _ => None,
        }
    }

    /// Disk `index` (0 to 3).
    pub const fn disk(index: u8) -> Option<BudgetId> {
        match index {
            0 => Some(Self::DISK),
            1 => Some(BudgetId(7)),
            2 => Some(BudgetId(23)),
            3 => Some(BudgetId(31)),
            _ => None,
        }
    }

    /// Custom budget `index` (0 to 31).
    pub const fn custom(index: u8) -> Option<BudgetId> {
        if index < Self::CUSTOM { Some(BudgetId(32 + index)) } else { None }
    }

    /// The budget with this position, if there is one.
    pub const fn from_index(index: usize) -> Option<BudgetId> {
        if index < Self::LIMIT { Some(BudgetId(index as u8)) } else { None }
    }

    /// Position, below [`BudgetId::LIMIT`].
    #[inline(always)]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The set that holds just this budget.
    #[inline(always)]
    pub(crate) const fn bit(self) -> u64 {
        1 << (self.0 & 63)
    }

    /// The budgets of a set, ascending.
    #[inline]
    pub(crate) fn in_set(mut set: u64) -> impl Iterator<Item = BudgetId> {
        std::iter::from_fn(move || {
            let first = BudgetId::first_of(set)?;
            set &= set - 1;
            Some(first)
        })
    }

    /// The lowest budget of a set.
    #[inline]
    pub(crate) const fn first_of(set: u64) -> Option<BudgetId> {
        if set == 0 { None } else { Some(BudgetId(set.trailing_zeros() as u8)) }
    }

    /// What kind of budget this is.
    pub const fn kind(self) -> BudgetKind {
        match self.0 {
            0 => BudgetKind::Space(SpaceId { tier: Tier::Gpu, index: 0 }),
            i @ 8..=22 => BudgetKind::Space(SpaceId { tier: Tier::Gpu, index: i - 7 }),
            1 => BudgetKind::Space(SpaceId { tier: Tier::Host, index: 0 }),
            i @ 24..=30 => BudgetKind::Space(SpaceId { tier: Tier::Host, index: i - 23 }),
            2 => BudgetKind::Space(SpaceId { tier: Tier::Disk, index: 0 }),
            7 => BudgetKind::Space(SpaceId { tier: Tier::Disk, index: 1 }),
            23 => BudgetKind::Space(SpaceId { tier: Tier::Disk, index: 2 }),
            31 => BudgetKind::Space(SpaceId { tier: Tier::Disk, index: 3 }),
            3 => BudgetKind::Compute,
            4 => BudgetKind::Attention,
            5 => BudgetKind::Io,
            6 => BudgetKind::Network,
            i => BudgetKind::Custom(i - 32),
        }
    }
}

impl fmt::Display for BudgetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            BudgetKind::Space(space) => f.pad(&space.to_string()),
            BudgetKind::Compute => f.pad("compute"),
            BudgetKind::Attention => f.pad("attention"),
            BudgetKind::Io => f.pad("io"),
            BudgetKind::Network => f.pad("network"),
            BudgetKind::Custom(index) => f.pad(&format!("custom{index}")),
        }
    }
}

impl fmt::Debug for BudgetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BudgetId({self})")
    }
}

/// What a [`BudgetId`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BudgetKind {
    /// Memory somewhere.
    Space(SpaceId),
    /// Compute slots.
    Compute,
    /// Attention.
    Attention,
    /// I/O bandwidth.
    Io,
    /// Network bandwidth.
    Network,
    /// A kind of the service's own.
    Custom(u8),
}

/// How fast and how large a memory is. Ordered from the fastest to the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Tier {
    /// Device memory.
    Gpu,
    /// Host memory.
    Host,
    /// Files.
    Disk,
}

/// One memory location: a tier and which of its members.
///
/// ```
/// use bursar::{BudgetId, SpaceId, Tier};
///
/// let numa1 = SpaceId { tier: Tier::Host, index: 1 };
/// assert_eq!(numa1.budget(), BudgetId::host(1));
/// assert_eq!(numa1.to_string(), "host1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId {
    /// The tier.
    pub tier: Tier,
    /// Which device, NUMA node or disk.
    pub index: u8,
}

impl SpaceId {
    /// The budget that rations this space, if the index is within what a scheduler can have.
    pub const fn budget(self) -> Option<BudgetId> {
        match self.tier {
            Tier::Gpu => BudgetId::gpu(self.index),
            Tier::Host => BudgetId::host(self.index),
            Tier::Disk => BudgetId::disk(self.index),
        }
    }
}

impl fmt::Display for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = match self.tier {
            Tier::Gpu => "gpu",
            Tier::Host => "host",
            Tier::Disk => "disk",
        };
        f.pad(&format!("{tier}{}", self.index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_space_has_its_own_id_and_names_itself() {
        let spaces = (0..16)
            .map(|i| SpaceId { tier: Tier::Gpu, index: i })
            .chain((0..8).map(|i| SpaceId { tier: Tier::Host, index: i }))
            .chain((0..4).map(|i| SpaceId { tier: Tier::Disk, index: i }));
        let mut seen = 0u64;
        for space in spaces {
            let id = space.budget().unwrap();
            assert_eq!(id.kind(), BudgetKind::Space(space));
            assert_eq!(seen & id.bit(), 0, "{space} shares an id");
            seen |= id.bit();
        }
        for id in [BudgetId::COMPUTE, BudgetId::ATTENTION, BudgetId::IO, BudgetId::NETWORK] {
            assert_eq!(seen & id.bit(), 0);
            seen |= id.bit();
        }
        assert_eq!(seen, u64::from(u32::MAX), "the lower half of the numbers is exactly the fixed kinds");
    }
}
