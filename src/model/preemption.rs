//! When a lease is asked to end so that a higher rank can go on.

use std::time::Duration;

use super::priority::Priority;

/// That a lease is asked to end: what [`Lease::revoked`](crate::Lease::revoked) gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revocation {
    /// The level of the one who waits for what it holds.
    pub by: Priority,
    /// How much time is left, from when this was asked; then the lease is overdue, and somebody else may be asked.
    pub grace: Duration,
    /// The place in the queue that the request of the lease had, for the request that takes its work up again.
    pub seniority: Seniority,
}

/// When a request first arrived: one that is made again with it goes before those that came in between. See
/// [`Request::seniority`](crate::Request::seniority).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seniority {
    /// In nanoseconds, never zero.
    pub(crate) arrived: u64,
    /// Since when it has waited without a break, and gained levels for it (C4); zero if it waits anew.
    pub(crate) waits_since: u64,
}

impl Seniority {
    /// Of a request that arrived then, in nanoseconds, and was granted since.
    pub(crate) fn since(arrived: u64) -> Self {
        // Zero is for one that has not arrived before.
        Seniority { arrived: arrived.max(1), waits_since: 0 }
    }
}
