//! Where the model is loaded, or the batch lies.
//!
//! Consistent hashing with bounded loads (V. Mirrokni, M. Thorup and M. Zadimoghaddam, 2016) has the rule that is used
//! here without its hashing: a worker that holds the key is preferred until it has more than [`BOUND`] times the mean
//! load, so that a key that everybody wants does not bury its holder.

use super::{Job, Worker, least_loaded};

/// In quarters of the mean load.
const BOUND: u128 = 5;

pub(super) fn choose(job: &Job, able: &[usize], workers: &[Worker]) -> usize {
    let seats: u128 = able.iter().map(|&at| u128::from(workers[at].seats())).sum();
    let load: u128 = able.iter().map(|&at| u128::from(workers[at].load)).sum();
    let after = load + u128::from(job.cost);
    let is_free = |&at: &usize| {
        let worker = &workers[at];
        // One task always may: the mean of a few is no bound.
        let mine = u128::from(worker.load) + u128::from(job.cost);
        worker.holds_key
            && (worker.tasks < worker.seats() || 4 * mine * seats <= BOUND * after * u128::from(worker.seats()))
    };
    let holders: Vec<usize> = able.iter().copied().filter(is_free).collect();
    least_loaded::choose(if holders.is_empty() { able } else { &holders }, workers)
}
