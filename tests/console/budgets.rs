//! Budgets as resources.

use bursar::{Budget, BudgetId, Config, GIB, MIB, Request};

use super::common::*;
use super::recorder::{Recorder, Value, registered, start};
use super::{TICK, config, ticks, watched};

#[test]
fn a_budget_is_a_resource_with_its_name_kind_place_and_figures() {
    let recorder = Recorder::default();
    let shares = Config::new().with(Budget::loan(BudgetId::ATTENTION, 1_000_000)).with(Budget::rate(IO, 500 * MIB));
    let mut rig = recorder.listen(|| {
        // Whatever is entered when a scheduler is made, its budgets belong to nothing.
        let _inside = tracing::trace_span!("somebody's").entered();
        Rig::new(config().with(shares.budgets[0].clone()).with(shares.budgets[1].clone()))
    });
    let row = recorder.resource("Budget<gpu0.memory>");
    assert_eq!((row.text("kind"), row.parent, row.resource), ("loan", None, None));
    assert!(row.text("loc.file").ends_with("common/mod.rs"), "where it was built: {row:?}");
    assert_eq!((row.attribute("capacity"), row.attribute("in_use")), (&"40 GiB".into(), &"0 B".into()));
    assert_eq!((row.attribute("waiting"), row.attribute("listed")), (&0.into(), &0.into()));
    let request = Request::new().gpu(2304 * MIB).attention(0.125).io(400 * MIB);
    let lease = recorder.listen(|| take(&rig.scheduler, request));
    ticks(&recorder, &mut rig, 1, &mut []);
    assert_eq!(recorder.resource("Budget<gpu0.memory>").attribute("in_use"), &"2304 MiB".into());
    assert_eq!(recorder.resource("Budget<attention>").attribute("in_use"), &"12.5 %".into());
    // 501 ms have brought back 250.5 MiB.
    let io = recorder.resource("Budget<io>");
    assert_eq!((io.text("kind"), io.attribute("capacity")), ("rate", &"500 MiB".into()));
    assert_eq!(io.attribute("in_use"), &"153088 KiB".into());
    drop(lease);
    recorder.listen(|| rig.scheduler.set_capacity(GPU, GIB)).unwrap();
    ticks(&recorder, &mut rig, 2, &mut []);
    let row = recorder.resource("Budget<gpu0.memory>");
    assert_eq!((row.attribute("capacity"), row.attribute("in_use")), (&"1 GiB".into(), &"0 B".into()));
    assert_eq!(recorder.resource("Budget<io>").attribute("in_use"), &"0 B".into());
}

#[test]
fn a_grant_and_a_release_emit_nothing_and_a_tick_later_the_figures_are_exact() {
    let (recorder, mut rig) = watched(config());
    ticks(&recorder, &mut rig, 1, &mut []);
    let before = recorder.state().heard;
    let mut leases = recorder.listen(|| {
        for units in 1..5_000 {
            drop(take(&rig.scheduler, gpu(units)));
        }
        let all = (1..=99).map(|units| take(&rig.scheduler, gpu(units)));
        all.chain([take(&rig.scheduler, gpu(100).host(1))]).collect::<Vec<_>>()
    });
    assert_eq!(recorder.state().heard, before);
    ticks(&recorder, &mut rig, 1, &mut []);
    assert_eq!(recorder.resource("Budget<gpu0.memory>").attribute("in_use"), &"4.9 KiB (5050 B)".into());
    assert_eq!(recorder.resource("Budget<host0.memory>").attribute("in_use"), &"1 B".into());
    assert_eq!(recorder.state().heard, before + 2, "one event for each attribute that changed");
    recorder.listen(|| leases.drain(..50).for_each(drop));
    ticks(&recorder, &mut rig, 1, &mut []);
    assert_eq!(recorder.resource("Budget<gpu0.memory>").attribute("in_use"), &"3.7 KiB (3775 B)".into());
    drop(leases);
    ticks(&recorder, &mut rig, 1, &mut []);
    assert_eq!(recorder.resource("Budget<gpu0.memory>").attribute("in_use"), &"0 B".into());
    let still = recorder.state().heard;
    ticks(&recorder, &mut rig, 100, &mut []);
    assert_eq!(recorder.state().heard, still, "nothing changes, nothing is emitted");
}

#[test]
fn the_documented_filter_of_the_console_lets_everything_pass() {
    let (recorder, mut rig) = watched(config());
    let _held = take(&rig.scheduler, host(10));
    let mut waits = [recorder.listen(|| queued(&rig.scheduler, host(1)))];
    ticks(&recorder, &mut rig, 3, &mut waits);
    let rows = recorder.resources().into_iter().chain(recorder.ops()).chain(recorder.tasks());
    let targets: Vec<_> = rows.map(|row| row.target).collect();
    assert!(targets.len() >= 3, "{targets:?}");
    assert!(targets.iter().all(|target| target.starts_with("runtime::") || target.starts_with("tokio::")));
}

#[test]
fn every_kind_of_span_and_event_has_one_callsite_however_much_is_shown() {
    let (recorder, mut rig) = watched(config());
    let _second = recorder.listen(|| Rig::new(three_loans()));
    let held = take(&rig.scheduler, host(10));
    let mut waits = [1, 2, 3].map(|units| recorder.listen(|| queued(&rig.scheduler, host(units).label("a label"))));
    ticks(&recorder, &mut rig, 3, &mut waits);
    recorder.listen(|| drop(held));
    assert_eq!(recorder.ops().len(), 3);
    let mut kinds = registered();
    let all = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), all, "a 33rd callsite of a kind in a process makes the console panic: {kinds:?}");
    assert!(all >= 5, "{kinds:?}");
}

#[test]
fn while_nobody_listens_the_scheduler_task_sleeps_without_a_timer() {
    start();
    let recorder = Recorder::default();
    let mut rig = Rig::new(config());
    rig.jump(TICK * 1_000);
    assert_eq!(rig.run(), 0);
    drop(take(&rig.scheduler, host(1).label("a turn at the desk")));
    rig.jump(TICK * 1_000);
    assert!(rig.run() <= 1, "one look for the subscriber, which listens elsewhere");
    assert_eq!(recorder.resources().len(), 0);
}

#[test]
fn a_subscriber_that_comes_later_is_found_at_the_next_turn_and_sees_who_waits_already() {
    // There is a subscriber, but not one that wants anything yet: the scheduler task has looked in vain.
    start();
    let mut rig = Rig::new(config());
    let held = take(&rig.scheduler, host(10).label("holder"));
    let mut waits = [queued(&rig.scheduler, host(3).label("early"))];
    let recorder = Recorder::default();
    ticks(&recorder, &mut rig, 20, &mut waits);
    assert_eq!(recorder.resources().len(), 0, "nothing has happened that would wake the scheduler task");
    recorder.listen(|| rig.scheduler.stats());
    ticks(&recorder, &mut rig, 3, &mut waits);
    let row = recorder.resource("Budget<host0.memory>");
    assert_eq!((row.attribute("in_use"), row.attribute("waiting")), (&"10 B".into(), &1.into()));
    assert_eq!(recorder.ops()[0].attribute("label"), &"early".into());
    recorder.listen(|| drop(held));
    recorder.listen(|| drop(granted(&mut waits[0])));
    assert_eq!(recorder.open_ops().len(), 0);
}

#[test]
fn the_budgets_of_a_closed_scheduler_are_gone_and_the_next_one_has_its_own() {
    let (recorder, mut rig) = watched(config());
    let lease = take(&rig.scheduler, host(4));
    recorder.listen(|| {
        rig.scheduler.close();
        rig.run();
    });
    let rows = recorder.resources();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.closed), "{rows:#?}");
    assert_eq!(rows[1].attribute("in_use"), &"4 B".into(), "as it was when the scheduler closed");
    drop((lease, rig));
    let next = recorder.listen(|| Rig::new(config()));
    assert_eq!(recorder.resource("Budget<host0.memory>").attribute("in_use"), &Value::from("0 B"));
    recorder.listen(|| drop(next));
    assert!(recorder.resources().iter().all(|row| row.closed));
}

#[test]
fn a_scheduler_is_shown_at_once_though_one_before_it_found_no_subscriber() {
    start();
    for _ in 0..10 {
        let rig = Rig::new(config());
        rig.jump(TICK * 1_000);
        rig.scheduler.stats();
        drop(rig);
        let (recorder, rig) = watched(config());
        recorder.resource("Budget<host0.memory>");
        drop(rig);
    }
}

#[test]
fn figures_change_at_most_once_a_tick_whatever_else_wakes_the_scheduler_task() {
    let (recorder, mut rig) = watched(config());
    let _held = take(&rig.scheduler, host(10));
    ticks(&recorder, &mut rig, 1, &mut []);
    let before = recorder.state().heard;
    recorder.listen(|| {
        for _ in 0..1_000 {
            // A deadline wakes the task twice: when it is set, and when it has passed.
            let wait = queued(&rig.scheduler, host(1).deadline(TICK / 5_000));
            rig.pass(TICK / 5_000);
            drop(wait);
        }
    });
    assert!(recorder.state().heard - before <= 4, "{}", recorder.state().heard - before);
}
