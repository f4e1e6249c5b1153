//! Counters and histograms of waits, fed by effects.

use hdrhistogram::Histogram;

use crate::engine::{Effect, Refusal, Verdict};
use crate::model::{BudgetId, LevelStats, Priority};

use super::times::Times;
use super::usage::Usages;

type PerLevel = [Option<Times>; Priority::COUNT];

/// The one place that every effect passes.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    levels: [LevelStats; Priority::COUNT],
    /// Waits per budget, made when the first wait there ends.
    waits: Vec<(BudgetId, PerLevel)>,
    expired: u64,
    forgotten: u64,
    pub(crate) usages: Usages,
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
            Effect::Revoke { level, .. } => self.levels[level.index()].revoked += 1,
            Effect::Overdue { level, .. } => self.levels[level.index()].overdue += 1,
            Effect::Cancelled { level } => self.levels[level.index()].cancelled += 1,
            Effect::End { level, why, .. } => match why {
                Verdict::Late => self.levels[level.index()].late += 1,
                Verdict::NeverFits => self.levels[level.index()].never_fits += 1,
                Verdict::RollBack => self.levels[level.index()].rolled_back += 1,
                Verdict::Split => self.levels[level.index()].split += 1,
                Verdict::Closed(_) => self.levels[level.index()].closed += 1,
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
            Refusal::UnknownBudget(_) => level.malformed += 1,
            Refusal::Closed(..) => level.closed += 1,
        }
    }

    /// A request was refused because it is malformed.
    pub(crate) fn malformed(&mut self, level: Priority) {
        self.levels[level.index()].malformed += 1;
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
        self.waits[at].1[level.index()].get_or_insert_default().record(waited);
    }

    /// The counters of a level; the immediate grants are the books'.
    pub(crate) fn levels(&self) -> [LevelStats; Priority::COUNT] {
        self.levels
    }

    /// Grants after a wait.
    pub(crate) fn waited(&self) -> u64 {
        self.levels.iter().map(|level| level.waited).sum()
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

    /// A copy of the waits of a level at a budget, if any ended there.
    pub(crate) fn waits(&self, budget: BudgetId, level: Priority) -> Option<Histogram<u64>> {
        let (_, levels) = self.waits.iter().find(|(id, _)| *id == budget)?;
        levels[level.index()].as_ref().and_then(Times::copy)
    }
}
