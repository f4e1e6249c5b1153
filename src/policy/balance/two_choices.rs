//! The better of two that chance picks.
//!
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001: two choices instead of one take the
//! longest queue from log n to log log n, and unlike the best of all they do not send everybody to the same worker on
//! figures that are a moment old. Compared is the recent peak service time times what is on its way, as in Finagle and
//! tower; here per unit of cost, and what is on its way by its cost.

use super::predictive::middle;
use super::{Job, Worker};
use crate::policy::dice::Dice;

pub(super) fn choose(job: &Job, able: &[usize], workers: &[Worker], dice: &mut Dice) -> usize {
    let [first, second] = two(able.len(), dice);
    let unknown = middle(able.iter().filter_map(|&at| workers[at].service.peak()));
    let product = |at: usize| {
        let worker = &workers[able[at]];
        let pending = worker.load.saturating_add(job.cost.max(1));
        u128::from(worker.service.peak().unwrap_or(unknown)) * u128::from(pending) / u128::from(worker.seats())
    };
    able[if product(second) < product(first) { second } else { first }]
}

/// Two different numbers below `count`, or twice the only one.
fn two(count: usize, dice: &mut Dice) -> [usize; 2] {
    if count < 2 {
        return [0, 0];
    }
    // Both below `count`, which is a usize.
    let first = dice.below(count as u64) as usize;
    let second = dice.below(count as u64 - 1) as usize;
    [first, if second >= first { second + 1 } else { second }]
}
