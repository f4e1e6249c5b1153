//! Spans and log lines, in the task that they are about, so that the span it is in is theirs too.
//!
//! | target | level | when |
//! |---|---|---|
//! | `bursar::reserve` | debug | span `reserve`: a reservation waits for what it asks; in the end with its `outcome` |
//! | `bursar::reserve` | debug | it begins to wait; a reservation fails |
//! | `bursar::grant` | debug | one that waited is granted |
//! | `bursar::grow` | debug | span `grow`: a lease waits for more; it has grown |
//! | `bursar::verdict` | warn | holders waited for each other, and this one is told to roll back or to split |
//! | `bursar::preempt` | debug | a lease is asked to end for a higher level; it has ended |
//! | `bursar::preempt` | warn | it has not ended within its grace |
//! | `bursar::alert` | warn | holders seem to wait for each other and are only told so |
//! | `bursar::spill` | debug | span `spill`: a block is copied to a slower tier; how many bytes came there |
//! | `bursar::task` | debug | a submitted task is preempted, or ends without its value |
//! | `bursar::task` | error | what a caller gave panicked while it was dropped |
//! | `bursar::stuck` | warn | nothing was granted for [`Config::stuck_after`](crate::Config::stuck_after) |
//! | `bursar::capacity`, `bursar::close` | debug | a capacity or a rate changed, the scheduler closed |
//! | `bursar::detect` | debug, warn | no GPU was looked for, and why; GPUs are left out: their driver is silent |
//! | `bursar::memory` | warn | memory or a file of the disk could not be given back |
//! | `bursar::sample` | warn | a device or disk does not say how much others use of it |
//! | `bursar::verify` | error | the books do not balance: a defect of this crate |
//! | `bursar::wake`, `bursar::publish` | error | a waker, or what publishes figures, panicked |
//!
//! The lines of a wait are inside its span, wherever it is polled, and the span is a child of the one in which the
//! reservation was first polled. Its `outcome` is `granted` or `failed`, or nothing if it was given up. Nothing is
//! written at the level of info. Grants that do not wait write nothing, so the fast path does not ask whether anybody
//! listens.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;
use tracing::field::Empty;
use tracing::level_filters::LevelFilter;

use crate::model::{Priority, Request, ReserveError};

use super::{Lease, scope};

/// Whether anybody hears at the level of debug: one relaxed load.
#[inline]
pub(super) fn is_heard() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// The span of a wait, in the one that is current. Disabled if nobody wants it.
pub(super) fn wait(request: &Request) -> Span {
    if request.grows() {
        tracing::debug_span!(
            target: "bursar::grow", "grow",
            label = request.name(), module = request.module_name(), priority = %request.urgency(),
            amounts = ?request.amounts(), outcome = Empty
        )
    } else {
        tracing::debug_span!(
            target: "bursar::reserve", "reserve",
            label = request.name(), module = request.module_name(), priority = %request.urgency(),
            amounts = ?request.amounts(), outcome = Empty
        )
    }
}

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

/// A lease has ended that was asked to. Its owner may be panicking, so the subscriber must not.
pub(super) fn gave_way(label: Option<&str>, level: Priority, by: Priority, late: Duration) {
    contain(|| {
        tracing::debug!(
            target: "bursar::preempt", label, priority = %level, by = %by, in_grace = late.is_zero(), late = ?late,
            "has ended, as it was asked to"
        );
    });
}

/// Runs code of a subscriber's or a caller's where a panic must go no further: on a thread that may panic already, or
/// in a call on which others rely.
pub(super) fn contain<R>(code: impl FnOnce() -> R) -> Option<R> {
    let payload = match catch_unwind(AssertUnwindSafe(code)) {
        Ok(result) => return Some(result),
        Err(payload) => payload,
    };
    // What it panicked with is theirs too, and so is what that may panic with in turn.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
    None
}

type Label = Option<Cow<'static, str>>;

/// What a turn at the desk came to that is to be said once the desk is free.
#[derive(Debug)]
pub(super) enum Notice {
    /// Somebody who holds something waits for holders that wait themselves, as far as anybody can tell.
    Alert {
        /// The number of the activity that waits.
        activity: u64,
        /// The label of what it waits for.
        label: Label,
        /// The name of the budget that it lacks.
        budget: Arc<str>,
        /// The number of an activity that holds that.
        holder: u64,
    },
    /// A lease is asked to end, for a higher level.
    Asked { label: Label, level: Priority, by: Priority },
    /// A lease has not ended within its grace.
    Overdue { label: Label, level: Priority },
}

impl Notice {
    /// Says it. A panic of the subscriber goes no further: it would take with it what the turn has just granted.
    pub(super) fn say(&self) {
        contain(|| self.write());
    }

    fn write(&self) {
        match self {
            Notice::Alert { activity, label, budget, holder } => {
                let (activity, holder) = (scope::name_of(*activity), scope::name_of(*holder));
                let label = label.as_deref().unwrap_or_default();
                tracing::warn!(
                    target: "bursar::alert",
                    activity = &*activity,
                    label,
                    budget = &**budget,
                    holder = &*holder,
                    "`{activity}` waits for {budget}, which `{holder}` holds, and each waits for the other or for \
                     others that do; name the activity in the requests to have it resolved"
                );
            }
            Notice::Asked { label, level, by } => {
                let label = label.as_deref();
                tracing::debug!(target: "bursar::preempt", label, priority = %level, by = %by, "is asked to end");
            }
            Notice::Overdue { label, level } => {
                let label = label.as_deref();
                tracing::warn!(
                    target: "bursar::preempt", label, priority = %level,
                    "was asked to end and has not done so within its grace"
                );
            }
        }
    }
}
