//! A rate: a token bucket on a virtual clock, in integers.
//!
//! The bucket is brought forward to `now` whenever it is looked at; what a nanosecond adds is not a whole number of
//! units, so the remainder of the division is kept and nothing is lost however often that happens. One grant may take
//! the level below zero: the rest is debt, paid by the clock before anybody else is served (generic cell rate
//! algorithm, ITU-T I.371, written as a leaky bucket with debt).

/// Nanoseconds in a second: `level` grows by `per_second / SECOND` units a nanosecond.
const SECOND: u128 = 1_000_000_000;

/// One rate budget. R6 holds at every moment: `initial + refilled - overflowed - charged + refunded == level`.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    per_second: u64,
    burst: u64,
    max_debt: u64,
    /// What can be charged; negative is debt.
    level: i64,
    /// The time that `level` stands for, in nanoseconds.
    at: u64,
    /// Units still owed by the clock, in billionths.
    remainder: u64,
    initial: u64,
    refilled: u128,
    overflowed: u128,
    charged: u128,
    refunded: u128,
}

impl Bucket {
    /// A full bucket.
    pub fn new(per_second: u64, burst: u64, max_debt: u64, now: u64) -> Self {
        let level = i64::try_from(burst).unwrap_or(i64::MAX);
        Bucket { per_second, burst, max_debt, level, at: now, initial: burst, ..Bucket::default() }
    }

    /// Brings the bucket forward to `now`.
    pub fn refill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed == 0 {
            return;
        }
        self.at = now;
        let owed = u128::from(elapsed) * u128::from(self.per_second) + u128::from(self.remainder);
        let units = owed / SECOND;
        self.remainder = (owed % SECOND) as u64;
        self.refilled += units;
        // A burst is at most 2^63 - 1 and a debt no more, so the room fits and so does the sum.
        let room = (i128::from(self.burst) - i128::from(self.level)).max(0) as u128;
        if units >= room {
            self.overflowed += units - room;
            self.level = self.burst as i64;
        } else {
            self.level += units as i64;
        }
        self.settle();
    }

    /// Whether `units` can be charged beyond what others claim, as of the last refill.
    pub fn eligible(&self, units: u64, claimed: u64) -> bool {
        let level = i128::from(self.level) - i128::from(claimed);
        // An elastic amount may be more than is ever given at once.
        units <= self.limit() && level >= i128::from(units.min(self.burst))
    }

    /// Charges `units`, which were eligible.
    pub fn charge(&mut self, units: u64) {
        self.level -= units as i64;
        self.charged += u128::from(units);
    }

    /// Gives back what an offer was charged that nobody took up, as far as there is room.
    pub fn refund(&mut self, units: u64) {
        let room = (i128::from(self.burst) - i128::from(self.level)).max(0);
        let back = i128::from(units).min(room);
        self.level += back as i64;
        self.refunded += back as u128;
        self.settle();
    }

    /// A full bucket takes in nothing, not even a part of a unit.
    fn settle(&mut self) {
        if self.level >= self.burst as i64 {
            self.remainder = 0;
        }
    }

    /// When `units` become eligible, as of the last refill; `u64::MAX` if the claims of others have to go first.
    pub fn ready_at(&self, units: u64, claimed: u64) -> u64 {
        let level = i128::from(units.min(self.burst)) + i128::from(claimed);
        if level > i128::from(self.burst) || units > self.limit() {
            return u64::MAX;
        }
        let missing = level - i128::from(self.level);
        if missing <= 0 {
            return self.at;
        }
        let owed = (missing as u128 * SECOND).saturating_sub(u128::from(self.remainder));
        let wait = owed.div_ceil(u128::from(self.per_second.max(1)));
        u64::try_from(wait).map_or(u64::MAX, |wait| self.at.saturating_add(wait))
    }

    /// Another speed and size, from `now` on.
    pub fn set(&mut self, per_second: u64, burst: u64, now: u64) {
        self.refill(now);
        self.per_second = per_second;
        self.burst = burst;
        // A debt may be as large as can be counted, so the difference may be larger.
        let above = (i128::from(self.level) - i128::from(burst)).max(0);
        self.level -= above as i64;
        self.overflowed += above as u128;
        self.settle();
    }

    /// The most that one request can ask for.
    pub fn limit(&self) -> u64 {
        self.burst + self.max_debt
    }

    /// What can be charged now without debt.
    pub fn free(&self) -> u64 {
        self.level.max(0) as u64
    }

    /// By how much it is below zero.
    pub fn debt(&self) -> u64 {
        self.level.min(0).unsigned_abs()
    }

    /// The largest level.
    pub fn per_second(&self) -> u64 {
        self.per_second
    }

    /// The most it holds.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Units charged since the start, less what was refunded.
    pub fn spent(&self) -> u64 {
        u64::try_from(self.charged - self.refunded.min(self.charged)).unwrap_or(u64::MAX)
    }

    /// Whether the books of the bucket balance; the figures if not.
    pub fn verify(&self) -> Result<(), String> {
        let signed = |units: u128| i128::try_from(units).unwrap_or(i128::MAX);
        let expected =
            i128::from(self.initial) + signed(self.refilled) - signed(self.overflowed) - signed(self.charged)
                + signed(self.refunded);
        if expected == i128::from(self.level) {
            Ok(())
        } else {
            Err(format!("{self:?}: the level should be {expected}"))
        }
    }
}

#[cfg(test)]
impl Bucket {
    /// A bucket that has lost a unit.
    pub(super) fn out_of_balance() -> Self {
        Bucket { level: 9, ..Bucket::new(1, 10, 0, 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_often_loses_no_fraction_of_a_unit() {
        let (mut often, mut once) = (Bucket::new(7, 1_000, 0, 0), Bucket::new(7, 1_000, 0, 0));
        often.charge(1_000);
        once.charge(1_000);
        for at in (0..=3_000_000_000u64).step_by(333_333) {
            often.refill(at);
            often.verify().unwrap();
        }
        often.refill(3_000_000_000);
        once.refill(3_000_000_000);
        assert_eq!((often.level, once.level), (21, 21));
    }

    #[test]
    fn units_are_eligible_exactly_at_the_promised_time() {
        let mut bucket = Bucket::new(3, 10, 5, 0);
        bucket.charge(10);
        for units in 1..=15 {
            let at = bucket.ready_at(units, 0);
            let (mut before, mut then) = (bucket.clone(), bucket.clone());
            before.refill(at - 1);
            then.refill(at);
            assert!(!before.eligible(units, 0) && then.eligible(units, 0), "{units} at {at}");
        }
    }

    #[test]
    fn a_refund_never_overfills_the_bucket() {
        let mut bucket = Bucket::new(1, 10, 0, 0);
        bucket.charge(4);
        bucket.refill(2_000_000_000);
        bucket.refund(4);
        assert_eq!(bucket.free(), 10);
        bucket.verify().unwrap();
    }

    #[test]
    fn a_full_bucket_takes_in_no_part_of_a_unit() {
        let mut bucket = Bucket::new(3, 10, 0, 0);
        bucket.refill(500_000_000);
        bucket.charge(10);
        assert_eq!(bucket.ready_at(1, 0), 833_333_334, "a third of a second after the charge");
    }

    #[test]
    fn what_no_refill_can_serve_is_never_ready() {
        let bucket = Bucket::new(3, 10, 5, 0);
        assert_eq!((bucket.ready_at(4, 6), bucket.ready_at(4, 7)), (0, u64::MAX), "others claim the rest");
        assert_eq!((bucket.ready_at(15, 0), bucket.ready_at(16, 0)), (0, u64::MAX), "more debt than is allowed");
    }

    #[test]
    fn what_was_refunded_is_not_spent() {
        let mut bucket = Bucket::new(1, 10, 0, 0);
        bucket.charge(4);
        bucket.refund(3);
        assert_eq!(bucket.spent(), 1);
    }

    #[test]
    fn a_smaller_burst_is_accounted_for_as_overflow() {
        let mut bucket = Bucket::new(1, 10, 0, 0);
        bucket.set(5, 4, 0);
        assert_eq!(bucket.free(), 4);
        bucket.verify().unwrap();
    }
}
