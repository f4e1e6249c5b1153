//! The scheduler task: everything that time drives.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

use crate::model::CloseReason;
use crate::observe::Sampler;
use crate::rt::Clock;

use super::core::Core;

/// The scheduler task as a future, for those who run it themselves: what
/// [`Builder::build`](crate::Builder::build) returns beside the handle.
///
/// It sleeps until something is due (a deadline, an offer that expires, a rate that refills, a check of the books) and
/// is woken when something becomes due sooner; with nothing due it sleeps without a timer. With the feature `console`,
/// and while tokio-console listens, it also looks at the books twice a second. It ends when the scheduler is closed.
///
/// # Cancel safety
///
/// Dropping it before that closes the scheduler: every wait ends with [`CloseReason::DriverGone`]. Nothing is lost;
/// leases stay valid and give back as ever.
///
/// # Panics
///
/// Polling it outside a tokio runtime with a time driver panics as soon as a timer is needed, as tokio's own timers do.
#[must_use = "the driver must be polled for deadlines, offers and rates to work; dropping it closes the scheduler"]
pub struct Driver {
    core: &'static Core,
    generation: u32,
    /// Nanoseconds between two checks of the books; `u64::MAX` for never.
    verify_every: u64,
    verify_at: u64,
    sampler: Sampler,
    sleep: Option<Pin<Box<Sleep>>>,
    finished: bool,
}

impl Driver {
    pub(super) fn new(core: &'static Core, generation: u32, verify_every: u64, sampler: Sampler) -> Self {
        Driver { core, generation, verify_every, verify_at: 0, sampler, sleep: None, finished: false }
    }

    /// One turn of everything that is due. Returns when to come back, or `None` when the scheduler is closed.
    fn turn(&mut self, cx: &Context<'_>) -> Option<u64> {
        let waker = cx.waker().clone();
        let (closed, now) = self.core.turn(|desk, turn, wakes| {
            desk.engine.handle_timeout(turn);
            // Nothing is sooner than this, so the turn does not wake its own task.
            desk.armed = 0;
            wakes.discard(desk.driver.replace(waker));
            (desk.engine.closed().is_some(), turn.now)
        });
        if closed {
            self.core.leave_console(&mut self.sampler);
            return None;
        }
        self.verify_if_due(now);
        self.core.show_on_console(&mut self.sampler, now);
        Some(self.core.arm(self.verify_at.min(self.sampler.next())))
    }

    fn verify_if_due(&mut self, now: u64) {
        if self.verify_every == u64::MAX {
            self.verify_at = u64::MAX;
        } else if now >= self.verify_at {
            self.verify_at = now.saturating_add(self.verify_every);
            if let Err(defect) = super::verify(self.core) {
                tracing::error!(target: "bursar", %defect, "the books do not balance");
            }
        }
    }

    /// Sleeps until `at`. `Ready` when that is now.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, at: u64) -> Poll<()> {
        let Some(at) = Clock::instant(at).filter(|_| at != u64::MAX) else { return Poll::Pending };
        if at <= Instant::now() {
            // Due already: give the other tasks a turn in between.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        sleep.as_mut().reset(at);
        sleep.as_mut().poll(cx)
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if this.finished {
                return Poll::Ready(());
            }
            match this.turn(cx) {
                None => this.finished = true,
                Some(next) => {
                    if this.poll_sleep(cx, next).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.core.leave_console(&mut self.sampler);
        self.core.leave(self.generation, CloseReason::DriverGone);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("finished", &self.finished).finish_non_exhaustive()
    }
}
