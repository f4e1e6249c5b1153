//! How what waits gains levels (C4).

use crate::model::Priority;

use super::Rank;

/// The rule: one level for every step, up to `High`. Times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aging {
    /// `u64::MAX` for never.
    pub(crate) step: u64,
    /// Whether `Idle` ages too.
    pub(crate) idle: bool,
    /// What stands for the deadline of who has none, or has come to a level by waiting: so long after it came there.
    pub(crate) horizon: u64,
}

impl Aging {
    /// When one that stands at a level since `from` gains the next; `u64::MAX` for never.
    #[inline]
    pub(crate) fn due(&self, level: Priority, from: u64) -> u64 {
        let ages = match level {
            Priority::Critical | Priority::High => false,
            Priority::Normal | Priority::Low => true,
            Priority::Idle => self.idle,
        };
        if ages { from.saturating_add(self.step) } else { u64::MAX }
    }

    /// The rank of one that gained a level at `due`: as if it had arrived there then.
    pub(crate) fn raised(&self, rank: Rank, due: u64) -> Rank {
        let level = Priority::ALL[rank.level().index().saturating_sub(1)];
        Rank::new(level, due.saturating_add(self.horizon), rank.arrival())
    }
}
