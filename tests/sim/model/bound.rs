//! Activities that say beforehand how much they will ever hold (C7): what they ask for is granted while all of them can
//! still end.

use std::collections::BTreeSet;

use bursar::{BudgetId, Tag};

use crate::ask::{Asks, units_of};

use super::regrant::InTheWay;
use super::{BEGINNING, Model, Rank, State, Waiter};

/// A bounded activity: what it holds, and what it may yet ask for.
struct Claimant {
    activity: u64,
    held: Asks,
    needs: Asks,
}

impl Model {
    pub(super) fn note_bound(&mut self, tag: Tag, most: &Option<Asks>) {
        let Some(most) = most else { return };
        let before = self.bounds.insert(tag.activity, most.clone());
        if before.is_some_and(|before| before != *most) {
            self.look_at_unsafe();
        }
    }

    /// A bound is known from when its activity asks until it has neither a lease, be it an empty one, nor a
    /// reservation.
    pub(super) fn forget_bounds(&mut self) {
        for activity in self.bounds.keys().copied().collect::<Vec<_>>() {
            let its = |waiter: &Waiter| waiter.tag.activity == activity && !matches!(waiter.state, State::Ended { .. });
            let waits = self.waiters.iter().any(its);
            let leases = self.holdings().any(|(tag, _)| tag.activity == activity);
            if !waits && !leases {
                self.bounds.remove(&activity);
            }
        }
    }

    /// Whether somebody has said how much it will ever hold.
    pub(super) fn is_bounded(&self, tag: Tag) -> bool {
        self.bounds.contains_key(&tag.activity)
    }

    /// Whether some of these are loans.
    pub(super) fn names_a_loan(&self, asks: &Asks) -> bool {
        asks.iter().any(|(id, _)| !self.stocks[id].is_rate())
    }

    /// The most that whoever it is will ever hold.
    pub(super) fn bound(&self, tag: Tag, id: BudgetId) -> u64 {
        match self.bounds.get(&tag.activity) {
            Some(most) if !self.stocks[&id].is_rate() => units_of(most, id),
            _ => u64::MAX,
        }
    }

    /// How much more it may ask for now.
    pub(super) fn room(&self, tag: Tag, id: BudgetId) -> u64 {
        let held = self.held_by(id, |of| of.activity == tag.activity);
        match self.bound(tag, id) {
            u64::MAX => u64::MAX,
            bound => u128::from(bound).saturating_sub(held) as u64,
        }
    }

    /// Whether a grant could lead to a deadlock, or to more than was said.
    pub(super) fn endangers(&self, tag: Tag, asks: &Asks) -> bool {
        !self.to_come_back(tag, asks, &|_| true, &[]).is_empty()
    }

    /// The same if these leases had ended.
    pub(super) fn endangers_without(&self, tag: Tag, asks: &Asks, ended: &[u32]) -> bool {
        !self.to_come_back(tag, asks, &|_| true, ended).is_empty()
    }

    /// What has to come back before a bounded activity can have something: the loans of which it would hold more than
    /// it said, or those that the bounded activities hold that could not end then. Those that do not count have ended.
    pub(super) fn to_come_back(
        &self,
        tag: Tag,
        asks: &Asks,
        counts: &dyn Fn(u64) -> bool,
        ended: &[u32],
    ) -> BTreeSet<BudgetId> {
        let loans = self.loans(asks);
        if !self.bounds.contains_key(&tag.activity) || loans.is_empty() {
            return BTreeSet::new();
        }
        let above: BTreeSet<_> =
            loans.iter().filter(|(id, units)| *units > self.room(tag, *id)).map(|(id, _)| *id).collect();
        if !above.is_empty() {
            return above;
        }
        let all = self.bounds.keys().copied().filter(|activity| *activity == tag.activity || counts(*activity));
        let all =
            all.map(|activity| self.claimant(activity, if activity == tag.activity { &loans } else { &[] }, ended));
        let all: Vec<Claimant> = all.filter(|claimant| !claimant.held.is_empty()).collect();
        // Every set of activities none of which could end if all others had.
        let mut held = BTreeSet::new();
        for set in 1..1u32 << all.len() {
            let set: Vec<&Claimant> = (0..all.len()).filter(|at| set & 1 << at != 0).map(|at| &all[at]).collect();
            if set.iter().all(|claimant| !self.could_end(claimant, &set)) {
                let others = set.iter().filter(|claimant| claimant.activity != tag.activity);
                held.extend(others.flat_map(|claimant| &claimant.held).map(|(id, _)| *id));
            }
        }
        held
    }

    /// The loans that others hold of which something has to come back for a waiter in line, as far as safety goes.
    pub(super) fn unsafe_before(&self, waiter: &Waiter) -> BTreeSet<BudgetId> {
        let filed = (0..waiter.filed.len()).filter(|alternative| waiter.filed[*alternative].is_some());
        filed.flat_map(|at| self.to_come_back(waiter.tag, self.low(waiter, at), &|_| true, &[])).collect()
    }

    /// What an activity would hold with some loans more, and may yet ask for. What there never is it cannot have.
    fn claimant(&self, activity: u64, more: &[(BudgetId, u64)], ended: &[u32]) -> Claimant {
        let loans = self.stocks.iter().filter(|(_, stock)| !stock.is_rate());
        let (mut held, mut needs) = (Asks::new(), Asks::new());
        for (id, stock) in loans {
            let before = self.held_by(*id, |of| of.activity == activity) as u64;
            let its = ended.iter().map(|id| self.holding(*id)).filter(|holding| holding.tag.activity == activity);
            let has = before - its.map(|holding| units_of(holding.asks, *id)).sum::<u64>() + units_of(more, *id);
            let most = units_of(&self.bounds[&activity], *id).min(stock.limit());
            held.extend((has > 0).then_some((*id, has)));
            needs.push((*id, most.saturating_sub(has)));
        }
        Claimant { activity, held, needs }
    }

    /// Whether there is enough for one beside what these hold.
    fn could_end(&self, claimant: &Claimant, beside: &[&Claimant]) -> bool {
        claimant.needs.iter().all(|&(id, units)| {
            let held: u64 = beside.iter().map(|other| units_of(&other.held, id)).sum();
            units <= self.stocks[&id].limit().saturating_sub(held)
        })
    }

    /// Whether nothing but safety keeps an alternative of a waiter, which was found when it was last looked at.
    pub(super) fn is_kept_for_safety(&self, at: usize) -> bool {
        let waiter = &self.waiters[at];
        let mut held_back = (0..waiter.filed.len()).filter(|alternative| waiter.held_back[*alternative].is_some());
        held_back.any(|alternative| self.witness(self.low(waiter, alternative), &self.who(waiter)).is_none())
    }

    pub fn kept_for_safety(&self) -> usize {
        (0..self.waiters.len()).filter(|at| self.is_kept_for_safety(*at)).count()
    }

    /// The loan where an alternative stands that nothing but safety keeps.
    pub(super) fn unsafe_place(&mut self, at: usize, alternative: usize) -> Option<BudgetId> {
        let waiter = &self.waiters[at];
        let low = self.low(waiter, alternative);
        let place = self.loans(low).first().map(|(id, _)| *id).filter(|_| self.is_held_back(waiter, low));
        self.waiters[at].held_back[alternative] = place;
        place
    }

    /// A filing was looked at, and nothing but safety keeps it: it claims nothing, and does not stay at a rate.
    pub(super) fn keep_for_safety(&mut self, at: usize, alternative: usize, place: BudgetId) -> InTheWay {
        let first = self.loans(self.low(&self.waiters[at], alternative))[0].0;
        let metered = self.stocks[&place].is_rate();
        self.waiters[at].held_back[alternative] = Some(if metered { first } else { place });
        self.withdraw(at);
        self.waiters[at].hard = false;
        if metered { InTheWay::Another(first) } else { InTheWay::TheSame }
    }

    /// Where those stand, or are about to, whom nothing but safety keeps.
    pub(super) fn unsafe_places(&self) -> BTreeSet<BudgetId> {
        self.waiters.iter().flat_map(|waiter| &waiter.held_back).flatten().copied().collect()
    }

    /// A bounded activity gave something back, or there is more: what was unsafe may be safe now.
    pub(super) fn look_at_unsafe(&mut self) {
        self.unsafe_places().into_iter().for_each(|place| self.mark(place, BEGINNING));
    }

    /// Who was kept by nothing but safety and asks for more than there is by now, or claims something, waits for that:
    /// where it stands, or it is looked at and moves there.
    pub(super) fn look_at_short(&mut self) {
        let lacking = |model: &Model, at: usize, alternative: usize| -> Vec<BudgetId> {
            let lacks = |(id, units): &(BudgetId, u64)| *units > model.stocks[id].free(model.now);
            let asks = model.loans(model.low(&model.waiters[at], alternative));
            asks.iter().filter(|ask| lacks(ask)).map(|(id, _)| *id).collect()
        };
        for (_, alternative, at, place) in self.all_held_back() {
            if lacking(self, at, alternative).contains(&place) {
                self.waiters[at].held_back[alternative] = None;
                self.harden_if_due(at);
            }
        }
        for (rank, alternative, at, place) in self.all_held_back() {
            if self.waiters[at].hard || !lacking(self, at, alternative).is_empty() {
                self.mark(place, rank);
            }
        }
    }

    /// The alternatives that are held back, in order of rank, with whose they are, and where they stand.
    fn all_held_back(&self) -> Vec<(Rank, usize, usize, BudgetId)> {
        let mut all = Vec::new();
        for (at, waiter) in self.waiters.iter().enumerate() {
            let places = waiter.held_back.iter().enumerate();
            let places = places.filter_map(|(alternative, place)| Some((alternative, (*place)?)));
            all.extend(places.map(|(alternative, place)| (waiter.rank, alternative, at, place)));
        }
        all.sort();
        all
    }

    /// What a waiter asks, or where it stands, has changed: it claims, unless nothing but safety keeps it.
    pub(super) fn claim_again(&mut self, at: usize) {
        if self.waiters[at].hard && self.is_kept_for_safety(at) {
            (self.waiters[at].hard, self.waiters[at].claiming) = (false, None);
        }
        self.pick_if_none(at);
        self.harden_if_due(at);
    }
}
