//! Modules and their quotas (R9): whom a cap keeps out of the lines, and who is served from a minimum.

use std::collections::BTreeMap;

use bursar::{BudgetId, ModuleError, Priority, Quota, Tag};

use crate::ask::{Asks, units_of};
use crate::event::Seen;

use super::regrant::{InTheWay, Place};
use super::{BEGINNING, LATEST, Model, Rank, State, Waiter};

/// After all others of `Critical`, and those who inherit from them.
const LAST: u64 = 2 * LATEST;

#[derive(Debug)]
pub(super) struct Module {
    pub name: u8,
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
            self.dirty.retain(|place, _| !matches!(place, Place::Cap(of, _) if *of == number));
            let its = |waiter: &Waiter| waiter.state == State::Waiting && waiter.tag.module == number;
            for at in (0..self.waiters.len()).filter(|at| its(&self.waiters[*at])).collect::<Vec<_>>() {
                for alternative in 0..self.waiters[at].ladders.len() {
                    let waiter = &self.waiters[at];
                    if waiter.filed[alternative].is_none() && self.possible(waiter, alternative) {
                        let first = self.low(waiter, alternative)[0].0;
                        self.let_go(at, alternative, first);
                        self.mark(first, self.waiters[at].rank);
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
        asks.iter().map(|(id, _)| *id).find(|id| self.exceeds_at(tag, *id, asks))
    }

    pub(super) fn exceeds_at(&self, tag: Tag, id: BudgetId, asks: &Asks) -> bool {
        let (cap, units) = (self.cap(tag, id), units_of(asks, id));
        cap < u64::MAX && self.used(tag, id) + u128::from(units) > u128::from(cap)
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
                waiter.state == State::Waiting && waiter.guaranteed.is_some() && waiter.tag.module == tag.module
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

    /// At the beginning of a turn: whom a cap keeps from now on, and who is inside a minimum by now.
    pub(super) fn look_at_modules(&mut self) {
        for number in self.modules.keys().copied().collect::<Vec<_>>() {
            for at in self.waiters_of_module(number) {
                for alternative in 0..self.waiters[at].filed.len() {
                    if self.is_filed_above_cap(&self.waiters[at], alternative) {
                        self.park(at, alternative);
                    }
                }
            }
            while let Some(at) = self.comes_inside(number) {
                self.guarantee(at);
            }
        }
    }

    /// Whether there is anything to do at the beginning of a turn.
    pub(super) fn modules_have_changed(&self) -> bool {
        self.modules.keys().any(|number| {
            let mut waiters = self.waiters_of_module(*number).into_iter().map(|at| &self.waiters[at]);
            let above = waiters.any(|waiter| {
                let mut all = 0..waiter.filed.len();
                all.any(|alternative| self.is_filed_above_cap(waiter, alternative))
            });
            above || self.comes_inside(*number).is_some()
        })
    }

    pub(super) fn is_filed_above_cap(&self, waiter: &Waiter, alternative: usize) -> bool {
        waiter.filed[alternative].is_some() && self.is_capped(waiter, alternative)
    }

    /// Of the first that could ever be, the first that is inside the minimum and was not.
    fn comes_inside(&self, number: u64) -> Option<usize> {
        let hopes = |at: &usize| {
            let waiter = &self.waiters[*at];
            let mut wants = waiter.ladders[0][0].iter();
            waiter.guaranteed.is_none() && wants.all(|(id, units)| *units <= self.minimum(waiter.tag, *id))
        };
        let hopeful = self.waiters_of_module(number).into_iter().filter(hopes);
        let mut first = hopeful.take(self.settings.look_ahead).map(|at| (at, &self.waiters[at]));
        first.find(|(_, waiter)| self.is_inside_minimum(waiter.tag, &waiter.ladders[0][0])).map(|(at, _)| at)
    }

    /// Those that a cap keeps, in order: rank, alternative, waiter.
    pub(super) fn kept_by(&self, number: u64, id: BudgetId) -> Vec<(Rank, usize, usize)> {
        let mut kept = Vec::new();
        for (at, waiter) in self.waiters.iter().enumerate().filter(|(_, waiter)| waiter.tag.module == number) {
            let all = (0..waiter.parked.len()).filter(|alternative| waiter.parked[*alternative] == Some(id));
            kept.extend(all.map(|alternative| (waiter.rank, alternative, at)));
        }
        kept.sort();
        kept
    }

    /// Whether a cap leaves as much as somebody asks whom it keeps.
    pub(super) fn has_room_for_any(&self, number: u64, id: BudgetId) -> bool {
        self.kept_by(number, id).into_iter().any(|(_, alternative, at)| {
            let waiter = &self.waiters[at];
            !self.exceeds_at(waiter.tag, id, self.low(waiter, alternative))
        })
    }

    /// Looks at one that a cap keeps.
    pub(super) fn examine_kept(&mut self, at: usize, alternative: usize) -> Result<(), InTheWay> {
        let waiter = &self.waiters[at];
        let low = self.low(waiter, alternative);
        let cap = self.exceeds(waiter.tag, low);
        if cap.is_some() {
            self.waiters[at].parked[alternative] = cap;
            return Err(InTheWay::TheSame);
        }
        let place = self.witness(low, &self.who(waiter)).unwrap_or(low[0].0);
        self.let_go(at, alternative, place);
        let found = self.examine(at, alternative, place);
        match found {
            Err(elsewhere @ InTheWay::Another(_)) => {
                // Also when the turn ends here.
                self.react(at, alternative, elsewhere);
                return Err(InTheWay::TheSame);
            }
            // It is to be looked at again, and stands there now.
            Err(InTheWay::Preempted) => self.mark(place, self.waiters[at].rank),
            _ => {}
        }
        found
    }

    /// Something of a module came back: its caps leave more.
    pub(super) fn mark_caps(&mut self, tag: Tag, asks: &Asks) {
        for (id, _) in asks.iter().filter(|(id, _)| self.cap(tag, *id) < u64::MAX).copied().collect::<Vec<_>>() {
            self.mark_place(Place::Cap(tag.module, id), BEGINNING);
        }
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
        let waiter = &self.waiters[at];
        self.waiters[at].parked[alternative] = self.exceeds(waiter.tag, self.low(waiter, alternative));
        self.claim_again(at);
        self.mark_lowered(at, claimed);
        self.let_in_if_nowhere(at);
    }

    /// Puts a filing back into a line.
    fn let_go(&mut self, at: usize, alternative: usize, place: BudgetId) {
        let claimed = self.claim(&self.waiters[at]);
        self.waiters[at].parked[alternative] = None;
        self.file(at, alternative, place);
        self.claim_again(at);
        self.mark_lowered(at, claimed);
    }

    fn guarantee(&mut self, at: usize) {
        let waiter = &mut self.waiters[at];
        let (inherits, rank) = (waiter.own != waiter.rank, Model::guaranteed_rank(waiter.rank.2));
        (waiter.guaranteed, waiter.own) = (Some(waiter.own), rank);
        if !inherits {
            self.rerank(at, rank);
        }
        self.harden_if_due(at);
    }

    /// Of a dormant one that asks again: who is not inside the minimum any more is as if it had never been.
    pub(super) fn renew_guarantee(&mut self, at: usize) {
        let waiter = &self.waiters[at];
        if let Some(own) = waiter.guaranteed
            && !self.is_inside_minimum(waiter.tag, &waiter.ladders[0][0])
        {
            let waiter = &mut self.waiters[at];
            (waiter.guaranteed, waiter.own, waiter.rank) = (None, own, own);
            (waiter.hard, waiter.spent) = (false, false);
        }
    }
}

impl Waiter {
    /// Where an alternative stands.
    pub(super) fn place(&self, alternative: usize) -> Option<Place> {
        let at_a_cap = self.parked[alternative].map(|id| Place::Cap(self.tag.module, id));
        self.filed[alternative].map(Place::Budget).or(at_a_cap)
    }
}
