//! Blocks that copies and views have shares of, and what comes after the last share.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Remains;

/// A block behind an id, in an `Arc` of which the table has a share, and so has whatever uses the block at the moment.
#[derive(Debug)]
pub(crate) struct Joint<T> {
    block: T,
    /// Dropped after the block, whoever drops the last share, as it is declared after it.
    after: Mutex<After>,
}

enum After {
    /// It is not freed, or nobody wants to know when it is gone.
    Nothing,
    /// It is freed.
    Then { _what: Remains },
    /// It is kept for ever, as a device may be at it.
    #[cfg_attr(not(any(feature = "cuda", test)), expect(dead_code, reason = "only devices fail like that"))]
    Never,
}

impl<T> Joint<T> {
    pub(super) fn new(block: T) -> Arc<Self> {
        Arc::new(Joint { block, after: Mutex::new(After::Nothing) })
    }

    /// Alone: nobody else has a share, so it can be taken out of its table.
    pub(super) fn is_alone(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }

    /// The block, of whoever is alone.
    pub(super) fn into_inner(self: Arc<Self>) -> Option<T> {
        Arc::into_inner(self).map(|joint| joint.block)
    }

    /// Called by whoever has just taken it out of its table, so that nobody can get another share. If there are others,
    /// `then` is called, and what it returns is dropped after the block.
    pub(super) fn freed(self: &Arc<Self>, then: &mut dyn FnMut() -> Remains) {
        if self.is_alone() {
            return;
        }
        let then = then();
        let mut after = self.after();
        match *after {
            // What is waited for does not come. Dropped outside of the lock.
            After::Never => drop((after, then)),
            _ => *after = After::Then { _what: then },
        }
    }

    /// Keeps the block for ever. What was to come after it comes now, or when it is freed.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn abandon(self: Arc<Self>) {
        let after = std::mem::replace(&mut *self.after(), After::Never);
        std::mem::forget(self);
        drop(after);
    }

    /// What runs under this lock is a move.
    fn after(&self) -> MutexGuard<'_, After> {
        self.after.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Joint<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.block
    }
}

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            After::Nothing => "Nothing",
            After::Then { .. } => "Then",
            After::Never => "Never",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    /// Notes when it is dropped, and that the other has been dropped before.
    struct Noted {
        gone: Arc<AtomicBool>,
        before: Option<Arc<AtomicBool>>,
    }

    impl Drop for Noted {
        fn drop(&mut self) {
            assert!(self.before.as_ref().is_none_or(|before| before.load(Ordering::SeqCst)));
            assert!(!self.gone.swap(true, Ordering::SeqCst), "once");
        }
    }

    /// A block, whose share is that of its table, what is to come after it, and whether they are gone.
    struct Scene {
        block: Option<Arc<Joint<Noted>>>,
        then: Option<Noted>,
        gone: [Arc<AtomicBool>; 2],
    }

    impl Scene {
        fn new() -> Self {
            let gone: [Arc<AtomicBool>; 2] = Default::default();
            let noted = |at: usize| Noted { gone: Arc::clone(&gone[at]), before: None };
            Scene { block: Some(Joint::new(noted(0))), then: Some(noted(1)), gone }
        }

        /// What is to come after the block may not come before it is gone.
        fn in_order(mut self) -> Self {
            let before = &self.gone[0];
            self.then.iter_mut().for_each(|then| then.before = Some(Arc::clone(before)));
            self
        }

        fn share(&self) -> Arc<Joint<Noted>> {
            self.block.clone().expect("not freed yet")
        }

        /// Frees the block, and says whether what is to come after it was asked for.
        fn free(&mut self) -> bool {
            let (block, then) = (self.block.take().expect("freed once"), &mut self.then);
            block.freed(&mut || Box::new(then.take()));
            then.is_none()
        }

        fn gone(&self) -> [bool; 2] {
            [0, 1].map(|at: usize| self.gone[at].load(Ordering::SeqCst))
        }
    }

    #[test]
    fn who_frees_a_block_that_nobody_else_has_is_asked_for_nothing_and_the_block_is_gone() {
        let mut scene = Scene::new();
        assert!(!scene.free());
        assert_eq!(scene.gone(), [true, false]);
    }

    #[test]
    fn what_comes_after_a_block_comes_when_the_last_share_is_dropped_and_after_the_block() {
        let mut scene = Scene::new().in_order();
        let shares = [scene.share(), scene.share()];
        assert!(scene.free());
        let [first, last] = shares;
        drop(first);
        assert_eq!(scene.gone(), [false, false]);
        drop(last);
        assert_eq!(scene.gone(), [true, true]);
    }

    #[test]
    fn a_block_that_is_abandoned_holds_up_nothing_freed_before_or_after() {
        for freed_first in [true, false] {
            let mut scene = Scene::new();
            let share = scene.share();
            if freed_first {
                assert!(scene.free());
                assert_eq!(scene.gone(), [false, false]);
                share.abandon();
            } else {
                share.abandon();
                scene.free();
            }
            assert_eq!(scene.gone(), [false, true], "freed first: {freed_first}");
        }
    }

    #[test]
    fn whichever_thread_is_the_last_nothing_is_dropped_twice_or_too_early_or_never() {
        for round in 0..200 {
            let mut scene = Scene::new().in_order();
            let share = scene.share();
            let other = thread::spawn(move || {
                (0..round).for_each(|_| std::hint::spin_loop());
                drop(share);
            });
            let asked = scene.free();
            other.join().expect("in this order, and once");
            assert_eq!(scene.gone(), [true, asked]);
        }
    }
}
