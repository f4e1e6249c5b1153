//! What the heap gives out: allocations of an operation, and heap of a waiter.
//!
//! `cargo bench -p bursar-benches --bench memory`. A target of its own, because its counting allocator would slow down
//! the peers that allocate in the targets that measure time.

use std::hint::black_box;

use bursar::tasks::Task;
use bursar::{Priority, Request, Scheduler};
use bursar_benches::chain::{self, Chain, Heap, PEERS};
use bursar_benches::peers::{self, Ask, Peer, Visit};
use bursar_benches::{Options, Table};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const OPS: usize = 10_000;
const PLENTY: u64 = 1 << 40;

fn heap() -> Heap {
    let stats = ALLOCATOR.stats();
    Heap {
        bytes: stats.bytes_allocated as isize - stats.bytes_deallocated as isize,
        allocations: stats.allocations + stats.reallocations,
    }
}

fn main() {
    let Some(options) = Options::from_args() else { return };
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    println!("\nallocations of one operation, uncontended\n");
    let mut found = Allocations { runtime: &runtime, table: Table::new(["", "allocations"]) };
    peers::one_budget(&mut found);
    peers::four_budgets(&mut found);
    found.table.print();

    for (waiters, levels) in [(1_000, 1), (100_000, 1), (1_000_000, 1), (1_000_000, 5)] {
        let waiters = options.pick(waiters, waiters / 10);
        println!("\nper waiter: {waiters} waiters, {levels} level(s)\n");
        let mut table = Table::new(["", "future", "heap beside it", "together", "allocations"]);
        for peer in PEERS {
            let cost = chain::measure(peer, Chain { waiters, levels, cancel: false, heap });
            table.row([
                peer.into(),
                format!("{:.0}", cost.future_bytes),
                format!("{:.1}", cost.heap_bytes),
                format!("{:.1}", cost.future_bytes + cost.heap_bytes),
                format!("{:.5}", cost.allocations),
            ]);
        }
        table.print();
    }
    queued_tasks(&runtime, options.pick(100_000, 10_000));
}

/// The heap that a queued task takes, its tokio task and its handle counted.
fn queued_tasks(runtime: &Runtime, tasks: usize) {
    let per_task = runtime.block_on(async {
        let scheduler = Scheduler::builder().gpu(1u64).spawn().expect("a good configuration");
        let held = scheduler.try_reserve(Request::new().gpu(1u64)).expect("free");
        let mut handles = Vec::with_capacity(tasks);
        let before = heap();
        for number in 0..tasks {
            let request = Request::new().gpu(1u64).priority(Priority::ALL[number % 5]);
            handles.push(scheduler.submit(Task::new("task", request, |_context| async {})));
        }
        tokio::task::yield_now().await;
        let after = heap();
        drop(held);
        let figure = |now: usize, then: usize| (now - then) as f64 / tasks as f64;
        (figure(after.bytes as usize, before.bytes as usize), figure(after.allocations, before.allocations))
    });
    println!("\n{tasks} queued tasks of five levels, each with its tokio task\n");
    let mut table = Table::new(["", "heap", "handle", "allocations"]);
    let (bytes, allocations) = per_task;
    let handle = size_of::<bursar::tasks::TaskHandle<()>>();
    table.row(["a task".into(), format!("{bytes:.0}"), handle.to_string(), format!("{allocations:.2}")]);
    table.print();
}

struct Allocations<'a> {
    runtime: &'a Runtime,
    table: Table,
}

impl Visit for Allocations<'_> {
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P) {
        let allocated = self.runtime.block_on(async {
            let peer = open(PLENTY);
            black_box(&peer.acquire(Ask::ONE).await);
            let before = heap().allocations;
            for _ in 0..OPS {
                black_box(&peer.acquire(black_box(Ask::ONE)).await);
            }
            heap().allocations - before
        });
        self.table.row([name.into(), format!("{:.4}", allocated as f64 / OPS as f64)]);
    }
}
