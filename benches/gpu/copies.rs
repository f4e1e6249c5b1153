//! Copies between host and device, beside plain pinned copies of the same size.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bursar::memory::{BlockId, CudaConfig, CudaSpace, HeapSource, HostBlock, HostSpace, PoolConfig, Space, Stream};
use bursar::tiered::{self, Tiers, copy};
use bursar::{GIB, MIB, Request, Scheduler, SpaceId, Tier};
use bursar_benches::Options;
use cudarc::driver::sys::CUstream;
use cudarc::driver::{CudaStream, DriverError, result};
use tokio::runtime::{Builder, Runtime};

use crate::print;

const STREAM: Stream = Stream(3);
const HOST: SpaceId = SpaceId { tier: Tier::Host, index: 0 };

pub fn run(gpu: &CudaSpace, options: &Options) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let pinned = HostSpace::with(HOST, HeapSource::pinned(gpu.pin()), 2 * GIB, PoolConfig::host(2 * GIB).slab(GIB));
    for bytes in [MIB, 64 * MIB, GIB] {
        let rounds = options.pick(9, 3);
        let each = (256 * MIB / bytes).clamp(1, 32);
        copies(gpu, &pinned, &runtime, bytes, rounds, each);
    }
}

/// Rounds of everything for one size: medians in GB/s, and the ratio to the plain copy of the same round.
fn copies(gpu: &CudaSpace, pinned: &HostSpace, runtime: &Runtime, bytes: u64, rounds: usize, each: u64) {
    let id = runtime.block_on(gpu.allocate(bytes)).expect("room");
    let plain = Plain::new(gpu, bytes);
    let mut host = pinned.allocate_block(bytes).expect("room");
    host.fill(3);
    let mut pageable = vec![5_u8; bytes as usize];
    let mut host = Some(host);
    let mut tiers = runtime.block_on(Leased::new(bytes));
    let names = ["plain", "registered", "block", "slice", "tiered copy"];
    let mut found: Vec<[[f64; 5]; 2]> = Vec::new();
    for _ in 0..=rounds {
        let up = [
            speed(bytes, each, || plain.up()),
            speed(bytes, each, || plain.up_from(host.as_deref().expect("there"))),
            speed(bytes, each, || host = Some(runtime.block_on(up(gpu, id, host.take().expect("there"))))),
            speed(bytes, each, || runtime.block_on(gpu.write(STREAM, id, 0, &pageable)).expect("copied")),
            speed(bytes, each, || runtime.block_on(tiers.up())),
        ];
        let down = [
            speed(bytes, each, || plain.down()),
            speed(bytes, each, || plain.down_to(host.as_deref_mut().expect("there"))),
            speed(bytes, each, || host = Some(runtime.block_on(down(gpu, id, host.take().expect("there"))))),
            speed(bytes, each, || runtime.block_on(gpu.read(STREAM, id, 0, &mut pageable)).expect("copied")),
            speed(bytes, each, || runtime.block_on(tiers.down())),
        ];
        found.push([up, down]);
    }
    // The first round warms up.
    found.remove(0);
    for (direction, way) in ["to device", "to host"].into_iter().enumerate() {
        for (at, name) in names.into_iter().enumerate() {
            let of = |round: &[[f64; 5]; 2]| round[direction][at];
            let speeds = median(found.iter().map(of).collect());
            let ratio = median(found.iter().map(|round| of(round) / round[direction][0]).collect());
            print(name, &format!("{} MiB {way}, GB/s", bytes / MIB), speeds);
            print(name, &format!("{} MiB {way}, x plain", bytes / MIB), ratio);
        }
    }
    black_box(&pageable);
    runtime.block_on(gpu.free(id)).expect("live");
}

async fn up(gpu: &CudaSpace, id: BlockId, host: HostBlock) -> HostBlock {
    let host = Arc::new(host);
    gpu.write_from(STREAM, id, 0, &host).await.expect("copied");
    Arc::into_inner(host).expect("the copy is done with it")
}

async fn down(gpu: &CudaSpace, id: BlockId, host: HostBlock) -> HostBlock {
    gpu.read_into(STREAM, id, 0, host).await.expect("copied")
}

/// A block of pinned memory and one of the device, inside a lease.
struct Leased {
    host: tiered::HostBlock,
    device: tiered::DeviceBlock,
}

impl Leased {
    async fn new(bytes: u64) -> Self {
        let gpu = crate::open(CudaConfig::new(0).limit(bytes.max(2 * MIB))).expect("it was there before");
        let host = HostSpace::with(HOST, HeapSource::pinned(gpu.pin()), bytes, PoolConfig::host(bytes).slab(bytes));
        let scheduler = Scheduler::builder().gpu(bytes).host(bytes).spawn().expect("a plain configuration");
        let tiers = Tiers::builder().space(gpu).space(host).build(&scheduler).expect("a budget each");
        let lease = tiers.reserve(Request::new().gpu(bytes).host(bytes)).await.expect("room");
        let mut host: tiered::HostBlock = lease.allocate(bytes).await.expect("room");
        host.write(0, &vec![3; bytes as usize]).await.expect("written");
        Leased { host, device: lease.allocate(bytes).await.expect("room") }
    }

    async fn up(&mut self) {
        copy(&self.host, &mut self.device).await.expect("copied");
    }

    async fn down(&mut self) {
        copy(&self.device, &mut self.host).await.expect("copied");
    }
}

/// GB/s of so many copies, one after the other.
pub fn speed(bytes: u64, each: u64, mut copy: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..each).for_each(|_| copy());
    (bytes * each) as f64 / start.elapsed().as_nanos() as f64
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// What CUDA's own functions do: memory that the driver pinned, one asynchronous copy, and waiting for its stream.
pub struct Plain {
    stream: Arc<CudaStream>,
    device: u64,
    host: *mut u8,
    bytes: usize,
}

impl Plain {
    pub fn new(gpu: &CudaSpace, bytes: u64) -> Self {
        let stream = Arc::clone(gpu.cuda_stream(Stream(4)));
        stream.context().bind_to_thread().expect("a context");
        let bytes = bytes as usize;
        // SAFETY: freed in `drop`; the host memory is written before it is read.
        let (device, host) = unsafe {
            let host = result::malloc_host(bytes, 0).expect("pinned memory").cast::<u8>();
            host.write_bytes(7, bytes);
            (result::malloc_sync(bytes).expect("device memory"), host)
        };
        Plain { stream, device, host, bytes }
    }

    pub fn up(&self) {
        // SAFETY: written in `new`; this is the only reference.
        self.up_from(unsafe { std::slice::from_raw_parts(self.host, self.bytes) });
    }

    pub fn down(&self) {
        // SAFETY: as above.
        self.down_to(unsafe { std::slice::from_raw_parts_mut(self.host, self.bytes) });
    }

    fn up_from(&self, host: &[u8]) {
        // SAFETY: both are as long, and are kept until the stream has passed.
        self.wait(|stream| unsafe { result::memcpy_htod_async(self.device, host, stream) });
    }

    fn down_to(&self, host: &mut [u8]) {
        // SAFETY: as above.
        self.wait(|stream| unsafe { result::memcpy_dtoh_async(host, self.device, stream) });
    }

    fn wait(&self, copy: impl FnOnce(CUstream) -> Result<(), DriverError>) {
        copy(self.stream.cu_stream()).and_then(|()| self.stream.synchronize()).expect("a copy");
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, and no copy is under way.
        unsafe {
            result::free_host(self.host.cast()).expect("pinned memory");
            result::free_sync(self.device).expect("device memory");
        }
    }
}
