//! How large everything is: the budgets, and what one token takes of them.
//!
//! The device is a scale model. Every request reserves GPU memory for the keys and values of its tokens; how many bytes
//! that is a token is chosen such that the requests want more than the device has, on average over the run, because a
//! scheduler that never has to say "wait" shows nothing. Every reserved byte is really moved, so the device can be no
//! larger than what the machine can fill in the time the requests hold it. A configuration file may name a larger one;
//! then the model is built 1:n, and one byte is moved for n that are reserved. The report says so.

use bursar::memory::Stream;
use bursar::{Budget, BudgetId, Config, MIB, Request, Share, Supply};
use thiserror::Error;

use crate::workload::Job;

/// The device when nothing else limits it.
const LARGEST_DEVICE: f64 = (512 * MIB) as f64;
/// Bytes a second that the program moves at most, on average: a third of a core makes, moves, changes and checks as
/// much.
const MOVED_PER_SECOND: f64 = (1_024 * MIB) as f64;
/// What the requests want of the GPU on average, if all were granted at once, in comparison with what it has.
const GPU_LOAD: f64 = 1.1;
/// The same for attention and staging memory, which are to be scarce only now and then.
const ATTENTION_LOAD: f64 = 0.8;
const HOST_LOAD: f64 = 0.5;
/// The same for I/O, which is spent and not held.
const IO_LOAD: f64 = 0.6;
/// Seconds of I/O that may pile up.
const IO_BURST: f64 = 0.25;
/// No request wants more than this part of the device or of attention.
const LARGEST_SHARE: f64 = 0.5;
/// Bytes that a request copies at a time, and the host memory it stages them in.
pub const STAGING: u64 = MIB;
/// Bytes are moved in words of this size.
pub const WORD: u64 = 8;

/// A configuration that the workload cannot use.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SizingError {
    #[error("the configuration has no loan `gpu0`: every request of the workload keeps its keys and values there")]
    NoGpu,
}

/// A job with its amounts.
#[derive(Debug, Clone)]
pub struct Work {
    pub job: Job,
    /// What it asks of a scheduler.
    pub request: Request,
    /// Bytes it moves into the device and back.
    pub moved: u64,
    /// Bytes of host memory it moves them through.
    pub staging: u64,
}

impl Work {
    /// The stream of its copies.
    pub fn stream(&self) -> Stream {
        Stream((self.job.number % 256) as u8)
    }
}

/// The sizes of a run.
#[derive(Debug, Clone)]
pub struct Sizing {
    pub config: Config,
    /// Bytes of the simulated device.
    pub device: u64,
    /// Bytes that are moved for a token.
    pub moved_per_token: u64,
    /// Bytes that are reserved for one that is moved.
    pub reserved_per_moved: u64,
    /// The fraction of attention for a module of weight 1.
    attention: f64,
}

/// What the jobs want on average over the run.
struct Demand {
    /// Held at once, if every job were granted when it arrives.
    tokens: f64,
    attention: f64,
    jobs: f64,
    /// Of all that arrive.
    tokens_per_second: f64,
    longest: f64,
}

impl Demand {
    fn of(jobs: &[Job]) -> Self {
        let hold: f64 = jobs.iter().map(|job| job.hold.as_secs_f64()).sum();
        let last = jobs.last().map_or(0.0, |job| job.at.as_secs_f64());
        // The mean time held stands for the time that the last ones take. A run is never shorter than a nanosecond.
        let span = (last + hold / jobs.len().max(1) as f64).max(1e-9);
        let held =
            |of: &dyn Fn(&Job) -> f64| jobs.iter().map(|job| of(job) * job.hold.as_secs_f64()).sum::<f64>() / span;
        Demand {
            tokens: held(&|job| job.tokens as f64),
            attention: held(&|job| job.module().attention),
            jobs: held(&|_| 1.0),
            tokens_per_second: jobs.iter().map(|job| job.tokens as f64).sum::<f64>() / span,
            longest: jobs.iter().map(|job| job.tokens).max().unwrap_or(1) as f64,
        }
    }
}

impl Sizing {
    /// Sizes for these jobs, with the budgets of `config` or with some of its own.
    pub fn new(jobs: &[Job], config: Option<Config>) -> Result<Sizing, SizingError> {
        let demand = Demand::of(jobs);
        let wanted = match &config {
            None => None,
            Some(config) => match config.budget(BudgetId::GPU).map(|gpu| gpu.supply) {
                Some(Supply::Loan { capacity, .. }) => Some(capacity),
                _ => return Err(SizingError::NoGpu),
            },
        };
        // Tokens that the device has room for.
        let room = (demand.tokens / GPU_LOAD).max(demand.longest / LARGEST_SHARE);
        let model_per_token = words((MOVED_PER_SECOND / demand.tokens_per_second).min(LARGEST_DEVICE / room));
        let model = (model_per_token as f64 * room).ceil() as u64;
        let reserved_per_moved = wanted.map_or(1, |capacity| capacity.div_ceil(model));
        let device = wanted.map_or(model, |capacity| capacity / reserved_per_moved);
        let moved_per_token = if wanted.is_none() { model_per_token } else { words(device as f64 / room) };
        let attention = ATTENTION_LOAD / demand.attention;
        let config = config.unwrap_or_else(|| budgets(&demand, device, moved_per_token));
        Ok(Sizing { config, device, moved_per_token, reserved_per_moved, attention })
    }

    /// A job with its amounts. It asks only of budgets that there are.
    pub fn work(&self, job: Job) -> Work {
        let module = job.module();
        let moved = job.tokens.saturating_mul(self.moved_per_token);
        let reserved = moved.saturating_mul(self.reserved_per_moved);
        let staging = moved.min(STAGING);
        let attention = (self.attention * module.attention).clamp(1e-6, LARGEST_SHARE);
        let amounts = [
            (BudgetId::GPU, reserved),
            (BudgetId::HOST, staging),
            (BudgetId::ATTENTION, (attention * f64::from(Share::WHOLE.millionths())) as u64),
            // What is really moved, in and out again.
            (BudgetId::IO, moved.saturating_mul(2)),
        ];
        let known = amounts.into_iter().filter(|(id, _)| self.config.budget(*id).is_some());
        let request = Request::new().priority(module.priority).label(module.name).module(module.name);
        let request = known.fold(request, |request, (id, units)| request.amount(id, units));
        let request = match job.deadline {
            Some(deadline) => request.deadline(deadline),
            None => request,
        };
        Work { job, request, moved, staging }
    }
}

/// Whole words of so many bytes, at least one.
fn words(bytes: f64) -> u64 {
    (bytes as u64 / WORD * WORD).max(WORD)
}

/// The budgets of a run without a configuration file.
fn budgets(demand: &Demand, device: u64, moved_per_token: u64) -> Config {
    let io = (2.0 * demand.tokens_per_second * moved_per_token as f64 / IO_LOAD).max(1.0);
    let largest = 2.0 * demand.longest * moved_per_token as f64;
    let staging = (demand.jobs / HOST_LOAD).ceil().max(8.0) as u64 * STAGING;
    Config::new()
        .with(Budget::loan(BudgetId::GPU, device))
        .with(Budget::loan(BudgetId::HOST, staging))
        .with(Budget::loan(BudgetId::ATTENTION, u64::from(Share::WHOLE.millionths())))
        .with(Budget::rate(BudgetId::IO, io as u64).burst((io * IO_BURST).max(largest).ceil() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::generate;
    use crate::workload::deal;

    fn sizing(count: usize, speed: f64, config: Option<Config>) -> (Vec<Job>, Sizing) {
        let jobs = deal(&generate(1, count), speed);
        let sizing = Sizing::new(&jobs, config).unwrap();
        (jobs, sizing)
    }

    /// What of the GPU the jobs would hold on average, in comparison with what there is.
    fn load(jobs: &[Job], sizing: &Sizing) -> f64 {
        let span = jobs.last().unwrap().at.as_secs_f64();
        let held = jobs.iter().map(|job| {
            let asked = sizing.work(job.clone()).request.amounts().get(BudgetId::GPU);
            asked as f64 * job.hold.as_secs_f64()
        });
        held.sum::<f64>() / span / (sizing.device * sizing.reserved_per_moved) as f64
    }

    #[test]
    fn the_gpu_is_over_committed_at_every_speed_and_every_reserved_byte_is_moved() {
        for speed in [5.0, 30.0, 200.0] {
            let (jobs, sizing) = sizing(3_000, speed, None);
            let load = load(&jobs, &sizing);
            assert!((1.08..1.15).contains(&load), "speed {speed}: {load}");
            assert_eq!(sizing.reserved_per_moved, 1);
            let work = sizing.work(jobs[0].clone());
            assert_eq!(work.request.amounts().get(BudgetId::GPU), work.moved);
        }
    }

    #[test]
    fn every_request_of_a_run_without_a_configuration_can_be_granted() {
        for count in [1, 2, 7, 50, 3_000] {
            let (jobs, sizing) = sizing(count, 30.0, None);
            sizing.config.check().unwrap();
            for job in jobs {
                let request = sizing.work(job).request;
                request.check().unwrap();
                for (id, asked) in request.amounts().iter() {
                    let limit = match sizing.config.budget(id).unwrap().supply {
                        Supply::Loan { capacity, .. } => capacity,
                        Supply::Rate { burst, .. } => burst,
                    };
                    assert!(asked <= limit, "{count} requests: {asked} of {id}, which has {limit}");
                }
            }
        }
    }

    #[test]
    fn a_large_device_of_a_configuration_is_built_to_scale() {
        let capacity = 80 << 30;
        let config = Config::new().with(Budget::loan(BudgetId::GPU, capacity));
        let (jobs, sizing) = sizing(3_000, 30.0, Some(config));
        assert!(sizing.reserved_per_moved > 100 && sizing.device <= 512 * MIB);
        let load = load(&jobs, &sizing);
        assert!((1.0..1.15).contains(&load), "{load}");
        let all: Vec<Work> = jobs.into_iter().map(|job| sizing.work(job)).collect();
        // What fits the budget fits the device.
        assert!(
            all.iter().all(|work| work.request.amounts().get(BudgetId::GPU) / sizing.reserved_per_moved == work.moved)
        );
        assert!(sizing.device * sizing.reserved_per_moved <= capacity);
        // And nothing is asked of a budget that the configuration does not have.
        assert!(all.iter().all(|work| work.request.amounts().len() == 1));
    }

    #[test]
    fn a_configuration_without_a_gpu_is_refused() {
        for config in [Config::rros(), Config::new().with(Budget::rate(BudgetId::GPU, 5))] {
            assert_eq!(Sizing::new(&deal(&generate(1, 9), 1.0), Some(config)).unwrap_err(), SizingError::NoGpu);
        }
    }
}
