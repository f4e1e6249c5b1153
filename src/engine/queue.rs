//! The waiters, in slots.
//!
//! A waiter that asks for one budget, or for one bundle, is one entry; what few have, alternatives and elastic amounts,
//! lies out of line. Where waiters stand in line is `lines`' business; the links of the first filing lie in the entry
//! itself, because almost every waiter has only that one.

use std::sync::Arc;

use crate::model::{Amounts, BudgetId, Path, Priority, Terms};
use crate::policy::Rank;

use super::lines::{Filing, Lines, Link};
use super::minima::Outside;
use super::ratio::Pace;
use super::steps::step;
use super::table::Table;

/// Where a waiter is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The slot is free.
    Free,
    /// Queued, filed and counted.
    Waiting,
    /// Granted; the bundle lies on the board, or has been taken up and the slot not yet swept.
    Offered,
    /// Its offer expired: it keeps its rank, but asks for nothing until it is polled (R5).
    Dormant,
    /// Ended without a grant; the owner has not collected the reason.
    Ended,
}

/// What is asked: one amount inline, anything else in a table, so that a single-budget waiter stays small.
#[derive(Debug, Clone, Copy)]
struct Ask {
    set: u64,
    /// The units of the one budget, or the index of the bundle or of the terms.
    units: u64,
}

impl Ask {
    /// What stands in a free slot: which other one is free.
    fn free(slot: Option<u32>) -> Self {
        Ask { set: 0, units: slot.map_or(u64::MAX, u64::from) }
    }

    fn free_slot(self) -> Option<u32> {
        u32::try_from(self.units).ok()
    }
}

/// What a waiter asks for, as it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asks<'a> {
    /// So much of one budget.
    One(BudgetId, u64),
    /// A bundle.
    Many(&'a Amounts),
}

impl<'a> Asks<'a> {
    /// What a bundle asks for.
    #[inline]
    pub(super) fn of(amounts: &'a Amounts) -> Self {
        match (amounts.inline_units(), BudgetId::first_of(amounts.set())) {
            (Some(&[units, ..]), Some(only)) if amounts.set().is_power_of_two() => Asks::One(only, units),
            _ => Asks::Many(amounts),
        }
    }

    /// How much of one budget.
    pub(super) fn get(self, id: BudgetId) -> u64 {
        match self {
            Asks::One(only, units) if only == id => units,
            Asks::One(..) => 0,
            Asks::Many(amounts) => amounts.get(id),
        }
    }

    /// The budgets.
    pub(super) fn set(self) -> u64 {
        match self {
            Asks::One(only, _) => only.bit(),
            Asks::Many(amounts) => amounts.set(),
        }
    }

    /// All of it, as a bundle of its own.
    pub(super) fn bundle(self) -> Amounts {
        match self {
            Asks::One(only, units) => Amounts::of(only, units),
            Asks::Many(amounts) => amounts.clone(),
        }
    }
}

/// One waiter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub rank: Rank,
    ask: Ask,
    /// When it arrived.
    pub since: u64,
    /// The latest time of its grant; `u64::MAX` for none.
    pub deadline: u64,
    /// When it is to be raised to the next level; `u64::MAX` for never.
    pub raise_at: u64,
    /// When it was first passed by a later grant.
    pub first_pass: u64,
    /// The filing of its first alternative.
    pub link: Link,
    /// How often it was passed by a later grant.
    pub passes: u32,
    pub state: State,
    /// The level of the request. The rank has the one it has risen to.
    pub base: Priority,
    /// Has alternatives or elastic amounts.
    flexible: bool,
    /// Was passed as often, or as long, as may be, or is not to be passed at all.
    pub spent: bool,
    /// Is that, and claims what it asks.
    pub hard: bool,
    /// How many offers to it have expired.
    pub expiries: u8,
}

/// What a free slot has.
impl Default for Waiter {
    fn default() -> Self {
        Waiter {
            rank: Rank::BEFORE_ALL,
            ask: Ask::free(None),
            since: 0,
            deadline: u64::MAX,
            raise_at: u64::MAX,
            first_pass: 0,
            link: Link::NOWHERE,
            passes: 0,
            state: State::Free,
            base: Priority::Normal,
            flexible: false,
            spent: false,
            hard: false,
            expiries: 0,
        }
    }
}

/// What a flexible waiter has beside its entry.
#[derive(Debug)]
pub(super) struct Flexible {
    pub terms: Arc<Terms>,
    /// The filings of the alternatives after the first.
    pub links: Vec<Link>,
    /// From when on less than what is wanted would do.
    pub ripe_at: u64,
    pub ripe: bool,
    /// The alternative that carries its hard claim, once it has one.
    pub claiming: Option<Filing>,
    /// It is served from the minimum of its module: what it would be otherwise.
    pub guaranteed: Option<Outside>,
    /// Its own rank, while it has inherited another.
    pub own_rank: Option<Rank>,
    /// The pace of whom it has that from.
    pub pace: Option<Pace>,
    /// How it was granted, from the offer on.
    pub granted: (Path, Amounts),
}

/// All waiters. What every turn writes comes last, from the slots on, beside what it writes of the engine.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Queue {
    bundles: Vec<Amounts>,
    free_bundles: Vec<u32>,
    flexible: Vec<Option<Flexible>>,
    free_flexible: Vec<u32>,
    pub lines: Lines,
    slots: Table<Waiter>,
    /// Slots that were ever in use are those below this.
    opened: u32,
    /// The free slot that was left last. Each names the one before it where a waiter has its ask, so that free slots
    /// take no memory of their own.
    free_slot: Option<u32>,
    used: usize,
}

/// What a new waiter comes with.
#[derive(Debug)]
pub(super) struct Newcomer<'a> {
    pub rank: Rank,
    pub base: Priority,
    pub amounts: &'a Amounts,
    pub terms: Option<Arc<Terms>>,
    pub since: u64,
    pub deadline: u64,
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue {
            slots: Table::default(),
            opened: 0,
            free_slot: None,
            used: 0,
            bundles: Vec::new(),
            free_bundles: Vec::new(),
            flexible: Vec::new(),
            free_flexible: Vec::new(),
            lines: Lines::new(),
        }
    }

    /// A new waiter, filed nowhere.
    pub(super) fn insert(&mut self, new: Newcomer<'_>) -> u32 {
        let flexible = new.terms.is_some();
        let ask = match new.terms {
            Some(terms) => self.keep_terms(terms, new.since),
            None => self.keep_ask(new.amounts),
        };
        let Newcomer { rank, base, since, deadline, .. } = new;
        let waiter = Waiter { rank, ask, since, deadline, base, flexible, state: State::Waiting, ..Waiter::default() };
        self.used += 1;
        let slot = match self.free_slot {
            Some(slot) => {
                self.free_slot = self.slots[slot].ask.free_slot();
                slot
            }
            None => {
                let slot = self.opened;
                self.slots.open(slot);
                // Far from all: `lines::MOST_SLOTS`.
                self.opened += 1;
                slot
            }
        };
        self.slots[slot] = waiter;
        slot
    }

    fn keep_ask(&mut self, amounts: &Amounts) -> Ask {
        let units = match Asks::of(amounts) {
            Asks::One(_, units) => units,
            Asks::Many(amounts) => u64::from(put(&mut self.bundles, &mut self.free_bundles, amounts.clone())),
        };
        Ask { set: amounts.set(), units }
    }

    #[cold]
    fn keep_terms(&mut self, terms: Arc<Terms>, since: u64) -> Ask {
        let set = terms.set();
        let links = vec![Link::NOWHERE; terms.alternatives.len() - 1];
        let ripe_at = since.saturating_add(terms.patience);
        let flexible = Flexible {
            terms,
            links,
            ripe_at,
            ripe: ripe_at <= since,
            claiming: None,
            guaranteed: None,
            own_rank: None,
            pace: None,
            granted: Default::default(),
        };
        Ask { set, units: u64::from(put(&mut self.flexible, &mut self.free_flexible, Some(flexible))) }
    }

    /// Frees the slot of a waiter that is filed nowhere.
    #[inline]
    pub(super) fn remove(&mut self, slot: u32) {
        let waiter = &mut self.slots[slot];
        debug_assert!(waiter.state != State::Free);
        waiter.state = State::Free;
        let ask = waiter.ask;
        // What remembers where it stood may still look here; it finds an entry that stands nowhere.
        if std::mem::take(&mut waiter.flexible) {
            self.flexible[ask.units as usize] = None;
            self.free_flexible.push(ask.units as u32);
        } else if !ask.set.is_power_of_two() {
            self.bundles[ask.units as usize] = Amounts::new();
            self.free_bundles.push(ask.units as u32);
        }
        waiter.ask = Ask::free(self.free_slot.replace(slot));
        self.used -= 1;
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Waiter {
        step();
        &self.slots[slot]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Waiter {
        &mut self.slots[slot]
    }

    /// What a flexible waiter has beside its entry.
    pub(super) fn flexible(&self, slot: u32) -> Option<&Flexible> {
        let waiter = self.get(slot);
        if waiter.flexible { self.flexible[waiter.ask.units as usize].as_ref() } else { None }
    }

    pub(super) fn flexible_mut(&mut self, slot: u32) -> Option<&mut Flexible> {
        let waiter = *self.get(slot);
        if waiter.flexible { self.flexible[waiter.ask.units as usize].as_mut() } else { None }
    }

    /// The budgets that a waiter names, in any of its alternatives.
    #[inline]
    pub(super) fn set(&self, slot: u32) -> u64 {
        self.slots[slot].ask.set
    }

    /// How many alternatives a waiter has.
    #[inline]
    pub(super) fn alternatives(&self, slot: u32) -> u8 {
        // At most `MOST_ALTERNATIVES`.
        self.flexible(slot).map_or(1, |flexible| flexible.terms.alternatives.len() as u8)
    }

    /// The least that an alternative would do with now.
    #[inline]
    pub(super) fn asks(&self, slot: u32, alternative: u8) -> Asks<'_> {
        let waiter = &self.slots[slot];
        if waiter.flexible {
            return self.asks_flexibly(slot, alternative);
        }
        match BudgetId::first_of(waiter.ask.set) {
            Some(only) if waiter.ask.set.is_power_of_two() => Asks::One(only, waiter.ask.units),
            _ => Asks::Many(&self.bundles[waiter.ask.units as usize]),
        }
    }

    #[cold]
    fn asks_flexibly(&self, slot: u32, alternative: u8) -> Asks<'_> {
        const NOTHING: &Amounts = &Amounts::new();
        let of = |flexible: &'_ Flexible| flexible.terms.alternatives.get(usize::from(alternative)).is_some();
        match self.flexible(slot).filter(|flexible| of(flexible)) {
            None => Asks::Many(NOTHING),
            Some(flexible) => {
                let alternative = &flexible.terms.alternatives[usize::from(alternative)];
                Asks::Many(if flexible.ripe { alternative.least() } else { alternative.want() })
            }
        }
    }

    /// What was granted to a waiter that has an offer.
    #[inline]
    pub(super) fn granted(&self, slot: u32) -> Asks<'_> {
        match self.flexible(slot) {
            Some(flexible) => Asks::Many(&flexible.granted.1),
            None => self.asks(slot, 0),
        }
    }

    /// The waiter in a slot, if there is one.
    pub(super) fn find(&self, slot: u32) -> Option<&Waiter> {
        self.slots.get(slot).filter(|waiter| waiter.state != State::Free)
    }

    /// Slots in use, with their waiters: for checks, closing and capacity changes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Waiter)> {
        let used = |(_, waiter): &(usize, &Waiter)| waiter.state != State::Free;
        self.slots.iter().enumerate().filter(used).map(|(slot, waiter)| (slot as u32, waiter))
    }

    /// Number of slots in use.
    pub(super) fn len(&self) -> usize {
        self.used
    }
}

/// Puts a value into a free place of a table, or a new one.
fn put<T>(table: &mut Vec<T>, free: &mut Vec<u32>, value: T) -> u32 {
    match free.pop() {
        Some(at) => {
            table[at as usize] = value;
            at
        }
        None => {
            table.push(value);
            // So that freeing them all never allocates.
            free.reserve(table.len());
            // Fewer than `lines::MOST_SLOTS`.
            table.len() as u32 - 1
        }
    }
}
