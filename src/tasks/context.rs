//! What a task is given when it runs.

use std::fmt;
use std::future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::coop;

use crate::model::{Activity, Amounts};
use crate::scheduler::{Growth, Lease, Revoked};

use super::control::{CANCEL, Control, HALTED, PREEMPT};

/// What a task has while it runs: its lease, what others ask of it, and a place for what is to survive a preemption.
///
/// The lease is held until the future of the task has ended, whether it keeps the context or not, unless it is
/// [released](TaskContext::release) before. What a blocking closure or another task goes on with after that belongs to
/// it: [split](Lease::split) it off, or move the context there.
pub struct TaskContext {
    /// There until it is released or dropped.
    lease: Option<Lease>,
    control: Arc<Control>,
    activity: Option<Activity>,
    attempt: u32,
}

impl TaskContext {
    pub(super) fn new(lease: Lease, control: Arc<Control>, activity: Option<Activity>, attempt: u32) -> Self {
        TaskContext { lease: Some(lease), control, activity, attempt }
    }

    /// The name of the task.
    pub fn name(&self) -> &str {
        &self.control.name
    }

    /// Which run of the work this is, counted from one: also one after a preemption, and one of a
    /// [job](super::Job) at another worker.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What it was granted.
    pub fn lease(&self) -> &Lease {
        self.lease.as_ref().expect("only the end of the context takes it")
    }

    /// What it was granted, to be split, shrunk or merged. A preemptible task is preempted as well when a part is asked
    /// for that was split off; see [`Task::preemptible`](super::Task::preemptible) for parts that go elsewhere.
    pub fn lease_mut(&mut self) -> &mut Lease {
        self.lease.as_mut().expect("only the end of the context takes it")
    }

    /// Gives back what it was granted, before the work is done.
    pub fn release(mut self) {
        drop(self.lease.take());
    }

    /// Asks for more, see [`Lease::grow`].
    pub fn grow(&mut self, more: &Amounts) -> Growth<'_> {
        self.lease_mut().grow(more)
    }

    /// The activity that the task is, if it was submitted [as one](super::Task::as_activity).
    pub fn activity(&self) -> Option<&Activity> {
        self.activity.as_ref()
    }

    /// A place where the task can be interrupted. It goes no further if it was cancelled, or is to be preempted; then
    /// its future is dropped here. Else it goes on, and now and then lets other tasks run first.
    ///
    /// Put one into every loop that computes for long without awaiting anything else.
    ///
    /// # Cancel safety
    /// It has no effect of its own. Dropping it does not undo that the task is to be interrupted.
    pub async fn checkpoint(&self) {
        let preempted = self.control.is_preemptible() && self.control.has(PREEMPT);
        if preempted || self.control.has(CANCEL) {
            self.control.set(HALTED);
            // Dropped by the task that polls it.
            future::pending::<()>().await;
        }
        coop::consume_budget().await;
    }

    /// Whether the task was asked to end, see [`TaskHandle::cancel`](super::TaskHandle::cancel).
    pub fn is_cancelled(&self) -> bool {
        self.control.has(CANCEL)
    }

    /// Waits until the task is asked to end.
    ///
    /// # Cancel safety
    /// It has no effect; it can be dropped and called again.
    pub async fn cancelled(&self) {
        let mut asked = std::pin::pin!(self.control.cancelled.notified());
        // Before the look, so that a request in between is not missed.
        asked.as_mut().enable();
        if !self.is_cancelled() {
            asked.await;
        }
    }

    /// Waits until the scheduler asks for what the task holds: for which level, and how much time there is. A task that
    /// is preemptible [at checkpoints](super::Task::preemptible_at_checkpoints) uses that time to bring its work to
    /// where it can be left, and comes to one; of any other preemptible task the future is dropped in that moment. The
    /// rest is as with [`Lease::revoked`]. Who is told by hand, or to give up a place at a worker, learns of it at its
    /// checkpoints.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: a task that was asked stays asked.
    pub fn revoked(&self) -> Revoked<'_> {
        self.lease().revoked()
    }

    /// Says how far it is, in whatever it counts: see [`TaskHandle::progress`](super::TaskHandle::progress).
    pub fn progress(&self, done: u64, total: u64) {
        self.control.total.store(total, Ordering::Relaxed);
        self.control.done.store(done, Ordering::Relaxed);
    }

    /// Keeps something for the next run of this work, after a preemption or for another attempt, instead of what was
    /// kept before. It is memory outside every budget.
    pub fn save<S: Clone + Send + 'static>(&self, data: S) {
        self.control.save(Arc::new(Mutex::new(data)));
    }

    /// A copy of what was kept last, if that was of this type.
    pub fn saved<S: Clone + Send + 'static>(&self) -> Option<S> {
        let saved = self.control.saved()?;
        let data = saved.lock().unwrap_or_else(PoisonError::into_inner);
        data.downcast_ref::<S>().cloned()
    }
}

impl Drop for TaskContext {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.control.keep(self.attempt, lease);
        }
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskContext")
            .field("name", &self.control.name)
            .field("attempt", &self.attempt)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
