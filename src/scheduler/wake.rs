//! Wakers collected under the lock and used after it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Some wakers; the first, usually the only one, needs no allocation.
#[derive(Debug, Default)]
struct Few {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Few {
    fn push(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(waker);
        }
    }

    fn drain(&mut self) -> impl Iterator<Item = Waker> {
        self.first.take().into_iter().chain(std::mem::take(&mut self.rest))
    }
}

/// Wakers to wake, and wakers to drop, once the lock is gone.
///
/// A waker runs code of whoever made it. Should some panic, the others are woken all the same, and no panic goes on.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    wake: Few,
    discarded: Few,
}

impl Wakes {
    pub(super) fn push(&mut self, waker: Waker) {
        self.wake.push(waker);
    }

    /// Keeps a waker that is no longer needed until the lock is gone.
    pub(super) fn discard(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.discarded.push(waker);
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.wake.drain().for_each(|waker| contain(|| waker.wake()));
        self.discarded.drain().for_each(|waker| contain(|| drop(waker)));
    }
}

/// Runs code of a waker. A panic goes no further: it would take with it what the turn has just granted to the caller,
/// who has done nothing wrong, and the rest of the wakers.
fn contain(code: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(code)).is_err() {
        tracing::error!(target: "bursar", "a waker panicked; its task may not be woken");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Count {
        woken: AtomicUsize,
        panics: bool,
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::Relaxed);
            assert!(!self.panics, "a waker of the caller's that panics");
        }
    }

    #[test]
    fn a_waker_that_panics_does_not_keep_the_others_asleep() {
        let make = |panics| Arc::new(Count { woken: AtomicUsize::new(0), panics });
        let all = [make(false), make(true), make(false), make(false)];
        let mut wakes = Wakes::default();
        all.iter().for_each(|count| wakes.push(Waker::from(Arc::clone(count))));
        drop(wakes);
        assert!(all.iter().all(|count| count.woken.load(Ordering::Relaxed) == 1));
    }
}
