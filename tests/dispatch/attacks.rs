//! Callers' code that misbehaves inside a dispatcher, and requests that cross each other.

use super::*;

/// The urgent one takes the seat of the cancelled one in the same turn.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_cancelled_while_it_gives_up_its_seat_is_not_queued_again() {
    let house = House::new(10, Policy::LeastLoaded);
    let hog = take(&house.scheduler, gpu(10));
    let _worker = house.worker("only", 1);
    let low = house.submit(7, Priority::Low);
    settle().await;
    low.cancel();
    let urgent = house.submit(1, Priority::Critical);
    settle().await;
    assert_eq!(house.times.stats().ended, 1);
    drop(hog);
    assert!(matches!(low.await, Err(TaskError::Cancelled { .. })));
    urgent.await.unwrap();
    assert_eq!(house.log(), [("only", 1)]);
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn what_decides_on_another_attempt_may_use_the_dispatcher() {
    let house = House::new(10, Policy::LeastLoaded);
    let _worker = house.times.worker("broken").register(Broken("fails"));
    let asked = house.times.clone();
    let retry = Retry::new(2).when(move |_| asked.stats().submitted == 1);
    let error = house.times.submit(job(1).retry(retry)).await.unwrap_err();
    assert!(matches!(error, TaskError::Failed { attempt: 2, .. }), "{error}");
    house.assert_accounted();
}

#[test]
#[should_panic(expected = "timers are disabled")]
fn a_dispatcher_needs_timers_and_says_so_where_it_is_started() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let (scheduler, _driver) = Scheduler::builder().gpu(10u64).build().unwrap();
    let _times: Result<Times, _> = scheduler.dispatcher("times").spawn();
}

/// It takes no more jobs, ever, so nobody is left who could do what is queued.
#[tokio::test(start_paused = true)]
async fn what_only_workers_that_drain_could_do_ends_with_the_dispatcher() {
    let house = House::new(10, Policy::LeastLoaded);
    let worker = house.worker("only", 1);
    let running = house.submit(10, Priority::Normal);
    settle().await;
    let queued = house.submit(10, Priority::Normal);
    assert!(futures::poll!(Box::pin(worker.drain())).is_pending());
    let House { times, .. } = house;
    drop(times);
    assert_eq!(running.await.unwrap(), "only");
    settle().await;
    assert!(matches!(futures::poll!(queued), std::task::Poll::Ready(Err(TaskError::Cancelled { .. }))));
    drop(worker);
}

/// Works on until it is asked to stop, where it fails the first time if the item is odd.
struct Endless;

#[async_trait]
impl Handler<u64, &'static str> for Endless {
    async fn handle(&self, context: TaskContext, item: &u64) -> Result<&'static str, BoxError> {
        if item % 2 == 1 {
            return Err("it fails".into());
        }
        loop {
            tokio::time::sleep(10 * MS).await;
            context.checkpoint().await;
        }
    }
}

/// Cancels a job twice. It ends once, as cancelled, and nothing is left of it; then a third time, for nothing.
async fn cancel(house: &House, job: JobHandle<&'static str>) {
    let before = house.times.stats();
    job.cancel();
    job.cancel();
    let mut job = job;
    let ended = (&mut job).await;
    assert!(matches!(ended, Err(TaskError::Cancelled { .. })), "{ended:?}");
    job.cancel();
    settle().await;
    let after = house.times.stats();
    assert_eq!((after.ended, after.done, after.failed), (before.ended + 1, before.done, before.failed), "{after:?}");
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_cancel_ends_a_job_once_in_whatever_state_it_is() {
    let house = House::new(10, Policy::LeastLoaded);
    let nobody_takes_it = house.submit(0, Priority::Normal);
    settle().await;
    assert_eq!(house.times.stats().unassigned, 1);
    cancel(&house, nobody_takes_it).await;

    let _worker = house.times.worker("only").register(Endless);
    let runs = house.submit(0, Priority::Normal);
    tokio::time::sleep(5 * MS).await;
    assert_eq!((house.at("only"), house.scheduler.task_stats().running), ((0, 1, 0), 1));
    cancel(&house, runs).await;

    let hog = take(&house.scheduler, gpu(10));
    let waits_in_its_place = house.submit(0, Priority::Normal);
    settle().await;
    assert_eq!((house.at("only"), house.scheduler.stats().waiting), ((0, 1, 0), 1));
    let queued = house.submit(0, Priority::Normal);
    settle().await;
    assert_eq!(house.at("only"), (1, 1, 0));
    queued.cancel();
    assert!(matches!(queued.await, Err(TaskError::Cancelled { .. })));
    drop(hog);
    cancel(&house, waits_in_its_place).await;

    let retry = Retry::new(9).backoff(50 * MS, 50 * MS);
    let pauses = house.times.submit(job(1).retry(retry));
    settle().await;
    assert_eq!((house.times.stats().retries, house.at("only")), (1, (0, 0, 0)));
    cancel(&house, pauses).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_with_ten_thousand_queued_jobs_accounts_for_every_one() {
    let house = House::new(10, Policy::TwoChoices { seed: 5 });
    let _workers = ["first", "second", "third"].map(|name| house.worker(name, 8));
    let jobs = (0..10_000u64).map(|number| house.submit(number % 9, Priority::ALL[number as usize % 5]));
    let jobs: Vec<_> = jobs.collect();
    tokio::time::sleep(20 * MS).await;
    house.scheduler.shutdown().await.unwrap();
    let ends = futures::future::join_all(jobs).await;
    let done = ends.iter().filter(|end| end.is_ok()).count() as u64;
    let closed = |end: &&Result<_, _>| matches!(end, Err(TaskError::Refused { .. }));
    assert_eq!(ends.iter().filter(closed).count() as u64, 10_000 - done);
    let stats = house.times.stats();
    assert!(stats.done == done && (20..200).contains(&done), "{stats:?}");
    house.assert_accounted();
}

/// Panics when it is dropped, if it is to.
struct Bomb(bool);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0 || std::thread::panicking(), "dropped");
    }
}

/// Gives what it is given, and is as dangerous as that.
struct Passes {
    _held: Bomb,
}

#[async_trait]
impl Handler<Bomb, Bomb> for Passes {
    async fn handle(&self, _context: TaskContext, item: &Bomb) -> Result<Bomb, BoxError> {
        tokio::time::sleep(MS).await;
        Ok(Bomb(item.0))
    }
}

#[tokio::test(start_paused = true)]
async fn items_results_and_handlers_that_panic_while_they_are_dropped_harm_no_other_job() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let bombs: Dispatcher<Bomb, Bomb> = scheduler.dispatcher("bombs").spawn().unwrap();
    let submit = |armed| bombs.submit(Job::new("bomb", Bomb(armed), gpu(1)));
    let cancelled = submit(true);
    settle().await;
    cancelled.cancel();
    assert!(matches!(cancelled.await, Err(TaskError::Cancelled { .. })));
    let late = bombs.submit(Job::new("bomb", Bomb(true), gpu(1)).deadline(MS)).await;
    assert!(matches!(late, Err(TaskError::Overdue { .. })));
    let worker = bombs.worker("armed").register(Passes { _held: Bomb(true) });
    drop(submit(true));
    let running = submit(false);
    tokio::time::sleep(3 * MS).await;
    // Its handler goes with the job that runs there.
    drop(worker);
    assert!(running.await.is_ok());
    let _worker = bombs.worker("harmless").register(Passes { _held: Bomb(false) });
    assert!(submit(false).await.is_ok());
    let stats = bombs.stats();
    assert_eq!((stats.submitted, stats.ended, stats.done), (5, 5, 3), "{stats:?}");
}

/// Fails once, with an error that panics when it is dropped.
struct FailsOnce;

#[derive(Debug, thiserror::Error)]
#[error("it fails")]
struct Armed;

impl Drop for Armed {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[async_trait]
impl Handler<u64, &'static str> for FailsOnce {
    async fn handle(&self, context: TaskContext, _item: &u64) -> Result<&'static str, BoxError> {
        if context.attempt() == 1 { Err(Box::new(Armed)) } else { Ok("done") }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_while_it_is_dropped_harms_no_job_and_is_tried_again() {
    let house = House::new(10, Policy::LeastLoaded);
    let _worker = house.times.worker("only").register(FailsOnce);
    assert_eq!(house.times.submit(job(1).retry(Retry::new(2))).await.unwrap(), "done");
    house.assert_accounted();
}

/// Nothing of them runs yet, so that they go as those do that are queued.
#[tokio::test(start_paused = true)]
async fn what_waits_for_its_resources_at_a_worker_that_leaves_or_drains_goes_elsewhere_or_ends() {
    let house = House::new(10, Policy::LeastLoaded);
    let hog = take(&house.scheduler, gpu(10));
    let strict = house.times.worker("strict").on_leave(OnLeave::Fail).register(house.sleeper("strict"));
    let failed = house.submit(1, Priority::Normal);
    settle().await;
    assert_eq!(house.at("strict"), (0, 1, 0));
    drop(strict);
    let error = failed.await.unwrap_err();
    assert!(matches!(&error, TaskError::WorkerLeft { worker, .. } if &**worker == "strict"), "{error}");

    let gentle = house.worker("gentle", 1);
    let moved = house.submit(1, Priority::Normal);
    settle().await;
    drop(gentle);
    settle().await;
    assert_eq!((house.times.stats().unassigned, house.scheduler.stats().waiting), (1, 0));
    let drained = house.worker("drained", 1);
    settle().await;
    assert_eq!(house.at("drained"), (0, 1, 0));
    tokio::time::timeout(MS, drained.drain()).await.expect("nothing runs there");
    let _last = house.worker("last", 1);
    settle().await;
    assert_eq!((house.at("last"), house.scheduler.stats().waiting), ((0, 1, 0), 1));
    drop(hog);
    assert_eq!(moved.await.unwrap(), "last");
    house.assert_accounted();
}
