//! Whether a worker fails so often that others go first.

/// A failure counts one eighth, as a part of 256.
const MEMORY: u32 = 8;
const WHOLE: u32 = 256;

/// Failing above one half, after at least so many tasks.
const LEAST: u32 = 3;

/// The first pause before a failing worker has another try, and the longest: 1 s and 64 s.
const FIRST_PAUSE: u64 = 1_000_000_000;
const LONGEST_PAUSE: u64 = 64 * FIRST_PAUSE;

/// The failures of one worker. A worker that fails fast has the shortest service times of all, so speed must not count
/// for it (P29): it takes tasks only if nobody else does, and now and then one to show that it works again.
#[derive(Debug, Default)]
pub(super) struct Health {
    rate: u32,
    samples: u32,
    failing: bool,
    probation: bool,
    pause: u64,
    /// When it has another try.
    again: u64,
}

impl Health {
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }

    pub(super) fn is_on_probation(&self) -> bool {
        self.probation
    }

    /// The part of its recent tasks that failed, in 256ths.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    pub(super) fn record(&mut self, failed: bool, now: u64) {
        let sample = if failed { WHOLE } else { 0 };
        self.samples = self.samples.saturating_add(1);
        // The first samples count as much as they are part of the whole.
        let memory = self.samples.min(MEMORY);
        self.rate = (self.rate * (memory - 1) + sample) / memory;
        if !failed && (self.probation || self.failing) {
            *self = Health::default();
        } else if failed && (self.probation || (self.rate > WHOLE / 2 && self.samples >= LEAST)) {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.again = now.saturating_add(self.pause);
            (self.failing, self.probation) = (true, false);
        }
    }

    /// Lets it try again if it is time: one task at a time, until one succeeds.
    pub(super) fn tick(&mut self, now: u64) {
        if self.failing && now >= self.again {
            (self.failing, self.probation) = (false, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_more_than_half_is_failing_until_a_try_succeeds() {
        let mut health = Health::default();
        health.record(true, 0);
        health.record(true, 0);
        assert!(!health.is_failing());
        health.record(true, 0);
        assert!(health.is_failing());
        health.tick(FIRST_PAUSE - 1);
        assert!(health.is_failing());
        health.tick(FIRST_PAUSE);
        assert!(!health.is_failing() && health.is_on_probation());
        health.record(true, FIRST_PAUSE);
        assert!(health.is_failing());
        health.tick(2 * FIRST_PAUSE);
        assert!(health.is_failing(), "the second pause is twice as long");
        health.tick(3 * FIRST_PAUSE);
        health.record(false, 0);
        assert!(!health.is_failing() && !health.is_on_probation());
        assert_eq!(health.rate(), 0);
    }

    #[test]
    fn who_fails_now_and_then_is_not() {
        let mut health = Health::default();
        for number in 0..100 {
            health.record(number % 3 == 0, 0);
            assert!(!health.is_failing());
        }
    }
}
