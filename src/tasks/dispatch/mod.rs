//! One kind of job, several workers: each job goes to one of them, by a policy.

mod aging;
mod desk;
mod displace;
mod floor;
mod health;
mod job;
mod pump;
mod shared;
mod stats;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::observe::{self, TaskRow};
use crate::policy::balance::{Balancer, Policy};
use crate::scheduler::Scheduler;

pub use job::{Job, JobHandle};
pub use stats::{DispatcherStats, WorkerStats};
pub use worker::{Handler, OnLeave, WorkerBuilder, WorkerHandle};

use super::TaskError;
use floor::Floor;
use shared::{Shared, Shown};

/// A dispatcher about to be started: what [`Scheduler::dispatcher`] returns.
#[derive(Debug, Clone)]
#[must_use = "a dispatcher does nothing until it is spawned"]
pub struct DispatcherBuilder {
    scheduler: Scheduler,
    name: Arc<str>,
    policy: Policy,
    tick: Duration,
    moves_per_turn: usize,
    hopeless: Option<f64>,
    max_queued: usize,
}

impl DispatcherBuilder {
    /// How jobs are spread over workers, [predictive](Policy::Predictive) if not said. Where loads are
    /// [reported](WorkerHandle::report_load) from elsewhere, and so are a moment old, two choices do better.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How often queued jobs are looked through although nothing happened, 100 ms if not said. With nothing queued
    /// nothing is looked through.
    pub fn tick(mut self, every: Duration) -> Self {
        self.tick = every.max(Duration::from_millis(1));
        self
    }

    /// How many queued jobs go from one worker to another in one turn, 32 if not said.
    pub fn moves_per_turn(mut self, moves: usize) -> Self {
        self.moves_per_turn = moves;
        self
    }

    /// Refuses a job that has to be complete by a time, when this part of the jobs of every worker have taken longer
    /// than that: with 0.5, when each of them takes longer for half of its jobs. Never if not said.
    pub fn refuse_hopeless(mut self, part: f64) -> Self {
        self.hopeless = Some(part.clamp(0.0, 1.0));
        self
    }

    /// How many jobs may wait for a place at a worker, 4,194,304 if not said, and one at least. The next one ends with
    /// [`TaskError::Full`]. Every job counts until it has been looked at, also where there is room: say no fewer than
    /// may be submitted at once. One that gives up its place, or is to be tried again, waits again whether the queue is
    /// full or not.
    pub fn max_queued(mut self, jobs: usize) -> Self {
        self.max_queued = jobs.max(1);
        self
    }

    /// Starts it on the runtime that the scheduler was made in, else on the current one.
    ///
    /// # Errors
    /// [`TaskError::NoRuntime`] if there is neither.
    ///
    /// # Panics
    /// If the runtime has no time driver, as tokio's own timers do.
    #[track_caller]
    pub fn spawn<I: Send + Sync + 'static, O: Send + 'static>(self) -> Result<Dispatcher<I, O>, TaskError> {
        let DispatcherBuilder { scheduler, name, policy, tick, moves_per_turn, hopeless, max_queued } = self;
        let no_runtime = || TaskError::NoRuntime { name: Arc::clone(&name) };
        let runtime = scheduler.runtime().ok_or_else(no_runtime)?;
        let _inside = runtime.enter();
        // In here: where there are no timers its task would panic, and nobody would know why.
        let ticker = tokio::time::interval(tick);
        let floor = Floor::new(Balancer::new(policy), moves_per_turn, scheduler.aging());
        let shared = Arc::new(Shared::new(scheduler, Arc::clone(&name), floor, hopeless, max_queued));
        let row = TaskRow::new(&name, Location::caller());
        let task = observe::spawn(&runtime, &name, pump::pump(Arc::clone(&shared), ticker, row));
        task.ok_or_else(no_runtime)?;
        shared.scheduler.publish_part(&format!("dispatcher {name}"), Shown(Arc::downgrade(&shared)));
        Ok(Dispatcher { alive: Arc::new(Alive(shared)) })
    }
}

/// Gives jobs of one kind to the workers that are registered for it. Cheap to clone; all clones are the same.
///
/// A job that is submitted gets a worker by the [policy](DispatcherBuilder::policy) and is queued there, in the order
/// of the scheduler: level, deadline, arrival; one that has no deadline is not kept waiting for ever by those that have
/// one ([`Config::edf_horizon`](crate::Config::edf_horizon)), and one that waits long gains levels
/// ([`Config::aging_step`](crate::Config::aging_step)), also while it has a place and waits for its resources. When the
/// worker has room, the job asks the scheduler for its resources, and runs with them. Until it runs it can go
/// elsewhere: queued jobs are evened out when a worker comes or goes, or says how [loaded](WorkerHandle::report_load)
/// it is; a worker without work takes what waits elsewhere; a job of a higher level goes where there is room first, and
/// takes the place of one of a lower level that has a place and still waits for its resources, or of one that runs and
/// is [preemptible](Job::preemptible). Nothing else that runs is ever moved. Who gives way is queued again where it
/// was, before those that came later, here and in the queue of the scheduler, and goes on from what it saved. One that
/// waited also keeps the levels that it has gained.
///
/// The place of one that runs is given up for a level that was given, never for one that was gained by waiting, and
/// goes to the job for which it was given up; only one of a higher level takes it before.
///
/// When the last clone is dropped, what was submitted is still done, as far as there are workers that take it; what
/// they do not, since all have left or drain, ends with [`TaskError::Cancelled`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use async_trait::async_trait;
/// use bursar::tasks::balance::Policy;
/// use bursar::tasks::{BoxError, Dispatcher, Handler, Job, TaskContext};
/// use bursar::{GIB, Request, Scheduler};
///
/// struct Length;
///
/// #[async_trait]
/// impl Handler<String, usize> for Length {
///     async fn handle(&self, _context: TaskContext, item: &String) -> Result<usize, BoxError> {
///         Ok(item.len())
///     }
/// }
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// let lengths: Dispatcher<String, usize> =
///     scheduler.dispatcher("lengths").policy(Policy::TwoChoices { seed: 7 }).spawn()?;
/// let _first = lengths.worker("first").capacity(4).register(Length);
/// let _second = lengths.worker("second").capacity(4).register(Length);
///
/// let job = Job::new("a word", "word".to_owned(), Request::new().gpu(2 * GIB));
/// assert_eq!(lengths.submit(job).await?, 4);
/// # Ok(()) }
/// ```
pub struct Dispatcher<I: Send + Sync + 'static, O: Send + 'static> {
    alive: Arc<Alive<I, O>>,
}

/// Closes the dispatcher when the last handle drops.
struct Alive<I: Send + Sync + 'static, O: Send + 'static>(Arc<Shared<I, O>>);

impl<I: Send + Sync + 'static, O: Send + 'static> Drop for Alive<I, O> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> Dispatcher<I, O> {
    /// The name of the kind.
    pub fn name(&self) -> &str {
        &self.alive.0.name
    }

    /// Submits a job. It takes its place in the queue in this call.
    ///
    /// # Errors
    /// The handle ends with a [`TaskError`].
    #[track_caller]
    pub fn submit(&self, job: Job<I>) -> JobHandle<O> {
        self.alive.0.submit(job)
    }

    /// A worker, to be given a capacity and then registered with its handler.
    pub fn worker(&self, name: impl Into<Arc<str>>) -> WorkerBuilder<I, O> {
        WorkerBuilder {
            shared: Arc::clone(&self.alive.0),
            name: name.into(),
            capacity: 1,
            module: None,
            on_leave: OnLeave::default(),
            time_limit: None,
            keys: Vec::new(),
        }
    }

    /// Loads of several workers at once, by name, as with [`WorkerHandle::report_load`]: queued jobs leave those that
    /// have too much to do. Names that nobody has are passed over.
    pub fn adapt_to_load<'a>(&self, loads: impl IntoIterator<Item = (&'a str, u64)>) {
        self.alive.0.report_all(&loads.into_iter().collect::<BTreeMap<_, _>>());
    }

    /// Figures of this moment.
    pub fn stats(&self) -> DispatcherStats {
        self.alive.0.stats()
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> Clone for Dispatcher<I, O> {
    fn clone(&self) -> Self {
        Dispatcher { alive: Arc::clone(&self.alive) }
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> fmt::Debug for Dispatcher<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dispatcher").field(&self.name()).finish()
    }
}

impl Scheduler {
    /// A dispatcher for one kind of job, to be given a policy and then spawned.
    pub fn dispatcher(&self, name: impl Into<Arc<str>>) -> DispatcherBuilder {
        DispatcherBuilder {
            scheduler: self.clone(),
            name: name.into(),
            policy: Policy::Predictive,
            tick: Duration::from_millis(100),
            moves_per_turn: 32,
            hopeless: None,
            max_queued: 1 << 22,
        }
    }
}
