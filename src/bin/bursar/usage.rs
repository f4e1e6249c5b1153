//! How much of each budget is in use, integrated over the time of a run. The same for a scheduler and for semaphores.

use std::sync::{Arc, Mutex, MutexGuard};

use bursar::{Amounts, Budget, Config, Supply, Unit};
use serde::Serialize;
use tokio::time::Instant;

/// Watches what is granted and given back.
#[derive(Debug)]
pub struct Usage {
    gauges: Mutex<Vec<Gauge>>,
    start: Instant,
}

#[derive(Debug)]
struct Gauge {
    budget: Budget,
    held: u64,
    peak: u64,
    /// Units of all grants together.
    granted: u128,
    /// Units held, times nanoseconds, until `at`.
    integral: u128,
    at: Instant,
}

impl Gauge {
    fn advance(&mut self, now: Instant) {
        self.integral += u128::from(self.held) * now.saturating_duration_since(self.at).as_nanos();
        self.at = self.at.max(now);
    }
}

/// Something that is held until this drops.
#[derive(Debug)]
pub struct Held {
    usage: Arc<Usage>,
    amounts: Amounts,
}

/// One budget over a whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetFigures {
    pub name: String,
    pub unit: Unit,
    /// Whether it is a rate: then `capacity` and `mean` are units a second, and it has no peak.
    pub rate: bool,
    pub capacity: u64,
    /// Held on average over the time of the run, or spent a second.
    pub mean: u64,
    /// The most that was held at once.
    pub peak: Option<u64>,
}

impl Usage {
    /// Begins to watch the budgets of a configuration.
    pub fn new(config: &Config) -> Arc<Usage> {
        let start = Instant::now();
        let gauge =
            |budget: &Budget| Gauge { budget: budget.clone(), held: 0, peak: 0, granted: 0, integral: 0, at: start };
        Arc::new(Usage { gauges: Mutex::new(config.budgets.iter().map(gauge).collect()), start })
    }

    /// Notes that something was granted; dropping what this returns notes that it is given back.
    pub fn hold(self: &Arc<Usage>, amounts: &Amounts) -> Held {
        let now = Instant::now();
        for gauge in self.lock().iter_mut() {
            let units = amounts.get(gauge.budget.id);
            gauge.advance(now);
            gauge.granted += u128::from(units);
            if matches!(gauge.budget.supply, Supply::Loan { .. }) {
                gauge.held += units;
                gauge.peak = gauge.peak.max(gauge.held);
            }
        }
        Held { usage: Arc::clone(self), amounts: amounts.clone() }
    }

    /// The figures until now.
    pub fn figures(&self) -> Vec<BudgetFigures> {
        let now = Instant::now();
        let nanos = now.saturating_duration_since(self.start).as_nanos().max(1);
        let figures = |gauge: &mut Gauge| {
            gauge.advance(now);
            let (rate, capacity, total) = match gauge.budget.supply {
                Supply::Loan { capacity, .. } => (false, capacity, gauge.integral),
                Supply::Rate { per_second, .. } => (true, per_second, gauge.granted.saturating_mul(1_000_000_000)),
            };
            BudgetFigures {
                name: gauge.budget.name.clone(),
                unit: gauge.budget.unit,
                rate,
                capacity,
                mean: u64::try_from(total / nanos).unwrap_or(u64::MAX),
                peak: (!rate).then_some(gauge.peak),
            }
        };
        self.lock().iter_mut().map(figures).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Gauge>> {
        match self.gauges.lock() {
            Ok(guard) => guard,
            // Nothing but additions happens under the lock.
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let now = Instant::now();
        for gauge in self.usage.lock().iter_mut() {
            gauge.advance(now);
            // A rate holds nothing.
            gauge.held = gauge.held.saturating_sub(self.amounts.get(gauge.budget.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bursar::BudgetId;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_mean_is_over_time_and_the_peak_is_what_was_held_at_once() {
        let config = Config::new().with(Budget::loan(BudgetId::GPU, 100)).with(Budget::rate(BudgetId::IO, 50));
        let usage = Usage::new(&config);
        let mut both = Amounts::of(BudgetId::GPU, 60);
        assert!(both.add(BudgetId::IO, 20));
        let first = usage.hold(&both);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = usage.hold(&Amounts::of(BudgetId::GPU, 30));
        drop(first);
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(second);
        tokio::time::advance(Duration::from_secs(1)).await;
        let figures = usage.figures();
        // 60 for one second, 30 for two, nothing for one.
        assert_eq!((figures[0].mean, figures[0].peak), (30, Some(90)));
        // 20 in four seconds.
        assert_eq!((figures[1].mean, figures[1].peak, figures[1].capacity), (5, None, 50));
    }
}
