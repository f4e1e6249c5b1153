//! What the benchmarks share: peers behind one face, interleaved rounds, medians of ratios, and tables.

pub mod callgrind;
pub mod chain;
pub mod critical;
pub mod module;
pub mod peers;
mod rounds;
mod table;

pub use rounds::{Rounds, Subject, interleave};
pub use table::{Goal, Goals, Table};

/// What the command line asks for.
pub struct Options {
    /// Few and short rounds: to see that a benchmark works, not to measure.
    pub quick: bool,
    sections: Vec<String>,
}

impl Options {
    /// Reads the command line. `None` when this was not started by `cargo bench`, but by a run of all tests, say.
    pub fn from_args() -> Option<Self> {
        let mut args: Vec<String> = std::env::args().skip(1).collect();
        if !args.iter().any(|arg| arg == "--bench") {
            println!("a benchmark: run it with `cargo bench`");
            return None;
        }
        let quick = args.iter().any(|arg| arg == "--quick");
        args.retain(|arg| !arg.starts_with("--"));
        Some(Options { quick, sections: args })
    }

    /// Whether a section is wanted: all are when none is named.
    pub fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }

    /// `full`, or `quick` when that was asked for.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// The arguments after `--child`, when this process is one that a benchmark started.
pub fn child_args() -> Option<Vec<String>> {
    let mut args = std::env::args().skip(1);
    (args.next()? == "--child").then(|| args.collect())
}

/// Nanoseconds of one of `ops` operations that took `total`.
pub fn nanos_each(total: std::time::Duration, ops: u64) -> f64 {
    total.as_nanos() as f64 / ops as f64
}

/// Says what the machine is doing, so that a noisy run can be told from a quiet one.
pub fn print_load() {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    println!("{cores} cores, load average {load}");
}
