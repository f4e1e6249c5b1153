//! Modules and their quotas (R9).
//!
//! A *cap* is a budget of the module's own: who would exceed it is *parked* with the module, stands in no line, claims
//! nothing and passes nobody's turn to anybody, until the module has room again. A *minimum* is lent out while the
//! module does not use it, and got back: a request whose first alternative is wholly inside what the module has neither
//! used nor promised to others ranks just below `Critical`, and its claim is hard from the start, so what others
//! release gathers for it. Who is parked and who is inside is found at the beginning of a turn.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, ModuleError, ModuleShare, ModuleStats, Priority, Quota, Tag};
use crate::policy::Rank;

use super::lines::{Filing, Key};
use super::queue::State;
use super::{Engine, Turn};

/// What a module may have of one budget, and has.
#[derive(Debug, Clone, Copy)]
struct Share {
    minimum: u64,
    cap: u64,
    used: u64,
    /// Asked by waiters that are served from the minimum.
    promised: u64,
}

/// A registered module.
#[derive(Debug)]
struct Module {
    name: Box<str>,
    weight: u32,
    shares: BTreeMap<BudgetId, Share>,
    /// Filings that the cap keeps out of the lines.
    parked: BTreeMap<Key, Filing>,
    /// Its active waiters.
    waiters: BTreeSet<(Rank, u32)>,
}

impl Module {
    fn share(&self, id: BudgetId) -> Option<&Share> {
        self.shares.get(&id)
    }

    fn exceeds(&self, amounts: &Amounts) -> Option<BudgetId> {
        let over = |&(id, units): &(BudgetId, u64)| {
            self.share(id).is_some_and(|share| share.used.saturating_add(units) > share.cap)
        };
        amounts.iter().find(over).map(|(id, _)| id)
    }

    fn is_inside_minimum(&self, amounts: &Amounts) -> bool {
        let inside = |(id, units): (BudgetId, u64)| {
            let spoken_for = |share: &Share| share.used.saturating_add(share.promised).saturating_add(units);
            self.share(id).is_some_and(|share| spoken_for(share) <= share.minimum)
        };
        !amounts.is_empty() && amounts.iter().all(inside)
    }

    fn promise(&mut self, amounts: &Amounts, more: bool) {
        for (id, units) in amounts.iter() {
            if let Some(share) = self.shares.get_mut(&id) {
                let promised = share.promised;
                share.promised = if more { promised.saturating_add(units) } else { promised.saturating_sub(units) };
            }
        }
    }
}

/// All registered modules.
#[derive(Debug, Default)]
pub(super) struct Modules {
    all: BTreeMap<u64, Module>,
    /// Those whose use, waiters or asks have changed since their waiters were last looked at.
    changed: BTreeSet<u64>,
}

impl Modules {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether the waiters of some are to be looked at.
    #[inline]
    pub(super) fn have_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What a waiter of a module asks has changed.
    pub(super) fn look_again(&mut self, tag: Tag) {
        if self.all.contains_key(&tag.module) {
            self.changed.insert(tag.module);
        }
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
        module.and_then(|module| module.share(id)).map_or(u64::MAX, |share| share.cap)
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

    /// Whether a filing is parked: it then stands in no line before the module lets it go.
    pub(super) fn has_parked(&self, tag: Tag, key: Key) -> bool {
        self.all.get(&tag.module).is_some_and(|module| module.parked.contains_key(&key))
    }

    /// A filing is not to be had any more, cap or no cap.
    pub(super) fn let_go(&mut self, tag: Tag, key: Key) {
        if let Some(module) = self.all.get_mut(&tag.module) {
            module.parked.remove(&key);
        }
    }

    /// Whether any filing of a waiter is parked.
    pub(super) fn is_parked(&self, tag: Tag, rank: Rank) -> bool {
        let all = (rank, 0)..=(rank, u8::MAX);
        self.all.get(&tag.module).is_some_and(|module| module.parked.range(all).next().is_some())
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
        if concerns_a_quota && !module.waiters.is_empty() {
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
        let share = |quota: &Quota| Share { minimum: quota.minimum, cap: quota.cap, used: 0, promised: 0 };
        let shares = quotas.iter().map(|(&id, quota)| (id, share(quota))).collect();
        let module = Module { name: name.into(), weight, shares, parked: BTreeMap::new(), waiters: BTreeSet::new() };
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
            cap: (share.cap < u64::MAX).then_some(share.cap),
        };
        let stats = |module: &Module| ModuleStats {
            name: module.name.to_string(),
            weight: module.weight,
            waiting: module.waiters.len() as u64,
            parked: module.parked.len() as u64,
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
            if self.queue.place(filing).is_none() {
                self.unpark(turn, filing);
            }
        }
    }

    /// Takes a filing out of its line, because the cap of its module keeps it.
    pub(super) fn park(&mut self, turn: &mut Turn<'_>, filing: Filing) {
        self.queue.leave(filing);
        self.keep_out(filing);
        self.renew_claim(turn, filing.slot());
        self.let_in_if_nowhere(filing.slot());
    }

    /// Notes that the cap of its module keeps a filing that stands in no line.
    pub(super) fn keep_out(&mut self, filing: Filing) {
        let rank = self.queue.get(filing.slot()).rank;
        if let Some(module) = self.modules.all.get_mut(&self.tag(filing.slot()).module) {
            module.parked.insert((rank, filing.alternative()), filing);
        }
    }

    /// Puts a filing back into a line; it is looked at in this turn.
    fn unpark(&mut self, turn: &mut Turn<'_>, filing: Filing) {
        let slot = filing.slot();
        let set = self.queue.asks(slot, filing.alternative()).set();
        let Some(id) = BudgetId::first_of(set) else { return };
        self.queue.join(filing, id);
        let rank = self.queue.get(slot).rank;
        self.mark_from(id, rank);
        self.renew_claim(turn, slot);
    }

    /// Modules have changed: whom their caps let go stands in line again, whom they keep stands there no more, and who
    /// is inside a minimum now is served from it.
    #[inline]
    pub(super) fn look_at_modules(&mut self, turn: &mut Turn<'_>) {
        while let Some(number) = self.modules.changed.pop_first() {
            let Some(module) = self.modules.all.get(&number) else { continue };
            let (parked, waiters) = (module.parked.clone(), module.waiters.clone());
            for (key, filing) in parked {
                if !self.is_capped(filing) {
                    self.modules.let_go(self.tag(filing.slot()), key);
                    self.unpark(turn, filing);
                }
            }
            for (_, slot) in waiters {
                let filed: Vec<_> = self.queue.filings(slot).map(|(filing, _)| filing).collect();
                for filing in filed.into_iter().filter(|&filing| self.is_capped(filing)).collect::<Vec<_>>() {
                    self.park(turn, filing);
                }
                let guaranteed = self.queue.flexible(slot).is_some_and(|flexible| flexible.guaranteed);
                if !guaranteed && self.modules.is_inside_minimum(self.tag(slot), &self.wanted(slot)) {
                    self.guarantee(turn, slot);
                }
            }
        }
    }

    /// All that the first alternative of a waiter wants, whatever less would do.
    fn wanted(&self, slot: u32) -> Amounts {
        match self.queue.flexible(slot).and_then(|flexible| flexible.terms.alternatives.first()) {
            Some(first) => first.want().clone(),
            None => self.queue.asks(slot, 0).bundle(),
        }
    }

    /// The rank of what is served from a minimum: just below `Critical`.
    pub(super) fn guaranteed_rank(arrival: u64) -> Rank {
        Rank::last_of(Priority::Critical, arrival)
    }

    /// From now on a waiter is served from the minimum of its module.
    fn guarantee(&mut self, turn: &mut Turn<'_>, slot: u32) {
        self.stop_aging(slot);
        let (tag, wanted) = (self.tag(slot), self.wanted(slot));
        if let Some(module) = self.modules.all.get_mut(&tag.module) {
            module.promise(&wanted, true);
        }
        let waiter = self.queue.get_mut(slot);
        waiter.raise_at = u64::MAX;
        let rank = Engine::guaranteed_rank(waiter.rank.arrival());
        self.set_guaranteed(slot);
        self.set_own_rank(slot, rank);
        self.harden_if_due(turn, slot);
    }

    /// Notes that a waiter is served from the minimum.
    pub(super) fn set_guaranteed(&mut self, slot: u32) {
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.guaranteed = true;
        }
    }

    /// A waiter of a module becomes active, or is no more.
    pub(super) fn note_module_wait(&mut self, slot: u32, begins: bool) {
        let tag = self.tag(slot);
        let guaranteed = self.queue.flexible(slot).is_some_and(|flexible| flexible.guaranteed);
        let (rank, wanted) = (self.queue.get(slot).rank, self.wanted(slot));
        let Some(module) = self.modules.all.get_mut(&tag.module) else { return };
        if guaranteed {
            module.promise(&wanted, begins);
        }
        if begins {
            module.waiters.insert((rank, slot));
        } else {
            module.waiters.remove(&(rank, slot));
            module.parked.retain(|_, filing| filing.slot() != slot);
        }
        // A dormant one may be inside the minimum by now; what was promised may now be promised to another.
        if !module.shares.is_empty() {
            self.modules.changed.insert(tag.module);
        }
    }

    /// A parked waiter has another rank.
    pub(super) fn rerank_parked(&mut self, slot: u32, old: Rank, new: Rank) {
        let tag = self.tag(slot);
        let Some(module) = self.modules.all.get_mut(&tag.module) else { return };
        let parked: Vec<_> =
            module.parked.range((old, 0)..=(old, u8::MAX)).map(|(key, filing)| (*key, *filing)).collect();
        for (key, filing) in parked {
            module.parked.remove(&key);
            module.parked.insert((new, key.1), filing);
        }
        if module.waiters.remove(&(old, slot)) {
            module.waiters.insert((new, slot));
        }
    }

    /// Whether a waiter stands in line, or is parked.
    pub(super) fn is_somewhere(&self, slot: u32) -> bool {
        let waiter = self.queue.get(slot);
        self.queue.filings(slot).next().is_some()
            || (waiter.state == State::Waiting && self.modules.is_parked(self.tag(slot), waiter.rank))
    }
}
