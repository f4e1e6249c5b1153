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
}

impl Scheduler {
    /// Begins a period, now. It keeps the scheduler open as every handle does.
    pub fn period(&self) -> Period {
        let mut period = Period { scheduler: self.clone(), counted: self.stats(), waits: BTreeMap::new() };
        period.next_waits(|_, _, _| ());
        period
    }

    /// A period that began when the scheduler did.
    #[cfg(feature = "metrics")]
    pub(crate) fn period_from_start(&self) -> Period {
        let mut counted = self.stats();
        counted.levels = Default::default();
        (counted.expired_offers, counted.inherited, counted.alerts) = (0, 0, 0);
        Period { scheduler: self.clone(), counted, waits: BTreeMap::new() }
    }
}

impl Period {
    /// What happened since the last call, or since the period was made, and begins the next.
    ///
    /// Counters and waits are of the period. What is now (capacities, what is free, who waits) is of this moment;
    /// peaks, means and hold times are since the start.
    #[expect(clippy::should_implement_trait, reason = "there is always a next period: it is no iterator")]
    pub fn next(&mut self) -> Stats {
        self.next_with(|_, _, _| ())
    }

    /// The same; `each` is shown the waits at each budget, by name, and level where there were any.
    pub(crate) fn next_with(&mut self, mut each: impl FnMut(&str, Priority, &Histogram<u64>)) -> Stats {
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
                each(&budget.name, level, waits);
            }
        });
        period
    }

    /// The waits that ended since the last call, where there were any.
    fn next_waits(&mut self, mut each: impl FnMut(BudgetId, Priority, &Histogram<u64>)) {
        let core = self.scheduler.core;
        for budget in self.counted.budgets.iter().map(|budget| budget.id) {
            for level in Priority::ALL {
                let Some(all) = core.desk.lock().sink.waits(budget, level) else { continue };
                let before = self.waits.insert((budget, level), all.clone());
                let mut waits = all;
                // Of the same shape, and nothing is ever taken out of them: it cannot fail.
                if let Some(before) = before
                    && waits.subtract(&before).is_err()
                {
                    continue;
                }
                if !waits.is_empty() {
                    each(budget, level, &waits);
                }
            }
        }
    }
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
