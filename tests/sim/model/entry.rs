//! Bounded activities that begin (C3, R4): whom they pass, and who keeps them out.

use std::collections::BTreeSet;

use bursar::BudgetId;

use crate::ask::Asks;
use crate::event::party;

use super::{Model, Rank, State, Waiter};

impl Model {
    /// Whether nothing but safety, or somebody who may be passed no more, keeps a waiter from a bundle.
    pub(super) fn is_held_back(&self, waiter: &Waiter, asks: &Asks) -> bool {
        self.endangers(waiter.tag, asks) || self.is_kept_out(waiter, asks)
    }

    pub(super) fn is_kept_out(&self, waiter: &Waiter, asks: &Asks) -> bool {
        self.begins(waiter, asks) && self.waiters.iter().any(|other| other.spent && self.is_delayed_by(other, waiter))
    }

    /// How many are kept out by nothing but that.
    pub fn kept_out(&self) -> usize {
        let is_kept_out = |at: &usize| {
            let waiter = &self.waiters[*at];
            self.is_kept_for_safety(*at)
                && !self.endangers(waiter.tag, self.low(waiter, 0))
                && waiter.filed[0].is_some()
        };
        (0..self.waiters.len()).filter(is_kept_out).count()
    }

    /// Those whom safety keeps, and whom an activity passes that would begin with a grant.
    pub(super) fn passed_by_entry(&self, waiter: &Waiter, asks: &Asks) -> Vec<usize> {
        let passed = |at: &usize| self.is_delayed_by(&self.waiters[*at], waiter) && self.is_kept_for_safety(*at);
        if self.begins(waiter, asks) { (0..self.waiters.len()).filter(passed).collect() } else { Vec::new() }
    }

    /// Whether a bounded activity that holds nothing would hold something with this.
    fn begins(&self, waiter: &Waiter, asks: &Asks) -> bool {
        let holds = self.holds(party(waiter.tag));
        self.bounds.contains_key(&waiter.tag.activity) && holds.is_empty() && !self.loans(asks).is_empty()
    }

    /// Whether somebody who stands in line has to wait longer if another activity, which ranks behind, begins.
    fn is_delayed_by(&self, waiting: &Waiter, other: &Waiter) -> bool {
        let (one, two) = (waiting.tag.activity, other.tag.activity);
        let in_line = waiting.filed.iter().any(Option::is_some) && waiting.rank < other.rank;
        in_line && one != two && self.bounds.contains_key(&one) && self.may_meet(one, two)
    }

    /// Whether two activities may ask for the same loan, or for loans that meet by way of those that hold something.
    fn may_meet(&self, one: u64, two: u64) -> bool {
        let may_ask_for = |activity: &u64| -> BTreeSet<BudgetId> {
            let asked = self.bounds[activity].iter().map(|(id, _)| *id);
            asked.filter(|id| !self.stocks[id].is_rate()).collect()
        };
        let holds = |activity: &&u64| !self.holds_if(**activity, false).is_empty();
        let mut links: Vec<BTreeSet<BudgetId>> = self.bounds.keys().filter(holds).map(may_ask_for).collect();
        let mut met = may_ask_for(&one);
        while let Some(at) = links.iter().position(|link| !link.is_disjoint(&met)) {
            met.append(&mut links.swap_remove(at));
        }
        !met.is_disjoint(&may_ask_for(&two))
    }

    /// A waiter keeps nobody out any more that ranks behind `from`.
    pub(super) fn let_in(&mut self, at: usize, from: Rank) {
        let waiter = &self.waiters[at];
        if waiter.spent && waiter.state == State::Waiting && self.bounds.contains_key(&waiter.tag.activity) {
            self.unsafe_places().into_iter().for_each(|place| self.mark(place, from));
        }
    }

    /// The same if it stands nowhere any more.
    pub(super) fn let_in_if_nowhere(&mut self, at: usize) {
        if self.waiters[at].filed.iter().all(Option::is_none) {
            self.let_in(at, self.waiters[at].rank);
        }
    }
}
