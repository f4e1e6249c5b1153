//! Bugs that were found in another memory manager, and are not to be found here. The numbers are those of the notes
//! about it; those that concern pools and spaces alone are in `tests/memory`.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bursar::tiered::{AllocateError, MemoryLease, OverUse};
use bursar::{
    Activity, Amounts, Budget, BudgetId, CloseReason, Config, Placement, PlacementError, Request, ReserveError,
    Scheduler, Share, SpaceId, Tier,
};
use tokio_test::task;

use crate::backends::{Rig, gone, rig, rigs, space, units};
use crate::paper::{GPU0, Paper};

fn gpu(bytes: u64) -> Request {
    Request::new().gpu(bytes)
}

#[track_caller]
fn ended<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(ended) => ended,
        Poll::Pending => panic!("it still waits"),
    }
}

/// 1: who asked for a place where there is none waited for ever.
#[tokio::test]
async fn bug_1_asking_where_there_is_no_space_fails_at_once_and_closing_ends_every_wait() {
    let rig = rig(Paper::new(10, 1), 10);
    let nowhere = rig.scheduler.place(4_u64, &Placement::UpgradeFrom(GPU0));
    assert!(matches!(nowhere, Err(PlacementError::NoTier)), "{nowhere:?}");
    let unknown = rig.tiers.reserve(Request::new().disk(1_u64)).await;
    assert!(matches!(unknown, Err(ReserveError::Invalid(_))));
    let full = rig.tiers.reserve(gpu(10)).await.unwrap();
    let mut waiting = task::spawn(rig.tiers.reserve(gpu(1)));
    assert!(waiting.poll().is_pending());
    rig.scheduler.close();
    assert!(waiting.is_woken());
    assert!(matches!(ended(waiting.poll()), Err(ReserveError::Closed { reason: CloseReason::Closed, .. })));
    drop(full);
}

/// 2: shutting down woke one of those who waited.
#[tokio::test]
async fn bug_2_closing_wakes_all_who_wait() {
    let rig = rig(Paper::new(10, 1), 10);
    let _full = rig.tiers.reserve(gpu(10)).await.unwrap();
    let mut waiting: Vec<_> = (0..4).map(|_| task::spawn(rig.tiers.reserve(gpu(4)))).collect();
    assert!(waiting.iter_mut().all(|waiting| waiting.poll().is_pending()));
    rig.scheduler.close();
    for mut waiting in waiting {
        assert!(waiting.is_woken());
        assert!(matches!(ended(waiting.poll()), Err(ReserveError::Closed { .. })));
    }
}

/// 3: the wake-up for a free block went to a waiter that it was too small for, and was lost.
#[tokio::test]
async fn bug_3_who_fits_is_granted_though_a_larger_one_waits_in_front() {
    let rig = rig(Paper::new(10, 1), 10);
    let (six, four) = (rig.tiers.reserve(gpu(6)).await.unwrap(), rig.tiers.reserve(gpu(4)).await.unwrap());
    let mut eight = task::spawn(rig.tiers.reserve(gpu(8)));
    let mut next = task::spawn(rig.tiers.reserve(gpu(4)));
    assert!(eight.poll().is_pending() && next.poll().is_pending());
    drop(four);
    assert!(next.is_woken());
    let next_lease = ended(next.poll()).unwrap();
    assert!(eight.poll().is_pending());
    drop((six, next_lease));
    drop(ended(eight.poll()).unwrap());
    drop((eight, next));
    rig.assert_untouched();
}

/// 4: when nothing was held, who waited was granted less than it asked for, without being told.
#[tokio::test]
async fn bug_4_nobody_is_granted_less_than_it_asked_for() {
    let rig = rig(Paper::new(10, 1), 10);
    for _ in 0..200 {
        let full = rig.tiers.reserve(gpu(10)).await.unwrap();
        let (mut one, mut other) = (task::spawn(rig.tiers.reserve(gpu(8))), task::spawn(rig.tiers.reserve(gpu(8))));
        assert!(one.poll().is_pending() && other.poll().is_pending());
        drop(full);
        let first = ended(one.poll()).unwrap();
        assert_eq!((first.usage(GPU0).reserved, rig.usage().reserved), (8, 8));
        assert!(other.poll().is_pending());
        drop(first);
        assert_eq!(ended(other.poll()).unwrap().usage(GPU0).reserved, 8);
        // Polled by hand, nothing else renews what tokio lets a task do at a time.
        tokio::task::yield_now().await;
    }
    rig.assert_untouched();
}

fn two_devices_and_a_disk(config: Config) -> Scheduler {
    Scheduler::builder().config(config).spawn().unwrap()
}

/// 5: who preferred a device waited for that one only.
#[tokio::test]
async fn bug_5_a_preference_falls_through_to_whatever_is_free_first() {
    let gpu1 = BudgetId::gpu(1).unwrap();
    let scheduler =
        two_devices_and_a_disk(Config::new().with(Budget::loan(BudgetId::GPU, 10)).with(Budget::loan(gpu1, 10)));
    let one = scheduler.try_reserve(Request::new().amount(gpu1, 10)).unwrap();
    let preferred = Placement::Preferred(SpaceId { tier: Tier::Gpu, index: 1 });
    let lease = scheduler.reserve(scheduler.place(8_u64, &preferred).unwrap()).await.unwrap();
    assert_eq!(lease.get(BudgetId::GPU), 8);
    let mut waiting = task::spawn(scheduler.reserve(scheduler.place(8_u64, &preferred).unwrap()));
    assert!(waiting.poll().is_pending());
    drop(lease);
    assert_eq!(
        ended(waiting.poll()).unwrap().get(BudgetId::GPU),
        8,
        "not the one it prefers, but the one that is free"
    );
    drop(one);
}

/// 6: what was too large for the host failed there, though the disk was next.
#[tokio::test]
async fn bug_6_what_is_too_large_for_one_tier_goes_to_the_next() {
    let scheduler = two_devices_and_a_disk(
        Config::new().with(Budget::loan(BudgetId::HOST, 10)).with(Budget::loan(BudgetId::DISK, 100)),
    );
    let ordered = Placement::Ordered(vec![Tier::Host, Tier::Disk]);
    let lease = scheduler.try_reserve(scheduler.place(11_u64, &ordered).unwrap()).unwrap();
    assert_eq!(lease.get(BudgetId::DISK), 11);
    let too_large = scheduler.reserve(Request::new().host(11_u64)).await;
    assert!(matches!(too_large, Err(ReserveError::NeverFits(_))), "it does not wait, and gets no less");
}

/// 7: over-use that grew the reservation was charged twice, and some of it for ever.
#[tokio::test]
async fn bug_7_growth_by_over_use_is_charged_once() {
    let rig = rig(Paper::new(65_536, 1), 65_536);
    let lease = rig.scheduler.try_reserve(gpu(25_600)).unwrap();
    let lease = rig.tiers.attach(lease, OverUse::Grow).unwrap();
    let blocks = [lease.allocate_in(GPU0, 23_040).await.unwrap(), lease.allocate_in(GPU0, 12_800).await.unwrap()];
    assert_eq!(rig.usage().total, 38_400);
    drop(blocks);
    drop(lease);
    rig.assert_untouched();
}

/// 8: growing counted bytes twice that were over already.
#[tokio::test]
async fn bug_8_growing_does_not_count_what_was_over_a_second_time() {
    for rig in rigs(8_192, 8_192).await {
        let mut lease = rig.lease(1_024, OverUse::Ignore);
        let block = rig.block(&lease, 1_536).await;
        lease.try_grow(&rig.amounts(512)).unwrap();
        assert_eq!((rig.total(), rig.usage().outside), (1_536, 0));
        gone(block).await;
        drop(lease);
        rig.assert_untouched();
    }
}

/// 9: shrinking did not lower what was reserved, and woke nobody.
#[tokio::test]
async fn bug_9_shrinking_gives_back_and_wakes_who_waits() {
    for rig in rigs(4_096, 4_096).await {
        let mut lease = rig.lease(4_096, OverUse::Fail);
        let block = rig.block(&lease, 1_024).await;
        let mut waiting =
            task::spawn(rig.tiers.reserve(Request::new().amount(rig.budget, rig.amounts(3_072).get(rig.budget))));
        assert!(waiting.poll().is_pending());
        lease.shrink_to_fit();
        assert!(waiting.is_woken());
        assert_eq!(units(rig.usage().reserved), 4_096);
        let next = ended(waiting.poll()).unwrap();
        // And so does a block of a lease that has ended.
        let mut waiting =
            task::spawn(rig.tiers.reserve(Request::new().amount(rig.budget, rig.amounts(1_024).get(rig.budget))));
        assert!(waiting.poll().is_pending());
        drop(lease);
        assert!(!waiting.is_woken());
        gone(block).await;
        assert!(waiting.is_woken());
        drop((ended(waiting.poll()).unwrap(), next));
        rig.assert_untouched();
    }
}

/// 10: an excess that was refused was not rolled back exactly while others went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bug_10_a_refused_excess_beside_one_that_is_granted_leaks_nothing() {
    let rig = Arc::new(rig(Paper::new(4_096, 1), 2_048));
    let shared = rig.tiers.attach(rig.scheduler.try_reserve(gpu(1_280)).unwrap(), OverUse::Ignore).unwrap();
    let shared: Arc<MemoryLease> = Arc::new(shared);
    let tasks: Vec<_> = [8_192_u64, 1_280, 8_192, 2_000]
        .into_iter()
        .map(|bytes| {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                for _ in 0..2_000 {
                    let block = shared.allocate_in(GPU0, bytes).await;
                    assert!(bytes < 4_096 || block.is_err());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((rig.usage().total, shared.usage(GPU0).over), (1_280, 0));
    drop(shared);
    rig.assert_untouched();
}

/// 11: a block that outlived its reservation was credited to the next one with the same address.
#[tokio::test]
async fn bug_11_a_block_that_outlives_its_lease_is_never_credited_to_another() {
    for rig in rigs(4_096, 4_096).await {
        for _ in 0..20 {
            let lease = rig.lease(1_024, OverUse::Fail);
            let old = rig.block(&lease, 1_024).await;
            drop(lease);
            let next = rig.lease(1_024, OverUse::Fail);
            gone(old).await;
            assert_eq!((rig.total(), rig.of(&next).allocated), (1_024, 0));
            let block = rig.block(&next, 1_024).await;
            gone(block).await;
            assert_eq!(units(rig.of(&next).unused()), 1_024);
        }
        rig.assert_untouched();
    }
}

/// 12, 13: a limit given as a part was a part of the hardware, not of what was configured.
#[test]
fn bugs_12_and_13_a_limit_is_a_part_of_what_the_budget_was_made_with() {
    let limit = |capacity, millionths| {
        let share = Share::from_millionths(millionths).unwrap();
        Budget::loan(BudgetId::GPU, capacity).reservation_limit(share).supply
    };
    assert_eq!(limit(10_000_000_000, 800_000), bursar::Supply::loan(8_000_000_000));
    assert_eq!(limit((1 << 63) - 1, 1_000_000), bursar::Supply::loan((1 << 63) - 1));
    assert_eq!(limit((1 << 63) - 1, 500_000), bursar::Supply::loan((1 << 62) - 1));
    assert_eq!(limit(10, 850_000), bursar::Supply::loan(8), "rounded down");
}

/// 15: trackers were used after their reservation was reset, and the wrong kind of reservation was a null pointer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bug_15_leases_that_end_while_their_blocks_go_elsewhere_stay_exact() {
    let rig = Arc::new(rig(Paper::new(1 << 20, 1), 1 << 20));
    let tasks: Vec<_> = (0..4_u64)
        .map(|number| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                for round in 0..1_000 {
                    let lease = rig.tiers.reserve(gpu(4_096)).await.unwrap();
                    let block = lease.allocate_in(GPU0, 1 + (number + round) % 4_096).await.unwrap();
                    let elsewhere = tokio::spawn(async move { drop(block) });
                    drop(lease);
                    elsewhere.await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    rig.assert_untouched();
    let host = rig.tiers.allocate(space(Tier::Host), 1).await;
    assert!(matches!(host, Err(AllocateError::UnknownSpace { .. })));
}

/// 17: releasing could throw out of a destructor.
#[tokio::test]
async fn bug_17_leases_and_blocks_are_dropped_without_a_panic_whatever_is_gone_already() {
    let Rig { scheduler, tiers, .. } = rig(Paper::new(1_024, 1), 1_024);
    let lease = tiers.reserve(gpu(512)).await.unwrap();
    let blocks = [lease.allocate_in(GPU0, 100).await.unwrap(), lease.allocate_in(GPU0, 200).await.unwrap()];
    tiers.space(GPU0).unwrap().release(blocks[0].id()).unwrap();
    scheduler.close();
    drop((scheduler, tiers));
    let unwinding = std::thread::spawn(move || {
        let _all = (blocks, lease);
        panic!("on purpose");
    });
    assert!(unwinding.join().is_err());
}

/// 20: who held a reservation and asked for more than could ever come free waited for itself.
#[tokio::test(start_paused = true)]
async fn bug_20_who_holds_what_it_waits_for_is_told_so() {
    let rig = rig(Paper::new(10, 1), 10);
    let activity = Activity::new("hold and wait");
    let held = rig.tiers.reserve(gpu(6).activity(&activity)).await.unwrap();
    let block = held.allocate_in(GPU0, 6).await.unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(60), rig.tiers.reserve(gpu(6).activity(&activity)));
    let verdict = asked.await.expect("it does not wait for ever");
    assert!(matches!(verdict, Err(ReserveError::Split { .. } | ReserveError::RolledBack { .. })), "{verdict:?}");
    let mut held = held;
    let more = Amounts::of(BudgetId::GPU, 5);
    let grown = tokio::time::timeout(Duration::from_secs(60), held.grow(&more));
    assert!(grown.await.expect("it does not wait for ever").is_err());
    assert_eq!(held.usage(GPU0).reserved, 6);
    drop((held, block));
    rig.assert_untouched();
}

/// 21: whatever failed while a file was made kept the file open, and its bytes charged.
#[cfg(unix)]
#[tokio::test]
async fn bug_21_a_file_that_cannot_be_made_costs_nothing() {
    // A root of its own: while the folder is away, the next space of this process that is opened there takes its name.
    let disk = crate::backends::disk_at("tiered-away", 1 << 20).await;
    let folder = disk.folder().to_owned();
    let rig = rig(disk, 1 << 20);
    let lease = rig.tiers.reserve(Request::new().disk(1_u64 << 20)).await.unwrap();
    let kept = lease.allocate_in(rig.id, 4_096).await.unwrap();
    std::fs::rename(&folder, folder.with_extension("away")).unwrap();
    for _ in 0..5 {
        let failed = lease.allocate_in(rig.id, 4_096).await;
        assert!(matches!(failed, Err(AllocateError::Space { .. })), "{failed:?}");
        assert_eq!(lease.usage(rig.id).allocated, 4_096);
    }
    std::fs::rename(folder.with_extension("away"), &folder).unwrap();
    let again = lease.allocate_in(rig.id, 4_096).await.unwrap();
    assert_eq!(lease.usage(rig.id).allocated, 8_192);
    for block in [kept, again] {
        gone(block).await;
    }
    drop(lease);
    rig.assert_untouched();
}
