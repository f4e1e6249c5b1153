//! A scheduler in tokio-console: every budget a resource, every wait that lasts an async op of the budget that blocks
//! it, the scheduler task by name.
//!
//! The console recognises spans by name and events by target, whoever emits them, so `tracing` is all this needs. What
//! is emitted, and how, follows from what the console does with it:
//!
//! * **Nothing is emitted for a grant or a release.** The console shows what is, not what was, and looks once a second.
//!   The scheduler task reads the books every [`TICK`] and emits the attributes that changed. Only that task emits
//!   them, so none arrives out of order and none is added up: what was read last is what is shown, and after the last
//!   grant it is exact within a tick. The fast path is the same with and without this feature, and with the console
//!   attached.
//! * **A wait is shown if it lasts.** Opening an op costs some microseconds, and the console keeps each for an hour and
//!   takes in 128 such events a second. So a reservation that begins to wait only leaves a note. The scheduler task
//!   picks those that have waited for a tick, the longest wait first, a few a tick and [`Waits::MOST`] in all, and
//!   wakes them: the op is opened by the poll, because the task that waits is the one in whose context the op appears.
//!   So neither the console's queue nor its memory grows with the number of reservations. `waiting` counts all who wait
//!   for a budget, `listed` those of them that have an op there.
//! * **One callsite for each kind of span and event** ([`emit`]): with more than 32 of a kind in a process, the console
//!   panics. All of them are registered before the first is used: whoever comes while another thread is registering one
//!   is lost.
//! * **Nobody has to be there first.** A subscriber that arrives later than the scheduler is found at the next turn of
//!   the desk (a wait, a label, a rate, `stats`), not by a grant on the fast path.
//! * **What nobody asked for is not made.** While no subscriber listens, the scheduler task has no tick, and a wait
//!   costs a relaxed load more. An op is linked to the budget and the task that are entered, so both are, for as long
//!   as the emission takes: nothing else happens inside, or it would be taken for ours.
//! * **Tasks have names.** The scheduler task, submitted tasks and dispatchers are tokio tasks under their names with
//!   `--cfg tokio_unstable`. Without it tokio tells the console of no task at all, so these show themselves ([`task`]),
//!   at most 2,048 at once; the other tasks of the service are not shown then, nor are ops of waits in them. Their
//!   location is where they were submitted. Tokio takes the place in the code that calls it for that of a task and lets
//!   nobody name another, so with `--cfg tokio_unstable` the task of a dispatcher's job has the dispatcher's.
//! * **A subscriber may panic** (the console does, see above). That ends neither the scheduler task nor a wait.
//!
//! Amounts are text: exact, readable (`40 GiB`), and replaced as a whole.

#[cfg(feature = "console")]
mod budgets;
#[cfg(feature = "console")]
mod emit;
#[cfg(not(feature = "console"))]
mod off;
#[cfg(feature = "console")]
mod sampler;
mod spawn;
#[cfg(all(feature = "console", not(tokio_unstable)))]
mod task;
#[cfg(not(all(feature = "console", not(tokio_unstable))))]
mod unseen;
#[cfg(feature = "console")]
mod waits;

use std::sync::Arc;

use crate::model::{BudgetId, Priority, Unit};

#[cfg(not(feature = "console"))]
pub(crate) use off::{Console, Sampler};
pub(crate) use spawn::spawn;
#[cfg(all(feature = "console", not(tokio_unstable)))]
pub(crate) use task::TaskRow;
#[cfg(not(all(feature = "console", not(tokio_unstable))))]
pub(crate) use unseen::TaskRow;
#[cfg(feature = "console")]
pub(crate) use {sampler::Sampler, waits::Waits as Console};

/// What a budget looks like now.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "console"), expect(dead_code, reason = "nobody is shown anything"))]
pub(crate) struct Figures {
    pub id: BudgetId,
    pub name: Arc<str>,
    pub unit: Unit,
    pub rate: bool,
    pub capacity: u64,
    pub in_use: u64,
    pub waiting: u64,
}

/// What a reservation waits for.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "console"), expect(dead_code, reason = "nobody is shown anything"))]
pub(crate) struct Asking {
    /// The budget in whose line it stands, or the first that it asks for.
    pub budget: BudgetId,
    pub units: u64,
    pub unit: Unit,
    pub priority: Priority,
    pub label: Option<String>,
    /// More for a lease that is held.
    pub grows: bool,
    pub now: u64,
}
