//! Scenarios of the notes about a pool of GPU blocks, where leases decide them. Those of blocks alone are in
//! `tests/memory`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar::memory::{HostSpace, SimulatedDevice};
use bursar::tiered::{AllocateError, Block, OverUse, Tiers};
use bursar::{KIB, MIB, Placement, Priority, Request, Scheduler, Tier};

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
