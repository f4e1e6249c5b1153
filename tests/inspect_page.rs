//! The inspection page: what it answers, how much, to whom, and what it leaves alone.

use std::future::IntoFuture;
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request as Get, Response, StatusCode};
use axum::middleware::map_response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bursar::{BudgetId, Figure, Lease, Priority, Request, ReserveError, Scheduler, Unit, inspect};
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tower::ServiceExt;

const SECOND: Duration = Duration::from_secs(1);

/// Ten bytes of GPU memory to be shared out.
fn ten() -> Scheduler {
    Scheduler::builder().gpu(10u64).spawn().unwrap()
}

fn gpu(bytes: u64) -> Request {
    Request::new().gpu(bytes)
}

#[track_caller]
fn take(scheduler: &Scheduler, request: Request) -> Lease {
    scheduler.try_reserve(request).expect("free")
}

async fn ask(page: &Router, method: Method, address: &str) -> Response<Body> {
    let request = Get::builder().method(method).uri(address).body(Body::empty()).unwrap();
    page.clone().oneshot(request).await.unwrap()
}

async fn get(page: &Router, address: &str) -> (StatusCode, String) {
    let response = ask(page, Method::GET, address).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn json(page: &Router, address: &str) -> Value {
    let (status, text) = get(page, address).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The next event of a stream: its name and what it says. None when the stream has ended.
async fn event(stream: &mut Body) -> Option<(String, String)> {
    let bytes = stream.frame().await?.unwrap().into_data().unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.ends_with("\n\n"), "{text:?} is not one whole event");
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    Some((field("event:"), field("data:")))
}

/// The snapshot in the next event, and how long it took to come.
async fn snapshot(stream: &mut Body) -> (Value, Duration) {
    let start = tokio::time::Instant::now();
    let (name, data) = event(stream).await.expect("an event");
    assert_eq!(name, "", "{data}");
    (serde_json::from_str(&data).unwrap(), start.elapsed())
}

async fn stream(page: &Router, address: &str) -> Body {
    let response = ask(page, Method::GET, address).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body()
}

#[tokio::test]
async fn the_json_is_the_snapshot_with_a_sentence_for_each_wait() {
    let scheduler = ten();
    let vision = scheduler.module("vision").weight(3).cap(BudgetId::GPU, 9).register().unwrap();
    let _held = take(&scheduler, gpu(9).of(&vision).label("batch"));
    let mut chat = scheduler.reserve(gpu(4).label("chat").priority(Priority::High));
    assert!(futures::poll!(&mut chat).is_pending());
    scheduler.publish("pool", || vec![Figure::counter("hits", 7, Unit::Count)]);
    let shown = json(&inspect::router(&scheduler), "/json").await;
    assert_eq!(shown["stats"]["waiting_at"], serde_json::json!([0, 1, 0, 0, 0]));
    assert_eq!(shown["stats"]["budgets"][0]["granted"], 9);
    assert_eq!(shown["holders"][0]["amounts"]["gpu0"], 9);
    assert_eq!((&shown["labelled"], &shown["modules"][0]["name"]), (&1.into(), &"vision".into()));
    assert_eq!(shown["sections"][0]["figures"][0]["value"], 7);
    let why = shown["explained"][0].as_str().unwrap();
    assert!(why.contains("`chat` has waited") && why.contains("(held: `batch` 9 B)"), "{why}");
}

#[tokio::test]
async fn as_many_are_shown_as_asked_and_what_callers_named_is_cut() {
    let scheduler = ten();
    let long = "é".repeat(5_000);
    let held: Vec<_> = (0..4).map(|_| take(&scheduler, gpu(2).label(long.clone()))).collect();
    let mut waits: Vec<_> = (0..4).map(|_| scheduler.reserve(gpu(9).label(long.clone()))).collect();
    for wait in &mut waits {
        assert!(futures::poll!(wait).is_pending());
    }
    let modules: Vec<_> = (0..4).map(|n| scheduler.module(format!("{n}{long}")).register().unwrap()).collect();
    for name in ["a", "b", "c", "d"] {
        scheduler.publish(name, || (0..100).map(|n| Figure::gauge(n.to_string(), n, Unit::Count)).collect());
    }
    let page = inspect::router(&scheduler);
    let (_, text) = get(&page, "/json?limit=2").await;
    let shown: Value = serde_json::from_str(&text).unwrap();
    for list in ["waiting", "explained", "holders", "modules", "sections"] {
        assert_eq!(shown[list].as_array().unwrap().len(), 2, "{list}");
    }
    assert_eq!(shown["sections"][0]["figures"].as_array().unwrap().len(), 64);
    let all = ["labelled", "registered", "published"].map(|all| shown[all].as_u64().unwrap());
    assert_eq!((all, &shown["stats"]["waiting"]), ([4; 3], &4.into()));
    assert_eq!(shown["holders"][0]["label"].as_str().unwrap().chars().count(), 201);
    assert!(text.len() < 20_000, "{} bytes", text.len());
    drop((held, modules));

    for (bad, name) in [("/json?limit=201", "limit"), ("/events?every_ms=1", "every_ms"), ("/json?limit=x", "limit")] {
        let (status, why) = get(&page, bad).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(why.contains(name) && why.contains("whole number from"), "{why}");
    }
}

#[tokio::test]
async fn a_page_does_not_keep_a_scheduler_open() {
    let scheduler = ten();
    let page = inspect::router(&scheduler);
    let held = take(&scheduler, gpu(10));
    let mut waiting = scheduler.reserve(gpu(1));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(scheduler);
    assert!(matches!(futures::poll!(&mut waiting), Poll::Ready(Err(ReserveError::Closed { .. }))));
    for address in ["/json", "/events"] {
        let (status, why) = get(&page, address).await;
        assert_eq!(status, StatusCode::GONE);
        assert!(why.contains("last handle was dropped"), "{why}");
    }
    assert_eq!(get(&page, "/").await.0, StatusCode::OK);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn there_is_an_event_at_once_and_then_one_a_second_until_the_scheduler_is_closed() {
    let scheduler = ten();
    let page = inspect::router(&scheduler);
    let mut usual = stream(&page, "/events").await;
    let mut often = stream(&page, "/events?every_ms=100&limit=0").await;
    let (first, waited) = snapshot(&mut usual).await;
    assert_eq!((&first["stats"]["leases"], waited), (&0.into(), Duration::ZERO));
    let held = take(&scheduler, gpu(1).label("chat"));
    let (second, waited) = snapshot(&mut usual).await;
    assert_eq!((&second["holders"][0]["label"], waited), (&"chat".into(), SECOND));
    // It was not read for a second: what it missed does not come.
    snapshot(&mut often).await;
    let (third, waited) = snapshot(&mut often).await;
    assert!(third["holders"].as_array().unwrap().is_empty());
    assert!(waited <= Duration::from_millis(100), "{waited:?}");
    scheduler.close();
    let (last, _) = snapshot(&mut usual).await;
    assert!(last["stats"]["closed"].as_str().unwrap().contains("closed"));
    assert_eq!(event(&mut usual).await, None);
    // Who comes later is told, once.
    let mut later = stream(&page, "/events").await;
    assert!(!snapshot(&mut later).await.0["stats"]["closed"].is_null());
    assert_eq!(event(&mut later).await, None);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_last_handle_is_dropped() {
    let scheduler = ten();
    let mut events = stream(&inspect::router(&scheduler), "/events").await;
    snapshot(&mut events).await;
    drop(scheduler);
    let (name, why) = event(&mut events).await.unwrap();
    assert_eq!(name, "gone");
    assert!(why.contains("last handle was dropped"), "{why}");
    assert_eq!(event(&mut events).await, None);
}

#[tokio::test(start_paused = true)]
async fn so_many_streams_are_open_at_once_and_a_reader_who_leaves_makes_room() {
    let scheduler = ten();
    let page = inspect::router(&scheduler);
    let mut open = Vec::new();
    for _ in 0..inspect::STREAMS {
        open.push(stream(&page, "/events").await);
    }
    let (status, why) = get(&page, "/events").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains("16 streams"), "{why}");
    open.pop();
    snapshot(&mut stream(&page, "/events").await).await;
    // Not an answer to a question that cannot be answered.
    assert_eq!(get(&page, "/json").await.0, StatusCode::OK);
}

#[tokio::test]
async fn every_answer_is_guarded_and_nothing_can_be_written() {
    let scheduler = ten();
    let page = inspect::router(&scheduler);
    for address in ["/", "/json", "/json?limit=x", "/events"] {
        let response = ask(&page, Method::GET, address).await;
        let headers = response.headers();
        assert_eq!(headers["cache-control"], "no-store", "{address}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(ask(&page, method, address).await.status(), StatusCode::METHOD_NOT_ALLOWED);
        }
    }
    assert_eq!(ask(&page, Method::GET, "/json").await.headers()["content-type"], "application/json");
}

#[tokio::test]
async fn the_page_is_whole_in_itself_and_the_policy_allows_its_own_style_and_script_only() {
    let scheduler = ten();
    let _held = take(&scheduler, gpu(1).label("<script>alert(1)</script>"));
    let admin = Router::new().nest("/bursar", inspect::router(&scheduler));
    let (_, page) = get(&admin, "/bursar").await;
    let policy = ask(&admin, Method::GET, "/bursar").await.headers()["content-security-policy"].clone();
    for (kind, tag) in [("style-src", "style"), ("script-src", "script")] {
        let parts: Vec<&str> = page.split(&format!("<{tag}>")).collect();
        assert_eq!(parts.len(), 2, "one {tag}");
        let text = parts[1].split(&format!("</{tag}>")).next().unwrap();
        let allowed = format!("{kind} 'sha256-{}';", BASE64_STANDARD.encode(Sha256::digest(text)));
        assert!(policy.to_str().unwrap().contains(&allowed), "the policy should say {allowed}");
    }
    // A name of a kind of element is no address.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for foreign in ["://", " src=", "@import", "url(", "innerHTML", "<script>alert", "onclick"] {
        assert!(!page.contains(foreign), "{foreign} is in the page");
    }
}

#[tokio::test]
async fn it_may_be_mounted_at_the_root_and_below_a_name() {
    let scheduler = ten();
    let below = Router::new().nest("/bursar", inspect::router(&scheduler));
    let slash = Router::new().nest("/bursar/", inspect::router(&scheduler));
    for (router, addresses) in [
        (inspect::router(&scheduler), ["/", "/json", "/json?limit=0"]),
        (below, ["/bursar", "/bursar/json", "/bursar/json?limit=0"]),
        (slash, ["/bursar/", "/bursar/json", "/bursar/json?limit=0"]),
    ] {
        for address in addresses {
            assert_eq!(get(&router, address).await.0, StatusCode::OK, "{address}");
        }
    }
}

/// A browser, with a profile that no other process has.
struct Browser {
    program: PathBuf,
    profile: PathBuf,
}

impl Browser {
    /// The browser of this machine, if it has one that works.
    async fn find() -> Option<Browser> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let programs = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
        for program in programs.filter(|file| file.is_file()) {
            let profile = format!("{}/chromium-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
            let browser = Browser { program, profile: profile.into() };
            // Some are scripts that only say how to install one, and some lack what they need to run where this runs.
            match browser.dom("data:text/html,<p>it works").await {
                Ok(dom) if dom.contains("<p>it works</p>") => return Some(browser),
                said => eprintln!("{} does not work: {said:?}", browser.program.display()),
            }
        }
        None
    }

    /// The DOM that it makes of an address, or what it says.
    async fn dom(&self, address: &str) -> Result<String, String> {
        let profile = format!("--user-data-dir={}", self.profile.display());
        let ran = tokio::process::Command::new(&self.program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--virtual-time-budget=1000", "--dump-dom", &profile, address])
            .kill_on_drop(true)
            .output();
        let ran = tokio::time::timeout(300 * SECOND, ran).await.map_err(|_| "it does not end".to_owned())?;
        let ran = ran.map_err(|error| error.to_string())?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if ran.status.success() { Ok(said(&ran.stdout)) } else { Err(said(&ran.stderr)) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

/// The browser's time stands while something is loaded, so its stream ends after the first event.
async fn first_event(response: Response<Body>) -> Response<Body> {
    if response.headers()["content-type"] != "text/event-stream" {
        return response;
    }
    response.map(|body| Body::from_stream(body.into_data_stream().take(1)))
}

#[tokio::test]
async fn a_browser_shows_everything_as_text() {
    let Some(browser) = Browser::find().await else {
        return eprintln!("skipped: there is no chromium on this machine, or none that works");
    };
    let scheduler = ten();
    let vision = scheduler.module("<b>vision</b>").weight(3).cap(BudgetId::GPU, 9).register().unwrap();
    let _held = take(&scheduler, gpu(9).of(&vision).label("<script>document.title = 'caught'</script>"));
    let mut waiting = scheduler.reserve(gpu(4).label("<img src=x onerror=\"document.title = 'caught'\">"));
    assert!(futures::poll!(&mut waiting).is_pending());
    scheduler.publish("prefix_cache", || vec![Figure::counter("cache_hits", 1_234, Unit::Count)]);
    let admin = Router::new().nest("/bursar", inspect::router(&scheduler)).layer(map_response(first_event));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/bursar", listener.local_addr().unwrap());
    let server = tokio::spawn(axum::serve(listener, admin).into_future());
    let dom = browser.dom(&address).await.expect("it has just worked");
    server.abort();
    for shown in [
        "9 B of 10 B in use, 1 B free",
        "90 %",
        "<li>`&lt;img src=x onerror=\"document.title = 'caught'\"&gt;` has waited",
        "&lt;script&gt;document.title = 'caught'&lt;/script&gt;",
        "&lt;b&gt;vision&lt;/b&gt;",
        "9 B gpu0.memory (at most 9 B)",
        "prefix_cache",
        "<dt>cache hits</dt><dd>1,234</dd>",
        "1 waiting · 1 lease · 1 grant since the start",
        "tests/inspect_page.rs:",
        "<title>bursar</title>",
    ] {
        assert!(dom.contains(shown), "{shown} is not in\n{dom}");
    }
}
