//! The driver's two ways to give memory: `cuMemAlloc`, and mapping (`cuMemAddressReserve`, `cuMemCreate`, `cuMemMap`,
//! `cuMemSetAccess`). What a slab costs, what it costs to grow, what it costs to give one back while the device is
//! busy, and what comes together again of slabs that were given back here and there. Says which is the better one for a
//! pool.

use std::mem::zeroed;
use std::time::Instant;

use bursar::memory::{CudaSpace, Stream};
use bursar::{GIB, MIB};
use bursar_benches::{Options, Table};
use cudarc::driver::sys::{self, CUdeviceptr, CUmemGenericAllocationHandle};
use cudarc::driver::{DriverError, result};

use crate::copies::median;

const SLAB: u64 = 64 * MIB;

pub fn run(gpu: &CudaSpace, options: &Options) {
    gpu.context().bind_to_thread().expect("a context");
    let slabs = slabs(options);
    let growth = growth(options);
    let busy = [busy::<Allocated>(gpu), busy::<Mapped>(gpu)];
    let whole = scattered(gpu);
    let [allocated, mapped] = busy.map(|millis| format!("{millis:.2}"));
    println!(
        "\ngiven back while a stream has work for some ten milliseconds, ms: cuMemAlloc {allocated}, mapping {mapped}"
    );
    let (held, largest) = whole;
    let share = largest as f64 / held as f64;
    println!("every other slab of 64 MiB given back: {held} MiB, of which cuMemAlloc gives {largest} MiB in one piece");
    let dear = slabs.1 / slabs.0;
    let why = format!(
        "a slab of 64 MiB costs {dear:.1} times as much to map, growing {growth:.1} times; cuMemAlloc gives {:.0} % of \
         what came back in pieces in one piece again, mapping gives all of it",
        share * 100.0
    );
    let better = if share >= 0.9 && dear >= 1.0 { "cuMemAlloc" } else { "mapping" };
    println!("the pool takes slabs with cuMemAlloc; by these figures {better} is the better way: {why}");
}

/// A way to get memory and to give it back.
trait Way: Sized {
    const NAME: &str;
    fn take(bytes: u64) -> Result<Self, DriverError>;
}

struct Allocated(CUdeviceptr);

struct Mapped {
    address: CUdeviceptr,
    bytes: usize,
    pieces: Vec<CUmemGenericAllocationHandle>,
}

impl Way for Allocated {
    const NAME: &str = "cuMemAlloc";

    fn take(bytes: u64) -> Result<Self, DriverError> {
        // SAFETY: the context is current; nobody reads the memory.
        unsafe { result::malloc_sync(bytes as usize) }.map(Allocated)
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: taken above, and freed once.
        unsafe { result::free_sync(self.0) }.expect("it was taken");
    }
}

impl Way for Mapped {
    const NAME: &str = "mapping";

    fn take(bytes: u64) -> Result<Self, DriverError> {
        Mapped::of_pieces(bytes, bytes)
    }
}

impl Mapped {
    /// Addresses without memory.
    fn reserve(bytes: u64) -> Result<Self, DriverError> {
        let mut address = 0;
        // SAFETY: the driver writes an address.
        unsafe { sys::cuMemAddressReserve(&mut address, bytes as usize, 0, 0, 0) }.result()?;
        Ok(Mapped { address, bytes: bytes as usize, pieces: Vec::new() })
    }

    /// Memory in one row of addresses, of pieces of this size.
    fn of_pieces(bytes: u64, piece: u64) -> Result<Self, DriverError> {
        let mut mapped = Mapped::reserve(bytes)?;
        (0..bytes).step_by(piece as usize).try_for_each(|at| mapped.map(at, piece))?;
        Ok(mapped)
    }

    /// Puts memory behind so many addresses.
    fn map(&mut self, at: u64, bytes: u64) -> Result<(), DriverError> {
        let (address, bytes) = (self.address + at, bytes as usize);
        // SAFETY: plain data of C, of which zero is a value: device 0, no handle that is passed on. The addresses were
        // reserved and nothing is behind them.
        unsafe {
            let mut kind: sys::CUmemAllocationProp = zeroed();
            kind.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
            kind.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
            let mut piece = 0;
            sys::cuMemCreate(&mut piece, bytes, &kind, 0).result()?;
            sys::cuMemMap(address, bytes, 0, piece, 0).result()?;
            self.pieces.push(piece);
            let mut access: sys::CUmemAccessDesc = zeroed();
            access.location = kind.location;
            access.flags = sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            sys::cuMemSetAccess(address, bytes, &access, 1).result()
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped above from the first address on, and nothing uses it.
        unsafe {
            if !self.pieces.is_empty() {
                sys::cuMemUnmap(self.address, self.bytes).result().expect("it was mapped");
            }
            for &piece in &self.pieces {
                sys::cuMemRelease(piece).result().expect("it was created");
            }
            sys::cuMemAddressFree(self.address, self.bytes).result().expect("it was reserved");
        }
    }
}

fn micros(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / 1e3
}

/// Medians of taking one and of giving it back.
fn one(rounds: usize, take: impl Fn() -> Box<dyn std::any::Any>) -> (f64, f64) {
    let mut found = Vec::new();
    for _ in 0..=rounds {
        let mut slab = None;
        let taken = micros(|| slab = Some(take()));
        found.push((taken, micros(|| drop(slab.take()))));
    }
    found.remove(0);
    (median(found.iter().map(|pair| pair.0).collect()), median(found.iter().map(|pair| pair.1).collect()))
}

fn boxed<W: Way + 'static>(bytes: u64) -> Box<dyn std::any::Any> {
    Box::new(W::take(bytes).expect("room"))
}

/// A table of what slabs cost. Returns what one of 64 MiB costs, taken and given back, allocated and mapped.
fn slabs(options: &Options) -> (f64, f64) {
    let rounds = options.pick(31, 5);
    let mut table = Table::new(["slab, us", "cuMemAlloc", "cuMemFree", "map", "unmap", "map, of 2 MiB", "unmap"]);
    let mut usual = (0.0, 0.0);
    for bytes in [2 * MIB, SLAB, GIB] {
        let allocated = one(rounds, || boxed::<Allocated>(bytes));
        let mapped = one(rounds, || boxed::<Mapped>(bytes));
        let small = one(rounds, || Box::new(Mapped::of_pieces(bytes, 2 * MIB).expect("room")));
        if bytes == SLAB {
            usual = (allocated.0 + allocated.1, mapped.0 + mapped.1);
        }
        let figures = [allocated.0, allocated.1, mapped.0, mapped.1, small.0, small.1].map(|us| format!("{us:.1}"));
        let [a, b, c, d, e, f] = figures;
        table.row([format!("{} MiB", bytes / MIB), a, b, c, d, e, f]);
    }
    table.print();
    usual
}

/// Sixteen slabs one after the other: on their own, or mapped behind each other. Returns by how much the latter takes
/// longer.
fn growth(options: &Options) -> f64 {
    let (mut alone, mut behind) = (Vec::new(), Vec::new());
    for _ in 0..=options.pick(9, 3) {
        let mut slabs: Vec<Allocated> = Vec::new();
        alone.push(micros(|| slabs.extend((0..16).map(|_| Allocated::take(SLAB).expect("room")))) / 16.0);
        let mut mapped = Mapped::reserve(16 * SLAB).expect("addresses");
        behind.push(micros(|| (0..16).for_each(|at| mapped.map(at * SLAB, SLAB).expect("room"))) / 16.0);
    }
    let [alone, behind] = [alone, behind].map(median);
    println!("\ngrowing by 64 MiB, us: cuMemAlloc {alone:.1}, mapped behind what is there {behind:.1}");
    behind / alone
}

/// How long giving a slab back takes while another stream is at work.
fn busy<W: Way>(gpu: &CudaSpace) -> f64 {
    let stream = gpu.cuda_stream(Stream(1));
    let work = Allocated::take(4 * GIB).expect("room");
    let found = (0..5).map(|_| {
        let slab = W::take(SLAB).expect("room");
        for _ in 0..16 {
            // SAFETY: both halves are memory until the stream has passed, which is waited for below.
            let copied =
                unsafe { result::memcpy_dtod_async(work.0, work.0 + 2 * GIB, 2 * GIB as usize, stream.cu_stream()) };
            copied.expect("a copy");
        }
        let took = micros(|| drop(slab));
        stream.synchronize().expect("a stream");
        took / 1e3
    });
    let found = median(found.collect());
    println!("{}: a slab given back beside a busy stream after {found:.2} ms", W::NAME);
    found
}

/// Fills the device with slabs, gives every other back, and asks for as much as that in one piece, then for less. In
/// MiB: what was given back, and the largest piece.
fn scattered(gpu: &CudaSpace) -> (u64, u64) {
    let free = gpu.free_memory().expect("a device").saturating_sub(2 * GIB);
    let slabs: Vec<_> = (0..free / SLAB).map_while(|_| Allocated::take(SLAB).ok()).collect();
    let rest = gpu.free_memory().expect("a device");
    let kept: Vec<_> = slabs.into_iter().step_by(2).collect();
    let back = gpu.free_memory().expect("a device").saturating_sub(rest);
    let sizes = (1..=20).rev().map(|part| back / 20 * part / (2 * MIB) * (2 * MIB));
    let largest = sizes.into_iter().find(|&bytes| bytes > 0 && Allocated::take(bytes).is_ok()).unwrap_or(0);
    drop(kept);
    (back / MIB, largest / MIB)
}
