//! The best of two that chance picks and of a few that are remembered.
//!
//! M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001: two choices instead of one take the
//! longest queue from log n to log log n, and unlike the best of all they do not send everybody to the same worker on
//! figures that are a moment old. M. Mitzenmacher, B. Prabhakar and D. Shah, "Load balancing with memory", FOCS 2002:
//! who also remembers the best of those that were looked at for the choice before does better than with as many more
//! choices by chance.
//!
//! Compared is the recent peak service time times what is on its way, as in Finagle and tower; here per unit of cost,
//! and what is on its way by its cost. As there, what was sent from here counts at once, whether the figures have it
//! yet or not: without that, who is remembered would be sent everything until the next report. Of equals the one that
//! was sent nothing for longest is the furthest with what it does.

use super::predictive::middle;
use super::{Job, Worker};
use crate::policy::dice::Dice;

/// With the two that are drawn, as many as are looked at for a choice, however many workers there are: with fewer the
/// best of all is missed now and then, which is seen where figures are exact and all workers equally fast.
const REMEMBERED: usize = 6;

/// What is kept from one choice to the next, by the position of the workers. If others come to stand there, what is
/// remembered of them is wrong until they are sent something, or their number changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    sent: Vec<Sent>,
    choices: u64,
    /// The best of those that were looked at for the last choice, after it.
    best: Vec<usize>,
}

/// What was sent to a worker.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    /// So much, since its figures last changed.
    cost: u64,
    figures: Figures,
    /// At which choice the last was.
    last: u64,
}

/// By these it is told whether a worker's figures are new: load, tasks and samples.
type Figures = (u64, u64, u64);

fn figures(worker: &Worker) -> Figures {
    (worker.load, worker.tasks, worker.service.samples())
}

impl Memory {
    /// What is on its way to a worker: its load, and what was sent since that was found.
    fn pending(&self, at: usize, worker: &Worker) -> u64 {
        let Sent { cost, figures: known, .. } = self.sent[at];
        worker.load.saturating_add(if known == figures(worker) { cost } else { 0 })
    }

    fn note(&mut self, at: usize, worker: &Worker, cost: u64) {
        self.choices += 1;
        let cost = self.pending(at, worker).saturating_sub(worker.load).saturating_add(cost);
        self.sent[at] = Sent { cost, figures: figures(worker), last: self.choices };
    }
}

pub(super) fn choose(job: &Job, able: &[usize], workers: &[Worker], dice: &mut Dice, memory: &mut Memory) -> usize {
    if memory.sent.len() != workers.len() {
        *memory = Memory { sent: vec![Sent::default(); workers.len()], ..Memory::default() };
    }
    let unknown = middle(able.iter().filter_map(|&at| workers[at].service.peak()));
    let order = |memory: &Memory, at: usize, cost: u64| {
        let worker = &workers[at];
        let pending = memory.pending(at, worker).saturating_add(cost);
        let peak = worker.service.peak().unwrap_or(unknown);
        (u128::from(peak) * u128::from(pending) / u128::from(worker.seats()), memory.sent[at].last)
    };
    let mut seen = two(able.len(), dice).map(|drawn| able[drawn]).to_vec();
    seen.extend(memory.best.iter().filter(|at| able.contains(at)));
    // The first of equals, so chance decides between two that were never sent anything.
    let cost = job.cost.max(1);
    let chosen = seen.iter().copied().min_by_key(|&at| order(memory, at, cost)).unwrap_or_default();
    memory.note(chosen, &workers[chosen], cost);
    seen.sort_by_key(|&at| (order(memory, at, 0), at));
    seen.dedup();
    seen.truncate(REMEMBERED);
    memory.best = seen;
    chosen
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Priority;

    const JOB: Job = Job { priority: Priority::Normal, cost: 10 };

    /// So many choices on the same figures.
    fn choices(times: usize, workers: &[Worker]) -> Vec<usize> {
        let able: Vec<usize> = (0..workers.len()).collect();
        let (mut dice, mut memory) = (Dice::new(7), Memory::default());
        (0..times).map(|_| choose(&JOB, &able, workers, &mut dice, &mut memory)).collect()
    }

    #[test]
    fn what_was_sent_counts_until_the_figures_change() {
        let mut workers = [0, 0, 0, 0].map(Worker::with_load);
        let chosen = choices(40, &workers);
        let counts = [0, 1, 2, 3].map(|at| chosen.iter().filter(|&&to| to == at).count());
        assert_eq!(counts, [10; 4], "old figures mislead nobody");
        let mut memory = Memory { sent: vec![Sent::default(); 4], ..Memory::default() };
        memory.note(1, &workers[1], 10);
        memory.note(1, &workers[1], 10);
        assert_eq!(memory.pending(1, &workers[1]), 20);
        (workers[1].load, workers[1].tasks) = (20, 2);
        assert_eq!(memory.pending(1, &workers[1]), 20, "the figures have it now");
    }

    #[test]
    fn who_is_far_better_is_found_by_chance_and_then_remembered() {
        let workers = [900, 900, 900, 900, 900, 900, 900, 0].map(Worker::with_load);
        let chosen = choices(60, &workers);
        let found = chosen.iter().position(|&at| at == 7).expect("two of eight, sixty times");
        assert!(chosen[found..found + 40].iter().all(|&at| at == 7), "{chosen:?}");
    }

    #[test]
    fn what_is_remembered_of_others_is_forgotten_with_their_number() {
        let (mut dice, mut memory) = (Dice::new(7), Memory::default());
        let workers = [5, 0, 5].map(Worker::with_load);
        (0..9).for_each(|_| _ = choose(&JOB, &[0, 1, 2], &workers, &mut dice, &mut memory));
        assert_eq!(choose(&JOB, &[0], &workers[..1], &mut dice, &mut memory), 0);
        assert_eq!(choose(&JOB, &[1], &workers[..2], &mut dice, &mut memory), 1, "only those that take tasks");
    }
}
