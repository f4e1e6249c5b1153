//! Tasks that wait: their order, what can be asked of them, and how the wait ends.

use bursar::tasks::{Task, TaskError, TaskState};
use bursar::{Budget, Config, Priority};

use super::*;

fn noting(diary: &Diary, name: &'static str, units: u64) -> Task<()> {
    let diary = diary.clone();
    Task::new(name, gpu(units), move |_context| {
        diary.note(name);
        async {}
    })
}

/// P24 and P11: tasks run in the order of the scheduler: level, deadline, arrival.
#[tokio::test(start_paused = true)]
async fn p24_tasks_run_in_the_one_order_of_the_scheduler() {
    let scheduler = with_gpu(1);
    let held = take(&scheduler, gpu(1));
    let diary = Diary::default();
    let noted = |name| noting(&diary, name, 1);
    let tasks = [
        noted("idle").priority(Priority::Idle),
        noted("normal, first"),
        noted("normal, second"),
        noted("normal, urgent").deadline(50 * MS),
        noted("critical").priority(Priority::Critical),
        noted("high").priority(Priority::High),
    ];
    let handles: Vec<_> = tasks.into_iter().map(|task| scheduler.submit(task)).collect();
    settle().await;
    assert_eq!(diary.read(), [""; 0]);
    drop(held);
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(diary.read(), ["critical", "high", "normal, urgent", "normal, first", "normal, second", "idle"]);
    assert_accounted(&scheduler);
}

/// RROS P11: theirs hands five equal tasks out as 0, 2, 4, 1, 3.
#[tokio::test(start_paused = true)]
async fn rros_p11_equal_tasks_run_in_the_order_of_their_submission() {
    let scheduler = with_gpu(1);
    let held = take(&scheduler, gpu(1));
    let order = Arc::new(Mutex::new(Vec::new()));
    let submit = |number: usize| {
        let order = Arc::clone(&order);
        scheduler.submit(Task::new("equal", gpu(1), move |_context| {
            order.lock().unwrap().push(number);
            async {}
        }))
    };
    let handles: Vec<_> = (0..100).map(submit).collect();
    drop(held);
    for handle in handles {
        handle.await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_raised_task_passes_those_below_and_a_priority_never_falls() {
    let scheduler = with_gpu(1);
    let held = take(&scheduler, gpu(1));
    let diary = Diary::default();
    let first = scheduler.submit(noting(&diary, "first", 1));
    let raised = scheduler.submit(noting(&diary, "raised", 1).priority(Priority::Low));
    assert!(raised.raise(Priority::High));
    assert!(!raised.raise(Priority::High) && !raised.raise(Priority::Idle));
    assert_eq!(raised.priority(), Priority::High);
    settle().await;
    assert_eq!(scheduler.stats().waiting, 2);
    drop(held);
    first.await.unwrap();
    raised.await.unwrap();
    assert_eq!(diary.read(), ["raised", "first"]);
    assert_accounted(&scheduler);
}

/// The queue has room for two, and both are there.
#[tokio::test(start_paused = true)]
async fn a_task_is_raised_in_a_full_queue_too_and_keeps_the_time_of_its_arrival() {
    let scheduler = Scheduler::builder().gpu(1u64).max_waiters(2).spawn().unwrap();
    let held = take(&scheduler, gpu(1));
    let diary = Diary::default();
    let raised = scheduler.submit(noting(&diary, "raised", 1).priority(Priority::Low));
    tokio::time::sleep(MS).await;
    let high = scheduler.submit(noting(&diary, "high", 1).priority(Priority::High));
    settle().await;
    assert!(raised.raise(Priority::High));
    settle().await;
    assert_eq!((scheduler.stats().waiting, raised.explain().wait.map(|wait| wait.level)), (2, Some(Priority::High)));
    drop(held);
    raised.await.unwrap();
    high.await.unwrap();
    assert_eq!(diary.read(), ["raised", "high"]);
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn c4_a_raised_task_loses_no_level_that_it_has_gained_by_waiting() {
    let config = Config::new().with(Budget::loan(GPU, 1)).with_aging_step(50 * MS);
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let held = take(&scheduler, gpu(1));
    let task = scheduler.submit(Task::new("patient", gpu(1), |_context| async {}).priority(Priority::Low));
    let level = || task.explain().wait.map(|wait| wait.level);
    tokio::time::sleep(60 * MS).await;
    assert_eq!(level(), Some(Priority::Normal));
    assert!(task.raise(Priority::Normal));
    tokio::time::sleep(2 * MS).await;
    assert_eq!(level(), Some(Priority::High), "one step above the level that it has now");
    drop(held);
    task.await.unwrap();
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_raised_task_keeps_what_is_left_of_its_deadline() {
    let scheduler = with_gpu(1);
    let held = take(&scheduler, gpu(1));
    let task = scheduler.submit(endless("late", gpu(1)).deadline(30 * MS));
    tokio::time::sleep(20 * MS).await;
    task.raise(Priority::Critical);
    tokio::time::sleep(9 * MS).await;
    assert_eq!(task.state(), TaskState::Queued);
    tokio::time::sleep(2 * MS).await;
    assert!(matches!(task.await, Err(TaskError::Late { .. })));
    drop(held);
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_queued_task_explains_what_blocks_it_and_who_holds_that() {
    let scheduler = with_gpu(10);
    let held = take(&scheduler, gpu(8).label("model"));
    let task = scheduler.submit(endless("chat", gpu(4)));
    let report = task.explain();
    assert_eq!(report.state, TaskState::Queued);
    let wait = report.wait.as_ref().expect("it waits");
    assert_eq!((wait.blockers[0].budget, wait.blockers[0].wanted), (GPU, 4));
    assert!(report.to_string().contains("model"), "{report}");
    drop(held);
    settle().await;
    assert!(task.explain().wait.is_none());
    task.abort();
    assert!(matches!(task.await, Err(TaskError::Cancelled { running: true, .. })));
    assert_accounted(&scheduler);
}

/// RROS S13, where theirs drops the task and says that it was run.
#[tokio::test(start_paused = true)]
async fn rros_s13_a_task_whose_resources_are_gone_when_it_comes_up_waits_for_them() {
    let scheduler = Scheduler::builder().compute(100).spawn().unwrap();
    let ahead = take(&scheduler, Request::new().compute(50));
    let task = scheduler.submit(Task::new("needs 60", Request::new().compute(60), |_context| async { "ran" }));
    settle().await;
    assert_eq!((task.state(), scheduler.task_stats().live), (TaskState::Queued, 1));
    drop(ahead);
    assert_eq!(task.await.unwrap(), "ran");
    assert_accounted(&scheduler);
}

/// RROS S14, where theirs runs a CRITICAL task with nothing granted.
#[tokio::test(start_paused = true)]
async fn rros_s14_a_critical_task_never_runs_without_its_resources() {
    let scheduler = Scheduler::builder().compute(100).spawn().unwrap();
    let hog = take(&scheduler, Request::new().compute(100).priority(Priority::Idle));
    let request = Request::new().compute(10).priority(Priority::Critical);
    let task = scheduler.submit(Task::new("critical", request, |context| async move { context.lease().amounts() }));
    settle().await;
    assert_eq!(task.state(), TaskState::Queued);
    drop(hog);
    assert_eq!(task.await.unwrap().get(bursar::BudgetId::COMPUTE), 10);
}

/// P18: whoever is turned away hears of it.
#[tokio::test(start_paused = true)]
async fn p18_a_task_that_finds_the_queue_full_is_told_so() {
    let scheduler = Scheduler::builder().gpu(1u64).max_waiters(1).spawn().unwrap();
    let held = take(&scheduler, gpu(1));
    let queued = scheduler.submit(Task::new("queued", gpu(1), |_context| async {}));
    let shed = scheduler.submit(endless("shed", gpu(1))).await.unwrap_err();
    assert!(matches!(&shed, TaskError::Shed { .. }) && shed.task() == "shed", "{shed}");
    drop(held);
    queued.await.unwrap();
    assert_eq!(scheduler.task_stats().shed, 1);
    assert_accounted(&scheduler);
}
