//! A task as a row of the console, under its name: what tokio does itself with `--cfg tokio_unstable`, and only then.
//!
//! The task enters a span of its own for every poll, and its wakers tell the console what becomes of them: of a task of
//! which nobody has a waker, the console says that it is lost. The span is opened by a poll, when somebody listens, and
//! there are at most [`MOST`] at a time: a console that connects gets all of them in its first message, and nothing at
//! all if that is larger than 4 MiB. A task that finds no place is shown from a later poll on, if there is one then.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::emit::{self, Row};

/// Tasks of this process that are shown at a time.
const MOST: usize = 2_048;

/// Shows a task to the console.
#[derive(Debug)]
pub(crate) struct TaskRow {
    name: Arc<str>,
    location: &'static Location<'static>,
    /// Once somebody listens. Out of line, because most of the time nobody does.
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    row: Row,
    /// The waker of the last poll, if somebody still has it.
    waker: Weak<Told>,
    #[expect(dead_code, reason = "kept for its drop")]
    place: Place,
}

impl TaskRow {
    /// The row of a task that was spawned there.
    pub(crate) fn new(name: &Arc<str>, location: &'static Location<'static>) -> Self {
        TaskRow { name: Arc::clone(name), location, open: None }
    }

    /// Polls the task, as itself.
    pub(crate) fn poll<F: Future>(&mut self, task: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.open.is_none() && emit::is_heard_here() {
            self.open = Open::new(&self.name, self.location).map(Box::new);
        }
        let Some(open) = &mut self.open else { return task.poll(cx) };
        let Some(told) = open.waker(cx.waker()) else { return task.poll(cx) };
        let waker = Waker::from(told);
        let _inside = open.row.enter();
        task.poll(&mut Context::from_waker(&waker))
    }
}

impl Open {
    fn new(name: &str, location: &'static Location<'static>) -> Option<Self> {
        let place = Place::take()?;
        emit::warm_up();
        let row = emit::contain(|| emit::task(&emit::short(name), location))
            .map(Row::new)
            .filter(|row| !row.is_disabled())?;
        Some(Open { row, waker: Weak::new(), place })
    }

    fn waker(&mut self, inner: &Waker) -> Option<Arc<Told>> {
        let task = self.row.number()?;
        let known = self.waker.upgrade().filter(|told| told.inner.will_wake(inner));
        Some(known.unwrap_or_else(|| {
            let told = Arc::new(Told::new(inner.clone(), task));
            self.waker = Arc::downgrade(&told);
            told
        }))
    }
}

/// One of the tasks that are shown.
#[derive(Debug)]
struct Place;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Place {
    fn take() -> Option<Self> {
        if TAKEN.fetch_add(1, Ordering::Relaxed) < MOST {
            return Some(Place);
        }
        TAKEN.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
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
