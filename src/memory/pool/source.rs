//! Where a pool gets its memory from, and how it learns what streams have done.

use std::fmt::Debug;

use thiserror::Error;

use crate::memory::Stream;

/// Large pieces of memory and the order of streams, as a pool needs them. Implemented for CUDA, for the heap of the
/// host, and by tests that pass events by hand.
///
/// No method is called on the hit path of a pool. They may block for as long as a driver does, and must not call the
/// pool.
pub trait Source: Send + Sync + Debug + 'static {
    /// A large piece of memory. Dropping it returns it; a pool does so when nothing of it is in use.
    type Slab: Slab;
    /// A point in the work of a stream.
    type Event: Send + Debug;

    /// Whether work is queued on streams at all. Where it is not, whoever frees memory is done with it, and the methods
    /// about events are not called.
    const STREAMS: bool;

    /// Takes a slab of exactly so many bytes, a multiple of 256, that begins at a multiple of 4,096.
    ///
    /// # Errors
    /// Whatever keeps it from being given. The pool then makes do with less, or refuses.
    fn slab(&self, bytes: u64) -> Result<Self::Slab, SourceError>;

    /// Marks the point behind everything that is queued on a stream now. `None` if that cannot be done, because the
    /// device is lost, or by this thread: then the pool never uses that memory again.
    fn record(&self, stream: Stream) -> Option<Self::Event>;

    /// Whether a stream has passed a point. When in doubt, it has not.
    fn has_passed(&self, event: &Self::Event) -> bool;

    /// Makes what is queued on a stream from now on wait for a point of another. `false` if that cannot be done.
    fn wait(&self, stream: Stream, event: &Self::Event) -> bool;
}

/// A large piece of memory that a pool cuts into blocks.
pub trait Slab: Send + Debug {
    /// Where it begins. Not a multiple of 4,096 only if nobody needs more.
    fn address(&self) -> u64;
}

/// Why a source gave no memory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is not so much, or not in one piece.
    #[error("no memory of this size")]
    Exhausted,
    /// It cannot be used any more: the device is lost, the driver reported something that does not go away.
    #[error("{reason}")]
    Lost {
        /// What was reported.
        reason: String,
    },
}
