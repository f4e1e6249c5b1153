//! What the layer of tasks needs of a scheduler beside its public face.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::model::{BudgetId, Request, TaskStats};
use crate::observe::TaskCounters;
use crate::policy::Aging;

use super::Scheduler;

impl Scheduler {
    /// Where its tasks run: on the runtime it was made in, else on the one of the caller.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        let own = self.core.desk.lock().runtime.clone();
        own.or_else(|| Handle::try_current().ok())
    }

    /// What a request asks for as one number: of the budget that it asks the largest part of, that part in millionths,
    /// at least one. (The dominant share of A. Ghodsi and others, "Dominant Resource Fairness", NSDI 2011.)
    pub(crate) fn cost(&self, request: &Request) -> u64 {
        let books = self.core.books.lock();
        let part = |(id, units): (BudgetId, u64)| {
            let limit = books.bucket(id).map_or_else(|| books.capacity(id), |bucket| bucket.burst());
            u128::from(units) * 1_000_000 / u128::from(limit.max(1))
        };
        let largest = request.amounts().iter().map(part).max().unwrap_or(0);
        u64::try_from(largest).unwrap_or(u64::MAX).max(1)
    }

    /// How long those have that are asked to give back what they hold.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_nanos(self.core.look(|desk, _| desk.engine.grace()))
    }

    /// How those that wait gain levels.
    pub(crate) fn aging(&self) -> Aging {
        self.core.look(|desk, _| desk.engine.aging())
    }

    /// The counters of its tasks. They are its own for as long as a handle of it lives.
    pub(crate) fn task_counters(&self) -> &'static TaskCounters {
        &self.core.tasks
    }

    /// What became of the tasks that were [submitted](Scheduler::submit) here. Takes no lock.
    pub fn task_stats(&self) -> TaskStats {
        self.core.tasks.stats()
    }
}
