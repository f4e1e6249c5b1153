//! All ratios: bursar against its peers, in one process and in interleaved rounds.
//!
//! `cargo bench -p bursar-benches --bench ratios` prints everything; `cargo bench --bench ratios -- uncontended
//! threads` some sections;
//! `--quick` runs few and short rounds. A ratio is the median over rounds of subject / peer within a round; times of
//! one thread are its CPU time.

mod contended;
mod hand_off;
mod idle;
mod queue;
mod threads;
mod uncontended;

use bursar_benches::{Goals, Options, child_args, print_load};

/// Measures, prints, and notes how far the goals are met.
type Section = fn(&Options, &mut Goals);

fn main() {
    if let Some(args) = child_args() {
        return queue::child(&args);
    }
    let Some(options) = Options::from_args() else { return };
    print_load();
    let mut goals = Goals::default();
    let sections: [(&str, Section); 6] = [
        ("uncontended", uncontended::run),
        ("threads", threads::run),
        ("scaling", threads::scaling),
        ("contended", contended::run),
        ("queue", queue::run),
        ("idle", idle::run),
    ];
    for (name, run) in sections {
        if options.wants(name) {
            println!("\n# {name}");
            run(&options, &mut goals);
        }
    }
    goals.print();
}
