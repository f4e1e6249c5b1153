//! What blocks whom: the units that are there, and the hard claims of higher rank on them.

use std::collections::BTreeSet;

use bursar::{BudgetId, Tag};

use crate::ask::{Asks, units_of};
use crate::event::party;

use super::{Model, Path, Place, Rank, State, Waiter, Who};

impl Model {
    /// Whether every amount, as small as it may become, is within the limit of its budget.
    pub(super) fn possible(&self, waiter: &Waiter, alternative: usize) -> bool {
        let least = waiter.ladders[alternative].last().expect("a ladder has a rung");
        least.iter().all(|(id, units)| *units <= self.limit(waiter.tag, *id))
    }

    /// The most that whoever it is can ever have of a budget.
    pub(super) fn limit(&self, tag: Tag, id: BudgetId) -> u64 {
        self.stocks[&id].limit().min(self.cap(tag, id)).min(self.bound(tag, id))
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

    /// The least that it asked for when its claim was last looked at.
    fn low_claimed<'a>(&self, waiter: &'a Waiter, alternative: usize) -> &'a Asks {
        let ladder = &waiter.ladders[alternative];
        &ladder[if self.patience_seen >= waiter.ripe_at { ladder.len() - 1 } else { 0 }]
    }

    /// What a waiter claims: its units of each budget, of a rate no more than the burst.
    pub(super) fn claim(&self, waiter: &Waiter) -> Asks {
        match waiter.claiming {
            Some(alternative) => self.claim_of(self.low_claimed(waiter, alternative)),
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

    /// The sum of the hard claims at a budget that rank above somebody, and bind: a claim does not bind who holds what
    /// the claimant waits for (R3).
    pub(super) fn claimed(&self, id: BudgetId, who: &Who) -> u128 {
        let claim = |waiter: &Waiter| {
            let low = self.low_claimed(waiter, waiter.claiming.filter(|_| waiter.rank < who.rank)?);
            let vast = low.iter().any(|(id, units)| *units > self.stocks[id].limit());
            let units = self.stocks[&id].share(units_of(low, id));
            (units > 0 && !vast && self.binds(waiter, who)).then_some(u128::from(units))
        };
        self.waiters.iter().filter_map(claim).sum()
    }

    pub(super) fn binds(&self, claimant: &Waiter, who: &Who) -> bool {
        who.holds.is_empty() || self.awaited_by(claimant).is_disjoint(&who.holds)
    }

    /// The budgets that a waiter waits for itself, be it for safety.
    fn depends_on(&self, waiter: &Waiter) -> BTreeSet<BudgetId> {
        let mut budgets = places(waiter);
        budgets.append(&mut self.unsafe_before(waiter));
        budgets
    }

    /// The budgets that somebody waits for, and those that the holders of these wait for, and so on.
    fn awaited_by(&self, waiter: &Waiter) -> BTreeSet<BudgetId> {
        let mut awaited = BTreeSet::new();
        let mut more = self.depends_on(waiter);
        while !more.is_subset(&awaited) {
            awaited.append(&mut more);
            let others = self.waiters.iter().filter(|other| other.state == State::Waiting && other.tag.activity != 0);
            let holders = others.filter(|other| !self.holds(party(other.tag)).is_disjoint(&awaited));
            more = holders.flat_map(|holder| self.depends_on(holder)).collect();
        }
        awaited
    }

    /// What new requests leave for growth: nothing if nothing of the budget is held.
    pub(super) fn kept(&self, id: BudgetId, who: &Who) -> u64 {
        let waived = !who.holds.is_empty() || self.stocks[&id].granted() == 0;
        if waived { 0 } else { self.reserves[&id] }
    }

    pub(super) fn blocks(&self, id: BudgetId, units: u64, who: &Who) -> bool {
        !self.stocks[&id].serves(units, self.claimed(id, who) + u128::from(self.kept(id, who)), self.now)
    }

    /// The first place that blocks a bundle: loans before rates (R7).
    pub(super) fn witness(&self, asks: &Asks, who: &Who) -> Option<BudgetId> {
        let first = |rates: bool| {
            let kind = asks.iter().filter(|(id, _)| self.stocks[id].is_rate() == rates);
            kind.copied().find(|&(id, units)| self.blocks(id, units, who)).map(|(id, _)| id)
        };
        first(false).or_else(|| first(true))
    }

    /// What of an alternative can be granted now: the first rung that nothing blocks, of those that it asks for.
    pub(super) fn path(&self, waiter: &Waiter, alternative: usize) -> Option<Path> {
        if !self.possible(waiter, alternative) {
            return None;
        }
        let who = self.who(waiter);
        let ladder = &waiter.ladders[alternative];
        let asked = if self.is_ripe(waiter) { ladder.len() } else { 1 };
        let open = |asks: &Asks| {
            self.exceeds(waiter.tag, asks).is_none()
                && self.witness(asks, &who).is_none()
                && !self.is_held_back(waiter, asks)
        };
        Some((alternative, ladder[..asked].iter().position(open)?))
    }

    /// The filings at a place in order: rank, alternative, waiter.
    pub(super) fn line_of(&self, place: Place) -> Vec<(Rank, usize, usize)> {
        match place {
            Place::Budget(id) => self.line(id),
            Place::Cap(number, id) => self.kept_by(number, id),
        }
    }

    /// The same of a budget.
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
        let waiter = &mut self.waiters[at];
        waiter.filed[alternative] = Some(place);
        waiter.held_back[alternative] = waiter.held_back[alternative].filter(|at| *at == place);
    }

    /// The least that anybody asks who is filed at a place.
    pub(super) fn least(&self, place: BudgetId) -> u64 {
        let asked = |waiter: &Waiter| {
            let filed = (0..waiter.filed.len()).filter(|alternative| waiter.filed[*alternative] == Some(place));
            filed.map(|alternative| units_of(self.low(waiter, alternative), place)).min()
        };
        self.waiters.iter().filter_map(asked).min().unwrap_or(u64::MAX)
    }

    /// Takes an alternative out of its line, and out of what the module keeps.
    pub(super) fn unfile(&mut self, at: usize, alternative: usize) {
        let waiter = &mut self.waiters[at];
        (waiter.filed[alternative], waiter.parked[alternative]) = (None, None);
        waiter.held_back[alternative] = None;
        if waiter.claiming == Some(alternative) {
            waiter.claiming = None;
        }
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
        self.let_in(at, self.waiters[at].rank);
        // What it has inherited is for waiting only.
        self.waiters[at].rank = self.waiters[at].own;
    }

    pub(super) fn active(&self) -> usize {
        self.waiters.iter().filter(|waiter| waiter.state == State::Waiting).count()
    }
}

/// The budgets that a waiter waits for itself: one that its cap keeps waits for whatever its module holds.
fn places(waiter: &Waiter) -> BTreeSet<BudgetId> {
    if waiter.parked.iter().any(Option::is_some) {
        waiter.ask.budgets().collect()
    } else {
        waiter.filed.iter().flatten().copied().collect()
    }
}
