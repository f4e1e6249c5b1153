//! The state machine that decides who gets what, when. It reads no clock, takes no lock and calls nobody: the time is
//! an argument and everything it wants done comes back as an [`Effect`]. The same engine runs under tokio, under a
//! seeded simulation, and under a model checker.
//!
//! # The order of service
//!
//! A waiter is *blocked* at a budget when the budget has less than it asks, or when a waiter of higher rank is filed
//! there. It is *examined* when it arrives and when it is the first at a budget where something changed: units came
//! back, a claim was withdrawn, the capacity or the time changed. An examination either grants the whole bundle, or
//! files the waiter under every budget that blocks it; that filing is its soft claim (R2), and lasts until the next
//! examination. A waiter that has given up a claim on a loan eight times in this way, because another budget blocked
//! it, keeps its claims on loans from then on. So:
//!
//! * nobody takes units of a budget while a waiter of higher rank is filed there (C3); the bypass of a blocked head,
//!   with its bounds, has its place in `regrant` and is zero until it comes: strict head of line order;
//! * requests that are blocked at different budgets do not wait for each other, until one of them has been patient
//!   eight times;
//! * so every waiter is granted once those of higher rank are gone and what is held has come back: after eight rounds
//!   whatever it was ever short of gathers for it;
//! * a release looks at the heads of the lanes it can help, and at nobody else.
//!
//! Everything that may make somebody grantable marks budgets as *dirty* and ends in one function, [`Engine::settle`].
//!
//! # Using it
//!
//! Events go in through [`submit`](Engine::submit), [`cancel`](Engine::cancel), [`released`](Engine::released),
//! [`set_capacity`](Engine::set_capacity), [`close`](Engine::close) and [`handle_timeout`](Engine::handle_timeout);
//! then call [`settle`](Engine::settle) until it says [`Settled::Done`] or [`Settled::LookAhead`], and take the
//! effects. [`poll_timeout`](Engine::poll_timeout) says when to call `handle_timeout` next; calling it too early is
//! harmless.

mod check;
mod effect;
mod queue;
mod regrant;
mod timeout;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ledger::{Board, Books, Held};
use crate::model::{Amounts, BudgetId, CloseReason, Config, Priority};
use crate::policy::Rank;

pub use effect::{Effect, Ended, Refusal, Short, Submitted, Verdict};
use queue::{Queue, State};
pub use regrant::Settled;

/// What the engine is given for one call.
#[derive(Debug)]
pub struct Turn<'a> {
    /// The books.
    pub books: &'a mut Books,
    /// The board.
    pub board: &'a Board,
    /// The time, in nanoseconds.
    pub now: u64,
}

/// What is asked for, once it is due.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The bundle.
    pub amounts: &'a Amounts,
    /// The level.
    pub level: Priority,
    /// The latest time of the grant, in nanoseconds from now; `u64::MAX` for none.
    pub deadline: u64,
}

/// What an arriving request came to.
enum Admitted {
    Held(Held),
    Blocked { at: u64, rank: Rank },
}

/// The engine's settings, in base units.
#[derive(Debug, Clone, Copy)]
struct Settings {
    offer_expiry: u64,
    edf_horizon: u64,
    look_ahead: usize,
    max_waiters: usize,
}

/// A deadline, the arrival that sets it apart from equal ones, and the slot.
type Deadline = (u64, u64, u32);

/// The state machine.
#[derive(Debug)]
pub struct Engine {
    queue: Queue,
    settings: Settings,
    /// How many active waiters name each budget (R1: the flag is set while there is one).
    naming: [u32; BudgetId::LIMIT],
    /// Active waiters.
    waiting: usize,
    /// Deadlines of those that wait or are dormant.
    deadlines: BTreeSet<Deadline>,
    /// Slots that were granted and not yet swept, round and round.
    offers: VecDeque<u32>,
    /// No offer expires before this.
    next_expiry: u64,
    /// Budgets where something changed since their heads were last examined.
    dirty: u64,
    /// Budgets that the last active waiter left; their flags are cleared when the engine settles.
    unnamed: u64,
    arrivals: u64,
    /// The latest time seen. Time never goes back here, whatever thread brings it.
    now: u64,
    closed: Option<CloseReason>,
    /// Why waits ended, until their owners ask.
    ended: BTreeMap<u32, Ended>,
    effects: Vec<Effect>,
}

impl Engine {
    /// An engine with nobody waiting.
    pub fn new(config: &Config) -> Self {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Engine {
            queue: Queue::new(),
            settings: Settings {
                offer_expiry: nanos(config.offer_expiry),
                edf_horizon: nanos(config.edf_horizon),
                look_ahead: config.look_ahead,
                max_waiters: config.max_waiters,
            },
            naming: [0; BudgetId::LIMIT],
            waiting: 0,
            deadlines: BTreeSet::new(),
            offers: VecDeque::new(),
            next_expiry: u64::MAX,
            dirty: 0,
            unnamed: 0,
            arrivals: 0,
            now: 0,
            closed: None,
            ended: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// A request arrives. Grants it at once if nothing blocks it, else queues it.
    pub fn submit(&mut self, turn: &mut Turn<'_>, asked: Asked<'_>) -> Submitted {
        let (blocked, rank) = match self.admit(turn, asked) {
            Err(refusal) => return Submitted::Refused(refusal),
            Ok(Admitted::Held(held)) => return Submitted::Granted(held),
            Ok(Admitted::Blocked { at, rank }) => (at, rank),
        };
        if asked.deadline == 0 {
            return Submitted::Refused(Box::new(Refusal::Late(self.short_at(turn.books, asked.amounts, blocked))));
        }
        if self.waiting >= self.settings.max_waiters {
            let short = self.short_at(turn.books, asked.amounts, blocked);
            return Submitted::Refused(Box::new(Refusal::Full(self.waiting, short)));
        }
        self.arrivals += 1;
        let due = !Rank::is_never(self.now.saturating_add(asked.deadline));
        let slot = self.queue.insert(rank, asked.amounts, self.now, due);
        turn.board.open(slot);
        self.deadlines.extend(self.queue.deadline(slot));
        self.activate(turn.books, slot, blocked);
        Submitted::Waiting(slot)
    }

    /// A request arrives that will not wait. It passes nobody that one that waits would not pass.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] when something blocks it.
    pub fn try_submit(&mut self, turn: &mut Turn<'_>, asked: Asked<'_>) -> Result<Held, Box<Refusal>> {
        match self.admit(turn, asked)? {
            Admitted::Held(held) => Ok(held),
            Admitted::Blocked { at, .. } => {
                Err(Box::new(Refusal::NotNow(self.short_at(turn.books, asked.amounts, at))))
            }
        }
    }

    fn admit(&mut self, turn: &mut Turn<'_>, asked: Asked<'_>) -> Result<Admitted, Box<Refusal>> {
        if let Some(reason) = self.closed {
            return Err(Box::new(Refusal::Closed(reason, self.short_at(turn.books, asked.amounts, 0))));
        }
        self.advance(turn);
        if let Some(refusal) = self.impossible(turn.books, asked.amounts) {
            return Err(Box::new(refusal));
        }
        // Whatever an earlier turn left undone has the older right.
        self.resume(turn);
        let deadline = self.now.saturating_add(asked.deadline);
        let implied = self.now.saturating_add(self.settings.edf_horizon);
        let order_by = if asked.deadline == u64::MAX { implied } else { deadline };
        let rank = Rank::new(asked.level, order_by, self.arrivals);
        let at = self.blocked(turn.books, asked.amounts, rank, None);
        if at != 0 {
            return Ok(Admitted::Blocked { at, rank });
        }
        turn.books.count_immediate(asked.level);
        Ok(Admitted::Held(turn.books.take(asked.amounts, asked.level)))
    }

    /// The owner of a dormant waiter polled it: it asks again, with the rank it had. What it holds, when it was granted
    /// at once.
    pub fn reactivate(&mut self, turn: &mut Turn<'_>, slot: u32) -> Option<Held> {
        self.advance(turn);
        self.resume(turn);
        if self.queue.get(slot).state != State::Dormant {
            return None;
        }
        let blocked = self.blocked_slot(turn.books, slot);
        if blocked == 0 {
            let held = self.take(turn.books, slot);
            let (level, since) = (held.level(), self.queue.get(slot).since);
            let budget = BudgetId::first_of(self.queue.set(slot)).unwrap_or(BudgetId::GPU);
            self.effects.push(Effect::Regained { level, budget, waited: self.now - since });
            self.forget(slot);
            return Some(held);
        }
        self.activate(turn.books, slot, blocked);
        None
    }

    /// The owner gives up, in whatever state the waiter is (C5).
    pub fn cancel(&mut self, turn: &mut Turn<'_>, slot: u32) {
        self.advance(turn);
        let level = self.queue.get(slot).rank.level();
        match self.queue.get(slot).state {
            State::Waiting => self.deactivate(slot),
            State::Offered => {
                // Taken up, it would be a lease and nothing to cancel. Either way the sweep frees the slot.
                if let Some(place) = turn.board.discard(slot) {
                    self.undo(turn.books, slot, place);
                    self.effects.push(Effect::Cancelled { level });
                }
                return;
            }
            State::Dormant => {}
            State::Ended => return self.forget(slot),
            State::Free => return,
        }
        self.effects.push(Effect::Cancelled { level });
        self.forget(slot);
    }

    /// Why a wait ended; frees the slot. `None` when it has not ended.
    pub fn collect(&mut self, slot: u32) -> Option<Ended> {
        let ended = self.ended.remove(&slot)?;
        self.forget(slot);
        Some(ended)
    }

    /// Units of these budgets came back. The books have them already.
    pub fn released(&mut self, turn: &mut Turn<'_>, budgets: u64) {
        self.advance(turn);
        self.dirty |= budgets;
    }

    /// The capacity of a loan changes. Waiters that can no longer fit end at once.
    pub fn set_capacity(&mut self, turn: &mut Turn<'_>, id: BudgetId, capacity: u64) {
        self.advance(turn);
        let before = turn.books.capacity(id);
        turn.books.set_capacity(id, capacity);
        self.capacity_changed(turn, id, capacity < before);
    }

    /// The speed and burst of a rate change. Waiters that can no longer fit end at once.
    pub fn set_rate(&mut self, turn: &mut Turn<'_>, id: BudgetId, per_second: u64, burst: u64) {
        self.advance(turn);
        let now = self.now;
        let Some(bucket) = turn.books.bucket_mut(id) else { return };
        let shrinks = burst < bucket.burst();
        bucket.set(per_second, burst, now);
        self.capacity_changed(turn, id, shrinks);
    }

    /// Nothing is granted any more: every wait ends. Offers that lie on the board stay there (R5).
    pub fn close(&mut self, turn: &mut Turn<'_>, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        self.advance(turn);
        self.closed = Some(reason);
        turn.books.close();
        for slot in self.in_order_of_arrival(|_| true) {
            self.end(turn, slot, Verdict::Closed(reason));
        }
        self.dirty = 0;
    }

    /// Takes what is to be done.
    pub fn effects(&mut self) -> std::vec::Drain<'_, Effect> {
        self.effects.drain(..)
    }

    /// Active waiters.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Active waiters that name a budget.
    pub fn naming(&self, id: BudgetId) -> u64 {
        u64::from(self.naming[id.index()])
    }

    /// Whether it is closed, and why.
    pub fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Slots that an owner may still use, or that are not swept yet.
    pub fn slots(&self) -> usize {
        self.queue.len()
    }

    /// Offers that nobody has taken up yet, and how much of each budget they hold.
    pub fn offered(&self, board: &Board, mut each: impl FnMut(BudgetId, u64)) -> usize {
        let open = self.offers.iter().filter(|&&slot| !board.accepted(slot));
        let mut count = 0;
        for &slot in open {
            count += 1;
            self.queue.asks(slot).bundle().iter().for_each(|(id, units)| each(id, units));
        }
        count
    }

    /// What a bundle is short of right now, in figures: the first blocked budget.
    fn short_at(&self, books: &mut Books, amounts: &Amounts, blocked: u64) -> Short {
        let budget = BudgetId::first_of(blocked).or(BudgetId::first_of(amounts.set())).unwrap_or(BudgetId::GPU);
        if let Some(bucket) = books.bucket_mut(budget) {
            bucket.refill(self.now);
        }
        Short {
            budget,
            asked: amounts.get(budget),
            free: books.free(budget),
            limit: books.limit(budget),
            waiting: self.naming(budget),
        }
    }

    fn impossible(&self, books: &mut Books, amounts: &Amounts) -> Option<Refusal> {
        if let Some(unknown) = BudgetId::first_of(amounts.set() & !books.budgets()) {
            return Some(Refusal::UnknownBudget(unknown));
        }
        self.above_limit(books, amounts).map(Refusal::NeverFits)
    }

    fn above_limit(&self, books: &mut Books, amounts: &Amounts) -> Option<Short> {
        let (above, _) = amounts.iter().find(|&(id, units)| units > books.limit(id))?;
        Some(self.short_at(books, amounts, above.bit()))
    }

    fn capacity_changed(&mut self, turn: &mut Turn<'_>, id: BudgetId, shrinks: bool) {
        if shrinks {
            for slot in self.in_order_of_arrival(|set| set & id.bit() != 0) {
                if self.queue.asks(slot).get(id) > turn.books.limit(id) {
                    self.end(turn, slot, Verdict::NeverFits);
                }
            }
        }
        self.dirty |= id.bit();
    }

    /// Those that wait or are dormant and ask for a set of budgets that `concerned` picks.
    fn in_order_of_arrival(&self, concerned: impl Fn(u64) -> bool) -> Vec<u32> {
        let waits = |state| matches!(state, State::Waiting | State::Dormant);
        let all = self.queue.iter().filter(|(slot, waiter)| waits(waiter.state) && concerned(self.queue.set(*slot)));
        let mut slots: Vec<_> = all.map(|(slot, waiter)| (waiter.rank.arrival(), slot)).collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }
}
