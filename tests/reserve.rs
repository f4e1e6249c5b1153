//! From a request to a lease: what a grant takes, when a wait begins, who is woken.

mod common;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use bursar::{Budget, Config, Priority, ReserveError, Scheduler, TryReserveError};
use common::*;
use futures::future::FusedFuture;
use tokio::task::coop;
use tokio_test::task;

#[tokio::test]
async fn a_reservation_that_fits_is_granted_at_its_first_poll() {
    let scheduler = Scheduler::builder().gpu(10u64).host(20u64).spawn().unwrap();
    let lease = scheduler.reserve(gpu(4).host(5u64).priority(Priority::Low)).await.unwrap();
    assert_eq!((lease.get(GPU), lease.get(HOST), lease.priority()), (4, 5, Priority::Low));
    assert_eq!((free(&scheduler, GPU), free(&scheduler, HOST)), (6, 15));
    assert_eq!(scheduler.stats().level(Priority::Low).immediate, 1);
    drop(lease);
    assert_untouched(&scheduler);
}

#[tokio::test]
async fn a_reservation_that_does_not_fit_is_granted_when_enough_is_released() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let held = scheduler.reserve(gpu(7)).await.unwrap();
    let waiter = tokio::spawn(scheduler.reserve(gpu(4)));
    tokio::task::yield_now().await;
    assert_eq!(scheduler.stats().waiting, 1);
    drop(held);
    assert_eq!(waiter.await.unwrap().unwrap().get(GPU), 4);
    assert_untouched(&scheduler);
}

/// R5.
#[test]
fn r5_a_reservation_does_nothing_before_its_first_poll() {
    let rig = Rig::loans(10, 10);
    let unpolled = rig.scheduler.reserve(gpu(10));
    assert!(!unpolled.is_waiting());
    let lease = take(&rig.scheduler, gpu(10));
    assert_eq!(rig.scheduler.stats().waiting, 0);
    drop(unpolled);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// R5.
#[test]
fn r5_the_first_poll_fixes_the_place_in_the_queue_and_not_the_call_of_reserve() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let made_first = rig.scheduler.reserve(gpu(10));
    let mut polled_first = queued(&rig.scheduler, gpu(10));
    let mut made_first = task::spawn(made_first);
    assert!(made_first.poll().is_pending());
    drop(held);
    let lease = granted(&mut polled_first);
    assert_waits(&mut made_first);
    drop(lease);
    drop(granted(&mut made_first));
}

/// R5.
#[test]
fn r5_a_relative_deadline_becomes_absolute_at_the_first_poll() {
    let mut rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let made = rig.scheduler.reserve(gpu(1).deadline(100 * MS));
    rig.pass(3_600_000 * MS);
    let mut waiting = task::spawn(made);
    assert!(waiting.poll().is_pending(), "an hour before the first poll does not count");
    rig.pass(99 * MS);
    assert_waits(&mut waiting);
    rig.pass(MS);
    match outcome(&mut waiting) {
        Err(ReserveError::Late { waited, .. }) => assert_eq!(waited, 100 * MS),
        other => panic!("{other:?}"),
    }
}

/// C2, P03 at the moment of the grant.
#[test]
fn c2_a_bundle_takes_everything_or_nothing_and_holds_nothing_while_it_waits() {
    let rig = Rig::loans(10, 10);
    let all_host = take(&rig.scheduler, host(10));
    let mut both = queued(&rig.scheduler, gpu(6).host(6u64));
    assert_eq!(free(&rig.scheduler, GPU), 10, "nothing is held while it waits");
    assert_eq!(rig.scheduler.stats().budget(GPU).unwrap().granted, 0);
    drop(all_host);
    let lease = granted(&mut both);
    assert_eq!((free(&rig.scheduler, GPU), free(&rig.scheduler, HOST)), (4, 4));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// C2 and R7: neither loans nor rates of a refused attempt are touched.
#[test]
fn c2_a_refused_attempt_takes_nothing_of_any_budget() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10)).with(Budget::rate(IO, 10));
    let rig = Rig::new(config);
    let _held = take(&rig.scheduler, host(5));
    let refused = rig.scheduler.try_reserve(gpu(1).host(6u64).io(1u64));
    assert!(matches!(refused, Err(TryReserveError::NotNow(short)) if short.budget == HOST));
    assert_eq!((free(&rig.scheduler, GPU), free(&rig.scheduler, IO)), (10, 10));
    rig.scheduler.verify().unwrap();
}

/// P23. The fast path, a newcomer's first poll and `try_reserve` are the three ways to barge.
#[test]
fn p23_in_strict_order_nobody_passes_a_waiter_of_equal_or_higher_rank() {
    let rig = Rig::strict(10, 10);
    let held = take(&rig.scheduler, gpu(6));
    let mut waiting = queued(&rig.scheduler, gpu(8));
    for level in [Priority::Normal, Priority::Low, Priority::Idle] {
        let refused = rig.scheduler.try_reserve(gpu(1).priority(level));
        assert!(matches!(refused, Err(TryReserveError::NotNow(_))), "{level} passed: {refused:?}");
        drop(queued(&rig.scheduler, gpu(1).priority(level)));
    }
    for level in [Priority::Critical, Priority::High] {
        drop(take(&rig.scheduler, gpu(1).priority(level)));
    }
    drop(held);
    drop(granted(&mut waiting));
    drop(take(&rig.scheduler, gpu(1).priority(Priority::Idle)));
    assert_untouched(&rig.scheduler);
}

/// R1, P07: a waker is cloned when the way past the queue has been found short, and before the reservation queues. What
/// comes back in between raises no flag, so it has to be seen by a second look.
#[test]
fn r1_p07_what_comes_back_between_the_first_look_and_the_wait_is_not_lost() {
    let rig = Rig::loans(10, 10);
    let held = Rc::new(RefCell::new(Some(take(&rig.scheduler, gpu(10)))));
    let last = Rc::clone(&held);
    let waker = waker_with(move |how| {
        if how == Use::Clone {
            drop(last.take());
        }
    });
    let mut reservation = rig.scheduler.reserve(gpu(1));
    let polled = Pin::new(&mut reservation).poll(&mut Context::from_waker(&waker));
    hush_wakers();
    assert!(held.borrow().is_none(), "the waker was cloned");
    assert!(matches!(polled, Poll::Ready(Ok(_))), "{polled:?}");
}

/// R1: the flag is set while somebody waits and cleared with the last one, whatever way the wait ends.
#[test]
fn r1_the_way_past_the_queue_is_shut_exactly_while_somebody_waits() {
    let mut rig = Rig::strict(10, 10);
    type End = fn(&mut Rig, Waiting);
    let ends: [End; 3] = [
        |_, waiting| drop(waiting),
        |rig, mut waiting| {
            rig.pass(10 * MS);
            assert!(matches!(outcome(&mut waiting), Err(ReserveError::Late { .. })));
        },
        |rig, mut waiting| {
            rig.scheduler.set_capacity(HOST, 10).unwrap();
            drop(granted(&mut waiting));
        },
    ];
    for end in ends {
        rig.scheduler.set_capacity(HOST, 10).unwrap();
        let held = take(&rig.scheduler, host(5));
        rig.scheduler.set_capacity(HOST, 6).unwrap();
        let waiting = queued(&rig.scheduler, gpu(1).host(5u64).deadline(10 * MS));
        assert!(rig.scheduler.try_reserve(host(1)).is_err(), "the waiter is first there");
        end(&mut rig, waiting);
        drop(take(&rig.scheduler, host(1)));
        drop(held);
        rig.scheduler.verify().unwrap();
    }
}

/// R2: a claim leaves its units in `free`, covers the whole bundle once it is hard, and binds lower ranks only. Before
/// that, who fits may pass.
#[test]
fn r2_a_waiter_holds_nothing_and_claims_its_bundle_once_its_claim_is_hard() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    let rig = Rig::new(Config { bypass_limit: 1, ..config });
    let held = take(&rig.scheduler, host(6));
    let mut waiting = queued(&rig.scheduler, gpu(10).host(5u64));
    drop(take(&rig.scheduler, gpu(10)));
    drop(take(&rig.scheduler, host(4)));
    assert_eq!((free(&rig.scheduler, GPU), free(&rig.scheduler, HOST)), (10, 4), "claimed units stay free");
    assert!(rig.scheduler.try_reserve(host(1)).is_err(), "equal rank obeys the claim");
    assert!(rig.scheduler.try_reserve(gpu(1)).is_err(), "also where the waiter lacks nothing");
    drop(take(&rig.scheduler, host(4).priority(Priority::High)));
    let gpu_lease = take(&rig.scheduler, gpu(10).priority(Priority::High));
    drop(held);
    assert_waits(&mut waiting);
    drop(gpu_lease);
    drop(granted(&mut waiting));
    assert_untouched(&rig.scheduler);
}

/// P08.
#[test]
fn p08_a_release_wakes_those_that_can_run_and_nobody_else() {
    let rig = Rig::loans(10, 10);
    let (gpu_held, host_held) = (take(&rig.scheduler, gpu(10)), take(&rig.scheduler, host(10)));
    let mut wants_host = queued(&rig.scheduler, host(1));
    let mut wants_both = queued(&rig.scheduler, gpu(1).host(1u64));
    let mut wants_gpu = queued(&rig.scheduler, gpu(3).priority(Priority::Low));
    drop(gpu_held);
    assert_waits(&mut wants_host);
    assert_waits(&mut wants_both);
    drop(granted(&mut wants_gpu));
    drop(host_held);
    drop((granted(&mut wants_host), granted(&mut wants_both)));
    assert_untouched(&rig.scheduler);
}

/// P09, and R11: the look-ahead bounds those looked at in vain, not the grants.
#[test]
fn p09_one_release_grants_everybody_who_fits() {
    let config = Config::new().with(Budget::loan(GPU, 1_000)).with_look_ahead(1);
    let rig = Rig::new(config);
    let held = take(&rig.scheduler, gpu(1_000));
    let mut all: Vec<_> = (0..1_000).map(|_| queued(&rig.scheduler, gpu(1))).collect();
    drop(held);
    let leases: Vec<_> = all.iter_mut().map(granted).collect();
    assert_eq!(free(&rig.scheduler, GPU), 0);
    drop(leases);
    assert_untouched(&rig.scheduler);
}

/// P09, second form: both levels run when both fit.
#[test]
fn p09_one_release_grants_a_high_and_a_low_waiter_if_both_fit() {
    let rig = Rig::loans(2, 1);
    let held = take(&rig.scheduler, gpu(2));
    let mut low = queued(&rig.scheduler, gpu(1).priority(Priority::Low));
    let mut high = queued(&rig.scheduler, gpu(1).priority(Priority::High));
    drop(held);
    drop((granted(&mut high), granted(&mut low)));
}

/// P12: a spent cooperative budget is not "unavailable".
#[tokio::test]
async fn p12_without_cooperative_budget_nothing_is_asked_and_nothing_is_lost() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let held = take(&scheduler, gpu(10));
    let mut first = queued(&scheduler, gpu(10));
    let mut second = queued(&scheduler, gpu(10));
    let mut held = Some(held);
    let mut fresh = task::spawn(scheduler.reserve(gpu(1)));
    poll_fn(|cx| {
        spend_budget(cx);
        drop(held.take());
        assert!(first.poll().is_pending() && second.poll().is_pending() && fresh.poll().is_pending());
        assert!(!fresh.is_waiting(), "it asked");
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    let lease = granted(&mut first);
    assert!(second.poll().is_pending());
    assert!(fresh.is_woken() && fresh.poll().is_pending() && fresh.is_waiting());
    drop(lease);
    drop(granted(&mut second));
    drop(granted(&mut fresh));
    assert_untouched(&scheduler);
}

fn spend_budget(cx: &mut Context<'_>) {
    while let Poll::Ready(progress) = coop::poll_proceed(cx) {
        progress.made_progress();
    }
}

/// P15.
#[test]
fn p15_the_waker_of_the_last_poll_is_the_one_that_is_woken() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut reservation = rig.scheduler.reserve(gpu(1));
    let (mut before, mut last) = (task::spawn(()), task::spawn(()));
    for polling in [&mut before, &mut last] {
        assert!(polling.enter(|cx, _| Pin::new(&mut reservation).poll(cx)).is_pending());
    }
    drop(held);
    assert!(!before.is_woken() && last.is_woken());
    assert!(last.enter(|cx, _| Pin::new(&mut reservation).poll(cx)).is_ready());
}

#[tokio::test]
async fn a_reservation_may_move_between_tasks_between_polls() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let held = take(&scheduler, gpu(10));
    let mut reservation = queued(&scheduler, gpu(10)).into_inner();
    for _ in 0..3 {
        let task = tokio::spawn(async move {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut reservation).poll(cx).is_pending())).await;
            (polled, reservation)
        });
        let polled;
        (polled, reservation) = task.await.unwrap();
        assert!(polled);
    }
    let last = tokio::spawn(reservation);
    tokio::task::yield_now().await;
    drop(held);
    drop(last.await.unwrap().unwrap());
    assert_untouched(&scheduler);
}

#[test]
fn a_reservation_that_gave_its_result_stays_pending_and_is_terminated() {
    let rig = Rig::loans(10, 10);
    let mut granted = task::spawn(rig.scheduler.reserve(gpu(1)));
    assert!(!granted.is_terminated());
    let lease = granted.poll();
    assert!(matches!(&lease, Poll::Ready(Ok(_))));
    assert!(granted.is_terminated() && granted.poll().is_pending());
    let mut refused = task::spawn(rig.scheduler.reserve(gpu(11)));
    assert!(matches!(refused.poll(), Poll::Ready(Err(ReserveError::NeverFits(_)))));
    assert!(refused.is_terminated() && refused.poll().is_pending());
    drop((lease, granted, refused));
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_full_queue_sheds_the_newcomer_and_leaves_the_others_alone() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_max_waiters(2));
    let held = take(&rig.scheduler, gpu(10));
    let mut first = queued(&rig.scheduler, gpu(1));
    let second = queued(&rig.scheduler, gpu(1));
    let mut third = task::spawn(rig.scheduler.reserve(gpu(1).priority(Priority::Critical)));
    assert!(matches!(third.poll(), Poll::Ready(Err(ReserveError::Shed { limit: 2, .. }))));
    drop(second);
    let mut fourth = queued(&rig.scheduler, gpu(1));
    drop(held);
    drop((granted(&mut first), granted(&mut fourth)));
    assert_eq!(rig.scheduler.stats().level(Priority::Critical).shed, 1);
}

/// P07, P52, P59: no wake-up is lost between a failed attempt and the wait, and the capacity is never exceeded.
#[test]
fn p07_p52_p59_threads_that_reserve_and_release_never_hang_and_never_exceed_the_capacity() {
    const CAPACITY: u64 = 3;
    for threads in 1..=8u64 {
        let rig = Rig::loans(CAPACITY, CAPACITY);
        let (used, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        thread::scope(|scope| {
            for seed in 0..threads {
                let (scheduler, used, most) = (rig.scheduler.clone(), Arc::clone(&used), Arc::clone(&most));
                scope.spawn(move || {
                    let mut dice = Dice(seed);
                    for _ in 0..2_000 / threads {
                        let units = 1 + dice.below(CAPACITY);
                        let level = Priority::ALL[dice.below(5) as usize];
                        let request = if dice.below(2) == 0 { gpu(units) } else { gpu(units).host(units) };
                        let lease = block_on(scheduler.reserve(request.priority(level))).unwrap();
                        most.fetch_max(used.fetch_add(units, Ordering::SeqCst) + units, Ordering::SeqCst);
                        used.fetch_sub(units, Ordering::SeqCst);
                        drop(lease);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= CAPACITY, "{threads} threads");
        assert_eq!(rig.scheduler.stats().grants(), 2_000 / threads * threads);
        assert!(rig.scheduler.stats().budget(GPU).unwrap().peak <= CAPACITY);
        assert_untouched(&rig.scheduler);
    }
}

/// A waker runs code of whoever made it, so it must not run under a lock of the scheduler.
#[test]
fn a_waker_may_call_the_scheduler_when_it_is_woken_and_when_it_is_dropped() {
    struct Nosy(Scheduler, Arc<AtomicU64>);
    impl std::task::Wake for Nosy {
        fn wake(self: Arc<Self>) {
            drop(take(&self.0, host(1)));
        }
    }
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.0.verify().unwrap();
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
    let rig = Rig::loans(10, 10);
    let dropped = Arc::new(AtomicU64::new(0));
    let nosy = || Waker::from(Arc::new(Nosy(rig.scheduler.clone(), Arc::clone(&dropped))));
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = rig.scheduler.reserve(gpu(1));
    let mut cancelled = rig.scheduler.reserve(gpu(1));
    for reservation in [&mut waiting, &mut cancelled] {
        for _ in 0..2 {
            assert!(Pin::new(&mut *reservation).poll(&mut Context::from_waker(&nosy())).is_pending());
        }
    }
    assert_eq!(dropped.load(Ordering::Relaxed), 2, "replaced wakers are dropped");
    drop(cancelled);
    assert_eq!(dropped.load(Ordering::Relaxed), 3, "the waker of a cancelled wait is dropped");
    drop(held);
    assert_eq!(dropped.load(Ordering::Relaxed), 4, "a waker is used up by the wake");
    drop(waiting);
    assert_untouched(&rig.scheduler);
}
