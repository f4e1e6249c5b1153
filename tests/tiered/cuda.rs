//! Blocks of leases as kernels see them. What only a CUDA device can show says so and is done without one.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use bursar::memory::{
    CudaConfig, CudaError, CudaSpace, HeapSource, HostSpace, PoolConfig, SimulatedDevice, SpaceError, ViewError,
};
use bursar::tiered::{Block, CopyFault, DeviceBlock, HostBlock, MemoryLease, OverUse, Tiers, Transfer, copy};
use bursar::{Budget, BudgetId, Config, MIB, Request, Scheduler, SpaceId, Tier};
use futures::FutureExt;

use crate::backends::{K, Rig, rig, space};
use crate::gate::{Gate, Turn};

/// The first device, or a line that says why there is none: no driver, no device, or a driver that does not begin.
fn gpu() -> Option<CudaSpace> {
    use CudaError::{Driver, NoDevice, NoDriver};
    match CudaSpace::open(space(Tier::Gpu), CudaConfig::new(0).limit(64 * MIB)) {
        Ok(gpu) => Some(gpu),
        Err(reason @ (NoDriver { .. } | NoDevice { .. } | Driver { call: "cuInit", .. })) => {
            println!("skipped: {reason}");
            None
        }
        Err(failed) => panic!("{failed}"),
    }
}

/// Tiers over it.
fn device() -> Option<Rig> {
    Some(rig(gpu()?, 64 * MIB))
}

#[tokio::test]
async fn a_block_of_a_simulated_device_has_no_address_no_stream_and_no_view() {
    let rig = rig(SimulatedDevice::new(space(Tier::Gpu), MIB), MIB);
    let lease = rig.lease(64, OverUse::Fail);
    let mut block: DeviceBlock = lease.allocate(64 * K).await.unwrap();
    let refused = ViewError::NotCuda { space: space(Tier::Gpu) };
    assert_eq!(block.view::<f32>().map(drop), Err(refused.clone()));
    assert_eq!(block.address(), Err(refused.clone()));
    assert_eq!(block.cuda_stream().map(drop), Err(refused.clone()));
    assert!(refused.to_string().starts_with("gpu0 is no CUDA device"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_of_a_leased_block_is_its_memory_typed_and_charged_for_as_long_as_the_block_is() {
    let _alone = Turn::take();
    let Some(rig) = device() else { return };
    let lease = rig.lease(MIB / K, OverUse::Fail);
    let mut block: DeviceBlock = lease.allocate(4_096).await.unwrap();
    let numbers: Vec<f32> = (0..1_024_u16).map(f32::from).collect();

    let mut view = block.view::<f32>().unwrap();
    assert_eq!(view.len(), 1_024);
    let stream = view.stream().clone();
    stream.memcpy_htod(&numbers, &mut view.as_view_mut()).unwrap();
    assert_eq!(stream.clone_dtoh(&view.as_view().slice(1_000..)).unwrap(), numbers[1_000..]);
    drop(view);
    // A copy of the block comes after what was queued on its stream.
    let mut bytes = vec![0; 4_096];
    block.read(0, &mut bytes).await.unwrap();
    let read: Vec<f32> = bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(read, numbers);
    block.write(0, &7_u64.to_le_bytes()).await.unwrap();
    let view = block.view::<u64>().unwrap();
    assert_eq!(stream.clone_dtoh(&view.as_view()).unwrap()[0], 7);
    drop(view);
    assert_eq!((block.address().unwrap() % 256, rig.of(&lease).allocated), (0, 4_096));

    let odd = lease.allocate_in(rig.id, 4_098).await.unwrap();
    let mut odd: DeviceBlock = odd.typed().unwrap();
    assert_eq!(odd.view::<f32>().map(drop), Err(ViewError::Length { length: 4_098, element: 4 }));
    assert_eq!(odd.view::<u16>().unwrap().len(), 2_049);
    drop((odd, block, lease));
    rig.assert_untouched();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_is_freed_behind_the_back_of_a_view_is_nobody_elses_until_the_view_is_gone() {
    let _alone = Turn::take();
    let Some(rig) = device() else { return };
    let lease = rig.lease(MIB / K, OverUse::Fail);
    let mut block: DeviceBlock = lease.allocate(4_096).await.unwrap();
    let (id, address) = (block.id(), block.address().unwrap());
    let view = block.view::<u8>().unwrap();
    let gpu = rig.tiers.space(rig.id).unwrap().clone();
    gpu.free(id).await.unwrap();
    let other: DeviceBlock = lease.allocate(4_096).await.unwrap();
    assert_ne!(other.address().unwrap(), address);
    drop(view);
    let stale = ViewError::Space(SpaceError::StaleBlock { block: id });
    assert_eq!(block.address(), Err(stale.clone()));
    assert_eq!(block.view::<u8>().map(drop), Err(stale));
    drop((block, other, lease));
    rig.assert_untouched();
}

/// The first device beside pinned or plain memory of the host, 64 MiB each, a rate, and a lease of it all.
async fn machine(pinned: bool) -> Option<(Scheduler, Tiers, MemoryLease)> {
    machine_with(pinned, Budget::rate(BudgetId::IO, 1 << 34).burst(64 * MIB)).await
}

async fn machine_with(pinned: bool, rate: Budget) -> Option<(Scheduler, Tiers, MemoryLease)> {
    let gpu = gpu()?;
    let source = if pinned { HeapSource::pinned(gpu.pin()) } else { HeapSource::new() };
    let host = HostSpace::with(space(Tier::Host), source, 64 * MIB, PoolConfig::host(64 * MIB));
    let config = Config::new()
        .with(Budget::loan(BudgetId::GPU, 64 * MIB))
        .with(Budget::loan(BudgetId::HOST, 64 * MIB))
        .with(rate);
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let tiers = Tiers::builder().space(gpu).space(host).build(&scheduler).unwrap();
    let lease = tiers.reserve(Request::new().gpu(64 * MIB).host(64 * MIB)).await.unwrap();
    Some((scheduler, tiers, lease))
}

const SIZE: u64 = 20 * MIB + 12_345;

fn numbered() -> Vec<u8> {
    (0..SIZE).map(|at| (at * 31 + at / 4_093) as u8).collect()
}

async fn bytes_of<T>(block: &Block<T>) -> Vec<u8> {
    let mut bytes = vec![0; block.len() as usize];
    block.read(0, &mut bytes).await.unwrap();
    bytes
}

fn chunked(transfer: Transfer<'_>, chunk: Option<u64>) -> Transfer<'_> {
    match chunk {
        Some(bytes) => transfer.chunk(bytes).depth(3),
        None => transfer,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_blocks_pinned_or_not_go_to_the_device_and_back_whatever_the_range_and_the_chunk() {
    let _alone = Turn::take();
    for pinned in [true, false] {
        let Some((_scheduler, _tiers, lease)) = machine(pinned).await else { return };
        let mut from: HostBlock = lease.allocate(SIZE).await.unwrap();
        let mut on_device: DeviceBlock = lease.allocate(SIZE).await.unwrap();
        let mut back: HostBlock = lease.allocate(SIZE).await.unwrap();
        from.write(0, &numbered()).await.unwrap();
        for chunk in [None, Some(1_000_003), Some(64 * MIB)] {
            on_device.write(0, &vec![1; SIZE as usize]).await.unwrap();
            back.write(0, &vec![2; SIZE as usize]).await.unwrap();
            let (up, down) = (MIB + 7, 3 * MIB + 1);
            let length = SIZE - 5 * MIB;
            let copied = chunked(copy(&from, &mut on_device).range(up, 11, length), chunk).charge(BudgetId::IO).await;
            assert_eq!(copied, Ok(length));
            assert_eq!(chunked(copy(&on_device, &mut back).range(11, down, length), chunk).await, Ok(length));
            let (back, from) = (bytes_of(&back).await, numbered());
            let (up, down, length) = (up as usize, down as usize, length as usize);
            assert!(back[down..down + length] == from[up..up + length], "pinned {pinned}, chunk {chunk:?}");
            assert!(back[..down].iter().chain(&back[down + length..]).all(|&byte| byte == 2), "the rest is as it was");
        }
    }
}

/// Copies again and again, with what is written before and after on the streams of both.
async fn assert_in_order(from: &mut Block, to: &mut Block) {
    for round in 0..20_u8 {
        let bytes: Vec<u8> = numbered().iter().map(|byte| byte ^ round).collect();
        from.write(0, &bytes).await.unwrap();
        to.write(0, &vec![round; SIZE as usize]).await.unwrap();
        let length = SIZE - 1_000;
        assert_eq!(copy(from, to).range(1_000, 10, length).await, Ok(length));
        // Not before it was read.
        from.write(0, &vec![0; SIZE as usize]).await.unwrap();
        let found = bytes_of(to).await;
        assert!(found[10..10 + length as usize] == bytes[1_000..], "round {round}");
        assert!(found[..10].iter().chain(&found[10 + length as usize..]).all(|&byte| byte == round));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_copies_from_block_to_block_in_the_order_of_both_their_streams() {
    let _alone = Turn::take();
    let Some((_scheduler, tiers, lease)) = machine(true).await else { return };
    let gpu = space(Tier::Gpu);
    let streams = tiers.streams(gpu).unwrap();
    let (one, other) = (streams.acquire().await, streams.acquire().await);
    let mut from = lease.allocate_on(gpu, *one, SIZE).await.unwrap();
    let mut to = lease.allocate_on(gpu, *other, SIZE).await.unwrap();
    assert_in_order(&mut from, &mut to).await;
}

const GPUS: [SpaceId; 2] = [space(Tier::Gpu), SpaceId { tier: Tier::Gpu, index: 1 }];

/// Two spaces of 64 MiB on devices with these numbers, and a lease of both, or a line that says why there are none.
async fn pair(ordinals: [usize; 2]) -> Option<(Scheduler, Tiers, MemoryLease)> {
    let (mut builder, mut config, mut request) = (Tiers::builder(), Config::new(), Request::new());
    for (id, ordinal) in GPUS.into_iter().zip(ordinals) {
        match CudaSpace::open(id, CudaConfig::new(ordinal).limit(64 * MIB)) {
            Ok(gpu) => builder = builder.space(gpu),
            Err(reason @ (CudaError::NoDriver { .. } | CudaError::NoDevice { .. })) => {
                println!("skipped: {reason}");
                return None;
            }
            Err(failed) => panic!("{failed}"),
        }
        config = config.with(Budget::loan(id.budget().unwrap(), 64 * MIB));
        request = request.space(id, 64 * MIB);
    }
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let tiers = builder.build(&scheduler).unwrap();
    let lease = tiers.reserve(request).await.unwrap();
    Some((scheduler, tiers, lease))
}

/// Two spaces of one device, and two devices, there and back.
const PAIRS: [[usize; 2]; 3] = [[0, 0], [0, 1], [1, 0]];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_goes_to_another_space_of_its_device_and_to_another_device_in_the_order_of_both_streams() {
    let _alone = Turn::take();
    for ordinals in PAIRS {
        let Some((_scheduler, _tiers, lease)) = pair(ordinals).await else { return };
        let mut from = lease.allocate_in(GPUS[0], SIZE).await.unwrap();
        let mut to = lease.allocate_in(GPUS[1], SIZE).await.unwrap();
        assert_in_order(&mut from, &mut to).await;
        for chunk in [1_000_003, 64 * MIB] {
            from.write(0, &numbered()).await.unwrap();
            to.write(0, &vec![1; SIZE as usize]).await.unwrap();
            assert_eq!(copy(&from, &mut to).chunk(chunk).depth(3).await, Ok(SIZE));
            assert!(bytes_of(&to).await == numbered(), "devices {ordinals:?}, chunk {chunk}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_blocks_of_a_copy_between_devices_that_was_given_up_are_kept_until_the_device_is_done_with_it() {
    let _alone = Turn::take();
    for ordinals in PAIRS {
        let Some((scheduler, tiers, lease)) = pair(ordinals).await else { return };
        let mut from: DeviceBlock = lease.allocate_in(GPUS[0], SIZE).await.unwrap().typed().unwrap();
        let mut to: DeviceBlock = lease.allocate_in(GPUS[1], SIZE).await.unwrap().typed().unwrap();
        from.write(0, &numbered()).await.unwrap();
        copy(&from, &mut to).await.unwrap();
        let gate = Gate::shut(to.cuda_stream().unwrap());
        let transfer = copy(&from, &mut to).chunk(MIB);
        let progress = transfer.progress();
        let mut transfer = transfer.into_future();
        assert!(futures::poll!(transfer.as_mut()).is_pending());
        drop(transfer);
        assert_eq!(progress.done(), 0);
        drop((from, to));
        let used = || GPUS.map(|id| tiers.space(id).unwrap().used());
        assert!(used().iter().all(|&bytes| bytes >= SIZE), "{:?} while the device is at it", used());
        drop(gate);
        while used() != [0, 0] {
            tokio::task::yield_now().await;
        }
        drop(lease);
        scheduler.verify().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_between_devices_says_which_of_its_blocks_is_gone() {
    let _alone = Turn::take();
    for ordinals in PAIRS {
        let Some((_scheduler, tiers, lease)) = pair(ordinals).await else { return };
        for (gone, fault) in [CopyFault::Read as fn(SpaceError) -> CopyFault, CopyFault::Write].into_iter().enumerate()
        {
            let from = lease.allocate_in(GPUS[0], MIB).await.unwrap();
            let mut to = lease.allocate_in(GPUS[1], MIB).await.unwrap();
            let block = [from.id(), to.id()][gone];
            tiers.space(GPUS[gone]).unwrap().release(block).unwrap();
            let failed = copy(&from, &mut to).await.unwrap_err();
            assert_eq!((failed.done, failed.unknown), (0, 0));
            assert_eq!(failed.fault, fault(SpaceError::StaleBlock { block }));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_device_that_is_dropped_has_copied_what_it_says_and_what_comes_later_comes_after_it() {
    let _alone = Turn::take();
    let Some((scheduler, tiers, lease)) = machine(true).await else { return };
    let mut from: HostBlock = lease.allocate(SIZE).await.unwrap();
    let mut on_device: DeviceBlock = lease.allocate(SIZE).await.unwrap();
    let mut back: HostBlock = lease.allocate(SIZE).await.unwrap();
    from.write(0, &numbered()).await.unwrap();
    on_device.write(0, &numbered()).await.unwrap();
    for polls in 0..6 {
        back.write(0, &vec![3; SIZE as usize]).await.unwrap();
        let transfer = copy(&on_device, &mut back).chunk(MIB);
        let progress = transfer.progress();
        let mut transfer = transfer.into_future();
        for _ in 0..polls {
            let _ = futures::poll!(transfer.as_mut());
            tokio::task::yield_now().await;
        }
        drop(transfer);
        let done = progress.done() as usize;
        assert!(bytes_of(&back).await[..done] == numbered()[..done]);
        // What the device had begun does not land on this.
        back.write(0, &vec![9; SIZE as usize]).await.unwrap();
        assert!(bytes_of(&back).await.iter().all(|&byte| byte == 9), "after {polls} polls");
    }
    // And in the other direction, freed with the copy under way.
    let mut transfer = copy(&from, &mut on_device).chunk(MIB).into_future();
    let _ = futures::poll!(transfer.as_mut());
    drop(transfer);
    drop((from, on_device, back, lease));
    landed(&scheduler, &tiers).await;
}

/// Waits until nothing is charged any more, and nothing allocated then.
async fn landed(scheduler: &Scheduler, tiers: &Tiers) {
    let all_back = async {
        for id in [Tier::Gpu, Tier::Host].map(space) {
            while tiers.usage(id).unwrap().total > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!((tiers.usage(id).unwrap().allocated, tiers.space(id).unwrap().used()), (0, 0));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all_back).await.expect("the copies land");
    scheduler.verify().unwrap();
    assert_eq!(scheduler.stats().leases, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_and_a_host_that_are_full_have_what_can_be_reserved_though_copies_of_freed_blocks_are_in_flight() {
    let Some((scheduler, tiers, lease)) = machine(true).await else { return };
    drop(lease);
    let bytes = vec![1; 64 << 20];
    for round in 0..40 {
        let all = tiers.reserve(Request::new().gpu(64 * MIB).host(64 * MIB));
        let lease = tokio::time::timeout(Duration::from_secs(20), all).await.expect("the copies land").unwrap();
        let mut on_device: DeviceBlock = lease.allocate(64 * MIB).await.expect("what is reserved is there");
        let mut on_host: HostBlock = lease.allocate(64 * MIB).await.expect("what is reserved is there");
        let mut given_up: Pin<Box<dyn Future<Output = ()>>> = match round % 3 {
            0 => Box::pin(copy(&on_host, &mut on_device).into_future().map(drop)),
            1 => Box::pin(copy(&on_device, &mut on_host).into_future().map(drop)),
            _ => Box::pin(on_device.write(0, &bytes).map(drop)),
        };
        for _ in 0..1 + round / 3 {
            if futures::poll!(given_up.as_mut()).is_ready() {
                break;
            }
        }
        drop(given_up);
        drop((on_device, on_host, lease));
        for id in [Tier::Gpu, Tier::Host].map(space) {
            // In this order, as both only fall.
            let charged = tiers.usage(id).unwrap().total;
            assert!(tiers.space(id).unwrap().used() <= charged, "{id} in round {round}");
        }
    }
    landed(&scheduler, &tiers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_block_that_is_freed_behind_its_owner_ends_the_copy_with_what_was_done() {
    let _alone = Turn::take();
    let Some((_scheduler, tiers, lease)) = machine(true).await else { return };
    let from: HostBlock = lease.allocate(SIZE).await.unwrap();
    let mut on_device: DeviceBlock = lease.allocate(SIZE).await.unwrap();
    let id = on_device.id();
    tiers.space(space(Tier::Gpu)).unwrap().release(id).unwrap();
    let failed = copy(&from, &mut on_device).await.unwrap_err();
    assert_eq!((failed.done, failed.unknown), (0, 0));
    assert_eq!(failed.fault, CopyFault::Write(SpaceError::StaleBlock { block: id }));
}

/// The rate has the bytes of two chunks, and those of a third in twelve days.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_waits_for_bandwidth_holds_up_nobody_on_its_streams_or_at_its_blocks() {
    let _alone = Turn::take();
    let rate = Budget::rate(BudgetId::IO, 1).burst(2 * MIB);
    let Some((_scheduler, _tiers, lease)) = machine_with(true, rate).await else { return };
    let mut from: HostBlock = lease.allocate(SIZE).await.unwrap();
    let mut on_device: DeviceBlock = lease.allocate(SIZE).await.unwrap();
    let mut other: DeviceBlock = lease.allocate(SIZE).await.unwrap();
    from.write(0, &numbered()).await.unwrap();
    let slow = copy(&from, &mut on_device).chunk(MIB).charge(BudgetId::IO);
    let progress = slow.progress();
    let mut slow = slow.into_future();
    let quick = async {
        while progress.done() < 2 * MIB {
            tokio::task::yield_now().await;
        }
        assert_eq!(copy(&from, &mut other).await, Ok(SIZE));
        assert!(bytes_of(&from).await == numbered());
    };
    tokio::select! {
        copied = slow.as_mut() => panic!("{copied:?} without bandwidth"),
        quick = tokio::time::timeout(Duration::from_secs(20), quick) => quick.expect("nobody is held up"),
    }
    drop(slow);
    assert_eq!(progress.done(), 2 * MIB);
    assert!(bytes_of(&on_device).await[..2 << 20] == numbered()[..2 << 20]);
    assert!(bytes_of(&other).await == numbered());
}
