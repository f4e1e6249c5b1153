//! What somebody who looks costs those who reserve: the same reservations while nobody looks, while the metrics are
//! handed to a Prometheus recorder, while a page is open, and while tokio-console is attached. Then what a million
//! reservations are to that console: whether its figures are exact, and what it keeps of them.
//!
//! `cargo bench -p bursar-benches --features watched --bench watched`, with
//! `RUSTFLAGS="--cfg console_without_tokio_unstable"` or the console is left out. Whoever looks does so ten times a
//! second, which is ten times as often as usual, on a thread of its own; times are those of the CPU on the thread that
//! reserves.

mod console;
mod million;

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use bursar::{GIB, MetricsExporter, Request, Scheduler, inspect};
use cpu_time::ThreadTime;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use bursar_benches::{Goal, Goals, Options, Subject, interleave, nanos_each, print_load};
use console::{Console, watched_runtime};
use tracing::dispatcher::with_default;

const NOBODY: &str = "nobody looks";
const METRICS: &str = "metrics, handed on every 100 ms";
const PAGE: &str = "a page, an event every 100 ms";
const CONSOLE: &str = "tokio-console, attached";
const EVERY: Duration = Duration::from_millis(100);

/// Begins to look.
type Look = fn(&Scheduler) -> JoinHandle<()>;

fn main() {
    let Some(options) = Options::from_args() else { return };
    print_load();
    // Long enough for several looks.
    let ops = options.pick(5_000_000, 50_000);
    let rounds = options.pick(15, 3);
    PrometheusBuilder::new().install_recorder().expect("the only recorder");
    let watcher = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let looks: [(&str, Look); 3] = [
        (NOBODY, |_| tokio::spawn(async {})),
        (METRICS, metrics),
        (PAGE, |scheduler| tokio::spawn(page(scheduler.clone()))),
    ];
    let mut subjects = Vec::from(looks.map(|(name, look)| watched(name, &watcher, ops, look)));
    if console::STARTS {
        subjects.push(Subject::new(CONSOLE, move || with_console(ops)));
    } else {
        println!("left out: {CONSOLE}: it needs RUSTFLAGS=\"--cfg console_without_tokio_unstable\"");
    }
    let times = interleave(subjects, rounds);
    let mut goals = Goals::default();
    for name in times.names() {
        println!("{name:32} {:8.2} ns a pair", times.median(name, |ns| *ns));
    }
    for name in times.names().filter(|name| *name != NOBODY) {
        goals.check(name, times.ratio(name, NOBODY, |ns| *ns), Goal::AtMost(1.05, None));
    }
    if console::STARTS {
        million::print(options.pick(1_000_000, 10_000));
    }
    goals.print();
}

/// Reserves and releases while somebody looks.
fn watched<'a>(name: &str, watcher: &'a Runtime, ops: u64, look: Look) -> Subject<'a, f64> {
    let _context = watcher.enter();
    let scheduler = Scheduler::builder().gpu(40 * GIB).host(64 * GIB).attention().spawn().expect("a scheduler");
    let own = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let request = Request::new().gpu(GIB);
    Subject::new(name, move || {
        let _context = watcher.enter();
        let looking = look(&scheduler);
        let each = own.block_on(reserve_and_release(&scheduler, &request, ops));
        looking.abort();
        each
    })
}

/// The same with a console, which goes again, so that nobody else has a subscriber.
fn with_console(ops: u64) -> f64 {
    let console = Console::attach();
    let runtime = watched_runtime(&console);
    let each = with_default(&console.dispatch, || {
        let scheduler = {
            let _context = runtime.enter();
            Scheduler::builder().gpu(40 * GIB).host(64 * GIB).attention().spawn().expect("a scheduler")
        };
        console.until(|seen| !seen.in_use.is_empty());
        let own = Builder::new_current_thread().enable_time().build().expect("a runtime");
        own.block_on(reserve_and_release(&scheduler, &Request::new().gpu(GIB), ops))
    });
    drop(runtime);
    each
}

/// The time of one reservation and its release.
async fn reserve_and_release(scheduler: &Scheduler, request: &Request, ops: u64) -> f64 {
    let start = ThreadTime::now();
    for _ in 0..ops {
        drop(black_box(scheduler.reserve(black_box(request.clone())).await));
    }
    nanos_each(start.elapsed(), ops)
}

fn metrics(scheduler: &Scheduler) -> JoinHandle<()> {
    tokio::spawn(MetricsExporter::new(scheduler).run(EVERY))
}

/// Serves the page, and reads its events.
async fn page(scheduler: Scheduler) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("an address");
    let serve = async { axum::serve(listener, Router::new().nest("/bursar", inspect::router(&scheduler))).await };
    let _ = tokio::join!(serve, read(address));
}

async fn read(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.expect("the page");
    let ask = format!("GET /bursar/events?every_ms={} HTTP/1.1\r\nHost: localhost\r\n\r\n", EVERY.as_millis());
    stream.write_all(ask.as_bytes()).await.expect("a request");
    let mut buffer = vec![0; 64 * 1024];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}
