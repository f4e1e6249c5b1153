//! Tokio tasks under their names.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Spawns a task that tokio knows by its name, where tokio is built to know names.
#[cfg(tokio_unstable)]
pub(super) fn spawn<F>(runtime: &Handle, name: &str, task: F) -> Option<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::task::Builder::new().name(name).spawn_on(task, runtime).ok()
}

/// Spawns a task. Tokio knows names only with `--cfg tokio_unstable`.
#[cfg(not(tokio_unstable))]
pub(super) fn spawn<F>(runtime: &Handle, _name: &str, task: F) -> Option<JoinHandle<F::Output>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    Some(runtime.spawn(task))
}
