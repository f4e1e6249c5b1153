//! A stream of small requests behind a large one that is blocked for long, because somebody holds half of the budget.

use crate::policy::{Bursar, Bypass, STRICT, USUAL};
use crate::simulation::{CAPACITY, HOLD, Job, Outcome, merge, simulate, small_stream};
use bursar_benches::{Goal, Goals, Options, Table};

/// Small ones ask for so much of the capacity.
const LOAD: f64 = 0.3;
/// Somebody takes half for ten mean holds, every forty; the large request comes just after.
const EVERY: u64 = 40;
const HELD: u64 = 10;

const POLICIES: [Bypass; 6] = [
    STRICT,
    USUAL,
    Bypass { name: "limit 64", limit: 64, time: 10.0 },
    Bypass { name: "limit 256", limit: 256, time: 10.0 },
    Bypass { name: "10 holds", limit: u32::MAX, time: 10.0 },
    Bypass { name: "15 holds", limit: u32::MAX, time: 15.0 },
];

pub fn run(options: &Options, goals: &mut Goals) {
    let rounds = options.pick(500, 50);
    println!(
        "\nsmall ones of 1 to 4 come for {LOAD} of {CAPACITY}; every {EVERY} mean holds half is held for {HELD}, and a \
         large one of 90 % comes;\nwaits in mean holds\n"
    );
    let mut table = Table::new(["", "small p50", "p90", "p99", "max", "large p50", "max"]);
    let mut p99 = Vec::new();
    for policy in POLICIES {
        let found = simulate(&mut Bursar::new(policy), jobs(rounds).into_iter(), 0);
        let cell = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
        let Outcome { small, large, .. } = &found;
        let [half, most, nearly, all] = [0.5, 0.9, 0.99, 1.0].map(|part| cell(small.quantile(part)));
        // Half of the large ones are those that hold the half; they never wait for long.
        let [middle, last] = [0.75, 1.0].map(|part| cell(large.quantile(part)));
        table.row([policy.name.to_owned(), half, most, nearly, all, middle, last]);
        p99.push(small.quantile(0.99).unwrap_or(0.0));
    }
    table.print();
    let [strict, usual, _, _, ten, ..] = p99[..] else { return };
    goals.check("small ones behind a blocked large one, p99, x strict FIFO", usual / strict, Goal::AtMost(1.0, None));
    goals.check("the same with a bypass of 10 holds and no limit", ten / strict, Goal::AtMost(0.5, None));
}

fn jobs(rounds: u64) -> Vec<Job> {
    let long = |at: u64| Job { arrives: at * EVERY * HOLD, units: CAPACITY / 2, holds: HELD * HOLD, large: true };
    let large = |at: u64| Job { arrives: at * EVERY * HOLD + HOLD, units: CAPACITY * 9 / 10, holds: HOLD, large: true };
    let all = (1..=rounds).flat_map(|at| [long(at), large(at)]).collect();
    merge(small_stream(2, LOAD, (rounds + 1) * EVERY * HOLD), all)
}
