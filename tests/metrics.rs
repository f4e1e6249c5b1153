//! The figures as the `metrics` facade gets them, scraped as Prometheus scrapes.

mod common;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use bursar::{Budget, Config, Figure, MetricsExporter, Priority, Share, Unit};
use common::{GPU, IO, MS, Rig, gpu, granted, queued, take};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

const WAITS: &str = "bursar_reservation_wait_seconds";

fn recorder() -> PrometheusRecorder {
    let buckets = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(WAITS.into()), &[0.001, 0.01, 0.1]);
    buckets.expect("buckets").build_recorder()
}

/// Every sample by its name with labels; fails on a line that is neither a sample nor a comment.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
        })
        .collect()
}

fn scrape(handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    handle.run_upkeep();
    parse(&handle.render())
}

fn rig() -> Rig {
    let share = Budget::loan(bursar::BudgetId::ATTENTION, u64::from(Share::WHOLE.millionths()));
    Rig::new(Config::new().with(Budget::loan(GPU, 1_000)).with(Budget::rate(IO, 100).burst(500)).with(share))
}

#[test]
fn a_scrape_shows_budgets_levels_waits_modules_and_what_others_publish() {
    let (recorder, rig) = (recorder(), rig());
    let module = rig.scheduler.module("vision").cap(GPU, 900).register().unwrap();
    rig.scheduler.publish("prefix cache", || {
        vec![Figure::counter("hits", 7, Unit::Count), Figure::gauge("size", 64, Unit::Bytes)]
    });
    metrics::with_local_recorder(&recorder, || {
        let mut exporter = MetricsExporter::new(&rig.scheduler);
        let held = take(&rig.scheduler, gpu(600).attention(0.25).of(&module));
        drop(take(&rig.scheduler, common::io(200)));
        let mut waiting = queued(&rig.scheduler, gpu(500).priority(Priority::High));
        exporter.publish();
        let now = scrape(&recorder.handle());
        let expected = [
            ("bursar_budget_capacity_bytes{budget=\"gpu0.memory\"}", 1_000.0),
            ("bursar_budget_granted_bytes{budget=\"gpu0.memory\"}", 600.0),
            ("bursar_budget_granted_ratio{budget=\"attention\"}", 0.25),
            ("bursar_budget_waiting{budget=\"gpu0.memory\"}", 1.0),
            ("bursar_budget_spent_bytes_total{budget=\"io\"}", 200.0),
            ("bursar_reservations_total{priority=\"NORMAL\",outcome=\"immediate\"}", 2.0),
            ("bursar_waiting", 1.0),
            ("bursar_leases", 1.0),
            ("bursar_module_used_bytes{module=\"vision\",budget=\"gpu0.memory\"}", 600.0),
            ("bursar_prefix_cache_hits_total", 7.0),
            ("bursar_prefix_cache_size_bytes", 64.0),
        ];
        for (name, value) in expected {
            assert_eq!(now.get(name), Some(&value), "{name} in {now:#?}");
        }
        rig.jump(5 * MS);
        drop(held);
        drop(granted(&mut waiting));
        exporter.publish();
        exporter.publish();
        let after = scrape(&recorder.handle());
        let waits = |end: &str| after[&format!("{WAITS}_{end}")];
        let labels = "priority=\"HIGH\",budget=\"gpu0.memory\"";
        assert_eq!(waits(&format!("count{{{labels}}}")), 1.0);
        assert_eq!(waits(&format!("bucket{{{labels},le=\"0.001\"}}")), 0.0);
        assert_eq!(waits(&format!("bucket{{{labels},le=\"0.01\"}}")), 1.0);
        let seconds = waits(&format!("sum{{{labels}}}"));
        assert!((0.00495..=0.00505).contains(&seconds), "{seconds}");
        assert_eq!(after["bursar_reservations_total{priority=\"HIGH\",outcome=\"waited\"}"], 1.0);
        assert_eq!(after["bursar_prefix_cache_hits_total"], 7.0);
    });
}

#[test]
fn what_happened_before_the_exporter_was_made_is_counted_too() {
    let (recorder, rig) = (recorder(), rig());
    drop(take(&rig.scheduler, gpu(1)));
    metrics::with_local_recorder(&recorder, || MetricsExporter::new(&rig.scheduler).publish());
    let name = "bursar_reservations_total{priority=\"NORMAL\",outcome=\"immediate\"}";
    assert_eq!(scrape(&recorder.handle())[name], 1.0);
}

/// The names of metrics in the queries of the dashboard.
fn names_in_dashboard() -> Vec<String> {
    let text = include_str!("../examples/grafana.json");
    let parts = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let mut names: Vec<String> = parts.filter(|part| part.starts_with("bursar_")).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// The whole way: a listener, a request over a socket, an exporter that runs by itself.
#[test]
fn a_scrape_over_http_has_every_metric_of_the_dashboard() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let builder = PrometheusBuilder::new().with_http_listener(free);
        let builder = builder.set_buckets_for_metric(Matcher::Full(WAITS.into()), &[1.0]).unwrap();
        let (recorder, listener) = builder.build().unwrap();
        tokio::spawn(listener);
        metrics::set_global_recorder(recorder).map_err(|_| "the only one of this process").unwrap();
        let scheduler = bursar::Scheduler::builder().gpu(100u64).attention().spawn().unwrap();
        let held = scheduler.reserve(gpu(100)).await.unwrap();
        let waiting = tokio::spawn(scheduler.reserve(gpu(1)));
        tokio::task::yield_now().await;
        drop(held);
        drop(waiting.await.unwrap().unwrap());
        scheduler.close();
        // It publishes once and ends, because the scheduler is closed.
        MetricsExporter::new(&scheduler).run(MS).await;
        let samples = parse(&get(free).await);
        for name in names_in_dashboard() {
            assert!(samples.keys().any(|sample| sample.split('{').next() == Some(&name)), "{name} in {samples:#?}");
        }
    });
}

async fn get(address: SocketAddr) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = loop {
        match tokio::net::TcpStream::connect(address).await {
            Ok(stream) => break stream,
            // The listener is a task that has not had its turn.
            Err(_) => tokio::task::yield_now().await,
        }
    };
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("chunked"), "{head}");
    body.to_owned()
}
