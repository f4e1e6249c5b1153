//! What a task, its handle and its context share.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use futures::task::AtomicWaker;
use tokio::sync::Notify;

use crate::model::Priority;
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

/// Where a task is.
pub(super) enum Stage {
    Queued(Reservation),
    Running,
    Pausing,
    /// Taken back before it ran, by whoever will submit it again.
    Withdrawn,
    Ended,
}

/// The task writes the stage; its handle asks for something by a flag and wakes it.
pub(super) struct Control {
    pub name: Arc<str>,
    pub preemptible: Preemptible,
    flags: AtomicU8,
    waker: AtomicWaker,
    stage: Mutex<Stage>,
    level: AtomicU8,
    pub attempts: AtomicU32,
    pub preemptions: AtomicU32,
    pub done: AtomicU64,
    pub total: AtomicU64,
    pub cancelled: Notify,
    /// Whether it ran when it ended.
    pub ended_running: AtomicBool,
    saved: Mutex<Option<Box<dyn Any + Send>>>,
    /// The attempt that runs, counted from one, and its lease if the context was dropped before the work was done.
    kept: Mutex<(u32, Option<Lease>)>,
}

impl Control {
    pub(super) fn new(name: Arc<str>, preemptible: Preemptible, level: Priority, reservation: Reservation) -> Self {
        Control {
            name,
            preemptible,
            flags: AtomicU8::new(0),
            waker: AtomicWaker::new(),
            stage: Mutex::new(Stage::Queued(reservation)),
            level: AtomicU8::new(level as u8),
            attempts: AtomicU32::new(0),
            preemptions: AtomicU32::new(0),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            cancelled: Notify::new(),
            ended_running: AtomicBool::new(false),
            saved: Mutex::new(None),
            kept: Mutex::new((0, None)),
        }
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
        self.flags.fetch_or(flag, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Tells an attempt, and none that comes after it, to give back what it holds.
    fn preempt(&self, attempt: u32) {
        if self.attempts.load(Ordering::Relaxed) == attempt {
            self.set(PREEMPT);
        }
    }

    /// Clears flags; says which of them were set.
    pub(super) fn clear(&self, flags: u8) -> u8 {
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

    pub(super) fn save(&self, data: Box<dyn Any + Send>) {
        // The old one drops without the lock.
        let old = self.saved().replace(data);
        drop(old);
    }

    pub(super) fn saved(&self) -> MutexGuard<'_, Option<Box<dyn Any + Send>>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on what is kept is the lease of this attempt, or of none if it is zero. What was kept drops without the
    /// lock.
    pub(super) fn keep_for(&self, attempt: u32) {
        let old = std::mem::replace(&mut *self.kept.lock().unwrap_or_else(PoisonError::into_inner), (attempt, None));
        drop(old);
    }

    /// Keeps the lease of an attempt until its work is done; a lease that comes later than that ends.
    pub(super) fn keep(&self, attempt: u32, lease: Lease) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 == attempt {
            kept.1 = Some(lease);
        } else {
            drop(kept);
            drop(lease);
        }
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
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
