//! Streams whose items wait for their resources.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{FuturesUnordered, Stream, StreamExt};

use crate::model::{Request, ReserveError};
use crate::scheduler::{Lease, Reservation, Scheduler};

/// Reservations for the items of a stream.
pub trait ReserveExt: Stream + Sized {
    /// Each item with a lease of what it needs, in the order of the stream.
    ///
    /// The next item is taken from the stream when the one before has its lease: what waits for resources holds back
    /// whatever feeds the stream.
    fn reserve_with<F>(self, scheduler: &Scheduler, request: F) -> ReserveWith<Self, F>
    where
        F: FnMut(&Self::Item) -> Request,
    {
        ReserveWith { stream: Box::pin(self), request, scheduler: scheduler.clone(), next: None }
    }
}

impl<S: Stream> ReserveExt for S {}

/// A stream whose items come with leases: what [`ReserveExt::reserve_with`] returns.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::tasks::ReserveExt;
/// use bursar::{GIB, Request, Scheduler};
/// use futures::stream;
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// let images = stream::iter([1u64, 2, 3]);
/// let done = images
///     .reserve_with(&scheduler, |gib| Request::new().gpu(gib * GIB))
///     .for_each_reserved(8, |image, lease| async move {
///         // ... work on the image with its lease ...
///         drop((image, lease));
///     })
///     .await?;
/// assert_eq!(done, 3);
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing unless it is polled"]
pub struct ReserveWith<S: Stream, F> {
    stream: Pin<Box<S>>,
    request: F,
    scheduler: Scheduler,
    next: Option<(S::Item, Reservation)>,
}

/// An item that cannot have what it needs.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unreserved<I: fmt::Debug> {
    /// The item.
    pub item: I,
    /// Why not.
    #[source]
    pub error: ReserveError,
}

impl<S, F> ReserveWith<S, F>
where
    S: Stream,
    S::Item: fmt::Debug + Unpin,
    F: FnMut(&S::Item) -> Request + Unpin,
{
    /// Works on at most `limit` items at once (one if it is zero), each with its lease, and counts them. The work is
    /// part of this future: it runs while this is polled. An item is taken from the stream only when there is room for
    /// it.
    ///
    /// # Errors
    /// The first item that cannot have what it needs, after the work that had begun is done. What the stream has after
    /// it is not taken.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work that has begun, with its leases.
    pub async fn for_each_reserved<W, Fut>(mut self, limit: usize, mut work: W) -> Result<u64, Unreserved<S::Item>>
    where
        W: FnMut(S::Item, Lease) -> Fut,
        Fut: Future<Output = ()>,
    {
        let mut running = FuturesUnordered::new();
        let mut done = 0;
        let ended = loop {
            tokio::select! {
                biased;
                Some(()) = running.next() => done += 1,
                next = self.next(), if running.len() < limit.max(1) => match next {
                    Some(Ok((item, lease))) => running.push(work(item, lease)),
                    Some(Err(refused)) => break Err(refused),
                    None => break Ok(()),
                }
            }
        };
        while running.next().await.is_some() {
            done += 1;
        }
        ended.map(|()| done)
    }
}

impl<S, F> Stream for ReserveWith<S, F>
where
    S: Stream,
    S::Item: fmt::Debug + Unpin,
    F: FnMut(&S::Item) -> Request + Unpin,
{
    type Item = Result<(S::Item, Lease), Unreserved<S::Item>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.next.is_none() {
            let Some(item) = ready!(this.stream.as_mut().poll_next(cx)) else { return Poll::Ready(None) };
            let reservation = this.scheduler.reserve((this.request)(&item));
            this.next = Some((item, reservation));
        }
        let Some((_, reservation)) = &mut this.next else { return Poll::Pending };
        let granted = ready!(Pin::new(reservation).poll(cx));
        let next = this.next.take().map(|(item, _)| match granted {
            Ok(lease) => Ok((item, lease)),
            Err(error) => Err(Unreserved { item, error }),
        });
        Poll::Ready(next)
    }
}

impl<S: Stream, F> fmt::Debug for ReserveWith<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReserveWith").field("waiting", &self.next.is_some()).finish_non_exhaustive()
    }
}
