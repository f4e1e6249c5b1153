//! What a dispatcher, its workers, its jobs and its task share.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::channel::oneshot;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::{Figure, Figures, Priority, Request};
use crate::observe::summary;
use crate::policy::Rank;
use crate::scheduler::{Module, Scheduler};
use crate::tasks::error::bury;
use crate::tasks::handle::Leash;
use crate::tasks::task::Preemptible;
use crate::tasks::{Retry, TaskError};

use super::desk::Desk;
use super::floor::{Card, Floor, JobId, WorkerId};
use super::job::{Control, Job, JobHandle};
use super::stats::{DispatcherStats, WorkerStats};
use super::worker::{Handler, OnLeave, WorkerBuilder};

/// Not tokio's, which tokio-console would list for every job.
pub(super) type Reply<O> = oneshot::Sender<Result<O, TaskError>>;

/// A job, with everything that is needed to run it.
pub(super) struct Entry<I, O> {
    pub name: Arc<str>,
    pub item: Arc<I>,
    pub request: Request,
    pub retry: Retry,
    pub preemptible: Preemptible,
    pub preemptions: u32,
    /// The latest times of its begin and of its completion.
    pub deadline: Option<Instant>,
    pub complete_by: Option<Instant>,
    pub submitted: Instant,
    pub location: &'static Location<'static>,
    /// Attempts that ended with an error, after which it was to be tried again.
    pub failures: u32,
    /// Its last task, whether that has ended or not.
    pub leash: Option<Leash>,
    pub reply: Reply<O>,
}

impl<I, O> Entry<I, O> {
    /// How often it has begun to run.
    pub(super) fn attempts(&self) -> u32 {
        self.leash.as_ref().map_or(0, Leash::attempts)
    }

    /// Gives the result to whoever asked, who may have gone.
    pub(super) fn end(self, result: Result<O, TaskError>) {
        let Entry { reply, item, retry, leash, .. } = self;
        bury(reply.send(result));
        bury((item, retry, leash));
    }

    /// When it is over for a job that has no seat.
    pub(super) fn limit(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| self.attempts() == 0);
        deadline.into_iter().chain(self.complete_by).min()
    }
}

/// What runs at a worker.
pub(super) struct Hands<I, O> {
    pub name: Arc<str>,
    pub handler: Arc<dyn Handler<I, O>>,
    pub module: Option<Arc<Module>>,
    pub time_limit: Option<Duration>,
    pub on_leave: OnLeave,
}

pub(super) struct State<I, O> {
    pub floor: Floor,
    pub entries: BTreeMap<JobId, Entry<I, O>>,
    pub hands: BTreeMap<WorkerId, Hands<I, O>>,
    /// The times by which jobs are to begin and to be complete.
    pub limits: BTreeSet<(Instant, JobId)>,
    /// Those of the jobs that are not wanted any more and may have to be told so.
    pub cancels: BTreeSet<JobId>,
    /// No more jobs come.
    pub closing: bool,
    /// The task has ended.
    pub ended: bool,
    last_id: u64,
    pub stats: DispatcherStats,
}

pub(super) struct Shared<I, O> {
    pub scheduler: Scheduler,
    pub name: Arc<str>,
    state: Mutex<State<I, O>>,
    /// Something has changed.
    pub changed: Notify,
    /// A job has ended.
    pub landed: Notify,
    pub start: Instant,
    /// The deadline, for order only, of a job that has none, in nanoseconds.
    horizon: u64,
    /// How long a job that is told to give up its seat is waited for, in nanoseconds.
    pub grace: u64,
    /// Refuse what this part of the tasks of every worker would be too slow for.
    pub hopeless: Option<f64>,
    /// Refuse what would be queued behind so many.
    max_queued: usize,
}

/// Fewer service times say nothing of a quantile.
const LEAST_SAMPLES: u64 = 20;

impl<I: Send + Sync + 'static, O: Send + 'static> Shared<I, O> {
    pub(super) fn new(
        scheduler: Scheduler,
        name: Arc<str>,
        floor: Floor,
        hopeless: Option<f64>,
        max_queued: usize,
    ) -> Self {
        let state = State {
            floor,
            entries: BTreeMap::new(),
            hands: BTreeMap::new(),
            limits: BTreeSet::new(),
            cancels: BTreeSet::new(),
            closing: false,
            ended: false,
            last_id: 0,
            stats: DispatcherStats::default(),
        };
        let horizon = scheduler.aging().horizon;
        let grace = u64::try_from(scheduler.grace().as_nanos()).unwrap_or(u64::MAX);
        Shared {
            scheduler,
            horizon,
            grace,
            name,
            state: Mutex::new(state),
            changed: Notify::new(),
            landed: Notify::new(),
            start: Instant::now(),
            hopeless,
            max_queued,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<I, O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the dispatcher was made.
    pub(super) fn now(&self) -> u64 {
        self.since_start(Instant::now())
    }

    fn since_start(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }

    #[track_caller]
    pub(super) fn submit(self: &Arc<Self>, job: Job<I>) -> JobHandle<O> {
        let Job { name, item, request, retry, preemptible, preemptions, complete_by, key } = job;
        let cost = self.scheduler.cost(&request);
        let now = Instant::now();
        let at = |within: Duration| now.checked_add(within);
        let (reply, result) = oneshot::channel();
        let deadline = request.time_limit().and_then(at);
        let entry = Entry {
            name: Arc::clone(&name),
            item: Arc::new(item),
            request,
            retry,
            preemptible,
            preemptions,
            deadline,
            complete_by: complete_by.and_then(at),
            submitted: now,
            location: Location::caller(),
            failures: 0,
            leash: None,
            reply,
        };
        let mut state = self.state();
        state.last_id += 1;
        state.stats.submitted += 1;
        let id = state.last_id;
        match self.refusal(&state, &entry, complete_by) {
            Some(error) => {
                state.stats.ended += 1;
                state.note_end(&error);
                drop(state);
                entry.end(Err(error));
            }
            None => {
                let limits = entry.deadline.into_iter().chain(entry.complete_by);
                state.limits.extend(limits.map(|limit| (limit, id)));
                let rank = self.rank(&entry, id);
                let priority = entry.request.urgency();
                state.floor.arrive(id, Card::new(priority, rank, cost, key), self.since_start(now));
                state.entries.insert(id, entry);
                drop(state);
                self.changed.notify_one();
            }
        }
        JobHandle::new(name, id, result, Arc::clone(self) as Arc<dyn Control>)
    }

    /// The one order: level, deadline, arrival. Who has no deadline is not kept waiting by those that have one.
    fn rank(&self, entry: &Entry<I, O>, arrival: u64) -> Rank {
        let implied = || self.since_start(entry.submitted).saturating_add(self.horizon);
        let by = entry.limit().map_or_else(implied, |limit| self.since_start(limit));
        Rank::new(entry.request.urgency(), by, arrival)
    }

    fn refusal(&self, state: &State<I, O>, entry: &Entry<I, O>, within: Option<Duration>) -> Option<TaskError> {
        let name = Arc::clone(&entry.name);
        if state.ended {
            return Some(TaskError::Cancelled { name, running: false });
        }
        if state.floor.queued() >= self.max_queued {
            return Some(TaskError::Full { name, dispatcher: Arc::clone(&self.name), limit: self.max_queued });
        }
        let (within, quantile) = (within?, self.hopeless?);
        let needs = state.floor.desks().iter().map(|desk| desk.times.quantile(quantile, LEAST_SAMPLES));
        // One that has shown too little may be fast enough.
        let least = needs.collect::<Option<Vec<u64>>>()?.into_iter().min()?;
        let needs = Duration::from_nanos(least);
        (needs > within).then_some(TaskError::Hopeless { name, within, needs })
    }

    pub(super) fn join(&self, worker: WorkerBuilder<I, O>, handler: Arc<dyn Handler<I, O>>) -> WorkerId {
        let WorkerBuilder { name, capacity, module, time_limit, on_leave, keys, .. } = worker;
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state.floor.join(Desk::new(id, capacity));
        keys.into_iter().for_each(|key| state.floor.hold(id, key, true));
        state.hands.insert(id, Hands { name, handler, module: module.map(Arc::new), time_limit, on_leave });
        drop(state);
        self.changed.notify_one();
        id
    }

    pub(super) fn report(&self, worker: WorkerId, load: u64) {
        self.state().floor.report(worker, load);
        self.changed.notify_one();
    }

    /// Reports of several workers at once, by name.
    pub(super) fn report_all(&self, loads: &BTreeMap<&str, u64>) {
        let mut state = self.state();
        let State { hands, floor, .. } = &mut *state;
        for (id, hands) in hands {
            if let Some(load) = loads.get(&*hands.name) {
                floor.report(*id, *load);
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn hold(&self, worker: WorkerId, key: Arc<str>, holds: bool) {
        self.state().floor.hold(worker, key, holds);
        self.changed.notify_one();
    }

    pub(super) async fn drain(&self, worker: WorkerId) {
        self.state().floor.stop(worker, false, self.now());
        self.changed.notify_one();
        loop {
            let mut landed = std::pin::pin!(self.landed.notified());
            landed.as_mut().enable();
            let busy = self.state().floor.desks().iter().any(|desk| desk.id == worker && !desk.seated.is_empty());
            if !busy {
                return;
            }
            landed.await;
        }
    }

    pub(super) fn leave(&self, worker: WorkerId, name: &Arc<str>, on_leave: OnLeave) {
        let mut replies = Vec::new();
        let mut state = self.state();
        for job in state.floor.stop(worker, true, self.now()) {
            if on_leave == OnLeave::Fail {
                replies.extend(state.take(job));
            }
        }
        let gone = state.sweep_hands();
        drop(state);
        gone.into_iter().for_each(bury);
        for entry in replies {
            let error = TaskError::WorkerLeft { name: Arc::clone(&entry.name), worker: Arc::clone(name) };
            entry.end(Err(error));
        }
        self.changed.notify_one();
    }

    /// Whether its task has ended: nothing happens here any more.
    fn has_ended(&self) -> bool {
        self.state().ended
    }

    /// The last handle is gone.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_one();
    }

    pub(super) fn stats(&self) -> DispatcherStats {
        let state = self.state();
        let workers = state.floor.desks().iter().map(|desk| {
            let hands = state.hands.get(&desk.id);
            WorkerStats {
                name: hands.map_or_else(|| Arc::from(""), |hands| Arc::clone(&hands.name)),
                state: desk.state(),
                capacity: desk.capacity,
                running: desk.seated.len() as u64,
                queued: desk.queue.len() as u64,
                load: desk.load(),
                done: desk.done,
                failed: desk.failed,
                failure_rate: desk.health.rate(),
                service: desk.times.copy().as_ref().map(summary).unwrap_or_default(),
                peak: desk.service.peak().unwrap_or(0),
            }
        });
        DispatcherStats {
            queued: state.floor.queued() as u64,
            unassigned: state.floor.unassigned() as u64,
            moves: state.floor.moves,
            workers: workers.collect(),
            ..state.stats.clone()
        }
    }
}

/// The figures of a dispatcher, for as long as it does anything.
pub(super) struct Shown<I, O>(pub(super) Weak<Shared<I, O>>);

impl<I: Send + Sync + 'static, O: Send + 'static> Figures for Shown<I, O> {
    fn figures(&self) -> Vec<Figure> {
        self.0.upgrade().map(|shared| shared.stats().figures()).unwrap_or_default()
    }

    fn is_gone(&self) -> bool {
        self.0.upgrade().is_none_or(|shared| shared.has_ended())
    }
}

impl<I, O> State<I, O> {
    /// Counts a job that ended without its value.
    pub(super) fn note_end(&mut self, error: &TaskError) {
        match error {
            TaskError::Failed { .. } | TaskError::Panicked { .. } => self.stats.failed += 1,
            TaskError::Late { .. } | TaskError::Overdue { .. } => self.stats.late += 1,
            TaskError::Full { .. } | TaskError::Shed { .. } => self.stats.shed += 1,
            _ => {}
        }
    }

    /// Takes a job out, for its end.
    pub(super) fn take(&mut self, job: JobId) -> Option<Entry<I, O>> {
        let entry = self.entries.remove(&job)?;
        self.cancels.remove(&job);
        self.stats.ended += 1;
        self.floor.remove(job);
        for limit in entry.deadline.into_iter().chain(entry.complete_by) {
            self.limits.remove(&(limit, job));
        }
        Some(entry)
    }

    /// Gives a job a higher level, if it is one. Returns its last task, which has to be told too.
    fn raise(&mut self, job: JobId, priority: Priority) -> Option<Option<Leash>> {
        let entry = self.entries.get_mut(&job).filter(|entry| priority < entry.request.urgency())?;
        // For when it asks anew.
        entry.request = entry.request.clone().priority(priority);
        self.floor.raise(job, priority);
        Some(entry.leash.clone())
    }

    /// What belonged to workers that have left, to be dropped without the lock.
    pub(super) fn sweep_hands(&mut self) -> Vec<Hands<I, O>> {
        let known: BTreeSet<WorkerId> = self.floor.desks().iter().map(|desk| desk.id).collect();
        let gone: Vec<WorkerId> = self.hands.keys().filter(|id| !known.contains(id)).copied().collect();
        gone.iter().filter_map(|id| self.hands.remove(id)).collect()
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> Control for Shared<I, O> {
    fn cancel(&self, job: JobId) {
        let mut state = self.state();
        // It may have ended.
        if state.entries.contains_key(&job) {
            state.cancels.insert(job);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn raise(&self, job: JobId, priority: Priority) -> bool {
        let mut state = self.state();
        let Some(leash) = state.raise(job, priority) else { return false };
        drop(state);
        // Its task waits for its resources, or may have to again.
        leash.iter().for_each(|leash| _ = leash.raise(priority));
        self.changed.notify_one();
        true
    }
}
