//! Those who handle items.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::scheduler::Module;
use crate::tasks::{BoxError, TaskContext};

use super::floor::WorkerId;
use super::shared::Shared;

/// Handles items of one kind. Several workers may do so, each with a handler of its own.
///
/// ```
/// use async_trait::async_trait;
/// use bursar::tasks::{BoxError, Handler, TaskContext};
///
/// struct Upper;
///
/// #[async_trait]
/// impl Handler<String, String> for Upper {
///     async fn handle(&self, _context: TaskContext, item: &String) -> Result<String, BoxError> {
///         Ok(item.to_uppercase())
///     }
/// }
/// ```
#[async_trait]
pub trait Handler<I, O>: Send + Sync + 'static {
    /// Handles an item with what it was granted. It may be called again for the same item, after a failure or a
    /// preemption.
    async fn handle(&self, context: TaskContext, item: &I) -> Result<O, BoxError>;
}

/// What becomes of the jobs that are queued at a worker when it leaves, or have a place there and wait for their
/// resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLeave {
    /// Others take them; if there are none, they wait for one.
    #[default]
    Rebalance,
    /// They end with [`TaskError::WorkerLeft`](crate::tasks::TaskError::WorkerLeft).
    Fail,
}

/// A worker about to be registered: what [`Dispatcher::worker`](super::Dispatcher::worker) returns.
#[must_use = "a worker gets nothing until it is registered"]
pub struct WorkerBuilder<I, O> {
    pub(super) shared: Arc<Shared<I, O>>,
    pub(super) name: Arc<str>,
    pub(super) capacity: u32,
    pub(super) module: Option<Module>,
    pub(super) on_leave: OnLeave,
    pub(super) time_limit: Option<Duration>,
    pub(super) keys: Vec<Arc<str>>,
}

impl<I: Send + Sync + 'static, O: Send + 'static> WorkerBuilder<I, O> {
    /// How many jobs it has at once, one if not said: those that run there, and those for which it has a place and that
    /// wait for their resources.
    pub fn capacity(mut self, jobs: u32) -> Self {
        self.capacity = jobs.max(1);
        self
    }

    /// The module in whose name its jobs ask for resources, with its weight, minima and caps.
    pub fn module(mut self, module: Module) -> Self {
        self.module = Some(module);
        self
    }

    /// What becomes of what is queued here when the worker leaves.
    pub fn on_leave(mut self, on_leave: OnLeave) -> Self {
        self.on_leave = on_leave;
        self
    }

    /// How long it may take for a job; for ever if not said. What takes longer is dropped where it awaits something,
    /// and has failed.
    pub fn time_limit(mut self, within: Duration) -> Self {
        self.time_limit = Some(within);
        self
    }

    /// It holds something that some jobs want, see [`Job::key`](super::Job::key).
    pub fn holds(mut self, key: impl Into<Arc<str>>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Registers it, until the handle drops.
    pub fn register(self, handler: impl Handler<I, O>) -> WorkerHandle<I, O> {
        let (shared, name, on_leave) = (Arc::clone(&self.shared), Arc::clone(&self.name), self.on_leave);
        let id = shared.join(self, Arc::new(handler));
        WorkerHandle { shared, id, name, on_leave }
    }
}

/// A registered worker. It gets jobs until this drops; what runs there then runs to its end.
#[must_use = "a worker leaves when its handle drops"]
pub struct WorkerHandle<I: Send + Sync + 'static, O: Send + 'static> {
    shared: Arc<Shared<I, O>>,
    id: WorkerId,
    name: Arc<str>,
    on_leave: OnLeave,
}

impl<I: Send + Sync + 'static, O: Send + 'static> WorkerHandle<I, O> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says how much it has to do, in millionths of what its requests are a part of: everything, also what did not
    /// come from here. Jobs that come and go from then on are counted on top of it, until the next report.
    pub fn report_load(&self, load: u64) {
        self.shared.report(self.id, load);
    }

    /// It holds something from now on.
    pub fn hold(&self, key: impl Into<Arc<str>>) {
        self.shared.hold(self.id, key.into(), true);
    }

    /// It holds something no more.
    pub fn let_go(&self, key: impl Into<Arc<str>>) {
        self.shared.hold(self.id, key.into(), false);
    }

    /// Takes no more jobs, gives those that do not run yet to others, and waits until none runs here.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting; the worker takes no more jobs all the same.
    pub async fn drain(&self) {
        self.shared.drain(self.id).await;
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> Drop for WorkerHandle<I, O> {
    fn drop(&mut self) {
        self.shared.leave(self.id, &self.name, self.on_leave);
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> fmt::Debug for WorkerHandle<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerHandle").field(&self.name).finish()
    }
}

impl<I, O> fmt::Debug for WorkerBuilder<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("name", &self.name)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
