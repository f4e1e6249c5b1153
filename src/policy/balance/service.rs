//! What a worker has shown of its speed.

use super::peak_ewma::PeakEwma;

/// Service times of one worker, as far as policies want to know them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    samples: u64,
    /// Means over about the last eight tasks, weighed by their cost: nanoseconds and cost, each in 2^-3.
    nanos: u64,
    cost: u64,
    peak: PeakEwma,
}

/// The cost that peaks are compared at.
const WHOLE: u64 = 1_000_000;

/// A new sample counts one eighth.
const MEMORY: u64 = 8;

impl Service {
    /// A task of this cost took so long, in nanoseconds, and ended at `now`, in nanoseconds of any clock.
    pub fn record(&mut self, cost: u64, nanos: u64, now: u64) {
        let (cost, nanos) = (cost.max(1), nanos.max(1));
        self.samples += 1;
        if self.samples == 1 {
            (self.nanos, self.cost) = (nanos.saturating_mul(MEMORY), cost.saturating_mul(MEMORY));
        } else {
            self.nanos = (self.nanos - self.nanos / MEMORY).saturating_add(nanos);
            self.cost = (self.cost - self.cost / MEMORY).saturating_add(cost);
        }
        // By cost, so that a large task is no sign of a slow worker.
        let of_whole = u128::from(nanos) * u128::from(WHOLE) / u128::from(cost);
        self.peak.record(u64::try_from(of_whole).unwrap_or(u64::MAX), now);
    }

    /// How many tasks it has completed.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// How long a task of this cost takes, by what others took per unit of cost; `None` without a sample.
    pub fn expected(&self, cost: u64) -> Option<u64> {
        let nanos = u128::from(self.nanos) * u128::from(cost.max(1)) / u128::from(self.cost.max(1));
        (self.samples > 0).then(|| u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The recent peak of its service times as it was at the last sample, in nanoseconds for a task that costs a
    /// million; `None` without a sample.
    pub fn peak(&self) -> Option<u64> {
        (self.samples > 0).then(|| self.peak.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_grows_with_the_cost_and_follows_a_change_of_speed() {
        let mut service = Service::default();
        assert_eq!((service.expected(5), service.peak()), (None, None));
        for at in 1..=10 {
            service.record(10, 1_000, at * 1_000);
        }
        assert_eq!((service.expected(10), service.expected(20)), (Some(1_000), Some(2_000)));
        for at in 11..=60 {
            service.record(10, 3_000, at * 1_000);
        }
        assert!((2_900..=3_000).contains(&service.expected(10).unwrap()));
        assert_eq!(service.samples(), 60);
    }

    #[test]
    fn a_new_sample_counts_one_eighth_and_the_first_alone() {
        let mut service = Service::default();
        service.record(10, 1_000, 1);
        assert_eq!((service.expected(10), service.samples()), (Some(1_000), 1));
        service.record(10, 9_000, 2);
        assert_eq!((service.expected(10), service.samples()), (Some(2_000), 2));
    }

    #[test]
    fn a_peak_is_the_time_that_a_task_of_a_million_would_have_taken() {
        let mut service = Service::default();
        service.record(300, 1_000, 1);
        assert_eq!(service.peak(), Some(3_333_333));
        service.record(600, 2_100, 1);
        assert_eq!(service.peak(), Some(3_500_000), "twice the task, a little slower");
    }

    #[test]
    fn extreme_figures_saturate() {
        let mut service = Service::default();
        (0..20).for_each(|at| service.record(u64::MAX, u64::MAX, at));
        assert!(service.expected(u64::MAX).is_some());
        service.record(0, 0, u64::MAX);
        assert!(service.peak().is_some());
    }
}
