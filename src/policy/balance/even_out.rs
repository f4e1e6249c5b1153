//! Which queued tasks are better moved.

use super::least_loaded::per_seat;
use super::{Job, State, Worker};
use crate::policy::Rank;

/// A task that is queued at a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The position of the worker.
    pub(crate) worker: usize,
    /// The task.
    pub(crate) job: Job,
    /// Its place in the one order: who goes last is moved first.
    pub(crate) rank: Rank,
    /// Whether it wants to stay: its worker holds its key.
    pub(crate) stays: bool,
}

/// A queued task goes to another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    /// The position of the task among those that were given.
    pub(crate) task: usize,
    /// The position of the worker that it goes to.
    pub(crate) to: usize,
}

/// At most `limit` moves, each of which takes a queued task from the fullest worker that has one to the emptiest, and
/// makes the fuller of the two emptier than it was. Tasks of those that drain or fail often go first, wherever they
/// come to. Never touches what runs.
pub(crate) fn even_out(workers: &[Worker], queued: &[Placed], limit: usize) -> Vec<Move> {
    let mut workers = workers.to_vec();
    let mut queues = queues(workers.len(), queued);
    let mut moves = Vec::new();
    while moves.len() < limit {
        let Some((task, to)) = next_move(&workers, &queues, queued) else { break };
        let (from, cost) = (queued[task].worker, queued[task].job.cost);
        queues[from].retain(|&other| other != task);
        workers[from].load = workers[from].load.saturating_sub(cost);
        workers[to].load = workers[to].load.saturating_add(cost);
        moves.push(Move { task, to });
    }
    moves
}

/// By worker, those that go first at the front.
fn queues(workers: usize, queued: &[Placed]) -> Vec<Vec<usize>> {
    let mut queues = vec![Vec::new(); workers];
    for (task, placed) in queued.iter().enumerate() {
        if let Some(queue) = queues.get_mut(placed.worker) {
            queue.push(task);
        }
    }
    queues.iter_mut().for_each(|queue| queue.sort_by_key(|&task| queued[task].rank));
    queues
}

fn next_move(workers: &[Worker], queues: &[Vec<usize>], queued: &[Placed]) -> Option<(usize, usize)> {
    let able = |at: &usize| workers[*at].state == State::Active;
    let to = (0..workers.len()).filter(able).min_by_key(|&at| per_seat(&workers[at]))?;
    let leaving = (0..workers.len()).find(|&at| !able(&at) && !queues[at].is_empty());
    if let Some(task) = leaving.and_then(|at| queues[at].first().copied()) {
        return Some((task, to));
    }
    // From the fullest down, as the fullest may have nothing that helps.
    let mut full: Vec<usize> = (0..workers.len()).collect();
    full.sort_by_key(|&at| std::cmp::Reverse(per_seat(&workers[at])));
    full.into_iter().find_map(|from| {
        let helps = |&&task: &&usize| {
            let with = Worker { load: workers[to].load.saturating_add(queued[task].job.cost), ..workers[to].clone() };
            !queued[task].stays && per_seat(&with) < per_seat(&workers[from])
        };
        queues[from].iter().rev().find(helps).map(|&task| (task, to))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Priority;

    fn placed(worker: usize, cost: u64, arrival: u64) -> Placed {
        let job = Job { priority: Priority::Normal, cost };
        Placed { worker, job, rank: Rank::new(Priority::Normal, u64::MAX, arrival), stays: false }
    }

    #[test]
    fn the_last_in_rank_goes_first_and_only_while_that_helps() {
        let workers = [Worker::with_load(30), Worker::with_load(0)];
        let queued = [placed(0, 10, 1), placed(0, 10, 2), placed(0, 10, 3)];
        assert_eq!(even_out(&workers, &queued, 9), [Move { task: 2, to: 1 }]);
        assert_eq!(even_out(&workers, &queued, 0), []);
        let staying = queued.map(|placed| Placed { stays: true, ..placed });
        assert_eq!(even_out(&workers, &staying, 9), []);
    }

    #[test]
    fn everything_leaves_a_worker_that_drains_a_bounded_number_at_a_time() {
        let mut workers = [Worker::with_load(30), Worker::with_load(100)];
        workers[0].state = State::Draining;
        let queued = [placed(0, 10, 1), placed(0, 10, 2), placed(0, 10, 3)];
        assert_eq!(even_out(&workers, &queued, 2), [Move { task: 0, to: 1 }, Move { task: 1, to: 1 }]);
        workers[1].state = State::Failing;
        assert_eq!(even_out(&workers, &queued, 2), [], "there is nobody");
    }
}
