//! The figures as the `metrics` facade gets them, scraped as Prometheus scrapes.

mod common;

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use bursar::{Budget, Config, Figure, MetricsExporter, Priority, Share, Unit};
use common::{GPU, IO, MS, Rig, gpu, granted, queued, take};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const WAITS: &str = "bursar_reservation_wait_seconds";
const HOLDS: &str = "bursar_lease_hold_seconds";

fn buckets(builder: PrometheusBuilder, of: &str) -> PrometheusBuilder {
    builder.set_buckets_for_metric(Matcher::Full(of.into()), &[0.001, 0.01, 0.1]).expect("buckets")
}

fn recorder() -> PrometheusRecorder {
    [WAITS, HOLDS].into_iter().fold(PrometheusBuilder::new(), buckets).build_recorder()
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
            ("bursar_prefix_cache_hits_total{section=\"prefix cache\"}", 7.0),
            ("bursar_prefix_cache_size_bytes{section=\"prefix cache\"}", 64.0),
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
        assert_eq!(after["bursar_prefix_cache_hits_total{section=\"prefix cache\"}"], 7.0);
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

#[test]
fn a_scrape_shows_use_over_time_and_how_long_labelled_leases_were_held() {
    let (recorder, rig) = (recorder(), rig());
    metrics::with_local_recorder(&recorder, || {
        let mut exporter = MetricsExporter::new(&rig.scheduler);
        exporter.publish();
        let held = take(&rig.scheduler, gpu(500).attention(0.25).label("chat"));
        drop(take(&rig.scheduler, common::io(200)));
        rig.jump(2000 * MS);
        exporter.publish();
        let now = scrape(&recorder.handle());
        let expected = [
            // From nothing to 500 in a line, as far as the samples tell.
            ("bursar_budget_mean_bytes{budget=\"gpu0.memory\"}", 250.0),
            ("bursar_budget_mean_utilisation_ratio{budget=\"gpu0.memory\"}", 0.25),
            ("bursar_budget_utilisation_ratio{budget=\"gpu0.memory\"}", 0.5),
            ("bursar_budget_utilisation_ratio{budget=\"attention\"}", 0.25),
            ("bursar_budget_refill_bytes_per_second{budget=\"io\"}", 100.0),
            ("bursar_budget_mean_bytes_per_second{budget=\"io\"}", 100.0),
            ("bursar_budget_utilisation_ratio{budget=\"io\"}", 1.0),
            ("bursar_dormant", 0.0),
        ];
        for (name, value) in expected {
            assert_eq!(now.get(name), Some(&value), "{name} in {now:#?}");
        }
        assert_eq!(now.get(&format!("{HOLDS}_count")), None, "it is held");
        drop(held);
        rig.jump(2000 * MS);
        exporter.publish();
        exporter.publish();
        let after = scrape(&recorder.handle());
        assert_eq!(after["bursar_budget_trend_bytes{budget=\"gpu0.memory\"}"], -500.0);
        assert_eq!(after[&format!("{HOLDS}_count")], 1.0);
        let seconds = after[&format!("{HOLDS}_sum")];
        assert!((1.98..=2.02).contains(&seconds), "{seconds}");
    });
}

#[test]
fn gauges_of_what_is_gone_fall_to_zero_and_counters_stay_and_go_on() {
    let (recorder, rig) = (recorder(), rig());
    let publish = |hits: u64| {
        rig.scheduler.publish("cache", move || {
            vec![Figure::counter("hits", hits, Unit::Count), Figure::gauge("size", 64, Unit::Bytes)]
        });
    };
    metrics::with_local_recorder(&recorder, || {
        let mut exporter = MetricsExporter::new(&rig.scheduler);
        let mut figures = || {
            exporter.publish();
            let now = scrape(&recorder.handle());
            let names = [
                "bursar_module_used_bytes{module=\"vision\",budget=\"gpu0.memory\"}",
                "bursar_cache_size_bytes{section=\"cache\"}",
                "bursar_cache_hits_total{section=\"cache\"}",
            ];
            names.map(|name| now[name])
        };
        let module = rig.scheduler.module("vision").cap(GPU, 900).register().unwrap();
        let held = take(&rig.scheduler, gpu(600).of(&module));
        publish(7);
        assert_eq!(figures(), [600.0, 64.0, 7.0]);
        drop((held, module));
        rig.scheduler.withdraw("cache");
        assert_eq!(figures(), [0.0, 0.0, 7.0]);
        assert_eq!(figures(), [0.0, 0.0, 7.0]);
        publish(9);
        assert_eq!(figures(), [0.0, 64.0, 9.0]);
        // Replaced by one that begins anew.
        publish(2);
        assert_eq!(figures(), [0.0, 64.0, 11.0]);
    });
}

#[test]
fn sections_whose_names_are_the_same_once_cleaned_are_told_apart_by_their_label() {
    let (recorder, rig) = (recorder(), rig());
    for (name, size) in [("kv-cache", 1), ("kv cache", 2)] {
        rig.scheduler.publish(name, move || vec![Figure::gauge("size", size, Unit::Count)]);
    }
    metrics::with_local_recorder(&recorder, || MetricsExporter::new(&rig.scheduler).publish());
    let now = scrape(&recorder.handle());
    assert_eq!(now["bursar_kv_cache_size{section=\"kv-cache\"}"], 1.0);
    assert_eq!(now["bursar_kv_cache_size{section=\"kv cache\"}"], 2.0);
}

#[test]
fn of_two_figures_of_a_section_with_one_name_once_cleaned_the_last_is_seen_publication_after_publication() {
    let (recorder, rig) = (recorder(), rig());
    rig.scheduler.publish("cache", || {
        let twice = [("hit rate", 1), ("hit_rate", 2)].map(|(name, value)| Figure::gauge(name, value, Unit::Count));
        let hits = [("hits", 5), ("Hits", 7)].map(|(name, value)| Figure::counter(name, value, Unit::Count));
        twice.into_iter().chain(hits).collect()
    });
    metrics::with_local_recorder(&recorder, || {
        let mut exporter = MetricsExporter::new(&rig.scheduler);
        for _ in 0..3 {
            exporter.publish();
            let now = scrape(&recorder.handle());
            assert_eq!(now["bursar_cache_hit_rate{section=\"cache\"}"], 2.0);
            assert_eq!(now["bursar_cache_hits_total{section=\"cache\"}"], 7.0);
        }
    });
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

/// The whole way: a listener, a request over a socket, an exporter that runs by itself. The listener is not that of
/// `metrics-exporter-prometheus`, which cannot say which port it got.
#[tokio::test]
async fn a_scrape_over_http_has_every_metric_of_the_dashboard() {
    let recorder = recorder();
    let shown = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| "the only one of this process").unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let page = Router::new().route("/metrics", get(async move || shown.render()));
    tokio::spawn(axum::serve(listener, page).into_future());
    let scheduler = bursar::Scheduler::builder().gpu(100u64).attention().spawn().unwrap();
    let held = scheduler.reserve(gpu(100).label("hog")).await.unwrap();
    let waiting = tokio::spawn(scheduler.reserve(gpu(1)));
    tokio::task::yield_now().await;
    drop(held);
    drop(waiting.await.unwrap().unwrap());
    scheduler.close();
    // It publishes once and ends, because the scheduler is closed.
    MetricsExporter::new(&scheduler).run(MS).await;
    let samples = parse(&scraped(address).await);
    for name in names_in_dashboard() {
        assert!(samples.keys().any(|sample| sample.split('{').next() == Some(&name)), "{name} in {samples:#?}");
    }
}

async fn scraped(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("chunked"), "{head}");
    body.to_owned()
}
