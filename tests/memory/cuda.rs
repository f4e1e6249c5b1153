//! What only a CUDA device can show. Without one every test says so and is done.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bursar::memory::{
    CudaConfig, CudaDevice, CudaError, CudaSpace, HeapSource, HostSpace, PoolConfig, Space, SpaceError, Stream,
};
use bursar::{GIB, MIB, SpaceId, Tier};
use cudarc::driver::{CudaStream, DevicePtr, result};

use crate::hand::GPU0;

const A: Stream = Stream(1);
const B: Stream = Stream(2);

/// The first device, or a line that says why there is none.
pub fn open(limit: u64) -> Option<CudaSpace> {
    match CudaSpace::open(GPU0, CudaConfig::new(0).limit(limit)) {
        Ok(space) => Some(space),
        Err(reason @ (CudaError::NoDriver { .. } | CudaError::NoDevice { .. })) => {
            println!("skipped: {reason}");
            None
        }
        Err(failed) => panic!("{failed}"),
    }
}

/// Holds a stream up until it is let go.
struct Gate(Arc<AtomicBool>);

impl Gate {
    fn shut(stream: &CudaStream) -> Gate {
        unsafe extern "C" fn wait(open: *mut c_void) {
            // SAFETY: made by `into_raw` below, for this one call.
            let open = unsafe { Arc::from_raw(open.cast::<AtomicBool>()) };
            while !open.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        let open = Arc::new(AtomicBool::new(false));
        let raw = Arc::into_raw(Arc::clone(&open)).cast_mut().cast();
        stream.context().bind_to_thread().unwrap();
        // SAFETY: the function calls nothing of CUDA, and `raw` is a count of its own.
        unsafe { result::stream::launch_host_function(stream.cu_stream(), wait, raw) }.unwrap();
        Gate(open)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
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
            assert!(error.to_string().starts_with("no CUDA driver: "), "{error}");
        }
    }
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
    stream.memcpy_htod(&vec![1_u8; 2 << 20], &mut block.view().unwrap().bytes_mut()).unwrap();
    drop(block);
    // There is no other memory: B gets it, and is made to wait for A.
    let mut block = gpu.allocate_block(2 * MIB, B).unwrap();
    let stream = Arc::clone(block.cuda_stream());
    let mut view = block.view().unwrap();
    std::thread::scope(|scope| {
        // A copy of plain memory may block until the stream has come to it.
        let copying = scope.spawn(|| stream.memcpy_htod(&vec![2_u8; 2 << 20], &mut view.bytes_mut()));
        std::thread::yield_now();
        drop(gate);
        copying.join().unwrap().unwrap();
    });
    let mut back = vec![0_u8; 2 << 20];
    stream.memcpy_dtoh(&view.bytes(), &mut back).unwrap();
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
        let mut view = block.view().unwrap();
        stream.memcpy_htod(&[round; 1_000], &mut view.bytes_mut()).unwrap();
        assert_eq!(view.bytes().device_ptr(&stream).0, address);
        assert_eq!(stream.clone_dtoh(&view.bytes()).unwrap(), [round; 1_000]);
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
                        let mut view = block.view().unwrap();
                        stream.memcpy_htod(&vec![value; bytes], &mut view.bytes_mut()).unwrap();
                        let back = stream.clone_dtoh(&view.bytes()).unwrap();
                        assert!(back.iter().all(|&byte| byte == value));
                    }
                }
            });
        }
    });
    assert_eq!((refused.into_inner(), gpu.used()), (0, 0));
}
