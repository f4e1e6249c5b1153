//! The accounts of leases in figures, on every space that needs no device. The numbers are those of the notes about
//! another memory manager. `total` is the untracked plus the larger of allocated and reserved of every lease.

use bursar::memory::SpaceError;
use bursar::tiered::{AllocateError, OverUse, Tiers, TiersError};
use bursar::{Budget, BudgetId, Config, LeaseError, Request, Scheduler, Share, Tier, TryReserveError};

use crate::backends::{K, Rig, gone, rig, rigs, space, units};
use crate::paper::Paper;

#[tokio::test]
async fn scenario_1_a_budget_that_lends_more_than_its_space_has_is_refused() {
    let make = |limit| {
        let scheduler = Scheduler::builder().gpu(limit).spawn().unwrap();
        Tiers::builder().space(Paper::new(1_024, 1)).build(&scheduler).map(drop)
    };
    let gpu = space(Tier::Gpu);
    assert_eq!(make(2_048), Err(TiersError::LimitAboveCapacity { space: gpu, limit: 2_048, capacity: 1_024 }));
    assert_eq!(make(1_024), Ok(()));
    assert!(Scheduler::builder().gpu(1_u64 << 63).spawn().is_err());
    assert!(Scheduler::builder().gpu((1_u64 << 63) - 1).spawn().is_ok());

    let scheduler = Scheduler::builder().host(1_024_u64).spawn().unwrap();
    let build = |builder: bursar::tiered::TiersBuilder| builder.build(&scheduler).map(drop);
    assert_eq!(build(Tiers::builder()), Err(TiersError::NoSpaces));
    let other = Tiers::builder().space(Paper::new(1_024, 1));
    assert_eq!(build(other), Err(TiersError::NoBudget { space: gpu }));
    let scheduler = Scheduler::builder().gpu(1_024_u64).spawn().unwrap();
    let twice = Tiers::builder().space(Paper::new(1_024, 1)).space(Paper::new(1_024, 1)).build(&scheduler);
    assert_eq!(twice.map(drop), Err(TiersError::Twice { space: gpu }));
}

#[tokio::test]
async fn scenario_2_a_reservation_counts_until_it_is_dropped_and_allocates_nothing() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(1_024, OverUse::Fail);
        let usage = rig.usage();
        assert_eq!((rig.total(), units(usage.reserved), units(usage.available())), (1_024, 1_024, 7_168));
        assert_eq!((usage.allocated, usage.blocks, usage.peak_allocated), (0, 0, 0));
        let mut waiting = tokio_test::task::spawn(rig.tiers.reserve(Request::new().amount(rig.budget, 8_192 * K)));
        assert!(waiting.poll().is_pending());
        drop(lease);
        assert!(waiting.is_woken());
        drop(waiting);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_3_a_full_budget_refuses_with_what_was_asked_and_free() {
    for rig in rigs(4_096, 4_096).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        match rig.scheduler.try_reserve(Request::new().amount(rig.budget, 1)) {
            Err(TryReserveError::NotNow(shortage)) => {
                assert_eq!((shortage.asked, shortage.free, shortage.limit), (1, 0, 4_096 * K));
            }
            other => panic!("{other:?}"),
        }
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_4_what_a_budget_does_not_lend_can_be_used_beyond_leases_up_to_the_capacity() {
    for rig in rigs(8_192, 4_096).await {
        let lease = rig.lease(4_096, OverUse::Ignore);
        let more = Request::new().amount(rig.budget, 1_024 * K);
        assert!(matches!(rig.scheduler.try_reserve(more), Err(TryReserveError::NotNow(_))));
        let inside = rig.block(&lease, 4_096).await;
        let beyond = rig.block(&lease, 1_024).await;
        assert_eq!(rig.total(), 5_120);
        let refused = lease.allocate_in(rig.id, 4_096 * K).await;
        assert!(matches!(refused, Err(AllocateError::NoRoom { .. })), "{refused:?}");
        let further = rig.block(&lease, 1_024).await;
        assert_eq!((rig.total(), units(rig.usage().outside)), (6_144, 2_048));
        for block in [inside, beyond, further] {
            gone(block).await;
        }
        assert_eq!(rig.total(), 4_096);
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_4_a_budget_lends_the_share_of_its_space_that_it_is_told_to() {
    let limit = Budget::loan(BudgetId::GPU, 1_000_001).reservation_limit(Share::from_fraction(0.85).unwrap());
    let scheduler = Scheduler::builder().config(Config::new().with(limit)).spawn().unwrap();
    let tiers = Tiers::builder().space(Paper::new(1_000_001, 1)).build(&scheduler).unwrap();
    let usage = tiers.usage(space(Tier::Gpu)).unwrap();
    assert_eq!((usage.capacity, usage.limit, usage.available()), (1_000_001, 850_000, 1_000_001));
    let untracked = tiers.allocate(space(Tier::Gpu), 1_000_001).await.unwrap();
    assert_eq!(tiers.usage(space(Tier::Gpu)).unwrap().total, 1_000_001);
    assert!(scheduler.try_reserve(Request::new().gpu(1u64)).is_err(), "the headroom is used up, so the budget is");
    drop(untracked);
    drop(scheduler.try_reserve(Request::new().gpu(850_000_u64)).unwrap());
}

#[tokio::test]
async fn scenario_5_a_lease_that_is_replaced_is_released_once() {
    for rig in rigs(4_096, 4_096).await {
        let mut lease = rig.lease(1_024, OverUse::Fail);
        assert_eq!(rig.total(), 1_024);
        let other = rig.lease(2_048, OverUse::Fail);
        assert_eq!(rig.total(), 3_072);
        drop(std::mem::replace(&mut lease, other));
        assert_eq!((rig.total(), lease.amounts()), (2_048, rig.amounts(2_048)));
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_6_a_lease_outlives_the_handle_of_the_tiers() {
    for rig in rigs(8_192, 8_192).await {
        let mut lease = rig.lease(1_024, OverUse::Fail);
        let Rig { scheduler, tiers, id, budget } = rig;
        drop(tiers);
        let free = || units(scheduler.stats().budget(budget).unwrap().free);
        let amounts = |units: u64| bursar::Amounts::of(budget, units * K);
        lease.try_grow(&amounts(1_024)).unwrap();
        let block = lease.allocate_in(id, 1_536 * K).await.unwrap();
        assert_eq!((free(), units(lease.usage(id).allocated)), (6_144, 1_536));
        assert_eq!(lease.shrink_to_fit(), amounts(512));
        assert_eq!(free(), 6_656);
        drop(lease);
        assert_eq!(free(), 6_656);
        gone(block).await;
        assert_eq!(free(), 8_192);
        scheduler.verify().unwrap();
    }
}

#[tokio::test]
async fn scenario_7_a_lease_of_another_scheduler_is_refused_and_stays_what_it_was() {
    let (here, there) = (rig(Paper::new(1_024, 1), 1_024), rig(Paper::new(1_024, 1), 1_024));
    let lease = there.scheduler.try_reserve(Request::new().gpu(512_u64)).unwrap();
    let lease = here.tiers.attach(lease, OverUse::Fail).unwrap_err().0;
    assert_eq!((here.usage().total, there.usage().total), (0, 512));
    assert!(there.tiers.attach(lease, OverUse::Fail).is_ok());
    let unknown = here.tiers.allocate(space(Tier::Disk), 1).await.unwrap_err();
    let known = AllocateError::UnknownSpace { space: space(Tier::Disk), known: "gpu0".into() };
    assert_eq!(unknown, known);
    // A lease without anything in the tier.
    let scheduler = Scheduler::builder().gpu(10_u64).compute(10).spawn().unwrap();
    let tiers = Tiers::builder().space(Paper::new(10, 1)).build(&scheduler).unwrap();
    let lease = tiers.reserve(Request::new().compute(1)).await.unwrap();
    let nothing = lease.allocate::<bursar::tiered::Device>(1).await.unwrap_err();
    assert_eq!(nothing, AllocateError::NothingReserved { tier: Tier::Gpu });
}

#[tokio::test]
async fn scenarios_9_and_10_on_every_space_what_never_fits_and_what_is_nothing_are_refused_and_charged_to_nobody() {
    for rig in rigs(1_024, 1_024).await {
        let zero = AllocateError::Space { source: SpaceError::Zero { space: rig.id }, holders: Vec::new() };
        for asked in [4_096 * K, u64::MAX, 1 << 63] {
            let refused = rig.tiers.allocate(rig.id, asked).await.unwrap_err();
            assert!(!refused.is_shortage(), "it never fits: {refused}");
            rig.assert_untouched();
        }
        let full = rig.tiers.allocate(rig.id, 1_024 * K).await.unwrap();
        let refused = rig.tiers.allocate(rig.id, 1).await.unwrap_err();
        assert!(refused.is_shortage(), "{refused}");
        assert_eq!(rig.tiers.allocate(rig.id, 0).await.unwrap_err(), zero);
        assert_eq!((rig.total(), rig.usage().blocks), (1_024, 1));
        gone(full).await;
        for over_use in [OverUse::Fail, OverUse::Ignore, OverUse::Grow] {
            let lease = rig.lease(512, over_use);
            assert_eq!(lease.allocate_in(rig.id, 0).await.unwrap_err(), zero);
            assert_eq!((rig.total(), rig.of(&lease).allocated), (512, 0));
        }
        rig.assert_untouched();
    }
}

/// 8, 11: the pool of the host gives whole pages, the others as many bytes as are asked.
#[tokio::test]
async fn scenarios_8_and_11_on_every_space_what_is_rounded_up_is_charged_rounded_up() {
    for rig in rigs(1_024, 1_024).await {
        for asked in [1, 100, 300, 4_095, 4_097, 9_000] {
            let block = rig.tiers.allocate(rig.id, asked).await.unwrap();
            let takes = match rig.id.tier {
                Tier::Host if asked > 4_096 => asked.next_multiple_of(4_096),
                Tier::Host => asked.next_multiple_of(512),
                _ => asked,
            };
            assert_eq!((block.len(), block.capacity(), rig.usage().total), (asked, takes, takes), "{}", rig.id);
            assert_eq!(rig.tiers.footprint(rig.id, asked), takes);
            gone(block).await;
        }
        let page = rig.tiers.footprint(rig.id, 4_097);
        let lease = rig.scheduler.try_reserve(Request::new().amount(rig.budget, page - 1)).unwrap();
        let lease = rig.tiers.attach(lease, OverUse::Fail).unwrap();
        let refused = lease.allocate_in(rig.id, 4_097).await.unwrap_err();
        let (asked, footprint, allocated, in_flight, reserved) = (4_097, page, 0, 0, page - 1);
        let expected = AllocateError::OverReserved { space: rig.id, asked, footprint, allocated, in_flight, reserved };
        assert_eq!(refused, expected);
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_23_on_every_space_what_is_refused_raises_no_peak() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(1_024, OverUse::Fail);
        let block = rig.block(&lease, 1_024).await;
        for asked in [1, 1_024, 100_000] {
            assert!(lease.allocate_in(rig.id, asked * K).await.is_err());
            assert!(rig.tiers.allocate(rig.id, 8_192 * K).await.is_err());
        }
        let usage = rig.usage();
        assert_eq!((units(rig.of(&lease).peak), units(usage.peak_allocated), rig.total()), (1_024, 1_024, 1_024));
        assert_eq!(usage.streams.iter().map(|(_, stream)| stream.peak).sum::<u64>(), 1_024 * K);
        gone(block).await;
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_13_inside_a_reservation_nothing_more_is_counted() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        let (small, large) = (rig.block(&lease, 1_024).await, rig.block(&lease, 2_048).await);
        assert_eq!((rig.total(), units(rig.of(&lease).peak)), (4_096, 3_072));
        gone(large).await;
        // Here a peak begins again with what there is, not with nothing.
        lease.reset_peaks();
        assert_eq!(units(rig.of(&lease).peak), 1_024);
        let more = rig.block(&lease, 512).await;
        assert_eq!((units(rig.of(&lease).peak), units(rig.usage().peak_allocated)), (1_536, 3_072));
        gone(small).await;
        gone(more).await;
        assert_eq!((rig.total(), units(rig.of(&lease).peak)), (4_096, 1_536));
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_14_over_use_that_is_ignored_charges_the_excess_and_gives_it_back() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(1_024, OverUse::Ignore);
        let mut blocks = Vec::new();
        for (size, total) in [(768, 1_024), (512, 1_280), (256, 1_536)] {
            blocks.push(rig.block(&lease, size).await);
            assert_eq!(rig.total(), total);
        }
        assert_eq!(units(rig.of(&lease).over), 512);
        for total in [1_280, 1_024, 1_024] {
            gone(blocks.pop().unwrap()).await;
            assert_eq!(rig.total(), total);
        }
        drop(lease);
        rig.assert_untouched();
    }
    // The pool of the host has no blocks of these sizes.
    for rig in rigs(65_536, 65_536).await.into_iter().filter(|rig| rig.id.tier != Tier::Host) {
        let lease = rig.lease(25_600, OverUse::Ignore);
        let first = rig.block(&lease, 23_040).await;
        assert_eq!(rig.total(), 25_600);
        let second = rig.block(&lease, 12_800).await;
        assert_eq!(rig.total(), 35_840);
        gone(second).await;
        assert_eq!(rig.total(), 25_600);
        gone(first).await;
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_15_a_lease_that_fails_at_over_use_gives_all_it_reserved_and_no_more() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(1_024, OverUse::Fail);
        let block = rig.block(&lease, 1_024).await;
        let asked = 1;
        let footprint = rig.tiers.footprint(rig.id, asked);
        let (allocated, in_flight, reserved) = (1_024 * K, 0, 1_024 * K);
        let expected = AllocateError::OverReserved { space: rig.id, asked, footprint, allocated, in_flight, reserved };
        assert_eq!(lease.allocate_in(rig.id, asked).await.unwrap_err(), expected);
        assert_eq!(rig.total(), 1_024);
        gone(block).await;
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_16_over_use_that_grows_the_lease_grows_it_by_a_quarter_more() {
    for rig in rigs(65_536, 65_536).await.into_iter().filter(|rig| rig.id.tier != Tier::Host) {
        let lease = rig.lease(25_600, OverUse::Grow);
        let blocks = [rig.block(&lease, 23_040).await, rig.block(&lease, 12_800).await];
        assert_eq!((units(rig.of(&lease).reserved), rig.total(), rig.of(&lease).over), (38_400, 38_400, 0));
        for block in blocks {
            gone(block).await;
        }
        assert_eq!(rig.total(), 38_400);
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_17_growth_takes_over_what_was_over_and_counts_it_once() {
    for rig in rigs(8_192, 8_192).await {
        let mut lease = rig.lease(1_024, OverUse::Ignore);
        let block = rig.block(&lease, 1_536).await;
        assert_eq!((rig.total(), units(rig.usage().outside)), (1_536, 512));
        lease.grow(&rig.amounts(1_024)).await.unwrap();
        assert_eq!((rig.total(), rig.usage().outside, rig.of(&lease).over), (2_048, 0, 0));
        gone(block).await;
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_18_a_lease_that_cannot_grow_says_what_is_missing_and_keeps_what_it_has() {
    for rig in rigs(2_048, 1_024).await {
        let lease = rig.lease(1_024, OverUse::Grow);
        let block = rig.block(&lease, 512).await;
        match lease.allocate_in(rig.id, 1_024 * K).await {
            Err(AllocateError::NoRoom { space, asked, short, .. }) => {
                assert_eq!((space, units(asked), units(short)), (rig.id, 1_024, 512));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((rig.total(), units(rig.of(&lease).allocated)), (1_024, 512));
        gone(block).await;
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_19_partial_growth_stays_and_the_rest_is_over() {
    for rig in rigs(8_192, 8_192).await {
        let mut lease = rig.lease(1_024, OverUse::Ignore);
        let block = rig.block(&lease, 1_536).await;
        lease.try_grow(&rig.amounts(256)).unwrap();
        let usage = rig.of(&lease);
        assert_eq!((rig.total(), units(usage.reserved), units(usage.over)), (1_536, 1_280, 256));
        gone(block).await;
        assert_eq!(rig.total(), 1_280);
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_20_shrinking_to_fit_leaves_what_blocks_use() {
    for rig in rigs(8_192, 8_192).await {
        let mut lease = rig.lease(4_096, OverUse::Ignore);
        let block = rig.block(&lease, 1_024).await;
        assert_eq!(lease.shrink_to_fit(), rig.amounts(3_072));
        assert_eq!((rig.total(), units(rig.usage().reserved)), (1_024, 1_024));
        let over = rig.block(&lease, 512).await;
        assert!(lease.shrink_to_fit().is_empty());
        assert_eq!((rig.total(), units(rig.usage().reserved)), (1_536, 1_024));
        let refused = lease.shrink(&rig.amounts(1)).unwrap_err();
        assert_eq!(refused, LeaseError::HoldsLess { budget: rig.budget, held: 0, asked: K });
        assert!(lease.split(&rig.amounts(1)).is_err());
        gone(block).await;
        gone(over).await;
        let part = lease.split(&rig.amounts(256)).unwrap();
        assert_eq!((units(rig.of(&part).reserved), units(rig.of(&lease).reserved)), (256, 768));
        drop((lease, part));
        rig.assert_untouched();
    }
}

/// There freed blocks could be credited to another's account; here a block knows its own.
#[tokio::test]
async fn scenario_21_a_block_that_outlives_its_lease_keeps_its_part_and_no_more() {
    for rig in rigs(8_192, 8_192).await {
        let (one, other) = (rig.lease(4_096, OverUse::Fail), rig.lease(4_096, OverUse::Fail));
        let block = rig.block(&one, 1_024).await;
        assert_eq!(rig.total(), 8_192);
        drop(one);
        assert_eq!((rig.total(), rig.of(&other).allocated), (5_120, 0));
        drop(other);
        assert_eq!(rig.total(), 1_024);
        gone(block).await;
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_22_shrinking_never_counts_below_zero() {
    for rig in rigs(8_192, 8_192).await {
        let (mut one, mut other) = (rig.lease(1_024, OverUse::Fail), rig.lease(3_072, OverUse::Fail));
        let block = rig.block(&other, 3_072).await;
        assert_eq!(rig.total(), 4_096);
        assert_eq!((one.shrink_to_fit(), other.shrink_to_fit().len()), (rig.amounts(1_024), 0));
        assert_eq!((rig.total(), rig.of(&one).unused(), rig.of(&other).unused()), (3_072, 0, 0));
        gone(block).await;
        assert_eq!(other.shrink_to_fit(), rig.amounts(3_072));
        assert_eq!(rig.total(), 0);
        drop((one, other));
        rig.assert_untouched();
    }
}
