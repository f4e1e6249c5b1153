//! What can go wrong in a space.

use std::fmt;

use thiserror::Error;

use crate::model::{Bytes, SpaceId};

use super::blocks::BlockId;

/// Why a space did not do what it was asked. It is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpaceError {
    /// Too little is free.
    #[error(
        "{space}: asked {}, {} free{}{}; free blocks first, or reserve the space before allocating in it",
        Bytes(*.asked), Bytes(*.free), Largest(*.largest_free), Pending(*.pending)
    )]
    OutOfMemory {
        /// The space.
        space: SpaceId,
        /// How many bytes were asked.
        asked: u64,
        /// How many are free in all.
        free: u64,
        /// How many are free in one piece; `None` where blocks need not be in one piece.
        largest_free: Option<u64>,
        /// How many more are freed, but may still be used by work that is queued on streams.
        pending: u64,
    },
    /// It cannot be used any more: the device is lost, or the driver is missing or failed.
    #[error("{space} is lost: {reason}; nothing in it can be used any more")]
    Lost {
        /// The space.
        space: SpaceId,
        /// What was reported.
        reason: String,
    },
    /// A block of no bytes.
    #[error("{space}: a block of 0 bytes; ask for at least 1")]
    Zero {
        /// The space.
        space: SpaceId,
    },
    /// The disk has less than the budget allows.
    #[error("{space}: asked {}, {} free on the disk; remove files or lower the budget", Bytes(*.asked), Bytes(*.free))]
    DiskFull {
        /// The space.
        space: SpaceId,
        /// How many bytes were asked.
        asked: u64,
        /// How many are free on the disk, less what must stay free.
        free: u64,
    },
    /// The disk took or gave fewer bytes than it has to, without a reason.
    #[error("{block}: {done} of {expected} bytes were copied; what was written of it cannot be read")]
    Short {
        /// The block.
        block: BlockId,
        /// How many bytes had to be copied.
        expected: u64,
        /// How many were.
        done: u64,
    },
    /// What is on the disk is not what was written, or was not written whole.
    #[error("{block}: the {length} bytes from {offset} on are not what was written; write them again, or free it")]
    Corrupt {
        /// The block.
        block: BlockId,
        /// Where the damaged chunk begins.
        offset: u64,
        /// How long it is; 0 when the header is damaged.
        length: u64,
    },
    /// The system failed.
    #[error("{space}: {call} failed: {reason}")]
    Io {
        /// The space.
        space: SpaceId,
        /// What was tried.
        call: &'static str,
        /// What the system says.
        reason: String,
    },
    /// There is a limit to how many ids a space can tell apart.
    #[error("{space}: too many blocks with an id; free some, or keep blocks instead of ids")]
    TooManyIds {
        /// The space.
        space: SpaceId,
    },
    /// The block is being copied to or from.
    #[error("{block} is being copied; take it when the copy is done")]
    Busy {
        /// The block.
        block: BlockId,
    },
    /// The block is freed.
    #[error("{block} is freed")]
    StaleBlock {
        /// The block.
        block: BlockId,
    },
    /// The block is of another space.
    #[error("{block} is not a block of {space}")]
    ForeignBlock {
        /// The block.
        block: BlockId,
        /// The space that was asked.
        space: SpaceId,
    },
    /// The range does not lie in the block.
    #[error("{block} has {size} bytes; {length} from {offset} on are not all in it")]
    OutOfRange {
        /// The block.
        block: BlockId,
        /// Its size.
        size: u64,
        /// Where the range begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

struct Pending(u64);

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, ", {} more when streams have passed", Bytes(self.0)) }
    }
}

struct Largest(Option<u64>);

impl fmt::Display for Largest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |bytes| write!(f, ", {} of it in one piece", Bytes(bytes)))
    }
}
