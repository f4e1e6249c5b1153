//! Activities inside the shell: waits that the scheduler cannot see.

use std::fmt;

use crate::model::Activity;

use super::Scheduler;

impl Activity {
    /// Declares a wait outside the scheduler: until the guard drops, what this activity holds does not count as coming
    /// back. For waits on other holders only (their results, their channels, a pool that they share): a wait for a disk
    /// or the network ends by itself, and declaring it may get somebody a verdict that was not needed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bursar::{Activity, Request, Scheduler};
    ///
    /// let scheduler = Scheduler::builder().gpu(10u64).spawn()?;
    /// let build = Activity::new("build side");
    /// let lease = scheduler.reserve(Request::new().gpu(6u64).activity(&build)).await?;
    /// let (probe_side, rows) = tokio::sync::oneshot::channel::<u64>();
    /// # let _ = probe_side.send(7);
    /// {
    ///     let _waiting = build.external_wait(&scheduler);
    ///     rows.await?;
    /// }
    /// drop(lease);
    /// # Ok(()) }
    /// ```
    pub fn external_wait(&self, scheduler: &Scheduler) -> ExternalWait {
        scheduler.core.turn(|desk, turn, _| desk.engine.wait_outside(turn, self.id(), true));
        ExternalWait { activity: self.clone(), scheduler: scheduler.clone() }
    }
}

/// A declared wait outside the scheduler, until it drops: see [`Activity::external_wait`].
#[must_use = "the wait ends when this drops"]
pub struct ExternalWait {
    activity: Activity,
    /// Keeps the scheduler open, so that the end of the wait finds it.
    scheduler: Scheduler,
}

impl Drop for ExternalWait {
    fn drop(&mut self) {
        self.scheduler.core.turn(|desk, turn, _| desk.engine.wait_outside(turn, self.activity.id(), false));
    }
}

impl fmt::Debug for ExternalWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExternalWait").field(&self.activity).finish()
    }
}
