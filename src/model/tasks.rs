//! Figures of submitted tasks.

use std::fmt;

use super::snapshot::Figure;

/// What became of the tasks that were [submitted](crate::Scheduler::submit) to a scheduler. Every one of them is in
/// exactly one place: `submitted` is `live` plus all the ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TaskStats {
    /// All there ever were.
    pub submitted: u64,
    /// Those that have not ended: they wait for their resources, pause before another attempt, or run.
    pub live: u64,
    /// Those of the live that run.
    pub running: u64,
    /// Ended with their value.
    pub done: u64,
    /// Ended because their future gave an error, and was not to be tried again.
    pub failed: u64,
    /// Ended by a panic, and were not to be tried again.
    pub panicked: u64,
    /// Were not granted within their deadline.
    pub late: u64,
    /// Were not complete by their time.
    pub overdue: u64,
    /// Had to give back what they held too often.
    pub preempted_too_often: u64,
    /// Were cancelled or aborted, or their runtime ended.
    pub cancelled: u64,
    /// Jobs of a dispatcher that were taken back while they waited or ran, to be submitted again: they go on as another
    /// task.
    pub taken_back: u64,
    /// Found the queue full.
    pub shed: u64,
    /// Could never be granted, or the scheduler was closed.
    pub refused: u64,
    /// How often a task gave back what it held, to be run again.
    pub preemptions: u64,
    /// How often a task that failed was run again.
    pub retries: u64,
}

impl TaskStats {
    /// Those that have ended, in whatever way.
    pub fn ended(&self) -> u64 {
        let good = self.done;
        let by_itself = self.failed + self.panicked;
        let by_time = self.late + self.overdue;
        let by_others = self.preempted_too_often + self.cancelled + self.taken_back + self.shed + self.refused;
        good + by_itself + by_time + by_others
    }

    /// The same as figures to be shown beside others.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let now = [("waiting", self.live.saturating_sub(self.running)), ("running", self.running)];
        let so_far = [
            ("submitted", self.submitted),
            ("done", self.done),
            ("failed", self.failed),
            ("panicked", self.panicked),
            ("late", self.late),
            ("overdue", self.overdue),
            ("preempted_too_often", self.preempted_too_often),
            ("cancelled", self.cancelled),
            ("taken_back", self.taken_back),
            ("shed", self.shed),
            ("refused", self.refused),
            ("preemptions", self.preemptions),
            ("retries", self.retries),
        ];
        Figure::counts(&now, &so_far)
    }

    /// Those that missed a time: that of their grant or that of their completion.
    pub fn missed(&self) -> u64 {
        self.late + self.overdue
    }
}

impl fmt::Display for TaskStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TaskStats { submitted, live, running, done, .. } = self;
        write!(f, "{submitted} submitted, {live} live ({running} run), {done} done")?;
        let others = [
            (self.failed, "failed"),
            (self.panicked, "panicked"),
            (self.late, "late"),
            (self.overdue, "overdue"),
            (self.preempted_too_often, "preempted too often"),
            (self.cancelled, "cancelled"),
            (self.taken_back, "taken back"),
            (self.shed, "shed"),
            (self.refused, "refused"),
            (self.preemptions, "preemptions"),
            (self.retries, "retries"),
        ];
        others.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}
