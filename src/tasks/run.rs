//! A task from its submission to its end.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, Sleep};

use crate::model::{Activity, Request, ReserveError, Seniority};
use crate::observe::{Running as CountedRunning, TaskCounters, TaskEnd, TaskRow};
use crate::scheduler::{Lease, Reservation, Scheduler};

use super::control::{CANCEL, Control, HALTED, LEAVE, PREEMPT, Preempt, RAISE, Stage};
use super::error::{bury, message};
use super::task::Factory;
use super::{BoxError, Retry, Task, TaskContext, TaskError};

/// A task that was submitted. Lives in a tokio task of its own.
pub(super) struct Run<T> {
    /// First, because it counts at a scheduler that this keeps alive.
    tally: Tally,
    scheduler: Scheduler,
    request: Request,
    /// The latest time of its first grant.
    deadline: Option<Instant>,
    factory: Factory<T>,
    retry: Retry,
    /// Runs that ended with an error, for which it was to be tried again.
    failures: u32,
    activity: Option<Activity>,
    complete_by: Option<Limit>,
    /// What was granted when it was submitted.
    first: Option<Result<Lease, ReserveError>>,
}

/// A time by which it has to be complete.
struct Limit {
    within: Duration,
    sleep: Pin<Box<Sleep>>,
}

/// Counts how a task ended: as cancelled, if it is dropped before anything else is known.
struct Tally {
    counters: &'static TaskCounters,
    control: Arc<Control>,
    end: TaskEnd,
}

impl Drop for Tally {
    fn drop(&mut self) {
        let last = self.control.stage_to_end();
        self.control.ended_running.store(matches!(last, Stage::Running), Ordering::Release);
        // What it would have said of its end is lost with it: its work goes on.
        let end = match (&last, self.end) {
            (Stage::Withdrawn, _) => TaskEnd::TakenBack,
            // What was aborted panicked while it was dropped.
            (_, TaskEnd::Cancelled) if std::thread::panicking() => TaskEnd::Panicked,
            (_, end) => end,
        };
        drop(last);
        self.counters.ended(end);
    }
}

/// An attempt, from before its future is made until after that is dropped.
struct Running {
    #[expect(dead_code, reason = "kept for its drop")]
    counted: CountedRunning<'static>,
    control: Arc<Control>,
}

impl Running {
    fn new(counters: &'static TaskCounters, control: &Arc<Control>) -> Self {
        Running { counted: counters.running(), control: Arc::clone(control) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.end_attempt();
    }
}

/// What an attempt came to.
enum Attempt<T> {
    Value(T),
    Error(TaskError),
    /// With the place in the queue that it had.
    Preempted(Option<Seniority>),
}

impl<T: Send + 'static> Run<T> {
    /// Asks for its resources in the same call, so that tasks arrive in the order in which they are submitted and their
    /// deadlines count from now.
    pub(super) fn new(scheduler: &Scheduler, task: Task<T>) -> Self {
        let Task { name, mut request, factory, preemptible, preemptions, retry, complete_by, is_activity, follows } =
            task;
        let activity = is_activity.then(|| Activity::new(Arc::clone(&name)));
        if let Some(activity) = &activity {
            request = request.activity(activity);
        }
        let control = Arc::new(Control::new(name, preemptible, preemptions, request.urgency()));
        if let Some(before) = follows {
            control.follow(before.control());
        }
        let counters = scheduler.task_counters();
        if counters.submitted() {
            scheduler.publish_part("tasks", move || counters.stats().figures());
        }
        let tally = Tally { counters, control, end: TaskEnd::Cancelled };
        let complete_by = complete_by.map(|within| Limit { within, sleep: Box::pin(sleep_until(within)) });
        let deadline = request.time_limit().and_then(|within| Instant::now().checked_add(within));
        let mut run = Run {
            tally,
            scheduler: scheduler.clone(),
            request: request.deadline(Duration::MAX),
            deadline,
            factory,
            retry,
            failures: 0,
            activity,
            complete_by,
            first: None,
        };
        run.queue();
        run
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        &self.tally.control
    }

    /// It cannot be run.
    pub(super) fn refuse(mut self, error: &TaskError) {
        self.tally.end = error.end();
    }

    #[expect(clippy::manual_async_fn, reason = "an async fn would keep its argument twice")]
    pub(super) fn run(mut self, mut row: TaskRow) -> impl Future<Output = Result<T, TaskError>> + Send {
        async move {
            // The whole of it: of the fields alone, a copy of the end would be kept and never counted.
            let run = &mut self;
            let result = {
                let mut work = pin!(run.complete());
                poll_fn(|cx| row.poll(work.as_mut(), cx)).await
            };
            run.tally.end = result.as_ref().map_or_else(TaskError::end, |_| TaskEnd::Done);
            if let Err(error) = &result {
                tracing::debug!(target: "bursar::task", %error, "ended without its value");
            }
            let Run { factory, retry, .. } = self;
            bury((factory, retry));
            result
        }
    }

    async fn complete(&mut self) -> Result<T, TaskError> {
        loop {
            let error = match self.granted().await {
                Ok(lease) => match self.attempt(lease).await {
                    Attempt::Value(value) => return Ok(value),
                    Attempt::Error(error) => error,
                    Attempt::Preempted(seniority) => {
                        self.note_preemption(seniority)?;
                        if self.tally.control.has(LEAVE) {
                            return Err(self.leave());
                        }
                        self.queue();
                        continue;
                    }
                },
                Err(error) => error,
            };
            let Some(pause) = self.retry.after(&error, self.failures + 1) else { return Err(error) };
            bury(error);
            self.failures += 1;
            // Another attempt is the last to arrive.
            self.tally.control.past().seniority = None;
            self.tally.counters.retried();
            self.pause(pause).await?;
            self.queue();
        }
    }

    /// Waits for what it asks for.
    async fn granted(&mut self) -> Result<Lease, TaskError> {
        let granted = match self.first.take() {
            Some(first) => first,
            None => poll_fn(|cx| self.poll_granted(cx)).await?,
        };
        granted.map_err(|error| TaskError::of_wait(Arc::clone(&self.tally.control.name), error))
    }

    fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<Result<Result<Lease, ReserveError>, TaskError>> {
        self.tally.control.listen(cx.waker());
        if let Some(gone) = self.called_back() {
            return Poll::Ready(Err(gone));
        }
        if self.tally.control.clear(RAISE) != 0
            && let Some(granted) = self.ask_anew()
        {
            return Poll::Ready(Ok(granted));
        }
        let polled = match &mut *self.tally.control.stage() {
            Stage::Queued(reservation) => Pin::new(reservation).poll(cx),
            _ => return Poll::Ready(Err(self.cancelled(false))),
        };
        match polled {
            Poll::Ready(granted) => Poll::Ready(Ok(granted)),
            Poll::Pending => self.poll_limit(cx).map(Err),
        }
    }

    /// Asks again with the level that it has now and the time at which it arrived, and gives up the old place only when
    /// it has the new one.
    fn ask_anew(&mut self) -> Option<Result<Lease, ReserveError>> {
        if let Stage::Queued(reservation) = &*self.tally.control.stage() {
            self.tally.control.past().seniority = Some(reservation.seniority());
        }
        let mut anew = self.scheduler.reserve(self.request_now());
        let granted = poll_once(&mut anew);
        if let Some(Err(_)) = granted {
            // It is closed, say, or too late: then so is the old place, and ends the same way.
            return None;
        }
        let old = match &mut *self.tally.control.stage() {
            Stage::Queued(reservation) => std::mem::replace(reservation, anew),
            // Withdrawn meanwhile; what was granted goes back.
            _ => return None,
        };
        drop(old);
        granted
    }

    /// What it asks for from now on: with what is left of its deadline, which is that of the first grant.
    fn request_now(&self) -> Request {
        let mut request = self.request.clone().priority(self.tally.control.level());
        if self.tally.control.may_be_preempted() {
            request = request.preemptible();
        }
        let (seniority, attempts) = {
            let past = self.tally.control.past();
            (past.seniority, past.attempts)
        };
        if let Some(seniority) = seniority {
            request = request.seniority(seniority);
        }
        match self.deadline.filter(|_| attempts == 0) {
            Some(deadline) => request.deadline(deadline.saturating_duration_since(Instant::now())),
            None => request,
        }
    }

    /// Takes a place in the queue.
    fn queue(&mut self) {
        // Before the level is read: a raise that comes later is a flag for the next poll.
        self.tally.control.clear(RAISE);
        let mut reservation = self.scheduler.reserve(self.request_now());
        self.first = poll_once(&mut reservation);
        drop(self.tally.control.move_to(Stage::Queued(reservation)));
    }

    /// Runs it once with what it was granted. Whatever it does, the lease ends with the future.
    async fn attempt(&mut self, lease: Lease) -> Attempt<T> {
        if let Some(gone) = self.called_back().or_else(|| self.begin()) {
            return Attempt::Error(gone);
        }
        let attempt = self.tally.control.begin_attempt();
        let _running = Running::new(self.tally.counters, &self.tally.control);
        let seniority = self.watch(&lease, attempt);
        let context = TaskContext::new(lease, Arc::clone(&self.tally.control), self.activity.clone(), attempt);
        let panicked = |control: &Control, payload| TaskError::Panicked {
            name: Arc::clone(&control.name),
            attempt,
            message: message(payload),
        };
        let made = catch_unwind(AssertUnwindSafe(|| (self.factory)(context)));
        let mut future = match made {
            Ok(future) => Some(future),
            Err(payload) => return Attempt::Error(panicked(&self.tally.control, payload)),
        };
        let outcome = poll_fn(|cx| self.poll_attempt(future.as_mut(), cx, attempt, seniority)).await;
        // Dropped where it stands; a panic of something that it held is its own.
        match catch_unwind(AssertUnwindSafe(|| drop(future.take()))) {
            Ok(()) => outcome,
            Err(payload) => match outcome {
                Attempt::Value(_) | Attempt::Preempted(_) => Attempt::Error(panicked(&self.tally.control, payload)),
                error => error,
            },
        }
    }

    /// Has the attempt told when its lease is asked to end, or a part of it. The place in the queue that the lease had.
    fn watch(&self, lease: &Lease, attempt: u32) -> Option<Seniority> {
        lease.watch(|| Waker::from(Arc::new(Preempt { control: Arc::clone(&self.tally.control), attempt })))
    }

    /// Why it is not to wait or begin any more, if it is not: it was cancelled, or told to leave while it was about to
    /// wait again.
    fn called_back(&self) -> Option<TaskError> {
        match (self.tally.control.has(CANCEL), self.tally.control.has(LEAVE)) {
            (true, _) => Some(self.cancelled(false)),
            (false, true) => Some(self.leave()),
            (false, false) => None,
        }
    }

    /// Goes from the queue to running, unless it was withdrawn.
    fn begin(&self) -> Option<TaskError> {
        let last = {
            let mut stage = self.tally.control.stage();
            match &*stage {
                Stage::Withdrawn => return Some(self.cancelled(false)),
                _ => {
                    // Before anybody sees that it runs: what it is told from then on is meant for this run.
                    self.tally.control.clear(PREEMPT | HALTED);
                    std::mem::replace(&mut *stage, Stage::Running)
                }
            }
        };
        drop(last);
        None
    }

    fn poll_attempt(
        &mut self,
        future: Option<&mut BoxFuture<'static, Result<T, BoxError>>>,
        cx: &mut Context<'_>,
        attempt: u32,
        seniority: Option<Seniority>,
    ) -> Poll<Attempt<T>> {
        let Some(future) = future else { return Poll::Pending };
        self.tally.control.listen(cx.waker());
        let polled = match self.interruption(seniority) {
            Some(interrupted) => return Poll::Ready(interrupted),
            None => catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))),
        };
        let name = || Arc::clone(&self.tally.control.name);
        match polled {
            Ok(Poll::Ready(Ok(value))) => Poll::Ready(Attempt::Value(value)),
            Ok(Poll::Ready(Err(error))) => {
                Poll::Ready(Attempt::Error(TaskError::Failed { name: name(), attempt, error: error.into() }))
            }
            Err(payload) => {
                Poll::Ready(Attempt::Error(TaskError::Panicked { name: name(), attempt, message: message(payload) }))
            }
            // It may have come to a checkpoint.
            Ok(Poll::Pending) => match self.interruption(seniority) {
                Some(interrupted) => Poll::Ready(interrupted),
                None => self.poll_limit(cx).map(Attempt::Error),
            },
        }
    }

    /// Whether it is to be stopped where it stands.
    fn interruption(&self, seniority: Option<Seniority>) -> Option<Attempt<T>> {
        let control = &self.tally.control;
        if control.is_cut() {
            return Some(Attempt::Preempted(seniority));
        }
        (control.has(HALTED) && control.has(CANCEL)).then(|| Attempt::Error(self.cancelled(true)))
    }

    fn note_preemption(&self, seniority: Option<Seniority>) -> Result<(), TaskError> {
        self.tally.counters.preempted();
        let (times, too_often) = self.tally.control.note_preemption(seniority);
        tracing::debug!(target: "bursar::task", name = &*self.tally.control.name, times, "preempted");
        match too_often {
            true => Err(TaskError::PreemptedTooOften { name: Arc::clone(&self.tally.control.name), times }),
            false => Ok(()),
        }
    }

    /// Ends, for whoever told it to leave its work to them. One that was cancelled has ended for good.
    fn leave(&self) -> TaskError {
        if !self.tally.control.has(CANCEL) {
            drop(self.tally.control.move_to(Stage::Withdrawn));
        }
        self.cancelled(false)
    }

    /// Holds nothing for a while.
    async fn pause(&mut self, pause: Duration) -> Result<(), TaskError> {
        drop(self.tally.control.move_to(Stage::Pausing));
        let mut sleep = Box::pin(sleep_until(pause));
        poll_fn(|cx| {
            self.tally.control.listen(cx.waker());
            if self.tally.control.has(CANCEL) {
                return Poll::Ready(Err(self.cancelled(false)));
            }
            match self.poll_limit(cx) {
                Poll::Ready(error) => Poll::Ready(Err(error)),
                Poll::Pending => sleep.as_mut().poll(cx).map(Ok),
            }
        })
        .await
    }

    /// Ready when it should have been complete.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<TaskError> {
        let Some(Limit { within, sleep }) = &mut self.complete_by else { return Poll::Pending };
        let overdue = |()| TaskError::Overdue {
            name: Arc::clone(&self.tally.control.name),
            within: *within,
            attempts: self.tally.control.attempts(),
        };
        sleep.as_mut().poll(cx).map(overdue)
    }

    fn cancelled(&self, running: bool) -> TaskError {
        TaskError::Cancelled { name: Arc::clone(&self.tally.control.name), running }
    }
}

/// A reservation's first poll, on no cooperative budget: whoever asks next finds what it came to.
fn poll_once(reservation: &mut Reservation) -> Option<Result<Lease, ReserveError>> {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(&mut tokio::task::coop::unconstrained(reservation)).poll(&mut cx) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// A timer. What does not fit the clock is as far as it goes.
fn sleep_until(within: Duration) -> Sleep {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    tokio::time::sleep_until(Instant::now() + within.min(FAR))
}
