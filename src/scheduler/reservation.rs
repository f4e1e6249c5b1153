//! The awaitable.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::FusedFuture;
use tokio::task::coop;

use crate::engine::{Asked, Refusal, Short, Submitted};
use crate::ledger::{Held, Posted};
use crate::model::{BudgetId, CloseReason, Explanation, Request, ReserveError, Seniority, TryReserveError, WaitState};

use crate::rt::sync::Ordering;

use super::core::{Core, Desk};
use super::explain;
use super::lease::Lease;
use super::span::WaitSpan;
use super::{report, scope, trace};

/// Stands for a slot: not polled yet.
const NEW: u32 = u32::MAX;
/// Stands for a slot: it gave its result.
const DONE: u32 = u32::MAX - 1;

/// A request on its way to a [`Lease`]: what [`Scheduler::reserve`](crate::Scheduler::reserve) returns.
///
/// It does nothing before its first poll, which fixes its place in the queue and makes its deadline absolute. Polling
/// it after it gave its result is harmless: it stays pending.
///
/// # Cancel safety
///
/// Dropping it at any time gives everything back that it had or was about to get, and whoever can use that is granted
/// in the same call. What is lost is its place in the queue. A reservation that was granted and is not polled keeps its
/// units for [`Config::offer_expiry`](crate::Config::offer_expiry); if others wait for them by then, they pass on, and
/// the reservation asks again, with the rank it had, when it is polled.
#[must_use = "a reservation does nothing unless it is awaited"]
pub struct Reservation {
    core: &'static Core,
    request: Request,
    generation: u32,
    /// The slot of the engine where it is queued, offered or ended; or `NEW`, or `DONE`.
    slot: u32,
}

/// What a look at the queue came to.
enum Step {
    Granted(Held),
    Waiting,
    Failed(ReserveError),
}

impl Reservation {
    #[inline]
    pub(super) fn new(core: &'static Core, generation: u32, request: Request) -> Self {
        Reservation { core, request, generation, slot: NEW }
    }

    /// Whether it was polled and has not given its result yet. A grant may lie ready for the next poll.
    pub fn is_waiting(&self) -> bool {
        self.slot < DONE
    }

    /// The place in the queue that it has, for the request that takes its place: as if it arrived now, if it does not
    /// wait.
    pub(crate) fn seniority(&self) -> Seniority {
        let slot = Some(self.slot).filter(|&slot| slot < DONE);
        let known = |desk: &Desk| slot.and_then(|slot| desk.engine.seniority(slot));
        self.core.look(|desk, turn| known(desk).unwrap_or_else(|| Seniority::since(turn.now)))
    }

    /// Another deadline; only before the first poll.
    pub(super) fn set_deadline(&mut self, within: Duration) {
        if self.slot == NEW {
            self.request = std::mem::take(&mut self.request).deadline(within);
        }
    }

    /// What it asks for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What blocks it, who holds that, who is ahead of it, and what happens next: as data, and as one sentence by
    /// `Display`. Changes nothing, and takes the scheduler's lock for as long as that is found out.
    pub fn explain(&self) -> Explanation {
        match self.slot {
            NEW => explain::newcomer(self.core, self.generation, &self.request),
            DONE => Explanation::new(WaitState::Done, self.request.urgency()).of(&self.request),
            slot => explain::waiter(self.core, slot, &self.request),
        }
    }

    #[cold]
    fn submit(&mut self, cx: &Context<'_>) -> Step {
        let (core, generation, request) = (self.core, self.generation, &self.request);
        // Cloned before the lock is taken: a clone runs code of whoever made the waker.
        let waker = cx.waker().clone();
        let level = request.urgency();
        let asked = Asked::of(request);
        let (submitted, names, now) = core.turn(|desk, turn, wakes| {
            let submitted = if turn.books.generation() == generation {
                desk.engine.submit(turn, asked)
            } else {
                Submitted::Refused(Box::new(gone(request)))
            };
            match &submitted {
                Submitted::Waiting(slot) => {
                    desk.note_label(*slot, request);
                    desk.keep_waker(*slot, waker, wakes);
                }
                Submitted::Refused(refusal) => {
                    wakes.discard(Some(waker));
                    desk.sink.refused(level, refusal);
                }
                Submitted::Granted(_) => wakes.discard(Some(waker)),
            }
            let refused = matches!(submitted, Submitted::Refused(_));
            (submitted, refused.then(|| desk.names.clone()), turn.now)
        });
        match submitted {
            Submitted::Granted(held) => Step::Granted(held),
            Submitted::Waiting(slot) => {
                self.slot = slot;
                core.console.begin(slot, now);
                if trace::is_heard() {
                    self.tell_of_wait(slot);
                }
                Step::Waiting
            }
            Submitted::Refused(refusal) => {
                Step::Failed(report::refused(core, &names.unwrap_or_default(), request, *refusal))
            }
        }
    }

    #[cold]
    fn tell_of_wait(&self, slot: u32) {
        let span = WaitSpan::of(&self.request);
        span.within(|| trace::waits(&self.request));
        self.core.spans.keep(slot, span);
    }

    #[cold]
    fn tell_of_grant(&self, span: &WaitSpan, lease: &Lease) {
        span.note("granted");
        span.within(|| trace::granted(&self.request, lease));
    }

    /// A poll off the fast path.
    #[cold]
    #[inline(never)]
    fn poll_slowly(&mut self, cx: &Context<'_>) -> Poll<Result<Lease, ReserveError>> {
        let span = if self.is_waiting() { self.core.spans.take(self.slot) } else { WaitSpan::default() };
        let step = match self.slot {
            DONE => Step::Waiting,
            0..DONE => self.look(cx),
            NEW => match self.request.check() {
                Err(fault) => {
                    self.core.note_malformed(self.generation, self.request.urgency());
                    Step::Failed(fault.into())
                }
                Ok(()) => {
                    scope::imply(&mut self.request);
                    match take_past_engine(self.core, self.generation, &self.request) {
                        Some(held) => Step::Granted(held),
                        None => self.submit(cx),
                    }
                }
            },
        };
        match step {
            Step::Waiting => {
                self.core.spans.keep(self.slot, span);
                Poll::Pending
            }
            Step::Granted(held) => {
                let waited = self.slot < DONE;
                self.slot = DONE;
                // A subscriber may panic: by then what was granted is in a lease.
                let lease = Lease::granted(self.core, held, &mut self.request);
                if waited && trace::is_heard() {
                    self.tell_of_grant(&span, &lease);
                }
                Poll::Ready(Ok(lease))
            }
            Step::Failed(error) => {
                self.slot = DONE;
                span.note("failed");
                span.within(|| trace::failed(&self.request, &error));
                Poll::Ready(Err(error))
            }
        }
    }

    /// Looks for a result.
    fn look(&mut self, cx: &Context<'_>) -> Step {
        let (core, slot) = (self.core, self.slot);
        // Before the result is taken: the slot may then be somebody else's.
        let shown = core.console.take(slot);
        let step = match core.board.look(slot) {
            Posted::Accepted { place } => Step::Granted(self.accepted(place)),
            Posted::Nothing | Posted::Ended => self.look_closer(cx),
        };
        if matches!(step, Step::Waiting) {
            core.console.keep(slot, shown, || core.asking(slot, &self.request));
        }
        step
    }

    /// What an offer holds that was taken up from the board, without the lock of the desk.
    fn accepted(&self, place: u32) -> Held {
        Held::taken_up(&self.request, self.core.rates.load(Ordering::Relaxed), place)
    }

    /// Asks the engine: nothing, or a verdict, lies on the board.
    fn look_closer(&mut self, cx: &Context<'_>) -> Step {
        let (core, slot, request) = (self.core, self.slot, &self.request);
        let waker = cx.waker().clone();
        let found = core.turn(|desk, turn, wakes| {
            // Once more, now that nobody can post: what was posted since the first look has used up the old waker.
            match turn.board.look(slot) {
                Posted::Accepted { place } => {
                    wakes.discard(Some(waker));
                    return Ok(Some(Held::taken_up(request, turn.books.rates(), place)));
                }
                Posted::Ended => {
                    if let Some(ended) = desk.engine.collect(slot) {
                        wakes.discard(Some(waker));
                        return Err((ended, desk.names.clone()));
                    }
                }
                Posted::Nothing => {
                    if let Some(held) = desk.engine.reactivate(turn, slot) {
                        wakes.discard(Some(waker));
                        return Ok(Some(held));
                    }
                }
            }
            desk.keep_waker(slot, waker, wakes);
            Ok(None)
        });
        match found {
            Ok(Some(held)) => Step::Granted(held),
            Ok(None) => Step::Waiting,
            Err((ended, names)) => Step::Failed(report::ended(core, &names, &self.request, ended)),
        }
    }
}

/// The scheduler of a reservation is gone, and its budgets with it.
fn gone(request: &Request) -> Refusal {
    let (budget, asked) = request.amounts().iter().next().unwrap_or((BudgetId::GPU, 0));
    Refusal::Closed(CloseReason::HandlesGone, Short { budget, asked, free: 0, limit: 0, waiting: 0 })
}

/// The fast path: grants without asking the engine, if nobody waits for anything that is asked.
#[inline(always)]
fn take_past_engine(core: &'static Core, generation: u32, request: &Request) -> Option<Held> {
    // Where there is a choice, the engine chooses.
    if request.is_flexible() {
        return None;
    }
    let mut books = core.books.lock_unhurried(|| core.is_busy());
    books.take_past_engine(generation, request.amounts(), request.urgency())
}

/// The attempt that does not wait.
#[inline]
pub(super) fn try_reserve(core: &'static Core, generation: u32, request: Request) -> Result<Lease, TryReserveError> {
    if request.is_plain()
        && !scope::is_any()
        && let Some(held) = take_past_engine(core, generation, &request)
    {
        return Ok(Lease::plain(core, held));
    }
    try_slowly(core, generation, request)
}

#[cold]
#[inline(never)]
fn try_slowly(core: &'static Core, generation: u32, mut request: Request) -> Result<Lease, TryReserveError> {
    request.check()?;
    scope::imply(&mut request);
    if let Some(held) = take_past_engine(core, generation, &request) {
        return Ok(Lease::granted(core, held, &mut request));
    }
    let level = request.urgency();
    let asked = Asked { deadline: u64::MAX, ..Asked::of(&request) };
    let (submitted, names) = core.turn(|desk, turn, _| {
        let submitted = if turn.books.generation() == generation {
            desk.engine.try_submit(turn, asked)
        } else {
            Err(Box::new(gone(&request)))
        };
        if let Err(refusal) = &submitted {
            desk.sink.refused(level, refusal);
        }
        (submitted, desk.names.clone())
    });
    match submitted {
        Ok(held) => Ok(Lease::granted(core, held, &mut request)),
        Err(refusal) => Err(report::not_now(core, &names, &request, *refusal)),
    }
}

impl Future for Reservation {
    type Output = Result<Lease, ReserveError>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Out of budget is not "unavailable": nothing is asked, and the place in the queue is kept.
        let coop = ready!(coop::poll_proceed(cx));
        let this = &mut *self;
        if this.slot == NEW
            && this.request.is_plain()
            && !this.core.busy.load(Ordering::Relaxed)
            && !scope::is_any()
            && let Some(held) = take_past_engine(this.core, this.generation, &this.request)
        {
            coop.made_progress();
            this.slot = DONE;
            return Poll::Ready(Ok(Lease::plain(this.core, held)));
        }
        let polled = this.poll_slowly(cx);
        if polled.is_ready() {
            coop.made_progress();
        }
        polled
    }
}

impl FusedFuture for Reservation {
    fn is_terminated(&self) -> bool {
        self.slot == DONE
    }
}

impl Drop for Reservation {
    #[inline(always)]
    fn drop(&mut self) {
        if self.slot < DONE {
            self.core.cancel(self.slot);
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("waiting", &self.is_waiting())
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
