//! More for a lease that is held already.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::model::{Activity, Amounts, Request, ReserveError, Tag, TryReserveError};

use super::lease::Lease;
use super::reservation::{self, Reservation};
use super::trace;

impl Lease {
    /// Asks for more, all of it at once or nothing while it waits. Growth goes before new requests of the same level,
    /// and is not kept out by a claim whose owner waits for what this lease's activity holds.
    ///
    /// A lease without an [`Activity`] becomes one of its own by this; parts that are split off it are not in it.
    ///
    /// # Errors
    /// As for a reservation; and [`ReserveError::RolledBack`] or [`ReserveError::Split`] when all who could free what
    /// is missing wait themselves. The lease holds what it held.
    ///
    /// # Cancel safety
    /// Dropping the future at any time gives back what it was about to get, and leaves the lease as it was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bursar::{Amounts, BudgetId, GIB, Request, Scheduler};
    ///
    /// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
    /// let mut lease = scheduler.reserve(Request::new().gpu(2 * GIB)).await?;
    /// lease.grow(&Amounts::of(BudgetId::GPU, GIB)).await?;
    /// assert_eq!(lease.get(BudgetId::GPU), 3 * GIB);
    /// # Ok(()) }
    /// ```
    pub fn grow(&mut self, more: &Amounts) -> Growth<'_> {
        let request = self.growth(more);
        let reservation = Reservation::new(self.core(), self.generation(), request);
        Growth { lease: self, reservation }
    }

    /// Takes more if that is possible at once. It passes nobody whom [`grow`](Lease::grow) would not pass.
    ///
    /// # Errors
    /// As for [`Scheduler::try_reserve`](crate::Scheduler::try_reserve). The lease holds what it held.
    pub fn try_grow(&mut self, more: &Amounts) -> Result<(), TryReserveError> {
        let request = self.growth(more);
        let more = reservation::try_reserve(self.core(), self.generation(), request)?;
        self.take_in(more);
        Ok(())
    }

    fn growth(&mut self, more: &Amounts) -> Request {
        let tag = self.adopt();
        let request = Request::growth(more.clone(), self.priority(), tag);
        match self.label() {
            Some(label) => request.label(label),
            None => request,
        }
    }

    /// Makes the lease an activity of its own if it has none.
    fn adopt(&mut self) -> Tag {
        let core = self.core();
        let held = self.held_mut();
        core.turn(|desk, turn, _| {
            let tag = turn.books.tag(*held);
            if tag.activity != 0 {
                return tag;
            }
            let own = Tag { activity: Activity::undeclared_id(), ..tag };
            *held = turn.books.tagged(*held, own);
            let amounts = turn.books.amounts(*held);
            desk.engine.handed_over(turn, &amounts, tag, own);
            own
        })
    }

    fn take_in(&mut self, more: Lease) {
        // Of the same scheduler, and together they hold no more than its capacity: it cannot fail. If it did, `more`
        // would drop with the error and nothing be lost.
        let _ = self.merge(more);
    }
}

/// A lease on its way to more: what [`Lease::grow`] returns.
#[must_use = "growth does nothing unless it is awaited"]
pub struct Growth<'a> {
    lease: &'a mut Lease,
    reservation: Reservation,
}

impl Growth<'_> {
    /// The latest time of the grant, counted from the first poll.
    pub fn within(mut self, time: Duration) -> Self {
        self.reservation.set_deadline(time);
        self
    }
}

impl Future for Growth<'_> {
    type Output = Result<(), ReserveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let more = ready!(Pin::new(&mut self.reservation).poll(cx))?;
        self.lease.take_in(more);
        trace::grown(self.lease);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Growth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growth").field("lease", &self.lease).field("reservation", &self.reservation).finish()
    }
}
