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

/// Those that wait until their leases are asked to end.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    /// By the place of the lease.
    waiting: BTreeMap<u32, Vec<Waiting>>,
    entered: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    waker: Waker,
    /// It is also to hear when what is asked is a part that was split off.
    parts: bool,
}

impl Revocations {
    /// Wakes those that wait for this lease to be asked.
    pub(super) fn wake(&mut self, place: u32, wakes: &mut Wakes) {
        self.waiting.remove(&place).into_iter().flatten().for_each(|waiting| wakes.push(waiting.waker));
    }

    /// The lease is no more.
    pub(super) fn forget(&mut self, held: Held, wakes: &mut Wakes) {
        let waiting = held.place().and_then(|place| self.waiting.remove(&place));
        waiting.into_iter().flatten().for_each(|waiting| wakes.discard(Some(waiting.waker)));
    }

    /// A part of a lease was split off: those that watch the whole hear of both. Their wakers are this crate's own, so
    /// to clone one runs no code of a caller's.
    pub(super) fn share(&mut self, of: Held, part: Held) {
        let (Some(of), Some(part)) = (of.place(), part.place()) else { return };
        let all = self.waiting.get(&of).into_iter().flatten().filter(|waiting| waiting.parts);
        let shared: Vec<Waker> = all.map(|waiting| waiting.waker.clone()).collect();
        shared.into_iter().for_each(|waker| _ = self.enter(part, waker, true));
    }

    /// Keeps a waker. The number by which it is known.
    fn enter(&mut self, place: u32, waker: Waker, parts: bool) -> u64 {
        self.entered += 1;
        self.waiting.entry(place).or_default().push(Waiting { number: self.entered, waker, parts });
        self.entered
    }

    /// Keeps a waker in place of the one that was kept under this number. The number by which it is known now.
    fn keep(&mut self, place: u32, number: Option<u64>, waker: Waker, wakes: &mut Wakes) -> u64 {
        let mut all = self.waiting.get_mut(&place).into_iter().flatten();
        if let Some(known) = all.find(|known| Some(known.number) == number) {
            wakes.discard(Some(std::mem::replace(&mut known.waker, waker)));
            return known.number;
        }
        self.enter(place, waker, false)
    }

    /// Nobody waits under this number any more.
    fn give_up(&mut self, place: u32, number: u64, wakes: &mut Wakes) {
        let Some(all) = self.waiting.get_mut(&place) else { return };
        if let Some(at) = all.iter().position(|known| known.number == number) {
            wakes.discard(Some(all.swap_remove(at).waker));
        }
        if all.is_empty() {
            self.waiting.remove(&place);
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
        Revoked { lease: self, kept: None }
    }
}

/// Waits until a lease is asked to end: what [`Lease::revoked`] returns.
#[derive(Debug)]
#[must_use = "it does nothing unless it is awaited"]
pub struct Revoked<'a> {
    lease: &'a Lease,
    /// Place and number of the waker that the desk keeps.
    kept: Option<(u32, u64)>,
}

impl Future for Revoked<'_> {
    type Output = Revocation;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Revocation> {
        let (core, held) = (self.lease.core(), self.lease.held());
        let Some(place) = held.place().filter(|_| held.is_tagged()) else { return Poll::Pending };
        let number = self.kept.map(|(_, number)| number);
        let polled = poll_revoked(core, held, cx.waker().clone(), |revocations, waker, wakes| {
            revocations.keep(place, number, waker, wakes)
        });
        self.kept = polled.err().map(|number| (place, number));
        polled.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Revoked<'_> {
    fn drop(&mut self) {
        if let Some((place, number)) = self.kept {
            // Declared first, dropped last: after the desk is free.
            let mut wakes = Wakes::default();
            self.lease.core().desk.lock().revocations.give_up(place, number, &mut wakes);
        }
    }
}

/// The revocation, if there is one; if not, the number under which the waker was kept.
fn poll_revoked(
    core: &'static Core,
    held: Held,
    waker: Waker,
    keep: impl FnOnce(&mut Revocations, Waker, &mut Wakes) -> u64,
) -> Result<Revocation, u64> {
    core.turn(|desk, turn, wakes| match desk.engine.revocation(held) {
        Some((by, until, arrived)) => {
            wakes.discard(Some(waker));
            let grace = Duration::from_nanos(until.saturating_sub(turn.now));
            Ok(Revocation { by, grace, seniority: Seniority::since(arrived) })
        }
        None => Err(keep(&mut desk.revocations, waker, wakes)),
    })
}

impl Lease {
    /// Watches the lease, and what is split off it, for one who is about to give it away: the waker is woken when it is
    /// asked to end, at once if it was, or a part of it; and dropped with the lease. Its clone runs no code of a
    /// caller's. The place in the queue that the request of the lease had; `None`, and no waker, if it is not
    /// preemptible.
    pub(crate) fn watch(&self, waker: impl FnOnce() -> Waker) -> Option<Seniority> {
        let (core, held) = (self.core(), self.held());
        let place = held.place()?;
        let since = core.look(|desk, _| desk.engine.lent_since(held))?;
        let waker = waker();
        let keep = |revocations: &mut Revocations, waker, _: &mut Wakes| revocations.enter(place, waker, true);
        if poll_revoked(core, held, waker.clone(), keep).is_ok() {
            waker.wake();
        }
        Some(Seniority::since(since))
    }
}
