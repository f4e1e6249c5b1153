//! Work that the scheduler runs: submitted with a request, it begins when everything that it asks for is granted.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use bursar::tasks::{Retry, Task};
//! use bursar::{GIB, Priority, Request, Scheduler};
//!
//! let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
//! let caption = scheduler.submit(
//!     Task::new("caption", Request::new().gpu(2 * GIB), |context| async move {
//!         context.progress(1, 1);
//!         "a cat on a mat".to_owned()
//!     })
//!     .priority(Priority::High)
//!     .deadline(Duration::from_millis(200))
//!     .preemptible()
//!     .retry(Retry::new(3)),
//! );
//! assert_eq!(caption.await?, "a cat on a mat");
//! assert_eq!(scheduler.task_stats().done, 1);
//! # Ok(()) }
//! ```
//!
//! # The life of a task
//!
//! It *waits* in the scheduler's one queue, in the scheduler's one order, holding nothing; it *runs* with its lease in
//! a tokio task of its own; it *ends* once, with its value or a [`TaskError`] that says why not. From running it goes
//! back to waiting when it is preempted, at the place in the queue that it had, and after a pause when it failed and is
//! to be [tried again](Retry), as the last to arrive. Nothing is swallowed:
//! [`Scheduler::task_stats`](crate::Scheduler::task_stats) counts every task in exactly one place.
//!
//! # Preemption
//!
//! A task that is marked [preemptible](Task::preemptible) runs with a lease that can be [asked to
//! end](crate::Lease::revoked). When a higher level waits for what it holds, and the scheduler chooses it, its future
//! is dropped where it awaits something or at its next [checkpoint](TaskContext::checkpoint), everything it held is
//! kept for the one who waits, and it runs again later, from what it [saved](TaskContext::save). That happens a bounded
//! [number of times](Task::preemptions), and never for an equal. [Jobs](Job::preemptible) of a dispatcher also give up
//! their place at a worker that way.

mod context;
mod control;
mod dispatch;
mod error;
mod handle;
mod retry;
mod run;
mod stream;
mod task;

use std::panic::Location;
use std::sync::Arc;

use crate::observe::{self, TaskRow};
use crate::scheduler::Scheduler;

pub use crate::policy::balance;
pub use context::TaskContext;
pub use dispatch::{
    Dispatcher, DispatcherBuilder, DispatcherStats, Handler, Job, JobHandle, OnLeave, WorkerBuilder, WorkerHandle,
    WorkerStats,
};
pub use error::{BoxError, TaskError};
pub use handle::{Progress, TaskHandle, TaskReport, TaskState};
pub use retry::Retry;
pub use stream::{ReserveExt, ReserveWith, Unreserved};
pub use task::Task;

use handle::Outcome;
use run::Run;

impl Scheduler {
    /// Submits a task: it takes its place in the queue in this call, and runs as soon as all that it asks for is
    /// granted. Tasks of equal rank run in the order in which they were submitted.
    ///
    /// It runs on the runtime that the scheduler was made in, else on that of the caller; without either it ends with
    /// [`TaskError::NoRuntime`]. A task that waits or runs keeps the scheduler open as a handle of it does.
    ///
    /// # Errors
    /// The handle ends with a [`TaskError`].
    ///
    /// # Panics
    /// If the task has a time to be complete by and the runtime has no time driver, as tokio's own timers do.
    #[track_caller]
    pub fn submit<T: Send + 'static>(&self, task: Task<T>) -> TaskHandle<T> {
        self.submit_from(task, Location::caller())
    }

    /// Submits a task for whoever asked for it there.
    #[track_caller]
    fn submit_from<T: Send + 'static>(&self, task: Task<T>, location: &'static Location<'static>) -> TaskHandle<T> {
        let Some(runtime) = self.runtime() else { return self.refused(task) };
        // Timers are made in the runtime.
        let _inside = task.complete_by.is_some().then(|| runtime.enter());
        let run = Run::new(self, task);
        let control = Arc::clone(run.control());
        let row = TaskRow::new(&control.name, location);
        let outcome = match observe::spawn(&runtime, &control.name, run.run(row)) {
            Some(task) => Outcome::Spawned(task),
            None => Outcome::Refused(TaskError::NoRuntime { name: Arc::clone(&control.name) }),
        };
        TaskHandle::new(outcome, control)
    }

    fn refused<T: Send + 'static>(&self, mut task: Task<T>) -> TaskHandle<T> {
        // A timer would need the runtime.
        task.complete_by = None;
        let run = Run::new(self, task);
        let control = Arc::clone(run.control());
        let error = TaskError::NoRuntime { name: Arc::clone(&control.name) };
        run.refuse(&error);
        TaskHandle::new(Outcome::Refused(error), control)
    }
}
