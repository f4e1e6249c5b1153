//! What other processes use of a device, seen by looking at it time and again.

use std::sync::Arc;
use std::time::Duration;

use bursar::memory::{SimulatedDevice, SpaceError};
use bursar::tiered::{AllocateError, OverUse, Tiers};
use bursar::{Budget, BudgetId, Config, Request, ReserveError, Scheduler, TryReserveError};
use tokio_test::task;

use crate::backends::rig;
use crate::paper::{GPU0, Paper};

/// A device of 100 bytes of which 80 are lent.
fn shared_device() -> (Scheduler, Arc<SimulatedDevice>, Tiers) {
    let config = Config::new().with(Budget::loan(BudgetId::GPU, 80));
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let gpu = Arc::new(SimulatedDevice::new(GPU0, 100));
    let tiers = Tiers::builder().shared_space(gpu.clone()).build(&scheduler).unwrap();
    (scheduler, gpu, tiers)
}

#[tokio::test]
async fn a_budget_lends_the_smaller_of_what_was_configured_and_what_others_leave() {
    let (scheduler, gpu, tiers) = shared_device();
    for (others, lent) in [(0, 80), (30, 50), (1, 79), (80, 0), (1_000, 0), (0, 80)] {
        gpu.used_by_others(others);
        assert_eq!(tiers.sample().await, []);
        assert_eq!(tiers.usage(GPU0).unwrap().limit, lent, "others use {others}");
        let refused = scheduler.try_reserve(Request::new().gpu(lent + 1));
        assert!(matches!(refused, Err(TryReserveError::NeverFits(_))), "{refused:?}");
        if lent > 0 {
            let lease = tiers.attach(scheduler.try_reserve(Request::new().gpu(lent)).unwrap(), OverUse::Fail).unwrap();
            drop(lease.allocate_in(GPU0, lent).await.unwrap());
        }
        scheduler.verify().unwrap();
    }
}

#[tokio::test]
async fn what_is_lent_already_stays_and_nothing_more_is_granted_until_enough_came_back() {
    let (scheduler, gpu, tiers) = shared_device();
    let (large, small) =
        (tiers.reserve(Request::new().gpu(50u64)).await, tiers.reserve(Request::new().gpu(30u64)).await);
    let (large, small) = (large.unwrap(), small.unwrap());
    let block = large.allocate_in(GPU0, 50).await.unwrap();
    gpu.used_by_others(40);
    tiers.sample().await;
    let mut waiting = task::spawn(tiers.reserve(Request::new().gpu(30u64)));
    assert!(waiting.poll().is_pending());
    drop(small);
    assert!(waiting.poll().is_pending(), "50 of 40 are lent");
    scheduler.verify().unwrap();
    drop(large);
    assert!(waiting.poll().is_pending(), "a block keeps them");
    drop(block);
    assert!(waiting.is_woken() && matches!(waiting.poll(), std::task::Poll::Ready(Ok(_))));
    drop(waiting);
    assert_eq!((gpu.used_by_others(0), tiers.sample().await.len()), ((), 0));
    drop(scheduler.try_reserve(Request::new().gpu(80u64)).unwrap());
    scheduler.verify().unwrap();
}

#[tokio::test]
async fn a_capacity_that_was_set_by_hand_stays_until_something_else_is_found() {
    let (scheduler, gpu, tiers) = shared_device();
    scheduler.set_capacity(BudgetId::GPU, 10).unwrap();
    tiers.sample().await;
    assert_eq!(tiers.usage(GPU0).unwrap().limit, 10);
    gpu.used_by_others(30);
    tiers.sample().await;
    assert_eq!(tiers.usage(GPU0).unwrap().limit, 50);
}

#[tokio::test(start_paused = true)]
async fn who_is_kept_sampled_sees_others_come_and_go_and_the_task_ends_with_the_tiers() {
    let (scheduler, gpu, tiers) = shared_device();
    let every = Duration::from_millis(100);
    let sampling = tokio::spawn(tiers.keep_sampled(every));
    gpu.used_by_others(50);
    tokio::time::sleep(every * 2).await;
    let refused = scheduler.reserve(Request::new().gpu(40u64)).await;
    assert!(matches!(refused, Err(ReserveError::NeverFits(_))), "{refused:?}");
    gpu.used_by_others(0);
    tokio::time::sleep(every * 2).await;
    let lease = tiers.reserve(Request::new().gpu(80u64)).await.unwrap();
    drop(tiers);
    tokio::time::sleep(every * 2).await;
    assert!(!sampling.is_finished(), "a lease is there");
    drop(lease);
    tokio::time::sleep(every * 2).await;
    sampling.await.unwrap();
}

#[tokio::test]
async fn a_device_that_is_lost_lends_nothing_and_whoever_waits_is_told() {
    let paper = Paper::new(100, 1);
    let rig = rig(paper.clone(), 80);
    let lease = rig.tiers.reserve(Request::new().gpu(80u64)).await.unwrap();
    let mut waiting = task::spawn(rig.tiers.reserve(Request::new().gpu(1u64)));
    assert!(waiting.poll().is_pending());
    paper.break_down(true);
    let lost = SpaceError::Lost { space: GPU0, reason: "fell off the bus".into() };
    assert_eq!(rig.tiers.sample().await, [(GPU0, lost.clone())]);
    assert!(waiting.is_woken());
    assert!(matches!(waiting.poll(), std::task::Poll::Ready(Err(ReserveError::NeverFits(_)))));
    let refused = lease.allocate_in(GPU0, 1).await.unwrap_err();
    assert_eq!(refused, AllocateError::Space { source: lost, holders: Vec::new() });
    drop(lease);
    paper.break_down(false);
    assert_eq!(rig.tiers.sample().await, []);
    drop(rig.tiers.reserve(Request::new().gpu(80u64)).await.unwrap());
    drop(waiting);
    rig.assert_untouched();
}
