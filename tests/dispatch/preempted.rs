//! Jobs that give way while they run: to jobs that find no seat, and to whoever waits for what they hold.

use std::sync::atomic::AtomicBool;

use super::*;

type Steps = Dispatcher<u64, u32>;

/// Counts to five, saves every step, waits 10 ms before each, and gives the number of the attempt. Notes where it
/// begins.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<Vec<(u64, u32)>>>);

#[async_trait]
impl Handler<u64, u32> for Counter {
    async fn handle(&self, context: TaskContext, item: &u64) -> Result<u32, BoxError> {
        let from = context.saved::<u32>().unwrap_or(0);
        self.0.lock().unwrap().push((*item, from));
        for step in from..5 {
            tokio::time::sleep(10 * MS).await;
            context.save(step + 1);
            context.checkpoint().await;
        }
        Ok(context.attempt())
    }
}

struct Shop {
    scheduler: Scheduler,
    steps: Steps,
    counter: Counter,
}

impl Shop {
    fn new(units: u64) -> Self {
        let scheduler = Scheduler::builder().gpu(units).spawn().unwrap();
        // Nothing here waits for a tick.
        let steps = scheduler.dispatcher("steps").policy(Policy::LeastLoaded).tick(Duration::from_secs(3_600));
        let steps = steps.spawn().unwrap();
        Shop { scheduler, steps, counter: Counter::default() }
    }

    fn worker(&self, name: &'static str, capacity: u32) -> WorkerHandle<u64, u32> {
        self.steps.worker(name).capacity(capacity).register(self.counter.clone())
    }

    fn submit(&self, item: u64, priority: Priority) -> JobHandle<u32> {
        self.steps.submit(counting(item, priority))
    }

    /// What was begun, and from which step.
    fn log(&self) -> Vec<(u64, u32)> {
        self.counter.0.lock().unwrap().clone()
    }

    #[track_caller]
    fn assert_accounted(&self) {
        assert_accounted(&self.scheduler, &self.steps.stats());
    }
}

/// A job of one unit that can be preempted.
fn counting(item: u64, priority: Priority) -> Job<u64> {
    Job::new("count", item, gpu(1)).priority(priority).preemptible()
}

/// P26, with seats full of work that runs: there is room in memory and none at the worker.
#[tokio::test(start_paused = true)]
async fn p26_a_critical_job_that_finds_every_seat_taken_gets_that_of_the_last_in_rank() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 2);
    let (old, young) = (shop.submit(1, Priority::Low), shop.submit(2, Priority::Low));
    tokio::time::sleep(25 * MS).await;
    let start = tokio::time::Instant::now();
    assert_eq!(shop.submit(3, Priority::Critical).await.unwrap(), 1);
    // Five steps, and a millisecond of rounding for each timer.
    assert!(start.elapsed() <= 56 * MS, "{:?}", start.elapsed());
    assert_eq!((old.await.unwrap(), young.await.unwrap()), (1, 2));
    assert_eq!(shop.log(), [(1, 0), (2, 0), (3, 0), (2, 2)]);
    let stats = shop.steps.stats();
    assert_eq!((stats.preempted, stats.displaced, stats.retries), (1, 0, 0));
    assert_eq!(shop.scheduler.task_stats().preemptions, 1);
    shop.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_did_not_say_that_it_can_end_early_keeps_its_seat() {
    let house = House::new(10, Policy::LeastLoaded);
    let _worker = house.worker("only", 1);
    let low = house.submit(50, Priority::Idle);
    settle().await;
    let critical = house.submit(1, Priority::Critical);
    all(vec![low, critical]).await;
    assert_eq!(house.log(), [("only", 50), ("only", 1)]);
    assert_eq!(house.times.stats().preempted, 0);
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_gave_way_is_queued_where_it_was_before_those_that_came_later() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 1);
    let first = shop.submit(1, Priority::Low);
    tokio::time::sleep(15 * MS).await;
    let later = shop.submit(2, Priority::Low);
    let urgent = shop.submit(3, Priority::High);
    assert_eq!((urgent.await.unwrap(), first.await.unwrap(), later.await.unwrap()), (1, 2, 1));
    assert_eq!(shop.log(), [(1, 0), (3, 0), (1, 1), (2, 0)]);
    shop.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_preemptible_at_checkpoints_goes_on_until_it_comes_to_one() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 1);
    let job = Job::new("count", 1, gpu(1)).priority(Priority::Low).preemptible_at_checkpoints();
    let low = shop.steps.submit(job);
    tokio::time::sleep(15 * MS).await;
    let urgent = shop.submit(2, Priority::Critical);
    settle().await;
    assert_eq!(shop.log(), [(1, 0)]);
    assert_eq!((urgent.await.unwrap(), low.await.unwrap()), (1, 2));
    assert_eq!(shop.log(), [(1, 0), (2, 0), (1, 2)], "it came to its second checkpoint");
    shop.assert_accounted();
}

/// The urgent one is queued at a worker where nobody can give way, and goes where somebody can.
#[tokio::test(start_paused = true)]
async fn who_gives_way_may_sit_at_another_worker_and_goes_on_where_there_is_room() {
    let shop = Shop::new(10);
    let (_first, _second) = (shop.worker("first", 1), shop.worker("second", 1));
    let firm = shop.steps.submit(Job::new("firm", 1, gpu(1)).priority(Priority::Low));
    settle().await;
    let soft = shop.submit(2, Priority::Low);
    tokio::time::sleep(15 * MS).await;
    let urgent = shop.submit(3, Priority::Critical);
    assert_eq!((firm.await.unwrap(), urgent.await.unwrap(), soft.await.unwrap()), (1, 1, 2));
    assert_eq!(shop.log(), [(1, 0), (2, 0), (3, 0), (2, 1)]);
    assert_eq!(shop.steps.stats().preempted, 1);
    shop.assert_accounted();
}

/// Comes to no checkpoint for half a second.
struct Deaf;

#[async_trait]
impl Handler<u64, u32> for Deaf {
    async fn handle(&self, context: TaskContext, _item: &u64) -> Result<u32, BoxError> {
        tokio::time::sleep(500 * MS).await;
        Ok(context.attempt())
    }
}

/// C8: the next is told when the grace of the first is over, without anything else having happened.
#[tokio::test(start_paused = true)]
async fn c8_when_one_does_not_give_way_within_the_grace_another_does() {
    let shop = Shop::new(10);
    let deaf = shop.steps.worker("deaf").register(Deaf);
    let first = Job::new("deaf", 1, gpu(1)).priority(Priority::Low).preemptible_at_checkpoints();
    let first = shop.steps.submit(first);
    settle().await;
    let second = shop.steps.worker("second").register(Deaf);
    let soft = shop.submit(2, Priority::Low);
    settle().await;
    let start = tokio::time::Instant::now();
    assert_eq!(shop.submit(3, Priority::Critical).await.unwrap(), 1);
    // The grace of 100 ms, its own time, and a millisecond of rounding for each timer.
    assert!((600 * MS..=603 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!((first.await.unwrap(), soft.await.unwrap()), (1, 2));
    drop((deaf, second));
    shop.assert_accounted();
}

/// The scheduler asks for what a job holds, as of any task. It keeps its seat, and when it loses that too while it
/// waits, it still has its place in the queue of the scheduler and what it saved.
#[tokio::test(start_paused = true)]
async fn c8_a_job_whose_lease_is_asked_for_waits_in_its_seat_and_loses_nothing_with_that() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 1);
    let low = shop.steps.submit(Job::new("low", 1, gpu(10)).priority(Priority::Low).preemptible());
    tokio::time::sleep(25 * MS).await;
    let mut urgent = queued(&shop.scheduler, gpu(9).priority(Priority::Critical));
    settle().await;
    let lease = granted(&mut urgent);
    let mut between = queued(&shop.scheduler, gpu(10).priority(Priority::Low));
    assert_eq!((shop.steps.stats().worker("only").unwrap().running, shop.scheduler.task_stats().running), (1, 0));
    // A small one of a higher level takes the seat.
    assert_eq!(shop.submit(2, Priority::High).await.unwrap(), 1);
    assert_eq!((shop.steps.stats().displaced, shop.steps.stats().preempted), (1, 0));
    drop(lease);
    assert_eq!(low.await.unwrap(), 2);
    assert_eq!(shop.log(), [(1, 0), (2, 0), (1, 2)]);
    drop(granted(&mut between));
    shop.assert_accounted();
}

/// P27: bounded, and the bound counts what was done by the scheduler and for seats together.
#[tokio::test(start_paused = true)]
async fn p27_a_job_that_was_preempted_as_often_as_it_allows_keeps_its_seat() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 1);
    let low = shop.steps.submit(counting(1, Priority::Low).preemptions(1));
    tokio::time::sleep(15 * MS).await;
    shop.submit(2, Priority::High).await.unwrap();
    settle().await;
    let again = shop.submit(3, Priority::Critical);
    assert_eq!((low.await.unwrap(), again.await.unwrap()), (2, 1));
    assert_eq!(shop.log(), [(1, 0), (2, 0), (1, 1), (3, 0)]);
    assert_eq!(shop.steps.stats().preempted, 1);
    shop.assert_accounted();
}

/// P44: equals do not preempt, and who had to give way does not preempt back.
#[tokio::test(start_paused = true)]
async fn p44_jobs_of_one_level_take_no_seats_from_each_other() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 1);
    let jobs: Vec<_> = (1..=4).map(|item| shop.submit(item, Priority::Normal)).collect();
    for job in jobs {
        assert_eq!(job.await.unwrap(), 1);
    }
    assert_eq!(shop.steps.stats().preempted, 0);
    shop.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_gave_way_can_be_cancelled_and_can_be_too_late() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 2);
    let cancelled = shop.submit(1, Priority::Low);
    let late = shop.steps.submit(counting(2, Priority::Low).complete_by(60 * MS));
    tokio::time::sleep(15 * MS).await;
    let urgent = [shop.submit(3, Priority::High), shop.submit(4, Priority::High)];
    settle().await;
    cancelled.cancel();
    assert!(matches!(cancelled.await, Err(TaskError::Cancelled { .. })));
    assert!(matches!(late.await, Err(TaskError::Overdue { attempts: 1, .. })));
    for job in urgent {
        assert_eq!(job.await.unwrap(), 1);
    }
    // Told and cancelled in one go.
    let both = shop.submit(5, Priority::Low);
    let other = shop.submit(6, Priority::Low);
    settle().await;
    let urgent = shop.submit(7, Priority::High);
    other.cancel();
    assert!(matches!(other.await, Err(TaskError::Cancelled { .. })));
    assert_eq!((urgent.await.unwrap(), both.await.unwrap()), (1, 1));
    shop.assert_accounted();
}

/// Its deadline was that of its first begin: neither a pause before another attempt nor a seat that it gave up makes it
/// late.
#[tokio::test(start_paused = true)]
async fn a_job_that_has_begun_in_time_is_not_late_when_it_waits_again() {
    let shop = Shop::new(10);
    let _worker = shop.worker("only", 1);
    let low = shop.steps.submit(counting(1, Priority::Low).deadline(5 * MS));
    tokio::time::sleep(15 * MS).await;
    shop.submit(2, Priority::High).await.unwrap();
    assert_eq!(low.await.unwrap(), 2);
    // What is left of its time counts all the same.
    let hurried = shop.steps.submit(counting(3, Priority::Low).deadline(5 * MS).complete_by(40 * MS));
    tokio::time::sleep(15 * MS).await;
    let urgent = shop.submit(4, Priority::High);
    assert!(matches!(hurried.await, Err(TaskError::Overdue { attempts: 1, .. })));
    urgent.await.unwrap();
    let house = House::new(10, Policy::LeastLoaded);
    let broken = house.times.worker("broken").register(Broken("fails"));
    let retried = house.times.submit(job(1).deadline(5 * MS).retry(Retry::new(2).backoff(20 * MS, 20 * MS)));
    let error = retried.await.unwrap_err();
    assert!(matches!(error, TaskError::Failed { attempt: 2, .. }), "{error}");
    drop(broken);
    shop.assert_accounted();
}

/// P18: a job that the full queue of the scheduler turns away is told so, and waits for another try if it wants one.
#[tokio::test(start_paused = true)]
async fn p18_a_job_that_finds_the_queue_of_the_scheduler_full_is_told_so() {
    let scheduler = Scheduler::builder().gpu(1u64).max_waiters(1).spawn().unwrap();
    let times: Times = scheduler.dispatcher("times").spawn().unwrap();
    let _worker = times.worker("only").capacity(3).register(Sleeper { name: "only", log: Arc::default() });
    let held = take(&scheduler, gpu(1));
    let waits = times.submit(job(1));
    settle().await;
    let shed = times.submit(job(1)).await.unwrap_err();
    assert!(matches!(&shed, TaskError::Shed { .. }) && shed.task() == "sleep", "{shed}");
    let stubborn = Retry::new(3).backoff(MS, MS).when(|error| matches!(error, TaskError::Shed { .. }));
    let gave_up = times.submit(job(1).retry(stubborn)).await.unwrap_err();
    assert!(matches!(gave_up, TaskError::Shed { .. }));
    assert_eq!(times.stats().retries, 2);
    drop(held);
    waits.await.unwrap();
}

/// Takes turns of the runtime: jobs with even numbers until they have given way once or all is over, the others ten.
struct Turns(Arc<AtomicBool>);

#[async_trait]
impl Handler<u64, u32> for Turns {
    async fn handle(&self, context: TaskContext, item: &u64) -> Result<u32, BoxError> {
        let endless = item.is_multiple_of(2) && context.attempt() == 1;
        let mut turn = context.saved::<u32>().unwrap_or(0);
        while turn < 10 || (endless && !self.0.load(Ordering::Relaxed)) {
            turn += 1;
            context.save(turn);
            context.checkpoint().await;
            tokio::task::yield_now().await;
        }
        Ok(context.attempt())
    }
}

/// Attack: seats and memory for a few of many jobs, on several threads, so that a job is told by a worker, asked by the
/// scheduler, done and cancelled at the same time. What is urgent is served although the seats never become free by
/// themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn jobs_that_give_way_on_several_threads_have_one_end_each() {
    let mut dice = fastrand::Rng::with_seed(4);
    let shop = Shop::new(12);
    let over = Arc::new(AtomicBool::new(false));
    let register = |name| shop.steps.worker(name).capacity(2).register(Turns(Arc::clone(&over)));
    let _workers = ["first", "second"].map(register);
    let mut jobs = Vec::new();
    for round in 0..100 {
        let low = gpu(dice.u64(1..=4)).priority(Priority::ALL[dice.usize(2..5)]);
        let job = Job::new("low", 2 * round, low).preemptions(u32::MAX);
        jobs.push(shop.steps.submit(if dice.bool() { job.preemptible() } else { job.preemptible_at_checkpoints() }));
        let urgent = gpu(dice.u64(1..=6)).priority(Priority::ALL[dice.usize(..2)]);
        let urgent = shop.steps.submit(Job::new("urgent", 2 * round + 1, urgent));
        if dice.u8(..8) == 0 {
            jobs[dice.usize(..jobs.len())].cancel();
        }
        if dice.u8(..3) == 0 {
            jobs.push(urgent);
        } else {
            assert_eq!(urgent.await.unwrap(), 1);
        }
    }
    over.store(true, Ordering::Relaxed);
    let ends = futures::future::join_all(jobs).await;
    let cancelled = ends.iter().filter(|end| matches!(end, Err(TaskError::Cancelled { .. }))).count() as u64;
    let stats = shop.steps.stats();
    assert_eq!((stats.submitted, stats.ended, stats.done), (200, 200, 200 - cancelled), "{stats:?}");
    assert!(stats.preempted > 0, "{stats:?}");
    assert!(ends.iter().flatten().any(|&attempts| attempts > 1));
    assert!(shop.scheduler.task_stats().preemptions >= stats.preempted);
}
