//! Wakers collected under the lock and used after it.

use std::task::Waker;

use super::trace::{self, Notice};

/// What is to become of a waker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Wake,
    Discard,
}

/// Wakers to wake, and wakers to drop, once the lock is gone, and what is to be said then. The first waker, usually the
/// only one, needs no allocation.
///
/// A waker runs code of whoever made it. Should some panic, the others are woken all the same.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    first: Option<(Waker, Fate)>,
    more: Option<Box<More>>,
}

/// What most turns have nothing of.
#[derive(Debug, Default)]
struct More {
    wakers: Vec<(Waker, Fate)>,
    notices: Vec<Notice>,
}

impl Wakes {
    #[inline]
    pub(super) fn push(&mut self, waker: Waker) {
        self.keep(waker, Fate::Wake);
    }

    /// Keeps a waker that is no longer needed until the lock is gone.
    #[inline]
    pub(super) fn discard(&mut self, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.keep(waker, Fate::Discard);
        }
    }

    /// Has something said.
    #[cold]
    pub(super) fn say(&mut self, notice: Notice) {
        self.more.get_or_insert_default().notices.push(notice);
    }

    #[inline]
    fn keep(&mut self, waker: Waker, fate: Fate) {
        if self.first.is_none() {
            self.first = Some((waker, fate));
        } else {
            self.more.get_or_insert_default().wakers.push((waker, fate));
        }
    }
}

impl Drop for Wakes {
    #[inline]
    fn drop(&mut self) {
        if let Some(first) = self.first.take() {
            apply(first);
        }
        if let Some(more) = self.more.take() {
            more.wakers.into_iter().for_each(apply);
            more.notices.iter().for_each(Notice::say);
        }
    }
}

/// Runs code of a waker. A panic goes no further, and neither does one of whoever is told of it: it would take with it
/// what the turn has just granted to the caller, who has done nothing wrong, and the rest of the wakers.
fn apply((waker, fate): (Waker, Fate)) {
    let code = || match fate {
        Fate::Wake => waker.wake(),
        Fate::Discard => drop(waker),
    };
    if trace::contain(code).is_none() {
        trace::contain(|| tracing::error!(target: "bursar::wake", "a waker panicked; its task may not be woken"));
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

    /// What panics when it is dropped, with something of the same kind.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.woken.fetch_add(1, Ordering::Relaxed);
            if self.panics {
                std::panic::panic_any(Bomb);
            }
        }
    }

    /// Whatever it panics with.
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
