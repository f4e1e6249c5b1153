//! Several threads at memory of a caller's who may be gone at the next await point. They are at it only while the
//! caller's future is being polled: it is that poll which waits for them, and it waits for nobody who has not begun. So
//! a future that is dropped, or forgotten, leaves no thread behind that reads or writes what it borrowed.
//!
//! Helpers are threads of the runtime that may block. None of them is needed: what no helper takes the caller does, so
//! a runtime whose threads are all busy costs time and nothing else. After a piece of work they look around for a while
//! for the next of their crew, because to wake a thread takes as long as to copy a quarter of a mebibyte.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// How long a helper looks for the next work before it goes.
const IDLE: Duration = Duration::from_micros(300);

/// The caller and so many helpers at most.
#[derive(Debug, Default)]
pub(super) struct Crew {
    helpers: usize,
    board: Arc<Board>,
}

/// Where helpers find work.
#[derive(Debug, Default)]
struct Board {
    /// Counts what was ever posted.
    posted: AtomicUsize,
    work: Mutex<Option<Arc<Work>>>,
    /// Helpers that look here, or are about to.
    here: AtomicUsize,
    closed: AtomicBool,
}

/// Pieces that are done once each.
struct Work {
    /// The first piece that nobody has taken.
    next: AtomicUsize,
    count: usize,
    /// Good for as long as a piece that was taken is not done.
    piece: *const (dyn Fn(usize) + Sync),
    ended: Mutex<Ended>,
    all: Condvar,
}

#[derive(Default)]
struct Ended {
    pieces: usize,
    /// Somebody wants to hear of the next.
    awaited: bool,
    panic: Option<Box<dyn Any + Send>>,
}

// SAFETY: what the pointer leads to may be used by several threads at once, and is there while they use it: see `run`.
#[allow(unsafe_code)]
unsafe impl Send for Work {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Work {}

impl Crew {
    pub(super) fn is_alone(&self) -> bool {
        self.helpers == 0
    }

    /// With so many helpers from now on. Takes no thread yet, and sends none away that still looks around.
    pub(super) fn with(mut self, helpers: usize) -> Self {
        self.helpers = helpers;
        self
    }

    /// Does pieces 0 to `count` - 1, taken in this order. Returns when all are done, and blocks meanwhile. Calls
    /// `between` on this thread, again and again as pieces are done, and at least once after the last.
    ///
    /// # Panics
    /// When a piece or `between` does: with what it panicked with, and after the other pieces are done.
    pub(super) fn work(&self, count: usize, piece: &(dyn Fn(usize) + Sync), mut between: impl FnMut()) {
        if self.is_alone() || count < 2 {
            (0..count).for_each(|at| {
                piece(at);
                between();
            });
            return;
        }
        // SAFETY: only the lifetime changes. `run` follows the pointer for a piece that it has taken, and this call
        // does not end before every piece is done; afterwards there is no piece left to take.
        #[allow(unsafe_code)]
        let piece = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(piece)
        };
        let (ended, all) = (Mutex::default(), Condvar::new());
        let work = Arc::new(Work { next: AtomicUsize::new(0), count, piece, ended, all });
        // From here on nothing may unwind before all are done.
        self.post(&work);
        let mut panic = None;
        let mut between = || {
            if panic.is_none() {
                panic = catch_unwind(AssertUnwindSafe(&mut between)).err();
            }
        };
        while work.run_one() {
            between();
        }
        let mut seen = 0;
        while let Some(ended) = work.more_than(seen) {
            seen = ended;
            between();
        }
        let of_a_piece = lock(&work.ended).panic.take();
        if let Some(panic) = of_a_piece.or(panic) {
            resume_unwind(panic);
        }
    }

    /// Tells the helpers, and calls for those that are missing.
    fn post(&self, work: &Arc<Work>) {
        *lock(&self.board.work) = Some(Arc::clone(work));
        self.board.posted.fetch_add(1, Ordering::Release);
        let Ok(runtime) = Handle::try_current() else { return };
        let wanted = self.helpers.min(work.count - 1);
        for _ in self.board.here.load(Ordering::Acquire)..wanted {
            self.board.here.fetch_add(1, Ordering::AcqRel);
            let here = Here(Arc::clone(&self.board));
            // If it never comes, because the runtime shuts down for instance, nobody waits for it. Tokio panics when
            // the system has no thread left; but others may be at work already, which must not be left.
            if catch_unwind(AssertUnwindSafe(|| drop(runtime.spawn_blocking(move || here.help())))).is_err() {
                return;
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.board.closed.store(true, Ordering::Release);
    }
}

/// A helper, counted until it goes, also if it never came.
struct Here(Arc<Board>);

impl Here {
    fn help(self) {
        // Whatever is posted is worth a look.
        let mut seen = 0;
        while let Some(posted) = self.look_around(seen) {
            seen = posted;
            let work = lock(&self.0.work).clone();
            if let Some(work) = work {
                while work.run_one() {}
            }
        }
    }

    /// Waits until there is more on the board than was seen. `None` when it is time to go.
    fn look_around(&self, seen: usize) -> Option<usize> {
        let begun = Instant::now();
        while !self.0.closed.load(Ordering::Acquire) {
            match self.0.posted.load(Ordering::Acquire) {
                posted if posted != seen => return Some(posted),
                _ if begun.elapsed() > IDLE => return None,
                _ => std::thread::yield_now(),
            }
        }
        None
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Work {
    /// Does the next piece, if there is one that nobody has taken.
    fn run_one(&self) -> bool {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        if at >= self.count {
            return false;
        }
        // SAFETY: this piece was not done, so `work` has not returned, and what it borrows is there.
        #[allow(unsafe_code)]
        let piece = unsafe { &*self.piece };
        let done = catch_unwind(AssertUnwindSafe(|| piece(at)));
        let mut ended = lock(&self.ended);
        ended.pieces += 1;
        if let Err(panic) = done {
            ended.panic.get_or_insert(panic);
        }
        if ended.awaited {
            self.all.notify_all();
        }
        true
    }

    /// Waits until more pieces are done than were seen, and says how many; `None` if all had been. Whoever has taken
    /// one is at it, so this takes no longer than a piece does.
    fn more_than(&self, seen: usize) -> Option<usize> {
        if seen == self.count {
            return None;
        }
        let mut ended = lock(&self.ended);
        ended.awaited = true;
        let ended = self.all.wait_while(ended, |ended| ended.pieces == seen);
        Some(ended.unwrap_or_else(PoisonError::into_inner).pieces)
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("next", &self.next).field("count", &self.count).finish_non_exhaustive()
    }
}

/// Nothing of a caller's runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(blocking: usize) -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().max_blocking_threads(blocking).build().expect("a runtime")
    }

    /// How often each piece was done.
    fn done(crew: &Crew, count: usize) -> Vec<usize> {
        let times: Vec<_> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let mut seen = 0;
        let sum = || times.iter().map(|times| times.load(Ordering::Acquire)).sum::<usize>();
        crew.work(
            count,
            &|at| {
                times[at].fetch_add(1, Ordering::Release);
            },
            || seen = sum(),
        );
        assert_eq!(seen, count, "who looks in between sees the last");
        times.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_piece_is_done_once_with_helpers_without_them_and_outside_of_a_runtime() {
        let runtime = runtime(8);
        for helpers in [0, 1, 3, 7] {
            let crew = Crew::default().with(helpers);
            for count in [0, 1, 2, 3, 17, 1_000] {
                assert_eq!(done(&crew, count), vec![1; count]);
                let _inside = runtime.enter();
                assert_eq!(done(&crew, count), vec![1; count]);
            }
        }
    }

    #[test]
    fn helpers_do_take_part() {
        let runtime = runtime(8);
        let _inside = runtime.enter();
        let crew = Crew::default().with(1);
        let both = std::sync::Barrier::new(2);
        // Each waits for the other: one thread alone would never end.
        crew.work(
            2,
            &|_| {
                both.wait();
            },
            || (),
        );
    }

    #[test]
    fn threads_that_are_all_busy_are_not_waited_for() {
        let runtime = runtime(1);
        let _inside = runtime.enter();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let busy = runtime.spawn_blocking(move || gate.recv());
        let crew = Crew::default().with(7);
        for _ in 0..10 {
            assert_eq!(done(&crew, 100), vec![1; 100]);
        }
        // They come when all is over, and find nothing to touch.
        drop((crew, go));
        assert!(runtime.block_on(busy).expect("no panic").is_err());
    }

    #[test]
    fn a_runtime_that_has_shut_down_gives_no_helpers_and_is_not_waited_for() {
        let runtime = runtime(8);
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        assert_eq!(done(&Crew::default().with(7), 100), vec![1; 100]);
    }

    #[test]
    fn a_panic_in_a_piece_comes_out_after_the_others_are_done_and_the_crew_works_on() {
        let runtime = runtime(8);
        let _inside = runtime.enter();
        let crew = Crew::default().with(3);
        for bad in [0, 50, 99] {
            let others = AtomicUsize::new(0);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let piece = |at| {
                    assert_ne!(at, bad, "this piece is bad");
                    others.fetch_add(1, Ordering::Relaxed);
                };
                crew.work(100, &piece, || ());
            }));
            let message = panicked.expect_err("one of them panicked");
            assert!(message.downcast_ref::<String>().is_some_and(|text| text.contains("this piece is bad")));
            assert_eq!(others.into_inner(), 99);
            assert_eq!(done(&crew, 20), vec![1; 20]);
        }
    }

    #[test]
    fn a_panic_between_pieces_comes_out_after_all_are_done() {
        let runtime = runtime(8);
        let _inside = runtime.enter();
        let (crew, all) = (Crew::default().with(3), AtomicUsize::new(0));
        let piece = |_| {
            all.fetch_add(1, Ordering::Relaxed);
        };
        let panicked = catch_unwind(AssertUnwindSafe(|| crew.work(100, &piece, || panic!("in between"))));
        assert_eq!(panicked.expect_err("it panicked").downcast_ref(), Some(&"in between"));
        assert_eq!(all.load(Ordering::Relaxed), 100);
        assert_eq!(done(&crew, 20), vec![1; 20]);
    }
}
