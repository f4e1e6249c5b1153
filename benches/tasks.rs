//! What a submitted task costs: from the call to its first poll, against `tokio::spawn` behind tokio's `Semaphore`; and
//! 100,000 queued tasks of mixed priorities.
//!
//! `cargo bench -p bursar-benches --bench tasks`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bursar::tasks::Task;
use bursar::{Priority, Request, Scheduler};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use bursar_benches::{Options, Subject, Table, interleave, nanos_each, print_load};

const OURS: &str = "submit";
const PEER: &str = "spawn behind a semaphore";
const PLENTY: u64 = 1 << 20;

fn main() {
    let Some(options) = Options::from_args() else { return };
    print_load();
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    first_poll(&options, &runtime);
    queued(&options, &runtime);
}

fn scheduler() -> Scheduler {
    Scheduler::builder().gpu(PLENTY).spawn().expect("a good configuration")
}

fn request() -> Request {
    Request::new().gpu(1u64)
}

/// One at a time: the next is submitted when the last has ended.
fn first_poll(options: &Options, runtime: &Runtime) {
    let ops = options.pick(20_000, 1_000);
    let scheduler = runtime.block_on(async { scheduler() });
    let semaphore = Arc::new(Semaphore::new(PLENTY as usize));
    let ours = || {
        runtime.block_on(async {
            let mut total = Duration::ZERO;
            for _ in 0..ops {
                let start = Instant::now();
                let task = Task::new("task", request(), move |_context| async move { start.elapsed() });
                total += scheduler.submit(task).await.expect("it runs");
            }
            nanos_each(total, ops)
        })
    };
    let peer = || {
        runtime.block_on(async {
            let mut total = Duration::ZERO;
            for _ in 0..ops {
                let (start, semaphore) = (Instant::now(), Arc::clone(&semaphore));
                let task = tokio::spawn(async move {
                    let _permit = semaphore.acquire_owned().await;
                    start.elapsed()
                });
                total += task.await.expect("it runs");
            }
            nanos_each(total, ops)
        })
    };
    let rounds = interleave(vec![Subject::new(OURS, ours), Subject::new(PEER, peer)], options.pick(21, 3));
    println!("\nfrom the call to the first poll of the work, uncontended, {ops} in a round\n");
    let mut table = Table::new(["", "ns"]);
    for name in [OURS, PEER] {
        table.row([name.to_owned(), format!("{:.0}", rounds.median(name, |ns| *ns))]);
    }
    table.row(["ratio".to_owned(), format!("{:.2}", rounds.ratio(OURS, PEER, |ns| *ns))]);
    table.print();
}

/// All are queued behind one that holds everything, and then run, 64 at a time.
fn queued(options: &Options, runtime: &Runtime) {
    let tasks = options.pick(100_000, 10_000);
    let ours = || {
        runtime.block_on(async {
            let scheduler = scheduler();
            let held = scheduler.try_reserve(Request::new().gpu(PLENTY)).expect("free");
            let done = Arc::new(AtomicU64::new(0));
            let start = Instant::now();
            let handles: Vec<_> = (0..tasks)
                .map(|number| {
                    let done = Arc::clone(&done);
                    let request = Request::new().gpu(PLENTY / 64).priority(Priority::ALL[number as usize % 5]);
                    scheduler.submit(Task::new("task", request, move |_context| {
                        done.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now()
                    }))
                })
                .collect();
            let submitted = start.elapsed();
            drop(held);
            for handle in handles {
                handle.await.expect("it runs");
            }
            assert_eq!(done.load(Ordering::Relaxed), tasks);
            (nanos_each(submitted, tasks), nanos_each(start.elapsed(), tasks))
        })
    };
    let peer = || {
        runtime.block_on(async {
            let semaphore = Arc::new(Semaphore::new(64));
            let held = Arc::clone(&semaphore).acquire_many_owned(64).await.expect("open");
            let start = Instant::now();
            let handles: Vec<_> = (0..tasks)
                .map(|_| {
                    let semaphore = Arc::clone(&semaphore);
                    tokio::spawn(async move {
                        let _permit = semaphore.acquire_owned().await;
                        tokio::task::yield_now().await;
                    })
                })
                .collect();
            let submitted = start.elapsed();
            // All of them wait by now.
            tokio::task::yield_now().await;
            drop(held);
            for handle in handles {
                handle.await.expect("it runs");
            }
            (nanos_each(submitted, tasks), nanos_each(start.elapsed(), tasks))
        })
    };
    let rounds = interleave(vec![Subject::new(OURS, ours), Subject::new(PEER, peer)], options.pick(5, 1));
    println!("\n{tasks} queued tasks of five levels (the peer has none), at most 64 at once: ns a task\n");
    let mut table = Table::new(["", "submitted", "submitted and run", "tasks a second"]);
    for name in [OURS, PEER] {
        let whole = rounds.median(name, |(_, whole)| *whole);
        table.row([
            name.to_owned(),
            format!("{:.0}", rounds.median(name, |(submitted, _)| *submitted)),
            format!("{whole:.0}"),
            format!("{:.0}", 1e9 / whole),
        ]);
    }
    let ratio = |figure: fn(&(f64, f64)) -> f64| format!("{:.2}", rounds.ratio(OURS, PEER, figure));
    table.row(["ratio".to_owned(), ratio(|(submitted, _)| *submitted), ratio(|(_, whole)| *whole), String::new()]);
    table.print();
}
