//! What blocks, off the thread that polls: on one of the runtime's threads that may block, or, outside of a runtime, on
//! a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use futures::channel::oneshot;
use tokio::runtime::Handle;

use super::error::SpaceError;
use crate::model::SpaceId;

/// Has it done, and does not wait. `false` if there is no thread to be had: then it was dropped, here and now.
pub(crate) fn detach(work: impl FnOnce() + Send + 'static) -> bool {
    let (work, taken_back) = held(work);
    let begun = match Handle::try_current() {
        // Tokio panics when the system has no thread left.
        Ok(runtime) => catch_unwind(AssertUnwindSafe(|| drop(runtime.spawn_blocking(work)))).is_ok(),
        Err(_) => thread::Builder::new().name("bursar".into()).spawn(work).is_ok(),
    };
    if !begun {
        taken_back();
    }
    begun
}

/// The same work, and what takes it back: it is dropped then, unless it has begun. Tokio keeps what it found no thread
/// for, and does it when there is one.
fn held(work: impl FnOnce() + Send + 'static) -> (impl FnOnce() + Send + 'static, impl FnOnce()) {
    let held = Arc::new(Mutex::new(Some(work)));
    let own = Arc::downgrade(&held);
    let take = |held: &Mutex<Option<_>>| held.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = move || {
        // Not under the lock.
        if let Some(work) = take(&held) {
            work();
        }
    };
    // The work goes with whoever was to do it, where that is dropped.
    (run, move || drop(own.upgrade().and_then(|held| take(&held))))
}

/// Why something was not done, but dropped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NotDone {
    NoThread,
    ShuttingDown,
}

impl NotDone {
    /// The error of a space for which it was to be done.
    pub(crate) fn error(self, space: SpaceId) -> SpaceError {
        match self {
            NotDone::NoThread => {
                SpaceError::Io { space, call: "starting a thread", reason: "the system has none to give".into() }
            }
            NotDone::ShuttingDown => SpaceError::Lost { space, reason: "the runtime is shutting down".into() },
        }
    }
}

/// Has it done, and waits for what comes of it. It runs to its end even if nobody waits any more.
///
/// # Panics
/// When it does, with what it panicked with.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NotDone> {
    let (done, waits) = oneshot::channel();
    if !detach(move || drop(done.send(catch_unwind(AssertUnwindSafe(work))))) {
        return Err(NotDone::NoThread);
    }
    match waits.await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(NotDone::ShuttingDown),
    }
}

/// Has a call to a space done, as [`run`] does.
pub(super) async fn blocking<T: Send + 'static>(
    space: SpaceId,
    call: impl FnOnce() -> Result<T, SpaceError> + Send + 'static,
) -> Result<T, SpaceError> {
    run(call).await.unwrap_or_else(|why| Err(why.error(space)))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Poll;

    use tokio::runtime::{Builder, Runtime};
    use tokio_test::task;

    use super::*;
    use crate::model::Tier;

    const SPACE: SpaceId = SpaceId { tier: Tier::Disk, index: 0 };

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().expect("a runtime")
    }

    /// Polls it on this thread, which is in no runtime unless the caller entered one.
    fn wait<T>(future: impl Future<Output = T>) -> T {
        let mut future = task::spawn(future);
        loop {
            match future.poll() {
                Poll::Ready(output) => return output,
                Poll::Pending => thread::yield_now(),
            }
        }
    }

    #[test]
    fn it_is_done_on_another_thread_in_a_runtime_and_outside_of_one() {
        let (own, runtime) = (thread::current().id(), runtime());
        let elsewhere = || wait(blocking(SPACE, move || Ok(thread::current().id() != own)));
        assert_eq!(elsewhere(), Ok(true));
        let _inside = runtime.enter();
        assert_eq!(elsewhere(), Ok(true));
    }

    #[test]
    fn a_panic_comes_out_where_it_is_waited_for() {
        let waited = || wait(blocking::<()>(SPACE, || panic!("in the call")));
        let panic = catch_unwind(AssertUnwindSafe(waited)).expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"in the call"));
    }

    #[test]
    fn what_is_taken_back_is_dropped_at_once_and_never_done() {
        let alive = Arc::new(());
        let kept = Arc::clone(&alive);
        let (work, taken_back) = held(move || panic!("{}", Arc::strong_count(&kept)));
        taken_back();
        assert_eq!(Arc::strong_count(&alive), 1);
        work();
    }

    #[test]
    fn a_runtime_that_has_shut_down_is_an_error() {
        let runtime = runtime();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        let refused = wait(blocking(SPACE, || Ok(())));
        assert_eq!(refused, Err(SpaceError::Lost { space: SPACE, reason: "the runtime is shutting down".into() }));
    }
}
