//! The async shell: handle, reservation, lease, and the task that time drives. The only place with wakers and locks.

mod activity;
mod builder;
mod console;
mod core;
mod drain;
mod driver;
mod explain;
mod growth;
mod inspect;
mod known;
mod lease;
mod module;
mod period;
mod placement;
mod report;
mod reservation;
mod revoked;
mod scope;
mod sections;
mod span;
mod tasks;
mod trace;
mod wake;
mod watch;
mod weak;

use std::fmt;
use std::sync::Arc;

use crate::model::{BudgetId, CapacityError, CloseReason, Request, Stats, Supply, TryReserveError, VerifyError};

pub use activity::ExternalWait;
pub use builder::Builder;
#[cfg(any(feature = "test-util", bursar_loom))]
pub use builder::HandClock;
use core::{Core, Desk};
use drain::Drain;
pub use driver::Driver;
pub use growth::Growth;
pub use lease::{Lease, MergeError};
pub use module::{Module, ModuleBuilder};
pub use period::Period;
#[cfg(feature = "metrics")]
pub(crate) use period::Timed;
pub use reservation::Reservation;
pub use revoked::Revoked;
pub use weak::WeakScheduler;

/// The handle of a scheduler. Cheap to clone; all clones are the same scheduler.
///
/// When the last handle is dropped the scheduler closes: waiting reservations end with
/// [`CloseReason::HandlesGone`], leases stay valid.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::{GIB, MIB, Priority, Request, Scheduler};
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).host(64 * GIB).attention().io(500 * MIB).spawn()?;
///
/// let lease = scheduler
///     .reserve(Request::new().gpu(2 * GIB).host(256 * MIB).attention(0.10).io(50 * MIB).priority(Priority::High))
///     .await?;
/// // ... all of it is held until the lease drops ...
/// drop(lease);
/// scheduler.verify()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Scheduler {
    /// Here for its drop: counts handles, not leases.
    alive: Arc<Alive>,
    core: &'static Core,
    generation: u32,
}

/// Closes the scheduler when the last handle drops.
#[derive(Debug)]
struct Alive {
    core: &'static Core,
    generation: u32,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.core.leave(self.generation, CloseReason::HandlesGone);
    }
}

impl Scheduler {
    /// Makes a scheduler.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Reserves what `request` asks for: all of it at once, or nothing while it waits.
    ///
    /// # Errors
    /// The future ends with a [`ReserveError`](crate::ReserveError): the request is malformed or can never fit, its
    /// deadline passed, the queue is full, or the scheduler is closed.
    ///
    /// # Cancel safety
    /// Dropping the future at any time gives everything back; what is lost is the place in the queue. See
    /// [`Reservation`].
    #[inline]
    pub fn reserve(&self, request: Request) -> Reservation {
        Reservation::new(self.core, self.generation, request)
    }

    /// Reserves what `request` asks for if that is possible at once. It passes nobody whom a reservation with the same
    /// request would not pass; the deadline of the request has no meaning here.
    ///
    /// # Errors
    /// [`TryReserveError::NotNow`] when it is not possible now, or never, or the request is malformed, or the
    /// scheduler is closed.
    #[inline]
    pub fn try_reserve(&self, request: Request) -> Result<Lease, TryReserveError> {
        reservation::try_reserve(self.core, self.generation, request)
    }

    /// Changes the capacity of a loan. More is granted at once to whoever waits. Less than what is granted now drains:
    /// nothing of it is granted until enough has come back, and `stats` shows the deficit. Waiters that can no longer
    /// fit end with [`NeverFits`](crate::ReserveError::NeverFits).
    ///
    /// # Errors
    /// [`CapacityError`]; the budget is unchanged.
    pub fn set_capacity(&self, id: BudgetId, capacity: u64) -> Result<(), CapacityError> {
        self.change(id, false, |desk, turn| {
            // Nothing at all is no capacity to begin with, but one to shrink to.
            if capacity > 0 {
                possible(id, Supply::loan(capacity))?;
            }
            desk.engine.set_capacity(turn, id, capacity);
            Ok(())
        })
    }

    /// Changes speed and burst of a rate; its largest debt stays. What a configuration may say is accepted, and nothing
    /// else.
    ///
    /// # Errors
    /// [`CapacityError`]; the budget is unchanged.
    pub fn set_rate(&self, id: BudgetId, per_second: u64, burst: u64) -> Result<(), CapacityError> {
        self.change(id, true, |desk, turn| {
            let max_debt = turn.books.bucket(id).map_or(0, |bucket| bucket.limit() - bucket.burst());
            possible(id, Supply::Rate { per_second, burst, max_debt })?;
            desk.engine.set_rate(turn, id, per_second, burst);
            Ok(())
        })
    }

    fn change(
        &self,
        id: BudgetId,
        rate: bool,
        change: impl FnOnce(&mut Desk, &mut crate::engine::Turn<'_>) -> Result<(), CapacityError>,
    ) -> Result<(), CapacityError> {
        let changed = self.core.turn(|desk, turn, _| {
            if let Some(reason) = desk.engine.closed() {
                return Err(CapacityError::Closed(reason));
            }
            if turn.books.budgets() & id.bit() == 0 {
                return Err(CapacityError::UnknownBudget { budget: id, known: desk.names.list() });
            }
            match (turn.books.bucket(id).is_some(), rate) {
                (true, false) => Err(CapacityError::WrongKind { budget: id, is: "rate", instead: "set_rate" }),
                (false, true) => Err(CapacityError::WrongKind { budget: id, is: "loan", instead: "set_capacity" }),
                _ => change(desk, turn),
            }
        });
        tracing::debug!(target: "bursar::capacity", budget = %id, ok = changed.is_ok(), "capacity changed");
        changed
    }

    /// Checks the books: `free + granted == capacity + deficit` for every loan, the identity of charges and refunds for
    /// every rate, and that the queue agrees with its indexes.
    ///
    /// # Errors
    /// A defect of this crate, with the figures.
    pub fn verify(&self) -> Result<(), VerifyError> {
        verify(self.core)
    }

    /// Grants nothing any more: every wait ends with [`CloseReason::Closed`], and so does every later request. Leases
    /// stay valid, and so do grants that are on their way to their owner: they no longer expire, and count as leases
    /// until their reservation is polled or dropped.
    pub fn close(&self) {
        self.core.close(self.generation, CloseReason::Closed);
    }

    /// Whether the scheduler is closed, and why.
    pub fn closed(&self) -> Option<CloseReason> {
        self.core.desk.lock().engine.closed()
    }

    /// Closes the scheduler, waits until every lease has ended, and checks the books. Leases that were
    /// [forgotten](Lease::forget) are not waited for.
    ///
    /// # Errors
    /// A defect of this crate, with the figures.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting; the scheduler stays closed.
    pub async fn shutdown(&self) -> Result<Stats, VerifyError> {
        self.close();
        Drain::new(self.core).await;
        self.verify()?;
        Ok(self.stats())
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("closed", &self.closed()).finish_non_exhaustive()
    }
}

/// Whether a budget can have these figures.
fn possible(budget: BudgetId, supply: Supply) -> Result<(), CapacityError> {
    match supply.fault() {
        None => Ok(()),
        Some((_, 0)) => Err(CapacityError::Zero { budget }),
        Some((what, value)) => Err(CapacityError::TooLarge { budget, what, value }),
    }
}

/// Checks the books of a scheduler.
fn verify(core: &'static Core) -> Result<(), VerifyError> {
    let desk = core.desk.lock();
    let found = {
        let books = core.books.lock();
        books.verify().map(|()| books.shut())
    };
    // While the desk is locked no flag changes, so the queue can be gone through without the books. What activities
    // hold ends at the desk.
    let found = found.and_then(|shut| desk.engine.verify(shut));
    let found = found.and_then(|()| desk.engine.verify_parties(&core.books.lock()));
    found.map_err(|(id, found)| VerifyError { budget: desk.names.of(id).0, found })
}
