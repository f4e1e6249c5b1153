//! Who waits where and who runs where: the books of a dispatcher. No clock, no lock, no task.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::Priority;
use crate::policy::Rank;
use crate::policy::balance::{Balancer, Job, Placed, State, Worker, even_out};
use crate::tasks::handle::Grip;

use super::desk::Desk;

pub(super) type JobId = u64;
pub(super) type WorkerId = u64;

/// What the dispatcher has to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A job gets a seat.
    Start { job: JobId, worker: WorkerId },
    /// A job that has a seat has to give it up to a more urgent one.
    Displace { job: JobId, by: JobId },
}

/// What is known of a job.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub priority: Priority,
    pub rank: Rank,
    pub cost: u64,
    pub key: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// No worker takes tasks.
    Nowhere,
    Queued(WorkerId),
    Seated(WorkerId),
    /// Waits for another attempt.
    Away,
}

/// The books.
#[derive(Debug)]
pub(super) struct Floor {
    balancer: Balancer,
    /// Moves of queued jobs in one turn.
    moves_per_turn: usize,
    jobs: BTreeMap<JobId, (Card, Place)>,
    /// Those that no worker takes.
    nowhere: BTreeMap<Rank, JobId>,
    desks: Vec<Desk>,
    /// Whether queued jobs may lie better elsewhere.
    uneven: bool,
    pub moves: u64,
}

impl Floor {
    pub(super) fn new(balancer: Balancer, moves_per_turn: usize) -> Self {
        Floor {
            balancer,
            moves_per_turn,
            jobs: BTreeMap::new(),
            nowhere: BTreeMap::new(),
            desks: Vec::new(),
            uneven: false,
            moves: 0,
        }
    }

    pub(super) fn desks(&self) -> &[Desk] {
        &self.desks
    }

    /// Jobs that have no seat.
    pub(super) fn queued(&self) -> usize {
        self.nowhere.len() + self.desks.iter().map(|desk| desk.queue.len()).sum::<usize>()
    }

    /// Jobs that no worker takes.
    pub(super) fn unassigned(&self) -> usize {
        self.nowhere.len()
    }

    /// Whether there is no worker that will take a job again.
    pub(super) fn has_nobody(&self) -> bool {
        self.desks.iter().all(|desk| desk.state() == State::Draining)
    }

    pub(super) fn is_seated(&self, job: JobId) -> bool {
        matches!(self.jobs.get(&job), Some((_, Place::Seated(_))))
    }

    fn desk(&mut self, id: WorkerId) -> Option<&mut Desk> {
        self.desks.iter_mut().find(|desk| desk.id == id)
    }

    pub(super) fn rank_of(&self, job: JobId) -> Option<Rank> {
        Some(self.jobs.get(&job)?.0.rank)
    }

    /// The worker where a job has a seat.
    pub(super) fn desk_of(&mut self, job: JobId) -> Option<&mut Desk> {
        match self.jobs.get(&job)?.1 {
            Place::Seated(worker) => self.desk(worker),
            _ => None,
        }
    }

    /// A job comes, or comes back with the rank it had.
    pub(super) fn arrive(&mut self, job: JobId, card: Card) {
        self.nowhere.insert(card.rank, job);
        self.jobs.insert(job, (card, Place::Nowhere));
    }

    /// A job that was away, or was withdrawn, waits again where the policy puts it.
    pub(super) fn come_back(&mut self, job: JobId) {
        if let Some((card, _)) = self.lift(job) {
            self.arrive(job, card);
        }
    }

    /// A job waits for another attempt, without a seat.
    pub(super) fn go_away(&mut self, job: JobId) {
        if let Some((card, _)) = self.lift(job) {
            self.jobs.insert(job, (card, Place::Away));
        }
    }

    /// A job is over.
    pub(super) fn remove(&mut self, job: JobId) {
        self.lift(job);
    }

    /// Takes a job out of wherever it is.
    fn lift(&mut self, job: JobId) -> Option<(Card, Place)> {
        let (card, place) = self.jobs.remove(&job)?;
        match place {
            Place::Nowhere => drop(self.nowhere.remove(&card.rank)),
            Place::Away => {}
            Place::Queued(worker) => {
                if let Some(desk) = self.desk(worker) {
                    desk.queue.remove(&card.rank);
                    desk.queued_cost = desk.queued_cost.saturating_sub(card.cost);
                }
                self.sweep();
            }
            Place::Seated(worker) => {
                if let Some(desk) = self.desk(worker) {
                    desk.seated.remove(&job);
                    desk.told.remove(&job);
                    desk.running_cost = desk.running_cost.saturating_sub(card.cost);
                }
                self.sweep();
            }
        }
        Some((card, place))
    }

    /// Forgets workers that have left and have nothing more to do.
    fn sweep(&mut self) {
        self.desks.retain(|desk| !desk.left || !desk.seated.is_empty() || !desk.queue.is_empty());
    }

    fn queue_at(&mut self, job: JobId, worker: WorkerId) {
        let Some((card, _)) = self.lift(job) else { return };
        if let Some(desk) = self.desk(worker) {
            desk.queue.insert(card.rank, job);
            desk.queued_cost = desk.queued_cost.saturating_add(card.cost);
            self.jobs.insert(job, (card, Place::Queued(worker)));
        } else {
            self.arrive(job, card);
        }
    }

    pub(super) fn join(&mut self, desk: Desk) {
        self.desks.push(desk);
        self.uneven = true;
    }

    /// A worker takes no more tasks. Those that are queued there go back to wait for another, and are returned.
    pub(super) fn stop(&mut self, worker: WorkerId, for_good: bool) -> Vec<JobId> {
        self.uneven = true;
        let Some(desk) = self.desk(worker) else { return Vec::new() };
        desk.draining = true;
        desk.left |= for_good;
        let queued: Vec<JobId> = desk.queue.values().copied().collect();
        queued.iter().for_each(|&job| self.come_back(job));
        self.sweep();
        queued
    }

    /// A worker says how much it has to do.
    pub(super) fn report(&mut self, worker: WorkerId, load: u64) {
        self.uneven = true;
        if let Some(desk) = self.desk(worker) {
            desk.offset = i128::from(load) - i128::from(desk.running_cost) - i128::from(desk.queued_cost);
        }
    }

    pub(super) fn hold(&mut self, worker: WorkerId, key: Arc<str>, holds: bool) {
        self.uneven = true;
        if let Some(desk) = self.desk(worker) {
            if holds {
                desk.keys.insert(key)
            } else {
                desk.keys.remove(&key)
            };
        }
    }

    /// What a job has shown of its worker: how long it took, at `now`, and whether it failed.
    pub(super) fn note(&mut self, job: JobId, nanos: u64, failed: bool, now: u64) {
        let Some(&(Card { cost, .. }, Place::Seated(worker))) = self.jobs.get(&job) else { return };
        let Some(desk) = self.desk(worker) else { return };
        desk.times.record(nanos);
        let was = desk.health.is_failing();
        desk.health.record(failed, now);
        if failed {
            desk.failed += 1;
        } else {
            desk.done += 1;
            // A failure that was fast is no sign of speed.
            desk.service.record(cost, nanos, now);
        }
        if desk.health.is_failing() != was {
            self.uneven = true;
        }
    }

    /// Time has passed: queued jobs may lie better elsewhere.
    pub(super) fn tick(&mut self) {
        self.uneven = true;
    }

    /// Settles everything: each job gets a worker, queued ones move where they lie better, seats that are free are
    /// taken, and who sits where a more urgent one waits gives way. `grip` says how a job that has a seat could be made
    /// to.
    pub(super) fn turn(&mut self, now: u64, grip: impl Fn(JobId) -> Grip) -> Vec<Action> {
        // Workers that failed may have another try.
        self.desks.iter_mut().for_each(|desk| desk.health.tick(now));
        self.assign();
        if std::mem::take(&mut self.uneven) {
            self.even_out();
        }
        let mut actions = Vec::new();
        while let Some((job, worker)) = self.next_start() {
            self.seat(job, worker);
            actions.push(Action::Start { job, worker });
        }
        actions.extend(self.displaced(now, grip));
        actions
    }

    fn assign(&mut self) {
        for job in self.nowhere.values().copied().collect::<Vec<_>>() {
            let Some((card, _)) = self.jobs.get(&job) else { continue };
            let views: Vec<Worker> = self.desks.iter().map(|desk| desk.view(card.key.as_ref())).collect();
            let asked = Job { priority: card.priority, cost: card.cost };
            let Some(at) = self.balancer.choose(&asked, &views) else { return };
            self.queue_at(job, self.desks[at].id);
        }
    }

    fn even_out(&mut self) {
        let views: Vec<Worker> = self.desks.iter().map(|desk| desk.view(None)).collect();
        let (mut placed, mut ids) = (Vec::new(), Vec::new());
        for (worker, desk) in self.desks.iter().enumerate() {
            for (&rank, &job) in &desk.queue {
                let Some((card, _)) = self.jobs.get(&job) else { continue };
                let stays = card.key.as_ref().is_some_and(|key| desk.keys.contains(key));
                placed.push(Placed { worker, job: Job { priority: card.priority, cost: card.cost }, rank, stays });
                ids.push(job);
            }
        }
        let moves = even_out(&views, &placed, self.moves_per_turn);
        // There may be more to move; the next turn goes on.
        self.uneven = !moves.is_empty() && moves.len() == self.moves_per_turn;
        for to in moves {
            self.queue_at(ids[to.task], self.desks[to.to].id);
            self.moves += 1;
        }
    }

    /// Whether another turn would move more.
    pub(super) fn is_uneven(&self) -> bool {
        self.uneven
    }

    /// The next job that gets a seat: the first of all that a worker with room can take. A worker takes its own, unless
    /// one of a higher level waits where there is no room, or it has none of its own.
    fn next_start(&self) -> Option<(JobId, WorkerId)> {
        let full = self.desks.iter().filter(|desk| !desk.has_room());
        let urgent = full.filter_map(|desk| self.first_that_may_move(desk)).min();
        let start = |desk: &Desk| {
            let own = desk.queue.first_key_value().map(|(rank, job)| (*rank, *job));
            let other = urgent.filter(|(theirs, _)| own.is_none_or(|(mine, _)| theirs.level() < mine.level()));
            other.or(own).map(|(rank, job)| (rank, job, desk.id))
        };
        let able = |desk: &&Desk| desk.has_room() && (desk.state() == State::Active || !desk.queue.is_empty());
        let next = self.desks.iter().filter(able).filter_map(start).min_by_key(|(rank, ..)| *rank);
        next.map(|(_, job, worker)| (job, worker))
    }

    /// The first job of a queue, if its worker does not hold its key.
    pub(super) fn first_that_may_move(&self, desk: &Desk) -> Option<(Rank, JobId)> {
        let (rank, job) = desk.queue.first_key_value()?;
        let (card, _) = self.jobs.get(job)?;
        let stays = card.key.as_ref().is_some_and(|key| desk.keys.contains(key));
        (!stays).then_some((*rank, *job))
    }

    fn seat(&mut self, job: JobId, worker: WorkerId) {
        let Some((card, place)) = self.lift(job) else { return };
        if place != Place::Queued(worker) {
            self.moves += 1;
        }
        if let Some(desk) = self.desk(worker) {
            desk.seated.insert(job);
            desk.running_cost = desk.running_cost.saturating_add(card.cost);
        }
        self.jobs.insert(job, (card, Place::Seated(worker)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::balance::Policy;

    /// Nobody gives up a seat.
    fn firm(_job: JobId) -> Grip {
        Grip::Firm
    }

    fn floor(policy: Policy, desks: u64) -> Floor {
        let mut floor = Floor::new(Balancer::new(policy), 4);
        (1..=desks).for_each(|id| floor.join(Desk::new(id, 1)));
        floor
    }

    fn arrive(floor: &mut Floor, job: JobId, priority: Priority, cost: u64) {
        floor.arrive(job, Card { priority, rank: Rank::new(priority, u64::MAX, job), cost, key: None });
    }

    fn start(job: JobId, worker: WorkerId) -> Action {
        Action::Start { job, worker }
    }

    /// Theirs runs a task and loses it; here every job is in exactly one place whatever happens to the workers.
    #[test]
    fn a_job_is_in_exactly_one_place_whatever_comes_and_goes() {
        let mut dice = fastrand::Rng::with_seed(11);
        let mut floor = floor(Policy::TwoChoices { seed: 3 }, 2);
        let (mut live, mut next) = (BTreeSet::new(), 100);
        for step in 0..4_000 {
            next += 1;
            let some = live.iter().nth(dice.usize(..live.len().max(1))).copied();
            match (dice.u8(..8), some) {
                (0..3, _) => {
                    arrive(&mut floor, next, Priority::ALL[dice.usize(..5)], dice.u64(1..50));
                    live.insert(next);
                }
                (3, _) if floor.desks.len() < 6 => floor.join(Desk::new(next, dice.u32(1..4))),
                (4, _) if !floor.desks.is_empty() => {
                    let worker = floor.desks[dice.usize(..floor.desks.len())].id;
                    floor.stop(worker, dice.bool());
                }
                (5, Some(job)) => {
                    floor.note(job, 5, dice.u8(..3) == 0, step);
                    floor.remove(job);
                    live.remove(&job);
                }
                (6, Some(job)) => floor.go_away(job),
                (_, Some(job)) => floor.come_back(job),
                _ => floor.tick(),
            }
            let grips = [Grip::Waits, Grip::Runs, Grip::Firm];
            for action in floor.turn(step, |job| grips[job as usize % 3]) {
                match action {
                    Action::Displace { job, .. } if job % 3 == 0 => floor.come_back(job),
                    Action::Displace { job, by } => floor.note_told(job, by, step + 5),
                    Action::Start { .. } => {}
                }
            }
            // A job that was told stops some time later.
            let told: Vec<JobId> = floor.desks.iter().flat_map(|desk| desk.told.keys().copied()).collect();
            told.into_iter().filter(|_| dice.u8(..4) == 0).for_each(|job| floor.come_back(job));
            let seated: usize = floor.desks.iter().map(|desk| desk.seated.len()).sum();
            let away = floor.jobs.values().filter(|(_, place)| *place == Place::Away).count();
            assert_eq!(floor.queued() + seated + away, live.len());
            assert!(live.iter().eq(floor.jobs.keys()));
            for desk in &floor.desks {
                assert!(desk.seated.len() <= desk.capacity as usize);
                assert!(desk.told.keys().all(|job| desk.seated.contains(job)));
                let cost = |jobs: &mut dyn Iterator<Item = &JobId>| jobs.map(|job| floor.jobs[job].0.cost).sum::<u64>();
                assert_eq!(desk.queued_cost, cost(&mut desk.queue.values()));
                assert_eq!(desk.running_cost, cost(&mut desk.seated.iter()));
            }
        }
    }

    #[test]
    fn an_urgent_job_takes_the_place_of_one_that_waits_and_none_that_runs() {
        let mut floor = floor(Policy::LeastLoaded, 1);
        arrive(&mut floor, 1, Priority::Low, 5);
        assert_eq!(floor.turn(0, |_| Grip::Waits), [start(1, 1)]);
        arrive(&mut floor, 2, Priority::Critical, 5);
        assert_eq!(floor.turn(0, firm), []);
        assert_eq!(floor.turn(0, |_| Grip::Waits), [Action::Displace { job: 1, by: 2 }]);
        floor.come_back(1);
        assert_eq!(floor.turn(0, |_| Grip::Waits), [start(2, 1)]);
        arrive(&mut floor, 3, Priority::Critical, 5);
        assert_eq!(floor.turn(0, |_| Grip::Waits), [], "equals never displace each other");
    }

    #[test]
    fn a_worker_with_room_takes_what_waits_elsewhere_but_its_own_first_inside_a_level() {
        let mut floor = floor(Policy::RoundRobin, 2);
        (1..=4).for_each(|job| arrive(&mut floor, job, Priority::Normal, 1));
        assert_eq!(floor.turn(0, firm), [start(1, 1), start(2, 2)]);
        // Three is queued at the first, four at the second.
        floor.remove(2);
        assert_eq!(floor.turn(0, firm), [start(4, 2)]);
        floor.remove(4);
        assert_eq!(floor.turn(0, firm), [start(3, 2)]);
        assert_eq!(floor.moves, 1);
        arrive(&mut floor, 5, Priority::Normal, 1);
        arrive(&mut floor, 6, Priority::Normal, 1);
        arrive(&mut floor, 7, Priority::High, 1);
        floor.turn(0, firm);
        floor.remove(3);
        assert_eq!(floor.turn(0, firm), [start(7, 2)]);
    }
}
