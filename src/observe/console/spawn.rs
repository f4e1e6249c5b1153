//! Tokio tasks under their names.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Spawns a task that tokio knows by its name. `None` if the runtime takes no more.
#[cfg(tokio_unstable)]
#[track_caller]
pub(crate) fn spawn<F>(runtime: &Handle, name: &str, task: F) -> Option<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::task::Builder::new().name(name).spawn_on(task, runtime).ok()
}

/// Spawns a task. Tokio knows names only with `--cfg tokio_unstable`; without it a task shows itself, with a
/// [`TaskRow`](super::TaskRow).
#[cfg(not(tokio_unstable))]
pub(crate) fn spawn<F>(runtime: &Handle, _: &str, task: F) -> Option<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Some(runtime.spawn(task))
}
