//! Which worker gets which task: policies over plain figures.
//!
//! A [`Balancer`] is asked once for every task and keeps what it has to remember between two tasks, such as whose turn
//! it is; the same figures in the same order and the same seed give the same answers, on every platform. [`assign`]
//! asks it for a whole queue at once.
//!
//! Cost is what a task asks for, in any unit that loads are counted in too, and never simply one.

mod affinity;
mod even_out;
mod least_loaded;
mod peak_ewma;
mod predictive;
mod priority_based;
mod round_robin;
mod service;
mod two_choices;

use crate::model::Priority;

use super::dice::Dice;

pub(crate) use even_out::{Placed, even_out};
pub use service::Service;

/// How tasks are spread over workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// One after the other, whatever they do.
    RoundRobin,
    /// The least load.
    LeastLoaded,
    /// The least load for `Critical` and `High`, one after the other for the others; in [`assign`] an
    /// urgent task weighs more than its cost. A dispatcher counts the cost alone, as reports do.
    PriorityBased,
    /// Where the task is expected to be done first, by what tasks have taken there per unit of cost.
    Predictive,
    /// Two workers by chance and the best six of the choice before, and of them the one with the smallest product of
    /// recent peak service time and what is on its way there. What the balancer sent counts at once, also while the
    /// figures that it is given do not have it yet.
    TwoChoices {
        /// What fixes the chance.
        seed: u64,
    },
    /// A worker that holds the key of the task, the least loaded of them; the least loaded of all if none does, or if
    /// those that do are far busier.
    Affinity,
}

/// A worker as a policy sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// What it has: its own report, or the cost of what runs there and is queued there. In units of cost.
    pub load: u64,
    /// How many tasks it has, running and queued.
    pub tasks: u64,
    /// How many it runs at once; zero counts as one.
    pub capacity: u32,
    /// What it has shown so far.
    pub service: Service,
    /// Whether it takes tasks.
    pub state: State,
    /// Whether it holds the key of the task in question.
    pub holds_key: bool,
}

impl Worker {
    /// One with this load that has shown nothing.
    pub fn with_load(load: u64) -> Self {
        Worker { load, capacity: 1, ..Worker::default() }
    }

    fn seats(&self) -> u64 {
        u64::from(self.capacity.max(1))
    }
}

/// Whether a worker takes tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It does.
    #[default]
    Active,
    /// It fails often: it takes tasks only if nobody else does.
    Failing,
    /// It takes none any more.
    Draining,
}

/// A task as a policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// How urgent it is.
    pub priority: Priority,
    /// What it asks for, in units of load.
    pub cost: u64,
}

/// A policy with what it remembers.
#[derive(Debug, Clone)]
pub struct Balancer {
    policy: Policy,
    /// Whose turn it is.
    turn: usize,
    dice: Dice,
    memory: two_choices::Memory,
}

impl Balancer {
    /// Nothing is remembered yet.
    pub fn new(policy: Policy) -> Self {
        let seed = if let Policy::TwoChoices { seed } = policy { seed } else { 0 };
        Balancer { policy, turn: 0, dice: Dice::new(seed), memory: two_choices::Memory::default() }
    }

    /// The policy.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The position of the worker that gets the task; `None` if nobody takes tasks. Those that fail often are asked
    /// only if there is nobody else.
    pub fn choose(&mut self, job: &Job, workers: &[Worker]) -> Option<usize> {
        let in_state = |state| (0..workers.len()).filter(|&at| workers[at].state == state).collect::<Vec<_>>();
        let mut able = in_state(State::Active);
        if able.is_empty() {
            able = in_state(State::Failing);
        }
        if able.is_empty() {
            return None;
        }
        Some(match self.policy {
            Policy::RoundRobin => round_robin::choose(&able, &mut self.turn),
            Policy::LeastLoaded => least_loaded::choose(&able, workers),
            Policy::PriorityBased => priority_based::choose(job, &able, workers, &mut self.turn),
            Policy::Predictive => predictive::choose(job, &able, workers),
            Policy::TwoChoices { .. } => two_choices::choose(job, &able, workers, &mut self.dice, &mut self.memory),
            Policy::Affinity => affinity::choose(job, &able, workers),
        })
    }

    /// What a task adds to the load of the worker that gets it.
    pub fn weighed(&self, job: &Job) -> u64 {
        match self.policy {
            Policy::PriorityBased => priority_based::weighed(job),
            _ => job.cost,
        }
    }
}

/// Which worker each task of a queue gets, in the order of the queue: the load of a worker grows by what it gets. Moves
/// nothing.
///
/// ```
/// use bursar::Priority;
/// use bursar::tasks::balance::{Balancer, Job, Policy, Worker, assign};
///
/// let workers = [45, 20, 60].map(Worker::with_load);
/// let job = Job { priority: Priority::Normal, cost: 30 };
/// let assigned = assign(&mut Balancer::new(Policy::LeastLoaded), &workers, &[job, job])?;
/// assert_eq!(assigned, [1, 0]);
/// # Ok::<(), bursar::tasks::balance::NoWorker>(())
/// ```
///
/// # Errors
/// [`NoWorker`] if there is a task and nobody takes tasks.
pub fn assign(balancer: &mut Balancer, workers: &[Worker], queue: &[Job]) -> Result<Vec<usize>, NoWorker> {
    let mut workers = workers.to_vec();
    let mut assigned = Vec::with_capacity(queue.len());
    for job in queue {
        let at = balancer.choose(job, &workers).ok_or(NoWorker { workers: workers.len() })?;
        workers[at].load = workers[at].load.saturating_add(balancer.weighed(job));
        workers[at].tasks = workers[at].tasks.saturating_add(1);
        assigned.push(at);
    }
    Ok(assigned)
}

/// Nobody takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no worker takes tasks: there are {workers}, and none of them is active; register one")]
pub struct NoWorker {
    /// How many there are.
    pub workers: usize,
}

/// The first of those with the smallest key. `able` is not empty.
fn first_least<K: Ord>(able: &[usize], key: impl Fn(usize) -> K) -> usize {
    able.iter().copied().min_by_key(|&at| key(at)).unwrap_or_default()
}
