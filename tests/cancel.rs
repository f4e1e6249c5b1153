//! A reservation that is given up, in whatever state, gives everything back in the same call (C5).

mod common;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use bursar::{Budget, Config, Priority, ReserveError, Scheduler};
use common::*;
use tokio_test::task;

#[test]
fn p01_dropping_a_blocked_head_grants_the_next_in_the_same_call() {
    let rig = Rig::strict(10, 10);
    let held = take(&rig.scheduler, gpu(5));
    let head = queued(&rig.scheduler, gpu(8));
    let mut next = queued(&rig.scheduler, gpu(3));
    drop(head);
    let lease = granted(&mut next);
    drop((held, lease));
    assert_untouched(&rig.scheduler);
}

/// P01 across budgets: the head blocks others at each budget that it is short of.
#[test]
fn p01_dropping_a_head_that_is_short_of_two_budgets_grants_those_behind_it_at_both() {
    let rig = Rig::strict(10, 10);
    let held = take(&rig.scheduler, gpu(5).host(5u64));
    let head = queued(&rig.scheduler, gpu(8).host(8u64));
    let mut behind = [queued(&rig.scheduler, gpu(3)), queued(&rig.scheduler, host(3))];
    drop(head);
    drop((held, behind.each_mut().map(granted)));
    assert_untouched(&rig.scheduler);
}

/// P02.
#[test]
fn p02_dropping_a_grant_that_was_not_polled_returns_all_of_it_and_grants_the_next_once() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10)).with(Budget::rate(IO, 10));
    let rig = Rig::new(config);
    let held = take(&rig.scheduler, gpu(10));
    let first = queued(&rig.scheduler, gpu(10).host(10u64).io(10u64));
    let mut second = queued(&rig.scheduler, gpu(6).host(6u64).io(10u64));
    let mut third = queued(&rig.scheduler, gpu(6).host(4u64));
    drop(held);
    assert!(first.is_woken());
    assert_eq!(rig.scheduler.stats().offered, 1);
    drop(first);
    assert_waits(&mut third);
    let lease = granted(&mut second);
    assert_eq!((free(&rig.scheduler, GPU), free(&rig.scheduler, HOST), free(&rig.scheduler, IO)), (4, 4, 0));
    drop(lease);
    drop(granted(&mut third));
    assert_untouched(&rig.scheduler);
}

/// P03, C5: every state that a reservation can be dropped in.
#[test]
fn p03_c5_a_bundle_dropped_in_any_state_leaves_nothing_behind() {
    type Reach = fn(&mut Rig, Waiting) -> Waiting;
    let states: [(&str, Reach); 6] = [
        ("unpolled", |rig, _| task::spawn(rig.scheduler.reserve(gpu(6).host(6u64)))),
        ("queued", |_, waiting| waiting),
        ("offered", |rig, waiting| {
            rig.scheduler.set_capacity(GPU, 20).unwrap();
            assert!(waiting.is_woken());
            waiting
        }),
        ("dormant", |rig, waiting| {
            rig.scheduler.set_capacity(GPU, 20).unwrap();
            let rival = queued(&rig.scheduler, host(10));
            rig.pass(100 * MS);
            assert_eq!(rig.scheduler.stats().expired_offers, 1);
            drop(rival);
            waiting
        }),
        ("late", |rig, waiting| {
            rig.pass(3_600_000 * MS);
            waiting
        }),
        ("granted", |rig, mut waiting| {
            rig.scheduler.set_capacity(GPU, 20).unwrap();
            assert!(waiting.poll().is_ready(), "the lease drops at once");
            waiting
        }),
    ];
    for (state, reach) in states {
        let mut rig = Rig::loans(10, 10);
        let held = take(&rig.scheduler, gpu(5));
        let waiting = queued(&rig.scheduler, gpu(6).host(6u64).deadline(3_600_000 * MS));
        let reached = reach(&mut rig, waiting);
        drop(reached);
        assert_eq!(rig.scheduler.stats().waiting, 0, "{state}");
        drop(held);
        assert_untouched(&rig.scheduler);
    }
}

/// P11.
#[test]
fn p11_the_count_of_waiters_returns_to_zero_in_any_order_of_drops() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10).host(10u64));
    let mut dice = Dice(11);
    for _ in 0..50 {
        let request = |at: usize| match at % 3 {
            0 => gpu(1),
            1 => host(1),
            _ => gpu(1).host(1u64),
        };
        let level = |at: usize| Priority::ALL[at % 5];
        let mut all: Vec<_> = (0..20).map(|at| queued(&rig.scheduler, request(at).priority(level(at)))).collect();
        assert_eq!(rig.scheduler.stats().waiting, 20);
        while !all.is_empty() {
            drop(all.swap_remove(dice.below(all.len() as u64) as usize));
            let stats = rig.scheduler.stats();
            assert_eq!(stats.waiting, all.len() as u64);
            rig.scheduler.verify().unwrap();
        }
        let stats = rig.scheduler.stats();
        assert!(stats.budgets.iter().all(|budget| budget.waiting == 0));
    }
    drop(held);
    assert_untouched(&rig.scheduler);
}

/// P13: whoever will never poll again is passed over.
#[test]
fn p13_a_leaked_reservation_at_the_head_is_passed_over() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    std::mem::forget(queued(&rig.scheduler, gpu(10)));
    let mut next = queued(&rig.scheduler, gpu(10));
    drop(held);
    assert_waits(&mut next);
    rig.pass(100 * MS);
    drop(granted(&mut next));
    drop(take(&rig.scheduler, gpu(10)));
    assert_untouched(&rig.scheduler);
}

/// P04: one task waits for a second reservation and does not poll the first, which was granted.
#[tokio::test(start_paused = true)]
async fn p04_a_task_that_polls_only_its_second_reservation_is_not_wedged() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let held = take(&scheduler, gpu(10));
    let mut first = queued(&scheduler, gpu(10));
    let mut second = Box::pin(scheduler.reserve(gpu(10)));
    assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(held);
    drop(second.await.expect("the offer to the first expires"));
    let first = first.poll();
    assert!(matches!(first, Poll::Ready(Ok(_))));
    drop(first);
    assert_untouched(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn p04_a_select_over_two_reservations_takes_one_and_gives_the_other_back() {
    let scheduler = Scheduler::builder().gpu(10u64).host(10u64).spawn().unwrap();
    for round in 0..20 {
        let held = (take(&scheduler, gpu(10)), take(&scheduler, host(10)));
        let release = tokio::spawn(async move {
            tokio::task::yield_now().await;
            if round % 2 == 0 { drop(held) } else { drop((held.1, held.0)) }
        });
        let lease = tokio::select! {
            lease = scheduler.reserve(gpu(10)) => lease,
            lease = scheduler.reserve(host(10)) => lease,
        };
        release.await.unwrap();
        drop(lease.unwrap());
        assert_untouched(&scheduler);
    }
}

#[tokio::test(start_paused = true)]
async fn p04_a_join_of_two_reservations_that_exclude_each_other_ends_at_the_deadline() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let second = scheduler.reserve(gpu(6).deadline(50 * MS));
    let (first, second) = tokio::join!(scheduler.reserve(gpu(6)), second);
    assert!(first.is_ok());
    assert!(matches!(second, Err(ReserveError::Late { waited, .. }) if waited == 50 * MS));
    drop(first);
    assert_untouched(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_reserve_in_a_loop_leaves_nothing_and_disturbs_nobody() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let held = take(&scheduler, gpu(10));
    let mut patient = queued(&scheduler, gpu(2));
    for _ in 0..100 {
        assert!(tokio::time::timeout(MS, scheduler.reserve(gpu(5))).await.is_err());
        assert_eq!(scheduler.stats().waiting, 1);
    }
    assert_eq!(scheduler.stats().level(Priority::Normal).cancelled, 100);
    drop(held);
    drop(granted(&mut patient));
    drop(tokio::time::timeout(MS, scheduler.reserve(gpu(5))).await.unwrap().unwrap());
    assert_untouched(&scheduler);
}

/// Wakers are the caller's code. One that panics must not cost anybody else the wake-up, or the books a unit.
#[test]
fn a_waker_that_panics_costs_nobody_else_the_grant() {
    struct Panics(AtomicUsize);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            panic!("a waker that panics");
        }
    }
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let woken = Arc::new(Panics(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut bad: Vec<_> = (0..2).map(|_| rig.scheduler.reserve(gpu(2))).collect();
    let mut poll_bad = |at: usize| Pin::new(&mut bad[at]).poll(&mut Context::from_waker(&waker));
    assert!(poll_bad(0).is_pending());
    let mut good = queued(&rig.scheduler, gpu(3));
    assert!(poll_bad(1).is_pending());
    let mut last = queued(&rig.scheduler, gpu(3));
    drop(bad.pop());
    drop(held);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    let leases = (granted(&mut good), granted(&mut last));
    let polled = Pin::new(&mut bad[0]).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(_))), "it was granted although its waker failed");
    drop((leases, polled));
    assert_untouched(&rig.scheduler);
}

/// C5, C1, P59: threads that wait, are cancelled, and release, all at once.
#[test]
fn c5_p59_cancelling_from_many_threads_loses_and_makes_nothing() {
    for threads in 1..=6 {
        let rig = Rig::loans(8, 8);
        let shared = Arc::new(Mutex::new(Vec::<Pin<Box<bursar::Reservation>>>::new()));
        let start = Arc::new(Barrier::new(threads));
        thread::scope(|scope| {
            for seed in 0..threads {
                let (scheduler, shared, start) = (rig.scheduler.clone(), Arc::clone(&shared), Arc::clone(&start));
                scope.spawn(move || {
                    start.wait();
                    let mut dice = Dice(100 + seed as u64);
                    (0..2_000).for_each(|_| wait_poll_or_cancel(&scheduler, &shared, &mut dice));
                });
            }
        });
        rig.scheduler.verify().unwrap();
        shared.lock().unwrap().clear();
        assert_untouched(&rig.scheduler);
        assert!(rig.scheduler.stats().budgets.iter().all(|budget| budget.peak <= budget.capacity));
    }
}

/// Makes, polls (and drops the lease of) or drops a reservation that any thread may have made.
fn wait_poll_or_cancel(scheduler: &Scheduler, shared: &Mutex<Vec<Pin<Box<bursar::Reservation>>>>, dice: &mut Dice) {
    let units = 1 + dice.below(8);
    let taken = {
        let mut shared = shared.lock().unwrap();
        let at = dice.below(shared.len() as u64 + 1) as usize;
        (at < shared.len()).then(|| shared.swap_remove(at))
    };
    let level = Priority::ALL[dice.below(5) as usize];
    let mut reservation = taken.unwrap_or_else(|| Box::pin(scheduler.reserve(gpu(units).host(units).priority(level))));
    match dice.below(3) {
        0 => drop(reservation),
        _ => match reservation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(lease) => drop(lease.unwrap()),
            Poll::Pending => shared.lock().unwrap().push(reservation),
        },
    }
}
