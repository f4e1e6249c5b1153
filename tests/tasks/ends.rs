//! How tasks end, and which of them are tried again.

use std::sync::atomic::{AtomicU32, Ordering};

use bursar::tasks::{BoxError, Retry, Task, TaskContext, TaskError, TaskState};
use bursar::{BudgetId, CloseReason, Priority};
use tokio::time::Instant;

use super::*;

/// Fails so many times, then gives the number of the attempt.
fn failing(times: u32) -> Task<u32> {
    Task::fallible("flaky", gpu(1), move |context| async move {
        let attempt = context.attempt();
        if attempt <= times { Err(BoxError::from("not yet")) } else { Ok(attempt) }
    })
}

/// RROS test 4, strictly: theirs runs a task whose deadline has passed, and one that cannot run vanishes. Here it runs
/// in its time with what it asked for, is told when its time has passed, and stays queued as long as it has not.
#[tokio::test(start_paused = true)]
async fn rros_test_4_a_task_runs_within_its_deadline_or_is_told_that_it_is_late() {
    let scheduler = Scheduler::builder().compute(100).spawn().unwrap();
    let important = || {
        let work = |context: TaskContext| async move { context.lease().get(BudgetId::COMPUTE) };
        let task = Task::new("important", Request::new().compute(10), work).priority(Priority::High);
        scheduler.submit(task.deadline(1_000 * MS))
    };
    assert_eq!(important().await.unwrap(), 10);
    let hog = take(&scheduler, Request::new().compute(95));
    let late = important();
    tokio::time::sleep(999 * MS).await;
    assert_eq!((late.state(), scheduler.task_stats().live), (TaskState::Queued, 1));
    let error = late.await.unwrap_err();
    assert!(matches!(error, TaskError::Late { .. }), "{error}");
    let waits = important();
    drop(hog);
    assert_eq!(waits.await.unwrap(), 10);
    let stats = scheduler.task_stats();
    assert_eq!((stats.done, stats.late, stats.missed()), (2, 1, 1));
    assert_accounted(&scheduler);
}

/// RROS S20: theirs cannot tell a task that threw from one that ran or one that did not.
#[tokio::test(start_paused = true)]
async fn rros_s20_an_error_and_a_panic_are_told_apart_and_from_success() {
    let scheduler = with_gpu(10);
    let good = scheduler.submit(Task::new("good", gpu(1), |_context| async {})).await;
    let failed = scheduler.submit(failing(1)).await.unwrap_err();
    let panicked = scheduler.submit(Task::new("bad", gpu(1), |_context| async { panic!("out of {}", "luck") })).await;
    good.unwrap();
    assert_eq!(failed.to_string(), "task `flaky` failed at attempt 1: not yet");
    let panicked: TaskError = panicked.unwrap_err();
    assert_eq!(panicked.to_string(), "task `bad` panicked at attempt 1: out of luck");
    let stats = scheduler.task_stats();
    assert_eq!((stats.done, stats.failed, stats.panicked), (1, 1, 1));
    assert_eq!(stats.to_string(), "3 submitted, 0 live (0 run), 1 done, 1 failed, 1 panicked");
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_is_tried_again_after_pauses_that_its_seed_fixes() {
    let scheduler = with_gpu(1);
    let retry = Retry::new(4).backoff(10 * MS, 30 * MS).seed(7);
    let mut times = Vec::new();
    for _ in 0..2 {
        let start = Instant::now();
        assert_eq!(scheduler.submit(failing(3).retry(retry.clone())).await.unwrap(), 4);
        times.push(start.elapsed());
    }
    // Pauses of 5 to 10, 10 to 20 and 15 to 30 ms, and a millisecond of rounding for each timer.
    assert!((30 * MS..=63 * MS).contains(&times[0]), "{times:?}");
    assert_eq!(times[0], times[1]);
    assert_eq!(scheduler.task_stats().retries, 6);
    let gave_up = scheduler.submit(failing(4).retry(retry)).await.unwrap_err();
    assert!(matches!(gave_up, TaskError::Failed { attempt: 4, .. }));
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_pausing_task_holds_nothing_and_can_be_cancelled() {
    let scheduler = with_gpu(1);
    let task = scheduler.submit(failing(1).retry(Retry::new(2).backoff(100 * MS, 100 * MS)));
    settle().await;
    assert_eq!((task.state(), free(&scheduler, GPU)), (TaskState::Pausing, 1));
    task.cancel();
    assert!(matches!(task.await, Err(TaskError::Cancelled { running: false, .. })));
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn only_errors_that_the_policy_names_are_tried_again() {
    let scheduler = with_gpu(1);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let task = Task::new("bad", gpu(1), move |_context| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { panic!("always") }
    });
    let only_errors = Retry::new(5).when(|error| matches!(error, TaskError::Failed { .. }));
    let ended: Result<(), _> = scheduler.submit(task.retry(only_errors)).await;
    assert!(matches!(ended, Err(TaskError::Panicked { attempt: 1, .. })));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    let careless = Retry::new(5).when(|_| panic!("in the policy"));
    assert!(scheduler.submit(failing(1).retry(careless)).await.is_err());
    assert_eq!(scheduler.task_stats().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_complete_by_its_time_is_dropped_wherever_it_is() {
    let scheduler = with_gpu(1);
    let held = take(&scheduler, gpu(1));
    let waiting = scheduler.submit(endless("waits", gpu(1)).complete_by(5 * MS)).await.unwrap_err();
    assert!(matches!(waiting, TaskError::Overdue { attempts: 0, .. }), "{waiting}");
    drop(held);
    let running = scheduler.submit(endless("runs", gpu(1)).complete_by(5 * MS)).await.unwrap_err();
    assert!(matches!(running, TaskError::Overdue { attempts: 1, .. }), "{running}");
    let retry = Retry::new(9).backoff(50 * MS, 50 * MS);
    let pausing = scheduler.submit(failing(9).retry(retry).complete_by(5 * MS)).await.unwrap_err();
    assert!(matches!(pausing, TaskError::Overdue { attempts: 1, .. }), "{pausing}");
    assert_eq!((scheduler.task_stats().overdue, scheduler.task_stats().missed()), (3, 3));
    assert!(scheduler.submit(failing(0).complete_by(std::time::Duration::MAX)).await.is_ok());
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_ends_at_its_next_checkpoint_with_its_lease() {
    let scheduler = with_gpu(1);
    let task = scheduler.submit(Task::new("steps", gpu(1), |context| async move {
        loop {
            context.checkpoint().await;
            tokio::time::sleep(10 * MS).await;
        }
    }));
    settle().await;
    task.cancel();
    settle().await;
    // Between checkpoints.
    assert_eq!((task.state(), free(&scheduler, GPU)), (TaskState::Running, 0));
    let ended: Result<(), _> = task.await;
    assert!(matches!(ended, Err(TaskError::Cancelled { running: true, .. })));
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_granted_and_a_closed_scheduler_refuse_a_task() {
    let scheduler = with_gpu(1);
    let never = scheduler.submit(endless("huge", gpu(2))).await.unwrap_err();
    assert!(matches!(never, TaskError::Refused { .. }), "{never}");
    scheduler.close();
    let closed = scheduler.submit(endless("late comer", gpu(1))).await.unwrap_err();
    assert!(matches!(
        &closed,
        TaskError::Refused { error: bursar::ReserveError::Closed { reason: CloseReason::Closed, .. }, .. }
    ));
    assert_eq!(scheduler.task_stats().refused, 2);
    assert_accounted(&scheduler);
}
