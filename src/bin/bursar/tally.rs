//! What became of every request, and how long those that were served had waited.

use std::time::Duration;

use bursar::Priority;
use hdrhistogram::Histogram;
use serde::Serialize;
use thiserror::Error;

use crate::workload::{Job, MODULES};

/// The longest wait that is told apart: one hour in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;
/// Waits are kept within 0.1 %.
const DIGITS: u8 = 3;

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Granted, and what was moved came back right.
    Served { waited: Duration, moved: u64 },
    /// Not granted before its deadline.
    Late,
    /// It could not be granted at all.
    Refused(String),
    /// It waited when the run was stopped.
    Cancelled,
    /// It had not arrived when the run was stopped.
    NotStarted,
}

/// Requests that got lost, or were counted twice: a defect of this program.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{priority}: {requests} requests, but {ended} ended")]
pub struct LostRequests {
    priority: Priority,
    requests: u64,
    ended: u64,
}

/// The waits of served requests, from asking to the lease, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Waits {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// One priority over a whole run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LevelFigures {
    pub priority: &'static str,
    pub module: &'static str,
    pub requests: u64,
    /// The latest useful grant, after the arrival.
    pub deadline_ns: Option<u64>,
    /// Granted, moved and checked.
    pub served: u64,
    pub late: u64,
    pub refused: u64,
    pub cancelled: u64,
    pub not_started: u64,
    pub wait_ns: Waits,
}

/// Counts.
#[derive(Debug)]
pub struct Tally {
    levels: [Level; MODULES.len()],
    /// Bytes moved into the device.
    pub moved: u64,
    /// Why the first of those that were refused was.
    pub first_refusal: Option<String>,
}

#[derive(Debug)]
struct Level {
    requests: u64,
    deadline: Option<Duration>,
    served: u64,
    late: u64,
    refused: u64,
    cancelled: u64,
    not_started: u64,
    waits: Histogram<u64>,
}

impl Tally {
    /// Nothing has ended of these jobs yet.
    pub fn new<'a>(jobs: impl Iterator<Item = &'a Job>) -> Result<Tally, hdrhistogram::CreationError> {
        let waits = Histogram::new_with_bounds(1, LONGEST, DIGITS)?;
        let level = || Level {
            requests: 0,
            deadline: None,
            served: 0,
            late: 0,
            refused: 0,
            cancelled: 0,
            not_started: 0,
            waits: waits.clone(),
        };
        let mut levels: [Level; MODULES.len()] = std::array::from_fn(|_| level());
        for job in jobs {
            let level = &mut levels[job.module];
            level.requests += 1;
            level.deadline = level.deadline.max(job.deadline);
        }
        Ok(Tally { levels, moved: 0, first_refusal: None })
    }

    /// A job has ended.
    pub fn count(&mut self, job: &Job, ended: Ended) {
        let level = &mut self.levels[job.module];
        match ended {
            Ended::Served { waited, moved } => {
                level.served += 1;
                level.waits.saturating_record(nanos(waited));
                self.moved += moved;
            }
            Ended::Late => level.late += 1,
            Ended::Refused(why) => {
                level.refused += 1;
                self.first_refusal.get_or_insert(why);
            }
            Ended::Cancelled => level.cancelled += 1,
            Ended::NotStarted => level.not_started += 1,
        }
    }

    /// The figures, once every job has ended.
    pub fn figures(&self) -> Result<Vec<LevelFigures>, LostRequests> {
        self.levels.iter().zip(&MODULES).map(|(level, module)| level.figures(module.priority, module.name)).collect()
    }
}

impl Level {
    fn figures(&self, priority: Priority, module: &'static str) -> Result<LevelFigures, LostRequests> {
        let Level { requests, deadline, served, late, refused, cancelled, not_started, ref waits } = *self;
        let ended = served + late + refused + cancelled + not_started;
        if ended != requests {
            return Err(LostRequests { priority, requests, ended });
        }
        // An empty histogram says zero.
        let at = |quantile| waits.value_at_quantile(quantile);
        let wait_ns = Waits { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: waits.max() };
        let priority = priority.name();
        Ok(LevelFigures {
            priority,
            module,
            requests,
            deadline_ns: deadline.map(nanos),
            served,
            late,
            refused,
            cancelled,
            not_started,
            wait_ns,
        })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(module: usize) -> Job {
        Job { number: 0, module, at: Duration::ZERO, deadline: None, hold: Duration::ZERO, tokens: 1 }
    }

    fn tally(modules: impl IntoIterator<Item = usize>) -> Tally {
        let jobs: Vec<Job> = modules.into_iter().map(job).collect();
        Tally::new(jobs.iter()).unwrap()
    }

    fn served(millis: u64) -> Ended {
        Ended::Served { waited: Duration::from_millis(millis), moved: 8 }
    }

    #[test]
    fn every_request_is_counted_once_under_its_priority() {
        let mut tally = tally([1, 1, 1, 1, 3, 4]);
        for ended in [served(10), Ended::Late, Ended::Refused("too large".into()), Ended::Refused("other".into())] {
            tally.count(&job(1), ended);
        }
        tally.count(&job(3), Ended::Cancelled);
        tally.count(&job(4), Ended::NotStarted);
        let figures = tally.figures().unwrap();
        let high = &figures[1];
        assert_eq!((high.priority, high.module, high.requests), ("HIGH", "chat", 4));
        assert_eq!((high.served, high.late, high.refused), (1, 1, 2));
        assert_eq!((figures[3].cancelled, figures[4].not_started, figures[0].requests), (1, 1, 0));
        assert_eq!((tally.moved, tally.first_refusal.as_deref()), (8, Some("too large")));
    }

    #[test]
    fn a_request_that_never_ended_is_missed() {
        let mut tally = tally([1, 1]);
        tally.count(&job(1), served(1));
        assert_eq!(tally.figures(), Err(LostRequests { priority: Priority::High, requests: 2, ended: 1 }));
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut tally = tally([3; 1_000]);
        (1..=1_000).for_each(|millis| tally.count(&job(3), served(millis)));
        let Waits { p50, p99, p999, max } = tally.figures().unwrap()[3].wait_ns;
        for (value, millis) in [(p50, 500), (p99, 990), (p999, 999), (max, 1_000)] {
            assert!(value.abs_diff(millis * 1_000_000) <= millis * 1_000, "{value} for {millis} ms");
        }
    }
}
