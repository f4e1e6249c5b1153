//! Typed blocks, what they keep alive, and the streams they are on.

use std::time::Duration;

use bursar::memory::{HostSpace, SimulatedDevice, Space, StreamPool};
use bursar::tiered::{AllocateError, Block, DeviceBlock, HostBlock, OverUse, Tiers};
use bursar::{BudgetId, MIB, Request, Scheduler, SpaceId, Tier};

use crate::backends::{K, gone, rig, rigs, space, units};
use crate::paper::{GPU0, Paper};

const HOST0: SpaceId = space(Tier::Host);

fn two_tiers() -> (Scheduler, Tiers) {
    let scheduler = Scheduler::builder().gpu(8 * MIB).host(8 * MIB).compute(4).spawn().unwrap();
    let device = SimulatedDevice::new(GPU0, 8 * MIB);
    let tiers = Tiers::builder().space(device).space(HostSpace::new(HOST0, 8 * MIB)).build(&scheduler).unwrap();
    (scheduler, tiers)
}

#[tokio::test]
async fn the_type_of_a_block_says_in_which_tier_it_is() {
    let (_scheduler, tiers) = two_tiers();
    let lease = tiers.reserve(Request::new().gpu(2 * MIB).host(MIB)).await.unwrap();
    let device: DeviceBlock = lease.allocate(MIB).await.unwrap();
    let host: HostBlock = lease.allocate(MIB).await.unwrap();
    assert_eq!((device.space(), host.space(), lease.usage(GPU0).allocated), (GPU0, HOST0, MIB));
    let untyped: Block = host.untyped();
    let untyped = untyped.typed::<bursar::tiered::Device>().unwrap_err();
    let mut host: HostBlock = untyped.typed().unwrap();
    host.write(3, b"bytes").await.unwrap();
    let mut back = [0; 5];
    host.read(3, &mut back).await.unwrap();
    assert_eq!(&back, b"bytes");
    let other = lease.allocate::<bursar::tiered::Disk>(1).await.unwrap_err();
    assert_eq!(other, AllocateError::NothingReserved { tier: Tier::Disk });
}

#[tokio::test]
async fn a_tier_of_several_spaces_is_served_by_the_first_with_room_in_the_lease() {
    let gpu1 = SpaceId { tier: Tier::Gpu, index: 1 };
    let config = bursar::Config::new()
        .with(bursar::Budget::loan(BudgetId::GPU, 8 * MIB))
        .with(bursar::Budget::loan(gpu1.budget().unwrap(), 8 * MIB));
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let tiers = Tiers::builder()
        .space(SimulatedDevice::new(GPU0, 8 * MIB))
        .space(SimulatedDevice::new(gpu1, 8 * MIB))
        .build(&scheduler)
        .unwrap();
    let lease = tiers.reserve(Request::new().gpu(MIB).gpu_on(1, 2 * MIB)).await.unwrap();
    let spaces = [MIB, MIB, MIB].map(|bytes| lease.allocate::<bursar::tiered::Device>(bytes));
    let [first, second, third] = spaces;
    let blocks = (first.await.unwrap(), second.await.unwrap(), third.await.unwrap());
    assert_eq!((blocks.0.space(), blocks.1.space(), blocks.2.space()), (GPU0, gpu1, gpu1));
    match lease.allocate::<bursar::tiered::Device>(1).await {
        Err(AllocateError::OverReserved { space: GPU0, .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// P17, P40: the caller goes, the work goes on, and the memory it works on is not lent again before it has passed.
#[tokio::test(start_paused = true)]
async fn pitfalls_17_and_40_a_lease_does_not_end_before_the_work_that_its_block_was_moved_into() {
    let scheduler = Scheduler::builder().gpu(8 * MIB).compute(4).spawn().unwrap();
    let device = std::sync::Arc::new(SimulatedDevice::new(GPU0, 8 * MIB).latency(Duration::from_millis(50)));
    let tiers = Tiers::builder().shared_space(device.clone()).build(&scheduler).unwrap();
    let caller = tokio::time::timeout(Duration::from_millis(10), async {
        let lease = tiers.reserve(Request::new().gpu(8 * MIB).compute(1)).await.unwrap();
        let mut block: DeviceBlock = lease.allocate(6 * MIB).await.unwrap();
        let kernel = tokio::spawn(async move { block.write(0, &[1; 1 << 20]).await });
        let _ = kernel.await;
        drop(lease);
    });
    assert!(caller.await.is_err(), "the caller gave up");
    // Slots and memory that no block uses are back; what the kernel writes to is not.
    let free = |id| scheduler.stats().budget(id).unwrap().free;
    assert_eq!((free(BudgetId::COMPUTE), free(BudgetId::GPU)), (4, 2 * MIB));
    let next = tiers.reserve(Request::new().gpu(8 * MIB)).await.unwrap();
    assert_eq!(device.used(), 0);
    let block: DeviceBlock = next.allocate(8 * MIB).await.unwrap();
    drop((block, next));
    assert_eq!(free(BudgetId::GPU), 8 * MIB);
    scheduler.verify().unwrap();
}

#[tokio::test]
async fn a_block_in_flight_counts_as_allocated_until_its_work_has_passed() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        let in_flight = rig.block(&lease, 1_024).await.retire();
        let block = rig.block(&lease, 512).await;
        let usage = rig.of(&lease);
        assert_eq!((units(usage.allocated), units(usage.in_flight), units(usage.unused())), (1_536, 1_024, 2_560));
        assert_eq!((units(rig.usage().in_flight), rig.usage().blocks), (1_024, 2));
        gone(block).await;
        drop(lease);
        assert_eq!((rig.total(), units(rig.usage().in_flight)), (1_024, 1_024));
        drop(in_flight);
        // A file is removed on another thread.
        while rig.usage().total > 0 {
            tokio::task::yield_now().await;
        }
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn blocks_that_are_dropped_outside_of_a_runtime_are_gone_at_once() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        let blocks = [rig.block(&lease, 1_024).await, rig.block(&lease, 2_048).await];
        std::thread::spawn(move || drop((lease, blocks))).join().unwrap();
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn a_panic_of_the_work_gives_block_and_lease_back() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        let block = rig.block(&lease, 1_024).await;
        let worked = tokio::spawn(async move {
            let _work = (lease, block);
            panic!("on purpose");
        });
        assert!(worked.await.is_err());
        while rig.usage().total > 0 {
            tokio::task::yield_now().await;
        }
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn streams_are_lent_to_one_at_a_time_and_have_accounts_of_their_own() {
    let scheduler = Scheduler::builder().gpu(4_096_u64).spawn().unwrap();
    let builder = Tiers::builder().space(Paper::new(4_096, 1)).streams(GPU0, StreamPool::new(2));
    let tiers = builder.build(&scheduler).unwrap();
    let streams = tiers.streams(GPU0).unwrap();
    let (one, other) = (streams.acquire().await, streams.acquire().await);
    let mut third = tokio_test::task::spawn(streams.acquire());
    assert!(third.poll().is_pending() && *one != *other);

    let lease = tiers.reserve(Request::new().gpu(3_072_u64)).await.unwrap();
    let mut blocks = Vec::new();
    for _ in 0..3 {
        blocks.push(lease.allocate_on(GPU0, *one, 512).await.unwrap());
    }
    let elsewhere = lease.allocate_on(GPU0, *other, 1_024).await.unwrap();
    assert_eq!((blocks[0].stream(), elsewhere.stream()), (*one, *other));
    drop(blocks);
    let figures = |tiers: &Tiers| {
        let usage = tiers.usage(GPU0).unwrap();
        usage.streams.iter().map(|(stream, of)| (stream.0, of.allocated, of.peak)).collect::<Vec<_>>()
    };
    assert_eq!(figures(&tiers), [(one.0, 0, 1_536), (other.0, 1_024, 1_024)]);
    assert_eq!(tiers.usage(GPU0).unwrap().peak_allocated, 2_560);
    tiers.reset_peaks(GPU0);
    assert_eq!(figures(&tiers), [(one.0, 0, 0), (other.0, 1_024, 1_024)]);
    drop(one);
    assert!(third.is_woken());
}

/// What is untracked goes behind whoever waits for the budget.
#[tokio::test]
async fn an_allocation_without_a_lease_passes_nobody_who_waits() {
    let rig = rig(Paper::new(1_024, 1), 1_024);
    let half = rig.tiers.reserve(Request::new().gpu(512_u64)).await.unwrap();
    let mut waiting = tokio_test::task::spawn(rig.tiers.reserve(Request::new().gpu(1_024_u64)));
    assert!(waiting.poll().is_pending());
    drop(half);
    assert!(waiting.is_woken());
    let refused = rig.tiers.allocate(GPU0, 1).await.unwrap_err();
    assert!(refused.is_shortage(), "{refused}");
    let lease = match waiting.poll() {
        std::task::Poll::Ready(lease) => lease.unwrap(),
        std::task::Poll::Pending => panic!("woken for nothing"),
    };
    drop((lease, waiting));
    rig.assert_untouched();
}

#[tokio::test(start_paused = true)]
async fn an_allocation_that_is_dropped_on_its_way_leaves_nothing_behind() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(1_024, OverUse::Ignore);
        for polls in 0..4 {
            let mut allocation = tokio_test::task::spawn(lease.allocate_in(rig.id, 2_048 * K));
            for _ in 0..polls {
                if let std::task::Poll::Ready(block) = allocation.poll() {
                    gone(block.unwrap()).await;
                    break;
                }
            }
            drop(allocation);
            while rig.tiers.space(rig.id).unwrap().used() > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!((rig.total(), rig.of(&lease).over), (1_024, 0));
        }
        drop(lease);
        rig.assert_untouched();
    }
}
