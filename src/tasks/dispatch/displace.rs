//! Who gives up a seat so that a job of a higher level does not wait for one (C8, as far as seats go).
//!
//! A seat is for a job that waits for its resources or runs. When the first in some queue finds all seats taken, one of
//! those of lower levels gives way: one that waits before one that runs, at its own worker before another, and of these
//! the last in rank. Of those that run only preemptible ones are told, one at a time at each worker; the next when that
//! one has gone, or has not within the grace. Equals never displace each other.

use std::collections::BTreeSet;

use crate::policy::Rank;
use crate::policy::balance::State;
use crate::tasks::handle::Grip;

use super::desk::{Desk, Told};
use super::floor::{Action, Floor, JobId};

impl Floor {
    /// Who has to give up a seat now, at most one at each worker. `grip` says how a job that has a seat could be made
    /// to.
    pub(super) fn displaced(&self, now: u64, grip: impl Fn(JobId) -> Grip) -> Vec<Action> {
        let mut heads: Vec<(Rank, JobId, usize)> =
            self.full_desks().filter_map(|(at, desk)| desk.head().map(|(rank, job)| (rank, job, at))).collect();
        heads.sort_unstable();
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
        for (rank, head, at) in heads {
            if yielding.contains(&at) || awaited.contains(&head) {
                continue;
            }
            let own = self.who_yields(at, rank, &grip).map(|(_, job)| (at, job));
            let found = own.or_else(|| self.who_yields_elsewhere(at, rank, &yielding, &grip));
            if let Some((from, job)) = found {
                yielding.insert(from);
                actions.push(Action::Displace { job, by: head });
            }
        }
        actions
    }

    /// A job was told to give up its seat to another, and runs until it has. It is not told again.
    pub(super) fn note_told(&mut self, job: JobId, gives_way_to: JobId, until: u64) {
        if let Some(desk) = self.desk_of(job) {
            desk.told.insert(job, Told { gives_way_to, until });
        }
    }

    /// The same at another worker, if the first in the queue may go there.
    fn who_yields_elsewhere(
        &self,
        at: usize,
        to: Rank,
        yielding: &BTreeSet<usize>,
        grip: impl Fn(JobId) -> Grip,
    ) -> Option<(usize, JobId)> {
        self.first_that_may_move(&self.desks()[at])?;
        let others = self.full_desks().filter(|(other, _)| !yielding.contains(other));
        let found = others.filter_map(|(other, _)| Some((self.who_yields(other, to, &grip)?, other)));
        found.max().map(|((_, job), other)| (other, job))
    }

    /// Workers that take jobs and have no room, with their positions.
    fn full_desks(&self) -> impl Iterator<Item = (usize, &Desk)> {
        self.desks().iter().enumerate().filter(|(_, desk)| desk.state() == State::Active && !desk.has_room())
    }

    /// The best of those that sit at a worker to give way to a rank: whether it waits, and its own rank.
    fn who_yields(&self, at: usize, to: Rank, grip: impl Fn(JobId) -> Grip) -> Option<((bool, Rank), JobId)> {
        let desk = &self.desks()[at];
        let able = |&job: &JobId| {
            let rank = self.rank_of(job).filter(|rank| rank.level() > to.level() && !desk.told.contains_key(&job))?;
            match grip(job) {
                Grip::Waits => Some(((true, rank), job)),
                Grip::Runs => Some(((false, rank), job)),
                Grip::Firm => None,
            }
        };
        desk.seated.iter().filter_map(able).max()
    }
}

#[cfg(test)]
mod tests {
    use super::super::floor::{Card, WorkerId};
    use super::*;
    use crate::model::Priority;
    use crate::policy::balance::{Balancer, Policy};

    /// Workers with one seat each, on which LOW jobs sit that have the numbers of the workers.
    fn full(workers: WorkerId) -> Floor {
        let mut floor = Floor::new(Balancer::new(Policy::RoundRobin), 4);
        (1..=workers).for_each(|id| floor.join(Desk::new(id, 1)));
        (1..=workers).for_each(|job| arrive(&mut floor, job, Priority::Low));
        assert_eq!(floor.turn(0, |_| Grip::Firm).len(), workers as usize);
        floor
    }

    fn arrive(floor: &mut Floor, job: JobId, priority: Priority) {
        floor.arrive(job, Card { priority, rank: Rank::new(priority, u64::MAX, job), cost: 1, key: None });
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
        floor.come_back(3);
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
        let mut floor = Floor::new(Balancer::new(Policy::RoundRobin), 4);
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
}
