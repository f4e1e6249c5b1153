//! Turns the engine's figures into errors with names in them. Runs after unlocking.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Ended, Refusal, Short, Verdict};
use crate::model::{
    BudgetId, CloseReason, Request, RequestError, ReserveError, Shortage, TryReserveError, Unit, usual,
};

use super::core::{Core, Names};

/// Holders that an error lists.
const HOLDERS: usize = 3;

fn shortage(core: &'static Core, names: &Names, request: &Request, short: Short) -> Box<Shortage> {
    let (name, unit) = names.of(short.budget);
    describe(request, short, name, unit, holders(core, names, short.budget))
}

fn describe(
    request: &Request,
    short: Short,
    name: Arc<str>,
    unit: Unit,
    holders: Vec<(Arc<str>, u64)>,
) -> Box<Shortage> {
    Box::new(Shortage {
        budget: short.budget,
        name,
        unit,
        asked: short.asked,
        free: short.free,
        limit: short.limit,
        waiting: short.waiting,
        label: request.name().map(Arc::from),
        holders,
    })
}

/// Who holds most of a budget. Nobody, if the core has passed to a later scheduler since the desk was unlocked: neither
/// a reservation that has ended nor its error keeps it. A lease of the later one is known only after the desk has its
/// names, so what was read while the desk still has ours is ours.
fn holders(core: &'static Core, names: &Names, budget: BudgetId) -> Vec<(Arc<str>, u64)> {
    let mut found = core.known.largest(budget, HOLDERS);
    if !found.is_empty() && !std::ptr::eq(names, &*core.desk.lock().names) {
        found.clear();
    }
    found
}

/// What was asked of a scheduler that grants nothing any more. Where a budget can give nothing at all, the scheduler is
/// gone, and `names` and holders are those of whoever got its core.
fn closed(core: &'static Core, names: &Names, request: &Request, reason: CloseReason, short: Short) -> Box<Shortage> {
    if reason == CloseReason::HandlesGone && short.limit == 0 {
        let (name, unit) = usual(short.budget);
        return describe(request, short, name.into(), unit, Vec::new());
    }
    shortage(core, names, request, short)
}

/// Why a reservation was refused when it arrived.
#[cold]
pub(super) fn refused(core: &'static Core, names: &Names, request: &Request, refusal: Refusal) -> ReserveError {
    match refusal {
        Refusal::UnknownBudget(budget) => RequestError::UnknownBudget { budget, known: names.list() }.into(),
        Refusal::NeverFits(short) => ReserveError::NeverFits(shortage(core, names, request, short)),
        Refusal::Late(short) | Refusal::NotNow(short) => {
            ReserveError::Late { shortage: shortage(core, names, request, short), waited: Duration::ZERO }
        }
        Refusal::Closed(reason, short) => {
            ReserveError::Closed { reason, shortage: closed(core, names, request, reason, short) }
        }
        // More may wait than the limit, which holds for newcomers only, so it is not what the engine counted.
        Refusal::Full(_, short) => {
            ReserveError::Shed { shortage: shortage(core, names, request, short), limit: names.max_waiters }
        }
    }
}

/// Why an attempt that does not wait was refused.
#[cold]
pub(super) fn not_now(core: &'static Core, names: &Names, request: &Request, refusal: Refusal) -> TryReserveError {
    match refusal {
        Refusal::UnknownBudget(budget) => RequestError::UnknownBudget { budget, known: names.list() }.into(),
        Refusal::NeverFits(short) => TryReserveError::NeverFits(shortage(core, names, request, short)),
        Refusal::NotNow(short) | Refusal::Late(short) | Refusal::Full(_, short) => {
            TryReserveError::NotNow(shortage(core, names, request, short))
        }
        Refusal::Closed(reason, short) => {
            TryReserveError::Closed { reason, shortage: closed(core, names, request, reason, short) }
        }
    }
}

/// Why a wait ended.
#[cold]
pub(super) fn ended(core: &'static Core, names: &Names, request: &Request, ended: Ended) -> ReserveError {
    let shortage = || shortage(core, names, request, ended.short);
    match ended.why {
        Verdict::Late => ReserveError::Late { shortage: shortage(), waited: Duration::from_nanos(ended.waited) },
        Verdict::RollBack => {
            ReserveError::RolledBack { shortage: shortage(), waited: Duration::from_nanos(ended.waited) }
        }
        Verdict::Split => ReserveError::Split { shortage: shortage(), waited: Duration::from_nanos(ended.waited) },
        Verdict::NeverFits => ReserveError::NeverFits(shortage()),
        Verdict::Closed(reason) => ReserveError::Closed { reason, shortage: shortage() },
    }
}
