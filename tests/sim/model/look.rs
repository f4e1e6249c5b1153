//! Looking around in the model: by scanning everything.

use bursar::BudgetId;

use crate::event::{Asks, Figures, Shelf, View};
use crate::stock::Stock;

use super::{Model, State, Waiter};

impl Model {
    pub(super) fn stock(&mut self, id: BudgetId) -> &mut Stock {
        self.stocks.get_mut(&id).expect("only budgets of the configuration are changed")
    }

    pub(super) fn loans(&self, asks: &Asks) -> Asks {
        asks.iter().copied().filter(|(id, _)| !self.stocks[id].is_rate()).collect()
    }

    pub(super) fn at(&self, id: u32) -> Option<usize> {
        self.waiters.iter().position(|waiter| waiter.id == id)
    }

    pub(super) fn asked(&self, at: usize, id: BudgetId) -> u64 {
        self.waiters[at].asks.iter().find(|(asked, _)| *asked == id).map_or(0, |(_, units)| *units)
    }

    pub(super) fn active(&self) -> usize {
        self.waiters.iter().filter(|waiter| waiter.state == State::Waiting).count()
    }

    /// Active waiters that name a budget.
    pub(super) fn naming(&self, id: BudgetId) -> u64 {
        let names =
            |waiter: &&Waiter| waiter.state == State::Waiting && waiter.asks.iter().any(|(asked, _)| *asked == id);
        self.waiters.iter().filter(names).count() as u64
    }

    pub(super) fn named(&self, asks: &Asks) -> bool {
        asks.iter().any(|(id, _)| self.naming(*id) > 0)
    }

    pub(super) fn above_limit(&self, asks: &Asks) -> Option<BudgetId> {
        asks.iter().find(|(id, units)| *units > self.stocks[id].limit()).map(|(id, _)| *id)
    }

    pub(super) fn figures(&self, asks: &Asks, at: Option<BudgetId>) -> Figures {
        let (first, _) = asks[0];
        let budget = at.unwrap_or(first);
        let asked = asks.iter().find(|(id, _)| *id == budget).map_or(0, |(_, units)| *units);
        let stock = &self.stocks[&budget];
        Figures { budget, asked, free: stock.free(self.now), limit: stock.limit(), waiting: self.naming(budget) }
    }

    /// When the driver has to turn next: at the first deadline, look at the offers, or refill.
    pub(super) fn due(&self) -> u64 {
        if !self.dirty.is_empty() {
            return self.now;
        }
        let waits = self.waiters.iter().filter(|w| matches!(w.state, State::Waiting | State::Dormant));
        let deadline = waits.filter_map(|waiter| waiter.deadline).min().unwrap_or(u64::MAX);
        if self.active() == 0 {
            return deadline;
        }
        let ready = |(id, stock): (&BudgetId, &Stock)| {
            self.first_at(*id).and_then(|first| stock.ready_at(self.asked(first, *id), self.now))
        };
        self.stocks.iter().filter_map(ready).chain([deadline, self.next_look]).min().unwrap_or(u64::MAX)
    }

    pub fn view(&self) -> View {
        let offers = || self.waiters.iter().filter(|waiter| matches!(waiter.state, State::Offered { .. }));
        let offered = |id| {
            let asked = offers().flat_map(|waiter| &waiter.asks).filter(|(asked, _)| *asked == id);
            asked.map(|(_, units)| units).sum()
        };
        let shelf = |(&budget, stock): (&BudgetId, &Stock)| Shelf {
            budget,
            free: stock.free(self.clock),
            limit: stock.limit(),
            granted: stock.granted(),
            peak: stock.peak(),
            deficit: stock.deficit(),
            offered: offered(budget),
            naming: self.naming(budget),
        };
        View {
            shelves: self.stocks.iter().map(shelf).collect(),
            waiting: self.active(),
            offers: offers().count(),
            leases: self.leases,
            immediate: self.immediate,
            due: self.due(),
        }
    }

    pub fn describe(&self) -> String {
        let waiters = self.waiters.iter().map(|waiter| format!("  {waiter:?}\n"));
        let stocks = self.stocks.iter().map(|(id, stock)| format!("  {id}: {stock:?}\n"));
        let lines = stocks.chain(waiters).collect::<String>();
        format!("{lines}  at {}, dirty {:?}, held {:?}", self.now, self.dirty, self.held)
    }
}
