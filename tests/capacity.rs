//! Capacities that change while the scheduler runs.

mod common;

use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;

use bursar::{BudgetId, CapacityError, Priority, ReserveError, TryReserveError};
use common::*;
use tokio_test::task;

#[test]
fn p10_more_capacity_is_granted_in_the_same_call() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = [queued(&rig.scheduler, gpu(4)), queued(&rig.scheduler, gpu(6)), queued(&rig.scheduler, gpu(1))];
    rig.scheduler.set_capacity(GPU, 20).unwrap();
    let [first, second, third] = &mut waiting;
    let leases = (granted(first), granted(second));
    assert_waits(third);
    drop((held, leases));
    drop(granted(third));
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_shrink_below_what_is_lent_drains_visibly_and_takes_from_nobody() {
    let rig = Rig::loans(100, 10);
    let mut lease = take(&rig.scheduler, gpu(80));
    rig.scheduler.set_capacity(GPU, 50).unwrap();
    let figures = || {
        let stats = rig.scheduler.stats();
        let gpu = stats.budget(GPU).unwrap();
        (gpu.capacity, gpu.free, gpu.granted, gpu.deficit)
    };
    assert_eq!(figures(), (50, 0, 80, 30));
    assert_eq!(lease.get(GPU), 80);
    let mut waiting = queued(&rig.scheduler, gpu(1));
    lease.shrink(&bundle(&[(GPU, 30)])).unwrap();
    assert_eq!(figures(), (50, 0, 50, 0));
    assert_waits(&mut waiting);
    lease.shrink(&bundle(&[(GPU, 1)])).unwrap();
    drop((granted(&mut waiting), lease));
    assert_eq!(figures(), (50, 50, 0, 0));
    assert_untouched(&rig.scheduler);
}

/// P22, C6: whoever can no longer fit hears it at once; the others stay where they are.
#[test]
fn p22_a_shrink_ends_those_who_can_never_fit_and_nobody_else() {
    let rig = Rig::loans(100, 10);
    let held = take(&rig.scheduler, gpu(60));
    let mut large = queued(&rig.scheduler, gpu(51).priority(Priority::Critical));
    let mut exact = queued(&rig.scheduler, gpu(50));
    rig.scheduler.set_capacity(GPU, 50).unwrap();
    match outcome(&mut large) {
        Err(ReserveError::NeverFits(short)) => assert_eq!((short.budget, short.asked, short.limit), (GPU, 51, 50)),
        other => panic!("{other:?}"),
    }
    assert_waits(&mut exact);
    drop(held);
    drop(granted(&mut exact));
    assert_untouched(&rig.scheduler);
}

#[test]
fn p22_more_than_the_capacity_is_refused_at_once_whatever_is_free_or_waits() {
    let rig = Rig::loans(10, 10);
    let refuse = |units: u64| {
        let mut reservation = task::spawn(rig.scheduler.reserve(gpu(units).host(1u64)));
        let refused = reservation.poll();
        assert!(matches!(&refused, Poll::Ready(Err(ReserveError::NeverFits(s))) if s.budget == GPU), "{refused:?}");
        let attempt = rig.scheduler.try_reserve(gpu(units).host(1u64));
        assert!(matches!(attempt, Err(TryReserveError::NeverFits(_))), "{attempt:?}");
    };
    refuse(11);
    refuse(i64::MAX as u64);
    let held = take(&rig.scheduler, gpu(10));
    let waiting = queued(&rig.scheduler, gpu(10));
    refuse(11);
    drop((held, waiting));
    rig.scheduler.set_capacity(GPU, 0).unwrap();
    refuse(1);
    assert_eq!(rig.scheduler.stats().level(Priority::Normal).never_fits, 8);
}

#[test]
fn p22_a_capacity_of_zero_ends_every_wait_and_can_be_raised_again() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(1));
    rig.scheduler.set_capacity(GPU, 0).unwrap();
    assert!(matches!(outcome(&mut waiting), Err(ReserveError::NeverFits(_))));
    drop(held);
    rig.scheduler.set_capacity(GPU, 10).unwrap();
    drop(take(&rig.scheduler, gpu(10)));
    assert_untouched(&rig.scheduler);
}

/// P22: what is more than the capacity only after rounding is more than the capacity.
#[test]
fn p22_a_share_that_exceeds_the_capacity_only_after_rounding_never_fits() {
    use bursar::{Budget, Config, Request};
    let half = Config::new().with(Budget::loan(BudgetId::ATTENTION, 500_000));
    let rig = Rig::new(half);
    drop(take(&rig.scheduler, Request::new().attention(0.500_000_4)));
    let refused = rig.scheduler.try_reserve(Request::new().attention(0.500_000_6));
    assert!(matches!(refused, Err(TryReserveError::NeverFits(short)) if short.asked == 500_001));
}

/// P22 for an offer: what was granted before the shrink is granted.
#[test]
fn a_shrink_takes_back_no_offer() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut offered = queued(&rig.scheduler, gpu(8));
    drop(held);
    rig.scheduler.set_capacity(GPU, 4).unwrap();
    assert_eq!(rig.scheduler.stats().budget(GPU).unwrap().deficit, 4);
    let lease = granted(&mut offered);
    assert_eq!(lease.get(GPU), 8);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_change_that_makes_no_sense_is_refused_and_changes_nothing() {
    let rig = Rig::loans(10, 10);
    let too_large = CapacityError::TooLarge { budget: GPU, what: "capacity", value: 1 << 63 };
    assert_eq!(rig.scheduler.set_capacity(GPU, 1 << 63), Err(too_large));
    let unknown = rig.scheduler.set_capacity(BudgetId::DISK, 5);
    assert!(matches!(unknown, Err(CapacityError::UnknownBudget { budget: BudgetId::DISK, .. })));
    assert_eq!(free(&rig.scheduler, GPU), 10);
    rig.scheduler.set_capacity(GPU, i64::MAX as u64).unwrap();
    drop(take(&rig.scheduler, gpu(i64::MAX as u64)));
    assert_untouched(&rig.scheduler);
}

/// P16: a change of capacity does not write back a state that it read before others changed it.
#[test]
fn p16_changing_the_capacity_while_others_reserve_and_release_undoes_nobodys_update() {
    let rig = Rig::loans(64, 64);
    let start = Arc::new(Barrier::new(4));
    thread::scope(|scope| {
        for seed in 0..3 {
            let (scheduler, start) = (rig.scheduler.clone(), Arc::clone(&start));
            scope.spawn(move || {
                start.wait();
                let mut dice = Dice(seed);
                for _ in 0..3_000 {
                    drop(block_on(scheduler.reserve(gpu(1 + dice.below(8)))).unwrap());
                }
            });
        }
        start.wait();
        let mut dice = Dice(99);
        for _ in 0..3_000 {
            // At least what one asks, at times less than what three hold.
            rig.scheduler.set_capacity(GPU, 8 + dice.below(57)).unwrap();
        }
        rig.scheduler.set_capacity(GPU, 64).unwrap();
    });
    assert_eq!(free(&rig.scheduler, GPU), 64);
    assert_untouched(&rig.scheduler);
}

/// P22, C6: an expired offer is no grant any more, so what no longer fits fails, and holds nobody up.
#[test]
fn p22_a_waiter_whose_offer_expired_after_a_shrink_fails_instead_of_waiting_for_ever() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut slow = queued(&rig.scheduler, gpu(8));
    drop(held);
    rig.scheduler.set_capacity(GPU, 4).unwrap();
    let mut next = queued(&rig.scheduler, gpu(2));
    rig.pass(100 * MS);
    drop(granted(&mut next));
    let polled = slow.poll();
    assert!(matches!(polled, Poll::Ready(Err(ReserveError::NeverFits(_)))), "{polled:?}");
    drop(take(&rig.scheduler, gpu(4)));
}
