//! Urgent tasks where the least is to do, the others one after the other.
//!
//! The weights are those of RROS, where a task counts 10, 5, 1, 0.5 or 0.1 by its level: who has urgent work looks
//! busier than it is, so that the next urgent task goes elsewhere.

use super::{Job, Worker, least_loaded, round_robin};
use crate::model::Priority;

/// By level, in tenths.
const WEIGHTS: [u64; Priority::COUNT] = [100, 50, 10, 5, 1];

pub(super) fn choose(job: &Job, able: &[usize], workers: &[Worker], turn: &mut usize) -> usize {
    match job.priority {
        Priority::Critical | Priority::High => least_loaded::choose(able, workers),
        _ => round_robin::choose(able, turn),
    }
}

pub(super) fn weighed(job: &Job) -> u64 {
    job.cost.saturating_mul(WEIGHTS[job.priority.index()]).div_ceil(10)
}
