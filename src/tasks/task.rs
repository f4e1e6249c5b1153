//! What is submitted.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::model::{Priority, Request};

use super::handle::Leash;
use super::{BoxError, Retry, TaskContext};

/// Makes the future of an attempt.
pub(super) type Factory<T> = Box<dyn FnMut(TaskContext) -> BoxFuture<'static, Result<T, BoxError>> + Send>;

/// See [`Task::USUAL_PREEMPTIONS`].
pub(super) const USUAL_PREEMPTIONS: u32 = 8;

/// When a task may be told to give back what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Preemptible {
    #[default]
    Never,
    /// Wherever it awaits something.
    Anywhere,
    /// Only at [`TaskContext::checkpoint`].
    AtCheckpoints,
}

/// Work with a name and a request: given to [`Scheduler::submit`](crate::Scheduler::submit), it waits until all that
/// it asks for is granted, and then runs.
///
/// The work is a function that makes a future, because it may be run more than once: again after an error, see
/// [`retry`](Task::retry), and again after a preemption. Making one allocates the function and, when the task runs, its
/// future: a task that waits does not hold the future's memory.
pub struct Task<T> {
    pub(super) name: Arc<str>,
    pub(super) request: Request,
    pub(super) factory: Factory<T>,
    pub(super) preemptible: Preemptible,
    pub(super) preemptions: u32,
    pub(super) retry: Retry,
    pub(super) complete_by: Option<Duration>,
    pub(super) is_activity: bool,
    /// The task whose work it takes up.
    pub(super) follows: Option<Leash>,
}

impl<T: Send + 'static> Task<T> {
    /// How often a preemptible task is preempted if it does not say so itself.
    pub const USUAL_PREEMPTIONS: u32 = USUAL_PREEMPTIONS;

    /// Work that can fail only by a panic.
    ///
    /// The name is for errors, reports and tokio-console, with the feature `console` or `--cfg tokio_unstable`. It
    /// becomes the label of nothing: a request that is to be listed among the holders says so itself.
    pub fn new<F, Fut>(name: impl Into<Arc<str>>, request: Request, mut work: F) -> Self
    where
        F: FnMut(TaskContext) -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
    {
        Task::made_by(name.into(), request, Box::new(move |context| work(context).map(Ok).boxed()))
    }

    /// Work that may end with an error.
    pub fn fallible<F, Fut>(name: impl Into<Arc<str>>, request: Request, mut work: F) -> Self
    where
        F: FnMut(TaskContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, BoxError>> + Send + 'static,
    {
        Task::made_by(name.into(), request, Box::new(move |context| work(context).boxed()))
    }

    pub(super) fn made_by(name: Arc<str>, request: Request, factory: Factory<T>) -> Self {
        Task {
            name,
            request,
            factory,
            preemptible: Preemptible::Never,
            preemptions: Self::USUAL_PREEMPTIONS,
            retry: Retry::never(),
            complete_by: None,
            is_activity: false,
            follows: None,
        }
    }

    /// How urgent it is: the priority of its request.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.request = self.request.priority(priority);
        self
    }

    /// The latest time at which it is first granted what it asks for, counted from its submission. Among equal
    /// priorities earlier deadlines go first. A task that waits again, after a preemption or for another attempt, has
    /// met it already.
    pub fn deadline(mut self, within: Duration) -> Self {
        self.request = self.request.deadline(within);
        self
    }

    /// The latest time at which it is complete, counted from its submission, waits and further attempts included. What
    /// is not complete then is dropped where it awaits something, and ends with [`TaskError::Overdue`](
    /// super::TaskError::Overdue). A future that never awaits cannot be dropped; it ends when it does.
    pub fn complete_by(mut self, within: Duration) -> Self {
        self.complete_by = Some(within);
        self
    }

    /// It gives way to a higher level: when one waits for what the task holds, and the scheduler chooses it, its future
    /// is dropped wherever it awaits something. The task then waits again for its resources, at the place in the queue
    /// that it had, and begins anew; what it [saved](TaskContext::save) is there then. A future that does not await
    /// anything for longer than [`Config::grace`](crate::Config::grace) is overdue, and others may be asked instead.
    ///
    /// What the future [splits](crate::Lease::split) off its lease counts as its own for this: when a part is chosen,
    /// the task is preempted. A part that was given to somebody else, say to a blocking closure, does not end with the
    /// future; whoever has it can [wait to be asked](crate::Lease::revoked) too.
    pub fn preemptible(mut self) -> Self {
        self.preemptible = Preemptible::Anywhere;
        self
    }

    /// The same, but its future is dropped only at a [checkpoint](TaskContext::checkpoint).
    pub fn preemptible_at_checkpoints(mut self) -> Self {
        self.preemptible = Preemptible::AtCheckpoints;
        self
    }

    /// How often it may be preempted, [`USUAL_PREEMPTIONS`](Task::USUAL_PREEMPTIONS) if not said. After that the
    /// scheduler asks it no more. If it is [told to](super::TaskHandle::preempt) by hand once more, it ends with
    /// [`TaskError::PreemptedTooOften`](super::TaskError::PreemptedTooOften).
    pub fn preemptions(mut self, most: u32) -> Self {
        self.preemptions = most;
        self
    }

    /// What to do when it fails.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// It is an [`Activity`](crate::Activity) of its own: what it reserves besides its lease, with
    /// [`TaskContext::activity`], counts as held and awaited by one. Its lease then takes a turn at the scheduler's
    /// desk when it is granted and one when it ends. Not needed to [grow](crate::Lease::grow) the lease.
    pub fn as_activity(mut self) -> Self {
        self.is_activity = true;
        self
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("name", &self.name).field("request", &self.request).finish_non_exhaustive()
    }
}
