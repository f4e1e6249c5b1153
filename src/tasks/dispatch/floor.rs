//! Who waits where and who runs where: the books of a dispatcher. No clock, no lock, no task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::Priority;
use crate::policy::balance::{Balancer, Job, Placed, State, Worker, even_out};
use crate::policy::{Aging, Rank};
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
    /// A job waits for its resources in a seat of a worker that takes no more, and need not run there.
    Strand { job: JobId, worker: WorkerId },
}

/// What is known of a job.
#[derive(Debug, Clone)]
pub(super) struct Card {
    /// The level that it was given.
    pub priority: Priority,
    /// With the level that it has come to by waiting.
    pub rank: Rank,
    pub cost: u64,
    pub key: Option<Arc<str>>,
    /// When it gains the next level, if it still waits then; `u64::MAX` for never.
    pub raise_at: u64,
}

impl Card {
    pub(super) fn new(priority: Priority, rank: Rank, cost: u64, key: Option<Arc<str>>) -> Self {
        Card { priority, rank, cost, key, raise_at: u64::MAX }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
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
    pub(super) jobs: BTreeMap<JobId, (Card, Place)>,
    /// Those that no worker takes.
    pub(super) nowhere: BTreeMap<Rank, JobId>,
    desks: Vec<Desk>,
    pub(super) aging: Aging,
    /// When whose level rises.
    pub(super) raises: BTreeSet<(u64, JobId)>,
    /// The time of the last turn.
    pub(super) now: u64,
    /// Whether queued jobs may lie better elsewhere.
    uneven: bool,
    pub moves: u64,
}

impl Floor {
    pub(super) fn new(balancer: Balancer, moves_per_turn: usize, aging: Aging) -> Self {
        Floor {
            balancer,
            aging,
            raises: BTreeSet::new(),
            now: 0,
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

    pub(super) fn desk(&mut self, id: WorkerId) -> Option<&mut Desk> {
        self.desks.iter_mut().find(|desk| desk.id == id)
    }

    /// The worker where a job has a seat.
    pub(super) fn desk_of(&mut self, job: JobId) -> Option<&mut Desk> {
        match self.jobs.get(&job)?.1 {
            Place::Seated(worker) => self.desk(worker),
            _ => None,
        }
    }

    /// A job comes, or comes back with the rank it had.
    pub(super) fn arrive(&mut self, job: JobId, card: Card, now: u64) {
        self.nowhere.insert(card.rank, job);
        self.jobs.insert(job, (card, Place::Nowhere));
        self.start_clock(job, now);
    }

    /// A job that was away, or was withdrawn, waits again where the policy puts it.
    pub(super) fn come_back(&mut self, job: JobId, now: u64) {
        if let Some((card, _)) = self.lift(job) {
            self.arrive(job, card, now);
        }
    }

    /// A job that ran has given up its seat, and waits again from now on.
    pub(super) fn give_way(&mut self, job: JobId, now: u64) {
        if let Some((mut card, _)) = self.lift(job) {
            self.stop_clock(job, &mut card);
            self.arrive(job, card, now);
        }
    }

    /// A job waits for another attempt, without a seat.
    pub(super) fn go_away(&mut self, job: JobId) {
        if let Some((mut card, _)) = self.lift(job) {
            self.stop_clock(job, &mut card);
            self.jobs.insert(job, (card, Place::Away));
        }
    }

    /// A job is given a higher level. There it stands where it would if it had been given that when it arrived; its
    /// clock runs on.
    pub(super) fn raise(&mut self, job: JobId, priority: Priority) {
        let Some((card, _)) = self.jobs.get_mut(&job) else { return };
        card.priority = priority;
        if priority < card.rank.level() {
            let rank = Rank::new(priority, card.rank.order_by(), card.rank.arrival());
            self.rank_anew(job, rank);
            self.uneven = true;
        }
    }

    /// Another rank for a job, wherever it is.
    pub(super) fn rank_anew(&mut self, job: JobId, rank: Rank) {
        let Some((card, place)) = self.jobs.get_mut(&job) else { return };
        let old = std::mem::replace(&mut card.rank, rank);
        match *place {
            Place::Nowhere => {
                self.nowhere.remove(&old);
                self.nowhere.insert(rank, job);
            }
            Place::Queued(worker) => {
                if let Some(desk) = self.desk(worker) {
                    desk.queue.remove(&old);
                    desk.queue.insert(rank, job);
                }
            }
            Place::Seated(_) | Place::Away => {}
        }
    }

    /// A job is over.
    pub(super) fn remove(&mut self, job: JobId) {
        if let Some((mut card, _)) = self.lift(job) {
            self.stop_clock(job, &mut card);
        }
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
                    if let Some(told) = desk.told.remove(&job) {
                        desk.kept_for = Some(told.gives_way_to);
                    }
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
            self.nowhere.insert(card.rank, job);
            self.jobs.insert(job, (card, Place::Nowhere));
        }
    }

    pub(super) fn join(&mut self, desk: Desk) {
        self.desks.push(desk);
        self.uneven = true;
    }

    /// A worker takes no more tasks. Those that are queued there go back to wait for another, and are returned.
    pub(super) fn stop(&mut self, worker: WorkerId, for_good: bool, now: u64) -> Vec<JobId> {
        self.uneven = true;
        let Some(desk) = self.desk(worker) else { return Vec::new() };
        desk.draining = true;
        desk.left |= for_good;
        let queued: Vec<JobId> = desk.queue.values().copied().collect();
        queued.iter().for_each(|&job| self.come_back(job, now));
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
        self.age(now, &grip);
        self.assign();
        if std::mem::take(&mut self.uneven) {
            self.even_out();
        }
        let mut actions = Vec::new();
        while let Some((job, worker)) = self.next_start() {
            self.seat(job, worker);
            actions.push(Action::Start { job, worker });
        }
        // Whoever a seat was kept for has it, or somebody more urgent.
        self.desks.iter_mut().for_each(|desk| desk.kept_for = None);
        actions.extend(self.stranded(&grip));
        actions.extend(self.displaced(now, grip));
        actions
    }

    /// Those that wait for their resources at workers that take no more.
    fn stranded(&self, grip: impl Fn(JobId) -> Grip) -> Vec<Action> {
        let closed = self.desks.iter().filter(|desk| desk.state() == State::Draining);
        let seated = closed.flat_map(|desk| desk.seated.iter().map(|&job| (job, desk.id)));
        let waits = seated.filter(|&(job, _)| grip(job) == Grip::Waits);
        waits.map(|(job, worker)| Action::Strand { job, worker }).collect()
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
    /// one of a higher level waits where there is no room, or it has none of its own. What somebody gave up for another
    /// is for that one, whom only a higher level passes (R13).
    fn next_start(&self) -> Option<(JobId, WorkerId)> {
        let full = self.desks.iter().filter(|desk| !desk.has_room());
        let urgent = full.filter_map(|desk| self.first_that_may_move(desk)).min();
        let start = |desk: &Desk| {
            let own = desk.head();
            let kept = desk.kept_for.and_then(|job| Some((self.queued_rank(job)?, job)));
            let first = kept.filter(|(kept, _)| own.is_none_or(|(mine, _)| kept.level() <= mine.level())).or(own);
            let other = urgent.filter(|(theirs, _)| first.is_none_or(|(mine, _)| theirs.level() < mine.level()));
            other.or(first).map(|(rank, job)| (rank, job, desk.id))
        };
        let able = |desk: &&Desk| desk.has_room() && (desk.state() == State::Active || !desk.queue.is_empty());
        let next = self.desks.iter().filter(able).filter_map(start).min_by_key(|(rank, ..)| *rank);
        next.map(|(_, job, worker)| (job, worker))
    }

    /// The first job of a queue, if its worker does not hold its key.
    fn first_that_may_move(&self, desk: &Desk) -> Option<(Rank, JobId)> {
        desk.head().filter(|&(_, job)| self.may_move(job, desk))
    }

    /// Whether the worker where a job is queued does not hold its key.
    pub(super) fn may_move(&self, job: JobId, desk: &Desk) -> bool {
        let key = self.jobs.get(&job).and_then(|(card, _)| card.key.as_ref());
        key.is_none_or(|key| !desk.keys.contains(key))
    }

    /// The rank of a job that is queued at some worker.
    fn queued_rank(&self, job: JobId) -> Option<Rank> {
        let (card, place) = self.jobs.get(&job)?;
        matches!(place, Place::Queued(_)).then_some(card.rank)
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
mod tests;
