//! Looking around in the model: by scanning everything.

use bursar::BudgetId;

use crate::ask::{Asks, units_of};
use crate::event::{Figures, Shelf, Standing, View};
use crate::stock::Stock;

use super::{Model, State, Waiter};

impl Model {
    pub(super) fn stock(&mut self, id: BudgetId) -> &mut Stock {
        self.stocks.get_mut(&id).expect("only budgets of the configuration are changed")
    }

    pub fn stock_of(&self, id: BudgetId) -> Option<&Stock> {
        self.stocks.get(&id)
    }

    pub fn clock(&self) -> u64 {
        self.clock
    }

    pub fn reservations(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn loans(&self, asks: &Asks) -> Asks {
        asks.iter().copied().filter(|(id, _)| !self.stocks[id].is_rate()).collect()
    }

    pub(super) fn at(&self, id: u32) -> Option<usize> {
        self.waiters.iter().position(|waiter| waiter.id == id)
    }

    /// Active waiters that name a budget, in whatever alternative.
    pub(super) fn naming(&self, id: BudgetId) -> u64 {
        let names = |waiter: &&Waiter| waiter.state == State::Waiting && waiter.ask.names(id);
        self.waiters.iter().filter(names).count() as u64
    }

    pub(super) fn named(&self, asks: &Asks) -> bool {
        asks.iter().any(|(id, _)| self.naming(*id) > 0)
    }

    pub(super) fn figures(&self, budget: BudgetId, asked: u64) -> Figures {
        let stock = &self.stocks[&budget];
        Figures { budget, asked, free: stock.free(self.now), limit: stock.limit(), waiting: self.naming(budget) }
    }

    /// Of one that can never be granted: the first budget of its first alternative that has too little.
    pub(super) fn above_limit(&self, waiter: &Waiter) -> Figures {
        self.above(waiter, |id| self.limit(waiter.tag, id))
    }

    pub(super) fn above(&self, waiter: &Waiter, limit: impl Fn(BudgetId) -> u64) -> Figures {
        let least = waiter.ladders[0].last().expect("a ladder has a rung");
        let (id, units) = least.iter().find(|(id, units)| *units > limit(*id)).unwrap_or(&least[0]);
        Figures { limit: limit(*id), ..self.figures(*id, *units) }
    }

    /// What the first alternative that is possible is short of: where it is filed, or would be.
    pub(super) fn short_of(&self, waiter: &Waiter) -> Figures {
        let (place, units) = self.short_at(waiter);
        self.figures(place, units)
    }

    pub(super) fn short_at(&self, waiter: &Waiter) -> (BudgetId, u64) {
        let filed = waiter.filed.iter().position(|place| place.is_some());
        let possible = || (0..waiter.ladders.len()).find(|alternative| self.possible(waiter, *alternative));
        let alternative = filed.or_else(possible).unwrap_or(0);
        let low = self.low(waiter, alternative);
        let capped = || self.exceeds(waiter.tag, low);
        let blocked = || self.witness(low, &self.who(waiter));
        let place = waiter.filed[alternative].or_else(capped).or_else(blocked).unwrap_or(low[0].0);
        (place, units_of(low, place))
    }

    fn shelf(&self, budget: BudgetId, stock: &Stock) -> Shelf {
        Shelf {
            budget,
            free: stock.free(self.clock),
            limit: stock.limit(),
            granted: stock.granted(),
            peak: stock.peak(),
            deficit: stock.deficit(),
            offered: (0..self.waiters.len()).map(|at| units_of(self.offered(at), budget)).sum(),
            naming: self.naming(budget),
        }
    }

    pub fn look(&self) -> View {
        let offer = |waiter: &&Waiter| matches!(waiter.state, State::Offered { .. });
        let mut active: Vec<_> = self.waiters.iter().filter(|waiter| waiter.state == State::Waiting).collect();
        active.sort_by_key(|waiter| waiter.id);
        let standing = |waiter: &Waiter| waiter.standing(self.claim(waiter));
        View {
            shelves: self.stocks.iter().map(|(id, stock)| self.shelf(*id, stock)).collect(),
            waiting: self.active(),
            offers: self.waiters.iter().filter(offer).count(),
            leases: self.leases,
            immediate: self.immediate,
            due: self.due(),
            inherited: self.inherited,
            asked: self.asked(),
            order: self.order(),
            standing: active.into_iter().map(standing).collect(),
        }
    }

    fn order(&self) -> Vec<u32> {
        let active = self.waiters.iter().filter(|waiter| waiter.state == State::Waiting);
        let mut order: Vec<_> = active.map(|waiter| (waiter.rank, waiter.id)).collect();
        order.sort();
        order.into_iter().map(|(_, id)| id).collect()
    }

    pub fn describe(&self) -> String {
        let waiters = self.waiters.iter().map(|waiter| format!("  {waiter:?}\n"));
        let stocks = self.stocks.iter().map(|(id, stock)| format!("  {id}: {stock:?}\n"));
        let lines = stocks.chain(waiters).collect::<String>();
        let parties = format!("modules {:?}, activities {:?}", self.modules, self.notes);
        format!("{lines}  at {}, dirty {:?}, held {:?}\n  {parties}", self.now, self.dirty, self.held)
    }
}

impl Waiter {
    fn standing(&self, claims: Asks) -> Standing {
        let filed = self.filed.iter().enumerate();
        let filed = filed.filter_map(|(alternative, place)| Some((alternative as u8, (*place)?))).collect();
        let parked = (0..self.parked.len()).filter(|at| self.parked[*at].is_some()).map(|at| at as u8).collect();
        Standing { id: self.id, passes: self.passes, hard: self.hard, level: self.rank.0, filed, parked, claims }
    }
}
