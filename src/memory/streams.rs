//! Streams for exclusive use: each is with one borrower at a time, so that nobody queues behind strangers.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::Stream;

/// Lends streams. Clones lend the same ones.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use bursar::memory::StreamPool;
///
/// let streams = StreamPool::new(1);
/// let lent = streams.acquire().await;
/// assert_eq!(lent.0, 0);
/// assert!(streams.try_acquire().is_none());
/// drop(lent);
/// assert!(streams.try_acquire().is_some());
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StreamPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Counts the streams that are here. Serves in the order of arrival.
    here: Arc<Semaphore>,
    streams: Mutex<Streams>,
    most: u8,
}

#[derive(Debug)]
struct Streams {
    /// The last that came back is lent first: its freed memory is still in a cache.
    here: Vec<Stream>,
    /// How many there are, here and lent.
    count: u8,
}

/// A stream that nobody else has, until this is dropped.
///
/// What is queued on the stream then goes on: the next borrower's work comes after it.
#[derive(Debug)]
pub struct StreamLease {
    stream: Stream,
    shared: Arc<Shared>,
    /// Given back last.
    _permit: OwnedSemaphorePermit,
}

impl StreamPool {
    /// How many streams there are unless somebody wants others.
    pub const DEFAULT: u8 = 16;

    /// Lends streams 0 to `count` - 1; at least one.
    pub fn new(count: u8) -> Self {
        StreamPool::growing(count, count)
    }

    /// Lends streams 0 to `count` - 1, and one more whenever all are lent, until there are `most`. Those stay.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use bursar::memory::StreamPool;
    ///
    /// let streams = StreamPool::growing(1, 2);
    /// let (one, other) = (streams.acquire().await, streams.acquire().await);
    /// assert_eq!((one.0, other.0, streams.count()), (0, 1, 2));
    /// assert!(streams.try_acquire().is_none());
    /// # }
    /// ```
    pub fn growing(count: u8, most: u8) -> Self {
        let count = count.max(1);
        let streams = Mutex::new(Streams { here: (0..count).rev().map(Stream).collect(), count });
        let here = Arc::new(Semaphore::new(count.into()));
        StreamPool { shared: Arc::new(Shared { here, streams, most: most.max(count) }) }
    }

    /// Borrows a stream, and waits for one if there is none: first come, first served.
    ///
    /// # Cancel safety
    /// Dropping the future gives the place in the line, or the stream, back.
    pub async fn acquire(&self) -> StreamLease {
        if let Some(lent) = self.try_acquire() {
            return lent;
        }
        loop {
            // The semaphore is never closed.
            if let Ok(permit) = Arc::clone(&self.shared.here).acquire_owned().await {
                return self.lend(permit);
            }
        }
    }

    /// Borrows a stream if there is one and nobody waits.
    pub fn try_acquire(&self) -> Option<StreamLease> {
        loop {
            match Arc::clone(&self.shared.here).try_acquire_owned() {
                Ok(permit) => return Some(self.lend(permit)),
                // Another may take what was made, but then that one did not make its own.
                Err(TryAcquireError::NoPermits) if self.shared.grow() => {}
                Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => return None,
            }
        }
    }

    /// How many there are, here and lent.
    pub fn count(&self) -> u8 {
        self.shared.streams().count
    }

    /// How many are here.
    pub fn available(&self) -> usize {
        self.shared.here.available_permits()
    }

    fn lend(&self, permit: OwnedSemaphorePermit) -> StreamLease {
        // There are as many as permits, and a stream comes back before its permit does.
        let stream = self.shared.streams().here.pop().unwrap_or_default();
        StreamLease { stream, shared: Arc::clone(&self.shared), _permit: permit }
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, if there may be more.
    fn grow(&self) -> bool {
        let mut streams = self.streams();
        let may = streams.count < self.most;
        if may {
            let next = Stream(streams.count);
            streams.here.push(next);
            streams.count += 1;
            drop(streams);
            self.here.add_permits(1);
        }
        may
    }
}

impl Deref for StreamLease {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        self.shared.streams().here.push(self.stream);
    }
}
