//! The rules themselves: conservation, order, no lost wake-up.

use bursar::BudgetId;

use std::collections::BTreeSet;

use crate::event::{Arrival, Asks};
use crate::tally::Case;
use crate::world::World;

use super::{BILLION, Flow, Oracle, Rank, State, Verdict, Wait};

impl Oracle {
    /// A grant takes what is there (C1, P52) and passes nobody of higher rank (C3, P23).
    pub(super) fn judge_grant(&mut self, asks: &Asks, rank: Rank) -> Verdict {
        for (id, units) in self.loans(asks) {
            let (out, capacity) = (self.out(id), self.capacities[&id]);
            if out + units > capacity {
                return Err(format!("{units} of {id} granted with {out} of {capacity} out"));
            }
        }
        for other in self.active().filter(|other| other.rank < rank) {
            // Wherever it is short, this grant takes from that budget.
            if other.asks.iter().all(|(id, _)| asks.iter().any(|(asked, _)| asked == id)) {
                return Err(format!("{rank:?} passes {other:?}"));
            }
            let by_loans_only = self.loans(&other.asks).len() == other.asks.len();
            let grantable = by_loans_only && self.blocking(&other.asks, other.rank).is_empty();
            if self.settled && grantable && shares(&other.asks, asks) {
                return Err(format!("{rank:?} is granted before {other:?}, which could be"));
            }
        }
        let equal = |other: &&Wait| (other.rank.0, other.rank.1) == (rank.0, rank.1) && shares(&other.asks, asks);
        if self.active().filter(|other| other.rank > rank).any(|other| equal(&other)) {
            self.tally.count(Case::FirstOfEquals);
        }
        Ok(())
    }

    /// The books say what the owners have (R6, P57), and the counters what they wait for (P11).
    pub(super) fn judge_books(&self, world: &mut World) -> Verdict {
        let view = world.view()?;
        for shelf in &view.shelves {
            let id = shelf.budget;
            let naming = self.active().filter(|wait| wait.asks.iter().any(|(asked, _)| *asked == id)).count() as u64;
            let offered = self.offered(id);
            if (shelf.naming, shelf.offered) != (naming, offered) {
                return Err(format!("{shelf:?}: {naming} wait for it and {offered} are offered"));
            }
            if let Some(flow) = self.flows.get(&id) {
                flow.judge(world.spent(id).unwrap_or(0), self.clock).map_err(|wrong| format!("{id}: {wrong}"))?;
                continue;
            }
            let (out, capacity) = (self.out(id), self.capacities[&id]);
            let (free, deficit) = (capacity.saturating_sub(out), out.saturating_sub(capacity));
            if (shelf.granted, shelf.free, shelf.deficit) != (out, free, deficit) {
                return Err(format!("{shelf:?}: {out} of {capacity} are out"));
            }
            if shelf.peak != self.peaks.get(&id).copied().unwrap_or(0) {
                return Err(format!("{shelf:?}: the peak was {:?}", self.peaks.get(&id)));
            }
        }
        let offers = self.waits.values().filter(|wait| matches!(wait.state, State::Offered { .. })).count();
        let (waiting, leases) = (self.active().count(), (self.held.len() + offers) as u64);
        if (view.waiting, view.offers, view.leases, view.immediate) != (waiting, offers, leases, self.immediate) {
            return Err(format!("{view:?}: {waiting} wait, {offers} offers and {leases} leases are out"));
        }
        Ok(())
    }

    /// Nothing is due: nobody waits who could be granted, and nobody who can no longer be.
    pub(super) fn judge_quiet(&mut self, world: &World) -> Verdict {
        for (id, wait) in &self.waits {
            if matches!(wait.state, State::Offered { .. } | State::Ended) {
                continue;
            }
            if self.closed || self.above_limit(&wait.asks).is_some() {
                return Err(format!("{id} goes on although nothing can come of it: {wait:?}"));
            }
            if wait.deadline.is_some_and(|deadline| deadline <= self.clock) {
                return Err(format!("{id} goes on at {} although its deadline passed: {wait:?}", self.clock));
            }
            let rates_serve = wait.asks.iter().all(|(id, units)| world.rate_serves(*id, *units) != Some(false));
            if wait.state == State::Waiting && rates_serve && self.blocking(&wait.asks, wait.rank).is_empty() {
                return Err(format!("{id} waits though it fits and nobody of higher rank wants any of it: {wait:?}"));
            }
        }
        if self.active().next().is_some() {
            self.tally.count(Case::QuietCrowd);
        }
        Ok(())
    }

    /// Loans that have too little, and budgets that an active waiter of higher rank asks for.
    pub(super) fn blocking(&self, asks: &Asks, rank: Rank) -> BTreeSet<BudgetId> {
        let wanted = |id: BudgetId| {
            self.active().any(|other| other.rank < rank && other.asks.iter().any(|(asked, _)| *asked == id))
        };
        let short = |id, units| self.capacities.get(&id).is_some_and(|capacity| self.out(id) + units > *capacity);
        asks.iter().filter(|&&(id, units)| short(id, units) || wanted(id)).map(|(id, _)| *id).collect()
    }

    /// Units of a loan that leases and offers have.
    fn out(&self, id: BudgetId) -> u64 {
        let held = self.held.values().flatten().filter(|(held, _)| *held == id).map(|(_, units)| units).sum::<u64>();
        held + self.offered(id)
    }

    fn offered(&self, id: BudgetId) -> u64 {
        let offers = self.waits.values().filter(|wait| matches!(wait.state, State::Offered { .. }));
        offers.flat_map(|wait| &wait.asks).filter(|(asked, _)| *asked == id).map(|(_, units)| units).sum()
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Wait> {
        self.waits.values().filter(|wait| wait.state == State::Waiting)
    }

    pub(super) fn above_limit(&self, asks: &Asks) -> Option<BudgetId> {
        let limit = |id: &BudgetId| match self.flows.get(id) {
            Some(flow) => flow.burst + flow.max_debt,
            None => self.capacities[id],
        };
        asks.iter().find(|(id, units)| *units > limit(id)).map(|(id, _)| *id)
    }

    pub(super) fn rank_of(&self, arrival: &Arrival) -> Rank {
        let order = arrival.deadline.unwrap_or(self.edf_horizon);
        (arrival.level, self.clock.saturating_add(order), self.arrivals)
    }

    pub(super) fn loans(&self, asks: &Asks) -> Asks {
        asks.iter().copied().filter(|(id, _)| self.capacities.contains_key(id)).collect()
    }

    /// By how much loans are overdrawn in all.
    pub(super) fn in_deficit(&self) -> u64 {
        self.capacities.iter().map(|(id, capacity)| self.out(*id).saturating_sub(*capacity)).sum()
    }

    /// Notes a grant that is in `held` or offered already: peaks of loans, charges of rates.
    pub(super) fn charge(&mut self, asks: &Asks) {
        for (id, units) in asks {
            match self.flows.get_mut(id) {
                Some(flow) => flow.charged += u128::from(*units),
                None => {
                    let out = self.out(*id);
                    let peak = self.peaks.entry(*id).or_default();
                    *peak = out.max(*peak);
                }
            }
        }
    }

    /// Notes that a grant was never taken up.
    pub(super) fn undone(&mut self, asks: &Asks) {
        for (id, units) in asks {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.undone += u128::from(*units);
            }
        }
    }
}

impl Flow {
    /// Moves the time on.
    pub(super) fn bring(&mut self, now: u64) {
        self.inflow += u128::from(self.per_second) * u128::from(now.saturating_sub(self.since));
        self.since = now.max(self.since);
    }

    /// What was charged is what grants took, less at most what was undone; and no more than can have come in, and a debt.
    fn judge(&self, spent: u64, now: u64) -> Verdict {
        let inflow = self.inflow + u128::from(self.per_second) * u128::from(now.saturating_sub(self.since));
        let (spent, most) = (u128::from(spent), inflow / BILLION + u128::from(self.max_debt));
        if spent > self.charged || spent + self.undone < self.charged || spent > most {
            return Err(format!("{spent} spent, at most {most} can be: {self:?}"));
        }
        Ok(())
    }
}

pub(super) fn shares(a: &Asks, b: &Asks) -> bool {
    a.iter().any(|(id, _)| b.iter().any(|(other, _)| other == id))
}
