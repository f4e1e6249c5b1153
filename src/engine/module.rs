//! Modules and their quotas (R9).
//!
//! A *cap* is a budget of the module's own, with a line of its own for whom it keeps (`caps`). A *minimum* is lent out
//! while the module does not use it, and got back: who is inside it is served from it (`minima`).

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, ModuleError, ModuleShare, ModuleStats, Quota, Tag};
use crate::policy::Rank;

use super::caps::Cap;
use super::lines::Filing;
use super::minima::Hopeful;
use super::queue::State;
use super::sizes::Sizes;
use super::{Engine, Turn};

/// What a module may have of one budget, and has.
#[derive(Debug)]
pub(super) struct Share {
    pub minimum: u64,
    pub used: u64,
    /// Asked by waiters that are served from the minimum.
    pub promised: u64,
    /// What those want who may come to be served from it.
    pub hoped_for: Sizes,
    pub cap: Cap,
}

impl Share {
    fn new(quota: Quota) -> Self {
        let Quota { minimum, cap } = quota;
        Share { minimum, used: 0, promised: 0, hoped_for: Sizes::default(), cap: Cap::new(cap) }
    }

    /// What of the minimum is neither used nor promised.
    pub(super) fn unused(&self) -> u64 {
        self.minimum.saturating_sub(self.used).saturating_sub(self.promised)
    }
}

/// A registered module.
#[derive(Debug)]
pub(super) struct Module {
    name: Box<str>,
    weight: u32,
    pub shares: BTreeMap<BudgetId, Share>,
    /// Its active waiters.
    waiting: u64,
    /// Those of them that may come to be served from the minimum.
    pub hopefuls: BTreeSet<Hopeful>,
}

impl Module {
    pub(super) fn share(&self, id: BudgetId) -> Option<&Share> {
        self.shares.get(&id)
    }

    fn exceeds(&self, amounts: &Amounts) -> Option<BudgetId> {
        let over = |&(id, units): &(BudgetId, u64)| self.share(id).is_some_and(|share| units > share.room());
        amounts.iter().find(over).map(|(id, _)| id)
    }
}

/// All registered modules.
#[derive(Debug, Default)]
pub(super) struct Modules {
    all: BTreeMap<u64, Module>,
    /// Those whose use, promises or waiters have changed since they were last looked at.
    changed: BTreeSet<u64>,
}

impl Modules {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether some are to be looked at.
    #[inline]
    pub(super) fn have_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Module> {
        self.all.values()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Module> {
        self.all.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Module> {
        self.all.get_mut(&number)
    }

    /// Its name, under which its share is charged.
    pub(super) fn name(&self, module: u64) -> Option<&str> {
        self.all.get(&module).map(|module| &*module.name)
    }

    /// Its weight among the shares of a level.
    pub(super) fn weight(&self, module: u64) -> u32 {
        self.all.get(&module).map_or(1, |module| module.weight)
    }

    /// The budget whose cap a bundle would exceed.
    pub(super) fn exceeds(&self, tag: Tag, amounts: &Amounts) -> Option<BudgetId> {
        self.all.get(&tag.module)?.exceeds(amounts)
    }

    /// The most that a module may have of a budget.
    pub(super) fn cap(&self, tag: Tag, id: BudgetId) -> u64 {
        let module = self.all.get(&tag.module);
        module.and_then(|module| module.share(id)).map_or(u64::MAX, |share| share.cap.most)
    }

    /// How much of a budget a module has beyond its minimum; all of it if it has no minimum, or is none.
    pub(super) fn borrowed(&self, tag: Tag, id: BudgetId) -> u64 {
        let share = self.all.get(&tag.module).and_then(|module| module.share(id));
        share.map_or(u64::MAX, |share| share.used.saturating_sub(share.minimum))
    }

    /// Whether a bundle is wholly inside what a module has not used of its minimum.
    pub(super) fn is_inside_minimum(&self, tag: Tag, amounts: &Amounts) -> bool {
        self.all.get(&tag.module).is_some_and(|module| module.is_inside_minimum(amounts))
    }

    /// Units of a module came, or went.
    pub(super) fn count(&mut self, tag: Tag, loans: &Amounts, more: bool) {
        let Some(module) = self.all.get_mut(&tag.module) else { return };
        let mut concerns_a_quota = false;
        for (id, units) in loans.iter() {
            if let Some(share) = module.shares.get_mut(&id) {
                let used = share.used;
                share.used = if more { used.saturating_add(units) } else { used.saturating_sub(units) };
                concerns_a_quota = true;
            }
        }
        if concerns_a_quota && module.waiting > 0 {
            self.changed.insert(tag.module);
        }
    }
}

impl Engine {
    /// Registers a module under a number that no other had.
    ///
    /// # Errors
    /// A quota that cannot be kept, or a name that is taken; nothing is registered.
    pub fn register(
        &mut self,
        turn: &mut Turn<'_>,
        number: u64,
        name: &str,
        weight: u32,
        quotas: &BTreeMap<BudgetId, Quota>,
    ) -> Result<(), ModuleError> {
        self.advance(turn);
        if self.modules.all.values().any(|module| *module.name == *name) {
            return Err(ModuleError::DuplicateName { name: name.to_owned() });
        }
        if !(1..=1_000).contains(&weight) {
            return Err(ModuleError::Weight { weight });
        }
        for (&id, quota) in quotas {
            self.check_quota(turn.books, id, *quota)?;
        }
        let shares = quotas.iter().map(|(&id, &quota)| (id, Share::new(quota))).collect();
        let module = Module { name: name.into(), weight, shares, waiting: 0, hopefuls: BTreeSet::new() };
        self.modules.all.insert(number, module);
        Ok(())
    }

    fn check_quota(&self, books: &Books, budget: BudgetId, quota: Quota) -> Result<(), ModuleError> {
        let Quota { minimum, cap } = quota;
        if books.budgets() & !books.rates() & budget.bit() == 0 {
            return Err(ModuleError::NoLoan { budget });
        }
        if cap == 0 || minimum > cap {
            return Err(ModuleError::Cap { budget, minimum, cap });
        }
        let others = self.modules.all.values().filter_map(|module| module.share(budget));
        let promised = others.fold(0u64, |sum, share| sum.saturating_add(share.minimum));
        let capacity = books.capacity(budget);
        if promised.saturating_add(minimum) > capacity {
            return Err(ModuleError::Minimum { budget, minimum, promised, capacity });
        }
        Ok(())
    }

    /// What all modules have, may have, and wait for, by name.
    pub fn module_stats(&self) -> Vec<ModuleStats> {
        let share = |(&budget, share): (&BudgetId, &Share)| ModuleShare {
            budget,
            used: share.used,
            minimum: share.minimum,
            cap: Some(share.cap.most).filter(|&most| most < u64::MAX),
        };
        let stats = |module: &Module| ModuleStats {
            name: module.name.to_string(),
            weight: module.weight,
            waiting: module.waiting,
            parked: module.shares.values().map(|share| share.cap.kept() as u64).sum(),
            shares: module.shares.iter().map(share).collect(),
        };
        let mut all: Vec<_> = self.modules.all.values().map(stats).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// A module is gone: what its leases hold and its waiters ask for is nobody's in particular from now on.
    pub fn deregister(&mut self, turn: &mut Turn<'_>, number: u64) {
        self.advance(turn);
        if self.modules.all.remove(&number).is_none() {
            return;
        }
        self.modules.changed.remove(&number);
        self.dirty.forget_caps(number);
        let waiters = self.in_order_of_arrival(|_| true).into_iter().filter(|&slot| self.tag(slot).module == number);
        for slot in waiters.collect::<Vec<_>>() {
            self.file_uncapped(turn, slot);
        }
    }

    /// Puts those alternatives of a waiter into a line that the cap of its module, which is gone, had parked or made
    /// impossible.
    fn file_uncapped(&mut self, turn: &mut Turn<'_>, slot: u32) {
        if self.queue.get(slot).state != State::Waiting {
            return;
        }
        let possible = self.possible(turn.books, slot);
        for alternative in (0..self.queue.alternatives(slot)).filter(|alternative| possible & 1 << alternative != 0) {
            let filing = Filing::new(slot, alternative);
            let set = self.queue.asks(slot, alternative).set();
            if self.queue.place(filing).is_none()
                && let Some(id) = BudgetId::first_of(set)
            {
                self.join(filing, id);
                self.mark_from(id, self.queue.get(slot).rank);
                self.renew_claim(turn, slot);
            }
        }
    }

    /// What has changed of modules: whom their caps keep now stands in no other line, and who is inside a minimum is
    /// served from it.
    #[inline]
    pub(super) fn look_at_modules(&mut self, turn: &mut Turn<'_>) {
        if self.modules.have_changed() {
            self.look_at_changed(turn);
        }
    }

    /// The same where something has.
    #[inline(never)]
    fn look_at_changed(&mut self, turn: &mut Turn<'_>) {
        while let Some(number) = self.modules.changed.pop_first() {
            self.park_those_above(turn, number);
            self.guarantee_those_inside(turn, number);
        }
    }

    /// A waiter of a module becomes active, or is no more.
    pub(super) fn note_module_wait(&mut self, slot: u32, begins: bool) {
        let tag = self.tag(slot);
        let guaranteed = self.has_guarantee(slot);
        let (rank, wanted) = (self.queue.get(slot).rank, self.wanted(slot));
        if !begins {
            self.leave_caps(slot);
        }
        let Some(module) = self.modules.all.get_mut(&tag.module) else { return };
        match (guaranteed, begins) {
            (true, _) => module.promise(&wanted, begins),
            (false, true) => module.hope((rank, slot), &wanted),
            (false, false) => _ = module.give_up((rank, slot), &wanted),
        }
        module.waiting = if begins { module.waiting + 1 } else { module.waiting.saturating_sub(1) };
        // A dormant one may be inside the minimum by now; what was promised may now be promised to another.
        if !module.shares.is_empty() {
            self.modules.changed.insert(tag.module);
        }
    }

    /// A waiter of a module has another rank.
    pub(super) fn rerank_in_module(&mut self, slot: u32, old: Rank, new: Rank) {
        self.rerank_kept(slot, old, new);
        let (tag, wanted) = (self.tag(slot), self.wanted(slot));
        if let Some(module) = self.modules.all.get_mut(&tag.module)
            && module.give_up((old, slot), &wanted)
        {
            module.hope((new, slot), &wanted);
            // Others are the first of its module now.
            self.modules.changed.insert(tag.module);
        }
    }

    /// Whether a waiter stands in line, or is parked.
    pub(super) fn is_somewhere(&self, slot: u32) -> bool {
        self.queue.filings(slot).next().is_some()
            || (self.queue.get(slot).state == State::Waiting && self.is_parked(slot))
    }
}
