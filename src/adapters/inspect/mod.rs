//! A page that shows a running scheduler, to be mounted under a service's admin port.
//!
//! [`router`] serves three addresses, all of them for reading only:
//!
//! * `/`: the page. Budgets with their use over time, levels, who waits for what, who holds what, modules, and what
//!   other parts [publish](Scheduler::publish). One file, nothing from elsewhere, light and dark.
//! * `/json`: a [`Snapshot`](crate::Snapshot) as JSON, with one sentence for each wait beside it (`explained`).
//! * `/events`: the same once a second, as server-sent events.
//!
//! `?limit=` says how many waits, holders, modules and sections are shown at most: 20 if not said, 200 at most. Of a
//! section 64 figures are shown.
//! `?every_ms=` says how often there is an event: from 100 to 60,000.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bursar::{GIB, Scheduler};
//!
//! let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
//! let admin = axum::Router::new().nest("/bursar", bursar::inspect::router(&scheduler));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9500").await?;
//! axum::serve(listener, admin).await?;
//! # Ok(()) }
//! ```
//!
//! The page is then at `/bursar`, without a slash behind: that is how axum nests.
//!
//! # What it does to the scheduler
//!
//! It does not keep the scheduler open: it holds a [`WeakScheduler`], and a handle for as long as a snapshot takes.
//! When the last handle of the service is dropped, `/json` answers `410 Gone` and streams of events end; they also end,
//! with a last event, when the scheduler is closed. A snapshot is what [`Scheduler::snapshot`] says it is: it takes the
//! lock several times, for a few microseconds each, and once to look at every wait. Between two events nothing is done,
//! and at most [`STREAMS`] streams are open at once.
//!
//! # Who may see it
//!
//! Whoever reaches the address: there is no login here. Bind the admin port to loopback, or put the service's own
//! checks in front. What is shown are names, labels, amounts and times; labels are shown as they were given, so put
//! nothing secret into them. They are never taken for markup: the page is the same for all, and its script writes text.

mod events;
mod query;
mod view;

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response, Sse};
use axum::routing::get;
use tokio::sync::Semaphore;

use crate::scheduler::{Scheduler, WeakScheduler};

use query::Query;

/// How many streams of events are open at once; who asks for one more is told to come later.
pub const STREAMS: usize = 16;

/// The page, whole.
const PAGE: &str = include_str!("page.html");

/// Only the style and the script of the page, by their hashes, and only this server is asked for anything.
const POLICY: &str = "default-src 'none'; \
    style-src 'sha256-PTQ7dFLhKgHFEgfnOrWtRT2agLFSCiU85s+/Ob0aS4A='; \
    script-src 'sha256-6SfrUW88ojEFYl+N8rcw0NecvN0MV5mrS3x3GMham+M='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What those who gave the scheduler up are told.
const GONE: &str = "the scheduler is gone: its last handle was dropped";

/// What every request shares.
#[derive(Debug, Clone)]
struct Inspected {
    scheduler: WeakScheduler,
    streams: Arc<Semaphore>,
}

/// The page of a scheduler, its JSON and its events, as routes to be mounted anywhere. See the module's text.
pub fn router(scheduler: &Scheduler) -> Router {
    let inspected = Inspected { scheduler: scheduler.downgrade(), streams: Arc::new(Semaphore::new(STREAMS)) };
    Router::new()
        .route("/", get(page))
        .route("/json", get(json))
        .route("/events", get(events))
        .layer(map_response(guarded))
        .with_state(inspected)
}

async fn page() -> Html<&'static str> {
    Html(PAGE)
}

async fn json(State(inspected): State<Inspected>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let limit = Query::read(query.as_deref()).map_err(Refusal::bad)?.limit;
    let scheduler = inspected.scheduler.upgrade().ok_or_else(Refusal::gone)?;
    let text = view::json(scheduler.snapshot(limit), limit).map_err(Refusal::broken)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

async fn events(State(inspected): State<Inspected>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let query = Query::read(query.as_deref()).map_err(Refusal::bad)?;
    inspected.scheduler.upgrade().ok_or_else(Refusal::gone)?;
    let place = inspected.streams.try_acquire_owned().map_err(|_| Refusal::full())?;
    Ok(Sse::new(events::stream(inspected.scheduler, query, place)).into_response())
}

/// An answer that is none.
struct Refusal(StatusCode, String);

impl Refusal {
    fn gone() -> Self {
        Refusal(StatusCode::GONE, GONE.into())
    }

    fn bad(why: query::BadQuery) -> Self {
        Refusal(StatusCode::BAD_REQUEST, why.to_string())
    }

    fn full() -> Self {
        Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("{STREAMS} streams of events are open, and no more may be"))
    }

    fn broken(error: serde_json::Error) -> Self {
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Nobody keeps it, nobody frames it, nothing else runs in it, and nobody takes it for something else.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
