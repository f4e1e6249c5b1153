//! A million reservations with the console attached.

use std::time::Instant;

use bursar::{GIB, Request, Scheduler};
use bursar_benches::Table;
use tokio::task::JoinSet;

use super::console::{Console, watched_runtime};

/// What is held in the end: no round number, so that it is seen whether the console has it exactly.
const HELD: u64 = 12_345_678_901;
const TASKS: u64 = 64;

/// Makes so many reservations that are granted at once, and so many that wait, and prints what came of it.
pub fn print(count: u64) {
    let mut table =
        Table::new(["with the console attached", "seconds", "RSS before", "after", "listed", "lost", "exact"]);
    table.row(measure("granted at once", count, 1));
    table.row(measure("waited for", count, TASKS));
    println!("\n{count} reservations\n");
    table.print();
}

/// So many tasks take turns at a budget that is enough for one.
fn measure(name: &str, count: u64, tasks: u64) -> [String; 7] {
    let console = Console::attach();
    let runtime = watched_runtime(&console);
    let (before, start) = (resident(), Instant::now());
    let _lease = runtime.block_on(async {
        let work = async move {
            let scheduler = Scheduler::builder().gpu(40 * GIB).spawn().expect("a scheduler");
            let mut all = JoinSet::new();
            for _ in 0..tasks {
                let scheduler = scheduler.clone();
                all.spawn(async move {
                    for _ in 0..count / tasks {
                        let lease = scheduler.reserve(Request::new().gpu(40 * GIB)).await;
                        tokio::task::yield_now().await;
                        drop(lease.expect("granted"));
                    }
                });
            }
            all.join_all().await;
            scheduler.reserve(Request::new().gpu(HELD)).await.expect("granted")
        };
        runtime.spawn(work).await.expect("no panic")
    });
    let took = start.elapsed();
    let exact = format!("({HELD} B)");
    let seen = console.until(|seen| seen.in_use.contains(&exact));
    let cells = [before, resident()].map(|bytes| format!("{} MiB", bytes >> 20));
    let [before, after] = cells;
    let seconds = format!("{:.2}", took.as_secs_f64());
    [name.into(), seconds, before, after, seen.ops.to_string(), seen.lost.to_string(), seen.in_use]
}

/// Bytes of memory that this process has; none where that cannot be asked.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
