//! What whoever submitted a task keeps of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;

use crate::model::{Explanation, Priority};

use super::TaskError;
use super::control::{CANCEL, Control, LEAVE, PREEMPT, RAISE, Stage};
use super::error::message;

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskState {
    /// It waits for its resources.
    Queued,
    /// It runs.
    Running,
    /// It failed, holds nothing, and will be tried again.
    Pausing,
    /// It has ended.
    Ended,
}

/// How far a task says that it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// So much is done.
    pub done: u64,
    /// Of so much; zero if it has not said so.
    pub total: u64,
}

/// A task as it is at one moment. `Display` says it in a sentence.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TaskReport {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub state: TaskState,
    /// Its priority.
    pub priority: Priority,
    /// How often it has begun to run.
    pub attempts: u32,
    /// How often it was preempted.
    pub preemptions: u32,
    /// How far it says that it is.
    pub progress: Progress,
    /// Why it waits, if it does.
    pub wait: Option<Explanation>,
}

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            TaskState::Queued => "is queued",
            TaskState::Running => "runs",
            TaskState::Pausing => "pauses before another attempt",
            TaskState::Ended => "has ended",
        };
        write!(f, "task `{}` ({}) {state}, begun {} times", self.name, self.priority, self.attempts)?;
        if self.preemptions > 0 {
            write!(f, ", preempted {} times", self.preemptions)?;
        }
        if self.progress.total > 0 {
            write!(f, ", {} of {} done", self.progress.done, self.progress.total)?;
        }
        self.wait.iter().try_for_each(|wait| write!(f, "; {wait}"))
    }
}

/// What it comes to.
pub(super) enum Outcome<T> {
    Spawned(JoinHandle<Result<T, TaskError>>),
    /// It was never spawned.
    Refused(TaskError),
    Taken,
}

/// A submitted task: the future of its result, and what can be asked of it meanwhile.
///
/// Dropping the handle detaches the task, as with tokio's `JoinHandle`: it goes on, and its result is lost. See
/// [`abort_on_drop`](TaskHandle::abort_on_drop). Polling it after it gave its result is harmless: it stays pending.
///
/// # Cancel safety
/// Dropping a future that awaits `&mut handle` loses nothing.
#[must_use = "dropping a handle detaches its task; its result is lost"]
pub struct TaskHandle<T> {
    outcome: Outcome<T>,
    control: Arc<Control>,
    aborts: bool,
}

impl<T> TaskHandle<T> {
    pub(super) fn new(outcome: Outcome<T>, control: Arc<Control>) -> Self {
        TaskHandle { outcome, control, aborts: false }
    }

    /// Ends the task where it is: it leaves the queue, or its future is dropped where it awaits something, with all
    /// that it holds. A future that never awaits ends when it does. A task that has ended keeps its result.
    pub fn abort(&self) {
        if let Outcome::Spawned(task) = &self.outcome {
            task.abort();
        }
    }

    /// Aborts the task when this handle is dropped.
    pub fn abort_on_drop(mut self) -> Self {
        self.aborts = true;
        self
    }

    /// Asks the task to end: at once if it does not run, else when it comes to a
    /// [checkpoint](super::TaskContext::checkpoint) or [looks](super::TaskContext::cancelled). One that does neither
    /// runs to its end and has its result.
    pub fn cancel(&self) {
        self.leash().cancel();
    }

    /// Tells a preemptible task that runs to give back what it holds, to whoever waits first, and to wait for it again
    /// at the place in the queue that it had. Says whether it was told: not if it does not run, or is not preemptible.
    ///
    /// The scheduler does so by itself when a higher level waits for what the task holds, as often as the task
    /// [allows](super::Task::preemptions); this is for reasons that it cannot know, and counts like any preemption.
    pub fn preempt(&self) -> bool {
        let told = {
            let stage = self.control.stage();
            let told = self.control.is_preemptible() && matches!(&*stage, Stage::Running);
            if told {
                self.control.raise_flags(PREEMPT);
            }
            told
        };
        if told {
            self.control.wake();
        }
        told
    }

    /// Its priority.
    pub fn priority(&self) -> Priority {
        self.control.level()
    }

    /// Raises its priority. Says whether it is higher now than it was. It never falls.
    ///
    /// A task that waits asks anew with the higher priority before it gives up its old place, so it is in the queue all
    /// the time, also in one that is full; among those of the new level it has the place of when it arrived, and from
    /// there it rises for the time that it has waited. One that runs keeps the level of its lease, and has the new one
    /// if it has to wait again.
    pub fn raise(&self, priority: Priority) -> bool {
        self.leash().raise(priority)
    }

    /// The name it was submitted under.
    pub fn name(&self) -> &str {
        &self.control.name
    }

    /// Where it is.
    pub fn state(&self) -> TaskState {
        state(&self.control.stage())
    }

    /// How far it says that it is.
    pub fn progress(&self) -> Progress {
        let Control { done, total, .. } = &*self.control;
        Progress { done: done.load(Ordering::Relaxed), total: total.load(Ordering::Relaxed) }
    }

    /// Whether it has ended, so that awaiting it does not wait.
    pub fn is_finished(&self) -> bool {
        match &self.outcome {
            Outcome::Spawned(task) => task.is_finished(),
            Outcome::Refused(_) | Outcome::Taken => true,
        }
    }

    /// Where it is and, if it waits, what blocks it, who holds that and what happens next. Changes nothing, and takes
    /// the scheduler's lock for as long as that is found out.
    pub fn explain(&self) -> TaskReport {
        let (state, wait) = {
            let stage = self.control.stage();
            let wait = if let Stage::Queued(reservation) = &*stage { Some(reservation.explain()) } else { None };
            (state(&stage), wait)
        };
        TaskReport {
            name: Arc::clone(&self.control.name),
            state,
            priority: self.priority(),
            attempts: self.control.attempts(),
            preemptions: self.control.past().preemptions,
            progress: self.progress(),
            wait,
        }
    }

    /// What is needed to stop the task without the handle.
    pub(super) fn leash(&self) -> Leash {
        Leash { control: Arc::clone(&self.control) }
    }
}

/// How a task can be made to give up its place at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grip {
    /// It waits for its resources: at once.
    Waits,
    /// It runs, and can be preempted.
    Runs,
    /// It cannot.
    Firm,
}

/// What came of asking a task to give up its place.
pub(super) enum Displaced {
    /// It waited, and has.
    Withdrawn(Withdrawn),
    /// It is told to where it runs, and ends when it has.
    Told,
    /// It does not.
    Stays,
}

/// A hold on a task whose handle is awaited elsewhere.
#[derive(Debug, Clone)]
pub(super) struct Leash {
    control: Arc<Control>,
}

impl Leash {
    /// How the task could be made to give up its place.
    pub(super) fn grip(&self) -> Grip {
        match &*self.control.stage() {
            Stage::Queued(_) if !self.is_cancelled() => Grip::Waits,
            Stage::Running if self.control.may_be_preempted() => Grip::Runs,
            _ => Grip::Firm,
        }
    }

    /// Takes the task back if it waits, as [`displace`](Leash::displace) does.
    pub(super) fn withdraw(&self) -> Option<Withdrawn> {
        self.give_up_place(&mut self.control.stage())
    }

    fn give_up_place(&self, stage: &mut Stage) -> Option<Withdrawn> {
        match &*stage {
            // One that was cancelled leaves the queue for good.
            Stage::Queued(reservation) if !self.is_cancelled() => {
                self.control.past().seniority = Some(reservation.seniority());
                let queued = std::mem::replace(stage, Stage::Withdrawn);
                Some(Withdrawn { queued: Some(queued), control: Arc::clone(&self.control) })
            }
            _ => None,
        }
    }

    /// Takes the task back: it ends, and whoever holds its work submits that again. One that waits leaves the queue
    /// when what is returned drops; one that runs is preempted as any other, and ends when that is done.
    pub(super) fn displace(&self) -> Displaced {
        let mut stage = self.control.stage();
        if let Some(withdrawn) = self.give_up_place(&mut stage) {
            return Displaced::Withdrawn(withdrawn);
        }
        match &*stage {
            Stage::Running if self.control.may_be_preempted() => {
                // While it is known to run, so that it is told in this run, or before it waits again.
                self.control.raise_flags(LEAVE | PREEMPT);
                drop(stage);
                self.control.wake();
                Displaced::Told
            }
            _ => Displaced::Stays,
        }
    }

    /// Whether it was taken back.
    pub(super) fn is_withdrawn(&self) -> bool {
        matches!(&*self.control.stage(), Stage::Withdrawn)
    }

    /// Whether it was told to give up its place while it ran.
    pub(super) fn was_told(&self) -> bool {
        self.control.has(LEAVE)
    }

    /// Whether it was asked to end.
    pub(super) fn is_cancelled(&self) -> bool {
        self.control.has(CANCEL)
    }

    /// How often its work has begun to run.
    pub(super) fn attempts(&self) -> u32 {
        self.control.attempts()
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// See [`TaskHandle::raise`].
    pub(super) fn raise(&self, priority: Priority) -> bool {
        let raised = self.control.raise(priority);
        if raised {
            self.control.set(RAISE);
        }
        raised
    }

    /// See [`TaskHandle::cancel`].
    pub(super) fn cancel(&self) {
        self.control.set(CANCEL);
        self.control.cancelled.notify_waiters();
    }
}

/// A place in the queue that is given up. To be dropped without a lock: that wakes others.
pub(super) struct Withdrawn {
    queued: Option<Stage>,
    control: Arc<Control>,
}

impl Drop for Withdrawn {
    fn drop(&mut self) {
        drop(self.queued.take());
        // It looks at its stage when it is woken.
        self.control.set(0);
    }
}

fn state(stage: &Stage) -> TaskState {
    match stage {
        Stage::Queued(_) => TaskState::Queued,
        Stage::Running => TaskState::Running,
        Stage::Pausing => TaskState::Pausing,
        Stage::Withdrawn | Stage::Ended => TaskState::Ended,
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let joined = match &mut this.outcome {
            Outcome::Taken => return Poll::Pending,
            Outcome::Spawned(task) => Some(ready!(Pin::new(task).poll(cx))),
            Outcome::Refused(_) => None,
        };
        let outcome = std::mem::replace(&mut this.outcome, Outcome::Taken);
        let name = || Arc::clone(&this.control.name);
        Poll::Ready(match (joined, outcome) {
            (Some(Ok(result)), _) => result,
            (None, Outcome::Refused(error)) => Err(error),
            (Some(Err(ended)), _) if ended.is_panic() => {
                let message = message(ended.into_panic());
                Err(TaskError::Panicked { name: name(), attempt: this.control.attempts(), message })
            }
            _ => {
                Err(TaskError::Cancelled { name: name(), running: this.control.ended_running.load(Ordering::Acquire) })
            }
        })
    }
}

impl<T> Drop for TaskHandle<T> {
    fn drop(&mut self) {
        if self.aborts {
            self.abort();
        }
    }
}

impl<T> fmt::Debug for TaskHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("name", &self.name()).field("state", &self.state()).finish_non_exhaustive()
    }
}
