//! Whether, and when, a task that failed is tried again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::pause;

use super::TaskError;

/// Whether an error is worth another attempt.
type Worth = Arc<dyn Fn(&TaskError) -> bool + Send + Sync>;

/// How often a task that fails is tried again, after which pauses, and after which errors.
///
/// The pauses double from attempt to attempt, on tokio's clock, and half of each is left to chance: by the seed, so
/// that a test or a replay sees the same pauses. While it pauses a task holds nothing.
///
/// ```
/// use std::time::Duration;
/// use bursar::tasks::{Retry, TaskError};
///
/// // Three attempts in all, 10 ms and then 20 ms apart, and none after a panic.
/// let retry = Retry::new(3)
///     .backoff(Duration::from_millis(10), Duration::from_secs(1))
///     .when(|error| matches!(error, TaskError::Failed { .. }));
/// # let _ = retry;
/// ```
#[derive(Clone)]
#[must_use = "a policy does nothing until a task has it"]
pub struct Retry {
    attempts: u32,
    base: Duration,
    cap: Duration,
    seed: u64,
    when: Option<Worth>,
}

impl Retry {
    /// At most so many attempts in all, 10 ms apart at first and 10 s at most, after errors and panics of the task. A
    /// run that was preempted is none of them.
    pub fn new(attempts: u32) -> Self {
        let (base, cap) = (Duration::from_millis(10), Duration::from_secs(10));
        Retry { attempts, base, cap, seed: 0, when: None }
    }

    /// No second attempt: what a task does that says nothing.
    pub fn never() -> Self {
        Retry::new(1)
    }

    /// The first pause, and the longest.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        (self.base, self.cap) = (base, cap);
        self
    }

    /// What fixes the part of the pauses that is left to chance. Give tasks that may fail together different ones.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Which errors are worth another attempt. It is asked about [`TaskError::Failed`], [`TaskError::Panicked`] and
    /// [`TaskError::Shed`]; if it panics, there is no other attempt.
    pub fn when(mut self, worth: impl Fn(&TaskError) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(worth));
        self
    }

    /// The pause before the next attempt, if there is to be one.
    pub(super) fn after(&self, error: &TaskError, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts {
            return None;
        }
        let worth = match (&self.when, error) {
            (Some(when), TaskError::Failed { .. } | TaskError::Panicked { .. } | TaskError::Shed { .. }) => {
                let asked = std::panic::AssertUnwindSafe(|| when(error));
                std::panic::catch_unwind(asked).unwrap_or(false)
            }
            (None, TaskError::Failed { .. } | TaskError::Panicked { .. }) => true,
            _ => false,
        };
        worth.then(|| pause(self.base, self.cap, attempt, self.seed))
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("base", &self.base)
            .field("cap", &self.cap)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
