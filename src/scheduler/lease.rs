//! The guard of what was granted.

use std::fmt;
use std::time::Duration;

use crate::ledger::Held;
use crate::model::{Amounts, BudgetId, Holder, LeaseError, Path, Priority, Request};

use super::Scheduler;
use super::core::Core;

/// What a reservation was granted, held until this drops.
///
/// The loans of the bundle come back on drop, on whatever thread, also while a panic unwinds, and whoever waits for
/// them is granted in the same call. Rates were spent when the lease was granted and are not part of it.
///
/// A lease belongs into the work it pays for: move it into the task, the blocking closure or the callback that uses the
/// memory, so that it cannot end before the work does.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::{Amounts, BudgetId, GIB, Request, Scheduler};
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// let mut lease = scheduler.reserve(Request::new().gpu(6 * GIB)).await?;
///
/// // The activations turned out smaller than feared; a part goes to a helper of its own.
/// lease.shrink(&Amounts::of(BudgetId::GPU, GIB))?;
/// let part = lease.split(&Amounts::of(BudgetId::GPU, 2 * GIB))?;
/// let helper = tokio::task::spawn_blocking(move || drop(part));
/// helper.await?;
/// assert_eq!(lease.get(BudgetId::GPU), 3 * GIB);
/// # Ok(()) }
/// ```
#[must_use = "a lease that is not kept gives everything back at once"]
pub struct Lease {
    core: &'static Core,
    held: Held,
}

impl Lease {
    /// A lease of what was granted to a request without label, module or fault.
    #[inline(always)]
    pub(super) fn plain(core: &'static Core, held: Held) -> Self {
        Lease { core, held }
    }

    /// A lease of what was granted to a request; with a label it enters the table of known holders.
    pub(super) fn granted(core: &'static Core, held: Held, request: &mut Request) -> Self {
        let mut lease = Lease::plain(core, held);
        // What a lease grows by becomes a part of it, and is no holder of its own.
        if !request.grows()
            && let Some(label) = request.take_label()
        {
            lease.introduce(Holder {
                label,
                module: request.module_kept(),
                priority: lease.priority(),
                amounts: lease.amounts(),
                forgotten: false,
                made_at: request.origin(),
                held_for: Duration::ZERO,
                number: 0,
                since: core.now(),
            });
        }
        lease
    }

    pub(super) fn core(&self) -> &'static Core {
        self.core
    }

    pub(super) fn held(&self) -> Held {
        self.held
    }

    pub(super) fn held_mut(&mut self) -> &mut Held {
        &mut self.held
    }

    /// A lease keeps its core from passing to another scheduler.
    pub(super) fn generation(&self) -> u32 {
        self.core.books.lock().generation()
    }

    fn introduce(&mut self, holder: Holder) {
        self.held = self.core.books.lock().store(self.held).note_known();
        self.core.known.enter(self.held, holder);
    }

    /// What it holds.
    pub fn amounts(&self) -> Amounts {
        self.core.books.lock().amounts(self.held)
    }

    /// What it holds of one budget.
    pub fn get(&self, id: BudgetId) -> u64 {
        self.amounts().get(id)
    }

    /// How it was chosen: which of the alternatives of its request, and how far down the ladder.
    pub fn path(&self) -> Path {
        self.core.books.lock().path(self.held)
    }

    /// The level it was granted at.
    pub fn priority(&self) -> Priority {
        self.held.level()
    }

    /// Whether this scheduler granted it.
    pub fn is_of(&self, scheduler: &Scheduler) -> bool {
        // A core passes to another scheduler only when it has no lease.
        std::ptr::eq(self.core, scheduler.core)
    }

    /// The label of its request.
    pub fn label(&self) -> Option<String> {
        self.core.known.get(self.held).map(|holder| holder.label.into_owned())
    }

    /// Takes a part out into a lease of its own, of the same [`Activity`](crate::Activity) if the request named one.
    ///
    /// # Errors
    /// [`LeaseError::HoldsLess`]; the lease is unchanged.
    pub fn split(&mut self, part: &Amounts) -> Result<Lease, LeaseError> {
        let split = self.core.split(&mut self.held, part);
        let held = split.map_err(|budget| self.holds_less(budget, part))?;
        let mut split = Lease::plain(self.core, held);
        self.note_amounts();
        if let Some(holder) = self.core.known.get(self.held) {
            split.introduce(Holder { amounts: part.clone(), ..holder });
        }
        Ok(split)
    }

    /// Takes in another lease of the same scheduler. The label and level of this one stay.
    ///
    /// # Errors
    /// [`MergeError`] when the other is of another scheduler; the error holds it, so nothing is lost.
    pub fn merge(&mut self, mut other: Lease) -> Result<(), MergeError> {
        // Leases of one scheduler cannot hold more than its capacity together, so their sum is a valid amount.
        if !std::ptr::eq(self.core, other.core) || !self.core.merge(&mut self.held, &mut other.held) {
            return Err(MergeError(other));
        }
        self.note_amounts();
        // The other drops with nothing left in it, and is counted down like any lease.
        Ok(())
    }

    /// Gives a part back. Whoever waits for it is granted in this call.
    ///
    /// # Errors
    /// [`LeaseError::HoldsLess`]; the lease is unchanged.
    pub fn shrink(&mut self, by: &Amounts) -> Result<(), LeaseError> {
        // The part drops at once, as a lease of its own that nobody gets to know.
        let split = self.core.split(&mut self.held, by);
        let held = split.map_err(|budget| self.holds_less(budget, by))?;
        self.note_amounts();
        drop(Lease::plain(self.core, held));
        Ok(())
    }

    /// Ends the lease without giving anything back, for good: the capacity is lost, and `stats` and `holders` show that
    /// it is.
    ///
    /// So is the memory of what the scheduler's handles and leases share, some kilobytes and its table of labelled
    /// holders: later schedulers use it again once the last lease has ended, and this one never ends. (So it is with
    /// [`std::mem::forget`], which in addition makes [`shutdown`](crate::Scheduler::shutdown) wait for ever.)
    pub fn forget(self) {
        self.core.known.amend(self.held, |holder| holder.forgotten = true);
        self.core.turn(|desk, turn, _| {
            desk.sink.forgot();
            desk.engine.forgotten(turn, self.held);
        });
        std::mem::forget(self);
    }

    fn holds_less(&self, budget: BudgetId, asked: &Amounts) -> LeaseError {
        LeaseError::HoldsLess { budget, held: self.get(budget), asked: asked.get(budget) }
    }

    /// Tells the table of known holders what is held now.
    fn note_amounts(&self) {
        if self.held.known().is_some() {
            let amounts = self.amounts();
            self.core.known.amend(self.held, |holder| holder.amounts = amounts);
        }
    }
}

impl Drop for Lease {
    #[inline(always)]
    fn drop(&mut self) {
        if self.held.is_special() {
            return self.core.give_special(self.held);
        }
        self.core.give(self.held);
    }
}

/// Leases of different schedulers cannot be merged. Holds the lease that was to be merged.
#[derive(Debug, thiserror::Error)]
#[error("leases of different schedulers cannot be merged; the lease is in the error")]
pub struct MergeError(pub Lease);

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("amounts", &self.amounts())
            .field("priority", &self.priority())
            .finish_non_exhaustive()
    }
}
