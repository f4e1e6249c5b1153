//! Whom nothing but safety holds back.
//!
//! A filing is *held back* from when it is looked at and nothing keeps it but safety (`avoid`), or somebody who may be
//! passed no more (`entry`), until it is looked at and something else does, or it leaves its line. It stands in the
//! line of a loan, and its waiter claims nothing (R9): that would keep others from what they need to end. If somebody's
//! claim keeps it from something else by the time that it may be passed no more, it claims at once, and moves there
//! when the turn ends.
//!
//! Once a turn has ended, and all that was given back has been told to the engine, a filing of a bounded activity that
//! stands in the line of a loan which does not block it is held back: `Engine::verify_held_back` checks that. So
//! whatever may make safe what was not need only look at the lines where these stand.
//!
//! Whoever is held back while others are granted what it asks for waits for units like anybody else. It is found by
//! what it asks, without a look at the others, when the turn ends: where it stands, or moves, is what it lacks (R10).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId};
use crate::policy::Rank;

use super::lines::{Filing, Key};
use super::{Engine, Turn};

/// One filing that is held back.
#[derive(Debug)]
struct Kept {
    place: BudgetId,
    /// What it asked of loans when it was looked at; it asks no more now.
    asks: Amounts,
    /// What its activity might ask for when it was looked at; if it says something else it is looked at again.
    may_ask: u64,
    key: Key,
}

/// The filings that are held back.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    all: BTreeMap<Filing, Kept>,
    /// How many stand in each line.
    places: BTreeMap<BudgetId, usize>,
    /// By what they ask of each loan.
    asked: BTreeMap<BudgetId, BTreeSet<(u64, Filing)>>,
    /// By what their activities may ask for, and in order of rank: whom a grant passes is found without a look at those
    /// whom it does not.
    may_ask: BTreeMap<u64, BTreeMap<Key, Filing>>,
    /// Waiters that have come to claim something since a turn ended that looked at them. One may have left since, and
    /// another be in its slot: then its lines are looked at in vain.
    claiming: BTreeSet<u32>,
}

impl HeldBack {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Where a filing is held back.
    pub(super) fn place(&self, filing: Filing) -> Option<BudgetId> {
        self.all.get(&filing).map(|kept| kept.place)
    }

    /// All of them, where, and with which rank.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Filing, BudgetId, Rank)> + '_ {
        self.all.iter().map(|(&filing, kept)| (filing, kept.place, kept.key.0))
    }

    /// The budgets in whose lines they stand.
    #[inline]
    pub(super) fn places(&self) -> u64 {
        self.places.keys().fold(0, |set, id| set | id.bit())
    }

    /// Those who rank before `rank` and whose activities may ask for some of these loans.
    pub(super) fn before(&self, loans: u64, rank: Rank) -> impl Iterator<Item = Filing> + '_ {
        let concerned = self.may_ask.iter().filter(move |&(may_ask, _)| may_ask & loans != 0);
        concerned.flat_map(move |(_, in_order)| in_order.range(..(rank, 0)).map(|(_, &filing)| filing))
    }

    /// A filing has another rank.
    pub(super) fn rerank(&mut self, filing: Filing, rank: Rank) {
        if let Some(kept) = self.all.get_mut(&filing)
            && let Some(in_order) = self.may_ask.get_mut(&kept.may_ask)
        {
            in_order.remove(&kept.key);
            kept.key.0 = rank;
            in_order.insert(kept.key, filing);
        }
    }

    fn enter(&mut self, filing: Filing, kept: Kept) {
        self.remove(filing);
        *self.places.entry(kept.place).or_default() += 1;
        for (id, units) in kept.asks.iter() {
            self.asked.entry(id).or_default().insert((units, filing));
        }
        self.may_ask.entry(kept.may_ask).or_default().insert(kept.key, filing);
        self.all.insert(filing, kept);
    }

    /// A filing is held back no more, if it was.
    #[inline]
    pub(super) fn remove(&mut self, filing: Filing) {
        let Some(kept) = self.all.remove(&filing) else { return };
        take_from(&mut self.places, kept.place, |count| {
            *count -= 1;
            *count == 0
        });
        for (id, units) in kept.asks.iter() {
            take_from(&mut self.asked, id, |asked| {
                asked.remove(&(units, filing));
                asked.is_empty()
            });
        }
        take_from(&mut self.may_ask, kept.may_ask, |in_order| {
            in_order.remove(&kept.key);
            in_order.is_empty()
        });
    }

    /// Those that ask more of a loan than is free.
    fn short(&self, books: &Books) -> impl Iterator<Item = (Filing, BudgetId)> + '_ {
        let free = |id| books.loan_free(id);
        let all: Vec<_> = self.asked.iter().map(|(&id, asked)| (free(id), asked)).collect();
        let short = all.into_iter().flat_map(|(free, asked)| asked.range((Excluded((free, Filing::LAST)), Unbounded)));
        short.filter_map(|&(_, filing)| Some((filing, self.place(filing)?)))
    }
}

/// Takes something out of an entry of a map, which goes with the last of it.
fn take_from<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, take: impl FnOnce(&mut V) -> bool) {
    if map.get_mut(&key).is_some_and(take) {
        map.remove(&key);
    }
}

impl Engine {
    /// Nothing but safety keeps a filing, which stands in this line or is about to.
    pub(super) fn hold_back(&mut self, books: &Books, filing: Filing, place: BudgetId) {
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle().without(books.rates());
        let may_ask = self.bound_of(self.tag(filing.slot())).map_or(0, Amounts::set);
        self.held_back.enter(filing, Kept { place, asks, may_ask, key: self.key(filing) });
    }

    /// The filings of a waiter that are held back, and where.
    fn held_back_of(&self, slot: u32) -> impl Iterator<Item = (Filing, BudgetId)> + '_ {
        let alternatives = if self.held_back.is_empty() { 0 } else { self.queue.alternatives(slot) };
        let all = (0..alternatives).map(move |alternative| Filing::new(slot, alternative));
        all.filter_map(|filing| Some((filing, self.held_back.place(filing)?)))
    }

    /// Whether some way of a waiter is kept by nothing but safety: it claims nothing then.
    #[inline]
    pub(super) fn is_kept_for_safety(&self, turn: &mut Turn<'_>, slot: u32) -> bool {
        self.held_back_of(slot).any(|(filing, _)| self.blocking_filing(turn.books, filing).is_none())
    }

    /// A waiter claims something, and is held back no more once it was looked at.
    #[inline]
    pub(super) fn note_claiming(&mut self, slot: u32) {
        if self.held_back_of(slot).next().is_some() {
            self.held_back.claiming.insert(slot);
        }
    }

    /// A waiter stands in no line any more.
    #[inline]
    pub(super) fn leave_held_back(&mut self, slot: u32) {
        if !self.held_back.is_empty() {
            let all = 0..self.queue.alternatives(slot);
            all.for_each(|alternative| self.held_back.remove(Filing::new(slot, alternative)));
        }
    }

    /// Whoever is held back and asks for more than is there by now waits for that: where it stands, and may claim it
    /// again, or it is looked at, and moves there. So does one that has come to claim something. Each was looked at
    /// before it was held back, and is found once, so this costs no more than that did.
    pub(super) fn look_at_short(&mut self, turn: &mut Turn<'_>) {
        let short: BTreeMap<Key, (Filing, BudgetId)> =
            self.held_back.short(turn.books).map(|(filing, place)| (self.key(filing), (filing, place))).collect();
        for ((rank, _), (filing, place)) in short {
            let lacks = |(id, units): (BudgetId, u64)| units > turn.books.loan_free(id);
            let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle().without(turn.books.rates());
            if lacks((place, asks.get(place))) {
                self.held_back.remove(filing);
                self.harden_if_due(turn, filing.slot());
            } else if asks.iter().any(lacks) {
                self.mark_from(place, rank);
            }
        }
        for slot in std::mem::take(&mut self.held_back.claiming) {
            let stays: Vec<_> = self.held_back_of(slot).filter(|_| self.queue.get(slot).hard).collect();
            stays.into_iter().for_each(|(_, place)| self.mark_from(place, self.queue.get(slot).rank));
        }
    }

    /// A bounded activity gave something back, or there is more: what was unsafe may be safe now.
    pub(super) fn look_at_unsafe(&mut self) {
        if !self.held_back.is_empty() {
            self.dirty.mark(self.held_back.places());
        }
    }
}
