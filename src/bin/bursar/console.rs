//! tokio-console beside the log, in a program that was built for it: the features `cli` and `console`, and a `--cfg`
//! without which `console-subscriber` does not start.

use std::future::Future;
use std::io;

use tokio::task::JoinSet;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::run::InputError;

/// What tokio-console connects to, at port 6669 of this machine unless `TOKIO_CONSOLE_BIND` says where. Nothing if it
/// was not asked for.
#[cfg(all(feature = "console", any(tokio_unstable, console_without_tokio_unstable)))]
pub fn layer<S>(asked: bool) -> Result<Option<impl Layer<S>>, InputError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    // It takes in 128 new tasks and timers each time it publishes, and a run makes more than that a second.
    let often = std::time::Duration::from_millis(100);
    Ok(asked.then(|| console_subscriber::ConsoleLayer::builder().publish_interval(often).with_default_env().spawn()))
}

/// Nothing: this program was not built for it.
#[cfg(not(all(feature = "console", any(tokio_unstable, console_without_tokio_unstable))))]
pub fn layer<S>(asked: bool) -> Result<Option<impl Layer<S>>, InputError>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let none = None::<tracing_subscriber::layer::Identity>;
    if asked { Err(InputError::NoConsole) } else { Ok(none) }
}

/// Spawns a task, which tokio knows by its name if it can.
#[cfg(tokio_unstable)]
#[track_caller]
pub fn spawn<T: Send + 'static>(
    tasks: &mut JoinSet<T>,
    name: &str,
    task: impl Future<Output = T> + Send + 'static,
) -> io::Result<()> {
    tasks.build_task().name(name).spawn(task).map(drop)
}

/// Spawns a task. Tokio knows names only with `--cfg tokio_unstable`.
#[cfg(not(tokio_unstable))]
pub fn spawn<T: Send + 'static>(
    tasks: &mut JoinSet<T>,
    _: &str,
    task: impl Future<Output = T> + Send + 'static,
) -> io::Result<()> {
    tasks.spawn(task);
    Ok(())
}
