//! The program `bursar`: a mixed inference workload on a real scheduler, and a look at a running one.
//!
//! Exit status: 0 after a run, 1 when something went wrong in it (data came back wrong, books did not balance, there is
//! nothing to look at), 2 when the options, the trace or the configuration cannot be used, 130 after Ctrl-C.

mod admission;
mod comparison;
mod console;
mod execution;
mod generator;
mod options;
mod page;
mod payload;
mod progress;
mod quantiles;
mod report;
mod run;
mod sizing;
mod tally;
mod text;
mod top;
mod trace;
mod usage;
mod workload;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use options::{Cli, Command, Options};
use progress::Screen;
use run::{INTERRUPTED, InputError};

fn main() -> ExitCode {
    let done = match Cli::parse().into_command() {
        Command::Run(options) => run(&options),
        Command::Top(options) => top::top(&options).map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(status) => status,
        Err(error) => {
            eprintln!("bursar: {error:#}");
            ExitCode::from(if error.is::<InputError>() { 2 } else { 1 })
        }
    }
}

/// Runs, with bars and log lines on the standard error stream.
fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(options.json);
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    let log = fmt::layer().with_writer(screen.clone()).with_filter(filter);
    registry().with(console::layer(options.console)?).with(log).init();
    let interrupted = report(options, &screen)?;
    Ok(if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

/// Runs and prints the report. Says whether the run was interrupted.
fn report(options: &Options, screen: &Screen) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime")?;
    let report = runtime.block_on(async { run::run(options, screen, run::stop_on_ctrl_c().await).await })?;
    let text = if options.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.text() };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads may have read enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("the standard output"),
        _ => Ok(report.scheduler.interrupted),
    }
}
