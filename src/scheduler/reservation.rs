//! The awaitable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::FusedFuture;
use tokio::task::coop;

use crate::engine::{Asked, Refusal, Submitted};
use crate::ledger::{Posted, Taken};
use crate::model::{CloseReason, Request, ReserveError, TryReserveError};

use super::core::Core;
use super::lease::Lease;
use super::report;

/// Where a reservation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not polled yet.
    New,
    /// Queued, offered or ended, in a slot of the engine.
    Waiting,
    /// It gave its result.
    Done,
}

/// A request on its way to a [`Lease`]: what [`Scheduler::reserve`](crate::Scheduler::reserve) returns.
///
/// It does nothing before its first poll, which fixes its place in the queue and makes its deadline absolute. Polling it after
/// it gave its result is harmless: it stays pending.
///
/// # Cancel safety
///
/// Dropping it at any time gives everything back that it had or was about to get, and whoever can use that is granted in the same
/// call. What is lost is its place in the queue. A reservation that was granted and is not polled keeps its units for
/// [`Config::offer_expiry`](crate::Config::offer_expiry); if others wait for them by then, they pass on, and the
/// reservation asks again, with the rank it had, when it is polled.
#[must_use = "a reservation does nothing unless it is awaited"]
pub struct Reservation {
    core: &'static Core,
    request: Request,
    generation: u32,
    slot: u32,
    stage: Stage,
}

/// What a look at the queue came to.
enum Step {
    Granted,
    Waiting,
    Failed(ReserveError),
}

impl Reservation {
    #[inline]
    pub(super) fn new(core: &'static Core, generation: u32, request: Request) -> Self {
        Reservation { core, request, generation, slot: 0, stage: Stage::New }
    }

    /// Whether it is queued: polled at least once, and neither granted nor ended yet.
    pub fn is_waiting(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// What it asks for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    #[inline]
    fn lease(&mut self) -> Lease {
        self.stage = Stage::Done;
        Lease::granted(self.core, &mut self.request)
    }

    #[cold]
    fn submit(&mut self, cx: &Context<'_>) -> Step {
        let (core, generation, request) = (self.core, self.generation, &self.request);
        // Cloned before the lock is taken: a clone runs code of whoever made the waker.
        let waker = cx.waker().clone();
        let level = request.urgency();
        let asked = Asked { amounts: request.amounts(), level, deadline: request.deadline_ns(), wait: true };
        let (submitted, names) = core.turn(|desk, turn, wakes| {
            let submitted = if turn.books.generation() == generation {
                desk.engine.submit(turn, asked)
            } else {
                Submitted::Refused(Refusal::Closed(CloseReason::HandlesGone))
            };
            match &submitted {
                Submitted::Waiting(slot) => desk.keep_waker(*slot, waker, wakes),
                Submitted::Refused(refusal) => {
                    wakes.discard(Some(waker));
                    desk.sink.refused(level, refusal);
                }
                Submitted::Granted => wakes.discard(Some(waker)),
            }
            let refused = matches!(submitted, Submitted::Refused(_));
            (submitted, refused.then(|| desk.names.clone()))
        });
        match submitted {
            Submitted::Granted => Step::Granted,
            Submitted::Waiting(slot) => {
                (self.slot, self.stage) = (slot, Stage::Waiting);
                tracing::trace!(target: "bursar", request = ?self.request, "waiting");
                Step::Waiting
            }
            Submitted::Refused(refusal) => {
                Step::Failed(report::refused(core, &names.unwrap_or_default(), request, refusal))
            }
        }
    }

    #[inline]
    fn step(&mut self, cx: &Context<'_>) -> Step {
        match self.stage {
            Stage::Done => Step::Waiting,
            Stage::Waiting => match self.core.board.look(self.slot) {
                Posted::Accepted => Step::Granted,
                Posted::Nothing | Posted::Ended => self.look_closer(cx),
            },
            Stage::New => {
                if let Err(fault) = self.request.check() {
                    return Step::Failed(fault.into());
                }
                match take_past_engine(self.core, self.generation, &self.request) {
                    Taken::Yes => Step::Granted,
                    Taken::No => self.submit(cx),
                }
            }
        }
    }

    /// Asks the engine: nothing, or a verdict, lies on the board.
    fn look_closer(&mut self, cx: &Context<'_>) -> Step {
        let (core, slot) = (self.core, self.slot);
        let waker = cx.waker().clone();
        let found = core.turn(|desk, turn, wakes| {
            // Once more, now that nobody can post: what was posted since the first look has used up the old waker.
            match turn.board.look(slot) {
                Posted::Accepted => {
                    wakes.discard(Some(waker));
                    return Ok(true);
                }
                Posted::Ended => {
                    if let Some(ended) = desk.engine.collect(turn, slot) {
                        wakes.discard(Some(waker));
                        return Err((ended, desk.names.clone()));
                    }
                }
                Posted::Nothing => {
                    if desk.engine.reactivate(turn, slot) {
                        wakes.discard(Some(waker));
                        return Ok(true);
                    }
                }
            }
            desk.keep_waker(slot, waker, wakes);
            Ok(false)
        });
        match found {
            Ok(true) => Step::Granted,
            Ok(false) => Step::Waiting,
            Err((ended, names)) => Step::Failed(report::ended(core, &names, &self.request, ended)),
        }
    }
}

/// The fast path: grants without asking the engine, if nobody waits for anything that is asked.
#[inline]
fn take_past_engine(core: &'static Core, generation: u32, request: &Request) -> Taken {
    core.books.lock().take_past_engine(generation, request.amounts(), request.urgency(), || core.clock.task_now())
}

/// The attempt that does not wait.
#[inline]
pub(super) fn try_reserve(
    core: &'static Core,
    generation: u32,
    mut request: Request,
) -> Result<Lease, TryReserveError> {
    request.check()?;
    match take_past_engine(core, generation, &request) {
        Taken::Yes => Ok(Lease::granted(core, &mut request)),
        Taken::No => try_submit(core, generation, request),
    }
}

#[cold]
fn try_submit(core: &'static Core, generation: u32, mut request: Request) -> Result<Lease, TryReserveError> {
    let level = request.urgency();
    let asked = Asked { amounts: request.amounts(), level, deadline: u64::MAX, wait: false };
    let (submitted, names) = core.turn(|desk, turn, _| {
        let submitted = if turn.books.generation() == generation {
            desk.engine.submit(turn, asked)
        } else {
            Submitted::Refused(Refusal::Closed(CloseReason::HandlesGone))
        };
        if let Submitted::Refused(refusal) = &submitted {
            desk.sink.refused(level, refusal);
        }
        (submitted, desk.names.clone())
    });
    match submitted {
        Submitted::Refused(refusal) => Err(report::not_now(core, &names, &request, refusal)),
        // One that may not wait is never queued.
        Submitted::Granted | Submitted::Waiting(_) => Ok(Lease::granted(core, &mut request)),
    }
}

impl Future for Reservation {
    type Output = Result<Lease, ReserveError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Out of budget is not "unavailable": nothing is asked, and the place in the queue is kept.
        let coop = ready!(coop::poll_proceed(cx));
        let this = &mut *self;
        match this.step(cx) {
            Step::Granted => {
                coop.made_progress();
                Poll::Ready(Ok(this.lease()))
            }
            Step::Waiting => Poll::Pending,
            Step::Failed(error) => {
                coop.made_progress();
                this.stage = Stage::Done;
                Poll::Ready(Err(error))
            }
        }
    }
}

impl FusedFuture for Reservation {
    fn is_terminated(&self) -> bool {
        self.stage == Stage::Done
    }
}

impl Drop for Reservation {
    #[inline]
    fn drop(&mut self) {
        if self.stage == Stage::Waiting {
            let slot = self.slot;
            self.core.turn(|desk, turn, wakes| {
                desk.engine.cancel(turn, slot);
                wakes.discard(desk.wakers.get_mut(slot as usize).and_then(Option::take));
            });
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("stage", &self.stage)
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
