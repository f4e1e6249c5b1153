//! Turns of streams: copies of one stream are done one after the other, in the order in which they were first polled.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::blocks::BlockId;
use super::error::SpaceError;
use super::{STREAMS, Stream};

#[derive(Debug)]
pub(super) struct Turns(Box<[Arc<Mutex<()>>]>);

/// Whoever has it is the only one to queue work on a stream. May be moved to where that is done.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Turns {
    pub(super) fn new() -> Self {
        Turns((0..STREAMS).map(|_| Arc::default()).collect())
    }

    /// Tokio's mutex serves in the order of arrival.
    pub(super) async fn take(&self, stream: Stream) -> Turn {
        Arc::clone(&self.0[usize::from(stream.0)]).lock_owned().await
    }
}

/// Where a range begins in a block of memory, if it lies in it.
pub(super) fn check_range(block: BlockId, size: u64, offset: u64, length: usize) -> Result<usize, SpaceError> {
    let length = length as u64;
    let fits = offset.checked_add(length).is_some_and(|end| end <= size);
    // A block lies in memory or in a file, so an offset in it is a `usize` wherever there is that much.
    let start = usize::try_from(offset).ok().filter(|_| fits);
    start.ok_or(SpaceError::OutOfRange { block, size, offset, length })
}
