//! Figures of a dispatcher.

use std::sync::Arc;

use crate::model::{Figure, WaitSummary};
use crate::policy::balance::State;

/// A dispatcher at one moment. `submitted` is `queued`, those at workers, those that pause, and `ended`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DispatcherStats {
    /// All jobs there ever were.
    pub submitted: u64,
    /// Those that have ended, in whatever way.
    pub ended: u64,
    /// Those that ended with their value.
    pub done: u64,
    /// Those that ended because their handler gave an error or panicked, and were not to be tried again.
    pub failed: u64,
    /// Those that missed a time: that of their begin or that of their completion.
    pub late: u64,
    /// Those that found the queue full: [that of the dispatcher](crate::tasks::DispatcherBuilder::max_queued) when they
    /// were submitted, or that of the scheduler when they got a place at a worker.
    pub shed: u64,
    /// Those that wait for a place at a worker.
    pub queued: u64,
    /// Those of the queued that no worker takes.
    pub unassigned: u64,
    /// How often a queued job went from one worker to another.
    pub moves: u64,
    /// How often a job gave up its place, before it ran, to a more urgent one, or because its worker left. Its task
    /// counts as [taken back](crate::TaskStats::taken_back) then, as it does when it is preempted.
    pub displaced: u64,
    /// How often a job gave up its place while it ran, to a more urgent one. What gave way because the scheduler chose
    /// it kept its place, and is not counted here but in [`TaskStats::preemptions`](crate::TaskStats::preemptions), as
    /// all preemptions are.
    pub preempted: u64,
    /// How often a job was tried again.
    pub retries: u64,
    /// The workers, in the order in which they were registered.
    pub workers: Vec<WorkerStats>,
}

impl DispatcherStats {
    /// The same as figures to be shown beside others. Workers are counted together.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let failing = self.workers.iter().filter(|worker| worker.state == State::Failing).count() as u64;
        let now = [
            ("queued", self.queued),
            ("unassigned", self.unassigned),
            ("running", self.workers.iter().map(|worker| worker.running).sum()),
            ("workers", self.workers.len() as u64),
            ("failing_workers", failing),
        ];
        let so_far = [
            ("submitted", self.submitted),
            ("done", self.done),
            ("failed", self.failed),
            ("late", self.late),
            ("shed", self.shed),
            ("preempted", self.preempted),
            ("moved", self.moves),
            ("displaced", self.displaced),
            ("retries", self.retries),
        ];
        Figure::counts(&now, &so_far)
    }

    /// The worker with this name.
    pub fn worker(&self, name: &str) -> Option<&WorkerStats> {
        self.workers.iter().find(|worker| &*worker.name == name)
    }
}

/// A worker at one moment. Times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it takes jobs.
    pub state: State,
    /// How many it has at once.
    pub capacity: u32,
    /// How many it has: they run, or wait for their resources.
    pub running: u64,
    /// How many are queued here.
    pub queued: u64,
    /// Its load, in the unit of its reports.
    pub load: u64,
    /// Jobs that ended well here.
    pub done: u64,
    /// Jobs that failed here.
    pub failed: u64,
    /// The part of its recent jobs that failed, in 256ths.
    pub failure_rate: u32,
    /// How long its jobs ran, the waits for resources not counted.
    pub service: WaitSummary,
    /// The recent peak of that, for a job that asks for the whole of a budget.
    pub peak: u64,
}
