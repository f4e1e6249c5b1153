//! What a number of traces came through: a simulation in which nothing happens proves nothing (P58).

use std::collections::BTreeMap;

use crate::trace::single_seed;

/// Things that have to happen in traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Granted without a turn of the engine.
    PastEngine,
    Blocked,
    /// Short of two budgets or more when it arrived.
    BlockedTwice,
    Offered,
    Accepted,
    OfferedAndCancelled,
    DormantAndCancelled,
    EndedAndCancelled,
    Expired,
    /// A dormant waiter was polled: it waits again, or was granted at once.
    Reactivated,
    Regained,
    Late,
    /// Ended because a capacity shrank.
    NeverFits,
    /// Its offer expired after the capacity had shrunk below it.
    NeverFitsAfterOffer,
    /// A capacity was below what was granted, until enough came back.
    DeficitDrained,
    /// Granted once a rate had refilled.
    RateBlocked,
    /// Blocked somewhere else when it was granted than when it arrived.
    Refiled,
    LookAhead,
    /// Between a release and its turn, others came in.
    LateRelease,
    NotNow,
    Full,
    /// Taken up after the scheduler was closed.
    AcceptedAfterClose,
    EndedByClose,
    /// Granted while another of the same rank but for its arrival waited.
    FirstOfEquals,
    /// No waiter could be granted, and some waited.
    QuietCrowd,
}

/// How often each of them happened.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<Case, u64>);

impl Tally {
    pub fn count(&mut self, case: Case) {
        *self.0.entry(case).or_default() += 1;
    }

    pub fn add(&mut self, other: &Tally) {
        for (case, times) in &other.0 {
            *self.0.entry(*case).or_default() += times;
        }
    }

    /// Fails if something happened less often than it must; not when a single seed is tried.
    pub fn demand(&self, least: &[(Case, u64)]) {
        if single_seed().is_some() {
            return;
        }
        let too_rare = |&&(case, least): &&(Case, u64)| self.0.get(&case).copied().unwrap_or(0) < least;
        let rare: Vec<_> = least.iter().filter(too_rare).collect();
        assert!(rare.is_empty(), "too rare: {rare:?} of {:#?}", self.0);
    }
}
