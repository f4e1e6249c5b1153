//! Scenarios of the notes about a pool of GPU blocks, where leases decide them. Those of blocks alone are in
//! `tests/memory`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bursar::memory::{HostSpace, SimulatedDevice};
use bursar::tiered::{AllocateError, Block, OverUse, Tiers};
use bursar::{
    KIB, MIB, Placement, Priority, Request, RequestError, ReserveError, Scheduler, SpaceId, Tier, TryReserveError,
};

use crate::backends::{gone, rig, rigs, space};
use crate::paper::{GPU0, Paper};

#[tokio::test]
async fn scenario_1_of_the_pool_blocks_of_every_size_come_and_go_inside_one_lease() {
    for rig in rigs(MIB, MIB).await {
        let lease = rig.lease(MIB, OverUse::Fail);
        let mut blocks = Vec::new();
        for bytes in (0..6).map(|power| (4 * KIB) << (2 * power)) {
            blocks.push(lease.allocate_in(rig.id, bytes).await.unwrap());
        }
        let bytes: u64 = blocks.iter().map(Block::capacity).sum();
        assert_eq!((rig.usage().blocks, rig.usage().allocated, bytes), (6, 5_460 * KIB, 5_460 * KIB));
        for block in blocks {
            gone(block).await;
        }
        assert_eq!((rig.of(&lease).allocated, rig.of(&lease).peak), (0, 5_460 * KIB));
        drop(lease);
        rig.assert_untouched();
    }
}

/// 12: of eleven the last went to the host without saying so, and afterwards none fitted the device any more.
#[tokio::test]
async fn scenario_12_of_the_pool_the_device_takes_ten_and_the_eleventh_says_that_it_is_on_the_host() {
    let scheduler = Scheduler::builder().gpu(100 * MIB).host(100 * MIB).spawn().unwrap();
    let host = HostSpace::new(space(Tier::Host), 100 * MIB);
    let builder = Tiers::builder().space(SimulatedDevice::new(GPU0, 100 * MIB)).space(host);
    let tiers = builder.build(&scheduler).unwrap();
    for _ in 0..2 {
        let mut held = Vec::new();
        for number in 0..11 {
            let request = scheduler.place(10 * MIB, &Placement::Ordered(vec![Tier::Gpu, Tier::Host])).unwrap();
            let mut lease = tiers.reserve(request).await.unwrap();
            let id = if lease.amounts().get(GPU0.budget().unwrap()) > 0 { GPU0 } else { space(Tier::Host) };
            let block = lease.allocate_in(id, 10 * MIB).await.unwrap();
            assert_eq!(block.space(), if number < 10 { GPU0 } else { space(Tier::Host) });
            held.push((lease, block));
        }
        let only_device = scheduler.try_reserve(Request::new().gpu(10 * MIB));
        assert!(only_device.is_err());
    }
    assert_eq!(tiers.usage(GPU0).unwrap().total, 0);
}

#[tokio::test]
async fn scenario_13_of_the_pool_a_limit_of_a_mebibyte_serves_two_halves_and_again_when_they_are_freed() {
    for rig in rigs(64 * KIB, 64 * KIB).await {
        for _ in 0..2 {
            let lease = rig.lease(64 * KIB, OverUse::Fail);
            let halves = [rig.block(&lease, 32 * KIB).await, rig.block(&lease, 32 * KIB).await];
            assert!(matches!(lease.allocate_in(rig.id, 512 * KIB).await, Err(AllocateError::OverReserved { .. })));
            for half in halves {
                gone(half).await;
            }
        }
        rig.assert_untouched();
    }
}

/// 17: a failing request was counted three or seven times, and left a trace in the books.
/// 14: the ladder from 8 MiB to 256 KiB. What is free decides the rung; a factor that is none is refused beforehand.
#[tokio::test]
async fn scenario_14_of_the_pool_every_rung_of_the_ladder_is_taken_when_no_higher_one_is_free() {
    let paper = Paper::new(8 * MIB, 1);
    let rig = rig(paper.clone(), 8 * MIB);
    let wanted = || Request::new().gpu(8 * MIB).down_to(rig.budget, 256 * KIB).ladder(0.5);
    for rung in (0..6).map(|power| (8 * MIB) >> power) {
        for spare in [0, rung / 2] {
            let held = (8 * MIB).checked_sub(rung + spare).filter(|&held| held > 0);
            let held = held.map(|bytes| rig.scheduler.try_reserve(Request::new().gpu(bytes)).unwrap());
            let mut lease = rig.tiers.reserve(wanted()).await.unwrap();
            assert_eq!(lease.amounts().get(rig.budget), rung);
            assert_eq!(lease.allocate_in(GPU0, rung).await.unwrap().capacity(), rung);
            // Of that rung, and not of the next higher one.
            assert!(lease.allocate_in(GPU0, rung + 1).await.is_err());
            drop((held, lease));
        }
    }
    let _held = rig.scheduler.try_reserve(Request::new().gpu(8 * MIB - 256 * KIB + 1)).unwrap();
    assert!(matches!(rig.scheduler.try_reserve(wanted()), Err(TryReserveError::NotNow(_))));
    for factor in [1.0, 0.0, f64::NAN] {
        let refused = rig.scheduler.try_reserve(wanted().ladder(factor));
        assert!(matches!(refused, Err(TryReserveError::Invalid(RequestError::Ladder { .. }))), "{factor}");
    }
}

#[tokio::test]
async fn scenario_17_of_the_pool_requests_that_fail_are_counted_once_and_change_nothing() {
    let paper = Paper::new(512 * MIB, 1);
    let rig = rig(paper.clone(), 512 * MIB);
    let full = rig.tiers.reserve(Request::new().gpu(512 * MIB)).await.unwrap();
    let before = (rig.usage(), paper.seen());
    for _ in 0..10 {
        assert!(rig.scheduler.try_reserve(Request::new().gpu(512 * MIB)).is_err());
        assert!(rig.tiers.allocate(GPU0, 512 * MIB).await.is_err());
    }
    assert_eq!((rig.usage(), paper.seen()), before);
    assert_eq!(rig.scheduler.stats().level(Priority::Normal).not_now, 20);
    drop(full);
    rig.assert_untouched();
}

/// 20: locks of two classes taken in two orders, and a wait that could not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scenario_20_of_the_pool_two_spaces_named_in_two_orders_never_block_each_other_for_ever() {
    let scheduler = Scheduler::builder().gpu(MIB).host(MIB).spawn().unwrap();
    let host = HostSpace::new(space(Tier::Host), MIB);
    let tiers = Tiers::builder().space(SimulatedDevice::new(GPU0, MIB)).space(host).build(&scheduler).unwrap();
    let tasks = [[GPU0, space(Tier::Host)], [space(Tier::Host), GPU0]].map(|order| {
        let tiers = tiers.clone();
        tokio::spawn(async move {
            for _ in 0..500 {
                let amount = |request: Request, id: SpaceId| request.amount(id.budget().unwrap(), MIB);
                let lease = tiers.reserve(order.into_iter().fold(Request::new(), amount)).await.unwrap();
                for id in order {
                    lease.allocate_in(id, MIB).await.unwrap();
                }
            }
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!([GPU0, space(Tier::Host)].map(|id| tiers.usage(id).unwrap().total), [0, 0]);
}

/// 20: who may wait 100 ms for what is held for 500 ms is told after 100 ms.
#[tokio::test(start_paused = true)]
async fn scenario_20_of_the_pool_who_waits_too_long_is_told_in_time_and_takes_nothing_along() {
    let rig = rig(Paper::new(1_024, 1), 1_024);
    let held = rig.tiers.reserve(Request::new().gpu(1_024_u64)).await.unwrap();
    let block = held.allocate_in(GPU0, 1_024).await.unwrap();
    let start = tokio::time::Instant::now();
    let holder = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        // Given up before it is polled: the block goes all the same.
        drop(block.free());
        drop(held);
    };
    let waiter = async {
        let request = Request::new().gpu(1_u64).deadline(Duration::from_millis(100));
        let late = rig.tiers.reserve(request).await;
        assert!(matches!(late, Err(ReserveError::Late { .. })), "{late:?}");
        assert_eq!(start.elapsed(), Duration::from_millis(100));
    };
    tokio::join!(holder, waiter);
    rig.assert_untouched();
}

/// 24, 25: the pool refused what had just been freed.
#[tokio::test]
async fn scenarios_24_and_25_of_the_pool_what_was_freed_can_be_had_again_every_time() {
    for rig in rigs(MIB, MIB).await {
        let lease = rig.lease(MIB, OverUse::Fail);
        for _ in 0..30 {
            let pair = [rig.block(&lease, 512 * KIB).await, rig.block(&lease, 512 * KIB).await];
            for block in pair {
                gone(block).await;
            }
        }
        let mut forty = Vec::new();
        for _ in 0..2 {
            for block in forty.drain(..) {
                gone(block).await;
            }
            for _ in 0..40 {
                forty.push(rig.block(&lease, 24 * KIB).await);
            }
        }
        drop(lease);
        for block in forty {
            gone(block).await;
        }
        rig.assert_untouched();
    }
}

/// 27, and the leases wait for each other instead of failing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scenario_27_of_the_pool_sixteen_tasks_at_a_limit_of_ten_megabytes_never_have_more_and_all_are_served() {
    let paper = Paper::new(10_000_000, 1);
    let rig = Arc::new(rig(paper.clone(), 10_000_000));
    let served = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (rig, served) = (Arc::clone(&rig), Arc::clone(&served));
            tokio::spawn(async move {
                for _ in 0..50 {
                    let lease = rig.tiers.reserve(Request::new().gpu(1_000_000_u64)).await.unwrap();
                    let _block = lease.allocate_in(GPU0, 1_000_000).await.unwrap();
                    tokio::task::yield_now().await;
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(served.load(Ordering::Relaxed), 800);
    assert!(paper.seen().2 <= 10_000_000);
    rig.assert_untouched();
}
