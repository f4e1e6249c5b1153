//! What the engine wants done: values that the shell turns into wake-ups, figures and log lines after unlocking.

use crate::ledger::Held;
use crate::model::{BudgetId, CloseReason, Priority};

/// Something that happened inside the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A waiter was granted its bundle; it lies on the board. Wake it.
    Offer {
        /// Its slot.
        slot: u32,
        /// Its level.
        level: Priority,
        /// The first budget it was short of, when it was last examined.
        budget: BudgetId,
        /// How long ago it arrived, in nanoseconds.
        waited: u64,
    },
    /// A dormant waiter was polled and granted at once.
    Regained {
        /// Its level.
        level: Priority,
        /// The first budget it asks for.
        budget: BudgetId,
        /// How long ago it arrived, in nanoseconds.
        waited: u64,
    },
    /// An offer that nobody polled was taken back; the waiter is dormant until it is polled.
    Expired {
        /// Its slot.
        slot: u32,
    },
    /// A wait ended without a grant. Wake the waiter: it collects the reason.
    End {
        /// Its slot.
        slot: u32,
        /// Its level.
        level: Priority,
        /// The reason.
        why: Verdict,
    },
    /// A holder waits for holders that wait themselves, if what the scopes of their tasks imply is right.
    Alert {
        /// The slot of one of its waits.
        slot: u32,
        /// The number of its activity.
        activity: u64,
        /// What it lacks.
        budget: BudgetId,
        /// The number of the activity of one who holds that; its own if it holds all of it.
        holder: u64,
    },
    /// A preemptible lease is asked to end. Wake its owner.
    Revoke {
        /// Its place.
        place: u32,
        /// Its level.
        level: Priority,
        /// The level that it is asked for.
        by: Priority,
    },
    /// A lease that was asked to end has not done so within its grace.
    Overdue {
        /// Its place.
        place: u32,
        /// Its level.
        level: Priority,
    },
    /// A wait was given up by its owner.
    Cancelled {
        /// Its level.
        level: Priority,
    },
}

/// Why a wait ended without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The deadline passed.
    Late,
    /// More than a budget has, since it shrank.
    NeverFits,
    /// The scheduler was closed.
    Closed(CloseReason),
    /// Holders wait for each other: this one is to give back what it holds.
    RollBack,
    /// Holders wait for each other, and giving back helps nobody: this one is to ask for less at once.
    Split,
}

/// A wait that ended without a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The reason.
    pub why: Verdict,
    /// How long it waited, in nanoseconds.
    pub waited: u64,
    /// The budget that blocked it then.
    pub short: Short,
}

/// A budget that could not give what was asked, in figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// The budget.
    pub budget: BudgetId,
    /// What was asked of it.
    pub asked: u64,
    /// What it had.
    pub free: u64,
    /// The most it can give at once.
    pub limit: u64,
    /// How many waiters name it.
    pub waiting: u64,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Granted at once; this is what the lease holds.
    Granted(Held),
    /// It waits in this slot.
    Waiting(u32),
    /// Refused. Boxed, as it is large and rare.
    Refused(Box<Refusal>),
}

/// Why a submission was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A budget that this scheduler does not have.
    UnknownBudget(BudgetId),
    /// More than a budget can ever give.
    NeverFits(Short),
    /// Not now, and it was not to wait.
    NotNow(Short),
    /// The deadline is now.
    Late(Short),
    /// The scheduler is closed.
    Closed(CloseReason, Short),
    /// So many wait already, and no more may.
    Full(usize, Short),
}
