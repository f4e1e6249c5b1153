//! How a task can end without its value.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::model::ReserveError;
use crate::observe::TaskEnd;

/// What the future of a [fallible](super::Task::fallible) task may end with: any error.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a task ended without its value. Every variant names the task.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Its future ended with an error, and was not to be tried again.
    #[error("task `{name}` failed at attempt {attempt}: {error}")]
    Failed {
        /// The task.
        name: Arc<str>,
        /// Which attempt it was, counted from one.
        attempt: u32,
        /// What its future ended with.
        #[source]
        error: Arc<dyn Error + Send + Sync>,
    },
    /// It panicked: where its future is made, in the future, or while that was dropped.
    #[error("task `{name}` panicked at attempt {attempt}: {message}")]
    Panicked {
        /// The task.
        name: Arc<str>,
        /// Which attempt it was, counted from one.
        attempt: u32,
        /// What the panic said.
        message: String,
    },
    /// Its resources were not granted within its deadline.
    #[error("task `{name}` was not started in time: {error}")]
    Late {
        /// The task.
        name: Arc<str>,
        /// What it waited for.
        #[source]
        error: ReserveError,
    },
    /// It was not complete by its time, see [`Task::complete_by`](super::Task::complete_by). What it was doing was
    /// dropped.
    #[error("task `{name}` was not complete after {} ms; it had begun {attempts} times", within.as_millis())]
    Overdue {
        /// The task.
        name: Arc<str>,
        /// The time it had.
        within: Duration,
        /// How often it had begun to run: zero if it waited for its resources all the time.
        attempts: u32,
    },
    /// It was refused because no worker could complete it in time, by what they have needed so far.
    #[error("task `{name}` has {} ms, and no worker completes such a task in less than {} ms; allow more time",
            within.as_millis(), needs.as_millis())]
    Hopeless {
        /// The task.
        name: Arc<str>,
        /// The time it had.
        within: Duration,
        /// What the fastest worker needs.
        needs: Duration,
    },
    /// It had to give back what it held more often than it allows.
    #[error("task `{name}` was preempted {times} times, more often than it allows; submit it with a higher priority")]
    PreemptedTooOften {
        /// The task.
        name: Arc<str>,
        /// How often.
        times: u32,
    },
    /// It was cancelled or aborted, or its runtime ended.
    #[error("task `{name}` was cancelled while it {}", if *.running { "ran" } else { "waited" })]
    Cancelled {
        /// The task.
        name: Arc<str>,
        /// Whether it ran at that moment.
        running: bool,
    },
    /// The queue was full.
    #[error("task `{name}` was shed: {error}")]
    Shed {
        /// The task.
        name: Arc<str>,
        /// What the queue said.
        #[source]
        error: ReserveError,
    },
    /// The queue of its dispatcher was full.
    #[error("task `{name}` was shed: dispatcher `{dispatcher}` lets {limit} jobs wait, `max_queued`; retry later")]
    Full {
        /// The task.
        name: Arc<str>,
        /// The dispatcher.
        dispatcher: Arc<str>,
        /// How many may wait there.
        limit: usize,
    },
    /// The scheduler refused what it asks for: it is malformed, can never be granted, the scheduler is closed, or
    /// holders wait for each other.
    #[error("task `{name}` was refused: {error}")]
    Refused {
        /// The task.
        name: Arc<str>,
        /// Why.
        #[source]
        error: ReserveError,
    },
    /// The worker it was queued at has left, and its tasks were to end with it.
    #[error("task `{name}` was queued at worker `{worker}`, which has left; submit it again")]
    WorkerLeft {
        /// The task.
        name: Arc<str>,
        /// The worker.
        worker: Arc<str>,
    },
    /// There is no runtime to run it on.
    #[error("task `{name}` has no tokio runtime: make the scheduler inside one, or submit inside one")]
    NoRuntime {
        /// The task.
        name: Arc<str>,
    },
}

impl TaskError {
    /// What the wait for its resources ended with.
    pub(super) fn of_wait(name: Arc<str>, error: ReserveError) -> Self {
        match error {
            ReserveError::Late { .. } => TaskError::Late { name, error },
            ReserveError::Shed { .. } => TaskError::Shed { name, error },
            _ => TaskError::Refused { name, error },
        }
    }

    /// The task.
    pub fn task(&self) -> &str {
        match self {
            TaskError::Failed { name, .. }
            | TaskError::Panicked { name, .. }
            | TaskError::Late { name, .. }
            | TaskError::Overdue { name, .. }
            | TaskError::Hopeless { name, .. }
            | TaskError::PreemptedTooOften { name, .. }
            | TaskError::Cancelled { name, .. }
            | TaskError::Shed { name, .. }
            | TaskError::Full { name, .. }
            | TaskError::Refused { name, .. }
            | TaskError::WorkerLeft { name, .. }
            | TaskError::NoRuntime { name } => name,
        }
    }

    /// Whether it missed a time: that of its grant or that of its completion.
    pub fn is_missed_time(&self) -> bool {
        matches!(self, TaskError::Late { .. } | TaskError::Overdue { .. } | TaskError::Hopeless { .. })
    }

    /// How it is counted.
    pub(super) fn end(&self) -> TaskEnd {
        match self {
            TaskError::Failed { .. } => TaskEnd::Failed,
            TaskError::Panicked { .. } => TaskEnd::Panicked,
            TaskError::Late { .. } => TaskEnd::Late,
            TaskError::Overdue { .. } => TaskEnd::Overdue,
            TaskError::PreemptedTooOften { .. } => TaskEnd::PreemptedTooOften,
            TaskError::Cancelled { .. } | TaskError::WorkerLeft { .. } => TaskEnd::Cancelled,
            TaskError::Shed { .. } | TaskError::Full { .. } => TaskEnd::Shed,
            TaskError::Refused { .. } | TaskError::NoRuntime { .. } | TaskError::Hopeless { .. } => TaskEnd::Refused,
        }
    }
}

/// Drops what callers gave: a panic of that ends nothing else, and is reported.
pub(super) fn bury<T>(gone: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(gone))) {
        tracing::error!(target: "bursar::task", message = message(payload), "panicked while it was dropped");
    }
}

/// What a panic said.
pub(super) fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    // A payload may panic when it drops; there is nobody left to tell.
    std::mem::forget(payload);
    text.unwrap_or_else(|| "a panic without a text".to_owned())
}
