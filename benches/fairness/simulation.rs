//! A discrete simulation of one budget: jobs arrive, wait for what they ask, hold it for a time and end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The capacity.
pub const CAPACITY: u64 = 100;
/// The mean hold, in nanoseconds.
pub const HOLD: u64 = 10_000_000;
/// So many small ones wait at most; those that come on top are turned away, or the line would grow for ever.
const SMALL_IN_LINE: usize = 60;

/// A job.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub arrives: u64,
    pub units: u64,
    pub holds: u64,
    pub large: bool,
}

/// Who goes when.
pub trait Policy {
    /// A job arrives. How many are ahead of it, if it has to wait and the policy has a line.
    fn arrive(&mut self, now: u64, id: u32, job: &Job) -> Option<u64>;
    /// A job that was started ends.
    fn end(&mut self, now: u64, id: u32);
    /// The jobs that were started since it was last asked.
    fn started(&mut self) -> Vec<u32>;
}

/// How long jobs of a kind waited, in nanoseconds, ascending.
#[derive(Debug, Default)]
pub struct Waits(Vec<u64>);

impl Waits {
    /// A quantile, in mean holds. Nothing when nobody was started.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        self.0.get((last as f64 * part).ceil() as usize).map(|&wait| wait as f64 / HOLD as f64)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// What came of a simulation.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The part of the capacity that was in use.
    pub utilisation: f64,
    pub small: Waits,
    pub large: Waits,
    /// The waits of large jobs, with how many were ahead.
    pub ahead: Vec<(u64, u64)>,
    /// Large jobs that were still waiting at the end, and the longest that one of them had.
    pub starved: u64,
    pub longest: u64,
    /// What was idle while a large job waited, in mean holds of the whole capacity.
    pub idle: f64,
    /// The longest hold of all.
    pub longest_hold: u64,
}

struct World<'a, P> {
    policy: &'a mut P,
    jobs: BTreeMap<u32, Job>,
    waiting: BTreeMap<u32, Option<u64>>,
    small_in_line: usize,
    /// When which job ends.
    ends: BinaryHeap<Reverse<(u64, u32)>>,
    large_in_line: usize,
    in_use: u64,
    area: u128,
    idle: u128,
    until: u64,
    outcome: Outcome,
}

/// Runs a policy over jobs that are ordered by arrival. Figures are of the time after `from`.
pub fn simulate(policy: &mut impl Policy, jobs: impl Iterator<Item = Job>, from: u64) -> Outcome {
    let mut world = World {
        policy,
        jobs: BTreeMap::new(),
        waiting: BTreeMap::new(),
        small_in_line: 0,
        ends: BinaryHeap::new(),
        large_in_line: 0,
        in_use: 0,
        area: 0,
        idle: 0,
        until: from,
        outcome: Outcome::default(),
    };
    let mut now = 0;
    for (id, job) in (0u32..).zip(jobs) {
        now = job.arrives;
        world.outcome.longest_hold = world.outcome.longest_hold.max(job.holds);
        world.run(now);
        world.arrive(now, id, job, from);
    }
    let measured = now - from;
    world.outcome.utilisation = world.area as f64 / (measured as f64 * CAPACITY as f64);
    world.outcome.idle = world.idle as f64 / (HOLD * CAPACITY) as f64;
    let large = world.waiting.keys().filter_map(|id| world.jobs.get(id)).filter(|job| job.large);
    for job in large {
        world.outcome.starved += 1;
        world.outcome.longest = world.outcome.longest.max(now - job.arrives);
    }
    world.outcome.small.0.sort_unstable();
    world.outcome.large.0.sort_unstable();
    world.outcome
}

impl<P: Policy> World<'_, P> {
    /// Ends what ends up to a time.
    fn run(&mut self, now: u64) {
        while let Some(&Reverse((at, id))) = self.ends.peek() {
            if at > now {
                break;
            }
            self.ends.pop();
            self.pass(at);
            let job = self.jobs.remove(&id).expect("it was started");
            self.in_use -= job.units;
            self.policy.end(at, id);
            self.start(at);
        }
        self.pass(now);
    }

    fn arrive(&mut self, now: u64, id: u32, job: Job, from: u64) {
        if !job.large && self.small_in_line >= SMALL_IN_LINE {
            return;
        }
        self.small_in_line += usize::from(!job.large);
        self.large_in_line += usize::from(job.large);
        self.jobs.insert(id, job);
        let ahead = self.policy.arrive(now, id, &job);
        self.waiting.insert(id, ahead.filter(|_| now >= from));
        self.start(now);
    }

    fn start(&mut self, now: u64) {
        for id in self.policy.started() {
            let job = self.jobs[&id];
            let ahead = self.waiting.remove(&id).expect("it waited");
            self.small_in_line -= usize::from(!job.large);
            self.large_in_line -= usize::from(job.large);
            self.in_use += job.units;
            assert!(self.in_use <= CAPACITY, "more is in use than there is");
            self.ends.push(Reverse((now + job.holds, id)));
            let waited = now - job.arrives;
            let waits = if job.large { &mut self.outcome.large } else { &mut self.outcome.small };
            waits.0.push(waited);
            if let Some(ahead) = ahead.filter(|_| job.large) {
                self.outcome.ahead.push((waited, ahead));
            }
        }
    }

    fn pass(&mut self, now: u64) {
        if now > self.until {
            let time = u128::from(now - self.until);
            self.area += time * u128::from(self.in_use);
            if self.large_in_line > 0 {
                self.idle += time * u128::from(CAPACITY - self.in_use);
            }
            self.until = now;
        }
    }
}

/// Numbers that look random and are the same every time.
pub struct Chance(pub fastrand::Rng);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(fastrand::Rng::with_seed(seed))
    }

    /// An exponential time with this mean.
    pub fn exponential(&mut self, mean: f64) -> u64 {
        // Never of zero, nor shorter than a nanosecond.
        (-(1.0 - self.0.f64()).ln() * mean) as u64 + 1
    }

    /// A small job: one to four units.
    pub fn small(&mut self, arrives: u64) -> Job {
        Job { arrives, units: self.0.u64(1..=4), holds: self.exponential(HOLD as f64), large: false }
    }
}

/// The mean of what small jobs ask.
pub const SMALL_UNITS: f64 = 2.5;

/// Two streams as one, by arrival.
pub fn merge(small: Vec<Job>, large: Vec<Job>) -> Vec<Job> {
    let mut all = small;
    all.extend(large);
    all.sort_by_key(|job| job.arrives);
    all
}

/// Small jobs that together ask for `load` of the capacity, up to a time.
pub fn small_stream(seed: u64, load: f64, until: u64) -> Vec<Job> {
    let mut chance = Chance::new(seed);
    let between = HOLD as f64 * SMALL_UNITS / (CAPACITY as f64 * load);
    let mut at = 0;
    std::iter::from_fn(|| {
        at += chance.exponential(between);
        (at < until).then(|| chance.small(at))
    })
    .collect()
}
