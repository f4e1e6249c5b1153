//! What must be true of the model itself between two events, or it is no reference.

use bursar::BudgetId;

use crate::ask::units_of;

use super::time::FIRST_AT_A_RATE;
use super::{Model, State, Waiter};

impl Model {
    /// The first invariant that does not hold.
    pub fn check(&mut self) -> Result<(), String> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let all_looked_at = self.dirty.is_empty() && self.late.is_empty() && self.ready().is_empty();
        for (at, waiter) in self.waiters.iter().enumerate() {
            let wrong = |what: &str| Err(format!("{what}: {waiter:?}"));
            if waiter.state != State::Waiting {
                let somewhere = waiter.filed.iter().chain(&waiter.parked).any(Option::is_some);
                if somewhere || waiter.claiming.is_some() || waiter.own != waiter.rank {
                    return wrong("not active, but filed, with a claim, or with a rank of others");
                }
                continue;
            }
            self.check_filed(at)?;
            if waiter.deadline.is_some_and(|deadline| deadline <= self.now) {
                return wrong("past its deadline");
            }
            if self.raise_due(waiter).is_some_and(|due| due <= self.now) {
                return wrong("should have risen");
            }
            // The starvation bound: once it has been passed so often, only a withdrawn claim lets others pass.
            if !waiter.spent && (waiter.hard || waiter.passes >= self.settings.bypass_limit) {
                return wrong("passed too often");
            }
            let filed = waiter.filed.iter().any(Option::is_some);
            if waiter.hard && waiter.claiming.is_none_or(|claiming| waiter.filed[claiming].is_none()) == filed {
                return wrong("hard, but without a claim");
            }
            if !waiter.hard && waiter.claiming.is_some() {
                return wrong("with a claim, but not hard");
            }
            if all_looked_at && let Some(alternative) = self.wrongly_parked(waiter) {
                return wrong(&format!("alternative {alternative} is parked, or is not, against its cap"));
            }
            if all_looked_at && waiter.hard && waiter.held_back.iter().any(Option::is_some) {
                return wrong("held back, and claims");
            }
            if all_looked_at && let Some(alternative) = self.wrongly_held_back(waiter) {
                return wrong(&format!("alternative {alternative} is held back, or is not, against what keeps it"));
            }
            if all_looked_at && let Some((alternative, place)) = self.not_blocked(waiter) {
                return wrong(&format!("{place} does not block alternative {alternative}"));
            }
        }
        self.check_books()
    }

    /// A filing whose place does not block it.
    fn not_blocked(&self, waiter: &Waiter) -> Option<(usize, BudgetId)> {
        let filed = waiter.filed.iter().enumerate().filter_map(|(alternative, place)| Some((alternative, (*place)?)));
        let open = |&(alternative, place): &(usize, BudgetId)| {
            // A rate fills up with time, and only the first in its line are looked at for that.
            let looked_at = |place| self.line(place).into_iter().take(FIRST_AT_A_RATE);
            let is_it = |(_, other, at): (_, usize, usize)| other == alternative && self.waiters[at].id == waiter.id;
            let first = !self.stocks[&place].is_rate() || looked_at(place).any(is_it);
            let low = self.low(waiter, alternative);
            first && !self.blocks(place, units_of(low, place), &self.who(waiter)) && !self.is_held_back(waiter, low)
        };
        filed.into_iter().find(open)
    }

    /// Who stands in the line of a loan that has enough for it is held back, and nobody who lacks units is.
    fn wrongly_held_back(&self, waiter: &Waiter) -> Option<usize> {
        let lacks =
            |(id, units): &(BudgetId, u64)| !self.stocks[id].is_rate() && *units > self.stocks[id].free(self.now);
        (0..waiter.filed.len()).find(|alternative| {
            let (low, place) = (self.low(waiter, *alternative), waiter.filed[*alternative]);
            let loan = place.filter(|place| !self.stocks[place].is_rate());
            let open = loan.is_some_and(|place| !self.blocks(place, units_of(low, place), &self.who(waiter)));
            match waiter.held_back[*alternative] {
                Some(at) => Some(at) != place || low.iter().any(lacks),
                None => open,
            }
        })
    }

    fn wrongly_parked(&self, waiter: &Waiter) -> Option<usize> {
        let has_room = |alternative: &usize| {
            let low = self.low(waiter, *alternative);
            waiter.parked[*alternative].is_some_and(|cap| !self.exceeds_at(waiter.tag, cap, low))
        };
        let in_vain = (0..waiter.parked.len()).find(has_room);
        in_vain.or_else(|| (0..waiter.filed.len()).find(|alternative| self.is_filed_above_cap(waiter, *alternative)))
    }

    /// Exactly what is possible is filed, at a budget that it names, and it asks something of it.
    fn check_filed(&self, at: usize) -> Result<(), String> {
        let waiter = &self.waiters[at];
        for (alternative, place) in waiter.filed.iter().enumerate() {
            if place.is_some() && waiter.parked[alternative].is_some() {
                return Err(format!("alternative {alternative} is filed and parked: {waiter:?}"));
            }
            if (place.is_some() || waiter.parked[alternative].is_some()) != self.possible(waiter, alternative) {
                return Err(format!(
                    "alternative {alternative} is filed, or not, and should not, or should: {waiter:?}"
                ));
            }
            let Some(place) = place else { continue };
            let units = units_of(self.low(waiter, alternative), *place);
            if units == 0 {
                return Err(format!("filed at {place} and asks nothing of it: {waiter:?}"));
            }
        }
        if waiter.filed.iter().chain(&waiter.parked).all(Option::is_none) {
            return Err(format!("filed nowhere: {waiter:?}"));
        }
        Ok(())
    }

    /// What is out is what leases and offers have (C1).
    fn check_books(&self) -> Result<(), String> {
        for (id, stock) in self.stocks.iter().filter(|(_, stock)| !stock.is_rate()) {
            let leased: u64 = self.held.values().map(|held| units_of(&held.asks, *id)).sum();
            let offered: u64 = (0..self.waiters.len()).map(|at| units_of(self.offered(at), *id)).sum();
            let (out, limit) = (stock.granted(), stock.limit());
            if out != leased + offered || stock.free(0) + out != limit + stock.deficit() {
                return Err(format!("{id}: {leased} leased, {offered} offered, {stock:?}"));
            }
        }
        let offers = self.waiters.iter().filter(|waiter| matches!(waiter.state, State::Offered { .. })).count();
        if self.leases != (self.held.len() + offers) as u64 {
            return Err(format!("{} leases, but {} are held and {offers} offered", self.leases, self.held.len()));
        }
        Ok(())
    }
}
