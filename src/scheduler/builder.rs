//! From a configuration to a running scheduler.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::model::{Budget, BudgetId, Bytes, Config, ConfigError, Share};
use crate::observe::{self, Sampler, TaskRow};
use crate::rt::Clock;
#[cfg(any(feature = "test-util", bursar_loom))]
use crate::rt::sync::{AtomicU64, Ordering};

use super::core::Core;
use super::driver::Driver;
use super::{Alive, Scheduler};

/// Makes a [`Scheduler`]: what [`Scheduler::builder`] returns.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), bursar::ConfigError> {
/// use bursar::{Budget, BudgetId, GIB, MIB, Scheduler};
///
/// let scheduler = Scheduler::builder()
///     .gpu(40 * GIB)
///     .host(64 * GIB)
///     .attention()
///     .budget(Budget::rate(BudgetId::IO, 500 * MIB))
///     .spawn()?;
/// # let _ = scheduler; Ok(()) }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until `spawn` or `build`"]
pub struct Builder {
    config: Config,
}

impl Builder {
    pub(super) fn new() -> Self {
        Builder { config: Config::new() }
    }

    /// Starts from a configuration, budgets and all; what was set before is replaced.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// One more budget.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.config.budgets.push(budget);
        self
    }

    /// Memory of the first GPU.
    pub fn gpu(self, bytes: impl Into<Bytes>) -> Self {
        self.budget(Budget::loan(BudgetId::GPU, bytes.into().0))
    }

    /// Host memory of the first NUMA node.
    pub fn host(self, bytes: impl Into<Bytes>) -> Self {
        self.budget(Budget::loan(BudgetId::HOST, bytes.into().0))
    }

    /// Compute slots.
    pub fn compute(self, slots: u64) -> Self {
        self.budget(Budget::loan(BudgetId::COMPUTE, slots))
    }

    /// The whole of attention.
    pub fn attention(self) -> Self {
        self.budget(Budget::loan(BudgetId::ATTENTION, u64::from(Share::WHOLE.millionths())))
    }

    /// I/O, in bytes per second, with a burst of one second's worth.
    pub fn io(self, bytes_per_second: impl Into<Bytes>) -> Self {
        self.budget(Budget::rate(BudgetId::IO, bytes_per_second.into().0))
    }

    /// Network, in bytes per second, with a burst of one second's worth.
    pub fn network(self, bytes_per_second: impl Into<Bytes>) -> Self {
        self.budget(Budget::rate(BudgetId::NETWORK, bytes_per_second.into().0))
    }

    /// See [`Config::offer_expiry`].
    pub fn offer_expiry(mut self, time: Duration) -> Self {
        self.config.offer_expiry = time;
        self
    }

    /// See [`Config::look_ahead`].
    pub fn look_ahead(mut self, waiters: usize) -> Self {
        self.config.look_ahead = waiters;
        self
    }

    /// See [`Config::edf_horizon`].
    pub fn edf_horizon(mut self, time: Duration) -> Self {
        self.config.edf_horizon = time;
        self
    }

    /// See [`Config::max_waiters`].
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.config.max_waiters = waiters;
        self
    }

    /// See [`Config::verify_every`].
    pub fn verify_every(mut self, time: Duration) -> Self {
        self.config.verify_every = Some(time);
        self
    }

    /// See [`Config::grace`].
    pub fn grace(mut self, time: Duration) -> Self {
        self.config.grace = time;
        self
    }

    /// See [`Config::sample_every`].
    pub fn sample_every(mut self, time: Duration) -> Self {
        self.config.sample_every = Some(time);
        self
    }

    /// See [`Config::stuck_after`].
    pub fn stuck_after(mut self, time: Duration) -> Self {
        self.config.stuck_after = Some(time);
        self
    }

    /// Starts the scheduler and its task on the current tokio runtime.
    ///
    /// # Errors
    /// What is wrong with the configuration; [`ConfigError::NoRuntime`] outside a runtime and [`ConfigError::NoTime`]
    /// in one without a time driver.
    #[track_caller]
    pub fn spawn(self) -> Result<Scheduler, ConfigError> {
        let runtime = Handle::try_current().map_err(|_| ConfigError::NoRuntime)?;
        // Tokio has no question for this; making a timer answers it, by a panic if there is none.
        std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).map_err(|_| ConfigError::NoTime)?;
        let (scheduler, mut driver) = self.build()?;
        let name = "bursar scheduler";
        let mut row = TaskRow::new(&name.into(), Location::caller());
        let task = poll_fn(move |cx| row.poll(Pin::new(&mut driver), cx));
        // An error has dropped the task, which closes the scheduler; the first reservation says so.
        let _ = observe::spawn(&runtime, name, task);
        Ok(scheduler)
    }

    /// Makes the scheduler and leaves its task to the caller, who has to poll the driver.
    ///
    /// Time is read from the runtime this is called in, if any.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    #[track_caller]
    pub fn build(self) -> Result<(Scheduler, Driver), ConfigError> {
        self.build_on(Handle::try_current().ok(), Clock::of_tokio())
    }

    /// Makes the scheduler on a clock that only the caller moves, without a runtime. Its core is never shared with a
    /// later scheduler.
    #[cfg(any(feature = "test-util", bursar_loom))]
    #[doc(hidden)]
    #[track_caller]
    pub fn build_by_hand(self) -> Result<(Scheduler, Driver, HandClock), ConfigError> {
        let start = 1_000_000_000;
        let (scheduler, driver) = self.build_on(None, Clock::Manual(AtomicU64::new(start)))?;
        let clock = HandClock { core: scheduler.core };
        Ok((scheduler, driver, clock))
    }

    #[track_caller]
    fn build_on(self, runtime: Option<Handle>, clock: Clock) -> Result<(Scheduler, Driver), ConfigError> {
        self.config.check()?;
        let core = Core::open(&self.config, runtime, clock);
        let generation = core.books.lock().generation();
        let driver = Driver::new(core, generation, &self.config, Sampler::new(Location::caller()));
        Ok((Scheduler { alive: Arc::new(Alive { core, generation }), core, generation }, driver))
    }
}

/// The clock of a scheduler made by `build_by_hand`.
#[cfg(any(feature = "test-util", bursar_loom))]
#[derive(Debug, Clone, Copy)]
pub struct HandClock {
    core: &'static Core,
}

#[cfg(any(feature = "test-util", bursar_loom))]
impl HandClock {
    /// Moves the time on. Nothing happens until the driver is polled or somebody takes a turn.
    pub fn advance(&self, time: Duration) {
        if let Clock::Manual(now) = &self.core.clock {
            now.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }
}
