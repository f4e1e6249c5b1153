//! A long queue: n futures that wait for one unit, which is then handed down the chain from one to the next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bumpalo::Bump;
use bursar::{Priority, Request, Scheduler};
use cpu_time::ThreadTime;
use futures_intrusive::sync::Semaphore as Intrusive;
use priority_semaphore::PrioritySemaphore;
use tokio::sync::Semaphore;

use super::nanos_each;
use super::peers::inverted;

/// Short queues are built again and again until so many waiters were measured.
const ENOUGH: usize = 100_000;
const PAGE: usize = 4096;

pub const PEERS: [&str; 4] = ["tokio", "futures-intrusive", "priority-semaphore", "bursar"];

/// What the heap has given out.
#[derive(Clone, Copy, Default)]
pub struct Heap {
    pub bytes: isize,
    pub allocations: usize,
}

/// A queue to be measured.
#[derive(Clone, Copy)]
pub struct Chain {
    pub waiters: usize,
    /// 1: all NORMAL. 5: all levels, interleaved.
    pub levels: usize,
    /// Whether a random half is dropped before the rest is served.
    pub cancel: bool,
    /// Reads the counting allocator, where there is one.
    pub heap: fn() -> Heap,
}

/// What it cost, per waiter.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub enqueue_ns: f64,
    pub drain_ns: f64,
    pub cancel_ns: f64,
    pub future_bytes: f64,
    /// Future and all, by what the process grew.
    pub resident_bytes: f64,
    /// Beside the future.
    pub heap_bytes: f64,
    pub allocations: f64,
}

impl Cost {
    pub fn pass_ns(&self) -> f64 {
        self.enqueue_ns + self.drain_ns
    }

    /// As a child process hands it to its parent.
    pub fn to_line(self) -> String {
        let Cost { enqueue_ns, drain_ns, cancel_ns, future_bytes, resident_bytes, heap_bytes, allocations } = self;
        format!("{enqueue_ns} {drain_ns} {cancel_ns} {future_bytes} {resident_bytes} {heap_bytes} {allocations}")
    }

    pub fn from_line(line: &str) -> Option<Self> {
        let figures: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [enqueue_ns, drain_ns, cancel_ns, future_bytes, resident_bytes, heap_bytes, allocations] = figures[..]
        else {
            return None;
        };
        Some(Cost { enqueue_ns, drain_ns, cancel_ns, future_bytes, resident_bytes, heap_bytes, allocations })
    }
}

/// Measures a peer of [`PEERS`].
///
/// # Panics
/// When the peer is unknown, or does not grant in the order that it promises.
pub fn measure(peer: &str, chain: Chain) -> Cost {
    let cycles = (ENOUGH / chain.waiters).max(1);
    let measured: Vec<Cost> = (0..cycles)
        .map(|_| match peer {
            "tokio" => tokio(chain),
            "futures-intrusive" => intrusive(chain),
            "priority-semaphore" => prioritised(chain),
            "bursar" => bursar(chain),
            _ => panic!("no peer {peer:?}"),
        })
        .collect();
    let mean = |figure: fn(&Cost) -> f64| measured.iter().map(figure).sum::<f64>() / cycles as f64;
    // Memory is new to the process in the first cycle only.
    Cost {
        enqueue_ns: mean(|cost| cost.enqueue_ns),
        drain_ns: mean(|cost| cost.drain_ns),
        cancel_ns: mean(|cost| cost.cancel_ns),
        ..measured[0]
    }
}

fn tokio(chain: Chain) -> Cost {
    let semaphore = Semaphore::new(1);
    run(Chain { levels: 1, ..chain }, |_| semaphore.acquire(), Result::is_ok)
}

fn intrusive(chain: Chain) -> Cost {
    let semaphore = Intrusive::new(true, 1);
    run(Chain { levels: 1, ..chain }, |_| semaphore.acquire(1), |_| true)
}

fn prioritised(chain: Chain) -> Cost {
    let semaphore = Arc::new(PrioritySemaphore::new(1));
    run(chain, |level| semaphore.acquire(inverted(level)), Result::is_ok)
}

fn bursar(chain: Chain) -> Cost {
    // Nothing here is due at any time, so nobody has to poll the driver.
    let built = Scheduler::builder().gpu(1u64).max_waiters(chain.waiters).build();
    let (scheduler, _driver) = built.expect("a plain configuration");
    run(chain, |level| scheduler.reserve(Request::new().gpu(1u64).priority(level)), Result::is_ok)
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Builds the queue and takes it down. `make` makes the future of a waiter.
fn run<F: Future>(chain: Chain, make: impl Fn(Priority) -> F, granted: impl Fn(&F::Output) -> bool) -> Cost {
    let mut first = Box::pin(make(Priority::Normal));
    let Poll::Ready(unit) = poll(first.as_mut()) else { panic!("the one unit is free") };
    let level = |at: usize| if chain.levels == 1 { Priority::Normal } else { Priority::ALL[at % Priority::COUNT] };
    let mut served: Vec<usize> = (0..chain.waiters).collect();
    served.sort_by_key(|&at| level(at));
    // The futures lie side by side in one arena; it is filled from the top, so the last comes first. What the harness
    // itself needs is made, and touched, before the memory is read.
    let arena = Bump::with_capacity(chain.waiters * size_of::<F>() + PAGE);
    let mut futures = Vec::new();
    futures.resize_with(chain.waiters, || None);
    let before = resident_bytes();
    for at in (0..chain.waiters).rev() {
        futures[at] = Some(bumpalo::boxed::Box::pin_in(make(level(at)), &arena));
    }

    let heap = (chain.heap)();
    let start = ThreadTime::now();
    for future in futures.iter_mut().flatten() {
        assert!(poll(future.as_mut()).is_pending(), "the one unit is held");
    }
    let enqueue = start.elapsed();
    let grown = (chain.heap)();
    let resident = resident_bytes().saturating_sub(before);

    let cancelled = if chain.cancel { cancel_half(&mut futures) } else { Duration::ZERO };

    let start = ThreadTime::now();
    drop(unit);
    for &at in &served {
        let Some(mut future) = futures[at].take() else { continue };
        let Poll::Ready(unit) = poll(future.as_mut()) else { panic!("waiter {at} should be next") };
        assert!(granted(&unit), "waiter {at} was refused");
    }
    let drain = start.elapsed();

    let waiters = chain.waiters as u64;
    Cost {
        enqueue_ns: nanos_each(enqueue, waiters),
        drain_ns: nanos_each(drain, if chain.cancel { waiters - waiters / 2 } else { waiters }),
        cancel_ns: nanos_each(cancelled, waiters / 2),
        future_bytes: size_of::<F>() as f64,
        resident_bytes: resident as f64 / waiters as f64,
        heap_bytes: (grown.bytes - heap.bytes) as f64 / waiters as f64,
        allocations: (grown.allocations - heap.allocations) as f64 / waiters as f64,
    }
}

/// Drops a random half. The seed is fixed, so it is the same half for every peer.
fn cancel_half<F>(futures: &mut [Option<F>]) -> Duration {
    let mut order: Vec<usize> = (0..futures.len()).collect();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    for at in (1..order.len()).rev() {
        // Xorshift, Marsaglia 2003.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        order.swap(at, (seed % (at as u64 + 1)) as usize);
    }
    let start = ThreadTime::now();
    for &at in &order[..futures.len() / 2] {
        futures[at] = None;
    }
    start.elapsed()
}

/// Zero where the system does not say.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).map_or(0, |pages: usize| pages * PAGE)
}
