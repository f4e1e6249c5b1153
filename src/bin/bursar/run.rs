//! `bursar run`: from the options to the report.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use bursar::{Config, ConfigError, Scheduler, Stats};
use thiserror::Error;
use tokio::sync::watch;

use crate::admission::Chain;
use crate::comparison;
use crate::execution::{Figures, Plan, Stop, execute};
use crate::generator::generate;
use crate::options::Options;
use crate::page;
use crate::progress::{Progress, Screen};
use crate::report::Report;
use crate::sizing::{Sizing, SizingError};
use crate::trace::{self, Arrival, TraceError};
use crate::workload::{MODULES, deal};

/// How often the scheduler checks its books while it runs.
const VERIFY_EVERY: Duration = Duration::from_secs(1);

/// How often it notes what is in use, if somebody may look at that.
const SAMPLE_EVERY: Duration = Duration::from_millis(500);

/// Input that cannot be used. Nothing has been run.
#[derive(Debug, Error)]
pub enum InputError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("{}: {error}", file.display())]
    ConfigFile { file: PathBuf, error: std::io::Error },
    #[error("{}: {error}", file.display())]
    Config { file: PathBuf, error: ConfigError },
    #[error("{}: {error}", file.display())]
    Sizing { file: PathBuf, error: SizingError },
    #[error("the page cannot be shown at {address}: {error}")]
    Inspect { address: SocketAddr, error: std::io::Error },
    #[cfg_attr(
        all(feature = "console", any(tokio_unstable, console_without_tokio_unstable)),
        expect(dead_code, reason = "it was")
    )]
    #[error(
        "this program was not built for tokio-console; build it with RUSTFLAGS=\"--cfg tokio_unstable\" and \
         --features cli,console"
    )]
    NoConsole,
}

/// Runs the workload as the options say.
pub async fn run(options: &Options, screen: &Screen, stop: Stop) -> anyhow::Result<Report> {
    let plan = Arc::new(plan(options)?);
    let (figures, stats) = with_scheduler(&plan, options.inspect, screen, stop.clone()).await?;
    let leased = stats.budgets.iter().filter(|budget| !budget.rate).map(|budget| budget.granted).sum();
    anyhow::ensure!(leased == 0 && stats.leases == 0, "{leased} units in {} leases are still out", stats.leases);
    let mut report = Report::new(options, &plan, figures, leased);
    if options.compare && !report.scheduler.interrupted {
        let chain = Arc::new(Chain::new(&plan.sizing.config));
        let progress = bars(screen, "chained semaphores", &plan);
        let semaphores = execute(&plan, chain, progress, stop).await.context("with semaphores")?;
        if !semaphores.interrupted {
            report.comparison = Some(comparison::sentences(&report.scheduler, &semaphores));
            report.semaphores = Some(semaphores);
        }
    }
    Ok(report)
}

/// What is to be run, or what is wrong with the input.
fn plan(options: &Options) -> Result<Plan, InputError> {
    let config = options.config.as_deref().map(read_config).transpose()?;
    let arrivals: Vec<Arrival> = match &options.trace {
        Some(file) => trace::read(file, options.limit.unwrap_or(usize::MAX))?,
        None => generate(options.seed, options.generated()),
    };
    let jobs = deal(&arrivals, options.speed);
    let file = || options.config.clone().unwrap_or_default();
    let sizing = Sizing::new(&jobs, config).map_err(|error| InputError::Sizing { file: file(), error })?;
    let works = jobs.into_iter().map(|job| sizing.work(job)).collect();
    Ok(Plan { sizing, works })
}

fn read_config(file: &Path) -> Result<Config, InputError> {
    let text = std::fs::read_to_string(file).map_err(|error| InputError::ConfigFile { file: file.into(), error })?;
    Config::from_toml(&text).map_err(|error| InputError::Config { file: file.into(), error })
}

/// Runs a plan through a scheduler and shuts it down, which checks its books.
async fn with_scheduler(
    plan: &Arc<Plan>,
    inspect: Option<SocketAddr>,
    screen: &Screen,
    stop: Stop,
) -> anyhow::Result<(Figures, Stats)> {
    let config = plan.sizing.config.clone();
    let builder = Scheduler::builder().config(config.clone());
    let builder = if config.verify_every.is_none() { builder.verify_every(VERIFY_EVERY) } else { builder };
    let builder = match (inspect, config.sample_every) {
        (Some(_), None) => builder.sample_every(SAMPLE_EVERY),
        _ => builder,
    };
    let scheduler = builder.spawn()?;
    let _page = match inspect {
        Some(address) => {
            let shown = page::show(&scheduler, address).await;
            Some(shown.map_err(|error| InputError::Inspect { address, error })?)
        }
        None => None,
    };
    let progress = bars(screen, "scheduler", plan);
    let figures = execute(plan, Arc::new(scheduler.clone()), progress, stop).await?;
    let stats = scheduler.shutdown().await?;
    tracing::info!(%stats, "the scheduler is shut down");
    Ok((figures, stats))
}

fn bars(screen: &Screen, title: &'static str, plan: &Plan) -> Arc<Progress> {
    let mut requests = [0; MODULES.len()];
    plan.works.iter().for_each(|work| requests[work.job.module] += 1);
    screen.bars(title, requests)
}

/// Tells a run to stop at the first Ctrl-C, and ends the process at the second.
pub async fn stop_on_ctrl_c() -> Stop {
    let (tell, stop) = watch::channel(false);
    let mut first = Box::pin(tokio::signal::ctrl_c());
    // The first poll sets up the handler: from here on Ctrl-C does not end the process by itself.
    let polled = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx))).await;
    tokio::spawn(async move {
        let pressed = match polled {
            Poll::Ready(pressed) => pressed,
            Poll::Pending => first.await,
        };
        if let Err(error) = pressed {
            tracing::warn!(%error, "Ctrl-C will end the run at once");
            return;
        }
        tracing::warn!("Ctrl-C: finishing what runs; once more ends at once");
        // Without a receiver the run is over anyway.
        let _ = tell.send(true);
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED.into());
        }
    });
    stop
}

/// The exit status after Ctrl-C: what a shell makes of that signal.
pub const INTERRUPTED: u8 = 130;
