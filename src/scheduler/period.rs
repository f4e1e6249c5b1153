//! What happened since somebody last looked.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

use crate::model::{BudgetId, LevelStats, Priority, Stats};
use crate::observe::summary;

use super::Scheduler;

/// The figures of one period after the other: what [`Scheduler::period`] returns.
///
/// The counters of a scheduler are never reset, so those who look do not take figures from each other, and nothing that
/// happens between two looks is lost.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::{GIB, Request, Scheduler};
///
/// let scheduler = Scheduler::builder().gpu(40 * GIB).spawn()?;
/// let mut period = scheduler.period();
/// drop(scheduler.reserve(Request::new().gpu(GIB)).await?);
/// assert_eq!(period.next().grants(), 1);
/// assert_eq!(period.next().grants(), 0);
/// assert_eq!(scheduler.stats().grants(), 1);
/// # Ok(()) }
/// ```
pub struct Period {
    scheduler: Scheduler,
    counted: Stats,
    waits: BTreeMap<(BudgetId, Priority), Histogram<u64>>,
    holds: Option<Histogram<u64>>,
}

/// What took the times of a histogram.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nobody asks for the times themselves"))]
pub(crate) enum Timed<'a> {
    /// Waits at the budget of this name, at a level.
    Wait(&'a str, Priority),
    /// Labelled leases that have ended.
    Hold,
}

impl Scheduler {
    /// Begins a period, now. It keeps the scheduler open as every handle does.
    pub fn period(&self) -> Period {
        let (counted, waits) = (self.stats(), BTreeMap::new());
        let mut period = Period { scheduler: self.clone(), counted, waits, holds: None };
        period.next_waits(|_, _, _| ());
        period.next_holds();
        period
    }

    /// A period that began when the scheduler did.
    #[cfg(feature = "metrics")]
    pub(crate) fn period_from_start(&self) -> Period {
        let mut counted = self.stats();
        counted.levels = Default::default();
        (counted.expired_offers, counted.inherited, counted.alerts) = (0, 0, 0);
        Period { scheduler: self.clone(), counted, waits: BTreeMap::new(), holds: None }
    }
}

impl Period {
    /// What happened since the last call, or since the period was made, and begins the next.
    ///
    /// Counters, waits and hold times are of the period. What is now (capacities, what is free, who waits) is of this
    /// moment; peaks and means are since the start.
    #[expect(clippy::should_implement_trait, reason = "there is always a next period: it is no iterator")]
    pub fn next(&mut self) -> Stats {
        self.next_with(|_, _| ())
    }

    /// The same; `each` is shown the times of whatever took any.
    pub(crate) fn next_with(&mut self, mut each: impl FnMut(Timed<'_>, &Histogram<u64>)) -> Stats {
        let now = self.scheduler.stats();
        let mut period = now.clone();
        for (level, before) in period.levels.iter_mut().zip(&self.counted.levels) {
            *level = less(level, before);
        }
        period.expired_offers -= self.counted.expired_offers;
        period.inherited -= self.counted.inherited;
        period.alerts -= self.counted.alerts;
        self.counted = now;
        for budget in &mut period.budgets {
            budget.waits = Default::default();
        }
        self.next_waits(|id, level, waits| {
            if let Some(budget) = period.budgets.iter_mut().find(|budget| budget.id == id) {
                budget.waits[level.index()] = summary(waits);
                each(Timed::Wait(&budget.name, level), waits);
            }
        });
        let holds = self.next_holds();
        holds.iter().for_each(|holds| each(Timed::Hold, holds));
        period.holds = holds.as_ref().map(summary).unwrap_or_default();
        period
    }

    /// The waits that ended since the last call, where there were any.
    fn next_waits(&mut self, mut each: impl FnMut(BudgetId, Priority, &Histogram<u64>)) {
        let core = self.scheduler.core;
        for budget in self.counted.budgets.iter().map(|budget| budget.id) {
            for level in Priority::ALL {
                let Some(all) = core.desk.lock().sink.waits(budget, level) else { continue };
                let before = self.waits.insert((budget, level), all.clone());
                if let Some(waits) = more(all, before.as_ref()) {
                    each(budget, level, &waits);
                }
            }
        }
    }

    /// How long the labelled leases were held that ended since the last call, if any did.
    fn next_holds(&mut self) -> Option<Histogram<u64>> {
        let all = self.scheduler.core.known.hold_times()?;
        let before = self.holds.replace(all.clone());
        more(all, before.as_ref())
    }
}

/// What has been added to a histogram, if anything was.
fn more(mut all: Histogram<u64>, before: Option<&Histogram<u64>>) -> Option<Histogram<u64>> {
    // Of the same shape, and nothing is ever taken out of them: it cannot fail.
    before.map_or(Ok(()), |before| all.subtract(before)).ok()?;
    (!all.is_empty()).then_some(all)
}

fn less(level: &LevelStats, before: &LevelStats) -> LevelStats {
    LevelStats {
        immediate: level.immediate - before.immediate,
        waited: level.waited - before.waited,
        late: level.late - before.late,
        cancelled: level.cancelled - before.cancelled,
        never_fits: level.never_fits - before.never_fits,
        rolled_back: level.rolled_back - before.rolled_back,
        split: level.split - before.split,
        revoked: level.revoked - before.revoked,
        overdue: level.overdue - before.overdue,
        shed: level.shed - before.shed,
        not_now: level.not_now - before.not_now,
        closed: level.closed - before.closed,
        malformed: level.malformed - before.malformed,
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Period").field("since", &self.counted.grants()).finish_non_exhaustive()
    }
}
