//! Waits as async ops.

use bursar::{Amounts, MIB, Priority};
use tokio_test::task;

use super::common::*;
use super::{TICK, config, ticks, watched};

#[test]
fn a_wait_that_lasts_is_an_op_of_the_budget_that_blocks_it_in_the_task_that_waits() {
    let (recorder, mut rig) = watched(config());
    let held = take(&rig.scheduler, host(10));
    let mine = recorder.listen(|| tracing::trace_span!("runtime.spawn", task.name = "mine"));
    let request = gpu(3 * MIB).host(4).priority(Priority::High).label("chat");
    let mut wait = recorder.listen(|| mine.in_scope(|| queued(&rig.scheduler, request)));
    ticks(&recorder, &mut rig, 1, &mut []);
    assert!(wait.is_woken(), "its turn to be listed has come");
    assert!(recorder.listen(|| mine.in_scope(|| wait.poll())).is_pending());
    ticks(&recorder, &mut rig, 1, &mut []);
    let [op] = &recorder.open_ops()[..] else { panic!("{:#?}", recorder.ops()) };
    assert_eq!(op.resource, Some(recorder.resource("Budget<host0.memory>").id), "the one that is short");
    assert_eq!((op.text("source"), op.task), ("Scheduler::reserve", mine.id().map(|id| id.into_u64())));
    assert_eq!((op.attribute("amount"), op.attribute("priority")), (&"4 B".into(), &"HIGH".into()));
    assert_eq!((op.attribute("label"), op.attribute("waited_before")), (&"chat".into(), &"501 ms".into()));
    let row = recorder.resource("Budget<host0.memory>");
    assert_eq!((row.attribute("waiting"), row.attribute("listed")), (&1.into(), &1.into()));
    let polls = op.polls;
    assert!(recorder.listen(|| wait.poll()).is_pending());
    assert_eq!(recorder.ops()[0].polls, polls + 1);
    recorder.listen(|| drop(held));
    let lease = recorder.listen(|| granted(&mut wait));
    assert_eq!((recorder.open_ops().len(), recorder.ops().len()), (0, 1));
    ticks(&recorder, &mut rig, 1, &mut []);
    let row = recorder.resource("Budget<host0.memory>");
    assert_eq!((row.attribute("waiting"), row.attribute("listed")), (&0.into(), &0.into()));
    drop(lease);
}

#[test]
fn growth_that_waits_is_an_op_too_and_a_wait_that_is_given_up_is_one_no_longer() {
    let (recorder, mut rig) = watched(config());
    let held = take(&rig.scheduler, host(8));
    let mut lease = take(&rig.scheduler, host(2));
    let more = Amounts::of(HOST, 5);
    let mut growth = task::spawn(lease.grow(&more));
    assert!(recorder.listen(|| growth.poll()).is_pending());
    ticks(&recorder, &mut rig, 1, &mut []);
    assert!(recorder.listen(|| growth.poll()).is_pending());
    let [op] = &recorder.open_ops()[..] else { panic!("{:#?}", recorder.ops()) };
    assert_eq!((op.text("source"), op.attribute("amount")), ("Lease::grow", &"5 B".into()));
    recorder.listen(|| drop(growth));
    assert_eq!(recorder.open_ops().len(), 0);
    drop((lease, held));
    assert_untouched(&rig.scheduler);
}

/// A console that connects gets all of them in one message, which may not be larger than 4 MiB.
#[test]
fn of_a_long_label_the_beginning_is_shown() {
    let (recorder, mut rig) = watched(config());
    let _held = take(&rig.scheduler, host(10));
    let labels = ["x".repeat(64), "x".repeat(65), "é".repeat(1_000), format!("x{}", "é".repeat(1_000))];
    let mut waits = labels.map(|label| recorder.listen(|| queued(&rig.scheduler, host(1).label(label))));
    ticks(&recorder, &mut rig, 1, &mut waits);
    let shown: Vec<_> = recorder.open_ops().iter().map(|op| op.attribute("label").clone()).collect();
    let cut = [("x", 64, ""), ("x", 64, "…"), ("é", 32, "…")].map(|(c, times, end)| c.repeat(times) + end);
    assert_eq!(shown[..3], cut.map(|label| label.as_str().into()));
    assert_eq!(shown[3], format!("x{}…", "é".repeat(31)).as_str().into());
}

#[test]
fn a_wait_shorter_than_a_tick_emits_nothing() {
    let (recorder, mut rig) = watched(config());
    ticks(&recorder, &mut rig, 1, &mut []);
    let before = recorder.state().heard;
    recorder.listen(|| {
        for _ in 0..500 {
            let held = take(&rig.scheduler, host(10));
            let mut wait = queued(&rig.scheduler, host(1));
            rig.jump(TICK / 1_000);
            drop(held);
            drop(granted(&mut wait));
        }
    });
    ticks(&recorder, &mut rig, 2, &mut []);
    assert_eq!(recorder.state().heard, before);
    assert_eq!(recorder.ops().len(), 0);
}

#[test]
fn of_very_many_waits_a_bounded_number_is_listed_the_oldest_first_and_all_are_counted() {
    let (recorder, mut rig) = watched(config());
    let held = take(&rig.scheduler, host(10));
    let mut waits: Vec<_> = recorder
        .listen(|| (0..3_000).map(|number| queued(&rig.scheduler, host(1).label(number.to_string()))).collect());
    ticks(&recorder, &mut rig, 1, &mut waits);
    let labels: Vec<_> = recorder.open_ops().iter().map(|op| op.attribute("label").clone()).collect();
    assert_eq!(labels, (0..64).map(|number: u64| number.to_string().as_str().into()).collect::<Vec<_>>());
    let queued = recorder.state().queued;
    ticks(&recorder, &mut rig, 2, &mut waits);
    assert_eq!(recorder.open_ops().len(), 64 + 50);
    assert_eq!(recorder.state().queued - queued, 100, "in a second, in which the console takes in 128");
    ticks(&recorder, &mut rig, 100, &mut waits);
    assert_eq!(recorder.open_ops().len(), 2_048);
    let row = recorder.resource("Budget<host0.memory>");
    assert_eq!((row.attribute("waiting"), row.attribute("listed")), (&3_000.into(), &2_048.into()));
    recorder.listen(|| waits.drain(..100).for_each(drop));
    ticks(&recorder, &mut rig, 50, &mut waits);
    assert_eq!(recorder.open_ops().len(), 2_048, "others take the places of those that have gone");
    recorder.listen(|| drop(waits));
    ticks(&recorder, &mut rig, 1, &mut []);
    let row = recorder.resource("Budget<host0.memory>");
    assert_eq!((row.attribute("waiting"), row.attribute("listed")), (&0.into(), &0.into()));
    assert_eq!(recorder.open_ops().len(), 0);
    drop(held);
    assert_untouched(&rig.scheduler);
}

#[test]
fn however_long_waits_go_on_no_more_are_listed_than_the_console_can_keep() {
    let (recorder, mut rig) = watched(config());
    let _held = take(&rig.scheduler, host(10));
    let crowd = |rig: &Rig| recorder.listen(|| (0..100).map(|_| queued(&rig.scheduler, host(1))).collect::<Vec<_>>());
    for _ in 0..300 {
        let mut waits = crowd(&rig);
        ticks(&recorder, &mut rig, 1, &mut waits);
        recorder.listen(|| drop(waits));
    }
    // In 150 seconds: the stock, and one a tick.
    assert_eq!(recorder.ops().len(), 4_096 + 299);
    let mut waits = crowd(&rig);
    ticks(&recorder, &mut rig, 10, &mut waits);
    assert_eq!(recorder.open_ops().len(), 10);
    ticks(&recorder, &mut rig, 1, &mut []);
    let row = recorder.resource("Budget<host0.memory>");
    assert_eq!((row.attribute("waiting"), row.attribute("listed")), (&100.into(), &10.into()));
}

#[test]
fn a_slot_that_passes_to_another_wait_does_not_pass_its_op_on() {
    let (recorder, mut rig) = watched(config());
    for round in 0..20 {
        let held = take(&rig.scheduler, host(10));
        let mut first = [recorder.listen(|| queued(&rig.scheduler, host(1).label("first")))];
        ticks(&recorder, &mut rig, 2, &mut first);
        assert_eq!(recorder.open_ops().len(), 1, "round {round}");
        recorder.listen(|| drop(held));
        let [mut first] = first;
        let lease = recorder.listen(|| granted(&mut first));
        let held = take(&rig.scheduler, host(9));
        let second = recorder.listen(|| queued(&rig.scheduler, host(2)));
        assert_eq!(recorder.open_ops().len(), 0, "round {round}");
        drop((lease, held, second));
    }
}

#[test]
fn a_wait_is_chosen_for_the_list_and_granted_at_once_without_an_op() {
    let (recorder, mut rig) = watched(config());
    let held = take(&rig.scheduler, host(10));
    let mut wait = recorder.listen(|| queued(&rig.scheduler, host(1)));
    ticks(&recorder, &mut rig, 1, &mut []);
    assert!(wait.is_woken());
    recorder.listen(|| drop(held));
    drop(recorder.listen(|| granted(&mut wait)));
    assert_eq!(recorder.ops().len(), 0);
    assert_untouched(&rig.scheduler);
}
