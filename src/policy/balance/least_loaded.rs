//! The least load for each task that runs at once; of equals the one that was registered first.

use super::{Worker, first_least};

pub(super) fn choose(able: &[usize], workers: &[Worker]) -> usize {
    first_least(able, |at| per_seat(&workers[at]))
}

/// In millionths, so that small loads on many seats are told apart.
pub(super) fn per_seat(worker: &Worker) -> u128 {
    u128::from(worker.load) * 1_000_000 / u128::from(worker.seats())
}
