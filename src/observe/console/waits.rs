//! Waits that last as async ops. What all reservations of a scheduler share.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::model::BudgetId;

use super::Asking;
use super::budgets::{Budgets, exact};
use super::emit::{self, Row, WaitAttribute};
use super::sampler::TICK;

/// A wait, by the slot it waits in. Its owner takes it out for every poll, because the slot may be somebody else's as
/// soon as the owner has got its result.
#[derive(Debug)]
pub(crate) enum Wait {
    /// Began then and is not listed.
    Noted { since: u64 },
    /// Was woken to be listed at its next poll.
    Wanted { since: u64 },
    /// Is listed.
    Listed(Op),
}

/// The waits of one scheduler.
#[derive(Debug)]
pub(crate) struct Waits {
    /// Whether there is anything to do. A hint: what counts is under the lock.
    on: AtomicBool,
    /// A subscriber may have come; not looked for again before this.
    look_at: AtomicU64,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// While the console shows the scheduler.
    budgets: Option<Arc<Budgets>>,
    known: HashMap<u32, Wait>,
    /// Those that are only noted, by the time they began.
    noted: BTreeSet<(u64, u32)>,
    /// Those that are listed or are going to be.
    listed: usize,
    /// How many may be listed now, and how many in the long run.
    allowance: usize,
    stock: usize,
}

impl Default for Waits {
    fn default() -> Self {
        Waits { on: AtomicBool::new(false), look_at: AtomicU64::new(0), book: Mutex::default() }
    }
}

impl Waits {
    /// Waits of one scheduler that are listed at most. A console that connects gets all of them in its first message,
    /// and nothing at all if that is larger than 4 MiB, which some 25,000 are.
    pub(super) const MOST: usize = 2_048;
    /// Waits that are noted at most; who begins to wait when so many are is counted and never listed.
    const MOST_NOTED: usize = 65_536;
    /// What may be listed in a tick, and at once. A listing is two events in a queue of the console, which takes 128 a
    /// second and keeps 100,000.
    const A_TICK: usize = 25;
    const AT_ONCE: usize = 64;
    /// What may be listed beside one a tick, in the long run: together some 11,000 in the hour for which the console
    /// keeps a wait that has ended. They are in the first message too.
    const STOCK: usize = 4_096;
    /// How long after a vain look for a subscriber the next may follow.
    const PAUSE: u64 = 1_000_000_000;

    /// Whether the console shows the scheduler.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Whether a subscriber may have come that the scheduler task should look for.
    #[inline]
    pub(crate) fn is_missed(&self, now: u64) -> bool {
        emit::is_heard() && !self.is_on() && now >= self.look_at.load(Ordering::Relaxed)
    }

    /// There is none.
    pub(super) fn look_later(&self, now: u64) {
        self.look_at.store(now.saturating_add(Self::PAUSE), Ordering::Relaxed);
    }

    pub(super) fn switch_on(&self, budgets: &Arc<Budgets>) {
        let fresh = Book {
            budgets: Some(Arc::clone(budgets)),
            allowance: Self::AT_ONCE,
            stock: Self::STOCK,
            ..Book::default()
        };
        *self.book() = fresh;
        self.on.store(true, Ordering::Relaxed);
    }

    /// Nothing is shown any more; the next scheduler finds everything as new.
    pub(super) fn switch_off(&self) {
        self.on.store(false, Ordering::Relaxed);
        // Dropped after unlocking: its spans close.
        let _book = std::mem::take(&mut *self.book());
        self.look_at.store(0, Ordering::Relaxed);
    }

    /// Somebody begins to wait.
    #[inline]
    pub(crate) fn begin(&self, slot: u32, now: u64) {
        if self.is_on() {
            self.book().note(slot, now);
        }
    }

    /// Takes a wait out, before its owner looks for its result.
    #[inline]
    pub(crate) fn take(&self, slot: u32) -> Option<Wait> {
        if self.is_on() { self.book().take(slot) } else { None }
    }

    /// It has no result yet.
    pub(crate) fn keep(&self, slot: u32, wait: Option<Wait>, asking: impl FnOnce() -> Asking) {
        let wait = match wait {
            Some(Wait::Wanted { since }) => self.list(since, &asking()),
            Some(Wait::Listed(op)) => {
                op.polled();
                Some(Wait::Listed(op))
            }
            noted => noted,
        };
        // Dropped after unlocking, if the console is off by now.
        let _gone = self.book().put(slot, wait);
    }

    /// Opens the op of a wait, in the context of the task that waits.
    #[cold]
    fn list(&self, since: u64, asking: &Asking) -> Option<Wait> {
        let budgets = self.book().budgets.clone()?;
        let op = Op::open(budgets, asking, asking.now.saturating_sub(since));
        op.map(Wait::Listed)
    }

    /// The waits that are to be listed now, and so to be polled.
    pub(super) fn choose(&self, now: u64) -> Vec<u32> {
        let mut book = self.book();
        book.allowance = (book.allowance + Self::A_TICK).min(Self::AT_ONCE);
        book.stock = (book.stock + 1).min(Self::STOCK);
        let mut chosen = Vec::new();
        while book.allowance > 0
            && book.stock > 0
            && book.listed < Self::MOST
            && let Some(&(since, slot)) = book.noted.first()
            && since.saturating_add(TICK) <= now
        {
            book.noted.pop_first();
            book.known.insert(slot, Wait::Wanted { since });
            book.listed += 1;
            book.allowance -= 1;
            book.stock -= 1;
            chosen.push(slot);
        }
        chosen
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        match self.book.lock() {
            Ok(book) => book,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

impl Book {
    fn note(&mut self, slot: u32, since: u64) {
        // Those that waited when the console came were noted by the scheduler task: an owner may have gone unseen.
        let _gone = self.take(slot);
        if self.budgets.is_some() && self.noted.len() < Waits::MOST_NOTED {
            self.noted.insert((since, slot));
            self.known.insert(slot, Wait::Noted { since });
        }
    }

    fn take(&mut self, slot: u32) -> Option<Wait> {
        let wait = self.known.remove(&slot)?;
        match wait {
            Wait::Noted { since } => _ = self.noted.remove(&(since, slot)),
            Wait::Wanted { .. } | Wait::Listed(_) => self.listed -= 1,
        }
        Some(wait)
    }

    /// Puts a wait back. What could not be kept comes back.
    fn put(&mut self, slot: u32, wait: Option<Wait>) -> Option<Wait> {
        if self.budgets.is_none() {
            return wait;
        }
        match wait? {
            Wait::Noted { since } => self.note(slot, since),
            wait => {
                self.listed += 1;
                return self.known.insert(slot, wait);
            }
        }
        None
    }
}

/// An open async op.
#[derive(Debug)]
pub(crate) struct Op {
    row: Row,
    budget: BudgetId,
    budgets: Arc<Budgets>,
}

impl Op {
    fn open(budgets: Arc<Budgets>, asking: &Asking, waited: u64) -> Option<Self> {
        let source = if asking.grows { "Lease::grow" } else { "Scheduler::reserve" };
        let row = budgets.within(asking.budget, || {
            let row = Row::new(emit::wait(Some(source)));
            row.within(|| describe(asking, waited));
            row
        })?;
        if row.is_disabled() {
            return None;
        }
        budgets.note_listed(asking.budget);
        Some(Op { row, budget: asking.budget, budgets })
    }

    /// Counts a poll: whoever enters it polls it.
    fn polled(&self) {
        self.budgets.within(self.budget, || self.row.within(|| ()));
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        self.budgets.note_ended(self.budget);
    }
}

/// Says of the wait that is entered what it waits for, and that the task that is entered waits.
fn describe(asking: &Asking, waited: u64) {
    let none = WaitAttribute::default();
    let (amount, before) = (exact(asking.unit, asking.units), format!("{} ms", waited / 1_000_000));
    emit::wait_attribute(WaitAttribute { amount: Some(&amount), ..none });
    emit::wait_attribute(WaitAttribute { priority: Some(asking.priority.name()), ..none });
    emit::wait_attribute(WaitAttribute { waited_before: Some(&before), ..none });
    if let Some(label) = &asking.label {
        emit::wait_attribute(WaitAttribute { label: Some(&emit::short(label)), ..none });
    }
    emit::polled(Some("poll"), false);
}
