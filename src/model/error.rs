//! What can go wrong, one type per verb. Every error names the budget, the label, what was asked and what was free.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::amount::Unit;
use super::budget::{BudgetId, SpaceId};

/// A number that cannot be an amount.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AmountError {
    /// Not a number at all, or NaN.
    #[error("`{text}` is not a number")]
    NotANumber {
        /// What was written.
        text: String,
    },
    /// Below zero.
    #[error("`{text}` is negative; an amount is zero or more")]
    Negative {
        /// What was written.
        text: String,
    },
    /// Above 2⁶³ − 1 base units.
    #[error("`{text}` is more than 2^63 - 1 units")]
    TooLarge {
        /// What was written.
        text: String,
    },
    /// A share above the whole.
    #[error("a share of `{text}` is more than the whole; shares lie between 0 and 1")]
    AboveWhole {
        /// What was written.
        text: String,
    },
    /// An unknown unit, or one that the budget is not counted in.
    #[error("`{text}` has the wrong unit; write bytes with B, KiB to TiB or KB to TB, shares with %, others without")]
    Unit {
        /// What was written.
        text: String,
    },
    /// A part of something that is counted in whole units.
    #[error("`{text}` is no whole number; only shares have fractions")]
    Fraction {
        /// What was written.
        text: String,
    },
}

/// A request that no scheduler could serve, found when it was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nothing is asked for.
    #[error("the request asks for nothing; name at least one amount")]
    Empty,
    /// An amount of zero.
    #[error("the request asks for 0 of budget {budget}; leave the budget out or ask for at least 1")]
    Zero {
        /// The budget.
        budget: BudgetId,
    },
    /// The amounts of one budget add up to more than can be counted.
    #[error("the amounts of budget {budget} overflow: with another {added} they are more than {limit}")]
    Overflow {
        /// The budget.
        budget: BudgetId,
        /// What was to be added.
        added: u64,
        /// The largest amount.
        limit: u64,
    },
    /// More alternatives than one request may have.
    #[error("a request may have {limit} alternatives")]
    TooManyAlternatives {
        /// The limit.
        limit: usize,
    },
    /// A floor above the amount it is the floor of, or of a budget that is not asked for.
    #[error("the floor of budget {budget} is {floor}, above the {asked} that are asked for")]
    FloorAbove {
        /// The budget.
        budget: BudgetId,
        /// The floor.
        floor: u64,
        /// What is asked of it.
        asked: u64,
    },
    /// A factor that leads nowhere, or up.
    #[error("{factor} is no factor of a ladder; it has to be above 0 and below 1")]
    Ladder {
        /// What was given.
        factor: String,
    },
    /// A fraction that is no share.
    #[error("budget {budget}: {source}")]
    Amount {
        /// The budget.
        budget: BudgetId,
        /// What is wrong with it.
        source: AmountError,
    },
    /// A device, NUMA node or disk beyond what a scheduler can have.
    #[error("there is no {space}: a scheduler has at most 16 GPUs, 8 host nodes and 4 disks")]
    NoSuchSpace {
        /// The space.
        space: SpaceId,
    },
    /// The scheduler has no such budget.
    #[error("this scheduler has no budget {budget}; it has {known}")]
    UnknownBudget {
        /// The budget.
        budget: BudgetId,
        /// The budgets it has.
        known: String,
    },
}

/// A budget that could not give what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortage {
    /// The limiting budget.
    pub budget: BudgetId,
    /// Its name.
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// How much of it was asked.
    pub asked: u64,
    /// How much of it was free (for a rate: could be charged) at that moment.
    pub free: u64,
    /// The most it can ever give at once.
    pub limit: u64,
    /// Reservations that waited for it, at that moment.
    pub waiting: u64,
    /// The label of the request.
    pub label: Option<Arc<str>>,
    /// Who holds it, largest first: label and amount, at most three. Only labelled leases are known.
    pub holders: Vec<(Arc<str>, u64)>,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |amount| self.unit.show(amount);
        if let Some(label) = &self.label {
            write!(f, "`{label}`: ")?;
        }
        let (asked, free, limit) = (show(self.asked), show(self.free), show(self.limit));
        write!(f, "asked {asked} of budget {}, {free} free of {limit}, {} waiting", self.name, self.waiting)?;
        for (at, (label, amount)) in self.holders.iter().enumerate() {
            let lead = if at == 0 { "; held by" } else { "," };
            write!(f, "{lead} `{label}` {}", show(*amount))?;
        }
        Ok(())
    }
}

/// Why a scheduler grants nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`Scheduler::close`](crate::Scheduler::close) or [`shutdown`](crate::Scheduler::shutdown) was called.
    Closed,
    /// The scheduler task ended: its runtime was dropped, it was aborted, or the [`Driver`](crate::Driver) was dropped.
    DriverGone,
    /// Every handle of the scheduler was dropped.
    HandlesGone,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CloseReason::Closed => "it was closed",
            CloseReason::DriverGone => "its task ended (runtime dropped, task aborted, or driver dropped)",
            CloseReason::HandlesGone => "every handle was dropped",
        })
    }
}

/// Why a reservation ended without a lease.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] RequestError),
    /// It can never be granted: more than the budget has, also after the budget shrank.
    #[error("can never be granted: {0}; ask for less or raise the capacity")]
    NeverFits(Box<Shortage>),
    /// The deadline passed first.
    #[error("not granted within {}: {shortage}; allow more time or a higher priority", fmt_ms(*.waited))]
    Late {
        /// What it waited for at the end.
        shortage: Box<Shortage>,
        /// For how long.
        waited: Duration,
    },
    /// Everybody who could free what it waits for waits as well, and it is the last of them in rank. Its activity has
    /// to give back what it holds, so that the others can go on, and then ask again.
    #[error("rolled back after {}: {shortage}; all who hold it wait as well; give back what the activity holds, then \
             ask again", fmt_ms(*.waited))]
    RolledBack {
        /// What it waited for.
        shortage: Box<Shortage>,
        /// For how long.
        waited: Duration,
    },
    /// What it waits for cannot come free while its own activity holds what it holds, and rolling back would free it
    /// for nobody else, or was tried often enough. The work has to be split into parts that need less at once.
    #[error("to be split after {}: {shortage}; what is missing is held by the activity itself, or rolling back did not \
             help; do the work in smaller parts", fmt_ms(*.waited))]
    Split {
        /// What it waited for.
        shortage: Box<Shortage>,
        /// For how long.
        waited: Duration,
    },
    /// The scheduler is closed.
    #[error("the scheduler grants nothing any more: {reason}; {shortage}; ask a scheduler that is open")]
    Closed {
        /// Why it is closed.
        reason: CloseReason,
        /// What was asked for.
        shortage: Box<Shortage>,
    },
    /// The queue is full: the request was shed.
    #[error("shed: the queue is full, `max_waiters` lets {limit} reservations wait: {shortage}; retry later")]
    Shed {
        /// What it would have waited for.
        shortage: Box<Shortage>,
        /// How many may wait: [`Config::max_waiters`](crate::Config::max_waiters).
        limit: usize,
    },
}

impl ReserveError {
    /// Whether trying again later cannot help: the same request fails at this scheduler every time, unless somebody
    /// changes a capacity or a rate. So it is for [`Invalid`](ReserveError::Invalid),
    /// [`NeverFits`](ReserveError::NeverFits) and [`Closed`](ReserveError::Closed), and not for
    /// [`Late`](ReserveError::Late) and [`Shed`](ReserveError::Shed), which depend on who else is there.
    pub fn is_permanent(&self) -> bool {
        match self {
            ReserveError::Invalid(_) | ReserveError::NeverFits(_) | ReserveError::Closed { .. } => true,
            ReserveError::Late { .. }
            | ReserveError::Shed { .. }
            | ReserveError::RolledBack { .. }
            | ReserveError::Split { .. } => false,
        }
    }
}

/// Why an attempt that does not wait got no lease.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TryReserveError {
    /// The request itself is wrong.
    #[error(transparent)]
    Invalid(#[from] RequestError),
    /// It can never be granted.
    #[error("can never be granted: {0}; ask for less or raise the capacity")]
    NeverFits(Box<Shortage>),
    /// Not at this moment: too little is free, or somebody ahead waits for it.
    #[error("not now: {0}; await `reserve` to queue for it")]
    NotNow(Box<Shortage>),
    /// The scheduler is closed.
    #[error("the scheduler grants nothing any more: {reason}; {shortage}; ask a scheduler that is open")]
    Closed {
        /// Why it is closed.
        reason: CloseReason,
        /// What was asked for.
        shortage: Box<Shortage>,
    },
}

impl TryReserveError {
    /// Whether trying again later cannot help, in the sense of [`ReserveError::is_permanent`]: so it is for everything
    /// but [`NotNow`](TryReserveError::NotNow).
    pub fn is_permanent(&self) -> bool {
        match self {
            TryReserveError::Invalid(_) | TryReserveError::NeverFits(_) | TryReserveError::Closed { .. } => true,
            TryReserveError::NotNow(_) => false,
        }
    }
}

/// Why a lease could not be split or shrunk. The lease is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The lease holds less than that.
    #[error("the lease holds {held} of budget {budget}, not {asked}")]
    HoldsLess {
        /// The budget.
        budget: BudgetId,
        /// What the lease holds of it.
        held: u64,
        /// What was to be taken.
        asked: u64,
    },
}

/// A live change of a budget that was refused. The budget is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// The scheduler has no such budget.
    #[error("this scheduler has no budget {budget}; it has {known}")]
    UnknownBudget {
        /// The budget.
        budget: BudgetId,
        /// The budgets it has.
        known: String,
    },
    /// Above 2⁶³ − 1.
    #[error("budget {budget}: {what} of {value} is more than 2^63 - 1")]
    TooLarge {
        /// The budget.
        budget: BudgetId,
        /// Which figure.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A rate has no capacity, a loan has no rate.
    #[error("budget {budget} is a {is}; use `{instead}`")]
    WrongKind {
        /// The budget.
        budget: BudgetId,
        /// What it is.
        is: &'static str,
        /// What to call.
        instead: &'static str,
    },
    /// A rate of zero would never refill.
    #[error("budget {budget}: a rate or burst of 0 would never grant anything")]
    Zero {
        /// The budget.
        budget: BudgetId,
    },
    /// The scheduler is closed.
    #[error("the scheduler grants nothing any more: {0}")]
    Closed(CloseReason),
}

/// A configuration that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is nothing to ration.
    #[error("the configuration has no budget")]
    NoBudgets,
    /// Two budgets have one name.
    #[error("two budgets are named `{name}`")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// One budget is configured twice.
    #[error("budget {budget} is configured twice, as `{first}` and `{second}`")]
    DuplicateBudget {
        /// The budget.
        budget: BudgetId,
        /// The name of the first.
        first: String,
        /// The name of the second.
        second: String,
    },
    /// A name is empty or has spaces or control characters in it.
    #[error("`{name}` is no name for a budget: use letters, digits, `.`, `_`, `-`, at most 64")]
    BadName {
        /// The name.
        name: String,
    },
    /// A capacity, rate or burst of zero.
    #[error("budget `{name}`: {what} is 0; it would never grant anything")]
    Zero {
        /// The budget.
        name: String,
        /// Which figure.
        what: &'static str,
    },
    /// A figure above 2⁶³ − 1.
    #[error("budget `{name}`: {what} of {value} is more than 2^63 - 1")]
    TooLarge {
        /// The budget.
        name: String,
        /// Which figure.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A setting that cannot work.
    #[error("setting `{setting}` is {value}; it must be {must}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        must: &'static str,
    },
    /// The text is not a configuration.
    #[error("{0}")]
    Syntax(String),
    /// The scheduler task needs a tokio runtime.
    #[error("no tokio runtime: call this inside one, or use `build` and poll the driver inside one")]
    NoRuntime,
    /// The runtime has no clock.
    #[error("the tokio runtime has no time driver: build it with `enable_time` or `enable_all`")]
    NoTime,
}

/// Books that do not balance: a defect of this crate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the books of budget {budget} do not balance: {found}")]
#[non_exhaustive]
pub struct VerifyError {
    /// The name of the budget.
    pub budget: Arc<str>,
    /// The figures.
    pub found: String,
}

fn fmt_ms(waited: Duration) -> String {
    format!("{:.3} ms", waited.as_secs_f64() * 1e3)
}
