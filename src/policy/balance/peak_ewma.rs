//! Recent peaks of service time: up at once, down slowly.
//!
//! The estimate of Finagle's and tower's peak EWMA balancers: a sample above it replaces it, one below pulls it down by
//! how much time has passed since the last. In integers, halving every [`HALF_LIFE`], so that every platform gets the
//! same.

/// How long it takes to forget half of the distance to what is measured now: 10 s.
const HALF_LIFE: u64 = 10_000_000_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PeakEwma {
    nanos: u64,
    at: u64,
}

impl PeakEwma {
    pub(super) fn record(&mut self, nanos: u64, now: u64) {
        let passed = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        if nanos >= self.nanos {
            self.nanos = nanos;
        } else {
            self.nanos = nanos + decayed(self.nanos - nanos, passed);
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.nanos
    }
}

/// What is left of a distance: halved for every half-life, and in a straight line in between.
fn decayed(distance: u64, passed: u64) -> u64 {
    let halvings = u32::try_from(passed / HALF_LIFE).unwrap_or(u32::MAX);
    let left = distance.checked_shr(halvings).unwrap_or(0);
    let part = u128::from(left) * u128::from(passed % HALF_LIFE) / u128::from(2 * HALF_LIFE);
    // At most half of `left`.
    left - part as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_taken_at_once_and_forgotten_by_half_every_half_life() {
        let mut peak = PeakEwma::default();
        peak.record(100, 5);
        peak.record(1_000, 6);
        assert_eq!(peak.value(), 1_000);
        peak.record(200, 6);
        assert_eq!(peak.value(), 1_000);
        peak.record(200, 6 + HALF_LIFE);
        assert_eq!(peak.value(), 600);
        peak.record(200, 6 + HALF_LIFE + HALF_LIFE / 2);
        assert_eq!(peak.value(), 500);
        peak.record(200, u64::MAX);
        assert_eq!(peak.value(), 200);
    }
}
