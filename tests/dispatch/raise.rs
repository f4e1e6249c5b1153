//! Jobs that are given a higher level after they were submitted, and queues that have a limit.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_job_that_is_raised_goes_before_those_below_it_in_the_queue_of_its_worker_and_never_falls() {
    let house = House::new(10, Policy::LeastLoaded);
    let first = house.submit(5, Priority::Low);
    let low = [1, 2, 3].map(|millis| house.submit(millis, Priority::Low));
    settle().await;
    // Nobody takes it yet.
    assert!(low[1].raise(Priority::Normal) && !low[1].raise(Priority::Normal) && !low[1].raise(Priority::Idle));
    let worker = house.worker("only", 1);
    settle().await;
    assert_eq!(house.at("only"), (3, 1, 0));
    assert!(low[2].raise(Priority::High) && first.raise(Priority::High));
    all(low.into_iter().chain([first]).collect()).await;
    assert_eq!(house.log().iter().map(|(_, millis)| *millis).collect::<Vec<_>>(), [2, 5, 3, 1]);
    drop(worker);
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_raised_while_it_waits_for_its_resources_goes_before_those_below_it_there_too() {
    let house = House::new(10, Policy::LeastLoaded);
    let hog = take(&house.scheduler, gpu(10));
    let _worker = house.worker("only", 1);
    let job = house.submit(1, Priority::Low);
    settle().await;
    let mut normal = queued(&house.scheduler, gpu(10));
    assert!(job.raise(Priority::High));
    settle().await;
    drop(hog);
    assert_waits(&mut normal);
    job.await.unwrap();
    drop(granted(&mut normal));
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_raised_between_two_attempts_has_its_level_when_it_waits_again() {
    let house = House::new(10, Policy::LeastLoaded);
    let broken = house.times.worker("broken").register(Broken("fails"));
    let retry = Retry::new(2).backoff(5 * MS, 5 * MS);
    let mut job = house.times.submit(job(1).priority(Priority::Low).retry(retry));
    settle().await;
    assert_eq!((house.times.stats().retries, house.at("broken")), (1, (0, 0, 0)));
    assert!(job.raise(Priority::High));
    drop(broken);
    let hog = take(&house.scheduler, gpu(10));
    let mut normal = queued(&house.scheduler, gpu(10));
    let _worker = house.worker("only", 1);
    tokio::time::sleep(5 * MS).await;
    assert_eq!((house.at("only"), house.scheduler.stats().waiting), ((0, 1, 0), 2));
    drop(hog);
    assert_waits(&mut normal);
    (&mut job).await.unwrap();
    drop(granted(&mut normal));
    assert!(!job.raise(Priority::Critical), "it has ended");
    house.assert_accounted();
}

/// R8: the level was given, not gained by waiting.
#[tokio::test(start_paused = true)]
async fn a_job_that_is_raised_takes_the_place_of_a_preemptible_one_that_runs() {
    let house = House::new(10, Policy::LeastLoaded);
    let _worker = house.worker("only", 1);
    let soft = house.times.submit(job(50).priority(Priority::Normal).preemptible());
    settle().await;
    let raised = house.submit(1, Priority::Low);
    settle().await;
    assert_eq!(house.at("only"), (1, 1, 0));
    assert!(raised.raise(Priority::High));
    all(vec![raised, soft]).await;
    assert_eq!((house.log(), house.times.stats().preempted), (vec![("only", 50), ("only", 1), ("only", 50)], 1));
    house.assert_accounted();
}

#[tokio::test(start_paused = true)]
async fn a_job_that_finds_the_queue_full_is_shed_and_one_that_comes_back_is_not() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let times = scheduler.dispatcher("times").policy(Policy::LeastLoaded).max_queued(2).spawn().unwrap();
    let house = House { scheduler, times, log: Arc::default() };
    let _worker = house.worker("only", 1);
    let soft = house.times.submit(job(9).priority(Priority::Low).preemptible());
    settle().await;
    let queued = [1, 2].map(|millis| house.submit(millis, Priority::Low));
    let error = house.submit(3, Priority::Critical).await.unwrap_err();
    let said = "task `sleep` was shed: dispatcher `times` lets 2 jobs wait, `max_queued`; retry later";
    assert_eq!(error.to_string(), said);
    assert!(matches!(error, TaskError::Full { limit: 2, .. }));
    // Whoever gives up its place for a raised one is queued beside those two.
    assert!(queued[0].raise(Priority::High));
    settle().await;
    assert_eq!((house.times.stats().queued, house.times.stats().preempted), (2, 1));
    assert!(house.submit(3, Priority::Low).await.is_err());
    all(queued.into_iter().chain([soft]).collect()).await;
    house.submit(3, Priority::Low).await.unwrap();
    assert_eq!(house.times.stats().shed, 2);
    assert_accounted(&house.scheduler, &house.times.stats());
}
