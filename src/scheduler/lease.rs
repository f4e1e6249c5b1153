//! The guard of what was granted.

use std::fmt;
use std::sync::Arc;

use crate::model::{Amounts, BudgetId, LeaseError, Priority, Request};

use crate::rt::sync::Ordering;

use super::core::Core;
use super::known::Holder;

/// What a reservation was granted, held until this drops.
///
/// The loans of the bundle come back on drop, on whatever thread, also while a panic unwinds, and whoever waits for them is
/// granted in the same call. Rates were spent when the lease was granted and are not part of it.
///
/// A lease belongs into the work it pays for: move it into the task, the blocking closure or the callback that uses the memory, so
/// that it cannot end before the work does.
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
    amounts: Amounts,
    /// Its number in the table of known holders; 0 when it is not there.
    known: u64,
    priority: Priority,
}

impl Lease {
    /// A lease of what was granted to a request.
    #[inline]
    pub(super) fn granted(core: &'static Core, request: &mut Request) -> Self {
        let priority = request.urgency();
        let labelled = request.is_labelled();
        let mut amounts = request.take_amounts();
        let rates = core.rates.load(Ordering::Relaxed);
        if amounts.set() & rates != 0 {
            amounts.retain(!rates);
        }
        let mut lease = Lease { core, amounts, known: 0, priority };
        if labelled {
            lease.introduce(request);
        }
        lease
    }

    /// Enters a labelled lease into the table of known holders.
    #[cold]
    fn introduce(&mut self, request: &mut Request) {
        let Some(label) = request.take_label() else { return };
        self.known = self.core.known.enter(Holder {
            label,
            module: request.module_name().map(Arc::from),
            priority: self.priority,
            amounts: self.amounts.clone(),
            forgotten: false,
            number: 0,
        });
    }

    /// What it holds.
    #[inline]
    pub fn amounts(&self) -> &Amounts {
        &self.amounts
    }

    /// What it holds of one budget.
    #[inline]
    pub fn get(&self, id: BudgetId) -> u64 {
        self.amounts.get(id)
    }

    /// The level it was granted at.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// The label of its request.
    pub fn label(&self) -> Option<String> {
        self.core.known.label(self.known).map(std::borrow::Cow::into_owned)
    }

    /// Takes a part out into a lease of its own.
    ///
    /// # Errors
    /// [`LeaseError::HoldsLess`]; the lease is unchanged.
    pub fn split(&mut self, part: &Amounts) -> Result<Lease, LeaseError> {
        self.take(part)?;
        self.core.books.lock().lease_split();
        let known = if self.known == 0 { 0 } else { self.core.known.split(self.known, part) };
        Ok(Lease { core: self.core, amounts: part.clone(), known, priority: self.priority })
    }

    /// Takes in another lease of the same scheduler. The label and level of this one stay.
    ///
    /// # Errors
    /// [`MergeError`] when the other is of another scheduler; the error holds it, so nothing is lost.
    pub fn merge(&mut self, mut other: Lease) -> Result<(), MergeError> {
        // Leases of one scheduler cannot hold more than its capacity together, so their sum is a valid amount.
        if !std::ptr::eq(self.core, other.core) || self.amounts.put_all(&other.amounts).is_err() {
            return Err(MergeError(other));
        }
        self.core.known.amend(self.known, |holder| holder.amounts = self.amounts.clone());
        // What is left of the other drops as an empty lease, which is counted down like any other.
        other.amounts = Amounts::new();
        Ok(())
    }

    /// Gives a part back. Whoever waits for it is granted in this call.
    ///
    /// # Errors
    /// [`LeaseError::HoldsLess`]; the lease is unchanged.
    pub fn shrink(&mut self, by: &Amounts) -> Result<(), LeaseError> {
        self.take(by)?;
        let flagged = self.core.books.lock().give_part(by);
        if flagged {
            self.core.released(by);
        }
        Ok(())
    }

    /// Ends the lease without giving anything back, for good: the capacity is lost, and `stats` and `holders` show that it is.
    pub fn forget(mut self) {
        self.core.known.amend(self.known, |holder| holder.forgotten = true);
        self.core.turn(|desk, _, _| desk.sink.forgot());
        // What a bundle of more than eight amounts has on the heap is freed; the units are not.
        self.amounts = Amounts::new();
        std::mem::forget(self);
    }

    fn take(&mut self, part: &Amounts) -> Result<(), LeaseError> {
        let less = |budget| LeaseError::HoldsLess { budget, held: self.amounts.get(budget), asked: part.get(budget) };
        let mut rest = self.amounts.clone();
        rest.take(part).map_err(less)?;
        self.amounts = rest;
        self.core.known.amend(self.known, |holder| holder.amounts = self.amounts.clone());
        Ok(())
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        if self.known != 0 {
            self.core.known.leave(self.known);
        }
        self.core.give(&self.amounts);
    }
}

/// Leases of different schedulers cannot be merged. Holds the lease that was to be merged.
#[derive(Debug, thiserror::Error)]
#[error("leases of different schedulers cannot be merged; the lease is in the error")]
pub struct MergeError(pub Lease);

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("amounts", &self.amounts)
            .field("priority", &self.priority)
            .finish_non_exhaustive()
    }
}
