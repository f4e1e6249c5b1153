//! Whom the cap of a module keeps (R9).
//!
//! A cap is a budget of the module's own, and has a line like one. A filing that would exceed the cap is *kept*, or
//! *parked*, there: it stands in no other line, claims nothing and passes nobody's turn to anybody. When the module has
//! room again, the line of the cap is looked at with those of the budgets, in order of rank and as far as a turn may
//! look (R11): who has room but lacks something else goes to the line of that. So a release costs the same whoever is
//! kept, and what is kept is moved only when it may go, or stands where it may not.
//!
//! What stands in the line of a budget and has no room any more, because others of its module were granted, goes to the
//! line of its cap when the next turn begins. It is found by what it asks: each was let into that line before, and is
//! taken out once, so this costs no more than that did.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::model::{Amounts, BudgetId};
use crate::policy::Rank;

use super::lines::{Filing, Key};
use super::module::{Module, Modules, Share};
use super::regrant::Found;
use super::sizes::Sizes;
use super::{Engine, Turn};

/// Something that may have too little for a filing: a budget, or the cap of a module there, which is a budget too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Budget(BudgetId),
    Cap(u64, BudgetId),
}

/// The most that a module may have of a budget, and whom that concerns.
#[derive(Debug)]
pub(super) struct Cap {
    /// `u64::MAX` for no cap: it then concerns nobody.
    pub most: u64,
    /// The filings that it keeps.
    kept: BTreeMap<Key, Filing>,
    asked: Sizes,
    /// Those in line elsewhere, by what they ask of it.
    elsewhere: BTreeSet<(u64, Filing)>,
}

impl Cap {
    pub(super) fn new(most: u64) -> Self {
        Cap { most, kept: BTreeMap::new(), asked: Sizes::default(), elsewhere: BTreeSet::new() }
    }

    /// How many filings it keeps.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    fn keep(&mut self, key: Key, filing: Filing, units: u64) {
        if self.kept.insert(key, filing).is_none() {
            self.asked.add(units);
        }
    }

    fn let_go(&mut self, key: Key, units: u64) {
        if self.kept.remove(&key).is_some() {
            self.asked.take(units);
        }
    }
}

impl Share {
    /// What the cap leaves.
    pub(super) fn room(&self) -> u64 {
        self.cap.most.saturating_sub(self.used)
    }

    /// The first that the cap keeps after `at`; none while it has too little room for any.
    fn next_kept(&self, at: Key) -> Option<(Key, Filing)> {
        let next = self.cap.kept.range((Excluded(at), Unbounded)).next();
        next.filter(|_| self.has_room_for_any()).map(|(&key, &filing)| (key, filing))
    }

    fn has_room_for_any(&self) -> bool {
        self.cap.asked.least().is_some_and(|least| least <= self.room())
    }
}

impl Module {
    /// The budget whose cap keeps a filing.
    fn keeper(&self, key: Key) -> Option<BudgetId> {
        let keeper = self.shares.iter().find(|(_, share)| share.cap.kept.contains_key(&key));
        keeper.map(|(&id, _)| id)
    }

    /// The shares of what is asked of which there is a cap, and how much is asked of each.
    fn capped<'a>(&'a mut self, asks: &'a Amounts) -> impl Iterator<Item = (&'a mut Share, u64)> {
        let capped = self.shares.iter_mut().filter(|(_, share)| share.cap.most < u64::MAX);
        capped.map(|(&id, share)| (share, asks.get(id))).filter(|&(_, units)| units > 0)
    }
}

impl Modules {
    /// Whether somebody whom a cap keeps may have room.
    pub(super) fn has_room_for_any(&self, number: u64, id: BudgetId) -> bool {
        let share = self.get(number).and_then(|module| module.share(id));
        share.is_some_and(Share::has_room_for_any)
    }

    /// How many filings in line elsewhere all caps know of.
    pub(super) fn noted(&self) -> usize {
        let shares = self.iter().flat_map(|module| module.shares.values());
        shares.map(|share| share.cap.elsewhere.len()).sum()
    }

    /// The first that a cap keeps after `at`; none while it has too little room for any.
    pub(super) fn next_kept(&self, number: u64, id: BudgetId, at: Key) -> Option<(Key, Filing)> {
        self.get(number)?.share(id)?.next_kept(at)
    }
}

impl Engine {
    pub(super) fn key(&self, filing: Filing) -> Key {
        (self.queue.get(filing.slot()).rank, filing.alternative())
    }

    /// The budget whose cap keeps a filing.
    pub(super) fn keeper(&self, filing: Filing) -> Option<BudgetId> {
        self.modules.get(self.tag(filing.slot()).module)?.keeper(self.key(filing))
    }

    /// Whether any filing of a waiter is kept.
    pub(super) fn is_parked(&self, slot: u32) -> bool {
        let all = (0..self.queue.alternatives(slot)).map(|alternative| Filing::new(slot, alternative));
        !self.modules.is_empty() && all.into_iter().any(|filing| self.keeper(filing).is_some())
    }

    /// Puts a filing into the line of a budget.
    pub(super) fn join(&mut self, filing: Filing, id: BudgetId) {
        self.queue.join(filing, id);
        self.note_elsewhere(filing, true);
        self.note_guard(filing.slot());
    }

    /// Takes a filing out of the line of a budget, if it stands in one.
    pub(super) fn leave(&mut self, filing: Filing) {
        if self.queue.place(filing).is_some() {
            self.note_elsewhere(filing, false);
            self.queue.leave(filing);
            self.held_back.remove(filing);
            self.note_guard(filing.slot());
        }
    }

    /// A filing comes to stand in the line of a budget, or leaves it, or what it asks is about to change.
    pub(super) fn note_elsewhere(&mut self, filing: Filing, stands: bool) {
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        let Some(module) = self.modules.get_mut(self.tag(filing.slot()).module) else { return };
        for (share, units) in module.capped(&asks) {
            if stands {
                share.cap.elsewhere.insert((units, filing));
            } else {
                share.cap.elsewhere.remove(&(units, filing));
            }
        }
    }

    /// Takes a filing out of its line, because the cap of its module keeps it.
    pub(super) fn park(&mut self, turn: &mut Turn<'_>, filing: Filing) {
        self.leave(filing);
        self.keep_out(filing);
        self.renew_claim(turn, filing.slot());
        self.let_in_if_nowhere(filing.slot());
    }

    /// A filing that stands in no line comes to that of the first cap that keeps it.
    pub(super) fn keep_out(&mut self, filing: Filing) {
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        if let Some(id) = self.modules.exceeds(self.tag(filing.slot()), &asks) {
            self.keep_at(filing, id);
        }
    }

    /// A filing comes to the line of a cap.
    pub(super) fn keep_at(&mut self, filing: Filing, id: BudgetId) {
        let units = self.queue.asks(filing.slot(), filing.alternative()).get(id);
        let (number, key) = (self.tag(filing.slot()).module, self.key(filing));
        if let Some(share) = self.modules.get_mut(number).and_then(|module| module.shares.get_mut(&id)) {
            share.cap.keep(key, filing, units);
        }
    }

    /// A filing is no longer kept, if it was.
    pub(super) fn let_go(&mut self, filing: Filing) {
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        let (tag, key) = (self.tag(filing.slot()), self.key(filing));
        if let Some(module) = self.modules.get_mut(tag.module) {
            module.capped(&asks).for_each(|(share, units)| share.cap.let_go(key, units));
        }
    }

    /// Looks at a filing that a cap keeps: grants it if nothing else does, or moves it to where it lacks something.
    pub(super) fn look_at_kept(&mut self, turn: &mut Turn<'_>, filing: Filing) -> Found {
        let (slot, alternative) = (filing.slot(), filing.alternative());
        self.let_go(filing);
        if self.is_capped(filing) {
            self.keep_out(filing);
            return Found::InVain(None);
        }
        let first = BudgetId::first_of(self.queue.asks(slot, alternative).set());
        let Some(place) = self.blocking_filing(turn.books, filing).or(first) else { return Found::InVain(None) };
        self.join(filing, place);
        self.renew_claim(turn, slot);
        match self.look_at(turn, filing, place) {
            Found::InVain(Some(instead)) => {
                // At once, as it has left the cap: a turn that ends here would look for it there.
                self.move_to(turn, filing, instead);
                Found::InVain(None)
            }
            Found::Asked => {
                // It is to be looked at again, and stands there now.
                self.mark_from(place, self.queue.get(slot).rank);
                Found::Asked
            }
            found => found,
        }
    }

    /// Parks those of a module that stand in the lines of budgets and have no room any more.
    pub(super) fn park_those_above(&mut self, turn: &mut Turn<'_>, number: u64) {
        let Some(module) = self.modules.get(number) else { return };
        let last = Filing::LAST;
        let above = module.shares.values().flat_map(|share| {
            let without_room = share.cap.elsewhere.range((Excluded((share.room(), last)), Unbounded));
            without_room.map(|&(_, filing)| filing)
        });
        let above: BTreeMap<Key, Filing> = above.map(|filing| (self.key(filing), filing)).collect();
        for filing in above.into_values() {
            self.park(turn, filing);
        }
    }

    /// How many caps know that filings of a waiter stand in the lines of budgets; for checks.
    ///
    /// # Errors
    /// One does not know, or a filing is kept and stands in such a line.
    pub(super) fn noted_by_caps(&self, slot: u32) -> Result<usize, String> {
        let Some(module) = self.modules.get(self.tag(slot).module) else { return Ok(0) };
        let mut noted = 0;
        for (filing, place) in self.queue.filings(slot) {
            let asks = self.queue.asks(slot, filing.alternative());
            let shares = module.shares.iter().map(|(&id, share)| (share, asks.get(id)));
            let concerned: Vec<_> = shares.filter(|&(share, units)| share.cap.most < u64::MAX && units > 0).collect();
            let known = concerned.iter().all(|(share, units)| share.cap.elsewhere.contains(&(*units, filing)));
            if !known || self.keeper(filing).is_some() {
                return Err(format!("{filing:?} stands at {place}, and a cap does not know or keeps it"));
            }
            noted += concerned.len();
        }
        Ok(noted)
    }

    /// A waiter counts no more: no cap keeps it, and none has to look whether it should.
    pub(super) fn leave_caps(&mut self, slot: u32) {
        for alternative in 0..self.queue.alternatives(slot) {
            let filing = Filing::new(slot, alternative);
            self.let_go(filing);
            self.leave(filing);
        }
    }

    /// A waiter has another rank: those of its filings that are kept stand in other places of the same lines.
    pub(super) fn rerank_kept(&mut self, slot: u32, old: Rank, new: Rank) {
        let number = self.tag(slot).module;
        let Some(module) = self.modules.get_mut(number) else { return };
        for (&id, share) in &mut module.shares {
            let kept: Vec<(Key, Filing)> =
                share.cap.kept.range((old, 0)..=(old, u8::MAX)).map(|(&key, &filing)| (key, filing)).collect();
            for ((_, alternative), filing) in kept {
                share.cap.kept.remove(&(old, alternative));
                share.cap.kept.insert((new, alternative), filing);
                self.dirty.mark_cap(number, id, (new, 0));
            }
        }
    }

    /// Units of a module came back: whom its caps keep may have room.
    pub(super) fn mark_caps(&mut self, number: u64, loans: &Amounts) {
        let Some(module) = self.modules.get(number) else { return };
        for (id, _) in loans.iter() {
            if module.share(id).is_some_and(|share| share.cap.most < u64::MAX) {
                self.dirty.mark_cap(number, id, (Rank::BEFORE_ALL, 0));
            }
        }
    }

    /// A waiter asks for less: it is looked at where a cap keeps it.
    pub(super) fn mark_kept(&mut self, filing: Filing) {
        if let Some(id) = self.keeper(filing) {
            let (rank, _) = self.key(filing);
            self.dirty.mark_cap(self.tag(filing.slot()).module, id, (rank, 0));
        }
    }
}
