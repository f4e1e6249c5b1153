//! A scheduler whose figures Prometheus can scrape: `cargo run --example metrics --features metrics`, then
//! `curl http://127.0.0.1:9000/metrics`. `examples/grafana.json` is a dashboard for them.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bursar::{GIB, MetricsExporter, Priority, Request, Scheduler};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:9000").parse()?;
    // Without buckets times come as quantiles of this process, which cannot be added up over several.
    let buckets = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0];
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Full("bursar_reservation_wait_seconds".into()), &buckets)?
        .set_buckets_for_metric(Matcher::Full("bursar_lease_hold_seconds".into()), &buckets)?
        .install()?;
    let scheduler = Scheduler::builder().gpu(8 * GIB).host(16 * GIB).attention().spawn()?;
    tokio::spawn(MetricsExporter::new(&scheduler).run(Duration::from_secs(1)));
    println!("http://{address}/metrics; Ctrl-C ends it");

    for worker in 0..12u64 {
        let scheduler = scheduler.clone();
        tokio::spawn(async move {
            let level = Priority::ALL[worker as usize % Priority::COUNT];
            let request = Request::new().gpu((1 + worker % 3) * GIB).attention(0.05).priority(level).label("worker");
            while let Ok(lease) = scheduler.reserve(request.clone()).await {
                tokio::time::sleep(Duration::from_millis(5 + worker)).await;
                drop(lease);
            }
        });
    }
    tokio::signal::ctrl_c().await?;
    Ok(())
}
