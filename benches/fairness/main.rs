//! What order costs: large requests among an endless stream of small ones, small ones behind a blocked large one, and
//! an urgent one among very many that have time.
//!
//! `cargo bench -p bursar-benches --bench fairness --features paused`; `-- mixture blocked critical` for some sections;
//! `--quick` for short runs. The first two are discrete simulations on virtual time, over the real scheduler with its
//! clock moved by hand, and the same on every machine. The third is measured.
//!
//! # What a large request must cost
//!
//! While a large request is made room for, what comes back stays idle. Let a part `x` of the capacity be in use, by
//! leases that end at the rate `1 / h` each, so that nobody knows which of them ends next; let `a` be what is granted
//! to others meanwhile. Then `x' = (a - x) / h`, and the idle area on the way from a full budget to `1 - q` in use,
//! for a request of the part `q`, is the integral of `(1 - x) h / (x - a) dx` from `1 - q` to 1. It is least for `a =
//! 0`: granting nothing on the way is best, and to grant something only makes the way longer. So each time room is made
//! costs at least `(-ln(1 - q) - q) h` times the capacity: 1.40 mean holds for 90 %. The time it takes is `-ln(1 - q)
//! h`, 2.3 mean holds.
//!
//! One large request every `k` mean holds, each made room for by itself, therefore costs at least `1.40 / k` of the
//! capacity whatever the policy: 2.8 % at 50, 28 % at 5. A policy can only save by making room once for several, and
//! then all but the last of these have to wait for one another.

mod blocked;
mod critical;
mod mixture;
mod policy;
mod shortest;
mod simulation;

use bursar_benches::{Goals, Options, print_load};

/// Simulates or measures, prints, and notes how far the goals are met.
type Section = fn(&Options, &mut Goals);

fn main() {
    let Some(options) = Options::from_args() else { return };
    print_load();
    let mut goals = Goals::default();
    let sections: [(&str, Section); 3] =
        [("mixture", mixture::run), ("blocked", blocked::run), ("critical", critical::run)];
    for (name, run) in sections {
        if options.wants(name) {
            println!("\n# {name}");
            run(&options, &mut goals);
        }
    }
    goals.print();
}
