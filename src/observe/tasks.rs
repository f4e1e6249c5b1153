//! What becomes of submitted tasks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::TaskStats;

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskEnd {
    Done,
    Failed,
    Panicked,
    Late,
    Overdue,
    PreemptedTooOften,
    Cancelled,
    TakenBack,
    Shed,
    Refused,
}

impl TaskEnd {
    const COUNT: usize = 10;
}

/// Counters of the tasks of one scheduler. Each is counted for itself: a reader sees figures of about the same moment.
#[derive(Debug, Default)]
pub(crate) struct TaskCounters {
    submitted: AtomicU64,
    running: AtomicU64,
    ends: [AtomicU64; TaskEnd::COUNT],
    preemptions: AtomicU64,
    retries: AtomicU64,
}

impl TaskCounters {
    /// Counts a task. Whether it is the first.
    pub(crate) fn submitted(&self) -> bool {
        self.submitted.fetch_add(1, Ordering::Relaxed) == 0
    }

    pub(crate) fn ended(&self, end: TaskEnd) {
        self.ends[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn preempted(&self) {
        self.preemptions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a task as running until the guard drops.
    pub(crate) fn running(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(&self.running)
    }

    pub(crate) fn stats(&self) -> TaskStats {
        let end = |end: TaskEnd| self.ends[end as usize].load(Ordering::Relaxed);
        // The ends first: one that ends meanwhile counts as live, and none is missing.
        let mut stats = TaskStats {
            done: end(TaskEnd::Done),
            failed: end(TaskEnd::Failed),
            panicked: end(TaskEnd::Panicked),
            late: end(TaskEnd::Late),
            overdue: end(TaskEnd::Overdue),
            preempted_too_often: end(TaskEnd::PreemptedTooOften),
            cancelled: end(TaskEnd::Cancelled),
            taken_back: end(TaskEnd::TakenBack),
            shed: end(TaskEnd::Shed),
            refused: end(TaskEnd::Refused),
            running: self.running.load(Ordering::Relaxed),
            submitted: self.submitted.load(Ordering::Relaxed),
            preemptions: self.preemptions.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            live: 0,
        };
        stats.live = stats.submitted.saturating_sub(stats.ended());
        stats
    }

    /// For the next scheduler.
    pub(crate) fn clear(&self) {
        let TaskCounters { submitted, running, ends, preemptions, retries } = self;
        let all = [submitted, running, preemptions, retries].into_iter().chain(ends);
        all.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// A task that runs.
#[derive(Debug)]
pub(crate) struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
