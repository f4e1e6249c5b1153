//! What is given to a dispatcher, and what comes back.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::channel::oneshot;

use crate::model::{Priority, Request};
use crate::tasks::task::{Preemptible, USUAL_PREEMPTIONS};
use crate::tasks::{Retry, TaskError};

use super::floor::JobId;

/// An item that some worker is to handle, with what that takes.
#[derive(Debug, Clone)]
#[must_use = "a job does nothing until it is submitted"]
pub struct Job<I> {
    pub(super) name: Arc<str>,
    pub(super) item: I,
    pub(super) request: Request,
    pub(super) retry: Retry,
    pub(super) preemptible: Preemptible,
    pub(super) preemptions: u32,
    pub(super) complete_by: Option<Duration>,
    pub(super) key: Option<Arc<str>>,
}

impl<I> Job<I> {
    /// A job. The request is made when a worker has room for it, in the name of the worker's module if it has one.
    pub fn new(name: impl Into<Arc<str>>, item: I, request: Request) -> Self {
        Job {
            name: name.into(),
            item,
            request,
            retry: Retry::never(),
            preemptible: Preemptible::Never,
            preemptions: USUAL_PREEMPTIONS,
            complete_by: None,
            key: None,
        }
    }

    /// How urgent it is.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.request = self.request.priority(priority);
        self
    }

    /// The latest time at which it begins, counted from its submission. Among equal priorities earlier deadlines go
    /// first. One that waits for a worker until then ends with
    /// [`TaskError::Overdue`](crate::tasks::TaskError::Overdue), and one that waits at its worker for what it asks for
    /// with [`TaskError::Late`](crate::tasks::TaskError::Late).
    pub fn deadline(mut self, within: Duration) -> Self {
        self.request = self.request.deadline(within);
        self
    }

    /// The latest time at which it is complete, counted from its submission.
    pub fn complete_by(mut self, within: Duration) -> Self {
        self.complete_by = Some(within);
        self
    }

    /// What a worker may hold that makes it the better one for this, see
    /// [`Policy::Affinity`](crate::tasks::balance::Policy::Affinity).
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// What to do when it fails. Another attempt may be made by another worker.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// It gives way to a higher level while it runs: when the scheduler chooses it because one waits for what it holds,
    /// as [`Task::preemptible`](crate::tasks::Task::preemptible) says, and when a job of a higher level finds all seats
    /// of the workers taken. It is then queued again where it was, at this worker or another, and its handler is called
    /// again; what it [saved](crate::tasks::TaskContext::save) is there then.
    pub fn preemptible(mut self) -> Self {
        self.preemptible = Preemptible::Anywhere;
        self
    }

    /// The same, but its handler is dropped only at a [checkpoint](crate::tasks::TaskContext::checkpoint).
    pub fn preemptible_at_checkpoints(mut self) -> Self {
        self.preemptible = Preemptible::AtCheckpoints;
        self
    }

    /// How often it may be preempted, [`USUAL_PREEMPTIONS`](crate::tasks::Task::USUAL_PREEMPTIONS) if not said. After
    /// that it is asked no more.
    pub fn preemptions(mut self, most: u32) -> Self {
        self.preemptions = most;
        self
    }
}

/// What a handle can tell the dispatcher of its job.
pub(super) trait Control: Send + Sync {
    fn cancel(&self, job: JobId);
    fn raise(&self, job: JobId, priority: Priority) -> bool;
}

/// A submitted job: the future of its result.
///
/// Dropping it detaches the job: it goes on, and its result is lost. Polling it after it gave its result is harmless:
/// it stays pending.
#[must_use = "dropping a handle detaches its job; its result is lost"]
pub struct JobHandle<O> {
    name: Arc<str>,
    id: JobId,
    result: Option<oneshot::Receiver<Result<O, TaskError>>>,
    dispatcher: Arc<dyn Control>,
}

impl<O> JobHandle<O> {
    pub(super) fn new(
        name: Arc<str>,
        id: JobId,
        result: oneshot::Receiver<Result<O, TaskError>>,
        dispatcher: Arc<dyn Control>,
    ) -> Self {
        JobHandle { name, id, result: Some(result), dispatcher }
    }

    /// The name it was submitted under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks the job to end: at once if it does not run, else as
    /// [`TaskHandle::cancel`](crate::tasks::TaskHandle::cancel) does.
    pub fn cancel(&self) {
        self.dispatcher.cancel(self.id);
    }

    /// Raises its priority. Says whether it is higher now than it was given: not if the job has ended. It never falls.
    ///
    /// Among those of the new level it has the place of when it was submitted, in the queue of a worker and in that of
    /// the scheduler. One that runs keeps the level of its lease, as
    /// [`TaskHandle::raise`](crate::tasks::TaskHandle::raise) says, and has the new one if it has to wait again.
    pub fn raise(&self, priority: Priority) -> bool {
        self.dispatcher.raise(self.id, priority)
    }
}

impl<O> Future for JobHandle<O> {
    type Output = Result<O, TaskError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(result) = &mut self.result else { return Poll::Pending };
        let result = ready!(Pin::new(result).poll(cx));
        self.result = None;
        let gone = |_| Err(TaskError::Cancelled { name: Arc::clone(&self.name), running: false });
        Poll::Ready(result.unwrap_or_else(gone))
    }
}

impl<O> fmt::Debug for JobHandle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("name", &self.name).finish_non_exhaustive()
    }
}
