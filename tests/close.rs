//! Every way in which a scheduler ends: each wait ends with a typed error, leases stay valid, nothing hangs.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;

use bursar::{CapacityError, CloseReason, Priority, ReserveError, Scheduler, TryReserveError};
use common::*;
use tokio_test::task;

fn closed(result: &Result<bursar::Lease, ReserveError>, why: CloseReason) -> bool {
    matches!(result, Err(ReserveError::Closed { reason, .. }) if *reason == why)
}

#[test]
fn close_ends_every_wait_and_every_later_request() {
    let rig = Rig::loans(10, 10);
    let lease = take(&rig.scheduler, gpu(6));
    let mut waiting = [queued(&rig.scheduler, gpu(5)), queued(&rig.scheduler, gpu(9).priority(Priority::Idle))];
    rig.scheduler.close();
    assert_eq!(rig.scheduler.closed(), Some(CloseReason::Closed));
    for waiting in &mut waiting {
        assert!(closed(&outcome(waiting), CloseReason::Closed));
    }
    let mut later = task::spawn(rig.scheduler.reserve(gpu(1)));
    assert!(matches!(later.poll(), Poll::Ready(result) if closed(&result, CloseReason::Closed)));
    let attempt = rig.scheduler.try_reserve(gpu(1));
    assert!(matches!(attempt, Err(TryReserveError::Closed { reason: CloseReason::Closed, .. })));
    assert_eq!(rig.scheduler.set_capacity(GPU, 20), Err(CapacityError::Closed(CloseReason::Closed)));
    assert_eq!(rig.scheduler.stats().budget(GPU).unwrap().granted, 6, "leases stay valid");
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn closing_twice_keeps_the_first_reason() {
    let mut rig = Rig::loans(10, 10);
    rig.scheduler.close();
    rig.scheduler.close();
    rig.run();
    assert_eq!(rig.scheduler.closed(), Some(CloseReason::Closed));
}

/// R5, P14: what was granted before stays granted.
#[test]
fn r5_p14_an_offer_made_before_the_close_can_still_be_taken_up() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut offered = queued(&rig.scheduler, gpu(4));
    let given_up = queued(&rig.scheduler, gpu(4));
    let mut blocked = queued(&rig.scheduler, gpu(9));
    drop(held);
    rig.scheduler.close();
    rig.pass(3_600_000 * MS);
    assert!(closed(&outcome(&mut blocked), CloseReason::Closed));
    let lease = granted(&mut offered);
    assert_eq!(lease.get(GPU), 4);
    assert!(given_up.is_woken());
    drop(given_up);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// R5: a waiter whose offer had expired is ended like any other.
#[test]
fn r5_close_ends_a_dormant_wait_too() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut dormant = queued(&rig.scheduler, gpu(10));
    let mut rival = queued(&rig.scheduler, gpu(10));
    drop(held);
    rig.pass(100 * MS);
    drop(granted(&mut rival));
    rig.scheduler.close();
    assert!(closed(&outcome(&mut dormant), CloseReason::Closed));
    assert_untouched(&rig.scheduler);
}

#[test]
fn dropping_the_last_handle_ends_every_wait_and_no_lease() {
    let Rig { scheduler, mut driver, runtime } = Rig::loans(10, 10);
    let lease = take(&scheduler, gpu(10));
    let (mut waiting, mut unpolled) = (queued(&scheduler, gpu(1)), task::spawn(scheduler.reserve(gpu(1))));
    let clone = scheduler.clone();
    drop(scheduler);
    assert_waits(&mut waiting);
    drop(clone);
    assert!(closed(&outcome(&mut waiting), CloseReason::HandlesGone));
    assert!(matches!(unpolled.poll(), Poll::Ready(result) if closed(&result, CloseReason::HandlesGone)));
    let _inside = runtime.enter();
    assert!(driver.is_woken() && driver.poll().is_ready(), "the scheduler task ends");
    assert_eq!(lease.get(GPU), 10);
}

#[test]
fn a_weak_handle_keeps_nothing_open_and_never_finds_a_later_scheduler() {
    let Rig { scheduler, driver, runtime } = Rig::loans(10, 10);
    let weak = scheduler.downgrade();
    let all = take(&scheduler, gpu(10));
    let mut waiting = queued(&scheduler, gpu(1));
    let again = weak.upgrade().expect("a handle is there");
    drop(scheduler);
    assert_waits(&mut waiting);
    drop(again);
    assert!(closed(&outcome(&mut waiting), CloseReason::HandlesGone));
    assert!(weak.upgrade().is_none());
    // From now on its memory may serve another.
    drop((all, waiting, driver, runtime));
    let _later: Vec<Rig> = (0..4).map(|_| Rig::loans(1, 1)).collect();
    assert!(weak.upgrade().is_none());
}

#[test]
fn dropping_the_driver_ends_every_wait_and_no_lease() {
    let Rig { scheduler, driver, runtime } = Rig::loans(10, 10);
    let (lease, all_host) = (take(&scheduler, gpu(10)), take(&scheduler, host(10)));
    let (mut waiting, mut offered) = (queued(&scheduler, gpu(10)), queued(&scheduler, host(1)));
    drop(all_host);
    drop(driver);
    assert!(closed(&outcome(&mut waiting), CloseReason::DriverGone));
    assert_eq!(scheduler.closed(), Some(CloseReason::DriverGone));
    drop(granted(&mut offered));
    drop((lease, runtime));
    assert_untouched(&scheduler);
}

#[tokio::test]
async fn aborting_the_scheduler_task_ends_every_wait() {
    let (scheduler, driver) = Scheduler::builder().gpu(10u64).build().unwrap();
    let driver = tokio::spawn(driver);
    let lease = scheduler.reserve(gpu(10)).await.unwrap();
    let waiting = tokio::spawn(scheduler.reserve(gpu(1)));
    tokio::task::yield_now().await;
    driver.abort();
    assert!(closed(&waiting.await.unwrap(), CloseReason::DriverGone));
    assert!(driver.await.unwrap_err().is_cancelled());
    drop(lease);
    assert_untouched(&scheduler);
}

#[test]
fn dropping_the_runtime_ends_waits_outside_it_and_returns_leases_inside_it() {
    for threads in [0, 1, 2] {
        let runtime = match threads {
            0 => paused(),
            n => tokio::runtime::Builder::new_multi_thread().worker_threads(n).enable_all().build().unwrap(),
        };
        let scheduler = {
            let _inside = runtime.enter();
            Scheduler::builder().gpu(10u64).spawn().unwrap()
        };
        let lease = take(&scheduler, gpu(6));
        let (holds, waits) = (scheduler.clone(), scheduler.clone());
        runtime.block_on(async {
            let held = holds.reserve(gpu(4)).await.unwrap();
            tokio::spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            let (polled, waiting) = tokio::sync::oneshot::channel();
            tokio::spawn(async move {
                let mut reservation = std::pin::pin!(waits.reserve(gpu(4)));
                assert!(std::future::poll_fn(|cx| Poll::Ready(reservation.as_mut().poll(cx).is_pending())).await);
                polled.send(()).unwrap();
                reservation.await.map(drop)
            });
            waiting.await.unwrap();
        });
        let mut outside = queued(&scheduler, gpu(10));
        drop(runtime);
        assert!(closed(&outcome(&mut outside), CloseReason::DriverGone), "{threads} workers");
        let stats = scheduler.stats();
        assert_eq!((stats.waiting, stats.leases, free(&scheduler, GPU)), (0, 1, 4));
        drop(lease);
        assert_untouched(&scheduler);
    }
}

#[test]
fn a_runtime_that_shuts_down_in_the_background_ends_every_wait() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let scheduler = {
        let _inside = runtime.enter();
        Scheduler::builder().gpu(10u64).spawn().unwrap()
    };
    let lease = take(&scheduler, gpu(10));
    let waiting = thread::spawn({
        let scheduler = scheduler.clone();
        move || block_on(scheduler.reserve(gpu(1)))
    });
    runtime.shutdown_background();
    assert!(closed(&waiting.join().unwrap(), CloseReason::DriverGone));
    drop(lease);
    assert_untouched(&scheduler);
}

#[tokio::test]
async fn shutdown_waits_for_the_last_lease_and_reports() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let mut lease = scheduler.reserve(gpu(10)).await.unwrap();
    let part = lease.split(&bundle(&[(GPU, 4)])).unwrap();
    let mut waiting = queued(&scheduler, gpu(1));
    let mut shutdown = task::spawn(scheduler.shutdown());
    assert!(shutdown.poll().is_pending());
    assert!(closed(&outcome(&mut waiting), CloseReason::Closed));
    drop(lease);
    assert!(!shutdown.is_woken() && shutdown.poll().is_pending());
    drop(part);
    assert!(shutdown.is_woken());
    let Poll::Ready(stats) = shutdown.poll() else { panic!("the last lease is gone") };
    let stats = stats.unwrap();
    assert_eq!((stats.leases, stats.closed), (0, Some(CloseReason::Closed)));
    assert_eq!(stats.budget(GPU).unwrap().free, 10);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_forgotten_lease() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    take(&scheduler, gpu(3)).forget();
    let late = take(&scheduler, gpu(2));
    let mut shutdown = task::spawn(scheduler.shutdown());
    assert!(shutdown.poll().is_pending());
    late.forget();
    assert!(shutdown.is_woken());
    let Poll::Ready(Ok(stats)) = shutdown.poll() else { panic!("only forgotten leases are left") };
    assert_eq!((stats.forgotten, stats.budget(GPU).unwrap().free), (2, 5));
}

#[tokio::test]
async fn shutdown_waits_for_grants_that_are_on_their_way() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let held = take(&scheduler, gpu(10));
    let (mut taken_up, given_up) = (queued(&scheduler, gpu(5)), queued(&scheduler, gpu(5)));
    drop(held);
    let mut shutdowns = [task::spawn(scheduler.shutdown()), task::spawn(scheduler.shutdown())];
    assert!(shutdowns.iter_mut().all(|shutdown| shutdown.poll().is_pending()));
    drop(given_up);
    drop(granted(&mut taken_up));
    for shutdown in &mut shutdowns {
        assert!(shutdown.is_woken() && shutdown.poll().is_ready());
    }
}

#[tokio::test]
async fn a_cancelled_shutdown_leaves_the_scheduler_closed_and_can_be_taken_up_again() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let lease = take(&scheduler, gpu(10));
    let mut given_up = task::spawn(scheduler.shutdown());
    assert!(given_up.poll().is_pending());
    drop(given_up);
    assert_eq!(scheduler.closed(), Some(CloseReason::Closed));
    drop(lease);
    scheduler.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_shutdown_leaves_no_waker_behind() {
    struct Idle;
    impl std::task::Wake for Idle {
        fn wake(self: Arc<Self>) {}
    }
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let lease = take(&scheduler, gpu(10));
    let wakers = [(); 3].map(|()| Arc::new(Idle));
    for _ in 0..10 {
        let mut given_up = Box::pin(scheduler.shutdown());
        // From one task to another: the waker of the last poll is the one that counts.
        for waker in &wakers[..2] {
            let waker = Waker::from(Arc::clone(waker));
            assert!(given_up.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!((Arc::strong_count(&wakers[0]), Arc::strong_count(&wakers[1])), (1, 2));
    }
    assert_eq!(Arc::strong_count(&wakers[1]), 1);
    drop(lease);
    scheduler.shutdown().await.unwrap();
}

/// P14: close, release, cancel and polls at once. Every wait ends, what was granted is a lease, nothing is lost.
#[test]
fn p14_closing_while_others_release_and_cancel_ends_every_wait_and_keeps_every_grant() {
    for round in 0..200 {
        let rig = Rig::loans(4, 4);
        let held = take(&rig.scheduler, gpu(4).host(4u64));
        let mut all: Vec<_> = (0..8).map(|_| rig.scheduler.reserve(gpu(1).host(1u64))).collect();
        for waiting in &mut all {
            assert!(Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let given_up = all.split_off(6);
        let start = Arc::new(Barrier::new(4));
        let leases = thread::scope(|scope| {
            let wait = || start.wait();
            scope.spawn(move || {
                wait();
                drop(held);
            });
            scope.spawn(move || {
                wait();
                given_up.into_iter().for_each(drop);
            });
            let (scheduler, dropped) = (&rig.scheduler, rig.driver);
            scope.spawn(move || {
                wait();
                if round % 2 == 0 { scheduler.close() } else { drop(dropped) }
            });
            wait();
            all.into_iter().filter_map(|waiting| block_on(waiting).ok()).collect::<Vec<_>>()
        });
        let stats = rig.scheduler.stats();
        assert_eq!((stats.waiting, stats.offered, stats.leases), (0, 0, leases.len() as u64));
        assert!(leases.len() <= 4);
        rig.scheduler.verify().unwrap();
        drop(leases);
        assert_untouched(&rig.scheduler);
    }
}
