//! Counters and histograms of waits, fed by effects.

use hdrhistogram::Histogram;

use crate::engine::{Effect, Refusal, Verdict};
use crate::model::{BudgetId, LevelStats, Priority, WaitSummary};

/// One hour in nanoseconds: longer waits are counted as that long.
const LONGEST: u64 = 3_600_000_000_000;
/// Quantiles within 1 %.
const DIGITS: u8 = 2;

type PerLevel = [Option<Histogram<u64>>; Priority::COUNT];

/// The one place that every effect passes.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    levels: [LevelStats; Priority::COUNT],
    /// Waits per budget, made when the first wait there ends: a histogram takes some 40 KiB.
    waits: Vec<(BudgetId, PerLevel)>,
    expired: u64,
    forgotten: u64,
    alerts: u64,
}

impl Sink {
    /// Takes note of an effect.
    pub(crate) fn record(&mut self, effect: &Effect) {
        match *effect {
            Effect::Offer { level, budget, waited, .. } | Effect::Regained { level, budget, waited } => {
                self.levels[level.index()].waited += 1;
                self.wait(budget, level, waited);
            }
            Effect::Expired { .. } => self.expired += 1,
            Effect::Alert { .. } => self.alerts += 1,
            Effect::Cancelled { level } => self.levels[level.index()].cancelled += 1,
            Effect::End { level, why, .. } => match why {
                Verdict::Late => self.levels[level.index()].late += 1,
                Verdict::NeverFits => self.levels[level.index()].never_fits += 1,
                Verdict::RollBack => self.levels[level.index()].rolled_back += 1,
                Verdict::Split => self.levels[level.index()].split += 1,
                Verdict::Closed(_) => {}
            },
        }
    }

    /// Takes note of a refusal.
    pub(crate) fn refused(&mut self, level: Priority, refusal: &Refusal) {
        let level = &mut self.levels[level.index()];
        match refusal {
            Refusal::NeverFits(_) => level.never_fits += 1,
            Refusal::NotNow(_) => level.not_now += 1,
            Refusal::Late(_) => level.late += 1,
            Refusal::Full(..) => level.shed += 1,
            Refusal::UnknownBudget(_) | Refusal::Closed(..) => {}
        }
    }

    /// A lease was given up for good.
    pub(crate) fn forgot(&mut self) {
        self.forgotten += 1;
    }

    fn wait(&mut self, budget: BudgetId, level: Priority, waited: u64) {
        let at = self.waits.iter().position(|(id, _)| *id == budget).unwrap_or_else(|| {
            self.waits.push((budget, PerLevel::default()));
            self.waits.len() - 1
        });
        let slot = &mut self.waits[at].1[level.index()];
        if slot.is_none() {
            // The bounds are constants that the crate accepts; without a histogram the count is kept all the same.
            *slot = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok();
        }
        if let Some(histogram) = slot {
            histogram.saturating_record(waited);
        }
    }

    /// The counters of a level; the immediate grants are the books'.
    pub(crate) fn levels(&self) -> [LevelStats; Priority::COUNT] {
        self.levels
    }

    /// Offers that expired.
    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    /// Alerts that were raised.
    pub(crate) fn alerts(&self) -> u64 {
        self.alerts
    }

    /// Leases that were given up for good.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The waits at a budget.
    pub(crate) fn waits(&self, budget: BudgetId) -> [WaitSummary; Priority::COUNT] {
        let found = self.waits.iter().find(|(id, _)| *id == budget);
        std::array::from_fn(|level| {
            let histogram = found.and_then(|(_, levels)| levels[level].as_ref());
            histogram.map(summary).unwrap_or_default()
        })
    }
}

fn summary(histogram: &Histogram<u64>) -> WaitSummary {
    WaitSummary {
        count: histogram.len(),
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}
