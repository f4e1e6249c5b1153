//! What the layer of tasks needs of a scheduler beside its public face.

use tokio::runtime::Handle;

use crate::model::TaskStats;
use crate::observe::TaskCounters;

use super::Scheduler;

impl Scheduler {
    /// Where its tasks run: on the runtime it was made in, else on the one of the caller.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        let own = self.core.desk.lock().runtime.clone();
        own.or_else(|| Handle::try_current().ok())
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
