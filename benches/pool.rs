//! What a block of the pool costs: allocate and free, as a pair.
//!
//! `cargo bench -p bursar-benches --bench pool`; `-- --quick` is ten times shorter. The source gives addresses and no
//! memory, and its events are numbers, so that only the pool is measured. Beside it, in the same run, the allocator of
//! the system with the same sizes: the peers that a device has (cudaMallocAsync, RMM, PyTorch's) are measured where
//! there is a device.
//!
//! Sizes are log-uniform from 256 B to 4 MiB. LIFO: allocate, free at once. Churn: so many live blocks; a random one is
//! freed and another allocated.

use std::alloc::Layout;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bursar::memory::{Pool, PoolBlock, PoolConfig, Slab, Source, SourceError, Stream};
use bursar::{GIB, SpaceId, Tier};
use bursar_benches::{Options, Table};

const ROUNDS: usize = 9;
const SIZES: usize = 4_096;
const SPACE: SpaceId = SpaceId { tier: Tier::Gpu, index: 0 };

/// Addresses without memory.
#[derive(Debug, Default)]
struct Addresses(AtomicU64);

#[derive(Debug)]
struct Range(u64);

impl Slab for Range {
    fn address(&self) -> u64 {
        self.0
    }
}

impl Source for Addresses {
    type Slab = Range;
    type Event = u64;

    const STREAMS: bool = true;

    fn slab(&self, bytes: u64) -> Result<Range, SourceError> {
        Ok(Range(self.0.fetch_add(bytes, Ordering::Relaxed)))
    }

    fn record(&self, stream: Stream) -> Option<u64> {
        Some(stream.0.into())
    }

    fn has_passed(&self, _: &u64) -> bool {
        true
    }

    fn wait(&self, _: Stream, _: &u64) -> bool {
        true
    }
}

/// What is compared: something that gives blocks which free themselves.
trait Peer: Sync {
    type Block;

    fn allocate(&self, bytes: u64, stream: Stream) -> Self::Block;
}

impl Peer for Pool<Addresses> {
    type Block = PoolBlock<Addresses>;

    fn allocate(&self, bytes: u64, stream: Stream) -> Self::Block {
        Pool::allocate(self, bytes, stream).expect("room")
    }
}

/// The allocator of the system.
struct System;

impl Peer for System {
    type Block = Vec<u8>;

    fn allocate(&self, bytes: u64, _: Stream) -> Vec<u8> {
        debug_assert!(Layout::array::<u8>(bytes as usize).is_ok());
        Vec::with_capacity(bytes as usize)
    }
}

fn pool() -> Pool<Addresses> {
    Pool::new(SPACE, Addresses::default(), PoolConfig::device(256 * GIB))
}

/// Log-uniform from 256 B to 4 MiB.
fn sizes(seed: u64) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..SIZES).map(|_| (256.0 * 16_384_f64.powf(random.f64())) as u64).collect()
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn lifo<P: Peer>(peer: &P, sizes: &[u64], pairs: usize) -> f64 {
    let start = Instant::now();
    for step in 0..pairs {
        black_box(peer.allocate(sizes[step % SIZES], Stream(0)));
    }
    start.elapsed().as_nanos() as f64 / pairs as f64
}

fn churn<P: Peer>(peer: &P, sizes: &[u64], live: usize, pairs: usize, stream: Stream) -> f64 {
    let mut random = fastrand::Rng::with_seed(live as u64);
    let mut blocks: Vec<_> = (0..live).map(|n| peer.allocate(sizes[n % SIZES], stream)).collect();
    let picks: Vec<usize> = (0..SIZES * 4).map(|_| random.usize(..live)).collect();
    let mut steps = |pairs: usize| {
        for step in 0..pairs {
            drop(blocks.swap_remove(picks[step % picks.len()]));
            blocks.push(peer.allocate(sizes[(step * 7 + step / SIZES) % SIZES], stream));
        }
    };
    steps(pairs / 4);
    let start = Instant::now();
    steps(pairs);
    start.elapsed().as_nanos() as f64 / pairs as f64
}

/// Million pairs a second of all threads together, each with a stream of its own and 200 live blocks.
fn threads<P: Peer>(peer: &P, threads: u8, pairs: usize) -> f64 {
    let barrier = Barrier::new(usize::from(threads));
    let nanos: f64 = std::thread::scope(|scope| {
        let run = |number: u8| {
            let barrier = &barrier;
            scope.spawn(move || {
                let sizes = sizes(u64::from(number));
                barrier.wait();
                churn(peer, &sizes, 200, pairs, Stream(number))
            })
        };
        let handles: Vec<_> = (0..threads).map(run).collect();
        handles.into_iter().map(|handle| handle.join().expect("no panic")).map(|nanos| 1e3 / nanos).sum()
    });
    nanos
}

fn compare(table: &mut Table, what: String, mut one: impl FnMut() -> f64, mut other: impl FnMut() -> f64) {
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (one(), other())).collect();
    let ratio = median(rounds.iter().map(|(one, other)| one / other).collect());
    let (one, other) = (median(rounds.iter().map(|r| r.0).collect()), median(rounds.iter().map(|r| r.1).collect()));
    table.row([what, format!("{one:.1}"), format!("{other:.1}"), format!("{ratio:.2}")]);
}

fn main() {
    let Some(options) = Options::from_args() else { return };
    let pairs = options.pick(1_000_000, 100_000);
    let mixed = sizes(1);

    println!("\nallocate + free, ns a pair\n");
    let mut table = Table::new(["", "pool", "system", "ratio"]);
    let warm = pool();
    for bytes in [256, 64 << 10, 1 << 20] {
        let sizes = vec![bytes; SIZES];
        let what = format!("LIFO, {bytes} bytes");
        compare(&mut table, what, || lifo(&warm, &sizes, pairs), || lifo(&System, &sizes, pairs));
    }
    compare(&mut table, "LIFO, all sizes".into(), || lifo(&warm, &mixed, pairs), || lifo(&System, &mixed, pairs));
    let same = vec![64 << 10; SIZES];
    let tiny = vec![1 << 10; SIZES];
    for live in [100, 10_000, 100_000] {
        let (own, others) = (pool(), Stream(1));
        let held: Vec<_> = (0..live).map(|n| own.allocate(mixed[n % SIZES], others).expect("room")).collect();
        let beside: Vec<_> = (0..live).map(|_| System.allocate(1 << 10, others)).collect();
        let what = format!("LIFO, {live} live beside");
        compare(&mut table, what, || lifo(&own, &mixed, pairs), || lifo(&System, &tiny, pairs));
        drop((held, beside));
    }
    for live in [100, 1_000, 10_000, 100_000] {
        let small: Vec<u64> = mixed.iter().map(|bytes| 256 + bytes / 64).collect();
        let run = |sizes: &[u64]| churn(&pool(), sizes, live, pairs, Stream(0));
        compare(
            &mut table,
            format!("churn, {live} live"),
            || run(&mixed),
            || churn(&System, &small, live, pairs, Stream(0)),
        );
        let what = format!("churn, {live} live, 64 KiB");
        compare(&mut table, what, || run(&same), || churn(&System, &tiny, live, pairs, Stream(0)));
    }
    table.print();
    println!("\nThe system's churn is over sizes 64 times smaller, so that it does not wait for pages.");

    println!("\nchurn on several threads, million pairs a second in all\n");
    let mut table = Table::new(["", "pool", "system", "ratio"]);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u8;
    for count in [1, 2, 4, 8, 16].into_iter().filter(|&count| count <= cores.max(2)) {
        let run = || threads(&pool(), count, pairs / 2);
        compare(&mut table, format!("{count} threads"), run, || threads(&System, count, pairs / 20));
    }
    table.print();
}
