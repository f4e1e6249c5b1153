//! Who gives up a seat so that a job of a higher level does not wait for one (C8, as far as seats go).
//!
//! A seat is for a job that waits for its resources or runs. When the first in some queue finds all seats taken, one of
//! those of lower levels gives way: one that waits before one that runs, at its own worker before another, and of these
//! the last in rank. Of those that run only preemptible ones are told, one at a time at each worker; the next when that
//! one has gone, or has not within the grace. Equals never displace each other.
//!
//! Seats of those that wait go by the levels that jobs have come to by waiting. Who runs gives way to a level that was
//! given, never to one that was reached by waiting (R8).

use std::collections::BTreeSet;

use crate::model::Priority;
use crate::policy::Rank;
use crate::policy::balance::State;
use crate::tasks::handle::Grip;

use super::desk::{Desk, Told};
use super::floor::{Action, Floor, JobId};

/// How far a queue is looked through for one that may have a running job told, when the first of it may not.
const LOOK_AHEAD: usize = 64;

/// Those of a queue that may have somebody give way.
#[derive(Debug, Clone, Copy)]
struct Claims {
    /// The first, for whom those give way that wait.
    first: (Rank, JobId),
    /// The one that was given the highest level, for whom those give way that run.
    given: (Priority, JobId),
}

/// Who gives way, and to whom. The best of several is the greatest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Yields {
    waits: bool,
    level: Priority,
    rank: Rank,
    job: JobId,
    by: JobId,
}

impl Floor {
    /// Who has to give up a seat now, at most one at each worker. `grip` says how a job that has a seat could be made
    /// to.
    pub(super) fn displaced(&self, now: u64, grip: impl Fn(JobId) -> Grip) -> Vec<Action> {
        let mut claims: Vec<(Claims, usize)> =
            self.full_desks().filter_map(|(at, desk)| Some((self.claims(desk)?, at))).collect();
        claims.sort_unstable_by_key(|(claims, _)| claims.first);
        // Workers where somebody gives way already, and for whom.
        let mut yielding = BTreeSet::new();
        let mut awaited = BTreeSet::new();
        for (at, desk) in self.full_desks() {
            for told in desk.told.values().filter(|told| told.until > now) {
                yielding.insert(at);
                awaited.insert(told.gives_way_to);
            }
        }
        let mut actions = Vec::new();
        for (claims, at) in claims {
            let served = [claims.first.1, claims.given.1].iter().any(|job| awaited.contains(job));
            if yielding.contains(&at) || served {
                continue;
            }
            let own = self.who_yields(at, claims, &grip).map(|yields| (yields, at));
            let found = own.or_else(|| self.who_yields_elsewhere(at, claims, &yielding, &grip));
            if let Some((Yields { job, by, .. }, from)) = found {
                yielding.insert(from);
                actions.push(Action::Displace { job, by });
            }
        }
        actions
    }

    fn claims(&self, desk: &Desk) -> Option<Claims> {
        let first = desk.head()?;
        let given = |job: JobId| self.jobs.get(&job).map(|(card, _)| (card.priority, job));
        // Without one that has risen, the first is it.
        let risen = given(first.1).filter(|(level, _)| *level > first.0.level());
        let ahead = desk.queue.values().take(if risen.is_some() { LOOK_AHEAD } else { 1 });
        // The first of equals.
        let given = ahead.filter_map(|&job| given(job)).min_by_key(|(level, _)| *level)?;
        Some(Claims { first, given })
    }

    /// A job was told to give up its seat to another, and runs until it has. It is not told again.
    pub(super) fn note_told(&mut self, job: JobId, gives_way_to: JobId, until: u64) {
        if let Some(desk) = self.desk_of(job) {
            desk.told.insert(job, Told { gives_way_to, until });
        }
    }

    /// The same at another worker, if who it is for may go there.
    fn who_yields_elsewhere(
        &self,
        at: usize,
        claims: Claims,
        yielding: &BTreeSet<usize>,
        grip: impl Fn(JobId) -> Grip,
    ) -> Option<(Yields, usize)> {
        let others = self.full_desks().filter(|(other, _)| *other != at && !yielding.contains(other));
        let found = others.filter_map(|(other, _)| Some((self.who_yields(other, claims, &grip)?, other)));
        found.filter(|(yields, _)| self.may_move(yields.by, &self.desks()[at])).max()
    }

    /// Workers that take jobs and have no room, with their positions.
    fn full_desks(&self) -> impl Iterator<Item = (usize, &Desk)> {
        self.desks().iter().enumerate().filter(|(_, desk)| desk.state() == State::Active && !desk.has_room())
    }

    /// The best of those that sit at a worker to give way.
    fn who_yields(&self, at: usize, claims: Claims, grip: impl Fn(JobId) -> Grip) -> Option<Yields> {
        let desk = &self.desks()[at];
        let able = |&job: &JobId| {
            let (card, _) = self.jobs.get(&job).filter(|_| !desk.told.contains_key(&job))?;
            let (waits, level, (than, by)) = match grip(job) {
                Grip::Waits => (true, card.rank.level(), (claims.first.0.level(), claims.first.1)),
                Grip::Runs => (false, card.priority, claims.given),
                Grip::Firm => return None,
            };
            (level > than).then_some(Yields { waits, level, rank: card.rank, job, by })
        };
        desk.seated.iter().filter_map(able).max()
    }
}

#[cfg(test)]
mod tests {
    use super::super::floor::{Card, WorkerId};
    use super::*;
    use crate::policy::Aging;
    use crate::policy::balance::{Balancer, Policy};

    const NO_AGING: Aging = Aging { step: u64::MAX, idle: false, horizon: 0 };

    /// Workers with one seat each, on which LOW jobs sit that have the numbers of the workers.
    fn full(workers: WorkerId) -> Floor {
        let mut floor = Floor::new(Balancer::new(Policy::RoundRobin), 4, NO_AGING);
        (1..=workers).for_each(|id| floor.join(Desk::new(id, 1)));
        (1..=workers).for_each(|job| arrive(&mut floor, job, Priority::Low));
        assert_eq!(floor.turn(0, |_| Grip::Firm).len(), workers as usize);
        floor
    }

    fn arrive(floor: &mut Floor, job: JobId, priority: Priority) {
        floor.arrive(job, Card::new(priority, Rank::new(priority, u64::MAX, job), 1, None), 0);
    }

    /// Who is told in a turn, all of whom run and heed it.
    fn told(floor: &mut Floor, now: u64, runs: &[JobId]) -> Vec<JobId> {
        let actions = floor.turn(now, |job| if runs.contains(&job) { Grip::Runs } else { Grip::Firm });
        let mut told = Vec::new();
        for action in actions {
            if let Action::Displace { job, by } = action {
                floor.note_told(job, by, now + 100);
                told.push(job);
            }
        }
        told
    }

    #[test]
    fn who_runs_is_told_once_and_another_only_when_its_grace_is_over() {
        let mut floor = full(3);
        arrive(&mut floor, 10, Priority::High);
        // Queued at the first worker, whose own job goes before those elsewhere although they are younger.
        assert_eq!(told(&mut floor, 0, &[1, 2, 3]), [1]);
        assert_eq!(told(&mut floor, 99, &[1, 2, 3]), [0; 0]);
        assert_eq!(told(&mut floor, 100, &[1, 2, 3]), [3], "the youngest of the others");
        floor.come_back(3, 101);
        assert_eq!(floor.turn(101, |_| Grip::Firm), [Action::Start { job: 10, worker: 3 }]);
        assert_eq!(
            told(&mut floor, 300, &[1, 2, 3]),
            [0; 0],
            "one that was told is not told again, and nobody is urgent"
        );
    }

    #[test]
    fn one_that_waits_goes_before_one_that_runs_and_equals_never_go() {
        let mut floor = full(1);
        arrive(&mut floor, 2, Priority::Low);
        assert_eq!(told(&mut floor, 0, &[1]), [0; 0]);
        let mut floor = Floor::new(Balancer::new(Policy::RoundRobin), 4, NO_AGING);
        floor.join(Desk::new(1, 2));
        (1..=2).for_each(|job| arrive(&mut floor, job, Priority::Idle));
        floor.turn(0, |_| Grip::Firm);
        arrive(&mut floor, 3, Priority::Critical);
        let grip = |job| if job == 1 { Grip::Waits } else { Grip::Runs };
        assert_eq!(floor.turn(0, grip), [Action::Displace { job: 1, by: 3 }]);
    }

    #[test]
    fn as_many_are_told_as_wait_and_never_two_at_one_worker() {
        let mut floor = full(3);
        (10..=11).for_each(|job| arrive(&mut floor, job, Priority::Critical));
        assert_eq!(told(&mut floor, 0, &[1, 2, 3]), [1, 2]);
        (12..=15).for_each(|job| arrive(&mut floor, job, Priority::Critical));
        assert_eq!(told(&mut floor, 1, &[1, 2, 3]), [3]);
        assert_eq!(told(&mut floor, 2, &[1, 2, 3]), [0; 0]);
    }

    /// R13: what comes back is for whom it was asked, and only a higher level passes.
    #[test]
    fn a_seat_that_was_given_up_for_somebody_is_his_unless_a_higher_level_comes() {
        for (later, gets_it) in [(Priority::High, 10), (Priority::Critical, 4)] {
            let mut floor = full(1);
            arrive(&mut floor, 10, Priority::High);
            assert_eq!(told(&mut floor, 0, &[1]), [1]);
            // It goes before the other of its level, by its number.
            arrive(&mut floor, 4, later);
            floor.give_way(1, 5);
            assert_eq!(floor.turn(5, |_| Grip::Firm), [Action::Start { job: gets_it, worker: 1 }]);
        }
    }

    /// R8: who has only waited long takes the seat of one that waits, and of none that runs.
    #[test]
    fn who_runs_gives_way_to_a_level_that_was_given_and_to_none_that_was_reached_by_waiting() {
        let mut floor = full(1);
        // Given LOW, and HIGH by now.
        let risen = Card::new(Priority::Low, Rank::new(Priority::High, 0, 3), 1, None);
        floor.arrive(3, risen, 0);
        assert_eq!(floor.turn(1, |_| Grip::Runs), []);
        assert_eq!(floor.turn(2, |_| Grip::Waits), [Action::Displace { job: 1, by: 3 }]);
        arrive(&mut floor, 4, Priority::Normal);
        assert_eq!(floor.turn(3, |_| Grip::Runs), [Action::Displace { job: 1, by: 4 }]);
        assert_eq!(
            floor.desks()[0].head().map(|(_, job)| job),
            Some(3),
            "the one that has risen goes first all the same"
        );
    }
}
