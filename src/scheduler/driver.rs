//! The scheduler task: everything that time drives.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::model::{CloseReason, Config};
use crate::observe::Sampler;
use crate::rt::Clock;

use super::core::{Core, nanos};
use super::inspect::stuck_report;
use super::trace;

/// Waits and holders that the report on a stuck queue names.
const REPORTED: usize = 8;

/// The scheduler task as a future, for those who run it themselves: what
/// [`Builder::build`](crate::Builder::build) returns beside the handle.
///
/// It sleeps until something is due (a deadline, an offer that expires, a rate that refills, a check of the books, a
/// sample) and is woken when something becomes due sooner; with nothing due it sleeps without a timer. With the feature
/// `console`, and while tokio-console listens, it also looks at the books twice a second. It ends when the scheduler is
/// closed.
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
    /// Checks of the books.
    verify: Chore,
    /// Samples of what is in use.
    sample: Chore,
    /// What tokio-console is shown.
    console: Sampler,
    sleep: Option<Pin<Box<Sleep>>>,
    finished: bool,
}

impl Driver {
    pub(super) fn new(core: &'static Core, generation: u32, config: &Config, console: Sampler) -> Self {
        let (verify, sample) = (Chore::new(config.verify_every), Chore::new(config.sample_every));
        Driver { core, generation, verify, sample, console, sleep: None, finished: false }
    }

    /// One turn of everything that is due. Returns when to come back, or `None` when the scheduler is closed.
    fn turn(&mut self, cx: &Context<'_>) -> Option<u64> {
        let waker = cx.waker().clone();
        let (closed, stuck, now) = self.core.turn(|desk, turn, wakes| {
            desk.engine.handle_timeout(turn);
            // Nothing is sooner than this, so the turn does not wake its own task.
            desk.armed = 0;
            wakes.discard(desk.driver.replace(waker));
            let grants = || turn.books.granted_at_once() + desk.sink.waited();
            let stuck = desk.engine.waiting() > 0 && desk.watch.is_stuck(turn.now, grants);
            (desk.engine.closed().is_some(), stuck, turn.now)
        });
        if closed {
            self.core.leave_console(&mut self.console);
            return None;
        }
        if stuck {
            self.report_stuck();
        }
        if self.verify.is_due(now)
            && let Err(defect) = super::verify(self.core)
        {
            trace::contain(|| tracing::error!(target: "bursar::verify", %defect, "the books do not balance"));
        }
        if self.sample.is_due(now) {
            self.core.sample();
        }
        self.core.show_on_console(&mut self.console, now);
        Some(self.core.arm(self.verify.at.min(self.sample.at).min(self.console.next())))
    }

    /// Says who waits for what, and who holds it. Without the figures of other parts, and whatever the subscriber does:
    /// the task that ends waits at their deadlines must not wait for anybody, nor end.
    #[cold]
    fn report_stuck(&self) {
        trace::contain(|| {
            if tracing::enabled!(target: "bursar::stuck", tracing::Level::WARN) {
                let report = stuck_report(self.core, REPORTED);
                tracing::warn!(
                    target: "bursar::stuck",
                    "nothing was granted for long although something waits\n{report}"
                );
            }
        });
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

/// Something that is done every so often.
#[derive(Debug)]
struct Chore {
    /// Nanoseconds; `u64::MAX` for never.
    every: u64,
    at: u64,
}

impl Chore {
    fn new(every: Option<Duration>) -> Self {
        let every = every.map_or(u64::MAX, nanos);
        Chore { every, at: if every == u64::MAX { u64::MAX } else { 0 } }
    }

    /// Whether it is to be done now; if so, it is due again later.
    fn is_due(&mut self, now: u64) -> bool {
        let due = now >= self.at;
        if due {
            self.at = now.saturating_add(self.every);
        }
        due
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
        self.core.leave_console(&mut self.console);
        self.core.leave(self.generation, CloseReason::DriverGone);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("finished", &self.finished).finish_non_exhaustive()
    }
}
