//! Handing units on under contention: throughput, CPU time, and how long each level waits.

use std::time::Duration;

use bursar::Priority;

use crate::hand_off::{CAPACITY, Crowd, Sample, run as hand_off};
use bursar_benches::peers::{self, Bursar, BursarBundle, Intrusives, MutexNotify, Peer, Prioritised, Tokio, Visit};
use bursar_benches::{Goal, Goals, Options, Rounds, Subject, Table, interleave};

use Priority::{Critical, High, Idle, Low, Normal};

pub fn run(options: &Options, goals: &mut Goals) {
    let window = options.pick(Duration::from_millis(700), Duration::from_millis(50));
    let rounds = options.pick(7, 2);
    println!("\n2 workers, capacity {CAPACITY}, acquire, yield, release; waits in microseconds, p50 / p99 / p999");
    for tasks in [64, 1024] {
        let crowd = |urgent| Crowd { tasks, urgent, rest: Normal, window };
        one_level(crowd(&[]), rounds, goals);
        one_urgent(crowd(&[(Critical, 1)]), rounds, goals);
        let few: &[_] = match tasks {
            64 => &[(Critical, 1), (High, 1), (Normal, 1), (Low, 1)],
            _ => &[(Critical, 4), (High, 4), (Normal, 4), (Low, 4)],
        };
        few_of_each(Crowd { rest: Idle, ..crowd(few) }, rounds, goals);
        bundle(crowd(&[]), rounds, goals);
    }
}

/// Makes a subject of every peer: a run of the crowd.
struct Crowded {
    crowd: Crowd,
    subjects: Vec<Subject<'static, Sample>>,
}

impl Visit for Crowded {
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P) {
        let crowd = self.crowd;
        self.subjects.push(Subject::new(name, move || hand_off(crowd, open)));
    }
}

fn measure(crowd: Crowd, rounds: usize, peers: impl FnOnce(&mut Crowded)) -> Rounds<Sample> {
    let mut crowded = Crowded { crowd, subjects: Vec::new() };
    peers(&mut crowded);
    interleave(crowded.subjects, rounds)
}

fn one_level(crowd: Crowd, rounds: usize, goals: &mut Goals) {
    let found = measure(crowd, rounds, |visit| {
        visit.visit(peers::TOKIO, Tokio::<1>::open);
        visit.visit(peers::PRIORITY, Prioritised::<1>::open);
        visit.visit(peers::INTRUSIVE, Intrusives::<1>::open);
        visit.visit(peers::BURSAR, Bursar::open);
    });
    println!("\n{} tasks, one level\n", crowd.tasks);
    print(&found, peers::TOKIO, &[Normal]);
    let throughput = found.ratio(peers::BURSAR, peers::TOKIO, |sample| sample.per_second);
    goals.check(format!("{} tasks contended, throughput x tokio", crowd.tasks), throughput, Goal::AtLeast(1.0));
}

fn one_urgent(crowd: Crowd, rounds: usize, goals: &mut Goals) {
    let found = measure(crowd, rounds, priorities);
    println!("\n{} tasks, 1 CRITICAL among NORMAL\n", crowd.tasks);
    print(&found, peers::TOKIO, &[Critical, Normal]);
    let wait = found.median(peers::BURSAR, |sample| sample.wait_us(Critical, 0.99));
    goals.check(format!("1 CRITICAL of {} tasks, p99 wait, us", crowd.tasks), wait, Goal::AtMost(10.0, None));
}

fn few_of_each(crowd: Crowd, rounds: usize, goals: &mut Goals) {
    let found = measure(crowd, rounds, priorities);
    println!("\n{} tasks, {} of each level among IDLE\n", crowd.tasks, crowd.urgent[0].1);
    print(&found, peers::TOKIO, &[Critical, High, Idle]);
    let wait = found.median(peers::BURSAR, |sample| sample.wait_us(Critical, 0.99));
    goals.check(format!("few of each level, {} tasks, p99 wait, us", crowd.tasks), wait, Goal::AtMost(10.0, None));
}

fn priorities(visit: &mut Crowded) {
    visit.visit(peers::TOKIO, Tokio::<1>::open);
    visit.visit(peers::PRIORITY, Prioritised::<1>::open);
    visit.visit(peers::BURSAR, Bursar::open);
}

fn bundle(crowd: Crowd, rounds: usize, goals: &mut Goals) {
    let found = measure(crowd, rounds, |visit| {
        visit.visit(peers::TOKIO_4, Tokio::<4>::open);
        visit.visit(peers::PRIORITY_4, Prioritised::<4>::open);
        visit.visit(peers::MUTEX_NOTIFY, MutexNotify::open);
        visit.visit(peers::BURSAR_4, BursarBundle::open);
    });
    println!("\n{} tasks, four budgets\n", crowd.tasks);
    print(&found, peers::TOKIO_4, &[Normal]);
    let throughput = found.ratio(peers::BURSAR_4, peers::TOKIO_4, |sample| sample.per_second);
    let what = format!("{} tasks contended, four budgets, throughput x 4 tokio", crowd.tasks);
    goals.check(what, throughput, Goal::AtLeast(1.0));
}

fn print(found: &Rounds<Sample>, base: &str, levels: &[Priority]) {
    let mut table = Table::new(["", "Mops/s", "x tokio", "quartiles", "CPU ns", "x tokio", "waits"]);
    for name in found.names() {
        let (low, high) = found.quartiles(name, base, |sample| sample.per_second);
        let wait = |level, quantile| found.median(name, |sample| sample.wait_us(level, quantile));
        let waits = levels.iter().map(|&level| {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|quantile| wait(level, quantile));
            format!("{level} {p50:.1} / {p99:.1} / {p999:.1}")
        });
        table.row([
            name.into(),
            format!("{:.3}", found.median(name, |sample| sample.per_second) / 1e6),
            format!("{:.3}", found.ratio(name, base, |sample| sample.per_second)),
            format!("{low:.3} {high:.3}"),
            format!("{:.0}", found.median(name, |sample| sample.cpu_ns)),
            format!("{:.3}", found.ratio(name, base, |sample| sample.cpu_ns)),
            waits.collect::<Vec<_>>().join("   "),
        ]);
    }
    table.print();
}
