//! Tasks by name, where tokio does not do that itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bursar::tasks::{BoxError, Handler, Job, Task, TaskContext};
use bursar::{Request, Scheduler};

use super::common::*;
use super::recorder::{Recorder, Row};
use super::{TICK, config};

#[test]
fn the_scheduler_task_has_a_name_a_place_and_a_waker_until_it_ends() {
    let _alone = alone();
    let recorder = Recorder::default();
    let runtime = paused();
    recorder.listen(|| {
        runtime.block_on(async {
            let scheduler = Scheduler::builder().config(config()).spawn().unwrap();
            tokio::time::sleep(TICK * 5).await;
            let [task] = &recorder.tasks()[..] else { panic!("{:#?}", recorder.tasks()) };
            assert_eq!((task.text("task.name"), task.text("kind")), ("bursar scheduler", "task"));
            assert!(task.text("loc.file").ends_with("console/task.rs"), "where it was spawned");
            assert!(!task.closed && task.polls >= 4);
            assert_eq!(wakers(&recorder), 1, "a task of which nobody has a waker is reported as lost");
            assert_eq!(recorder.resource("Budget<host0.memory>").parent, None);
            scheduler.shutdown().await.unwrap();
            tokio::time::sleep(TICK).await;
        });
    });
    assert!(recorder.tasks()[0].closed);
    assert_eq!(wakers(&recorder), 0);
}

#[test]
fn of_a_long_name_the_beginning_is_shown() {
    let _alone = alone();
    let recorder = Recorder::default();
    let runtime = paused();
    recorder.listen(|| {
        runtime.block_on(async {
            let scheduler = Scheduler::builder().config(config()).spawn().unwrap();
            scheduler.submit(Task::new("n".repeat(1 << 20), Request::new().host(1), |_| async {})).await.unwrap();
            scheduler.shutdown().await.unwrap();
        });
    });
    named(&recorder.tasks(), &("n".repeat(64) + "…"));
}

/// The tests here, one after the other: tasks of the whole process share the places there are.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until it is dropped.
struct Hangs;

#[async_trait]
impl Handler<(), ()> for Hangs {
    async fn handle(&self, context: TaskContext, _: &()) -> Result<(), BoxError> {
        std::future::pending::<()>().await;
        drop(context);
        Ok(())
    }
}

fn named<'a>(tasks: &'a [Row], name: &str) -> &'a Row {
    let found: Vec<_> = tasks.iter().filter(|task| task.text("task.name") == name).collect();
    let [task] = found[..] else { panic!("not one `{name}` in {tasks:#?}") };
    task
}

#[test]
fn submitted_tasks_dispatchers_and_their_jobs_have_names_and_waits_belong_to_their_tasks() {
    let _alone = alone();
    let recorder = Recorder::default();
    let runtime = paused();
    recorder.listen(|| {
        runtime.block_on(async {
            let scheduler = Scheduler::builder().config(config()).spawn().unwrap();
            let hog = scheduler.reserve(Request::new().host(8)).await.unwrap();
            let train = scheduler.submit(Task::new("train", Request::new().host(4), |context| async move {
                tokio::time::sleep(Duration::from_secs(60)).await;
                drop(context);
            }));
            let kind = scheduler.dispatcher("captions").spawn::<(), ()>().unwrap();
            let worker = kind.worker("first").register(Hangs);
            let job = kind.submit(Job::new("a caption", (), Request::new().host(1)));
            tokio::time::sleep(TICK * 5).await;
            let tasks = recorder.tasks();
            for name in ["bursar scheduler", "train", "captions", "a caption"] {
                let task = named(&tasks, name);
                assert!(!task.closed && task.polls > 0 && task.parent.is_none(), "{task:#?}");
            }
            assert_eq!(tasks.len(), 4);
            for name in ["train", "captions", "a caption"] {
                let place = named(&tasks, name).text("loc.file").to_owned();
                assert!(place.ends_with("console/task.rs"), "{name} was not submitted in {place}");
            }
            // The wait is an op of the task that was submitted, and not of the one that submitted it.
            let ops = recorder.ops();
            let [op] = &ops[..] else { panic!("{ops:#?}") };
            assert_eq!(op.task, Some(named(&tasks, "train").id));
            drop(hog);
            tokio::time::sleep(TICK).await;
            train.abort();
            job.cancel();
            drop((job, worker, kind));
            tokio::time::sleep(TICK).await;
            let tasks = recorder.tasks();
            assert!(named(&tasks, "train").closed, "{tasks:#?}");
            scheduler.close();
        });
        drop(runtime);
    });
    assert!(recorder.tasks().iter().all(|task| task.closed));
    assert_eq!(wakers(&recorder), 0);
}

#[test]
fn so_many_tasks_are_shown_at_once_and_others_when_there_is_room() {
    const MOST: usize = 2_048;
    let _alone = alone();
    let recorder = Recorder::default();
    let runtime = paused();
    recorder.listen(|| {
        runtime.block_on(async {
            let scheduler = Scheduler::builder().config(config()).spawn().unwrap();
            let hog = scheduler.reserve(Request::new().host(10)).await.unwrap();
            let submit = |_| scheduler.submit(Task::new("task", Request::new().host(1), |_| async {}));
            let tasks: Vec<_> = (0..MOST + 200).map(submit).collect();
            tokio::time::sleep(TICK).await;
            let open = || recorder.tasks().iter().filter(|task| !task.closed).count();
            assert!((MOST - 100..=MOST).contains(&open()), "{}", open());
            drop(hog);
            for task in tasks {
                task.await.unwrap();
            }
            // Who runs is polled, and finds a place.
            let all = recorder.tasks().iter().filter(|task| task.text("task.name") == "task").count();
            assert!(all > MOST, "{all}");
            scheduler.shutdown().await.unwrap();
        });
    });
}

/// The wakers that are out, by what the console has heard.
fn wakers(recorder: &Recorder) -> i64 {
    let state = recorder.state();
    let count = |name: &str| i64::from(state.wakers.get(name).copied().unwrap_or(0));
    assert!(count("waker.wake_by_ref") > 0);
    count("waker.clone") - count("waker.drop")
}
