//! What a number of traces came through: a simulation in which nothing happens proves nothing (P58).

use std::collections::BTreeMap;

use bursar::Priority;

use crate::event::{Refused, Seen, Standing, View, Why};
use crate::trace::single_seed;

/// Things that have to happen in traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// Granted without a turn of the engine.
    PastEngine,
    Blocked,
    /// Passed by a lower rank, or by whoever took what it had found elsewhere.
    Passed,
    /// Claims hard.
    Hardened,
    /// Rose by a level: by waiting, or to the rank of somebody else.
    Aged,
    /// Granted before somebody of its level and line who ranks before it, and is granted in the same turn.
    OutOfTurn,
    /// Granted less than the whole of an elastic amount.
    Elastic,
    /// Granted an alternative that was not the preferred one.
    SecondChoice,
    /// Something else blocks an alternative than did before.
    Moved,
    /// Fewer or more alternatives of an active waiter are possible.
    Refitted,
    /// The cap of its module keeps an alternative.
    Parked,
    /// Served from the minimum of its module, or with the rank of somebody who waits for what it holds.
    Critical,
    /// It fits, and waits because it could lead to a deadlock.
    Unsafe,
    /// It has to wait for somebody whom new bounded activities may pass no more.
    KeptOut,
    /// A waiter took over a rank.
    Inherited,
    /// A lease was asked to end; because of a minimum that it was lent; and in which time it ended.
    Revoked,
    AskedBack,
    EndedInGrace,
    EndedLate,
    /// It had not ended when its grace was over.
    Overdue,
    /// More was granted for a lease.
    Grown,
    RolledBack,
    ToldToSplit,
    /// Stuck, if what scopes imply is right.
    Alerted,
    /// A holder was gone with all that it had, as after a panic.
    Panicked,
    ModuleGone,
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
    LookAhead,
    /// Between a release and its turn, others came in.
    LateRelease,
    NotNow,
    Full,
    /// Taken up after the scheduler was closed.
    AcceptedAfterClose,
    EndedByClose,
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

    pub fn count_times(&mut self, case: Case, times: u64) {
        *self.0.entry(case).or_default() += times;
    }

    pub fn add(&mut self, other: &Tally) {
        for (case, times) in &other.0 {
            *self.0.entry(*case).or_default() += times;
        }
    }

    /// Counts what was seen of an event.
    pub fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Granted(_, grant) | Seen::Accepted(_, grant) | Seen::Regained(_, grant) => {
                self.count_if(grant.rung > 0, Case::Elastic);
                self.count_if(grant.alternative > 0, Case::SecondChoice);
            }
            _ => {}
        }
        let case = match seen {
            Seen::Waits(_) => Case::Blocked,
            Seen::Offered { .. } => Case::Offered,
            Seen::Accepted(..) => Case::Accepted,
            Seen::Expired(_) => Case::Expired,
            Seen::Regained(..) => Case::Regained,
            Seen::Ended { why: Why::Late, .. } => Case::Late,
            Seen::Ended { why: Why::NeverFits, .. } => Case::NeverFits,
            Seen::Ended { why: Why::Closed, .. } => Case::EndedByClose,
            Seen::Ended { why: Why::RollBack, .. } => Case::RolledBack,
            Seen::Ended { why: Why::Split, .. } => Case::ToldToSplit,
            Seen::Refused(_, Refused::Full(..)) => Case::Full,
            Seen::Refused(_, Refused::NotNow(_)) => Case::NotNow,
            Seen::Revoked(..) => Case::Revoked,
            Seen::Overdue(_) => Case::Overdue,
            Seen::LookAhead => Case::LookAhead,
            _ => return,
        };
        self.count(case);
    }

    /// Counts what an event did to those who wait.
    pub fn compare(&mut self, before: &[Standing], after: &[Standing]) {
        for now in after {
            let Some(then) = before.iter().find(|then| then.id == now.id) else {
                self.count_if(now.hard, Case::Hardened);
                self.count_if(!now.parked.is_empty(), Case::Parked);
                continue;
            };
            self.count_if(now.passes > then.passes, Case::Passed);
            self.count_if(now.hard && !then.hard, Case::Hardened);
            self.count_if(now.level < then.level, Case::Aged);
            self.count_if(now.level < then.level && now.level == Priority::Critical, Case::Critical);
            self.count_if(now.parked.len() > then.parked.len(), Case::Parked);
            self.count_if(now.filed.len() != then.filed.len(), Case::Refitted);
            self.count_if(now.filed.len() == then.filed.len() && now.filed != then.filed, Case::Moved);
        }
    }

    /// Counts who was granted before others of its level and line that ranked before it: of those whose ranks were in
    /// this order.
    pub fn compare_turns(&mut self, order: &[u32], before: &[Standing], seen: &[Seen]) {
        let level = |id: u32| before.iter().find(|standing| standing.id == id).map(|standing| standing.level);
        let rank = |id: u32| order.iter().position(|other| *other == id);
        for turn in seen.split(|seen| matches!(seen, Seen::Turned(_))) {
            let offers = turn.iter().filter_map(|seen| match seen {
                Seen::Offered { id, budget, .. } => Some((level(*id)?, *budget, rank(*id)?)),
                _ => None,
            });
            let offers: Vec<_> = offers.collect();
            for (at, (level, budget, rank)) in offers.iter().enumerate() {
                let mut later = offers[at..].iter().filter(|later| (&later.0, &later.1) == (level, budget));
                self.count_if(later.any(|later| later.2 < *rank), Case::OutOfTurn);
            }
        }
    }

    /// Counts those who were asked for a level that is not above their own.
    pub fn compare_asked(&mut self, seen: &[Seen], left: &View) {
        for seen in seen {
            let Seen::Revoked(id, level) = seen else { continue };
            let asked_back = left.asked.iter().any(|(asked, by, ..)| asked == id && by >= level);
            self.count_if(asked_back, Case::AskedBack);
        }
    }

    fn count_if(&mut self, happened: bool, case: Case) {
        if happened {
            self.count(case);
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
