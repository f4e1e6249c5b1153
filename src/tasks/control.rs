//! What a task, its handle and its context share.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use futures::task::AtomicWaker;
use tokio::sync::Notify;

use crate::model::{Priority, Seniority};
use crate::scheduler::{Lease, Reservation};

use super::task::Preemptible;

/// Asked to end before it runs, or where it looks whether it was.
pub(super) const CANCEL: u8 = 1;
/// Told to give back what it holds.
pub(super) const PREEMPT: u8 = 2;
/// Stands at a checkpoint and goes no further.
pub(super) const HALTED: u8 = 4;
/// Has a higher priority than it waits with.
pub(super) const RAISE: u8 = 8;
/// Once preempted it does not wait again: whoever asked for that submits its work again.
pub(super) const LEAVE: u8 = 16;

/// Where a task is.
pub(super) enum Stage {
    Queued(Reservation),
    Running,
    Pausing,
    /// Taken back by whoever will submit its work again.
    Withdrawn,
    Ended,
}

/// What outlives a run, for the next one; also when that is of another task, which takes up the same work. And what the
/// run that is under way leaves behind.
#[derive(Default)]
pub(super) struct Past {
    /// How often it has begun to run.
    pub attempts: u32,
    pub preemptions: u32,
    /// The place in the queue that it had when it was preempted.
    pub seniority: Option<Seniority>,
    /// With a lock of its own, so that it is cloned without the other.
    pub saved: Option<Saved>,
    /// Whether a run is under way: the last one that has begun.
    running: bool,
    /// The lease of that run, if its context was dropped before the work was done.
    kept: Option<Lease>,
}

pub(super) type Saved = Arc<Mutex<dyn Any + Send>>;

/// The task writes the stage; its handle asks for something by a flag and wakes it.
pub(super) struct Control {
    pub name: Arc<str>,
    preemptible: Preemptible,
    /// How often it may be preempted.
    most_preemptions: u32,
    flags: AtomicU8,
    waker: AtomicWaker,
    stage: Mutex<Stage>,
    level: AtomicU8,
    pub done: AtomicU64,
    pub total: AtomicU64,
    pub cancelled: Notify,
    /// Whether it ran when it ended.
    pub ended_running: AtomicBool,
    past: Mutex<Past>,
}

impl Control {
    /// Of a task that has not asked for anything yet.
    pub(super) fn new(name: Arc<str>, preemptible: Preemptible, most_preemptions: u32, level: Priority) -> Self {
        Control {
            name,
            preemptible,
            most_preemptions,
            flags: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            stage: Mutex::new(Stage::Pausing),
            level: AtomicU8::new(level as u8),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            cancelled: Notify::new(),
            ended_running: AtomicBool::new(false),
            past: Mutex::default(),
        }
    }

    /// Takes up the work of a task that is over, where that left it.
    pub(super) fn follow(&self, before: &Control) {
        let mut before = before.past();
        let saved = before.saved.take();
        let Past { attempts, preemptions, seniority, .. } = *before;
        *self.past() = Past { attempts, preemptions, seniority, saved, ..Past::default() };
    }

    /// Whether it can be preempted at all, however often it was.
    pub(super) fn is_preemptible(&self) -> bool {
        self.preemptible != Preemptible::Never
    }

    /// Whether it can be preempted once more: those that were as often as may be are asked no more.
    pub(super) fn may_be_preempted(&self) -> bool {
        self.is_preemptible() && self.past().preemptions < self.most_preemptions
    }

    /// Whether it has to stop where it stands to be preempted, as it was told.
    pub(super) fn is_cut(&self) -> bool {
        self.has(PREEMPT) && (self.has(HALTED) || self.preemptible == Preemptible::Anywhere)
    }

    /// Counts a preemption, after which it may wait again at the place that it had. How often it was preempted, and
    /// whether that is more often than it allows.
    pub(super) fn note_preemption(&self, seniority: Option<Seniority>) -> (u32, bool) {
        let mut past = self.past();
        past.preemptions += 1;
        past.seniority = seniority.or(past.seniority);
        (past.preemptions, past.preemptions > self.most_preemptions)
    }

    /// Its stage. Whoever polls or explains a reservation does so under this lock, which nobody else wants for longer.
    pub(super) fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves on. What was there drops without the lock: the drop of a reservation wakes others.
    pub(super) fn move_to(&self, next: Stage) -> Stage {
        std::mem::replace(&mut *self.stage(), next)
    }

    /// It is over. One that was withdrawn stays that.
    pub(super) fn stage_to_end(&self) -> Stage {
        let mut stage = self.stage();
        match &*stage {
            Stage::Withdrawn => Stage::Withdrawn,
            _ => std::mem::replace(&mut *stage, Stage::Ended),
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }

    /// Sets a flag and wakes the task.
    pub(super) fn set(&self, flag: u8) {
        self.raise_flags(flag);
        self.wake();
    }

    /// Sets flags for a task that is woken next.
    pub(super) fn raise_flags(&self, flags: u8) {
        self.flags.fetch_or(flags, Ordering::AcqRel);
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Tells an attempt, and none that comes after it, to give back what it holds.
    fn preempt(&self, attempt: u32) {
        if self.attempts() == attempt {
            self.set(PREEMPT);
        }
    }

    /// Clears flags; says which of them were set.
    pub(super) fn clear(&self, flags: u8) -> u8 {
        // Mostly none is, and a look costs less than a write.
        if !self.has(flags) {
            return 0;
        }
        self.flags.fetch_and(!flags, Ordering::AcqRel) & flags
    }

    /// Keeps the waker of the task, before it looks at the flags.
    pub(super) fn listen(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(super) fn level(&self) -> Priority {
        Priority::ALL[usize::from(self.level.load(Ordering::Acquire)) % Priority::COUNT]
    }

    /// Raises the level. Says whether it is higher now than before.
    pub(super) fn raise(&self, level: Priority) -> bool {
        self.level.fetch_min(level as u8, Ordering::AcqRel) > level as u8
    }

    pub(super) fn save(&self, data: Saved) {
        // The old one drops without the lock.
        let old = self.past().saved.replace(data);
        drop(old);
    }

    /// What was kept last, to be looked at without the lock of the task.
    pub(super) fn saved(&self) -> Option<Saved> {
        self.past().saved.clone()
    }

    pub(super) fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins. Which it is, counted from one.
    pub(super) fn begin_attempt(&self) -> u32 {
        let mut past = self.past();
        past.attempts += 1;
        past.running = true;
        past.attempts
    }

    /// The run is over. What was kept for it drops without the lock.
    pub(super) fn end_attempt(&self) {
        let kept = {
            let mut past = self.past();
            past.running = false;
            past.kept.take()
        };
        drop(kept);
    }

    /// Keeps the lease of an attempt until its work is done; a lease that comes later than that ends.
    pub(super) fn keep(&self, attempt: u32, lease: Lease) {
        let mut past = self.past();
        if past.running && past.attempts == attempt {
            past.kept = Some(lease);
        } else {
            drop(past);
            drop(lease);
        }
    }

    /// How often it has begun to run.
    pub(super) fn attempts(&self) -> u32 {
        self.past().attempts
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Wakes an attempt whose lease is asked to end.
pub(super) struct Preempt {
    pub control: Arc<Control>,
    pub attempt: u32,
}

impl Wake for Preempt {
    fn wake(self: Arc<Self>) {
        self.control.preempt(self.attempt);
    }
}
