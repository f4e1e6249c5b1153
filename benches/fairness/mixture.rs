//! Large requests among small ones: what they cost, and how long they wait.

use crate::policy::{Bursar, Bypass, STRICT, USUAL};
use crate::shortest::SmallestFirst;
use crate::simulation::{CAPACITY, HOLD, Job, Outcome, merge, simulate, small_stream};
use bursar_benches::{Goal, Goals, Options, Table};

/// A large request every so many mean holds.
const EVERY: [u64; 6] = [5, 10, 20, 50, 100, 200];
/// What a large request asks.
const LARGE: u64 = CAPACITY * 9 / 10;
/// Small ones ask for so much of the capacity.
const LOAD: f64 = 1.1;
/// Mean holds before figures are taken.
const WARM: u64 = 30;
/// Large requests that come at least this seldom may not cost more than three hundredths.
const SELDOM: u64 = 50;

const POLICIES: [Bypass; 5] = [
    STRICT,
    USUAL,
    Bypass { name: "limit 64", limit: 64, time: 10.0 },
    Bypass { name: "2 holds", limit: u32::MAX, time: 2.0 },
    Bypass { name: "10 holds", limit: u32::MAX, time: 10.0 },
];

/// The least that making room costs, in mean holds of the whole capacity.
fn least_cost() -> f64 {
    let part = LARGE as f64 / CAPACITY as f64;
    -(1.0 - part).ln() - part
}

pub fn run(options: &Options, goals: &mut Goals) {
    println!(
        "\ncapacity {CAPACITY}; small ones of 1 to 4 come for {LOAD} of it, large ones of {LARGE} every k mean holds; \
         times in mean holds;\nidle: what was idle while a large one waited, for each, in mean holds of the whole \
         capacity; {:.2} is the least when room is made once for each",
        least_cost()
    );
    for every in EVERY {
        let holds = options.pick((100 * every).max(4_000), (10 * every).max(500));
        let jobs = jobs(every, holds);
        println!("\none large request every {every} mean holds, {holds} of them\n");
        let mut table = Table::new([
            "",
            "in use",
            "/ smallest",
            "idle a large",
            "/ least",
            "large",
            "max",
            "p99",
            "x bound",
            "small p50",
            "p99",
        ]);
        let best = simulate(&mut SmallestFirst::default(), jobs.iter().copied(), WARM * HOLD);
        row(&mut table, "smallest first", &best, [1.0, 0.0], None);
        for policy in POLICIES {
            let found = simulate(&mut Bursar::new(policy), jobs.iter().copied(), WARM * HOLD);
            let ratio = found.utilisation / best.utilisation;
            let idle = found.idle / found.large.count().max(1) as f64;
            let bound = of_bound(&found, policy);
            row(&mut table, policy.name, &found, [ratio, idle], Some(bound));
            goals_of(goals, every, policy, ratio, bound, &found);
        }
        table.print();
    }
}

fn goals_of(goals: &mut Goals, every: u64, policy: Bypass, ratio: f64, bound: f64, found: &Outcome) {
    if policy.name != USUAL.name {
        return;
    }
    if every >= SELDOM {
        let what = format!("in use, a large one every {every} holds, x smallest first");
        goals.check(what, ratio, Goal::AtLeast(0.97));
    }
    let what = format!("longest wait of a large one, every {every} holds, x its bound");
    goals.check(what, bound, Goal::AtMost(1.0, None));
    assert!(found.starved <= 2 || every <= 10, "large requests pile up: {}", found.starved);
}

/// The longest wait of a large request as a part of its bound, which is stated in the engine's module `bypass`: with n
/// ahead and holds of at most H, `bypass_time + (n + 1) H`.
fn of_bound(found: &Outcome, policy: Bypass) -> f64 {
    let bound = |ahead: u64| policy.time().as_nanos() as f64 + (ahead + 1) as f64 * found.longest_hold as f64;
    found.ahead.iter().map(|&(waited, ahead)| waited as f64 / bound(ahead)).fold(0.0, f64::max)
}

fn jobs(every: u64, holds: u64) -> Vec<Job> {
    let until = holds * HOLD;
    let mut chance = crate::simulation::Chance::new(every);
    let large =
        |at: u64| Job { arrives: at * every * HOLD, units: LARGE, holds: chance.exponential(HOLD as f64), large: true };
    merge(small_stream(1, LOAD, until), (1..holds / every).map(large).collect())
}

fn row(table: &mut Table, name: &str, found: &Outcome, [ratio, idle]: [f64; 2], bound: Option<f64>) {
    let cell = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
    let waited = found.large.quantile(1.0).unwrap_or(0.0).max(found.longest as f64 / HOLD as f64);
    let own = bound.is_some();
    table.row([
        name.to_owned(),
        format!("{:.3}", found.utilisation),
        format!("{ratio:.3}"),
        cell(own.then_some(idle)),
        cell(own.then(|| idle / least_cost())),
        format!("{}", found.large.count()),
        format!("{waited:.1}"),
        cell(found.large.quantile(0.99)),
        cell(bound),
        cell(found.small.quantile(0.5)),
        cell(found.small.quantile(0.99)),
    ]);
}
