//! Snapshots, one after the other.

use std::convert::Infallible;

use axum::response::sse::Event;
use futures::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::scheduler::WeakScheduler;

use super::query::Query;
use super::{GONE, view};

/// An open stream.
struct Watching {
    scheduler: WeakScheduler,
    limit: usize,
    ticks: Interval,
    /// Nothing follows.
    last: bool,
    /// Its place among those that may be open at once.
    _place: OwnedSemaphorePermit,
}

/// A snapshot at once and then every so often, for as long as the scheduler is open; the last one says that it is
/// closed, or an event `gone` that it is not there any more. Nothing is made that nobody takes: a reader who is slow
/// misses snapshots.
pub(super) fn stream(
    scheduler: WeakScheduler,
    query: Query,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut ticks = interval(query.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = Watching { scheduler, limit: query.limit, ticks, last: false, _place: place };
    stream::unfold(watching, |mut watching| async move {
        if watching.last {
            return None;
        }
        watching.ticks.tick().await;
        Some((Ok(watching.look()), watching))
    })
}

impl Watching {
    fn look(&mut self) -> Event {
        let Some(scheduler) = self.scheduler.upgrade() else {
            self.last = true;
            return Event::default().event("gone").data(GONE);
        };
        let snapshot = scheduler.snapshot(self.limit);
        self.last = snapshot.stats.closed.is_some();
        match view::json(snapshot, self.limit) {
            Ok(text) => Event::default().data(text),
            Err(error) => Event::default().event("broken").data(error.to_string()),
        }
    }
}
