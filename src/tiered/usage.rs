//! What spaces and leases have, in figures.

use crate::memory::Stream;

/// The account of a space, in bytes. Exact while no call is under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpaceUsage {
    /// What the space has.
    pub capacity: u64,
    /// How much of it can be reserved: the capacity of its budget.
    pub limit: u64,
    /// Reserved, by leases of every kind.
    pub reserved: u64,
    /// Allocated without a lease, or beyond what leases reserved.
    pub outside: u64,
    /// `reserved + outside`, which is the untracked plus the larger of allocated and reserved of every lease.
    pub total: u64,
    /// In blocks, with what they are rounded up by and what is [in flight](super::InFlight).
    pub allocated: u64,
    /// The part of `allocated` that waits for work to pass: retired, or freed under a copy that was dropped and is
    /// still under way.
    pub in_flight: u64,
    /// How many blocks there are.
    pub blocks: u64,
    /// The most that was allocated at a time. What was refused does not count.
    pub peak_allocated: u64,
    /// The streams that blocks were ever allocated on, in order.
    pub streams: Vec<(Stream, StreamUsage)>,
}

impl SpaceUsage {
    /// How much more can be allocated, with a lease or without one.
    pub fn available(&self) -> u64 {
        self.capacity.saturating_sub(self.total)
    }
}

/// What was allocated on a stream, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamUsage {
    /// In blocks now.
    pub allocated: u64,
    /// The most at a time.
    pub peak: u64,
}

/// The account of a lease in one space, in bytes. Exact while no call is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseUsage {
    /// What it reserved.
    pub reserved: u64,
    /// In blocks, with what they are rounded up by and what is in flight.
    pub allocated: u64,
    /// The part of `allocated` that waits for work to pass, as in [`SpaceUsage`].
    pub in_flight: u64,
    /// By how much it has allocated more than it reserved.
    pub over: u64,
    /// The most that was allocated at a time. What was refused does not count.
    pub peak: u64,
}

impl LeaseUsage {
    /// How much of what it reserved is not allocated.
    pub fn unused(&self) -> u64 {
        self.reserved.saturating_sub(self.allocated)
    }
}

/// What is allocated, and the most that ever was.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Level {
    pub(super) now: u64,
    pub(super) peak: u64,
}

impl Level {
    pub(super) fn rise(&mut self, by: u64) {
        self.now += by;
        self.peak = self.peak.max(self.now);
    }

    pub(super) fn fall(&mut self, by: u64) {
        self.now -= by;
    }
}
