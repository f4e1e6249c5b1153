//! The contended workload: more tasks than units, on two workers, each `acquire, yield, release` over and over.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bursar::Priority;
use cpu_time::ProcessTime;
use hdrhistogram::Histogram;
use tokio::runtime::Builder;

use crate::support::nanos_each;
use crate::support::peers::{Ask, Peer};

const WORKERS: usize = 2;
pub const CAPACITY: u64 = 8;
/// Longer waits are counted as that long.
const LONGEST_NS: u64 = 60_000_000_000;

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

/// Waits by level.
type Waits = [Histogram<u64>; Priority::COUNT];

/// One run.
pub struct Sample {
    pub per_second: f64,
    pub cpu_ns: f64,
    waits: Waits,
}

impl Sample {
    /// A quantile of the waits of a level, in microseconds.
    pub fn wait_us(&self, level: Priority, quantile: f64) -> f64 {
        self.waits[level.index()].value_at_quantile(quantile) as f64 / 1e3
    }
}

thread_local! {
    /// Of this worker: recording shares no cache line with the other.
    static WAITS: RefCell<Waits> = RefCell::new(empty());
}

fn empty() -> Waits {
    std::array::from_fn(|_| Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"))
}

/// Runs the crowd for its window, on a runtime and a limiter of its own.
pub fn run<P: Peer>(crowd: Crowd, open: fn(u64) -> P) -> Sample {
    let all = Arc::new(Mutex::new(empty()));
    let collected = Arc::clone(&all);
    let collect = move || {
        let waits = WAITS.with(|waits| waits.replace(empty()));
        let mut all = collected.lock().expect("no worker panics");
        all.iter_mut().zip(&waits).for_each(|(all, waits)| all.add(waits).expect("the bounds are the same"));
    };
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(WORKERS).enable_time().on_thread_stop(collect).build().expect("a runtime");
    let stop = Arc::new(AtomicBool::new(false));
    let (began, cpu) = (Instant::now(), ProcessTime::now());
    runtime.block_on(async {
        let peer = Arc::new(open(CAPACITY));
        let tasks: Vec<_> = (0..crowd.tasks)
            .map(|task| tokio::spawn(member(Arc::clone(&peer), Arc::clone(&stop), crowd.level(task))))
            .collect();
        tokio::time::sleep(crowd.window).await;
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
    let (took, cpu) = (began.elapsed(), cpu.elapsed());
    // Ends the workers, which hand in their waits.
    drop(runtime);
    let waits = std::mem::replace(&mut *all.lock().expect("no worker panics"), empty());
    let ops = waits.iter().map(Histogram::len).sum::<u64>();
    Sample { per_second: ops as f64 / took.as_secs_f64(), cpu_ns: nanos_each(cpu, ops), waits }
}

async fn member<P: Peer>(peer: Arc<P>, stop: Arc<AtomicBool>, level: Priority) {
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let guard = peer.acquire(Ask { units: 1, level }).await;
        let waited = u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX);
        WAITS.with(|waits| waits.borrow_mut()[level.index()].saturating_record(waited));
        tokio::task::yield_now().await;
        drop(guard);
    }
}
