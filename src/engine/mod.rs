//! The state machine that decides who gets what, when. It reads no clock, takes no lock and calls nobody: the time is
//! an argument and everything it wants done comes back as an [`Effect`]. The same engine runs under tokio, under a
//! seeded simulation, and under a model checker.
//!
//! # The order of service
//!
//! A waiter stands in the line of one budget that cannot serve it, its *witness* (one for each of its alternatives). It
//! is *looked at* when something changed at that budget for somebody of its rank: units came back, a claim was
//! withdrawn, the capacity or the time changed. Then it is granted, stays, or moves to the line of what blocks it now.
//! A budget *blocks* a request that asks for more than is free there beyond the hard claims of higher ranks (R2).
//!
//! * Who fits goes, whoever waits: requests that do not lack the same budget never wait for each other, and a small one
//!   runs beside a blocked large one (C3).
//! * Whom this passes, too often or for too long, gets a hard claim on its whole bundle; `bypass` states the bounds.
//! * A release looks at the lines of what came back, in order of rank, and at no more than `look_ahead` in vain.
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

mod activity;
mod admit;
mod aging;
mod avoid;
mod borrowed;
mod bounds;
mod bypass;
mod caps;
mod check;
mod claims;
#[cfg(test)]
mod costs;
mod effect;
mod end;
mod entry;
mod examine;
mod explain;
mod guards;
mod held_back;
mod inherit;
mod lines;
mod minima;
mod module;
mod preempt;
mod queue;
mod ratio;
mod reach;
mod reduction;
mod regrant;
mod sizes;
mod steps;
mod table;
mod timeout;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ledger::{Board, Books};
use crate::model::{Amounts, BudgetId, CloseReason, Config, Order, Priority, Request, Terms};
use crate::policy::{Aging, Shares};

use activity::Parties;
#[cfg(any(feature = "test-util", bursar_loom))]
pub use check::Peek;
use claims::Claims;
pub use effect::{Effect, Ended, Refusal, Short, Submitted, Verdict};
use guards::Guards;
use held_back::HeldBack;
use module::Modules;
use preempt::Preemption;
use queue::{Queue, State};
use ratio::Holds;
use regrant::Dirty;
pub use regrant::Settled;
pub use table::Table;

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
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The bundle.
    pub amounts: &'a Amounts,
    /// The level.
    pub level: Priority,
    /// The latest time of the grant, in nanoseconds from now; `u64::MAX` for none.
    pub deadline: u64,
    /// Alternatives and elastic amounts; the bundle is the first of them.
    pub terms: Option<Arc<Terms>>,
    /// The module that asks.
    pub module: Option<&'a str>,
    /// How long it will hold what it gets, in nanoseconds.
    pub expected_hold: u64,
}

impl<'a> Asked<'a> {
    /// What a request asks for.
    #[inline]
    pub fn of(request: &'a Request) -> Self {
        Asked {
            amounts: request.amounts(),
            level: request.urgency(),
            deadline: request.deadline_ns(),
            terms: if request.is_plain() { None } else { request.terms() },
            module: if request.is_plain() { None } else { request.module_name() },
            expected_hold: request.expected_hold_ns(),
        }
    }
}

/// The engine's settings, in base units.
#[derive(Debug, Clone, Copy)]
struct Settings {
    offer_expiry: u64,
    aging: Aging,
    look_ahead: usize,
    max_waiters: usize,
    bypass_limit: u32,
    bypass_time: u64,
    verdict_after: u64,
    roll_backs: u32,
    grace: u64,
}

/// When something is due, the arrival that sets it apart from what is due at the same time, and the slot.
type Timer = (u64, u64, u32);

/// The state machine. Its fields lie in memory as they stand here: those that every turn writes, from the slots of the
/// queue on, on few cache lines. Each comes over from the core that had the last turn.
#[derive(Debug)]
#[repr(C)]
pub struct Engine {
    claims: Claims,
    parties: Parties,
    modules: Modules,
    preemption: Preemption,
    /// Whom nothing but safety keeps.
    held_back: HeldBack,
    /// Those of bounded activities that may be passed no more.
    guards: Guards,
    /// What of each budget is kept for growth, and the budgets where something is.
    reserves: BTreeMap<BudgetId, u64>,
    reserved: u64,
    /// How often a waiter took over a rank.
    inheritances: u64,
    settings: Settings,
    /// The shares of modules, if the order goes by them.
    shares: Option<Shares>,
    /// How long waiters expect to hold, if the order goes by that.
    holds: Option<Holds>,
    /// Deadlines of those that wait or are dormant.
    deadlines: BTreeSet<Timer>,
    /// When those that wait take less than they want.
    ripenings: BTreeSet<Timer>,
    /// When those that wait rise a level.
    raises: BTreeSet<Timer>,
    closed: Option<CloseReason>,
    /// Why waits ended, until their owners ask.
    ended: BTreeMap<u32, Ended>,
    queue: Queue,
    /// Active waiters.
    waiting: usize,
    /// Active waiters by the level of their request.
    waiting_at: [u64; Priority::COUNT],
    /// Those whose offer expired, until they are polled or end.
    dormant: usize,
    arrivals: u64,
    /// The latest time seen. Time never goes back here, whatever thread brings it.
    now: u64,
    /// When holders that wait for each other get a verdict; `u64::MAX` while there are none.
    verdict_at: u64,
    /// Budgets that the last active waiter left; their flags are cleared when the engine settles.
    unnamed: u64,
    /// Slots that were granted and not yet swept, round and round, with the time when the offer may expire.
    offers: VecDeque<(u64, u32)>,
    /// No offer expires before this.
    next_expiry: u64,
    effects: Vec<Effect>,
    /// Budgets where something changed since those in line were last looked at.
    dirty: Dirty,
    /// How many active waiters name each budget (R1: the flag is set while there is one).
    naming: [u32; BudgetId::LIMIT],
}

impl Engine {
    /// An engine with nobody waiting.
    pub fn new(config: &Config) -> Self {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let kept = config.budgets.iter().filter(|budget| budget.growth_reserve > 0);
        let reserves: BTreeMap<_, _> = kept.map(|budget| (budget.id, budget.growth_reserve)).collect();
        Engine {
            queue: Queue::new(),
            claims: Claims::new(),
            parties: Parties::default(),
            modules: Modules::default(),
            preemption: Preemption::default(),
            held_back: HeldBack::default(),
            guards: Guards::default(),
            reserved: reserves.keys().fold(0, |set, id| set | id.bit()),
            reserves,
            verdict_at: u64::MAX,
            inheritances: 0,
            settings: Settings {
                offer_expiry: nanos(config.offer_expiry),
                aging: Aging {
                    step: config.aging_step.map_or(u64::MAX, nanos),
                    idle: config.age_idle,
                    horizon: nanos(config.edf_horizon),
                },
                look_ahead: config.look_ahead,
                max_waiters: config.max_waiters,
                bypass_limit: config.bypass_limit,
                bypass_time: nanos(config.bypass_time),
                verdict_after: nanos(config.verdict_after),
                roll_backs: config.roll_backs,
                grace: nanos(config.grace),
            },
            shares: (config.order == Order::Shares).then(Shares::new),
            holds: (config.order == Order::ResponseRatio).then(Holds::default),
            naming: [0; BudgetId::LIMIT],
            waiting: 0,
            dormant: 0,
            waiting_at: [0; Priority::COUNT],
            deadlines: BTreeSet::new(),
            ripenings: BTreeSet::new(),
            raises: BTreeSet::new(),
            offers: VecDeque::new(),
            next_expiry: u64::MAX,
            dirty: Dirty::none(),
            unnamed: 0,
            arrivals: 0,
            now: 0,
            closed: None,
            ended: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// Units of these budgets came back. The books have them already.
    pub fn released(&mut self, turn: &mut Turn<'_>, budgets: u64) {
        self.advance(turn);
        self.dirty.mark(budgets);
    }

    /// The capacity of a loan changes. Waiters that can no longer fit end at once.
    pub fn set_capacity(&mut self, turn: &mut Turn<'_>, id: BudgetId, capacity: u64) {
        self.advance(turn);
        turn.books.set_capacity(id, capacity);
        self.look_at_unsafe();
        self.limit_changed(turn, id);
    }

    /// The speed and burst of a rate change. Waiters that can no longer fit end at once.
    pub fn set_rate(&mut self, turn: &mut Turn<'_>, id: BudgetId, per_second: u64, burst: u64) {
        self.advance(turn);
        let now = self.now;
        let Some(bucket) = turn.books.bucket_mut(id) else { return };
        bucket.set(per_second, burst, now);
        self.limit_changed(turn, id);
    }

    /// Another limit may make alternatives impossible, or possible.
    fn limit_changed(&mut self, turn: &mut Turn<'_>, id: BudgetId) {
        self.dirty.mark(id.bit());
        let concerned = self.in_order_of_arrival(|set| set & id.bit() != 0);
        // What is claimed depends on the limit. All of it is entered anew first, so that nobody is judged by what
        // somebody else claimed under the old one.
        let claimed: Vec<_> = concerned.iter().map(|&slot| self.unclaim(slot)).collect();
        concerned.iter().for_each(|&slot| self.claim(turn, slot));
        for (slot, before) in concerned.into_iter().zip(claimed) {
            let rank = self.queue.get(slot).rank;
            if self.possible(turn.books, slot) == 0 {
                self.end(turn, slot, Verdict::NeverFits);
            } else if self.queue.get(slot).state == State::Waiting && self.queue.flexible(slot).is_some() {
                self.file_all(turn, slot, Some(id));
                self.unclaim(slot);
                self.claim_again(turn, slot);
                self.let_in_if_nowhere(slot);
            }
            self.mark_lowered(rank, before);
        }
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
    }

    /// Whether anything is to be done.
    #[inline]
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Takes what is to be done.
    pub fn effects(&mut self) -> std::vec::Drain<'_, Effect> {
        self.effects.drain(..)
    }

    /// Active waiters.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Those whose offer expired because nobody polled them. They are in no line until they are polled.
    pub fn dormant(&self) -> usize {
        self.dormant
    }

    /// Active waiters by the level of their request, which is not always the one they have risen to.
    pub fn waiting_at(&self) -> [u64; Priority::COUNT] {
        self.waiting_at
    }

    /// Active waiters that name a budget.
    pub fn naming(&self, id: BudgetId) -> u64 {
        u64::from(self.naming[id.index()])
    }

    /// How often a waiter took over the rank of somebody who waits for what its activity holds.
    pub fn inheritances(&self) -> u64 {
        self.inheritances
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
        let open = self.offers.iter().filter(|&&(_, slot)| !board.accepted(slot));
        let mut count = 0;
        for &(_, slot) in open {
            count += 1;
            self.queue.granted(slot).bundle().iter().for_each(|(id, units)| each(id, units));
        }
        count
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
