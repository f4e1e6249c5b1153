//! Wakers collected under the lock and used after it.

use std::task::Waker;

/// Wakers to wake, and wakers to drop, once the lock is gone. One of each, the usual number, needs no allocation.
///
/// A waker runs code of whoever made it. Should one panic, the others are woken all the same before the panic goes on.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    first: Option<Waker>,
    rest: Vec<Waker>,
    dropped: Vec<Waker>,
}

impl Wakes {
    pub(super) fn push(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(waker);
        }
    }

    /// Keeps a waker that is no longer needed until the lock is gone.
    pub(super) fn discard(&mut self, waker: Option<Waker>) {
        self.dropped.extend(waker);
    }

    /// Wakes one after the other; what is left when one panics stays here.
    fn wake_all(&mut self) {
        while let Some(waker) = self.first.take().or_else(|| self.rest.pop()) {
            waker.wake();
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        /// Runs also while a panic of a waker unwinds, and wakes the rest.
        struct Rest<'a>(&'a mut Wakes);
        impl Drop for Rest<'_> {
            fn drop(&mut self) {
                self.0.wake_all();
            }
        }
        // In the order of the grants: the vector is a stack.
        self.rest.reverse();
        Rest(self).0.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
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
