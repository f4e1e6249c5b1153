//! Schedulers come and go, and their cores are used again: memory stays flat, and nobody reaches into the scheduler
//! that comes after his own. One test at a time, so that the next scheduler surely gets the core of the one before.

mod common;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::thread;

use allocation_counter::measure;
use bursar::{Budget, CloseReason, Driver, ReserveError, Scheduler, Unit};
use common::*;
use tokio_test::task;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn scheduler() -> (Scheduler, Driver) {
    Scheduler::builder().gpu(10u64).host(10u64).build().unwrap()
}

#[test]
fn ten_thousand_schedulers_one_after_the_other_keep_memory_flat() {
    let _alone = alone();
    let live_and_die = || {
        let (scheduler, driver) = scheduler();
        let held = take(&scheduler, gpu(10));
        let mut waiting = queued(&scheduler, gpu(5).label("a label").deadline(3_600_000 * MS));
        drop(held);
        drop(granted(&mut waiting));
        let given_up = (take(&scheduler, gpu(10)), queued(&scheduler, gpu(1)), scheduler.reserve(gpu(1)));
        drop(driver);
        drop(scheduler);
        drop(given_up);
    };
    // What the process keeps once: the core, and the shards of its table of holders.
    (0..200).for_each(|_| live_and_die());
    let counted = measure(|| (0..10_000).for_each(|_| live_and_die()));
    assert_eq!((counted.count_current, counted.bytes_current), (0, 0), "{counted:?}");
}

#[test]
fn the_core_of_a_forgotten_lease_is_kept_for_good_and_never_used_again() {
    let _alone = alone();
    let live_and_die = |forgotten: bool| {
        let (scheduler, driver) = scheduler();
        let lease = take(&scheduler, gpu(4).label("kept"));
        if forgotten {
            lease.forget()
        } else {
            drop(lease)
        }
        drop((scheduler, driver));
    };
    (0..200).for_each(|_| live_and_die(false));
    let kept = |forgotten| measure(|| (0..50).for_each(|_| live_and_die(forgotten))).bytes_current;
    assert_eq!(kept(false), 0);
    // The first few may use spare cores that other tests have left.
    assert!(kept(true) > 25 * 1_000, "each time another core");
    let (next, _driver) = scheduler();
    assert_untouched(&next);
    assert_eq!((next.stats().forgotten, next.holders(GPU).len()), (0, 0));
}

#[test]
fn a_reservation_that_outlived_its_scheduler_unpolled_gets_nothing_of_the_next() {
    let _alone = alone();
    let (first, driver) = scheduler();
    let mut stale = task::spawn(first.reserve(gpu(1)));
    drop((first, driver));
    let (second, _driver) = scheduler();
    let held = take(&second, gpu(9));
    assert!(matches!(stale.poll(), Poll::Ready(Err(ReserveError::Closed { reason: CloseReason::HandlesGone, .. }))));
    assert!(stale.poll().is_pending(), "and stays so");
    assert_eq!(free(&second, GPU), 1);
    drop((held, stale));
    assert_untouched(&second);
    assert_eq!(second.stats().grants(), 1);
}

/// Nobody has the core then.
#[test]
fn a_reservation_that_outlived_its_scheduler_unpolled_gets_nothing_while_there_is_no_next() {
    let _alone = alone();
    let (first, driver) = scheduler();
    let mut stale = [gpu(1), gpu(1).host(1u64), gpu(1).or(host(1))].map(|request| task::spawn(first.reserve(request)));
    drop((first, driver));
    for stale in &mut stale {
        let refused = stale.poll();
        assert!(matches!(refused, Poll::Ready(Err(ReserveError::Closed { reason: CloseReason::HandlesGone, .. }))));
    }
    drop(stale);
    let (next, _driver) = scheduler();
    assert_untouched(&next);
    assert_eq!(next.stats().grants(), 0);
}

/// The names, figures and holders of a later scheduler are none of its business.
#[test]
fn a_reservation_that_outlived_its_scheduler_unpolled_is_told_nothing_of_the_next() {
    let _alone = alone();
    let (first, driver) = scheduler();
    let (stale, attempted) = (first.reserve(gpu(1).label("stale")), first.reserve(gpu(1)));
    drop((first, driver));
    let secret = Budget::loan(GPU, 10).named("secret").counted_in(Unit::Count);
    let (second, _driver) = Scheduler::builder().budget(secret).build().unwrap();
    let _held = take(&second, gpu(9).label("secret"));
    let text = block_on(stale).unwrap_err().to_string();
    assert!(!text.contains("secret"), "{text}");
    assert!(text.contains("every handle was dropped; `stale`: asked 1 B of budget gpu0.memory"), "{text}");
    assert!(!format!("{:?}", block_on(attempted)).contains("secret"));
}

/// The error is written after the locks are free. Here the next scheduler gets the core just then, and has a labelled
/// lease on the same budget.
#[test]
fn an_error_lists_no_holder_of_the_scheduler_that_got_the_core_while_it_was_written() {
    let _alone = alone();
    let (first, driver) = scheduler();
    let mut ended = Box::pin(first.reserve(gpu(1).label("mine")));
    let lease = take(&first, gpu(10));
    assert!(ended.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop((first, driver, lease));
    // All that keeps the core is the verdict that lies ready. The turn that takes it discards the clone of this waker.
    let later = Rc::new(RefCell::new(None));
    let keep = Rc::clone(&later);
    let waker = waker_with(move |how| {
        if how == Use::Drop && keep.borrow().is_none() {
            let (next, driver) = scheduler();
            let lease = take(&next, gpu(7).label("secret"));
            *keep.borrow_mut() = Some((next, driver, lease));
        }
    });
    let Poll::Ready(Err(error)) = ended.as_mut().poll(&mut Context::from_waker(&waker)) else { panic!("no verdict") };
    hush_wakers();
    assert!(later.borrow_mut().take().is_some(), "the next scheduler was made meanwhile");
    assert!(matches!(&error, ReserveError::Closed { shortage, .. } if shortage.holders.is_empty()), "{error}");
    assert!(error.to_string().contains("`mine`: asked 1 B of budget gpu0.memory"), "{error}");
}

#[test]
fn a_wait_or_a_lease_keeps_the_core_from_the_next_scheduler() {
    let _alone = alone();
    let (first, driver) = scheduler();
    let lease = take(&first, gpu(10));
    let (mut ended, mut dropped) = (queued(&first, gpu(1)), Some(queued(&first, gpu(1))));
    drop((first, driver));
    for step in 0..4 {
        let (next, _driver) = scheduler();
        assert_untouched(&next);
        assert_eq!(next.stats().grants(), 0);
        drop(take(&next, gpu(10)));
        match step {
            0 => assert!(matches!(
                outcome(&mut ended),
                Err(ReserveError::Closed { reason: CloseReason::HandlesGone, .. })
            )),
            1 => drop(dropped.take()),
            2 => assert_eq!(lease.get(GPU), 10),
            _ => {}
        }
        assert_untouched(&next);
    }
    drop(lease);
    let (last, _driver) = scheduler();
    assert_untouched(&last);
}

/// The handle, the driver, the last lease and the last wait end on four threads at once, while others open schedulers.
#[test]
fn whoever_leaves_last_gives_the_core_back_once() {
    let _alone = alone();
    for _ in 0..300 {
        let (first, driver) = scheduler();
        let (lease, waiting) = (take(&first, gpu(10)), queued(&first, gpu(1)));
        let next = thread::scope(|scope| {
            scope.spawn(move || drop(first));
            scope.spawn(move || drop(driver));
            scope.spawn(move || drop(waiting));
            scope.spawn(move || drop(lease));
            let opened: Vec<_> = (0..3).map(|_| scheduler()).collect();
            opened
        });
        for (at, (scheduler, _)) in next.iter().enumerate() {
            let mine = take(scheduler, gpu(at as u64 + 1));
            for (other, (others, _)) in next.iter().enumerate() {
                let expected = if other == at { 9 - at as u64 } else { 10 };
                assert_eq!(free(others, GPU), expected, "two schedulers share a core");
            }
            drop(mine);
            assert_untouched(scheduler);
        }
    }
}
