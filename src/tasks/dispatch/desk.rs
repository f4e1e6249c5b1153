//! What is known of a worker: who is queued there, who has a seat, and what it has shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::observe::Times;
use crate::policy::Rank;
use crate::policy::balance::{Service, State, Worker};

use super::floor::{JobId, WorkerId};
use super::health::Health;

/// A job that was told to give up its seat.
#[derive(Debug)]
pub(super) struct Told {
    /// The one that waits for it.
    pub gives_way_to: JobId,
    /// For so long nobody else is told instead.
    pub until: u64,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Desk {
    pub id: WorkerId,
    pub capacity: u32,
    pub queue: BTreeMap<Rank, JobId>,
    pub seated: BTreeSet<JobId>,
    /// Those of the seated that were told to give up their seat while they ran.
    pub told: BTreeMap<JobId, Told>,
    /// Whom one of those was told to give way to, once it has.
    pub kept_for: Option<JobId>,
    pub running_cost: u64,
    pub queued_cost: u64,
    /// By how much its reports differ from what is known here.
    pub offset: i128,
    pub keys: BTreeSet<Arc<str>>,
    pub service: Service,
    pub times: Times,
    pub done: u64,
    pub failed: u64,
    pub health: Health,
    pub draining: bool,
    /// It has been deregistered, and ends with its last running task.
    pub left: bool,
}

impl Desk {
    pub(super) fn new(id: WorkerId, capacity: u32) -> Self {
        Desk {
            id,
            capacity: capacity.max(1),
            queue: BTreeMap::new(),
            seated: BTreeSet::new(),
            told: BTreeMap::new(),
            kept_for: None,
            running_cost: 0,
            queued_cost: 0,
            offset: 0,
            keys: BTreeSet::new(),
            service: Service::default(),
            times: Times::default(),
            done: 0,
            failed: 0,
            health: Health::default(),
            draining: false,
            left: false,
        }
    }

    pub(super) fn load(&self) -> u64 {
        let load = i128::from(self.running_cost) + i128::from(self.queued_cost) + self.offset;
        u64::try_from(load.max(0)).unwrap_or(u64::MAX)
    }

    /// The first of its queue.
    pub(super) fn head(&self) -> Option<(Rank, JobId)> {
        self.queue.first_key_value().map(|(rank, job)| (*rank, *job))
    }

    pub(super) fn state(&self) -> State {
        match (self.draining || self.left, self.health.is_failing()) {
            (true, _) => State::Draining,
            (false, true) => State::Failing,
            (false, false) => State::Active,
        }
    }

    /// How many it runs at once now: one while it has to show that it does not fail any more.
    fn seats(&self) -> usize {
        if self.health.is_on_probation() { 1 } else { self.capacity as usize }
    }

    pub(super) fn has_room(&self) -> bool {
        self.state() != State::Draining && self.seated.len() < self.seats()
    }

    pub(super) fn view(&self, key: Option<&Arc<str>>) -> Worker {
        Worker {
            load: self.load(),
            tasks: (self.seated.len() + self.queue.len()) as u64,
            capacity: u32::try_from(self.seats()).unwrap_or(u32::MAX),
            service: self.service.clone(),
            state: self.state(),
            holds_key: key.is_some_and(|key| self.keys.contains(key)),
        }
    }
}
