//! Where the task is expected to be done first.
//!
//! What is queued and runs at a worker is worked off by all its seats at the speed that it has shown; then the task
//! takes its own time there. A worker that has shown nothing yet is taken to be as fast as the others are in the
//! middle, so it is neither passed over nor flooded.

use super::{Job, Worker, first_least};

pub(super) fn choose(job: &Job, able: &[usize], workers: &[Worker]) -> usize {
    let unknown = middle(able.iter().filter_map(|&at| workers[at].service.expected(PER_COST)));
    first_least(able, |at| expected_end(job, &workers[at], unknown))
}

/// The cost that speeds are compared at.
const PER_COST: u64 = 1_000_000;

/// When the task would be done, in nanoseconds from now.
fn expected_end(job: &Job, worker: &Worker, unknown: u64) -> u128 {
    let speed = worker.service.expected(PER_COST).unwrap_or(unknown);
    let time = |cost: u64| u128::from(cost) * u128::from(speed) / u128::from(PER_COST);
    time(worker.load) / u128::from(worker.seats()) + time(job.cost)
}

/// The median, the upper of two; one for each unit of cost if there is none, so that loads decide.
pub(super) fn middle(known: impl Iterator<Item = u64>) -> u64 {
    let mut known: Vec<u64> = known.collect();
    known.sort_unstable();
    known.get(known.len() / 2).copied().unwrap_or(PER_COST)
}
