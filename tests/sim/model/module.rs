//! Modules and their quotas (R9): whom a cap keeps out of the lines, and who is served from a minimum.

use std::collections::BTreeMap;

use bursar::{BudgetId, ModuleError, Priority, Quota, Tag};

use crate::ask::{Asks, units_of};
use crate::event::Seen;

use super::{LATEST, Model, Rank, State, Waiter};

/// After all others of `Critical`, and those who inherit from them.
const LAST: u64 = 2 * LATEST;

#[derive(Debug)]
pub(super) struct Module {
    name: u8,
    pub weight: u32,
    quotas: BTreeMap<BudgetId, Quota>,
}

impl Model {
    pub(super) fn register(&mut self, number: u64, name: u8, weight: u32, quotas: &[(BudgetId, Quota)]) {
        if self.closed {
            return;
        }
        self.advance();
        let quotas: BTreeMap<_, _> = quotas.iter().copied().collect();
        let done = self.check_module(name, weight, &quotas);
        if done.is_ok() {
            self.modules.insert(number, Module { name, weight, quotas });
        }
        self.seen.push(Seen::Registered(number, done));
        self.settle();
    }

    fn check_module(&self, name: u8, weight: u32, quotas: &BTreeMap<BudgetId, Quota>) -> Result<(), ModuleError> {
        if self.modules.values().any(|module| module.name == name) {
            return Err(ModuleError::DuplicateName { name: format!("m{name}") });
        }
        if weight == 0 || weight > 1_000 {
            return Err(ModuleError::Weight { weight });
        }
        for (&budget, &Quota { minimum, cap }) in quotas {
            let Some(stock) = self.stocks.get(&budget).filter(|stock| !stock.is_rate()) else {
                return Err(ModuleError::NoLoan { budget });
            };
            if cap == 0 || minimum > cap {
                return Err(ModuleError::Cap { budget, minimum, cap });
            }
            let promised = self.modules.values().filter_map(|module| module.quotas.get(&budget));
            let (promised, capacity) = (promised.map(|quota| quota.minimum).sum(), stock.limit());
            if promised + minimum > capacity {
                return Err(ModuleError::Minimum { budget, minimum, promised, capacity });
            }
        }
        Ok(())
    }

    /// A module is gone: its leases and waiters go on as nobody's in particular.
    pub(super) fn deregister(&mut self, number: u64) {
        self.advance();
        if self.modules.remove(&number).is_some() {
            let its = |waiter: &Waiter| waiter.state == State::Waiting && waiter.tag.module == number;
            for at in (0..self.waiters.len()).filter(|at| its(&self.waiters[*at])).collect::<Vec<_>>() {
                for alternative in 0..self.waiters[at].ladders.len() {
                    let waiter = &self.waiters[at];
                    if waiter.filed[alternative].is_none() && self.possible(waiter, alternative) {
                        self.let_go(at, alternative);
                    }
                }
            }
        }
        self.settle();
    }

    fn quota(&self, tag: Tag, id: BudgetId) -> Option<&Quota> {
        self.modules.get(&tag.module)?.quotas.get(&id)
    }

    pub(super) fn minimum(&self, tag: Tag, id: BudgetId) -> u64 {
        self.quota(tag, id).map_or(0, |quota| quota.minimum)
    }

    pub(super) fn cap(&self, tag: Tag, id: BudgetId) -> u64 {
        self.quota(tag, id).map_or(u64::MAX, |quota| quota.cap)
    }

    fn used(&self, tag: Tag, id: BudgetId) -> u128 {
        self.held_by(id, |of| of.module == tag.module)
    }

    /// The budget of which a module would have more than its cap.
    pub(super) fn exceeds(&self, tag: Tag, asks: &Asks) -> Option<BudgetId> {
        let above = |&&(id, units): &&(BudgetId, u64)| {
            let cap = self.cap(tag, id);
            cap < u64::MAX && self.used(tag, id) + u128::from(units) > u128::from(cap)
        };
        asks.iter().find(above).map(|(id, _)| *id)
    }

    /// Whether the cap of its module keeps an alternative, as little as it asks for now.
    pub(super) fn is_capped(&self, waiter: &Waiter, alternative: usize) -> bool {
        self.exceeds(waiter.tag, self.low(waiter, alternative)).is_some()
    }

    /// Whether all that is wanted is inside what a module has neither used of its minimum nor promised to its waiters.
    pub(super) fn is_inside_minimum(&self, tag: Tag, wants: &Asks) -> bool {
        wants.iter().all(|&(id, units)| {
            let minimum = self.minimum(tag, id);
            let guaranteed = |waiter: &&Waiter| {
                waiter.state == State::Waiting && waiter.guaranteed && waiter.tag.module == tag.module
            };
            let promised = self.waiters.iter().filter(guaranteed).map(|waiter| units_of(&waiter.ladders[0][0], id));
            let promised: u128 = promised.map(u128::from).sum();
            minimum > 0 && self.used(tag, id) + promised + u128::from(units) <= u128::from(minimum)
        })
    }

    /// What is served from a minimum ranks right below `Critical`.
    pub(super) fn guaranteed_rank(arrival: u64) -> Rank {
        (Priority::Critical, LAST, arrival)
    }

    pub(super) fn is_of_a_minimum(rank: Rank) -> bool {
        rank.0 == Priority::Critical && rank.1 >= LAST
    }

    /// At the beginning of a turn: whom a cap lets go, and who is inside a minimum by now.
    pub(super) fn look_at_modules(&mut self) {
        for number in self.modules.keys().copied().collect::<Vec<_>>() {
            for (_, alternative, at) in self.parked_of(number) {
                if !self.is_capped(&self.waiters[at], alternative) {
                    self.let_go(at, alternative);
                }
            }
            for at in self.waiters_of_module(number) {
                for alternative in 0..self.waiters[at].filed.len() {
                    if self.is_filed_above_cap(&self.waiters[at], alternative) {
                        self.park(at, alternative);
                    }
                }
                if self.comes_inside(&self.waiters[at]) {
                    self.guarantee(at);
                }
            }
        }
    }

    /// Whether there is anything to do at the beginning of a turn.
    pub(super) fn modules_have_changed(&self) -> bool {
        self.modules.keys().any(|number| {
            let mut parked = self.parked_of(*number).into_iter();
            let mut waiters = self.waiters_of_module(*number).into_iter().map(|at| &self.waiters[at]);
            parked.any(|(_, alternative, at)| !self.is_capped(&self.waiters[at], alternative))
                || waiters.any(|waiter| {
                    let mut all = 0..waiter.filed.len();
                    all.any(|alternative| self.is_filed_above_cap(waiter, alternative)) || self.comes_inside(waiter)
                })
        })
    }

    pub(super) fn is_filed_above_cap(&self, waiter: &Waiter, alternative: usize) -> bool {
        waiter.filed[alternative].is_some() && self.is_capped(waiter, alternative)
    }

    fn comes_inside(&self, waiter: &Waiter) -> bool {
        !waiter.guaranteed && self.is_inside_minimum(waiter.tag, &waiter.ladders[0][0])
    }

    fn parked_of(&self, number: u64) -> Vec<(Rank, usize, usize)> {
        let mut parked = Vec::new();
        for (at, waiter) in self.waiters.iter().enumerate().filter(|(_, waiter)| waiter.tag.module == number) {
            let all = (0..waiter.parked.len()).filter(|alternative| waiter.parked[*alternative]);
            parked.extend(all.map(|alternative| (waiter.rank, alternative, at)));
        }
        parked.sort();
        parked
    }

    /// Its active waiters in order of rank.
    fn waiters_of_module(&self, number: u64) -> Vec<usize> {
        let its = |(_, waiter): &(usize, &Waiter)| waiter.state == State::Waiting && waiter.tag.module == number;
        let mut all: Vec<_> = self.waiters.iter().enumerate().filter(its).map(|(at, w)| (w.rank, at)).collect();
        all.sort();
        all.into_iter().map(|(_, at)| at).collect()
    }

    /// Takes a filing out of its line until the module has room.
    pub(super) fn park(&mut self, at: usize, alternative: usize) {
        let claimed = self.claim(&self.waiters[at]);
        self.unfile(at, alternative);
        self.waiters[at].parked[alternative] = true;
        self.claim_again(at);
        self.mark_lowered(at, claimed);
        self.let_in_if_nowhere(at);
    }

    /// Puts a filing back into a line, where it is looked at.
    fn let_go(&mut self, at: usize, alternative: usize) {
        let claimed = self.claim(&self.waiters[at]);
        self.waiters[at].parked[alternative] = false;
        let place = self.low(&self.waiters[at], alternative)[0].0;
        self.file(at, alternative, place);
        self.mark(place, self.waiters[at].rank);
        self.claim_again(at);
        self.mark_lowered(at, claimed);
    }

    fn guarantee(&mut self, at: usize) {
        let waiter = &mut self.waiters[at];
        let (inherits, rank) = (waiter.own != waiter.rank, Model::guaranteed_rank(waiter.rank.2));
        (waiter.guaranteed, waiter.own) = (true, rank);
        if !inherits {
            self.rerank(at, rank);
        }
        self.harden_if_due(at);
    }
}
