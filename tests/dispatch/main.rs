//! Dispatchers: jobs of one kind, several workers, on paused time.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod order;
mod preempted;
mod raise;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bursar::tasks::balance::{Policy, State};
use bursar::tasks::{
    BoxError, Dispatcher, DispatcherStats, Handler, Job, JobHandle, OnLeave, Retry, TaskContext, TaskError,
    WorkerHandle,
};
use bursar::{Priority, Request, Scheduler};
use common::*;

type Times = Dispatcher<u64, &'static str>;
type Worker = WorkerHandle<u64, &'static str>;

/// Takes as many milliseconds as the item says, and notes who did it.
#[derive(Clone)]
struct Sleeper {
    name: &'static str,
    log: Arc<Mutex<Vec<(&'static str, u64)>>>,
}

#[async_trait]
impl Handler<u64, &'static str> for Sleeper {
    async fn handle(&self, _context: TaskContext, item: &u64) -> Result<&'static str, BoxError> {
        self.log.lock().unwrap().push((self.name, *item));
        tokio::time::sleep(Duration::from_millis(*item)).await;
        Ok(self.name)
    }
}

/// Fails, panics or hangs.
struct Broken(&'static str);

#[async_trait]
impl Handler<u64, &'static str> for Broken {
    async fn handle(&self, _context: TaskContext, _item: &u64) -> Result<&'static str, BoxError> {
        match self.0 {
            "fails" => Err("it fails".into()),
            "panics" => panic!("it panics"),
            _ => std::future::pending().await,
        }
    }
}

struct House {
    scheduler: Scheduler,
    times: Times,
    log: Arc<Mutex<Vec<(&'static str, u64)>>>,
}

impl House {
    fn new(units: u64, policy: Policy) -> Self {
        let scheduler = Scheduler::builder().gpu(units).spawn().unwrap();
        let times = scheduler.dispatcher("times").policy(policy).spawn().unwrap();
        House { scheduler, times, log: Arc::default() }
    }

    fn worker(&self, name: &'static str, capacity: u32) -> Worker {
        self.times.worker(name).capacity(capacity).register(self.sleeper(name))
    }

    fn sleeper(&self, name: &'static str) -> Sleeper {
        Sleeper { name, log: Arc::clone(&self.log) }
    }

    fn submit(&self, millis: u64, priority: Priority) -> JobHandle<&'static str> {
        self.times.submit(job(millis).priority(priority))
    }

    fn log(&self) -> Vec<(&'static str, u64)> {
        self.log.lock().unwrap().clone()
    }

    /// Queued, running and done at a worker.
    fn at(&self, worker: &str) -> (u64, u64, u64) {
        let stats = self.times.stats();
        stats.worker(worker).map(|worker| (worker.queued, worker.running, worker.done)).expect("registered")
    }

    #[track_caller]
    fn assert_accounted(&self) {
        assert_accounted(&self.scheduler, &self.times.stats());
    }
}

/// Every job and every task has ended, nothing is held, and what was taken back is neither missing nor cancelled.
#[track_caller]
fn assert_accounted(scheduler: &Scheduler, stats: &DispatcherStats) {
    let tasks = scheduler.task_stats();
    assert_eq!((stats.submitted, stats.queued), (stats.ended, 0), "{stats:?}");
    assert_eq!((tasks.live, tasks.running, tasks.submitted), (0, 0, tasks.ended()), "{tasks}");
    assert_eq!((tasks.taken_back, tasks.done), (stats.displaced + stats.preempted, stats.done), "{tasks}");
    assert_untouched(scheduler);
}

fn job(millis: u64) -> Job<u64> {
    Job::new("sleep", millis, gpu(1))
}

async fn settle() {
    tokio::time::sleep(Duration::from_nanos(1)).await;
}

async fn all(handles: Vec<JobHandle<&'static str>>) -> Vec<&'static str> {
    let results = futures::future::join_all(handles).await;
    results.into_iter().map(|result| result.expect("done")).collect()
}

#[tokio::test(start_paused = true)]
async fn jobs_wait_for_a_worker_and_never_get_lost_without_one() {
    let house = House::new(10, Policy::LeastLoaded);
    let handles: Vec<_> = (0..5).map(|_| house.submit(5, Priority::Normal)).collect();
    settle().await;
    assert_eq!((house.times.stats().queued, house.times.stats().unassigned), (5, 5));
    let worker = house.worker("first", 2);
    settle().await;
    assert_eq!(house.at("first"), (3, 2, 0));
    assert_eq!(all(handles).await, ["first"; 5]);
    let service = house.times.stats().workers[0].service;
    assert!(service.count == 5 && (5_000_000..=6_100_000).contains(&service.p50), "{service:?}");
    drop(worker);
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_dispatcher_is_shown_until_it_has_done_all_and_one_of_the_same_name_beside_it() {
    let house = House::new(10, Policy::LeastLoaded);
    let other: Times = house.scheduler.dispatcher("times").spawn().unwrap();
    let (worker, broken) = (house.worker("first", 1), other.worker("broken").register(Broken("fails")));
    let good: Vec<_> = (0..3).map(|_| house.submit(5, Priority::Normal)).collect();
    settle().await;
    let late = house.times.submit(job(5).deadline(Duration::from_millis(1)));
    let failed = other.submit(job(1));
    settle().await;
    let figures = shown(&house.scheduler, "dispatcher times").expect("shown");
    assert_eq!(["submitted", "queued", "running", "workers"].map(|name| figures[name]), [4, 3, 1, 1]);
    all(good).await;
    assert!(late.await.is_err() && failed.await.is_err());
    let figures = shown(&house.scheduler, "dispatcher times").expect("shown");
    assert_eq!(["done", "late", "failed", "running"].map(|name| figures[name]), [3, 1, 0, 0]);
    let figures = shown(&house.scheduler, "dispatcher times 2").expect("shown beside it");
    assert_eq!(["submitted", "done", "failed"].map(|name| figures[name]), [1, 0, 1]);
    drop((other, broken));
    settle().await;
    assert_eq!(shown(&house.scheduler, "dispatcher times 2"), None);
    let House { scheduler, times, .. } = house;
    let last = times.submit(job(5));
    settle().await;
    drop((times, worker));
    settle().await;
    assert_eq!(shown(&scheduler, "dispatcher times").map(|figures| figures["running"]), Some(1));
    last.await.unwrap();
    settle().await;
    assert_eq!(shown(&scheduler, "dispatcher times"), None);
}

#[tokio::test(start_paused = true)]
async fn what_the_scheduler_preempts_is_counted_among_the_tasks_and_not_by_the_dispatcher() {
    let house = House::new(10, Policy::LeastLoaded);
    let _worker = house.worker("first", 1);
    let batch = Job::new("batch", 50, gpu(10)).priority(Priority::Idle).preemptible();
    let batch = house.times.submit(batch);
    settle().await;
    drop(house.scheduler.reserve(gpu(1).priority(Priority::Critical)).await.unwrap());
    assert_eq!(batch.await.unwrap(), "first");
    assert_eq!((house.times.stats().preempted, house.scheduler.task_stats().preemptions), (0, 1));
    house.assert_accounted();
}

/// P24: the order at a worker is the order of the scheduler.
#[tokio::test(start_paused = true)]
async fn p24_a_worker_takes_jobs_by_level_then_deadline_then_arrival() {
    let house = House::new(10, Policy::RoundRobin);
    let busy = house.submit(50, Priority::Idle);
    let _worker = house.worker("only", 1);
    settle().await;
    let mut handles = vec![busy];
    handles
        .extend([(1, Priority::Low), (2, Priority::Normal), (3, Priority::Critical)].map(|(m, p)| house.submit(m, p)));
    handles.push(house.times.submit(job(4).deadline(Duration::from_millis(500))));
    handles.push(house.submit(5, Priority::Normal));
    all(handles).await;
    assert_eq!(house.log().iter().map(|(_, item)| *item).collect::<Vec<_>>(), [50, 3, 4, 2, 5, 1]);
    house.assert_accounted();
}

/// P26: memory is free, and the seats are full of LOW work that waits for something else.
#[tokio::test(start_paused = true)]
async fn p26_a_critical_job_is_not_kept_out_by_seats_full_of_low_ones() {
    let house = House::new(10, Policy::LeastLoaded);
    let hog = take(&house.scheduler, gpu(9));
    let _worker = house.worker("only", 2);
    let wide = || Job::new("wide", 7, gpu(5)).priority(Priority::Low);
    let low: Vec<_> = (0..3).map(|_| house.times.submit(wide())).collect();
    settle().await;
    assert_eq!(house.at("only"), (1, 2, 0));
    let critical = house.submit(1, Priority::Critical);
    assert_eq!(critical.await.unwrap(), "only");
    assert_eq!((house.log(), house.times.stats().displaced), (vec![("only", 1)], 1));
    drop(hog);
    all(low).await;
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_takes_over_what_is_queued_and_nothing_that_runs() {
    let house = House::new(100, Policy::LeastLoaded);
    let _first = house.worker("first", 1);
    let handles: Vec<_> = (0..9).map(|_| house.submit(10, Priority::Normal)).collect();
    settle().await;
    assert_eq!(house.at("first"), (8, 1, 0));
    let _second = house.worker("second", 1);
    settle().await;
    let (first, second) = (house.at("first"), house.at("second"));
    assert_eq!((first.1, second.1, first.0 + second.0), (1, 1, 7));
    assert!(first.0.abs_diff(second.0) <= 1, "{first:?} {second:?}");
    let done = all(handles).await;
    assert!(done.iter().filter(|&&name| name == "second").count() >= 4);
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_reports_a_load_loses_queued_jobs_to_the_others() {
    let house = House::new(100, Policy::RoundRobin);
    let (first, _second) = (house.worker("first", 1), house.worker("second", 1));
    let handles: Vec<_> = (0..10).map(|_| house.submit(10, Priority::Normal)).collect();
    settle().await;
    assert_eq!((house.at("first").0, house.at("second").0), (4, 4));
    // Each job costs a hundredth of the GPU.
    first.report_load(2_000_000);
    settle().await;
    assert_eq!((house.at("first").0, house.at("second").0), (0, 8));
    house.times.adapt_to_load([("first", 0), ("second", 3_000_000), ("nobody", 7)]);
    settle().await;
    assert_eq!((house.at("first").0, house.at("second").0), (8, 0));
    all(handles).await;
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn no_more_jobs_move_in_one_turn_than_the_dispatcher_allows() {
    let scheduler = Scheduler::builder().gpu(100u64).spawn().unwrap();
    let times: Times = scheduler.dispatcher("times").moves_per_turn(0).spawn().unwrap();
    let log = Arc::default();
    let sleeper = |name| Sleeper { name, log: Arc::clone(&log) };
    let first = times.worker("first").register(sleeper("first"));
    let handles: Vec<_> = (0..20).map(|_| times.submit(job(10))).collect();
    settle().await;
    let _second = times.worker("second").register(sleeper("second"));
    first.report_load(9_000_000);
    settle().await;
    // It takes what it has a seat for, and none is put into its queue.
    assert_eq!(times.stats().worker("second").map(|w| (w.queued, w.running)), Some((0, 1)));
    drop(first);
    assert_eq!(all(handles).await.len(), 20);
}

/// A module that drops with queued tasks: they go elsewhere, or end, as it was configured.
#[tokio::test(start_paused = true)]
async fn what_is_queued_at_a_worker_that_leaves_goes_elsewhere_or_ends_and_what_runs_goes_on() {
    let house = House::new(100, Policy::RoundRobin);
    let strict = house.times.worker("strict").on_leave(OnLeave::Fail).register(house.sleeper("strict"));
    let _other = house.worker("other", 1);
    let handles: Vec<_> = (0..6).map(|_| house.submit(10, Priority::Normal)).collect();
    settle().await;
    assert_eq!((house.at("strict"), house.at("other")), ((2, 1, 0), (2, 1, 0)));
    drop(strict);
    let results = futures::future::join_all(handles).await;
    let left =
        |result: &Result<_, _>| matches!(result, Err(TaskError::WorkerLeft { worker, .. }) if &**worker == "strict");
    assert_eq!(results.iter().filter(|result| left(result)).count(), 2);
    assert_eq!(results.iter().filter(|result| result.as_ref().is_ok_and(|name| *name == "strict")).count(), 1);
    assert_eq!(results.iter().filter(|result| result.as_ref().is_ok_and(|name| *name == "other")).count(), 3);
    assert!(house.times.stats().worker("strict").is_none());

    let gentle = house.worker("gentle", 1);
    let handles: Vec<_> = (0..6).map(|_| house.submit(10, Priority::Normal)).collect();
    settle().await;
    drop(gentle);
    assert_eq!(all(handles).await.iter().filter(|&&name| name == "other").count(), 5);
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_drains_gives_up_its_queue_and_waits_for_what_runs() {
    let house = House::new(100, Policy::RoundRobin);
    let (first, _second) = (house.worker("first", 1), house.worker("second", 1));
    let handles: Vec<_> = (0..6).map(|_| house.submit(10, Priority::Normal)).collect();
    settle().await;
    first.drain().await;
    let stats = house.times.stats();
    let worker = stats.worker("first").unwrap();
    assert_eq!((worker.state, worker.queued, worker.running, worker.done), (State::Draining, 0, 0, 1));
    assert_eq!(all(handles).await.iter().filter(|&&name| name == "second").count(), 5);
    house.assert_accounted();
}

/// P29: a worker that fails at once looks fastest of all.
#[tokio::test(start_paused = true)]
async fn p29_a_worker_that_fails_fast_gets_little_and_comes_back_when_it_works_again() {
    let house = House::new(1_000, Policy::TwoChoices { seed: 9 });
    let works = house.worker("works", 4);
    let broken = house.times.worker("broken").capacity(4).register(Broken("fails"));
    let retry = Retry::new(9).backoff(MS, MS);
    let handles: Vec<_> = (0..200).map(|_| house.times.submit(job(5).retry(retry.clone()))).collect();
    assert_eq!(all(handles).await, ["works"; 200]);
    let failed = house.times.stats().worker("broken").unwrap().failed;
    assert!((3..20).contains(&failed), "{failed} of 200 tried at the broken one");
    assert_eq!(house.times.stats().retries, failed);
    drop((works, broken));
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_dropped_at_its_time_limit_and_counted_as_failed() {
    let house = House::new(10, Policy::LeastLoaded);
    let hangs = house.times.worker("hangs").time_limit(20 * MS).register(Broken("hangs"));
    let error = house.submit(1, Priority::Normal).await.unwrap_err();
    assert_eq!(error.to_string(), "task `sleep` failed at attempt 1: worker `hangs` took longer than 20 ms");
    let within = house.times.submit(job(1).complete_by(10 * MS)).await.unwrap_err();
    assert!(matches!(within, TaskError::Overdue { attempts: 1, .. }), "{within}");
    let cancelled = house.submit(1, Priority::Normal);
    drop(hangs);
    settle().await;
    cancelled.cancel();
    assert!(cancelled.await.is_err());
    let panics = house.times.worker("panics").register(Broken("panics"));
    let error = house.submit(1, Priority::Normal).await.unwrap_err();
    assert!(matches!(&error, TaskError::Panicked { message, .. } if message == "it panics"), "{error}");
    drop(panics);
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_is_cancelled_or_late_wherever_it_is_queued() {
    let house = House::new(10, Policy::LeastLoaded);
    let nowhere = house.submit(1, Priority::Normal);
    nowhere.cancel();
    assert!(matches!(nowhere.await, Err(TaskError::Cancelled { .. })));
    let late = house.times.submit(job(1).deadline(5 * MS)).await.unwrap_err();
    assert!(matches!(late, TaskError::Overdue { attempts: 0, .. }), "{late}");
    let _worker = house.worker("only", 1);
    let busy = house.submit(20, Priority::Normal);
    settle().await;
    let queued = house.submit(1, Priority::Normal);
    let hurried = house.times.submit(job(1).complete_by(5 * MS));
    settle().await;
    queued.cancel();
    assert!(matches!(queued.await, Err(TaskError::Cancelled { .. })));
    assert!(matches!(hurried.await, Err(TaskError::Overdue { .. })));
    busy.await.unwrap();
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_no_worker_can_complete_in_time_is_refused_at_once() {
    let scheduler = Scheduler::builder().gpu(100u64).spawn().unwrap();
    let times: Times = scheduler.dispatcher("times").refuse_hopeless(0.5).spawn().unwrap();
    let _worker = times.worker("only").capacity(30).register(Sleeper { name: "only", log: Arc::default() });
    let hurried = || times.submit(job(50).complete_by(20 * MS));
    assert!(matches!(hurried().await, Err(TaskError::Overdue { .. })), "nothing is known yet");
    all((0..20).map(|_| times.submit(job(50))).collect()).await;
    let refused = hurried().await.unwrap_err();
    assert!(matches!(&refused, TaskError::Hopeless { needs, .. } if *needs >= 50 * MS), "{refused}");
    assert!(times.submit(job(50).complete_by(80 * MS)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn jobs_go_where_their_key_is_held() {
    let house = House::new(1_000, Policy::Affinity);
    let _first = house.times.worker("first").capacity(2).register(house.sleeper("first"));
    let _second = house.times.worker("second").capacity(2).holds("model").register(house.sleeper("second"));
    let keyed = || house.times.submit(job(1).key("model"));
    for _ in 0..10 {
        assert_eq!(keyed().await.unwrap(), "second");
    }
    _second.let_go("model");
    _first.hold("model");
    assert_eq!(keyed().await.unwrap(), "first");
}

#[tokio::test(start_paused = true)]
async fn a_worker_asks_in_the_name_of_its_module() {
    let house = House::new(10, Policy::LeastLoaded);
    let module = house.scheduler.module("vision").cap(GPU, 2).register().unwrap();
    let _worker = house.times.worker("only").capacity(8).module(module).register(house.sleeper("only"));
    let handles: Vec<_> = (0..6).map(|_| house.submit(10, Priority::Normal)).collect();
    tokio::time::sleep(5 * MS).await;
    // Its cap lets two of the six run.
    assert_eq!((house.log().len(), free(&house.scheduler, GPU)), (2, 8));
    all(handles).await;
    house.assert_accounted();
}

/// The last handle is gone: what was submitted is done, and what nobody can do is told so.
#[tokio::test(start_paused = true)]
async fn a_dispatcher_that_is_dropped_does_what_it_was_given() {
    let house = House::new(10, Policy::LeastLoaded);
    let worker = house.worker("only", 1);
    let handles: Vec<_> = (0..4).map(|_| house.submit(10, Priority::Normal)).collect();
    let House { scheduler, times, .. } = house;
    drop(times);
    assert_eq!(all(handles).await.len(), 4);
    drop(worker);
    let lonely: Times = scheduler.dispatcher("lonely").spawn().unwrap();
    let job = lonely.submit(job(1));
    drop(lonely);
    assert!(matches!(job.await, Err(TaskError::Cancelled { .. })));
}

/// Attack: hundreds of jobs of random levels, costs and times, workers that come, go, fail and hang, and cancels.
#[tokio::test(start_paused = true)]
async fn whatever_workers_and_callers_do_every_job_has_one_end() {
    let mut preempted = 0;
    for seed in 0..4 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let house = House::new(20, Policy::TwoChoices { seed });
        let ended = Arc::new(AtomicU64::new(0));
        let (mut workers, mut waiting) = (Vec::new(), Vec::new());
        for step in 0..300u64 {
            let request = Request::new().gpu(dice.u64(1..=20)).priority(Priority::ALL[dice.usize(..5)]);
            let mut job = Job::new("chaos", dice.u64(..20), request);
            if dice.u8(..4) == 0 {
                job = job.complete_by(Duration::from_millis(dice.u64(1..200)));
            }
            if dice.u8(..4) == 0 {
                job = job.retry(Retry::new(3).seed(step));
            }
            job = if dice.bool() { job.preemptible().preemptions(dice.u32(..3)) } else { job };
            let handle = house.times.submit(job);
            if dice.u8(..10) == 0 {
                handle.cancel();
            }
            if dice.u8(..10) == 0 {
                handle.raise(Priority::ALL[dice.usize(..5)]);
            }
            let counted = Arc::clone(&ended);
            waiting.push(tokio::spawn(async move {
                let _ = handle.await;
                counted.fetch_add(1, Ordering::Relaxed);
            }));
            match dice.u8(..20) {
                0 => workers.push(house.worker("good", dice.u32(1..3))),
                1 => workers.push(house.times.worker("bad").register(Broken("fails"))),
                2 => workers.push(house.times.worker("slow").time_limit(9 * MS).register(Broken("hangs"))),
                3 if !workers.is_empty() => drop(workers.swap_remove(dice.usize(..workers.len()))),
                4 => workers.iter().for_each(|worker| worker.report_load(dice.u64(..3_000_000))),
                _ => tokio::time::sleep(Duration::from_millis(dice.u64(..4))).await,
            }
        }
        workers.push(house.worker("last", 8));
        futures::future::join_all(waiting).await;
        assert_eq!(ended.load(Ordering::Relaxed), 300, "seed {seed}");
        preempted += house.times.stats().preempted;
        drop(workers);
        house.assert_accounted();
    }
    assert!(preempted > 0);
}
