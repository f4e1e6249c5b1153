//! What all handles, reservations and leases of one scheduler share, and the only place with a lock and wakers.
//!
//! # Two locks
//!
//! The *books* lie under a short lock that a reservation or a release takes for some ten instructions; that is the fast
//! path, and it is all there is while nobody waits. The *desk* (engine, wakers, figures) lies under another that is
//! taken only when somebody waits or something rare happens; a turn at the desk takes the books for as long as the
//! engine works. The order is always desk before books. Effects are applied after both are free: no waker is woken or
//! dropped under a lock.
//!
//! # No reference count per lease
//!
//! A lease refers to its core by a plain `&'static Core`. Counting references would cost two locked instructions a
//! lease, as much as the whole fast path. Instead the books count leases, under the lock that the fast path holds
//! anyway, and a core whose scheduler is gone, with no lease, waiter or driver left, goes to a list of spare cores,
//! from which the next scheduler is made. So cores are never freed, and there are never more of them than schedulers
//! were alive at once. A reservation that outlived its scheduler unpolled is told so by the generation, which the books
//! keep under the same lock.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::runtime::Handle;

use crate::engine::{Effect, Engine, Settled, Table, Turn};
use crate::ledger::{Board, Books, Held};
use crate::model::{Amounts, Budget, BudgetId, CloseReason, Config, Order, Request, Tag, Topology, Unit};
use crate::observe::{Console, Sink, TaskCounters};
use crate::rt::sync::{AtomicBool, AtomicU64, Ordering};
use crate::rt::{Clock, Here, Short};

use super::drain::Drains;
use super::known::Known;
use super::revoked::Revocations;
use super::sections::Sections;
use super::span::Spans;
use super::trace::{self, Notice};
use super::wake::Wakes;
use super::watch::Watch;

/// What never changes while a scheduler lives.
#[derive(Debug, Default)]
pub(super) struct Names {
    budgets: Vec<(BudgetId, Arc<str>, Unit)>,
    pub max_waiters: usize,
    pub topology: Topology,
}

impl Names {
    pub(super) fn new(config: &Config) -> Self {
        let mut budgets: Vec<_> =
            config.budgets.iter().map(|Budget { id, name, unit, .. }| (*id, Arc::from(name.as_str()), *unit)).collect();
        budgets.sort_by_key(|(id, ..)| *id);
        Names { budgets, max_waiters: config.max_waiters, topology: config.topology.clone() }
    }

    pub(super) fn of(&self, id: BudgetId) -> (Arc<str>, Unit) {
        let found = self.budgets.iter().find(|(known, ..)| *known == id);
        found.map_or_else(|| (id.to_string().into(), Unit::Count), |(_, name, unit)| (Arc::clone(name), *unit))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &(BudgetId, Arc<str>, Unit)> {
        self.budgets.iter()
    }

    pub(super) fn list(&self) -> String {
        self.budgets.iter().map(|(id, name, _)| format!("{id} ({name})")).collect::<Vec<_>>().join(", ")
    }
}

/// Who still needs the core, beside leases and waiters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Users {
    pub handles: bool,
    pub driver: bool,
}

/// What is under the lock of the desk.
#[derive(Debug)]
pub(super) struct Desk {
    pub engine: Engine,
    /// By slot.
    pub wakers: Table<Option<Waker>>,
    /// The labels of those that wait, by slot, up to the last slot that ever had one.
    pub labels: Table<Option<Cow<'static, str>>>,
    pub sink: Sink,
    pub names: Arc<Names>,
    pub users: Users,
    /// The waker of the scheduler task, and the time it sleeps until.
    pub driver: Option<Waker>,
    pub armed: u64,
    pub drains: Drains,
    pub watch: Watch,
    /// Those that wait until their leases are asked to end, by place.
    pub revocations: Revocations,
    pub runtime: Option<Handle>,
}

/// The shared heart of a scheduler.
#[derive(Debug)]
pub(crate) struct Core {
    pub(super) books: CachePadded<Short<Books>>,
    pub(super) board: Board,
    pub(super) desk: Short<Desk>,
    pub(super) known: Known,
    pub(super) sections: Sections,
    pub(super) tasks: TaskCounters,
    pub(super) clock: Clock,
    pub(super) console: Console,
    pub(super) spans: Spans,
    /// Whether somebody waits. Only a hint where to go first: what counts are the flags in the books, read under their
    /// lock.
    pub(super) busy: AtomicBool,
    /// The budgets that are rates, for those who take an offer up without a lock. Set when the core is opened.
    pub(super) rates: AtomicU64,
}

/// Cores without a scheduler. See the module's text.
static SPARE: std::sync::Mutex<Vec<&'static Core>> = std::sync::Mutex::new(Vec::new());

impl Core {
    fn new(clock: Clock) -> Self {
        Core {
            books: CachePadded::new(Short::new(Books::new())),
            board: Board::default(),
            desk: Short::new(Desk {
                engine: Engine::new(&Config::new()),
                wakers: Table::default(),
                labels: Table::default(),
                sink: Sink::default(),
                names: Arc::default(),
                users: Users::default(),
                driver: None,
                armed: u64::MAX,
                drains: Drains::default(),
                watch: Watch::new(u64::MAX),
                revocations: Revocations::default(),
                runtime: None,
            }),
            known: Known::default(),
            sections: Sections::default(),
            tasks: TaskCounters::default(),
            clock,
            console: Console::default(),
            spans: Spans::default(),
            busy: AtomicBool::new(false),
            rates: AtomicU64::new(0),
        }
    }

    /// A core for a scheduler of this configuration. With a hand-driven clock it is never shared with a later
    /// scheduler.
    pub(super) fn open(config: &Config, runtime: Option<Handle>, clock: Clock) -> &'static Core {
        let spare = match clock {
            Clock::Manual(_) => None,
            _ => spares().pop(),
        };
        let core = spare.unwrap_or_else(|| Box::leak(Box::new(Core::new(clock))));
        let mut desk = core.desk.lock();
        let now = core.clock.now(runtime.as_ref(), &core.clock.here());
        *desk = Desk {
            engine: Engine::new(config),
            wakers: Table::default(),
            labels: Table::default(),
            sink: Sink::default(),
            names: Arc::new(Names::new(config)),
            users: Users { handles: true, driver: true },
            driver: None,
            armed: u64::MAX,
            drains: Drains::default(),
            watch: Watch::new(config.stuck_after.map_or(u64::MAX, nanos)),
            revocations: Revocations::default(),
            runtime,
        };
        let mut books = core.books.lock();
        books.open(&config.budgets, now);
        let reserved = config.budgets.iter().filter(|budget| budget.growth_reserve > 0);
        books.gate(reserved.fold(0, |set, budget| set | budget.id.bit()));
        if config.order == Order::Shares {
            // Whose turn it is depends on what was granted before.
            books.gate(u64::MAX);
        }
        core.rates.store(books.rates(), Ordering::Relaxed);
        drop(books);
        drop(desk);
        core
    }

    /// One turn at the desk: `event` goes in, the engine settles, the effects come out, and whoever is to be woken is
    /// woken after unlocking.
    pub(super) fn turn<R>(&'static self, event: impl FnOnce(&mut Desk, &mut Turn<'_>, &mut Wakes) -> R) -> R {
        // Declared first, dropped last: after the desk is free.
        let mut wakes = Wakes::default();
        let here = self.clock.here();
        let mut desk = self.desk.lock();
        let now = self.clock.now(desk.runtime.as_ref(), &here);
        let (result, next) = {
            let mut books = self.books.lock();
            let result = event(&mut desk, &mut Turn { books: &mut books, board: &self.board, now }, &mut wakes);
            while desk.engine.settle(&mut Turn { books: &mut books, board: &self.board, now }) == Settled::Breath {
                drop(books);
                books = self.books.lock();
            }
            if books.is_closed() && books.leases() == desk.sink.forgotten() {
                desk.drains.wake(&mut wakes);
            }
            let Desk { engine, sink, watch, .. } = &mut *desk;
            let watch = watch.due(engine.waiting(), now, || books.granted_at_once() + sink.waited());
            (result, desk.engine.poll_timeout(&mut books).min(watch))
        };
        if desk.engine.has_effects() {
            desk.apply(&mut wakes, &self.known);
        }
        let busy = desk.engine.waiting() > 0;
        if busy != self.busy.load(Ordering::Relaxed) {
            self.busy.store(busy, Ordering::Relaxed);
        }
        if next < desk.armed {
            desk.armed = next;
            desk.driver.take().into_iter().for_each(|driver| wakes.push(driver));
        }
        // The task itself looks anyway.
        if desk.armed > 0 && self.console.is_missed(now) {
            desk.driver.take().into_iter().for_each(|driver| wakes.push(driver));
        }
        let retired = desk.engine.closed().is_some() && self.retire(&mut desk, &mut wakes);
        drop(desk);
        if retired {
            // Code of callers, so without a lock, and before anybody else gets the core.
            self.sections.clear();
            spares().push(self);
        }
        result
    }

    /// A look at the desk and the books, now, without a turn: nothing is granted, ended or woken because of it.
    pub(super) fn look<R>(&'static self, look: impl FnOnce(&Desk, &mut Turn<'_>) -> R) -> R {
        let here = self.clock.here();
        let desk = self.desk.lock();
        let now = self.clock.now(desk.runtime.as_ref(), &here);
        let mut books = self.books.lock();
        look(&desk, &mut Turn { books: &mut books, board: &self.board, now })
    }

    /// The time, for those outside a turn.
    pub(super) fn now(&'static self) -> u64 {
        match self.clock.here() {
            Here::Time(now) => now,
            here => self.clock.now(self.desk.lock().runtime.as_ref(), &here),
        }
    }

    /// Whether somebody waits, as far as is known without a lock.
    #[inline(always)]
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Gives back what a lease held; goes to the desk only if somebody waits for it.
    #[inline(always)]
    pub(super) fn give(&'static self, held: Held) {
        if self.is_busy() {
            return self.give_at_desk(held);
        }
        // A statement of its own, so that the books are free before the desk is asked for.
        let flagged = self.books.lock_unhurried(|| self.is_busy()).give(held);
        if let Some(budgets) = flagged {
            self.released(budgets);
        }
    }

    /// Somebody waits for something, so the lease ends at the desk: the books are taken once, not twice.
    #[inline(never)]
    fn give_at_desk(&'static self, held: Held) {
        self.turn(|desk, turn, _| {
            if let Some(budgets) = turn.books.give(held) {
                desk.engine.released(turn, budgets);
            }
        });
    }

    /// Gives back what a lease held that is known, or that belongs to somebody.
    #[cold]
    #[inline(never)]
    pub(super) fn give_special(&'static self, held: Held) {
        // Before the place is free: the next lease there may be known too.
        let label = if held.known().is_some() { self.known.leave(held, self.now()) } else { None };
        if !held.is_tagged() {
            return self.give(held);
        }
        let asked = self.turn(|desk, turn, wakes| {
            let asked = desk.engine.revocation(held);
            desk.revocations.forget(held, wakes);
            desk.engine.ended(turn, held);
            asked.map(|(by, until, _)| (by, Duration::from_nanos(turn.now.saturating_sub(until))))
        });
        if let Some((by, late)) = asked {
            trace::gave_way(label.as_deref(), held.level(), by, late);
        }
    }

    /// Splits `part` off what a lease holds. It stays with the activity, if that is more than the one lease.
    pub(super) fn split(&'static self, held: &mut Held, part: &Amounts) -> Result<Held, BudgetId> {
        if !held.is_tagged() {
            return self.books.lock().split(held, part);
        }
        self.turn(|desk, turn, _| {
            let split = turn.books.split(held, part)?;
            let tag = turn.books.tag(*held);
            let rest = if tag.is_declared() { tag } else { Tag { activity: 0, ..tag } };
            desk.engine.handed_over(turn, part, tag, rest);
            let split = turn.books.tagged(split, rest);
            desk.engine.split_off(rest);
            desk.engine.lend_part(turn, *held, split);
            desk.revocations.share(*held, split);
            Ok(split)
        })
    }

    /// Puts what one lease holds to what another holds.
    pub(super) fn merge(&'static self, held: &mut Held, other: &mut Held) -> bool {
        if !held.is_tagged() && !other.is_tagged() {
            return self.books.lock().merge(held, other);
        }
        self.turn(|desk, turn, _| {
            let (to, from) = (turn.books.tag(*held), turn.books.tag(*other));
            let amounts = turn.books.amounts(*other);
            let merged = turn.books.merge(held, other);
            if merged {
                desk.engine.handed_over(turn, &amounts, from, to);
            }
            merged
        })
    }

    /// The owner of a reservation gives up. If nobody can be granted because of that, which is the rule, neither the
    /// books nor the clock are needed.
    #[inline(never)]
    pub(super) fn cancel(&'static self, slot: u32) {
        let mut wakes = Wakes::default();
        // Dropped last: a subscriber hears of it.
        let _shown = (self.console.take(slot), self.spans.take(slot));
        let mut desk = self.desk.lock();
        if desk.engine.cancel_quietly(slot) {
            desk.apply(&mut wakes, &self.known);
            wakes.discard(desk.wakers.get_mut(slot).and_then(Option::take));
            return;
        }
        drop(desk);
        self.turn(|desk, turn, wakes| {
            desk.engine.cancel(turn, slot);
            wakes.discard(desk.wakers.get_mut(slot).and_then(Option::take));
        });
    }

    /// Units came back that somebody waits for, or the scheduler is closing.
    #[cold]
    #[inline(never)]
    fn released(&'static self, budgets: u64) {
        // If the core has passed to another scheduler in the meantime, which only the last give of a closed one can
        // see, this is one needless look at its queue.
        self.turn(|desk, turn, _| desk.engine.released(turn, budgets));
    }

    /// The scheduler task sleeps until something is due, `at` at the latest. Until when.
    pub(super) fn arm(&'static self, at: u64) -> u64 {
        let mut desk = self.desk.lock();
        let desk = &mut *desk;
        desk.armed = desk.engine.poll_timeout(&mut self.books.lock()).min(desk.watch.at()).min(at);
        desk.armed
    }

    /// Ends every wait and grants nothing any more.
    pub(super) fn close(&'static self, generation: u32, reason: CloseReason) {
        let closed = self.turn(|desk, turn, wakes| {
            let first = turn.books.generation() == generation && desk.engine.closed().is_none();
            if first {
                desk.engine.close(turn, reason);
                desk.driver.take().into_iter().for_each(|driver| wakes.push(driver));
            }
            first
        });
        if closed {
            tracing::debug!(target: "bursar::close", %reason, "closed");
        }
    }

    /// Notes that the last handle or the driver is gone, and closes.
    pub(super) fn leave(&'static self, generation: u32, reason: CloseReason) {
        self.turn(|desk, turn, wakes| {
            if turn.books.generation() != generation {
                return;
            }
            match reason {
                CloseReason::HandlesGone => desk.users.handles = false,
                _ => desk.users.driver = false,
            }
            desk.engine.close(turn, reason);
            desk.driver.take().into_iter().for_each(|driver| wakes.push(driver));
        });
    }

    /// Whether nobody needs the core any more; it is then emptied and out of use until the next `open`.
    fn retire(&self, desk: &mut Desk, wakes: &mut Wakes) -> bool {
        if desk.users.handles || desk.users.driver || matches!(self.clock, Clock::Manual(_)) {
            return false;
        }
        let mut books = self.books.lock();
        desk.engine.sweep_all(&Turn { books: &mut books, board: &self.board, now: 0 });
        if books.leases() > 0 || desk.engine.slots() > 0 {
            return false;
        }
        // From now on no reservation of this scheduler matches, and the next turn does not retire it again.
        books.retire();
        drop(books);
        desk.engine = Engine::new(&Config::new());
        std::mem::take(&mut desk.wakers).into_values().for_each(|waker| wakes.discard(waker));
        desk.labels = Table::default();
        desk.sink = Sink::default();
        desk.runtime = None;
        self.known.clear();
        self.tasks.clear();
        true
    }
}

impl Desk {
    /// Turns effects into wake-ups and figures.
    fn apply(&mut self, wakes: &mut Wakes, known: &Known) {
        let Desk { engine, wakers, sink, labels, names, revocations, .. } = self;
        for effect in engine.effects() {
            sink.record(&effect);
            match effect {
                Effect::Offer { slot, .. } | Effect::End { slot, .. } => {
                    if let Some(waker) = wakers.get_mut(slot).and_then(Option::take) {
                        wakes.push(waker);
                    }
                }
                Effect::Alert { slot, activity, budget, holder } => {
                    let label = labels.get(slot).cloned().flatten();
                    wakes.say(Notice::Alert { activity, label, budget: names.of(budget).0, holder });
                }
                Effect::Revoke { place, level, by } => {
                    revocations.wake(place, wakes);
                    wakes.say(Notice::Asked { label: known.label(place), level, by });
                }
                Effect::Overdue { place, level } => {
                    wakes.say(Notice::Overdue { label: known.label(place), level });
                }
                Effect::Regained { .. } | Effect::Expired { .. } | Effect::Cancelled { .. } => {}
            }
        }
    }

    /// Notes the label of a new waiter, or that it has none.
    #[inline]
    pub(super) fn note_label(&mut self, slot: u32, request: &Request) {
        if !request.is_plain() {
            self.set_label(slot, request.label_of());
        } else if let Some(label) = self.labels.get_mut(slot) {
            *label = None;
        }
    }

    #[cold]
    fn set_label(&mut self, slot: u32, label: Option<Cow<'static, str>>) {
        if label.is_some() {
            self.labels.open(slot);
        }
        if let Some(known) = self.labels.get_mut(slot) {
            *known = label;
        }
    }

    /// Keeps the waker of a waiter; the one it replaces is dropped after unlocking.
    pub(super) fn keep_waker(&mut self, slot: u32, waker: Waker, wakes: &mut Wakes) {
        self.wakers.open(slot);
        wakes.discard(self.wakers[slot].replace(waker));
    }
}

fn spares() -> std::sync::MutexGuard<'static, Vec<&'static Core>> {
    match SPARE.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// Whole nanoseconds; as good as never if there are too many.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
