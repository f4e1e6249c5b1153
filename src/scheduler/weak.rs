//! A handle that keeps nothing open.

use std::fmt;
use std::sync::{Arc, Weak};

use super::{Alive, Scheduler};

/// A handle that does not keep its scheduler open: for what looks at a scheduler without being the reason that it is
/// there, as the inspection page does.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), bursar::ConfigError> {
/// use bursar::{GIB, Scheduler};
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// let weak = scheduler.downgrade();
/// assert!(weak.upgrade().is_some());
/// drop(scheduler);
/// assert!(weak.upgrade().is_none());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct WeakScheduler(Weak<Alive>);

impl Scheduler {
    /// A handle that does not keep the scheduler open.
    pub fn downgrade(&self) -> WeakScheduler {
        WeakScheduler(Arc::downgrade(&self.alive))
    }
}

impl WeakScheduler {
    /// A handle that keeps the scheduler open as every handle does; `None` when the last one was dropped.
    pub fn upgrade(&self) -> Option<Scheduler> {
        let alive = self.0.upgrade()?;
        Some(Scheduler { core: alive.core, generation: alive.generation, alive })
    }
}

impl fmt::Debug for WeakScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakScheduler").field("gone", &(self.0.strong_count() == 0)).finish_non_exhaustive()
    }
}
