//! Submitted tasks: every way in which one can wait, run and end, on paused time.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod ends;
mod preempted;
mod waiting;

use std::future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar::tasks::{Task, TaskState};
use bursar::{Request, Scheduler};
use common::*;

/// A scheduler with that many units of GPU memory.
fn with_gpu(units: u64) -> Scheduler {
    Scheduler::builder().gpu(units).spawn().expect("a good configuration")
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A task that runs until it is dropped.
fn endless(name: &'static str, request: Request) -> Task<()> {
    Task::new(name, request, |context| async move {
        future::pending::<()>().await;
        drop(context);
    })
}

/// Lets everything run that can.
async fn settle() {
    tokio::time::sleep(Duration::from_nanos(1)).await;
}

/// Every task that was submitted is in exactly one place, and nothing is left behind.
#[track_caller]
fn assert_accounted(scheduler: &Scheduler) {
    let stats = scheduler.task_stats();
    assert_eq!((stats.live, stats.running, stats.submitted), (0, 0, stats.ended()), "{stats}");
    assert_untouched(scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_with_its_lease_and_gives_it_back() {
    let scheduler = with_gpu(10);
    let task = scheduler.submit(Task::new("sum", gpu(4), |context| async move { context.lease().get(GPU) + 1 }));
    assert_eq!((task.name(), free(&scheduler, GPU)), ("sum", 6));
    assert_eq!(task.await.unwrap(), 5);
    assert_eq!(scheduler.task_stats().done, 1);
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn tasks_are_shown_among_the_figures_of_the_scheduler_from_the_first_on() {
    let scheduler = with_gpu(10);
    assert_eq!(shown(&scheduler, "tasks"), None);
    let first = scheduler.submit(Task::new("sum", gpu(4), |_| async {}));
    first.await.unwrap();
    let running = scheduler.submit(endless("train", gpu(10)));
    let waiting = scheduler.submit(endless("more", gpu(1)));
    settle().await;
    let figures = shown(&scheduler, "tasks").expect("shown");
    let now = ["submitted", "waiting", "running", "done", "failed"].map(|name| figures[name]);
    assert_eq!(now, [3, 1, 1, 1, 0]);
    running.abort();
    waiting.abort();
    settle().await;
    assert_eq!(shown(&scheduler, "tasks").unwrap()["cancelled"], 2);
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_task_grows_splits_and_reserves_as_one_activity() {
    let scheduler = with_gpu(10);
    let inner = scheduler.clone();
    let task = Task::fallible("query", gpu(4), move |mut context| {
        let scheduler = inner.clone();
        async move {
            context.grow(&bundle(&[(GPU, 2)])).await?;
            let part = context.lease_mut().split(&bundle(&[(GPU, 1)]))?;
            let activity = context.activity().cloned().ok_or("it is an activity")?;
            let more = scheduler.reserve(gpu(3).activity(&activity)).await?;
            Ok((context.lease().get(GPU), part.get(GPU), more.get(GPU)))
        }
    });
    assert_eq!(scheduler.submit(task.as_activity()).await.unwrap(), (5, 1, 3));
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_until_the_work_is_done_whether_the_context_is_kept_or_not() {
    let scheduler = with_gpu(10);
    let careless = scheduler.submit(Task::new("careless", gpu(4), |_context| tokio::time::sleep(10 * MS)));
    let early = scheduler.submit(Task::new("early", gpu(5), |context| {
        context.release();
        tokio::time::sleep(10 * MS)
    }));
    let (give, kept) = tokio::sync::oneshot::channel();
    let mut give = Some(give);
    let elsewhere = scheduler.submit(Task::new("elsewhere", gpu(2), move |context| {
        let _ = give.take().map(|give| give.send(context));
        async {}
    }));
    settle().await;
    assert_eq!(free(&scheduler, GPU), 4);
    elsewhere.await.unwrap();
    assert_eq!(free(&scheduler, GPU), 4);
    drop(kept.await.unwrap());
    assert_eq!(free(&scheduler, GPU), 6);
    careless.await.unwrap();
    early.await.unwrap();
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_handle_detaches_unless_it_aborts() {
    let scheduler = with_gpu(10);
    let diary = Diary::default();
    let noted = diary.clone();
    drop(scheduler.submit(Task::new("goes on", gpu(1), move |_context| {
        let diary = noted.clone();
        async move { diary.note("ran") }
    })));
    drop(scheduler.submit(endless("ends", gpu(1))).abort_on_drop());
    settle().await;
    assert_eq!(diary.read(), ["ran"]);
    assert_eq!((scheduler.task_stats().done, scheduler.task_stats().cancelled), (1, 1));
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_handle_tells_how_far_its_task_is() {
    let scheduler = with_gpu(10);
    let task = scheduler.submit(Task::new("copy", gpu(1), |context| async move {
        context.progress(3, 7);
        context.cancelled().await;
        context.progress(5, 7);
    }));
    settle().await;
    assert_eq!((task.progress().done, task.progress().total, task.state()), (3, 7, TaskState::Running));
    assert_eq!(task.explain().to_string(), "task `copy` (NORMAL) runs, begun 1 times, 3 of 7 done");
    task.cancel();
    settle().await;
    assert_eq!((task.progress().done, task.state(), task.is_finished()), (5, TaskState::Ended, true));
    task.await.unwrap();
}

/// A scheduler that its user has dropped stays open for what was submitted to it.
#[tokio::test(start_paused = true)]
async fn a_queued_task_keeps_its_scheduler_open() {
    let scheduler = with_gpu(1);
    let first = scheduler.submit(Task::new("first", gpu(1), |_context| tokio::time::sleep(MS)));
    let second = scheduler.submit(Task::new("second", gpu(1), |_context| async { 2 }));
    drop(scheduler);
    first.await.unwrap();
    assert_eq!(second.await.unwrap(), 2);
}

#[test]
fn a_task_without_a_runtime_says_so() {
    let (scheduler, _driver) = Scheduler::builder().gpu(1u64).build().unwrap();
    let task = Task::new("lost", gpu(1), |_context| async {}).complete_by(MS);
    let error = block_on(scheduler.submit(task)).unwrap_err();
    assert!(error.to_string().contains("`lost` has no tokio runtime"), "{error}");
    assert_eq!(scheduler.task_stats().refused, 1);
    assert_accounted(&scheduler);
}
