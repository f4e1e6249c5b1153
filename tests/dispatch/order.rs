//! Who goes first among those that are queued at a worker: level, deadline, arrival, and how long they have waited.

use bursar::{Budget, Config};
use futures::FutureExt;

use super::*;

/// A scheduler of ten units, and a dispatcher with one seat, where nothing waits for a tick.
fn house(config: Config) -> (House, Worker) {
    let scheduler = Scheduler::builder().config(config.with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10)));
    let scheduler = scheduler.spawn().unwrap();
    let times = scheduler.dispatcher("times").tick(Duration::from_secs(3_600)).spawn().unwrap();
    let house = House { scheduler, times, log: Arc::default() };
    let worker = house.worker("only", 1);
    (house, worker)
}

/// Submits a job that takes 5 ms every 5 ms, so that there is always one in the queue, until another has ended; how
/// many it took.
async fn stream_until(house: &House, awaited: JobHandle<&'static str>, job: impl Fn() -> Job<u64>) -> Option<usize> {
    let mut awaited = awaited.fuse();
    let mut stream = vec![house.times.submit(job())];
    for submitted in 1..100 {
        stream.push(house.times.submit(job()));
        tokio::time::sleep(5 * MS).await;
        if (&mut awaited).now_or_never().is_some() {
            all(stream).await;
            return Some(submitted);
        }
    }
    all(stream).await;
    awaited.await.unwrap();
    None
}

/// C4, also where it waits for a seat and nobody but the dispatcher knows of it.
#[tokio::test(start_paused = true)]
async fn c4_a_job_that_waits_for_a_seat_gains_a_level_every_step() {
    for (level, ages, steps) in [(Priority::Low, true, 2), (Priority::Idle, true, 3), (Priority::Idle, false, 99)] {
        let config = Config::new().with_aging_step(50 * MS).with_age_idle(ages).with_edf_horizon(20 * MS);
        let (house, worker) = house(config);
        let patient = house.submit(1, level);
        let waited = stream_until(&house, patient, || job(5).priority(Priority::High)).await;
        // HIGH after so many steps, and then as one that came then.
        match ages {
            true => assert!(waited.is_some_and(|jobs| jobs >= 10 * steps && jobs <= 10 * steps + 12), "{waited:?}"),
            false => assert_eq!(waited, None, "IDLE may wait for ever"),
        }
        drop(worker);
        house.assert_accounted();
    }
}

/// Without one of its own it has a deadline for order, as in the queue of the scheduler.
#[tokio::test(start_paused = true)]
async fn a_job_without_a_deadline_is_not_kept_waiting_by_an_endless_stream_of_those_that_have_one() {
    let (house, worker) = house(Config::new().with_edf_horizon(100 * MS));
    let plain = house.submit(1, Priority::Normal);
    let waited = stream_until(&house, plain, || job(5).complete_by(2_000 * MS).deadline(60 * MS)).await;
    assert!(waited.is_some_and(|jobs| (7..=16).contains(&jobs)), "{waited:?}");
    drop(worker);
    house.assert_accounted();
}

/// P27: it loses its seat to a more urgent one, and not its place in the queue of the scheduler.
#[tokio::test(start_paused = true)]
async fn p27_a_job_that_is_displaced_while_it_waits_keeps_the_time_of_its_arrival() {
    let (house, worker) = house(Config::new());
    let hog = take(&house.scheduler, gpu(10));
    let low = house.times.submit(Job::new("wide", 7, gpu(10)).priority(Priority::Low));
    tokio::time::sleep(MS).await;
    let mut later = queued(&house.scheduler, gpu(10).priority(Priority::Low));
    tokio::time::sleep(MS).await;
    house.times.submit(Job::new("urgent", 1, host(1)).priority(Priority::High)).await.unwrap();
    settle().await;
    assert_eq!((house.times.stats().displaced, house.scheduler.stats().waiting), (1, 2));
    drop(hog);
    assert_waits(&mut later);
    low.await.unwrap();
    drop(granted(&mut later));
    assert_eq!(house.log(), [("only", 1), ("only", 7)]);
    drop(worker);
    house.assert_accounted();
}

/// C4: what it has waited before counts on, or who is displaced often enough would never rise.
#[tokio::test(start_paused = true)]
async fn c4_a_job_that_is_displaced_while_it_waits_keeps_the_levels_that_it_has_gained() {
    let (house, worker) = house(Config::new().with_aging_step(50 * MS));
    let hog = take(&house.scheduler, gpu(10));
    let low = house.times.submit(Job::new("wide", 7, gpu(10)).priority(Priority::Low));
    tokio::time::sleep(110 * MS).await;
    let mut normal = queued(&house.scheduler, gpu(10));
    house.times.submit(Job::new("urgent", 1, host(1)).priority(Priority::Critical)).await.unwrap();
    settle().await;
    assert_eq!((house.times.stats().displaced, house.scheduler.stats().waiting), (1, 2));
    drop(hog);
    assert_waits(&mut normal);
    low.await.unwrap();
    drop(granted(&mut normal));
    drop(worker);
    house.assert_accounted();
}
