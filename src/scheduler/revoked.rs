//! Leases that are asked to end.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::ledger::Held;
use crate::model::{Revocation, Seniority};

use super::core::Core;
use super::lease::Lease;
use super::wake::Wakes;

/// Somebody who is to hear when a lease is asked to end.
#[derive(Debug)]
struct Listener {
    waker: Waker,
    /// Also when what is asked is a part that was split off.
    parts: bool,
}

/// Those that wait until their leases are asked to end, by place.
#[derive(Debug, Default)]
pub(super) struct Revocations(BTreeMap<u32, Vec<Listener>>);

impl Revocations {
    /// Wakes those that wait for this lease to be asked.
    pub(super) fn wake(&mut self, place: u32, wakes: &mut Wakes) {
        self.0.remove(&place).into_iter().flatten().for_each(|listener| wakes.push(listener.waker));
    }

    /// The lease is no more.
    pub(super) fn forget(&mut self, held: Held, wakes: &mut Wakes) {
        let listeners = held.place().and_then(|place| self.0.remove(&place));
        listeners.into_iter().flatten().for_each(|listener| wakes.discard(Some(listener.waker)));
    }

    /// A part of a lease was split off. Their wakers are this crate's own: to clone one runs no code of a caller's.
    pub(super) fn share(&mut self, of: Held, part: Held) {
        let (Some(of), Some(part)) = (of.place(), part.place()) else { return };
        let all = self.0.get(&of).into_iter().flatten().filter(|listener| listener.parts);
        let shared: Vec<_> = all.map(|listener| Listener { waker: listener.waker.clone(), parts: true }).collect();
        if !shared.is_empty() {
            self.0.insert(part, shared);
        }
    }

    /// Keeps a waker, unless the same task waits there already.
    fn keep(&mut self, place: u32, listener: Listener, wakes: &mut Wakes) {
        let known = self.0.entry(place).or_default();
        if known.iter().any(|known| known.waker.will_wake(&listener.waker)) {
            wakes.discard(Some(listener.waker));
        } else {
            known.push(listener);
        }
    }
}

impl Lease {
    /// Waits until the lease is asked to end because a higher level waits for what it holds (C8). That happens only to
    /// leases of requests that are marked [`preemptible`](crate::Request::preemptible); for all others it never ends.
    ///
    /// Whoever is asked saves what is worth saving and drops the lease, within the grace that the revocation names.
    /// What comes back is kept for the one who waits for it. After the grace the lease is overdue: it stays valid, that
    /// is reported, and others may be asked in its place.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: a lease that was asked stays asked.
    ///
    /// # Parts
    /// What is [split](Lease::split) off can be asked for itself, without the rest, and has to be waited for itself. (A
    /// [task](crate::tasks::Task::preemptible) is told of both.)
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bursar::{GIB, Priority, Request, Scheduler};
    ///
    /// let scheduler = Scheduler::builder().gpu(8 * GIB).spawn()?;
    /// let batch = scheduler.reserve(Request::new().gpu(8 * GIB).priority(Priority::Idle).preemptible()).await?;
    /// let worker = tokio::spawn(async move {
    ///     tokio::select! {
    ///         () = std::future::pending() => unreachable!("work without end"),
    ///         revocation = batch.revoked() => revocation.by,
    ///     }
    ///     // The lease drops here.
    /// });
    /// let urgent = scheduler.reserve(Request::new().gpu(GIB).priority(Priority::Critical)).await?;
    /// assert_eq!(worker.await?, Priority::Critical);
    /// # drop(urgent); Ok(()) }
    /// ```
    pub fn revoked(&self) -> Revoked<'_> {
        Revoked { lease: self }
    }
}

/// Waits until a lease is asked to end: what [`Lease::revoked`] returns.
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Revoked<'a> {
    lease: &'a Lease,
}

impl Future for Revoked<'_> {
    type Output = Revocation;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Revocation> {
        let held = self.lease.held();
        match held.place().filter(|_| held.is_tagged()) {
            Some(place) => {
                let listener = Listener { waker: cx.waker().clone(), parts: false };
                poll_revoked(self.lease.core(), held, place, listener)
            }
            None => Poll::Pending,
        }
    }
}

fn poll_revoked(core: &'static Core, held: Held, place: u32, listener: Listener) -> Poll<Revocation> {
    core.turn(|desk, turn, wakes| match desk.engine.revocation(held) {
        Some((by, until, arrived)) => {
            wakes.discard(Some(listener.waker));
            let grace = Duration::from_nanos(until.saturating_sub(turn.now));
            Poll::Ready(Revocation { by, grace, seniority: Seniority(arrived) })
        }
        None => {
            desk.revocations.keep(place, listener, wakes);
            Poll::Pending
        }
    })
}

/// Watches a preemptible lease, and what is split off it, from outside, for those who have given it away. The scheduler
/// has to be alive meanwhile.
#[derive(Debug)]
pub(crate) struct Watched {
    core: &'static Core,
    held: Held,
    number: u64,
    seniority: Seniority,
}

impl Lease {
    /// Watches the lease after it was given away, if it is preemptible.
    pub(crate) fn watched(&self) -> Option<Watched> {
        let (core, held) = (self.core(), self.held());
        let (number, arrived) = core.look(|desk, _| desk.engine.lent(held))?;
        Some(Watched { core, held, number, seniority: Seniority(arrived) })
    }
}

impl Watched {
    /// The place in the queue that the request of the lease had.
    pub(crate) fn seniority(&self) -> Seniority {
        self.seniority
    }

    /// The revocation, if the lease was asked to end; if not, the waker is woken when it is, or a part of it. The waker
    /// is one whose clone runs no code of a caller's.
    pub(crate) fn poll(&self, waker: Waker) -> Poll<Revocation> {
        match self.held.place().filter(|_| self.is_there()) {
            Some(place) => poll_revoked(self.core, self.held, place, Listener { waker, parts: true }),
            None => Poll::Pending,
        }
    }

    /// Whether the lease is still out.
    fn is_there(&self) -> bool {
        self.core.look(|desk, _| desk.engine.lent(self.held)).is_some_and(|(number, _)| number == self.number)
    }
}
