//! Log lines, written in the task that they are about, so that the span it is in is theirs too.
//!
//! | target | level | when |
//! |---|---|---|
//! | `bursar::reserve` | debug | a reservation begins to wait, or fails |
//! | `bursar::grant` | debug | one that waited is granted |
//! | `bursar::grow` | debug | a lease has grown |
//! | `bursar::verdict` | warn | holders waited for each other, and this one is told to roll back or to split |
//! | `bursar::stuck` | warn | nothing was granted for [`Config::stuck_after`](crate::Config::stuck_after) |
//! | `bursar::capacity`, `bursar::close` | debug | a capacity or a rate changed, the scheduler closed |
//! | `bursar::verify` | error | the books do not balance: a defect of this crate |
//!
//! Grants that do not wait write nothing, so the fast path does not ask whether anybody listens.

use crate::model::{Request, ReserveError};

use super::Lease;

pub(super) fn waits(request: &Request) {
    tracing::debug!(
        target: "bursar::reserve",
        label = request.name(), module = request.module_name(), priority = %request.urgency(),
        amounts = ?request.amounts(), "waits"
    );
}

pub(super) fn granted(request: &Request, lease: &Lease) {
    tracing::debug!(
        target: "bursar::grant",
        label = lease.label().as_deref().or(request.name()),
        module = request.module_name(), priority = %request.urgency(),
        amounts = ?request.amounts(), "granted after a wait"
    );
}

pub(super) fn failed(request: &Request, error: &ReserveError) {
    let label = request.name();
    match error {
        ReserveError::RolledBack { .. } | ReserveError::Split { .. } => {
            tracing::warn!(target: "bursar::verdict", label, %error, "holders wait for each other");
        }
        _ => tracing::debug!(target: "bursar::reserve", label, %error, "failed"),
    }
}

pub(super) fn grown(lease: &Lease) {
    tracing::debug!(target: "bursar::grow", priority = %lease.priority(), amounts = ?lease.amounts(), "grown");
}
