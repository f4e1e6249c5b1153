//! What only a CUDA device can show. Without one every test says so and is done.

use std::future::Future;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bursar::memory::{
    BlockId, BlockSize, CudaConfig, CudaDevice, CudaError, CudaSpace, HeapSource, HostSpace, PoolConfig, Remains,
    Space, SpaceError, Stream,
};
use bursar::{GIB, MIB, SpaceId, Tier};
use cudarc::driver::{CudaContext, DevicePtr, result};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::gate::{Gate, Turn};
use crate::hand::GPU0;

const A: Stream = Stream(1);
const B: Stream = Stream(2);

/// The first device, for one test at a time.
#[derive(Debug)]
pub struct Alone {
    gpu: CudaSpace,
    _turn: Turn,
}

impl Deref for Alone {
    type Target = CudaSpace;

    fn deref(&self) -> &CudaSpace {
        &self.gpu
    }
}

#[async_trait]
impl Space for Alone {
    fn id(&self) -> SpaceId {
        self.gpu.id()
    }

    fn capacity(&self) -> u64 {
        self.gpu.capacity()
    }

    fn used(&self) -> u64 {
        self.gpu.used()
    }

    fn probe(&self) -> Result<u64, SpaceError> {
        self.gpu.probe()
    }

    fn footprint(&self, bytes: u64) -> u64 {
        self.gpu.footprint(bytes)
    }

    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError> {
        self.gpu.size(block)
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        self.gpu.allocate(bytes).await
    }

    async fn allocate_on(&self, stream: Stream, bytes: u64) -> Result<BlockId, SpaceError> {
        self.gpu.allocate_on(stream, bytes).await
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        self.gpu.release(block)
    }

    fn release_then(&self, block: BlockId, then: &mut dyn FnMut() -> Remains) -> Result<Option<Remains>, SpaceError> {
        self.gpu.release_then(block, then)
    }

    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        self.gpu.write(stream, block, offset, bytes).await
    }

    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        self.gpu.read(stream, block, offset, into).await
    }

    fn cuda(&self) -> Option<&CudaSpace> {
        Some(&self.gpu)
    }
}

/// The first device, or a line that says why there is none: no driver, no device, or a driver that does not begin.
pub fn open(limit: u64) -> Option<Alone> {
    use CudaError::{Driver, NoDevice, NoDriver};
    let turn = Turn::take();
    match CudaSpace::open(GPU0, CudaConfig::new(0).limit(limit)) {
        Ok(gpu) => Some(Alone { gpu, _turn: turn }),
        Err(reason @ (NoDriver { .. } | NoDevice { .. } | Driver { call: "cuInit", .. })) => {
            println!("skipped: {reason}");
            None
        }
        Err(failed) => panic!("{failed}"),
    }
}

#[test]
fn without_a_driver_or_a_device_the_answer_is_an_error_and_not_a_panic() {
    let devices = CudaDevice::all();
    let missing = CudaSpace::open(GPU0, CudaConfig::new(1_000)).unwrap_err();
    match devices {
        Ok(devices) => {
            let expected = CudaError::NoDevice { ordinal: 1_000, devices: devices.len() };
            assert_eq!(missing, expected);
            assert!(devices.iter().all(|device| device.memory > 0 && !device.name.is_empty()));
        }
        Err(error) => {
            assert_eq!(missing, error);
            let text = error.to_string();
            assert!(text.starts_with("no CUDA driver: ") || text.contains("cuInit failed: "), "{text}");
        }
    }
}

#[test]
fn a_limit_below_what_a_device_gives_at_once_is_refused_with_the_smallest_there_is_whether_there_is_a_device_or_not() {
    for asked in [0, 1, MIB, 2 * MIB - 1] {
        let refused = CudaSpace::open(GPU0, CudaConfig::new(0).limit(asked)).unwrap_err();
        assert_eq!(refused, CudaError::TooSmall { asked, least: 2 * MIB });
        assert!(refused.to_string().ends_with("allow at least 2.0 MiB"), "{refused}");
    }
    let Some(gpu) = open(2 * MIB) else { return };
    assert_eq!((gpu.capacity(), gpu.allocate_block(2 * MIB, A).map(|block| block.len())), (2 * MIB, Ok(2 * MIB)));
}

#[test]
fn a_block_freed_on_a_busy_stream_is_not_given_to_another_and_is_given_to_the_same_at_once() {
    let Some(gpu) = open(GIB) else { return };
    let block = gpu.allocate_block(MIB, A).unwrap();
    let address = block.address();
    let gate = Gate::shut(block.cuda_stream());
    drop(block);
    let other = gpu.allocate_block(MIB, B).unwrap();
    assert_ne!(other.address(), address);
    assert_eq!(gpu.allocate_block(MIB, A).unwrap().address(), address);
    // Brought out of the cache it waits for its event.
    gpu.pool().trim(0);
    assert!(gpu.pool().usage().pending >= MIB);
    drop(gate);
    gpu.cuda_stream(A).synchronize().unwrap();
    gpu.pool().trim(0);
    assert_eq!(gpu.pool().usage().pending, 0);
}

#[test]
fn memory_taken_over_from_a_busy_stream_holds_the_bytes_of_the_later_one() {
    let Some(gpu) = open(2 * MIB) else { return };
    let mut block = gpu.allocate_block(2 * MIB, A).unwrap();
    let gate = Gate::shut(block.cuda_stream());
    let stream = Arc::clone(block.cuda_stream());
    stream.memcpy_htod(&vec![1_u8; 2 << 20], &mut block.view::<u8>().unwrap().as_view_mut()).unwrap();
    drop(block);
    // There is no other memory: B gets it, and is made to wait for A.
    let mut block = gpu.allocate_block(2 * MIB, B).unwrap();
    let stream = Arc::clone(block.cuda_stream());
    let mut view = block.view::<u8>().unwrap();
    std::thread::scope(|scope| {
        // A copy of plain memory may block until the stream has come to it.
        let copying = scope.spawn(|| stream.memcpy_htod(&vec![2_u8; 2 << 20], &mut view.as_view_mut()));
        std::thread::yield_now();
        drop(gate);
        copying.join().unwrap().unwrap();
    });
    let mut back = vec![0_u8; 2 << 20];
    stream.memcpy_dtoh(&view.as_view(), &mut back).unwrap();
    stream.synchronize().unwrap();
    assert!(back.iter().all(|&byte| byte == 2));
}

#[test]
fn a_view_shows_the_block_and_frees_nothing() {
    let Some(gpu) = open(GIB) else { return };
    let mut block = gpu.allocate_block(1_000, A).unwrap();
    let stream = Arc::clone(block.cuda_stream());
    let address = block.address();
    for round in 0..3_u8 {
        let mut view = block.view::<u8>().unwrap();
        stream.memcpy_htod(&[round; 1_000], &mut view.as_view_mut()).unwrap();
        assert_eq!(view.as_view().device_ptr(&stream).0, address);
        assert_eq!(stream.clone_dtoh(&view.as_view()).unwrap(), [round; 1_000]);
    }
    assert_eq!(gpu.used(), block.capacity());
}

#[tokio::test]
async fn a_block_becomes_an_id_and_a_block_again() {
    let Some(gpu) = open(GIB) else { return };
    let id = gpu.into_id(gpu.allocate_block(100, A).unwrap()).unwrap();
    gpu.write(A, id, 10, &[3; 20]).await.unwrap();
    let mut back = [0; 20];
    gpu.read(A, id, 10, &mut back).await.unwrap();
    assert_eq!(back, [3; 20]);
    let block = gpu.take(id).unwrap();
    assert_eq!((block.len(), gpu.take(id).unwrap_err()), (100, SpaceError::StaleBlock { block: id }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_are_given_up_do_not_land_on_later_ones_of_their_stream() {
    let Some(gpu) = open(GIB) else { return };
    let gpu = Arc::new(gpu);
    let id = gpu.allocate(16 * MIB).await.unwrap();
    for round in 0..20_u8 {
        let gate = Gate::shut(gpu.cuda_stream(A));
        let mut given_up = Box::pin(gpu.write(A, id, 0, &[99; 16 << 20]));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        drop(given_up);
        drop(gate);
        gpu.write(A, id, 0, &vec![round; 16 << 20]).await.unwrap();
        let mut back = vec![0; 16 << 20];
        gpu.read(A, id, 0, &mut back).await.unwrap();
        assert!(back.iter().all(|&byte| byte == round));
    }
}

#[test]
fn pinned_host_memory_is_a_slice_like_any_other() {
    let Some(gpu) = open(GIB) else { return };
    let host = SpaceId { tier: Tier::Host, index: 0 };
    let pinned = HostSpace::with(host, HeapSource::pinned(gpu.pin()), 64 * MIB, PoolConfig::host(64 * MIB));
    let mut block = pinned.allocate_block(3 * MIB).unwrap();
    block.fill(7);
    assert!(block.is_pinned() && block.iter().all(|&byte| byte == 7));
    drop(block);
    let reserved = pinned.pool().usage().reserved;
    assert_eq!((pinned.pool().trim(0), pinned.pool().usage().reserved), (reserved, 0));
}

#[test]
fn the_device_has_less_free_by_what_the_pool_reserved_and_has_it_again_after_a_trim() {
    let Some(gpu) = open(4 * GIB) else { return };
    let before = gpu.free_memory().unwrap();
    let block = gpu.allocate_block(GIB, A).unwrap();
    let taken = before - gpu.free_memory().unwrap();
    assert!((GIB..=GIB + 64 * MIB).contains(&taken), "{taken}");
    drop(block);
    gpu.cuda_stream(A).synchronize().unwrap();
    assert_eq!(gpu.pool().trim(0), GIB);
    assert_eq!(gpu.pool().usage().reserved, 0);
    assert!(before.abs_diff(gpu.free_memory().unwrap()) <= 64 * MIB);
}

#[test]
fn what_others_use_of_the_device_is_seen_when_it_is_probed_and_what_the_pool_has_is_not() {
    let Some(gpu) = open(u64::MAX) else { return };
    let before = gpu.probe().unwrap();
    let block = gpu.allocate_block(GIB, A).unwrap();
    assert!(before.abs_diff(gpu.probe().unwrap()) <= 64 * MIB);
    gpu.context().bind_to_thread().unwrap();
    // SAFETY: freed below, and used for nothing.
    let others = unsafe { result::malloc_sync(2 << 30) }.unwrap();
    let less = before.saturating_sub(gpu.probe().unwrap());
    // SAFETY: allocated above.
    unsafe { result::free_sync(others) }.unwrap();
    assert!((2 * GIB - 64 * MIB..=2 * GIB + 64 * MIB).contains(&less), "{less}");
    assert!(before.abs_diff(gpu.probe().unwrap()) <= 64 * MIB);
    drop(block);
}

#[test]
fn eight_threads_with_streams_of_their_own_never_share_a_byte() {
    let Some(gpu) = open(512 * MIB) else { return };
    let refused = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let (gpu, refused) = (&gpu, &refused);
            scope.spawn(move || {
                let stream = Arc::clone(gpu.cuda_stream(Stream(thread)));
                for round in 0..50_u8 {
                    let value = thread.wrapping_mul(31).wrapping_add(round);
                    let bytes = (1 << 16) + usize::from(value) * 4_099;
                    let blocks: Vec<_> = (0..8).map(|_| gpu.allocate_block(bytes as u64, Stream(thread))).collect();
                    refused.fetch_add(blocks.iter().filter(|block| block.is_err()).count() as u64, Ordering::Relaxed);
                    for mut block in blocks.into_iter().flatten() {
                        let mut view = block.view::<u8>().unwrap();
                        stream.memcpy_htod(&vec![value; bytes], &mut view.as_view_mut()).unwrap();
                        let back = stream.clone_dtoh(&view.as_view()).unwrap();
                        assert!(back.iter().all(|&byte| byte == value));
                    }
                }
            });
        }
    });
    assert_eq!((refused.into_inner(), gpu.used()), (0, 0));
}

/// A pinned and a plain space of the host.
fn hosts(gpu: &CudaSpace) -> [HostSpace; 2] {
    let source = [HeapSource::pinned(gpu.pin()), HeapSource::new()];
    let id = SpaceId { tier: Tier::Host, index: 0 };
    source.map(|source| HostSpace::with(id, source, GIB, PoolConfig::host(GIB).slab(256 * MIB)))
}

/// What is current on this thread.
fn current() -> Option<usize> {
    result::ctx::get_current().unwrap().map(|context| context.addr())
}

#[tokio::test]
async fn whatever_a_device_is_asked_the_context_that_was_current_on_the_thread_is_so_afterwards() {
    // Another device's, where there is one.
    let other = CudaDevice::all().is_ok_and(|devices| devices.len() > 1).then(|| CudaContext::new(1).unwrap());
    let Some(gpu) = open(64 * MIB) else { return };
    let [host, _] = hosts(&gpu);
    let expected = other.as_ref().map(|context| context.cu_ctx().addr());
    assert_eq!(current(), expected, "it was opened");
    let (id, bytes) = (gpu.allocate(5 * MIB).await.unwrap(), vec![7; 5 << 20]);
    gpu.write(A, id, 0, &bytes).await.unwrap();
    gpu.read(B, id, 0, &mut vec![0; 5 << 20]).await.unwrap();
    assert_eq!(current(), expected, "slices were copied");
    let block = Arc::new(host.allocate_block(5 * MIB).unwrap());
    gpu.write_from(A, id, 0, &block).await.unwrap();
    gpu.read_into(B, id, 0, host.allocate_block(5 * MIB).unwrap()).await.unwrap();
    assert_eq!(current(), expected, "blocks were copied");
    gpu.free(id).await.unwrap();
    let mut block = gpu.allocate_block(40 * MIB, A).unwrap();
    block.used_on(B);
    drop(block.view::<u8>().unwrap());
    drop(block);
    assert_eq!(current(), expected, "a block was used and freed");
    gpu.probe().unwrap();
    while gpu.pool().usage().reserved > 0 {
        gpu.pool().trim(0);
    }
    assert_eq!(current(), expected, "all went back to the driver");
}

/// Bytes that tell where they are.
fn numbered(bytes: &mut [u8]) {
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&(at as u64).to_le_bytes()[..chunk.len()]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_blocks_pinned_or_not_are_copied_whole_there_and_back() {
    let Some(gpu) = open(GIB) else { return };
    for host in hosts(&gpu) {
        for length in [1, MIB, 16 * MIB, 100 * MIB + 5] {
            let id = gpu.allocate(length + 77).await.unwrap();
            let mut from = host.allocate_block(length).unwrap();
            numbered(&mut from);
            let from = Arc::new(from);
            gpu.write_from(A, id, 77, &from).await.unwrap();
            let into = gpu.read_into(B, id, 77, host.allocate_block(length).unwrap()).await.unwrap();
            assert!(into[..] == from[..]);
            assert_eq!(Arc::strong_count(&from), 1);
            gpu.free(id).await.unwrap();
        }
        assert_eq!((host.used(), gpu.used()), (0, 0));
    }
}

#[tokio::test]
async fn a_host_block_that_does_not_fit_or_whose_block_is_gone_is_not_copied() {
    let Some(gpu) = open(GIB) else { return };
    let id = gpu.allocate(100).await.unwrap();
    for host in hosts(&gpu) {
        let outside = SpaceError::OutOfRange { block: id, size: 100, offset: 60, length: 41 };
        let from = Arc::new(host.allocate_block(41).unwrap());
        assert_eq!(gpu.write_from(A, id, 60, &from).await, Err(outside.clone()));
        let read = gpu.read_into(A, id, 60, host.allocate_block(41).unwrap()).await;
        assert_eq!(read.unwrap_err(), outside);
        let other = gpu.allocate(100).await.unwrap();
        gpu.free(other).await.unwrap();
        assert_eq!(gpu.write_from(A, other, 0, &from).await, Err(SpaceError::StaleBlock { block: other }));
        drop(from);
        assert_eq!(host.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_block_is_kept_until_the_device_is_done_with_a_copy_that_was_given_up() {
    let Some(gpu) = open(GIB) else { return };
    let [host, _] = hosts(&gpu);
    let id = gpu.allocate(100 * MIB).await.unwrap();
    for _ in 0..5 {
        let into = host.allocate_block(100 * MIB).unwrap();
        let gate = Gate::shut(gpu.cuda_stream(A));
        let mut given_up = Box::pin(gpu.read_into(A, id, 0, into));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        drop(given_up);
        // Chunks are queued: the memory is not anybody else's yet.
        assert_eq!(host.used(), 100 * MIB);
        drop(gate);
        gpu.cuda_stream(A).synchronize().unwrap();
        while host.used() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_after_a_block_that_is_freed_under_a_dropped_copy_comes_right_after_its_memory() {
    let Some(gpu) = open(64 * MIB) else { return };
    let [host, _] = hosts(&gpu);
    let (from, plain) = (Arc::new(host.allocate_block(MIB).unwrap()), vec![1; MIB as usize]);
    for direct in [true, false] {
        let block = gpu.allocate_on(A, MIB).await.unwrap();
        let gate = Gate::shut(gpu.cuda_stream(A));
        let mut given_up: Pin<Box<dyn Future<Output = _>>> = match direct {
            true => Box::pin(gpu.write_from(A, block, 0, &from)),
            false => Box::pin(gpu.write(A, block, 0, &plain)),
        };
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        drop(given_up);
        let (charge, back) = oneshot::channel::<()>();
        let (mut charge, mut back) = (Some(charge), pin!(back));
        assert!(gpu.release_then(block, &mut || Box::new(charge.take())).unwrap().is_none());
        assert!(charge.is_none(), "the device is still at it");
        assert!(futures::poll!(back.as_mut()).is_pending());
        assert_eq!(gpu.used(), gpu.footprint(MIB));
        drop(gate);
        let back = timeout(Duration::from_secs(20), back).await;
        assert!(back.expect("the copy has landed").is_err(), "dropped");
        assert_eq!(gpu.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_copies_at_once_share_the_memory_that_they_go_through() {
    let Some(gpu) = open(2 * GIB) else { return };
    let gpu = Arc::new(gpu);
    let copy = |number: u8| {
        let gpu = Arc::clone(&gpu);
        tokio::spawn(async move {
            let id = gpu.allocate(24 * MIB).await.unwrap();
            gpu.write(Stream(number), id, 0, &vec![number; 24 << 20]).await.unwrap();
            let mut back = vec![0; 24 << 20];
            gpu.read(Stream(number), id, 0, &mut back).await.unwrap();
            assert!(back.iter().all(|&byte| byte == number));
        })
    };
    // More than there are chunks.
    let copies: Vec<_> = (0..24).map(copy).collect();
    for copy in copies {
        copy.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_slices_are_copied_whole_by_several_threads_and_given_up_at_any_time() {
    let Some(gpu) = open(GIB) else { return };
    let id = gpu.allocate(150 * MIB).await.unwrap();
    let mut from = vec![0; 150 << 20];
    numbered(&mut from);
    for length in [32 << 20, (32 << 20) + 1, (100 << 20) + 5, 150 << 20] {
        gpu.write(A, id, 0, &from[..length]).await.unwrap();
        let mut back = vec![0; length];
        gpu.read(B, id, 0, &mut back).await.unwrap();
        assert!(back == from[..length]);
    }
    for _ in 0..5 {
        let mut slice = vec![9; 100 << 20];
        let gate = Gate::shut(gpu.cuda_stream(A));
        let mut given_up = Box::pin(gpu.write(A, id, 0, &slice));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        drop(given_up);
        slice.fill(1);
        let mut given_up = Box::pin(gpu.read(A, id, 0, &mut slice));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        drop(given_up);
        drop(gate);
        gpu.cuda_stream(A).synchronize().unwrap();
        assert!(slice.iter().all(|&byte| byte == 1));
    }
    gpu.write(A, id, 0, &from).await.unwrap();
    let mut back = vec![0; 150 << 20];
    gpu.read(A, id, 0, &mut back).await.unwrap();
    assert!(back == from);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_on_another_stream_comes_after_the_work_of_a_block_that_had_the_memory_before() {
    let Some(gpu) = open(GIB) else { return };
    let mut block = gpu.allocate_block(MIB, Stream(0)).unwrap();
    let address = block.address();
    let stream = Arc::clone(block.cuda_stream());
    let gate = Gate::shut(&stream);
    stream.memset_zeros(&mut block.view::<u8>().unwrap().as_view_mut()).unwrap();
    drop(block);
    let id = gpu.allocate(MIB).await.unwrap();
    let bytes = vec![7; 1 << 20];
    let mut writing = Box::pin(gpu.write(B, id, 0, &bytes));
    assert!(futures::poll!(writing.as_mut()).is_pending());
    drop(gate);
    writing.await.unwrap();
    stream.synchronize().unwrap();
    let mut back = vec![0; 1 << 20];
    gpu.read(B, id, 0, &mut back).await.unwrap();
    assert_eq!(gpu.take(id).unwrap().address(), address);
    assert!(back == bytes);
}
