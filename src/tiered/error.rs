//! What can go wrong between leases and spaces.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use crate::memory::{BlockId, SpaceError};
use crate::model::{Bytes, ReserveError, SpaceId, Tier, TryReserveError};
use crate::scheduler::Lease;

/// Spaces that do not go with a scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TiersError {
    /// There is nothing to allocate in.
    #[error("no space was given; name at least one")]
    NoSpaces,
    /// A space that no scheduler can have a budget for, or that this one has none for.
    #[error("the scheduler has no budget for {space}; configure one, or leave the space out")]
    NoBudget {
        /// The space.
        space: SpaceId,
    },
    /// The budget is a rate.
    #[error("the budget of {space} is a rate; memory is lent, so make it a loan")]
    Rate {
        /// The space.
        space: SpaceId,
    },
    /// One space twice.
    #[error("{space} is given twice")]
    Twice {
        /// The space.
        space: SpaceId,
    },
    /// More could be reserved than there is.
    #[error(
        "the budget of {space} lends {}, the space has {}; lower the budget or enlarge the space",
        Bytes(*.limit), Bytes(*.capacity)
    )]
    LimitAboveCapacity {
        /// The space.
        space: SpaceId,
        /// The capacity of the budget.
        limit: u64,
        /// The capacity of the space.
        capacity: u64,
    },
}

/// The memory of a lease can be allocated only in spaces of the scheduler that granted it. Holds the lease.
#[derive(Debug, Error)]
#[error("the lease is of another scheduler; attach it to the tiers of that one")]
pub struct ForeignLease(pub Lease);

/// Why nothing was allocated. The accounts are as they were, except that a lease keeps what it grew by.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AllocateError {
    /// There is no such space here.
    #[error("there is no space {space} here; there are {known}")]
    UnknownSpace {
        /// The space.
        space: SpaceId,
        /// Those that there are.
        known: String,
    },
    /// The lease has nothing in this tier.
    #[error("the lease reserved nothing in the {tier:?} tier; reserve it, or name the space to allocate in")]
    NothingReserved {
        /// The tier.
        tier: Tier,
    },
    /// More than was reserved, and the lease is to fail then.
    #[error(
        "{space}: asked {}, which takes {}; the lease has {} of the {} it reserved left{}; reserve or grow by what is \
         missing, or choose another `OverUse`",
        Bytes(*.asked), Bytes(*.footprint), Bytes(.reserved.saturating_sub(*.allocated)), Bytes(*.reserved),
        InFlight(*.in_flight)
    )]
    OverReserved {
        /// The space.
        space: SpaceId,
        /// How many bytes were asked.
        asked: u64,
        /// How many a block of that size takes.
        footprint: u64,
        /// What the lease has allocated in it.
        allocated: u64,
        /// The part of it that comes back when work has passed.
        in_flight: u64,
        /// What the lease reserved of it.
        reserved: u64,
    },
    /// More than was reserved, or without a lease, and the scheduler does not give it.
    #[error("{space}: asked {}, {} more than reserved: {source}{}", Bytes(*.asked), Bytes(*.short), Holders(.holders))]
    NoRoom {
        /// The space.
        space: SpaceId,
        /// How many bytes were asked.
        asked: u64,
        /// By how much that is more than what is reserved and not allocated.
        short: u64,
        /// What the scheduler says.
        source: Box<TryReserveError>,
        /// Who holds the most of the budget: label and amount, at most three. Only labelled leases are known.
        holders: Vec<(Cow<'static, str>, u64)>,
    },
    /// The space does not give it, though it is reserved.
    #[error("{source}{}", Holders(.holders))]
    Space {
        /// What the space says.
        source: SpaceError,
        /// Who holds the most of it: label and amount, at most three. Only labelled leases are known.
        holders: Vec<(Cow<'static, str>, u64)>,
    },
}

impl AllocateError {
    /// Whether memory is what is missing, so that it can be given later.
    pub fn is_shortage(&self) -> bool {
        match self {
            AllocateError::NoRoom { source, .. } => matches!(**source, TryReserveError::NotNow(_)),
            AllocateError::Space { source, .. } => {
                matches!(source, SpaceError::OutOfMemory { .. } | SpaceError::DiskFull { .. })
            }
            _ => false,
        }
    }
}

/// What of a lease comes back by itself, if anything does.
struct InFlight(u64);

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            bytes => write!(f, ", and {} come back when work has passed that still uses them", Bytes(bytes)),
        }
    }
}

struct Holders<'a>(&'a [(Cow<'static, str>, u64)]);

impl fmt::Display for Holders<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (label, amount)) in self.0.iter().enumerate() {
            let lead = if at == 0 { "; reserved by" } else { "," };
            write!(f, "{lead} `{label}` {}", Bytes(*amount))?;
        }
        Ok(())
    }
}

/// What a copy broke off at.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CopyFault {
    /// Reading the source.
    #[error("reading failed: {0}")]
    Read(SpaceError),
    /// Writing the target.
    #[error("writing failed: {0}")]
    Write(SpaceError),
    /// Paying for it.
    #[error("bandwidth was refused: {0}")]
    Bandwidth(ReserveError),
}

/// A copy that was not done to its end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{from} to {to}: {done} of {length} bytes were copied, the next {unknown} are undefined: {fault}")]
pub struct CopyError {
    /// The source.
    pub from: BlockId,
    /// The target.
    pub to: BlockId,
    /// How many bytes were to be copied.
    pub length: u64,
    /// How many were, from the beginning of the range on.
    pub done: u64,
    /// How many bytes of the target after these are undefined; those that follow are as they were.
    pub unknown: u64,
    /// Why.
    pub fault: CopyFault,
}
