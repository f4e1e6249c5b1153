//! What a block of device memory costs: allocate and free, as a pair. `peers.cpp` has the same sizes, picks and loops.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bursar::memory::{CudaSpace, DeviceBlock, Stream};
use bursar_benches::Options;

use crate::print;

const SIZES: usize = 4_096;
const CHURN: usize = 1_000;
const CHURN_OF_THREAD: usize = 200;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Log-uniform from 256 B to 4 MiB.
fn sizes(seed: u64) -> Vec<u64> {
    let mut random = Random(seed);
    let share = |bits: u64| (bits >> 11) as f64 / (1_u64 << 53) as f64;
    (0..SIZES).map(|_| (8.0 + 14.0 * share(random.next())).exp2() as u64).collect()
}

pub fn run(gpu: &CudaSpace, options: &Options) {
    let pairs = options.pick(500_000, 50_000);
    let window = Duration::from_millis(options.pick(150, 30));
    print("bursar", "lifo", lifo(gpu, pairs));
    print("bursar", &format!("churn {CHURN}"), churn(gpu, CHURN, pairs));
    for count in [1, 2, 4, 8, 16] {
        print("bursar", &format!("threads {count}"), threads(gpu, count, window));
    }
    for live in [100, 1_000, 10_000, 100_000] {
        let beside = Churn::new(gpu, live, Stream(1));
        print("bursar", &format!("lifo beside {live}"), lifo(gpu, pairs));
        drop(beside);
    }
}

fn allocate(gpu: &CudaSpace, bytes: u64, stream: Stream) -> DeviceBlock {
    gpu.allocate_block(bytes, stream).expect("a device with room for it")
}

fn lifo(gpu: &CudaSpace, pairs: usize) -> f64 {
    let drawn = sizes(1);
    let steps = |count: usize| (0..count).for_each(|step| drop(allocate(gpu, drawn[step % SIZES], Stream(0))));
    steps(SIZES);
    let start = Instant::now();
    steps(pairs);
    start.elapsed().as_nanos() as f64 / pairs as f64
}

/// Live blocks of which a random one is freed and another allocated.
struct Churn<'a> {
    gpu: &'a CudaSpace,
    stream: Stream,
    sizes: Vec<u64>,
    random: Random,
    blocks: Vec<DeviceBlock>,
    count: usize,
}

impl<'a> Churn<'a> {
    fn new(gpu: &'a CudaSpace, live: usize, stream: Stream) -> Self {
        let sizes = sizes(100 + u64::from(stream.0));
        let blocks = (0..live).map(|n| allocate(gpu, sizes[n % SIZES], stream)).collect();
        Churn { gpu, stream, sizes, random: Random(live as u64), blocks, count: 1 }
    }

    fn step(&mut self) {
        let at = self.random.below(self.blocks.len());
        drop(self.blocks.swap_remove(at));
        self.blocks.push(allocate(self.gpu, self.sizes[self.count * 7 % SIZES], self.stream));
        self.count += 1;
    }
}

fn churn(gpu: &CudaSpace, live: usize, pairs: usize) -> f64 {
    let mut churn = Churn::new(gpu, live, Stream(0));
    (0..pairs / 4).for_each(|_| churn.step());
    let start = Instant::now();
    (0..pairs).for_each(|_| churn.step());
    start.elapsed().as_nanos() as f64 / pairs as f64
}

/// Million pairs a second of all threads together, each churning on a stream of its own for a while.
fn threads(gpu: &CudaSpace, count: u8, window: Duration) -> f64 {
    let (ready, stop) = (Barrier::new(usize::from(count) + 1), AtomicBool::new(false));
    let work = |number: u8| {
        let mut churn = Churn::new(gpu, CHURN_OF_THREAD, Stream(number));
        (0..2_000).for_each(|_| churn.step());
        ready.wait();
        let mut pairs = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            (0..32).for_each(|_| churn.step());
            pairs += 32;
        }
        ready.wait();
        pairs
    };
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        ready.wait();
        let start = Instant::now();
        std::thread::sleep(window);
        stop.store(true, Ordering::Relaxed);
        ready.wait();
        let nanos = start.elapsed().as_nanos() as f64;
        let pairs: u64 = workers.into_iter().map(|worker| worker.join().expect("no panic")).sum();
        pairs as f64 * 1e3 / nanos
    })
}
