//! The scheduler task by name, where tokio does not do that itself.

use bursar::Scheduler;

use super::common::*;
use super::recorder::Recorder;
use super::{TICK, config};

#[test]
fn the_scheduler_task_has_a_name_a_place_and_a_waker_until_it_ends() {
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

/// The wakers that are out, by what the console has heard.
fn wakers(recorder: &Recorder) -> i64 {
    let state = recorder.state();
    let count = |name: &str| i64::from(state.wakers.get(name).copied().unwrap_or(0));
    assert!(count("waker.wake_by_ref") > 0);
    count("waker.clone") - count("waker.drop")
}
