//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use thiserror::Error;

use crate::top::Address;

/// An async resource scheduler, shown at work.
#[derive(Debug, Parser)]
#[command(name = "bursar", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Options,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a mixed inference workload (the default)
    Run(Options),
    /// Shows a running scheduler: its budgets, who waits and who holds what
    Top(TopOptions),
}

impl Cli {
    /// What is asked for.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// Options of `top`.
#[derive(Debug, Args)]
pub struct TopOptions {
    /// Where the service shows its inspection page, such as http://127.0.0.1:9500/bursar
    pub address: Address,

    /// Prints one screen as text, and ends
    #[arg(long)]
    pub once: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Options {
    /// Takes the requests from a trace
    ///
    /// CSV with the columns arrived_at, num_prefill_tokens and num_decode_tokens, or one JSON object a line with
    /// timestamp, input_length and output_length. Without a trace they are generated.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// How many times as fast as the trace everything goes
    ///
    /// Arrivals, the times that leases are held, and deadlines.
    #[arg(long, value_name = "FACTOR", default_value_t = 30.0, value_parser = speed)]
    pub speed: f64,

    /// Takes at most so many requests [default: all of a trace, 3000 generated]
    #[arg(long, value_name = "REQUESTS", value_parser = limit)]
    pub limit: Option<usize>,

    /// The seed of the generated requests
    #[arg(long, default_value_t = 1, conflicts_with = "trace")]
    pub seed: u64,

    /// Runs the same requests through chained semaphores too
    #[arg(long)]
    pub compare: bool,

    /// Prints one JSON object instead of tables, and no progress
    #[arg(long)]
    pub json: bool,

    /// Takes the budgets from a TOML file
    ///
    /// It needs a `gpu0` with a capacity; `host0`, `attention` and `io` are used if they are there.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Shows the scheduler while it runs, on a page at this address
    ///
    /// Such as 127.0.0.1:9500, for a browser and for `bursar top`. Port 0 takes a free one; the page's address is
    /// printed on the standard error stream. There is no login.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub inspect: Option<SocketAddr>,

    /// Shows the scheduler and its tasks to tokio-console while it runs
    ///
    /// In a program that was built for it, with RUSTFLAGS="--cfg tokio_unstable" and --features cli,console.
    #[arg(long)]
    pub console: bool,
}

/// Requests that are generated when no limit is given: about ten seconds of arrivals at the usual speed.
const GENERATED: usize = 3_000;

impl Options {
    /// How many requests to generate.
    pub fn generated(&self) -> usize {
        self.limit.unwrap_or(GENERATED)
    }
}

/// An option whose value makes no sense.
#[derive(Debug, PartialEq, Error)]
enum OptionError {
    #[error("a speed is a number between 0.001 and 1,000,000")]
    Speed,
    #[error("a limit is a whole number, at least 1")]
    Limit,
}

fn speed(text: &str) -> Result<f64, OptionError> {
    text.parse().ok().filter(|speed| (0.001..=1e6).contains(speed)).ok_or(OptionError::Speed)
}

fn limit(text: &str) -> Result<usize, OptionError> {
    text.parse().ok().filter(|&limit| limit > 0).ok_or(OptionError::Limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| match cli.into_command() {
            Command::Run(options) => options,
            Command::Top(options) => panic!("{options:?}"),
        })
    }

    #[test]
    fn the_command_alone_is_a_run_with_the_usual_options() {
        for line in ["bursar", "bursar run"] {
            let options = options(line).unwrap();
            assert_eq!((options.speed, options.generated(), options.seed), (30.0, GENERATED, 1));
            assert!(!options.compare && !options.json && options.trace.is_none());
        }
        for line in ["bursar --compare --limit 5", "bursar run --limit 5 --compare"] {
            let options = options(line).unwrap();
            assert_eq!((options.compare, options.generated()), (true, 5));
        }
    }

    #[test]
    fn senseless_values_are_refused_with_what_they_must_be() {
        for bad in ["0", "-1", "NaN", "inf", "1e7", "fast"] {
            let refused = options(&format!("bursar --speed={bad}")).unwrap_err();
            assert!(refused.to_string().contains(&OptionError::Speed.to_string()), "{refused}");
            assert_eq!(refused.exit_code(), 2);
        }
        for bad in ["0", "-5", "1.5"] {
            let refused = options(&format!("bursar --limit={bad}")).unwrap_err();
            assert!(refused.to_string().contains(&OptionError::Limit.to_string()), "{refused}");
        }
        assert!(options("bursar --trace x --seed 3").is_err());
    }
}
