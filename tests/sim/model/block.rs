//! What blocks whom: the units that are there, and the hard claims of higher rank on them.

use bursar::BudgetId;

use crate::ask::{Asks, units_of};

use super::{Model, Path, Rank, State, Waiter};

impl Model {
    /// Whether every amount, as small as it may become, is within the limit of its budget.
    pub(super) fn possible(&self, waiter: &Waiter, alternative: usize) -> bool {
        let least = waiter.ladders[alternative].last().expect("a ladder has a rung");
        least.iter().all(|(id, units)| *units <= self.stocks[id].limit())
    }

    /// Whether it asks for less than the whole by now.
    pub(super) fn is_ripe(&self, waiter: &Waiter) -> bool {
        self.now >= waiter.ripe_at
    }

    /// The least that an alternative asks for now: the question is whether this is blocked.
    pub(super) fn low<'a>(&self, waiter: &'a Waiter, alternative: usize) -> &'a Asks {
        let ladder = &waiter.ladders[alternative];
        &ladder[if self.is_ripe(waiter) { ladder.len() - 1 } else { 0 }]
    }

    /// What a waiter claims: its units of each budget, of a rate no more than the burst.
    pub(super) fn claim(&self, waiter: &Waiter) -> Asks {
        match waiter.claiming {
            Some(alternative) => self.claim_of(self.low(waiter, alternative)),
            None => Asks::new(),
        }
    }

    pub(super) fn claim_of(&self, asks: &Asks) -> Asks {
        // Who insists, for now, on more than there ever is claims nothing.
        if asks.iter().any(|(id, units)| *units > self.stocks[id].limit()) {
            return Asks::new();
        }
        asks.iter().map(|&(id, units)| (id, self.stocks[&id].share(units))).collect()
    }

    /// The sum of the hard claims at a budget that rank above `rank`.
    pub(super) fn claimed(&self, id: BudgetId, rank: Rank) -> u128 {
        let claim = |waiter: &Waiter| {
            let low = self.low(waiter, waiter.claiming.filter(|_| waiter.rank < rank)?);
            let vast = low.iter().any(|(id, units)| *units > self.stocks[id].limit());
            (!vast).then(|| u128::from(self.stocks[&id].share(units_of(low, id))))
        };
        self.waiters.iter().filter_map(claim).sum()
    }

    pub(super) fn blocks(&self, id: BudgetId, units: u64, rank: Rank) -> bool {
        !self.stocks[&id].serves(units, self.claimed(id, rank), self.now)
    }

    /// The first place that blocks a bundle: loans before rates (R7).
    pub(super) fn witness(&self, asks: &Asks, rank: Rank) -> Option<BudgetId> {
        let first = |rates: bool| {
            let kind = asks.iter().filter(|(id, _)| self.stocks[id].is_rate() == rates);
            kind.copied().find(|&(id, units)| self.blocks(id, units, rank)).map(|(id, _)| id)
        };
        first(false).or_else(|| first(true))
    }

    /// What of an alternative can be granted now: the first rung that nothing blocks, of those that it asks for.
    pub(super) fn path(&self, waiter: &Waiter, alternative: usize) -> Option<Path> {
        if !self.possible(waiter, alternative) {
            return None;
        }
        let ladder = &waiter.ladders[alternative];
        let asked = if self.is_ripe(waiter) { ladder.len() } else { 1 };
        let rung = ladder[..asked].iter().position(|asks| self.witness(asks, waiter.rank).is_none())?;
        Some((alternative, rung))
    }

    /// The filings at a place in order: rank, alternative, waiter.
    pub(super) fn line(&self, place: BudgetId) -> Vec<(Rank, usize, usize)> {
        let mut line = Vec::new();
        for (at, waiter) in self.waiters.iter().enumerate() {
            let filed = waiter.filed.iter().enumerate().filter(|(_, filed)| **filed == Some(place));
            line.extend(filed.map(|(alternative, _)| (waiter.rank, alternative, at)));
        }
        line.sort();
        line
    }

    pub(super) fn file(&mut self, at: usize, alternative: usize, place: BudgetId) {
        self.waiters[at].filed[alternative] = Some(place);
    }

    /// The least that anybody asks who is filed at a place.
    pub(super) fn least(&self, place: BudgetId) -> u64 {
        let asked = |waiter: &Waiter| {
            let filed = (0..waiter.filed.len()).filter(|alternative| waiter.filed[*alternative] == Some(place));
            filed.map(|alternative| units_of(self.low(waiter, alternative), place)).min()
        };
        self.waiters.iter().filter_map(asked).min().unwrap_or(u64::MAX)
    }

    pub(super) fn unfile(&mut self, at: usize, alternative: usize) {
        self.waiters[at].filed[alternative] = None;
    }

    /// Whether anybody is filed at a place.
    pub(super) fn is_filed_at(&self, place: BudgetId) -> bool {
        self.waiters.iter().any(|waiter| waiter.filed.contains(&Some(place)))
    }

    /// A waiter counts no more: it leaves its lines, and takes its claim with it.
    pub(super) fn leave(&mut self, at: usize) {
        self.withdraw(at);
        for alternative in 0..self.waiters[at].filed.len() {
            self.unfile(at, alternative);
        }
    }

    pub(super) fn active(&self) -> usize {
        self.waiters.iter().filter(|waiter| waiter.state == State::Waiting).count()
    }
}
