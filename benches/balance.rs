//! The balancing policies against each other, simulated on virtual time: how long everything takes (makespan), and how
//! long a task is there at the 99th percentile, from its arrival to its end.
//!
//! `cargo bench -p bursar-benches --bench balance`. Seeds 1 to 20; every policy sees the same tasks. A task goes to a
//! worker when it arrives and stays there, so what is compared is the choice alone: a dispatcher also evens out what is
//! queued.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bursar::Priority;
use bursar::tasks::balance::{Balancer, Job, Policy, Service, Worker};
use bursar_benches::{Options, Table};

/// With the second, two choices look at a quarter of them for each task; with the first at all.
const WORKERS: [usize; 2] = [8, 32];
const SEEDS: u64 = 20;
/// A unit of cost takes so long, in nanoseconds.
const UNIT: u64 = 1_000_000;

/// Who is how slow, what tasks cost, and how much of what the workers can do is asked of them.
#[derive(Clone, Copy)]
struct Scene {
    name: &'static str,
    cost: fn(&mut fastrand::Rng) -> u64,
    /// How many times slower the first worker is.
    slow: u64,
    /// In percent.
    load: u64,
    /// How old the figures are at most that a policy sees, in nanoseconds.
    stale: u64,
}

const SCENES: [Scene; 6] = [
    Scene { name: "equal costs, equal workers", cost: |_| 10, slow: 1, load: 80, stale: 0 },
    Scene { name: "skewed costs: one in ten costs thirty times as much", cost: skewed, slow: 1, load: 70, stale: 0 },
    Scene { name: "one worker ten times slower", cost: |_| 10, slow: 10, load: 70, stale: 0 },
    Scene { name: "skewed costs, one worker ten times slower", cost: skewed, slow: 10, load: 60, stale: 0 },
    Scene { name: "skewed costs, reports every 50 ms", cost: skewed, slow: 1, load: 70, stale: 50 * UNIT },
    Scene { name: "one slow worker, reports every 50 ms", cost: |_| 10, slow: 10, load: 70, stale: 50 * UNIT },
];

fn skewed(dice: &mut fastrand::Rng) -> u64 {
    if dice.u8(..10) == 0 { 60 } else { 2 }
}

fn policies(seed: u64) -> [Policy; 6] {
    [
        Policy::RoundRobin,
        Policy::LeastLoaded,
        Policy::PriorityBased,
        Policy::Predictive,
        Policy::TwoChoices { seed },
        Policy::Affinity,
    ]
}

const NAMES: [&str; 6] =
    ["round robin", "least loaded", "priority-based", "predictive", "two choices, peak EWMA", "affinity, no key held"];

/// Arrivals of so many tasks: time and cost.
fn arrivals(scene: Scene, workers: usize, tasks: usize, seed: u64) -> Vec<(u64, Job)> {
    let mut dice = fastrand::Rng::with_seed(seed);
    let costs: Vec<u64> = (0..tasks).map(|_| (scene.cost)(&mut dice)).collect();
    let mean = costs.iter().sum::<u64>() as f64 / tasks as f64;
    let speed = (workers - 1) as f64 + 1.0 / scene.slow as f64;
    let gap = mean * UNIT as f64 * 100.0 / (speed * scene.load as f64);
    let mut now = 0.0;
    let arrive = |cost| {
        now += -(1.0 - dice.f64()).ln() * gap;
        (now as u64, Job { priority: Priority::ALL[dice.usize(..5)], cost })
    };
    costs.into_iter().map(arrive).collect()
}

/// A worker that does one task after the other.
#[derive(Default)]
struct Line {
    /// Arrival and cost of those that are there, the first at work.
    tasks: VecDeque<(u64, u64)>,
    cost: u64,
    service: Service,
}

/// The makespan and all times of stay, in nanoseconds.
fn simulate(scene: Scene, workers: usize, policy: Policy, arrivals: &[(u64, Job)]) -> (u64, Vec<u64>) {
    let mut balancer = Balancer::new(policy);
    let mut lines: Vec<Line> = (0..workers).map(|_| Line::default()).collect();
    let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let (mut seen, mut seen_at) = (views(&lines), 0);
    let (mut stays, mut next, mut last) = (Vec::with_capacity(arrivals.len()), 0, 0);
    let takes = |worker: usize, cost: u64| cost * UNIT * if worker == 0 { scene.slow } else { 1 };
    while next < arrivals.len() || !ends.is_empty() {
        let arrival = arrivals.get(next).map_or(u64::MAX, |(at, _)| *at);
        if let Some(&Reverse((now, worker))) = ends.peek().filter(|Reverse((at, _))| *at <= arrival) {
            ends.pop();
            last = now;
            let line = &mut lines[worker];
            let Some((arrived, cost)) = line.tasks.pop_front() else { continue };
            line.cost -= cost;
            line.service.record(cost, takes(worker, cost), now);
            stays.push(now - arrived);
            if let Some(&(_, cost)) = line.tasks.front() {
                ends.push(Reverse((now + takes(worker, cost), worker)));
            }
            continue;
        }
        let (now, job) = arrivals[next];
        next += 1;
        if now >= seen_at + scene.stale {
            (seen, seen_at) = (views(&lines), now);
        }
        let worker = balancer.choose(&job, &seen).expect("all are active");
        let line = &mut lines[worker];
        line.cost += job.cost;
        line.tasks.push_back((now, job.cost));
        if line.tasks.len() == 1 {
            ends.push(Reverse((now + takes(worker, job.cost), worker)));
        }
    }
    (last, stays)
}

fn views(lines: &[Line]) -> Vec<Worker> {
    let view = |line: &Line| Worker {
        tasks: line.tasks.len() as u64,
        service: line.service.clone(),
        ..Worker::with_load(line.cost)
    };
    lines.iter().map(view).collect()
}

fn main() {
    let Some(options) = Options::from_args() else { return };
    let tasks = options.pick(20_000, 2_000);
    for workers in WORKERS {
        SCENES.into_iter().for_each(|scene| compare(scene, workers, tasks));
    }
}

/// Prints how all policies do in a scene.
fn compare(scene: Scene, workers: usize, tasks: usize) {
    println!("\n{}: {workers} workers, {}% load, {tasks} tasks, seeds 1 to {SEEDS}\n", scene.name, scene.load);
    let mut makespans = [0.0; NAMES.len()];
    let mut stays: [Vec<u64>; NAMES.len()] = Default::default();
    for seed in 1..=SEEDS {
        let arrivals = arrivals(scene, workers, tasks, seed);
        for (at, policy) in policies(seed).into_iter().enumerate() {
            let (makespan, mut stayed) = simulate(scene, workers, policy, &arrivals);
            makespans[at] += makespan as f64 / SEEDS as f64;
            stays[at].append(&mut stayed);
        }
    }
    let mut table = Table::new(["", "makespan", "to round robin", "p50", "p99", "to round robin"]);
    let quantile = |stays: &[u64], part: usize| stays[(stays.len() - 1) * part / 100] as f64 / 1e6;
    stays.iter_mut().for_each(|stays| stays.sort_unstable());
    let base = (makespans[0], quantile(&stays[0], 99));
    for (at, name) in NAMES.iter().enumerate() {
        let (half, most) = (quantile(&stays[at], 50), quantile(&stays[at], 99));
        table.row([
            (*name).to_owned(),
            format!("{:.2} s", makespans[at] / 1e9),
            format!("{:.2}", makespans[at] / base.0),
            format!("{half:.1} ms"),
            format!("{most:.1} ms"),
            format!("{:.3}", most / base.1),
        ]);
    }
    table.print();
}
