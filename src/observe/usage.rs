//! Samples of what is in use, and the mean over time.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{BudgetId, SAMPLES, Usage};

/// What there is to see of one budget at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gauge {
    /// So much of a loan is granted.
    Granted(u64),
    /// So much of a rate was spent in all.
    Spent(u64),
}

#[derive(Debug)]
struct Series {
    since: u64,
    at: u64,
    last: u64,
    /// What was spent of a rate when the samples began.
    first: u64,
    /// Twice the area under the line through the samples of a loan, in unit-nanoseconds.
    area: u128,
    recent: VecDeque<u64>,
}

/// The samples of all budgets.
#[derive(Debug, Default)]
pub(crate) struct Usages(BTreeMap<BudgetId, Series>);

impl Usages {
    /// Takes a sample. A second one at the same time adds nothing.
    pub(crate) fn sample(&mut self, budget: BudgetId, gauge: Gauge, now: u64) {
        let (Gauge::Granted(value) | Gauge::Spent(value)) = gauge;
        let new = || Series { since: now, at: now, last: value, first: value, area: 0, recent: VecDeque::new() };
        let series = self.0.entry(budget).or_insert_with(new);
        let passed = now.saturating_sub(series.at);
        let sample = match gauge {
            Gauge::Granted(granted) if passed > 0 => {
                series.area += (u128::from(series.last) + u128::from(granted)) * u128::from(passed);
                granted
            }
            // What an offer had spent comes back when nobody takes it.
            Gauge::Spent(spent) if passed > 0 => per_second(u128::from(spent.saturating_sub(series.last)), passed),
            Gauge::Granted(granted) => {
                series.last = granted;
                return;
            }
            // Counted with the next sample.
            Gauge::Spent(_) => return,
        };
        series.recent.push_back(sample);
        if series.recent.len() > SAMPLES {
            series.recent.pop_front();
        }
        (series.at, series.last) = (now, value);
    }

    /// What the samples of a budget come to.
    pub(crate) fn of(&self, budget: BudgetId, rate: bool) -> Usage {
        let Some(series) = self.0.get(&budget) else { return Usage::default() };
        let over = series.at - series.since;
        let mean = match rate {
            true => per_second(u128::from(series.last.saturating_sub(series.first)), over),
            // Before time has passed, what is in use is all there is to say.
            false => (series.area / 2).checked_div(u128::from(over)).map_or(series.last, |mean| mean as u64),
        };
        Usage::new(mean, over, series.recent.iter().copied().collect())
    }
}

/// Zero while no time has passed.
fn per_second(units: u128, nanos: u64) -> u64 {
    let speed = units.saturating_mul(1_000_000_000).checked_div(u128::from(nanos)).unwrap_or(0);
    u64::try_from(speed).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: BudgetId = BudgetId::GPU;
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_mean_of_a_loan_is_weighted_with_time() {
        let mut usages = Usages::default();
        for (at, granted) in [(0, 0), (1, 0), (1, 10), (4, 10), (5, 0)] {
            usages.sample(GPU, Gauge::Granted(granted), at * SECOND);
        }
        // Ten for three seconds, then down to nothing in one: 35 over five.
        let usage = usages.of(GPU, false);
        assert_eq!((usage.mean, usage.over_ns), (7, 5 * SECOND));
        assert_eq!(usage.recent, [0, 10, 0]);
    }

    #[test]
    fn the_use_of_a_rate_is_what_was_spent_a_second() {
        let mut usages = Usages::default();
        for (at, spent) in [(0, 100), (2, 140), (4, 140)] {
            usages.sample(GPU, Gauge::Spent(spent), at * SECOND);
        }
        let usage = usages.of(GPU, true);
        assert_eq!((usage.mean, usage.recent.as_slice(), usage.trend), (10, &[20, 0][..], -20));
    }

    #[test]
    fn only_so_many_samples_are_kept_and_extremes_do_not_overflow() {
        let mut usages = Usages::default();
        for at in 0..200 {
            usages.sample(GPU, Gauge::Granted(i64::MAX as u64), at << 56);
        }
        assert_eq!(usages.of(GPU, false).recent.len(), SAMPLES);
        assert_eq!(usages.of(GPU, false).mean, i64::MAX as u64);
    }
}
