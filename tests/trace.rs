//! Spans and log lines: what is told, where, and how loud.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bursar::{Amounts, Priority, Request};
use common::log::Lines;
use common::{GPU, MS, Rig, gpu, granted, outcome, queued, take, three_loans};
use tracing::Level;

/// The span of whoever calls the library.
fn caller() -> tracing::Span {
    tracing::info_span!(target: "bursar_test", "caller")
}

fn idle(units: u64) -> Request {
    gpu(units).priority(Priority::Idle).preemptible().label("batch")
}

#[test]
fn a_wait_is_a_span_of_its_caller_in_which_its_lines_are_wherever_it_is_polled() {
    let lines = Lines::get();
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let caller = caller();
    let mut chat = caller.in_scope(|| queued(&rig.scheduler, gpu(4).label("chat").priority(Priority::High)));
    let [span] = &lines.spans("bursar::reserve")[..] else { panic!("one span") };
    assert_eq!((span.name, span.level, span.parent), ("reserve", Level::DEBUG, Some("caller")));
    for field in ["label=\"chat\"", "priority=HIGH", "{\"gpu0\": 4}"] {
        assert!(span.fields.contains(field), "{field} is not in {}", span.fields);
    }
    assert!(!span.closed && span.lines.len() == 1 && span.lines[0].contains("waits"), "{span:?}");
    // Polled in no span: what it comes to is told in its own.
    assert!(chat.poll().is_pending());
    drop(held);
    let lease = granted(&mut chat);
    let [span] = &lines.spans("bursar::reserve")[..] else { panic!("still one") };
    assert!(span.closed && span.fields.contains("outcome=\"granted\""), "{span:?}");
    assert!(span.lines.len() == 2 && span.lines[1].contains("granted after a wait"), "{span:?}");
    drop(lease);
}

#[test]
fn a_wait_that_fails_says_so_in_its_span_and_one_that_is_given_up_has_no_outcome() {
    let lines = Lines::get();
    let mut rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let mut late = queued(&rig.scheduler, gpu(1).deadline(5 * MS));
    drop(queued(&rig.scheduler, gpu(2)));
    rig.pass(5 * MS);
    assert!(outcome(&mut late).is_err());
    let [late, left] = &lines.spans("bursar::reserve")[..] else { panic!("two spans") };
    assert!(late.closed && late.fields.contains("outcome=\"failed\""), "{late:?}");
    assert!(late.lines[1].contains("failed"), "{late:?}");
    assert!(left.closed && left.fields.contains("{\"gpu0\": 2}") && !left.fields.contains("outcome"), "{left:?}");
}

#[test]
fn what_does_not_wait_has_no_span_and_no_line() {
    let lines = Lines::get();
    let rig = Rig::loans(10, 10);
    drop(take(&rig.scheduler, gpu(1).label("chat")));
    let mut reservation = tokio_test::task::spawn(rig.scheduler.reserve(gpu(1).label("chat")));
    assert!(reservation.poll().is_ready());
    for target in ["bursar::reserve", "bursar::grant"] {
        assert!(lines.spans(target).is_empty() && lines.of(target).is_empty(), "{target}");
    }
}

#[test]
fn a_lease_that_waits_for_more_has_a_span_of_its_own_kind() {
    let lines = Lines::get();
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(6).label("chat"));
    let other = take(&rig.scheduler, gpu(4));
    let more = Amounts::of(GPU, 2);
    let mut growth = tokio_test::task::spawn(lease.grow(&more));
    assert!(growth.poll().is_pending());
    drop(other);
    assert!(growth.poll().is_ready());
    let [span] = &lines.spans("bursar::grow")[..] else { panic!("one span") };
    assert_eq!((span.name, span.parent, span.closed), ("grow", None, true));
    assert!(span.fields.contains("label=\"chat\"") && span.fields.contains("granted"), "{span:?}");
    assert_eq!(lines.of("bursar::grow").len(), 1);
}

#[test]
fn a_lease_that_is_asked_to_end_and_does_is_told_of_at_debug() {
    let lines = Lines::get();
    let rig = Rig::loans(10, 10);
    let hog = take(&rig.scheduler, idle(10));
    let mut urgent = queued(&rig.scheduler, gpu(1).priority(Priority::Critical));
    rig.jump(30 * MS);
    drop(hog);
    drop(granted(&mut urgent));
    let said = lines.of("bursar::preempt");
    let [(Level::DEBUG, asked), (Level::DEBUG, ended)] = &said[..] else { panic!("{said:?}") };
    assert!(asked.contains("is asked to end") && asked.contains("by=CRITICAL"), "{asked}");
    assert!(ended.contains("has ended") && ended.contains("in_grace=true"), "{ended}");
    for line in [asked, ended] {
        assert!(line.contains("label=\"batch\"") && line.contains("priority=IDLE"), "{line}");
    }
}

#[test]
fn a_lease_that_does_not_end_within_its_grace_is_warned_of_and_how_late_it_was() {
    let lines = Lines::get();
    let mut rig = Rig::new(three_loans());
    let hog = take(&rig.scheduler, idle(10));
    let urgent = queued(&rig.scheduler, gpu(1).priority(Priority::Critical));
    rig.run();
    rig.pass(100 * MS);
    let said = lines.of("bursar::preempt");
    let [(Level::DEBUG, _), (Level::WARN, overdue)] = &said[..] else { panic!("{said:?}") };
    assert!(overdue.contains("within its grace") && overdue.contains("label=\"batch\""), "{overdue}");
    rig.jump(20 * MS);
    drop(hog);
    let ended = &lines.of("bursar::preempt")[2].1;
    assert!(ended.contains("in_grace=false") && ended.contains("late=20ms"), "{ended}");
    drop(urgent);
}

/// What tells of its end runs in a destructor.
#[test]
fn a_lease_that_ends_with_a_panic_of_its_owner_is_told_of_too() {
    let lines = Lines::get();
    let rig = Rig::loans(10, 10);
    let hog = take(&rig.scheduler, idle(10));
    let urgent = queued(&rig.scheduler, gpu(1).priority(Priority::Critical));
    let ended = catch_unwind(AssertUnwindSafe(move || {
        let _hog = hog;
        panic!("the work failed");
    }));
    assert!(ended.is_err());
    assert_eq!(lines.of("bursar::preempt").len(), 2);
    drop(urgent);
}
