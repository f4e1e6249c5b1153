//! A small service to look at with tokio-console.
//!
//! ```text
//! RUSTFLAGS="--cfg tokio_unstable" cargo run --release --example console --features console
//! tokio-console            # in another terminal; press `r` for the budgets, `Enter` for the waits at one of them
//! ```
//!
//! With `--cfg console_without_tokio_unstable` in its place the console shows the scheduler, but of tokio's tasks only
//! what emits a span of its own. A number as argument ends it after so many seconds.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use bursar::{GIB, MIB, Priority, Request, Scheduler};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if !cfg!(any(tokio_unstable, console_without_tokio_unstable)) {
        return Err("console-subscriber needs RUSTFLAGS=\"--cfg tokio_unstable\"".into());
    }
    let seconds = std::env::args().nth(1).map_or(Ok(u64::MAX), |seconds| seconds.parse())?;
    console_subscriber::init();

    let scheduler = Scheduler::builder().gpu(40 * GIB).host(64 * GIB).attention().io(500 * MIB).spawn()?;
    let chat = Request::new().gpu(6 * GIB).attention(0.30).priority(Priority::High).label("chat");
    let embed = Request::new().gpu(2 * GIB).host(4 * GIB).io(120 * MIB).label("embeddings");
    let batch = Request::new().gpu(24 * GIB).host(16 * GIB).priority(Priority::Low).label("batch summaries");
    for _ in 0..3 {
        named("chat", work(scheduler.clone(), chat.clone(), Duration::from_millis(900)));
    }
    for _ in 0..4 {
        named("embeddings", work(scheduler.clone(), embed.clone(), Duration::from_millis(1_700)));
    }
    for _ in 0..2 {
        named("batch", work(scheduler.clone(), batch.clone(), Duration::from_secs(4)));
    }
    named("cache", grow(scheduler.clone()));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(())
}

/// Does the same work again and again.
async fn work(scheduler: Scheduler, request: Request, time: Duration) {
    while let Ok(lease) = scheduler.reserve(request.clone()).await {
        tokio::time::sleep(time).await;
        drop(lease);
        tokio::time::sleep(time / 10).await;
    }
}

/// Holds a cache that asks for more than is free while anybody else works.
async fn grow(scheduler: Scheduler) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let cache = Request::new().host(8 * GIB).priority(Priority::Idle).label("cache");
    let Ok(mut lease) = scheduler.reserve(cache).await else { return };
    let more = bursar::Amounts::of(bursar::BudgetId::HOST, 56 * GIB);
    while lease.grow(&more).within(Duration::from_secs(30)).await.is_err() {}
}

/// Spawns a task that the console shows under a name.
#[cfg(tokio_unstable)]
#[track_caller]
fn named(name: &str, task: impl Future<Output = ()> + Send + 'static) {
    tokio::task::Builder::new().name(name).spawn(task).map(drop).unwrap_or_else(|error| eprintln!("{name}: {error}"));
}

/// Spawns a task that the console shows under a name.
#[cfg(not(tokio_unstable))]
fn named(name: &str, task: impl Future<Output = ()> + Send + 'static) {
    use tracing::Instrument;
    let span = tracing::trace_span!(target: "tokio::task", parent: None, "runtime.spawn", task.name = name);
    tokio::spawn(task.instrument(span));
}
