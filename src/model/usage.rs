//! How much of a budget is in use over time.

use super::amount::Share;

/// Samples that are kept of each budget.
pub(crate) const SAMPLES: usize = 60;

/// The use of a budget over time, from samples that the scheduler task takes every
/// [`Config::sample_every`](crate::Config::sample_every) and `stats` takes when it is asked. The use of a loan is what
/// is granted of it, that of a rate what was spent a second since the sample before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Usage {
    /// The mean, weighted with time, since the start. For a loan the line between two samples is
    /// taken for its use in between, so what comes and goes between them is not seen; for a rate it is exact.
    pub mean: u64,
    /// The last samples, oldest first: at most 60.
    pub recent: Vec<u64>,
    /// How much more is in use than before: the mean of the newer half of `recent` less that of the older half.
    pub trend: i64,
    /// Nanoseconds that the mean is over.
    pub over_ns: u64,
}

impl Usage {
    pub(crate) fn new(mean: u64, over_ns: u64, recent: Vec<u64>) -> Self {
        let trend = trend(&recent);
        Usage { mean, recent, trend, over_ns }
    }
}

/// The newer half against the older; zero for fewer than two.
fn trend(recent: &[u64]) -> i64 {
    let mean = |part: &[u64]| {
        let sum: u128 = part.iter().map(|&use_| u128::from(use_)).sum();
        // A mean of amounts is an amount, at most 2^63 - 1.
        sum.checked_div(part.len() as u128).unwrap_or(0) as i64
    };
    let (older, newer) = recent.split_at(recent.len() / 2);
    if older.is_empty() { 0 } else { mean(newer) - mean(older) }
}

/// What part of `capacity` is in use, in millionths; more than the whole is the whole.
pub(crate) fn utilisation(used: u64, capacity: u64) -> Share {
    let whole = u128::from(Share::WHOLE.millionths());
    let part = (u128::from(used) * whole).checked_div(u128::from(capacity)).unwrap_or(0);
    Share::from_millionths(part.min(whole) as u32).unwrap_or(Share::WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_the_newer_half_against_the_older() {
        assert_eq!(trend(&[]), 0);
        assert_eq!(trend(&[7]), 0);
        assert_eq!(trend(&[7, 9]), 2);
        assert_eq!(trend(&[10, 10, 4, 0]), -8);
        assert_eq!(trend(&[i64::MAX as u64, 0]), -i64::MAX);
    }

    #[test]
    fn utilisation_is_a_share_of_the_capacity() {
        assert_eq!(utilisation(1, 4).millionths(), 250_000);
        assert_eq!(utilisation(9, 4), Share::WHOLE);
        assert_eq!(utilisation(0, 0).millionths(), 0);
        assert_eq!(utilisation(u64::MAX, u64::MAX), Share::WHOLE);
    }
}
