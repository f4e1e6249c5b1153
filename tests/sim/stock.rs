//! What a budget of the reference model has, in its own arithmetic: loans as sums, rates as an exact function of time.

use bursar::{Budget, Supply};

/// Levels of rates are counted in billionths of a unit: `per_second` of them arrive in a nanosecond, exactly.
const UNIT: i128 = 1_000_000_000;

/// One budget.
#[derive(Debug, Clone)]
pub enum Stock {
    Loan { capacity: i128, out: i128, peak: i128 },
    Rate { per_second: i128, burst: i128, max_debt: i128, level: i128, at: u64 },
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

    /// What a rate must have reached for `units` to be eligible (R7), in billionths.
    fn needed(burst: i128, units: u64) -> i128 {
        i128::from(units).min(burst) * UNIT
    }

    pub fn serves(&self, units: u64, now: u64) -> bool {
        match *self {
            Stock::Loan { .. } => self.level(now) >= units.into(),
            Stock::Rate { burst, .. } => self.level(now) >= Self::needed(burst, units),
        }
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
            Stock::Rate { level, .. } => *level -= i128::from(units) * UNIT,
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
        if let Stock::Rate { level, burst, .. } = self {
            *level = (*level + i128::from(units) * UNIT).min(*burst * UNIT);
        }
    }

    /// Another capacity. Whether it is less than before.
    pub fn set_capacity(&mut self, units: u64) -> bool {
        let Stock::Loan { capacity, .. } = self else { return false };
        std::mem::replace(capacity, units.into()) > units.into()
    }

    /// Another speed and burst. Whether the burst is less than before.
    pub fn set_rate(&mut self, speed: u64, size: u64, now: u64) -> bool {
        self.bring(now);
        let Stock::Rate { per_second, burst, level, .. } = self else { return false };
        *per_second = speed.into();
        *level = (*level).min(i128::from(size) * UNIT);
        std::mem::replace(burst, size.into()) > size.into()
    }

    /// The first time at which a rate can serve `units`; `None` for a loan.
    pub fn ready_at(&self, units: u64, now: u64) -> Option<u64> {
        let Stock::Rate { per_second, burst, at, .. } = *self else { return None };
        let missing = (Self::needed(burst, units) - self.level(now)).max(0);
        let wait = (missing + per_second - 1) / per_second;
        Some(u64::try_from(i128::from(now.max(at)) + wait).unwrap_or(u64::MAX))
    }
}
