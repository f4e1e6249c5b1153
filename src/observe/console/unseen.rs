//! A task that has no row of its own: tokio shows it itself, or nobody does.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Shows nothing.
#[derive(Debug)]
pub(crate) struct TaskRow;

impl TaskRow {
    pub(crate) fn new(_: &Arc<str>, _: &'static Location<'static>) -> Self {
        TaskRow
    }

    pub(crate) fn poll<F: Future>(&mut self, task: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        task.poll(cx)
    }
}
