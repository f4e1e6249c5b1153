//! The scheduler task under its name, with and without `--cfg tokio_unstable`.

use std::future::Future;
use std::panic::Location;

use tokio::runtime::Handle;

/// Spawns a task that the console shows by its name.
#[cfg(tokio_unstable)]
#[track_caller]
pub(crate) fn spawn<F>(runtime: &Handle, name: &'static str, _: &'static Location<'static>, task: F)
where
    F: Future<Output = ()> + Send + Unpin + 'static,
{
    // An error has dropped the task, which closes the scheduler; the first reservation says so.
    let _ = tokio::task::Builder::new().name(name).spawn_on(task, runtime);
}

/// Spawns a task that the console shows by its name.
#[cfg(not(tokio_unstable))]
pub(crate) fn spawn<F>(runtime: &Handle, name: &'static str, location: &'static Location<'static>, task: F)
where
    F: Future<Output = ()> + Send + Unpin + 'static,
{
    runtime.spawn(named::Named::new(name, location, task));
}

/// What tokio does itself under `--cfg tokio_unstable`.
#[cfg(not(tokio_unstable))]
mod named {
    use std::future::Future;
    use std::panic::Location;
    use std::pin::Pin;
    use std::sync::{Arc, Weak};
    use std::task::{Context, Poll, Wake, Waker};

    use super::super::emit::{self, Row};

    /// A task in a span of its own.
    #[derive(Debug)]
    pub(super) struct Named<F> {
        name: &'static str,
        location: &'static Location<'static>,
        task: F,
        row: Option<Row>,
        /// The waker of the last poll, if somebody still has it.
        waker: Weak<Told>,
    }

    impl<F> Named<F> {
        pub(super) fn new(name: &'static str, location: &'static Location<'static>, task: F) -> Self {
            Named { name, location, task, row: None, waker: Weak::new() }
        }

        /// Opens the span if somebody listens by now.
        fn open(&mut self) {
            if self.row.is_none() && emit::is_heard_here() {
                let row = emit::contain(|| emit::task(self.name, self.location)).map(Row::new);
                self.row = row.filter(|row| !row.is_disabled());
            }
        }

        /// A waker that tells the console what becomes of it: of a task of which nobody has a waker, the console says
        /// that it is lost.
        fn waker(&mut self, inner: &Waker) -> Option<Arc<Told>> {
            let task = self.row.as_ref()?.number()?;
            let known = self.waker.upgrade().filter(|told| told.inner.will_wake(inner));
            Some(known.unwrap_or_else(|| {
                let told = Arc::new(Told::new(inner.clone(), task));
                self.waker = Arc::downgrade(&told);
                told
            }))
        }
    }

    impl<F: Future<Output = ()> + Unpin> Future for Named<F> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.open();
            let Some(told) = self.waker(cx.waker()) else { return Pin::new(&mut self.task).poll(cx) };
            let Named { task, row, .. } = &mut *self;
            let waker = Waker::from(told);
            let _inside = row.as_ref().map(Row::enter);
            Pin::new(task).poll(&mut Context::from_waker(&waker))
        }
    }

    /// The waker of a task, which the console hears of while somebody has it.
    #[derive(Debug)]
    struct Told {
        inner: Waker,
        task: u64,
    }

    impl Told {
        fn new(inner: Waker, task: u64) -> Self {
            tell("waker.clone", task);
            Told { inner, task }
        }
    }

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.wake_by_ref();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            tell("waker.wake_by_ref", self.task);
            self.inner.wake_by_ref();
        }
    }

    impl Drop for Told {
        fn drop(&mut self) {
            tell("waker.drop", self.task);
        }
    }

    fn tell(operation: &str, task: u64) {
        emit::contain(|| emit::waker(Some(operation), Some(task)));
    }
}
