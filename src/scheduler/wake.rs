//! Wakers collected under the lock and used after it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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
/// A waker runs code of whoever made it. Should some panic, the others are woken all the same; the first panic then
/// goes on.
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
        let mut panicked = None;
        for waker in self.wake.drain() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                panicked.get_or_insert(panic);
            }
        }
        match panicked {
            // A second panic while one unwinds would abort the process.
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            _ => {}
        }
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
        assert!(catch_unwind(AssertUnwindSafe(|| drop(wakes))).is_err());
        assert!(all.iter().all(|count| count.woken.load(Ordering::Relaxed) == 1));
    }
}
