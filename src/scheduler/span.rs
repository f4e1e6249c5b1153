//! The span of a wait: opened by the poll that begins to wait, in the span of the task that polls, and closed by the
//! end of the wait.
//!
//! A reservation has no room for a span, and most have none: it lies here, by slot. While nobody listens there is none,
//! and a wait costs a relaxed load when it begins and one a poll.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::Span;

use crate::model::Request;

use super::trace;

/// A wait as its subscriber knows it. Most have none, and are to cost nothing.
#[derive(Debug, Default)]
pub(super) struct WaitSpan(Option<Box<Span>>);

impl WaitSpan {
    /// The span of a request that begins to wait.
    pub(super) fn of(request: &Request) -> Self {
        let span = trace::wait(request);
        WaitSpan((!span.is_disabled()).then(|| Box::new(span)))
    }

    /// Runs `say` inside.
    pub(super) fn within<R>(&self, say: impl FnOnce() -> R) -> R {
        match &self.0 {
            Some(span) => span.in_scope(say),
            None => say(),
        }
    }

    /// Notes what the wait came to. One that ends without was given up.
    pub(super) fn note(&self, outcome: &'static str) {
        if let Some(span) = &self.0 {
            span.record("outcome", outcome);
        }
    }
}

impl Drop for WaitSpan {
    #[inline]
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            close(span);
        }
    }
}

/// Code of the subscriber, perhaps on a thread that panics already.
#[cold]
fn close(span: Box<Span>) {
    trace::contain(|| drop(span));
}

/// The spans of those that wait. A reservation takes its own out for every poll, because the slot may be somebody
/// else's as soon as the reservation has got its result.
#[derive(Debug, Default)]
pub(super) struct Spans {
    open: AtomicUsize,
    by_slot: Mutex<HashMap<u32, WaitSpan>>,
}

impl Spans {
    /// Takes a span out.
    #[inline]
    pub(super) fn take(&self, slot: u32) -> WaitSpan {
        if self.open.load(Ordering::Relaxed) == 0 { WaitSpan::default() } else { self.find(slot) }
    }

    #[cold]
    fn find(&self, slot: u32) -> WaitSpan {
        let mut spans = self.by_slot();
        let found = spans.remove(&slot);
        self.open.store(spans.len(), Ordering::Relaxed);
        found.unwrap_or_default()
    }

    /// Keeps a span until its reservation is polled again or dropped.
    #[inline]
    pub(super) fn keep(&self, slot: u32, span: WaitSpan) {
        if span.0.is_some() {
            self.put(slot, span);
        }
    }

    #[cold]
    fn put(&self, slot: u32, span: WaitSpan) {
        let mut spans = self.by_slot();
        let before = spans.insert(slot, span);
        self.open.store(spans.len(), Ordering::Relaxed);
        drop(spans);
        // There is none, unless a reservation was forgotten.
        drop(before);
    }

    fn by_slot(&self) -> MutexGuard<'_, HashMap<u32, WaitSpan>> {
        self.by_slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
