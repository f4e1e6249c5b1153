//! The task of a dispatcher: gives jobs to workers, takes their results, and nothing else does.

use std::future::{self, poll_fn};
use std::panic::Location;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::model::Request;
use crate::observe::TaskRow;
use crate::tasks::error::bury;
use crate::tasks::handle::{Displaced, Grip, Leash, Withdrawn};
use crate::tasks::{Task, TaskError};

use super::floor::{Action, JobId, WorkerId};
use super::shared::{Entry, Hands, Shared, State};
use super::worker::OnLeave;

/// A job that has been handed to the scheduler has ended there.
struct Landing<O> {
    job: JobId,
    end: End<O>,
    /// How long it ran, if it did.
    ran: Option<Duration>,
    /// Its task.
    leash: Leash,
}

/// What became of it there.
enum End<O> {
    Result(Result<O, TaskError>),
    /// It was taken back while it waited, and is queued again already.
    Withdrawn,
    /// It was told to give up its seat while it ran, and has.
    GaveWay,
}

type Flights<O> = FuturesUnordered<BoxFuture<'static, Landing<O>>>;
type Pauses = FuturesUnordered<BoxFuture<'static, JobId>>;

/// Ends every job that is left when the task ends, whatever it ends by.
struct Closer<I: Send + Sync + 'static, O: Send + 'static>(Arc<Shared<I, O>>);

impl<I: Send + Sync + 'static, O: Send + 'static> Drop for Closer<I, O> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        let jobs: Vec<JobId> = state.entries.keys().copied().collect();
        let left: Vec<Entry<I, O>> = jobs.into_iter().filter_map(|job| state.take(job)).collect();
        drop(state);
        // The handles say that they were cancelled.
        for entry in left {
            let name = Arc::clone(&entry.name);
            entry.end(Err(TaskError::Cancelled { name, running: false }));
        }
        self.0.landed.notify_waiters();
    }
}

/// What a turn came to.
struct Turned<O> {
    launches: Vec<Launch<O>>,
    /// When something is due without anything else happening.
    next: Option<Instant>,
    /// Whether time alone may change something: somebody is queued.
    ticks: bool,
    over: bool,
}

/// A job on its way to the scheduler.
struct Launch<O> {
    job: JobId,
    task: Task<O>,
    /// Where the job was submitted.
    location: &'static Location<'static>,
    began: Began,
}

/// When a job began to run last.
type Began = Arc<Mutex<Option<Instant>>>;

/// Runs until the last handle of the dispatcher is gone and every job has ended.
pub(super) async fn pump<I, O>(shared: Arc<Shared<I, O>>, ticker: Interval, mut row: TaskRow)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
{
    let mut work = pin!(take_turns(shared, ticker));
    poll_fn(|cx| row.poll(work.as_mut(), cx)).await;
}

async fn take_turns<I, O>(shared: Arc<Shared<I, O>>, mut ticker: Interval)
where
    I: Send + Sync + 'static,
    O: Send + 'static,
{
    let closer = Closer(Arc::clone(&shared));
    let (mut flights, mut pauses): (Flights<O>, Pauses) = Default::default();
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Turned { launches, next, ticks, over } = shared.turn();
        for launch in launches {
            flights.push(shared.launch(launch));
        }
        if over && flights.is_empty() {
            break;
        }
        // In one order, so that the same events have the same effects. Each of the first three has only so much to do
        // before it has to wait again; what jobs can have without end, results, keeps none of them waiting.
        tokio::select! {
            biased;
            () = sleep_until(next) => shared.expire(Instant::now()),
            _ = ticker.tick(), if ticks => shared.state().floor.tick(),
            Some(job) = pauses.next() => shared.resume(job),
            Some(landing) = flights.next() => pauses.extend(shared.land(landing)),
            () = shared.changed.notified() => {}
        }
    }
    drop(closer);
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => future::pending().await,
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> Shared<I, O> {
    fn turn(&self) -> Turned<O> {
        self.cancel_all();
        let now = self.now();
        // Declared before the lock, so dropped after it.
        let mut freed = Vec::new();
        let mut launches = Vec::new();
        let mut left = Vec::new();
        let mut guard = self.state();
        let state = &mut *guard;
        loop {
            let leash = |job: JobId| state.entries.get(&job)?.leash.as_ref();
            let actions = state.floor.turn(now, |job| leash(job).map_or(Grip::Firm, Leash::grip));
            let before = freed.len();
            for action in actions {
                match action {
                    Action::Start { job, worker } => launches.extend(state.prepare(job, worker)),
                    Action::Displace { job, by } => {
                        freed.extend(state.displace(job, by, (now, now.saturating_add(self.grace))))
                    }
                    Action::Strand { job, worker } => freed.extend(state.strand(job, worker, now, &mut left)),
                }
            }
            // The place is free for the more urgent one.
            if freed.len() == before {
                break;
            }
        }
        let limit = state.limits.iter().find(|&&(at, job)| state.is_limit(at, job)).map(|(at, _)| *at);
        let due = state.floor.due().and_then(|due| self.start.checked_add(Duration::from_nanos(due)));
        let next = limit.into_iter().chain(due).min();
        let queued = state.floor.queued() > 0;
        if state.floor.is_uneven() {
            self.changed.notify_one();
        }
        let over = state.closing && (state.entries.is_empty() || state.floor.has_nobody());
        drop(guard);
        left.into_iter().for_each(|(entry, error): (Entry<I, O>, _)| entry.end(Err(error)));
        Turned { launches, next, ticks: queued, over }
    }

    /// Ends the jobs that are not wanted any more: at once those without a seat.
    fn cancel_all(&self) {
        let mut state = self.state();
        let (mut ended, mut leashes) = (Vec::new(), Vec::new());
        for job in std::mem::take(&mut state.cancels) {
            if state.floor.is_seated(job) {
                leashes.extend(state.entries.get(&job).and_then(|entry| entry.leash.clone()));
            } else {
                ended.extend(state.take(job));
            }
        }
        drop(state);
        leashes.iter().for_each(Leash::cancel);
        for entry in ended {
            let name = Arc::clone(&entry.name);
            entry.end(Err(TaskError::Cancelled { name, running: false }));
        }
    }

    fn launch(self: &Arc<Self>, launch: Launch<O>) -> BoxFuture<'static, Landing<O>> {
        let Launch { job, task, location, began } = launch;
        let handle = self.scheduler.submit_from(task, location);
        let leash = handle.leash();
        let (before, given) = match self.state().entries.get_mut(&job) {
            Some(entry) => (entry.leash.replace(leash.clone()), Some(entry.request.urgency())),
            None => (None, None),
        };
        // It may have been raised since its task was made, and before that could be told.
        given.iter().for_each(|&given| _ = leash.raise(given));
        bury(before);
        let landing = async move {
            let result = handle.await;
            let end = match (leash.is_withdrawn(), leash.was_told()) {
                (false, _) => End::Result(result),
                (true, false) => End::Withdrawn,
                (true, true) => End::GaveWay,
            };
            let began = *began.lock().unwrap_or_else(PoisonError::into_inner);
            Landing { job, end, ran: began.map(|began| began.elapsed()), leash }
        };
        landing.boxed()
    }

    /// Takes what became of a job. Returns the pause before another attempt, if there is to be one.
    fn land(&self, landing: Landing<O>) -> Option<BoxFuture<'static, JobId>> {
        let Landing { job, end, ran, leash } = landing;
        let cancelled = leash.is_cancelled();
        bury(leash);
        let result = match end {
            End::Result(result) => result,
            End::Withdrawn => {
                self.clear_up(self.state());
                return None;
            }
            End::GaveWay => {
                self.take_back(job, cancelled);
                return None;
            }
        };
        let pause = if cancelled { None } else { self.another_attempt(job, &result) };
        let now = self.now();
        let mut state = self.state();
        let failed = matches!(&result, Err(TaskError::Failed { .. } | TaskError::Panicked { .. }));
        if let Some(ran) = ran.filter(|_| failed || result.is_ok()) {
            state.floor.note(job, u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX), failed, now);
        }
        let entry = match pause {
            Some(_) => {
                state.note_retry(job);
                None
            }
            None => state.take(job),
        };
        match &result {
            Ok(_) => state.stats.done += 1,
            Err(error) if entry.is_some() => state.note_end(error),
            Err(_) => {}
        }
        let gone = state.sweep_hands();
        drop(state);
        gone.into_iter().for_each(bury);
        match entry {
            Some(entry) => {
                let (submitted, complete_by) = (entry.submitted, entry.complete_by);
                entry.end(result.map_err(|error| with_whole_time(error, submitted, complete_by)));
            }
            None => bury(result),
        }
        self.landed.notify_waiters();
        pause.map(|pause| tokio::time::sleep(pause).map(move |()| job).boxed())
    }

    /// The pause before another attempt, if there is to be one. What decides on that is the caller's, and asked without
    /// the lock.
    fn another_attempt(&self, job: JobId, result: &Result<O, TaskError>) -> Option<Duration> {
        let error = result.as_ref().err()?;
        let (retry, failures) = self.state().entries.get(&job).map(|entry| (entry.retry.clone(), entry.failures))?;
        let pause = retry.after(error, failures + 1);
        bury(retry);
        pause
    }

    /// The pause of a job before another attempt is over.
    fn resume(&self, job: JobId) {
        let now = self.now();
        self.state().floor.come_back(job, now);
    }

    /// A job has given up its seat, and is queued again where it was.
    fn take_back(&self, job: JobId, cancelled: bool) {
        let now = self.now();
        let mut state = self.state();
        state.stats.preempted += 1;
        state.floor.give_way(job, now);
        if cancelled {
            // It was told so while it stopped.
            state.cancels.insert(job);
        }
        self.clear_up(state);
    }

    /// A seat is free: lets go of workers that have left, and tells those who wait until nobody sits at one.
    fn clear_up(&self, mut state: MutexGuard<'_, State<I, O>>) {
        let gone = state.sweep_hands();
        drop(state);
        gone.into_iter().for_each(bury);
        self.landed.notify_waiters();
    }

    /// Ends jobs without a seat whose time has come.
    fn expire(&self, now: Instant) {
        let mut state = self.state();
        let due = state.limits.range(..=(now, JobId::MAX)).filter(|&&(at, job)| state.is_limit(at, job));
        let due: Vec<JobId> = due.map(|(_, job)| *job).collect();
        let over: Vec<Entry<I, O>> = due.into_iter().filter_map(|job| state.take(job)).collect();
        state.stats.late += over.len() as u64;
        drop(state);
        for entry in over {
            let (name, attempts) = (Arc::clone(&entry.name), entry.attempts());
            let within = now.saturating_duration_since(entry.submitted);
            entry.end(Err(TaskError::Overdue { name, within, attempts }));
        }
    }
}

/// The task had what was left of the time of its job.
fn with_whole_time(error: TaskError, submitted: Instant, complete_by: Option<Instant>) -> TaskError {
    match (error, complete_by) {
        (TaskError::Overdue { name, attempts, .. }, Some(by)) => {
            TaskError::Overdue { name, within: by.saturating_duration_since(submitted), attempts }
        }
        (error, _) => error,
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> State<I, O> {
    /// Makes a task of a job that has got a seat.
    fn prepare(&mut self, job: JobId, worker: WorkerId) -> Option<Launch<O>> {
        let (entry, hands) = (self.entries.get_mut(&job)?, self.hands.get(&worker)?);
        let now = Instant::now();
        let mut request = entry.request.clone();
        request = match entry.deadline.filter(|_| entry.attempts() == 0) {
            Some(deadline) => request.deadline(deadline.saturating_duration_since(now)),
            None => request.deadline(Duration::MAX),
        };
        if let Some(module) = &hands.module {
            request = request.of(module);
        }
        let began = Began::default();
        let mut task = task_of(entry, hands, request, &began);
        (task.preemptible, task.preemptions) = (entry.preemptible, entry.preemptions);
        task.follows = entry.leash.clone();
        task.complete_by = entry.complete_by.map(|by| by.saturating_duration_since(now));
        Some(Launch { job, task, location: entry.location, began })
    }

    /// Has a job give up its seat to another: at once if it still waits for its resources, else when it has stopped. It
    /// is waited for until then.
    fn displace(&mut self, job: JobId, by: JobId, (now, until): (u64, u64)) -> Option<Withdrawn> {
        match self.entries.get(&job)?.leash.as_ref()?.displace() {
            Displaced::Withdrawn(withdrawn) => {
                self.floor.come_back(job, now);
                self.stats.displaced += 1;
                Some(withdrawn)
            }
            Displaced::Told => {
                self.floor.note_told(job, by, until);
                None
            }
            // It has just begun, or ended.
            Displaced::Stays => None,
        }
    }

    /// Has a job that waits in its seat leave a worker that takes no more: for another, or to end with the worker.
    fn strand(
        &mut self,
        job: JobId,
        worker: WorkerId,
        now: u64,
        left: &mut Vec<(Entry<I, O>, TaskError)>,
    ) -> Option<Withdrawn> {
        let withdrawn = self.entries.get(&job)?.leash.as_ref()?.withdraw()?;
        self.stats.displaced += 1;
        let has_left = self.floor.desk(worker).is_some_and(|desk| desk.left);
        match self.hands.get(&worker).filter(|hands| has_left && hands.on_leave == OnLeave::Fail) {
            Some(hands) => {
                let worker = Arc::clone(&hands.name);
                left.extend(self.take(job).map(|entry| {
                    let name = Arc::clone(&entry.name);
                    (entry, TaskError::WorkerLeft { name, worker })
                }));
            }
            None => self.floor.come_back(job, now),
        }
        Some(withdrawn)
    }

    /// A job has failed, and goes away until it is tried again.
    fn note_retry(&mut self, job: JobId) {
        self.stats.retries += 1;
        self.entries.entry(job).and_modify(|entry| entry.failures += 1);
        self.floor.go_away(job);
    }

    /// Whether a job is over at a time: it has no seat, and was to begin or to be complete by then.
    fn is_limit(&self, at: Instant, job: JobId) -> bool {
        !self.floor.is_seated(job) && self.entries.get(&job).and_then(Entry::limit) == Some(at)
    }
}

fn task_of<I, O>(entry: &Entry<I, O>, hands: &Hands<I, O>, request: Request, began: &Began) -> Task<O>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
{
    let (handler, item, began) = (Arc::clone(&hands.handler), Arc::clone(&entry.item), Arc::clone(began));
    let (worker, limit) = (Arc::clone(&hands.name), hands.time_limit);
    let work = move |context| {
        let (handler, item, worker) = (Arc::clone(&handler), Arc::clone(&item), Arc::clone(&worker));
        *began.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        async move {
            let work = handler.handle(context, &item);
            let Some(limit) = limit else { return work.await };
            let slow = |_| Err(format!("worker `{worker}` took longer than {} ms", limit.as_millis()).into());
            tokio::time::timeout(limit, work).await.unwrap_or_else(slow)
        }
        .boxed()
    };
    Task::made_by(Arc::clone(&entry.name), request, Box::new(work))
}
