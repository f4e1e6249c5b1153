//! How long things took.

use hdrhistogram::Histogram;

use crate::model::WaitSummary;

/// One hour in nanoseconds: longer times are counted as that long.
const LONGEST: u64 = 3_600_000_000_000;
/// Quantiles within 1 %. Such a histogram takes some 40 KiB.
const DIGITS: u8 = 2;

/// A histogram of times in nanoseconds. Made with the first of them.
#[derive(Debug, Default)]
pub(crate) struct Times(Option<Histogram<u64>>);

impl Times {
    pub(crate) fn record(&mut self, nanos: u64) {
        if self.0.is_none() {
            // The bounds are constants that the crate accepts.
            self.0 = Histogram::new_with_bounds(1, LONGEST, DIGITS).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(nanos);
        }
    }

    /// What this part of them lies at or below, in nanoseconds; `None` with fewer than so many.
    pub(crate) fn quantile(&self, part: f64, least: u64) -> Option<u64> {
        let histogram = self.0.as_ref().filter(|histogram| histogram.len() >= least)?;
        Some(histogram.value_at_quantile(part))
    }

    /// A copy, to be looked at in peace.
    pub(crate) fn copy(&self) -> Option<Histogram<u64>> {
        self.0.clone()
    }
}

/// The figures of a histogram of times.
pub(crate) fn summary(histogram: &Histogram<u64>) -> WaitSummary {
    WaitSummary {
        count: histogram.len(),
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
    }
}
