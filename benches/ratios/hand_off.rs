//! The contended workload: more tasks than units, on two workers, each `acquire, yield, release` over and over.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bursar::Priority;
use cpu_time::ProcessTime;
use hdrhistogram::Histogram;
use tokio::runtime::Builder;

use bursar_benches::nanos_each;
use bursar_benches::peers::{Ask, Peer};

const WORKERS: usize = 2;
pub const CAPACITY: u64 = 8;
/// Longer waits are counted as that long.
const LONGEST_NS: u64 = 60_000_000_000;
/// Two readings of the clock cost as much as half an operation. Of the many tasks of the last level only every so many
/// operations are timed; of the urgent ones all.
const SAMPLING: u64 = 16;

/// Who takes part.
#[derive(Clone, Copy)]
pub struct Crowd {
    pub tasks: usize,
    /// How many tasks each of the first levels has; all others are of the last level named.
    pub urgent: &'static [(Priority, usize)],
    pub rest: Priority,
    pub window: Duration,
}

impl Crowd {
    fn level(&self, task: usize) -> Priority {
        let mut before = 0;
        for &(level, tasks) in self.urgent {
            before += tasks;
            if task < before {
                return level;
            }
        }
        self.rest
    }
}

/// Waits by level, and operations, timed or not.
struct Waits {
    levels: [Histogram<u64>; Priority::COUNT],
    ops: u64,
}

impl Waits {
    fn new() -> Self {
        let empty = || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order");
        Waits { levels: std::array::from_fn(|_| empty()), ops: 0 }
    }

    fn add(&mut self, other: &Waits) {
        self.ops += other.ops;
        let both = self.levels.iter_mut().zip(&other.levels);
        both.for_each(|(mine, theirs)| mine.add(theirs).expect("the bounds are the same"));
    }
}

/// One run.
pub struct Sample {
    pub per_second: f64,
    pub cpu_ns: f64,
    waits: Waits,
}

impl Sample {
    /// A quantile of the waits of a level, in microseconds.
    pub fn wait_us(&self, level: Priority, quantile: f64) -> f64 {
        self.waits.levels[level.index()].value_at_quantile(quantile) as f64 / 1e3
    }
}

thread_local! {
    /// Of this worker: recording shares no cache line with the other.
    static WAITS: RefCell<Waits> = RefCell::new(Waits::new());
}

/// Runs the crowd for its window, on a runtime and a limiter of its own.
pub fn run<P: Peer>(crowd: Crowd, open: fn(u64) -> P) -> Sample {
    let all = Arc::new(Mutex::new(Waits::new()));
    let collected = Arc::clone(&all);
    let collect = move || {
        let waits = WAITS.with(|waits| waits.replace(Waits::new()));
        collected.lock().expect("no worker panics").add(&waits);
    };
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(WORKERS).enable_time().on_thread_stop(collect).build().expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let (began, cpu) = (Instant::now(), ProcessTime::now());
    runtime.block_on(async {
        let peer = Arc::new(open(CAPACITY));
        let member = |task| {
            let level = crowd.level(task);
            let sampling = if level == crowd.rest { SAMPLING } else { 1 };
            tokio::spawn(member(Arc::clone(&peer), Arc::clone(&stop), level, sampling))
        };
        let tasks: Vec<_> = (0..crowd.tasks).map(member).collect();
        tokio::time::sleep(crowd.window).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
    let (took, cpu) = (began.elapsed(), cpu.elapsed());
    // Ends the workers, which hand in their waits.
    drop(runtime);
    let waits = std::mem::replace(&mut *all.lock().expect("no worker panics"), Waits::new());
    Sample { per_second: waits.ops as f64 / took.as_secs_f64(), cpu_ns: nanos_each(cpu, waits.ops), waits }
}

async fn member<P: Peer>(peer: Arc<P>, stop: Arc<AtomicBool>, level: Priority, sampling: u64) {
    let mut op = 0;
    while !stop.load(Ordering::Relaxed) {
        let asked = (op % sampling == 0).then(Instant::now);
        op += 1;
        let guard = peer.acquire(Ask { units: 1, level }).await;
        let waited = asked.map(|asked| u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
        WAITS.with_borrow_mut(|waits| {
            waits.ops += 1;
            if let Some(waited) = waited {
                waits.levels[level.index()].saturating_record(waited);
            }
        });
        tokio::task::yield_now().await;
        drop(guard);
    }
}
