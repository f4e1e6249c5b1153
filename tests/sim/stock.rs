//! What a budget of the reference model has, in its own arithmetic: loans as sums, rates as an exact function of time.

use bursar::{Budget, Supply};

/// Levels of rates are counted in billionths of a unit: `per_second` of them arrive in a nanosecond, exactly.
const UNIT: i128 = 1_000_000_000;

/// One budget.
#[derive(Debug, Clone)]
pub enum Stock {
    Loan { capacity: i128, out: i128, peak: i128 },
    Rate { per_second: i128, burst: i128, max_debt: i128, level: i128, at: u64, spent: u64 },
}

impl Stock {
    pub fn new(budget: &Budget, now: u64) -> Stock {
        match budget.supply {
            Supply::Loan { capacity } => Stock::Loan { capacity: capacity.into(), out: 0, peak: 0 },
            Supply::Rate { per_second, burst, max_debt } => Stock::Rate {
                per_second: per_second.into(),
                burst: burst.into(),
                max_debt: max_debt.into(),
                level: i128::from(burst) * UNIT,
                at: now,
                spent: 0,
            },
        }
    }

    pub fn is_rate(&self) -> bool {
        matches!(self, Stock::Rate { .. })
    }

    /// Units that are there; less than none is a deficit or a debt. A rate in billionths.
    fn level(&self, now: u64) -> i128 {
        match *self {
            Stock::Loan { capacity, out, .. } => capacity - out,
            Stock::Rate { per_second, burst, level, at, .. } => {
                (level + per_second * i128::from(now.saturating_sub(at))).min(burst * UNIT)
            }
        }
    }

    /// What a rate must have reached for `units` to be eligible (R7) beside what others claim of it, in billionths.
    fn needed(burst: i128, units: u64, claimed: u128) -> i128 {
        (i128::from(units).min(burst) + claimed as i128) * UNIT
    }

    /// Whether `units` can be taken and `claimed` is still there for others. A rate never gives more than its burst and
    /// its largest debt, however full it is.
    pub fn serves(&self, units: u64, claimed: u128, now: u64) -> bool {
        match *self {
            Stock::Loan { .. } => self.level(now).max(0) - claimed as i128 >= units.into(),
            Stock::Rate { burst, .. } => {
                units <= self.limit() && self.level(now) >= Self::needed(burst, units, claimed)
            }
        }
    }

    /// What of `units` has to be there: of a rate no more than its burst.
    pub fn share(&self, units: u64) -> u64 {
        match *self {
            Stock::Loan { .. } => units,
            Stock::Rate { burst, .. } => units.min(burst as u64),
        }
    }

    /// How much of `units` is missing beside what others claim, in millionths.
    pub fn shortfall(&self, units: u64, claimed: u128, now: u64) -> u128 {
        let ask = i128::from(self.share(units));
        let level = self.level(now).div_euclid(if self.is_rate() { UNIT } else { 1 });
        let available = (level.max(0) - claimed as i128).max(0);
        if available >= ask { 0 } else { ((ask - available) * 1_000_000 / ask) as u128 }
    }

    pub fn free(&self, now: u64) -> u64 {
        let level = self.level(now).max(0);
        (if self.is_rate() { level / UNIT } else { level }) as u64
    }

    pub fn deficit(&self) -> u64 {
        if self.is_rate() { 0 } else { self.level(0).min(0).unsigned_abs() as u64 }
    }

    /// The most that can ever be granted at once.
    pub fn limit(&self) -> u64 {
        match *self {
            Stock::Loan { capacity, .. } => capacity as u64,
            Stock::Rate { burst, max_debt, .. } => (burst + max_debt) as u64,
        }
    }

    pub fn granted(&self) -> u64 {
        if let Stock::Loan { out, .. } = *self { out as u64 } else { 0 }
    }

    pub fn peak(&self) -> u64 {
        if let Stock::Loan { peak, .. } = *self { peak as u64 } else { 0 }
    }

    /// Units of a rate that were charged and not refunded.
    pub fn spent(&self) -> Option<u64> {
        if let Stock::Rate { spent, .. } = *self { Some(spent) } else { None }
    }

    /// Moves the time of a rate on.
    fn bring(&mut self, now: u64) {
        let reached = self.level(now);
        if let Stock::Rate { level, at, .. } = self {
            (*level, *at) = (reached, now.max(*at));
        }
    }

    pub fn take(&mut self, units: u64, now: u64) {
        self.bring(now);
        match self {
            Stock::Loan { out, peak, .. } => {
                *out += i128::from(units);
                *peak = (*peak).max(*out);
            }
            Stock::Rate { level, spent, .. } => {
                *level -= i128::from(units) * UNIT;
                *spent = spent.saturating_add(units);
            }
        }
    }

    /// A lease ended: a loan is back, a rate is spent.
    pub fn give(&mut self, units: u64) {
        if let Stock::Loan { out, .. } = self {
            *out -= i128::from(units);
        }
    }

    /// A grant was never taken up: a rate is refunded too, up to its burst.
    pub fn undo(&mut self, units: u64, now: u64) {
        self.give(units);
        self.bring(now);
        if let Stock::Rate { level, burst, spent, .. } = self {
            *spent = spent.saturating_sub(i128::from(units).min(*burst - level.div_euclid(UNIT)) as u64);
            *level = (*level + i128::from(units) * UNIT).min(*burst * UNIT);
        }
    }

    /// Another capacity.
    pub fn set_capacity(&mut self, units: u64) {
        if let Stock::Loan { capacity, .. } = self {
            *capacity = units.into();
        }
    }

    /// Another speed and burst.
    pub fn set_rate(&mut self, speed: u64, size: u64, now: u64) {
        self.bring(now);
        if let Stock::Rate { per_second, burst, level, .. } = self {
            (*per_second, *burst) = (speed.into(), size.into());
            *level = (*level).min(i128::from(size) * UNIT);
        }
    }

    /// The first time at which a rate can serve `units` beside what others claim; `None` for a loan, and where no time
    /// is enough.
    pub fn ready_at(&self, units: u64, claimed: u128, now: u64) -> Option<u64> {
        let Stock::Rate { per_second, burst, at, .. } = *self else { return None };
        let needed = Self::needed(burst, units, claimed);
        if units > self.limit() || needed > burst * UNIT {
            return None;
        }
        let missing = (needed - self.level(now)).max(0);
        let wait = (missing + per_second - 1) / per_second;
        Some(u64::try_from(i128::from(now.max(at)) + wait).unwrap_or(u64::MAX))
    }
}
