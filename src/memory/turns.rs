//! Turns of streams: copies of one stream are done one after the other, in the order in which they were first polled.

use std::sync::Arc;

use tokio::sync::Notify;

use super::blocks::BlockId;
use super::error::SpaceError;
use super::{STREAMS, Stream};

/// A permit for each stream, in a `Notify`: it gives a permit to whoever waits longest and keeps it if nobody does, and
/// one that was given to a future that is dropped goes on to the next. A mutex of tokio would do the same, but shows
/// itself in tokio-console, as two rows for each of the streams.
#[derive(Debug)]
pub(super) struct Turns(Box<[Arc<Notify>]>);

/// Whoever has it is the only one to queue work on a stream. May be moved to where that is done.
#[derive(Debug)]
pub(super) struct Turn(Arc<Notify>);

impl Turns {
    pub(super) fn new() -> Self {
        let free = || {
            let stream = Notify::new();
            stream.notify_one();
            Arc::new(stream)
        };
        Turns((0..STREAMS).map(|_| free()).collect())
    }

    /// Waits for the turn of whoever asks, in the order of arrival.
    pub(super) async fn take(&self, stream: Stream) -> Turn {
        let stream = Arc::clone(&self.0[usize::from(stream.0)]);
        stream.notified().await;
        Turn(stream)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.notify_one();
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
