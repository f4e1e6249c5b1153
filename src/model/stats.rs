//! What `stats` shows: one consistent snapshot, in integers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::amount::{Share, Unit};
use super::budget::BudgetId;
use super::error::CloseReason;
use super::priority::Priority;
use super::usage::{Usage, utilisation};

/// How long some reservations waited. Times in nanoseconds, quantiles within 1 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WaitSummary {
    /// How many waited.
    pub count: u64,
    /// Half of them waited no longer.
    pub p50: u64,
    /// 99 % of them waited no longer.
    pub p99: u64,
    /// 99.9 % of them waited no longer.
    pub p999: u64,
    /// The longest wait.
    pub max: u64,
}

/// One budget at one moment. For a loan `free + granted == capacity + deficit`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BudgetStats {
    /// Which budget.
    pub id: BudgetId,
    /// Its name.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::written::text"))]
    pub name: Arc<str>,
    /// What it counts.
    pub unit: Unit,
    /// Whether it is a rate: then `capacity` is its burst, `free` its level, and `granted` what was spent so far.
    pub rate: bool,
    /// The most that can be granted.
    pub capacity: u64,
    /// What can be granted now.
    pub free: u64,
    /// What leases and offers have.
    pub granted: u64,
    /// The part of `granted` that lies in offers nobody has taken up yet.
    pub offered: u64,
    /// By how much the budget is overdrawn after a shrink: it drains, and grants nothing until this is paid.
    pub deficit: u64,
    /// The most that was granted at once. Zero for a rate.
    pub peak: u64,
    /// Reservations that wait and name this budget.
    pub waiting: u64,
    /// Waits that ended in a grant and were last blocked here, per level.
    pub waits: [WaitSummary; Priority::COUNT],
    /// The speed of a rate, in units a second; zero for a loan.
    pub per_second: u64,
    /// Its use over time.
    pub usage: Usage,
}

impl BudgetStats {
    /// What part is in use now: of a loan what is granted of the capacity, of a rate the speed of spending between the
    /// last two samples of the speed it refills at.
    pub fn utilisation(&self) -> Share {
        match self.rate {
            true => utilisation(self.usage.recent.last().copied().unwrap_or(0), self.per_second),
            false => utilisation(self.granted, self.capacity),
        }
    }

    /// What part was in use on average, weighted with time, since the start.
    pub fn mean_utilisation(&self) -> Share {
        utilisation(self.usage.mean, if self.rate { self.per_second } else { self.capacity })
    }
}

/// One level since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LevelStats {
    /// Grants that did not wait.
    pub immediate: u64,
    /// Grants after a wait, counted when they were made, also those that expired or were dropped unpolled.
    pub waited: u64,
    /// Waits that ended at their deadline.
    pub late: u64,
    /// Waits that were given up by their owner.
    pub cancelled: u64,
    /// Requests refused because they can never fit, when made or after a shrink.
    pub never_fits: u64,
    /// Waits that ended with the verdict to roll back.
    pub rolled_back: u64,
    /// Waits that ended with the verdict to split.
    pub split: u64,
    /// Leases that were asked to end for a higher level.
    pub revoked: u64,
    /// Of these, those that had not ended when their grace was over.
    pub overdue: u64,
    /// Requests shed because the queue was full.
    pub shed: u64,
    /// Attempts of `try_reserve` that were told "not now".
    pub not_now: u64,
    /// Requests refused because the scheduler was closed, and waits that ended when it closed.
    pub closed: u64,
    /// Requests refused because they are malformed, or name a budget that there is not.
    pub malformed: u64,
}

impl LevelStats {
    /// Requests that found the service exhausted: later, or with less load, they could have been served.
    pub fn exhausted(&self) -> u64 {
        self.late + self.shed + self.not_now
    }

    /// Requests that were refused for what they are, or because the scheduler is closed: to try again does not help.
    pub fn refused(&self) -> u64 {
        self.never_fits + self.malformed + self.closed
    }

    /// Waits that were ended so that others get on: the verdicts on holders that wait for each other.
    pub fn forced(&self) -> u64 {
        self.rolled_back + self.split
    }
}

/// A consistent snapshot of a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stats {
    /// The budgets, ascending by id.
    pub budgets: Vec<BudgetStats>,
    /// The levels, most urgent first.
    pub levels: [LevelStats; Priority::COUNT],
    /// Reservations that wait.
    pub waiting: u64,
    /// Reservations whose grant passed on because nobody polled them in time: they are in no line until they are
    /// polled, and not among those that wait.
    pub dormant: u64,
    /// Those that wait by the level of the request, most urgent first.
    pub waiting_at: [u64; Priority::COUNT],
    /// Grants that nobody has taken up yet.
    pub offered: u64,
    /// Leases that are out, offers not counted.
    pub leases: u64,
    /// Leases that were given up with [`Lease::forget`](crate::Lease::forget): their units never come back.
    pub forgotten: u64,
    /// Offers that expired because nobody polled.
    pub expired_offers: u64,
    /// How long labelled leases were held that have ended. Leases without a label are not timed: that would cost each a
    /// look at the clock.
    pub holds: WaitSummary,
    /// How often a wait took over the rank of somebody who waits for what its activity holds.
    pub inherited: u64,
    /// Alerts: waits inside a scope that look as if they would never end, see
    /// [`Activity::scope`](crate::Activity::scope).
    pub alerts: u64,
    /// Whether the scheduler is closed, and why.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::written::reason"))]
    pub closed: Option<CloseReason>,
}

impl Stats {
    /// The figures of one budget.
    pub fn budget(&self, id: BudgetId) -> Option<&BudgetStats> {
        self.budgets.iter().find(|budget| budget.id == id)
    }

    /// The figures of one level.
    pub fn level(&self, level: Priority) -> &LevelStats {
        &self.levels[level.index()]
    }

    /// All grants that were made, also those that expired or were dropped unpolled.
    pub fn grants(&self) -> u64 {
        self.levels.iter().map(|level| level.immediate + level.waited).sum()
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>12} {:>12} {:>12} {:>12} {:>12} {:>8} {:>10}",
            "budget", "capacity", "free", "granted", "mean", "peak", "waiting", "p99 wait"
        )?;
        for b in &self.budgets {
            let [capacity, free, granted, mean, peak] =
                [b.capacity, b.free, b.granted, b.usage.mean, b.peak].map(|n| b.unit.show(n));
            let longest = b.waits.iter().map(|waits| waits.p99).max().unwrap_or(0);
            writeln!(
                f,
                "{:<16} {capacity:>12} {free:>12} {granted:>12} {mean:>12} {peak:>12} {:>8} {:>10}",
                b.name,
                b.waiting,
                format!("{:.1?}", Duration::from_nanos(longest))
            )?;
        }
        writeln!(
            f,
            "{:<16} {:>12} {:>12} {:>12} {:>12} {:>12} {:>8}",
            "level", "immediate", "waited", "cancelled", "exhausted", "refused", "forced"
        )?;
        for (level, l) in Priority::ALL.iter().zip(&self.levels) {
            writeln!(
                f,
                "{level:<16} {:>12} {:>12} {:>12} {:>12} {:>12} {:>8}",
                l.immediate,
                l.waited,
                l.cancelled,
                l.exhausted(),
                l.refused(),
                l.forced()
            )?;
        }
        write!(
            f,
            "{} waiting, {} dormant, {} leases, {} offered, {} forgotten",
            self.waiting, self.dormant, self.leases, self.offered, self.forgotten
        )?;
        self.closed.map_or(Ok(()), |reason| write!(f, "; closed: {reason}"))
    }
}
