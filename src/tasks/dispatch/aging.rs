//! Jobs that gain levels while they wait (C4): in a queue, or in a seat for their resources, but not while they run.
//! One that runs when it would have gained a level has its clock started again when it has lost its seat; if it waits
//! in that once more before, it gains levels in the queue of the scheduler only.

use crate::tasks::handle::Grip;

use super::floor::{Card, Floor, JobId, Place};

impl Floor {
    /// When the next thing is due that time alone brings about: a level that is gained, or the end of a grace.
    pub(super) fn due(&self) -> Option<u64> {
        let raise = self.raises.first().map(|(at, _)| *at);
        let graces = self.desks().iter().flat_map(|desk| desk.told.values().map(|told| told.until));
        // Those that are over have had their effect.
        raise.into_iter().chain(graces.filter(|until| *until > self.now)).min()
    }

    /// The clock of a job that waits again runs, unless it has all the time.
    pub(super) fn start_clock(&mut self, job: JobId, now: u64) {
        let Some((card, _)) = self.jobs.get_mut(&job) else { return };
        if card.raise_at == u64::MAX {
            card.raise_at = self.aging.due(card.rank.level(), now);
            if card.raise_at != u64::MAX {
                self.raises.insert((card.raise_at, job));
            }
        }
    }

    pub(super) fn stop_clock(&mut self, job: JobId, card: &mut Card) {
        self.raises.remove(&(card.raise_at, job));
        card.raise_at = u64::MAX;
    }

    /// Raises everybody whose time has come. One that runs by then has stopped its clock.
    pub(super) fn age(&mut self, now: u64, grip: impl Fn(JobId) -> Grip) {
        self.now = now;
        while let Some(&(due, job)) = self.raises.first().filter(|(due, _)| *due <= now) {
            self.raises.pop_first();
            let Some((card, place)) = self.jobs.get_mut(&job) else { continue };
            card.raise_at = u64::MAX;
            if matches!(place, Place::Seated(_)) && grip(job) != Grip::Waits {
                continue;
            }
            let rank = self.aging.raised(card.rank, due);
            self.rank_anew(job, rank);
            self.start_clock(job, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::desk::Desk;
    use super::super::floor::Action;
    use super::*;
    use crate::model::Priority;
    use crate::policy::balance::{Balancer, Policy};
    use crate::policy::{Aging, Rank};

    /// One worker with one seat, on which a CRITICAL job runs that has the number one.
    fn busy(idle: bool) -> Floor {
        let aging = Aging { step: 10, idle, horizon: 5 };
        let mut floor = Floor::new(Balancer::new(Policy::LeastLoaded), 4, aging);
        floor.join(Desk::new(1, 1));
        arrive(&mut floor, 1, Priority::Critical, 0);
        assert_eq!(floor.turn(0, |_| Grip::Firm).len(), 1);
        floor
    }

    fn arrive(floor: &mut Floor, job: JobId, priority: Priority, now: u64) {
        floor.arrive(job, Card::new(priority, Rank::new(priority, now + 5, job), 1, None), now);
    }

    fn queue(floor: &mut Floor, now: u64) -> Vec<JobId> {
        assert_eq!(floor.turn(now, |_| Grip::Firm), []);
        floor.desks()[0].queue.values().copied().collect()
    }

    #[test]
    fn c4_who_waits_gains_a_level_every_step_up_to_high_and_idle_only_where_it_ages() {
        for (idle, in_the_end) in [(true, [4, 3, 5, 6, 2, 7]), (false, [4, 3, 5, 6, 7, 2])] {
            let mut floor = busy(idle);
            arrive(&mut floor, 2, Priority::Idle, 0);
            arrive(&mut floor, 3, Priority::Low, 0);
            assert_eq!((queue(&mut floor, 0), floor.due()), (vec![3, 2], Some(10)));
            // Three is HIGH from 20 on, as if it had come then; its deadline, for order, is 25.
            arrive(&mut floor, 4, Priority::High, 19);
            arrive(&mut floor, 5, Priority::High, 21);
            assert_eq!(queue(&mut floor, 25), [4, 3, 5, 2]);
            arrive(&mut floor, 6, Priority::High, 29);
            arrive(&mut floor, 7, Priority::High, 31);
            assert_eq!(queue(&mut floor, 31), in_the_end);
            assert_eq!(floor.due(), None, "nobody rises above HIGH");
        }
    }

    #[test]
    fn who_runs_gains_nothing_and_its_clock_begins_anew_when_it_waits_again() {
        let mut floor = busy(false);
        floor.remove(1);
        arrive(&mut floor, 2, Priority::Low, 0);
        assert_eq!(floor.turn(5, |_| Grip::Waits), [Action::Start { job: 2, worker: 1 }]);
        let level = |floor: &Floor| floor.jobs[&2].0.rank.level();
        // It waits in its seat for its resources, and then it runs.
        floor.turn(10, |_| Grip::Waits);
        assert_eq!((level(&floor), floor.due()), (Priority::Normal, Some(20)));
        floor.turn(20, |_| Grip::Runs);
        assert_eq!((level(&floor), floor.due()), (Priority::Normal, None));
        floor.give_way(2, 47);
        assert_eq!((level(&floor), floor.due()), (Priority::Normal, Some(57)));
        // Nor does one that is away between two attempts.
        floor.go_away(2);
        assert_eq!(floor.due(), None);
    }
}
