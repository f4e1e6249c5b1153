//! Holders that wait for each other (C7, R12): who is stuck, since when, and who is told what.

use std::collections::BTreeSet;

use bursar::{BudgetId, Tag};

use crate::ask::{Asks, units_of};
use crate::event::{Why, is_implied, party};

use super::hold::Notes;
use super::{Model, State, Waiter};

/// Activities.
pub(super) type Holders = BTreeSet<u64>;

impl Model {
    /// What the end of a turn means to holders. Whether there is more to do because of it.
    pub(super) fn consider_holders(&mut self) -> bool {
        self.inherit();
        self.mark_unbound();
        self.look_at_short();
        !self.dirty.is_empty() || self.look_for_deadlock()
    }

    /// A holder may have come to be bound by fewer claims, by no reserve (R3), and to be kept out no more.
    fn mark_unbound(&mut self) {
        let claimed = self.waiters.iter().flat_map(|waiter| self.claim(waiter)).map(|(id, _)| id);
        let reserved = self.reserves.iter().filter(|(_, kept)| **kept > 0).map(|(id, _)| *id);
        let kept_from: BTreeSet<BudgetId> = claimed.chain(reserved).chain(self.unsafe_places()).collect();
        let mut unbound = Vec::new();
        for waiter in self.waiters.iter().filter(|waiter| waiter.state == State::Waiting) {
            let who = self.who(waiter);
            if who.holds.is_empty() {
                continue;
            }
            for (alternative, place) in waiter.filed.iter().enumerate() {
                let low = self.low(waiter, alternative);
                let kept_from = |place: &BudgetId| kept_from.contains(place);
                let stays = waiter.held_back[alternative].is_some() && self.is_held_back(waiter, low);
                let open = |place: &BudgetId| !stays && !self.blocks(*place, units_of(low, *place), &who);
                unbound.extend(place.filter(kept_from).filter(open).map(|place| (place, waiter.rank)));
            }
        }
        unbound.into_iter().for_each(|(place, rank)| self.mark(place, rank));
    }

    fn look_for_deadlock(&mut self) -> bool {
        self.verdict_at = u64::MAX;
        let stuck = self.find_stuck(false);
        self.note_stuck(&stuck);
        let due = self.due_of(&stuck, false, |notes| notes.stuck_since);
        let Some((at, why)) = self.victim(&stuck, &due) else {
            self.raise_alerts(&stuck);
            return false;
        };
        let now = self.now;
        let notes = self.notes.entry(self.waiters[at].tag.activity).or_default();
        notes.roll_backs += u32::from(why == Why::RollBack);
        (notes.told_at, notes.stuck_since) = (Some(now), None);
        self.end(at, why);
        true
    }

    /// Who is stuck, once those have gone on to whom a wake is on its way.
    pub(super) fn find_stuck(&mut self, implied: bool) -> Holders {
        let holders = self.holders(implied);
        let stuck = self.stuck(holders.clone(), implied);
        let going: Holders = stuck.iter().copied().filter(|activity| self.goes_on(*activity)).collect();
        if going.is_empty() {
            return stuck;
        }
        self.verdict_at = self.verdict_at.min(self.now.saturating_add(self.settings.verdict_after));
        self.stuck(holders.difference(&going).copied().collect(), implied)
    }

    /// Those of the stuck who wait and have been stuck for long enough. Notes when the others will have been.
    pub(super) fn due_of(&mut self, stuck: &Holders, implied: bool, since: impl Fn(&Notes) -> Option<u64>) -> Holders {
        let mut due = Holders::new();
        let told = stuck.iter().copied().filter(|activity| self.waiters_of(*activity, implied).next().is_some());
        for activity in told.collect::<Vec<_>>() {
            let at = since(&self.notes[&activity]).expect("it is stuck").saturating_add(self.settings.verdict_after);
            if at <= self.now {
                due.insert(activity);
            } else {
                self.verdict_at = self.verdict_at.min(at);
            }
        }
        due
    }

    fn note_stuck(&mut self, stuck: &Holders) {
        let now = self.now;
        for activity in stuck {
            self.notes.entry(*activity).or_default().stuck_since.get_or_insert(now);
        }
        for (activity, notes) in &mut self.notes {
            notes.stuck_since = notes.stuck_since.filter(|_| stuck.contains(activity));
        }
    }

    pub(super) fn waiters_of(&self, activity: u64, implied: bool) -> impl Iterator<Item = (usize, &Waiter)> {
        let its = move |waiter: &Waiter| {
            waiter.state == State::Waiting && party(waiter.tag) == activity && (implied || !is_implied(waiter.tag))
        };
        self.waiters.iter().enumerate().filter(move |(_, waiter)| its(waiter))
    }

    /// Whether a wake is on its way to it.
    fn goes_on(&self, activity: u64) -> bool {
        let told_at = self.notes.get(&activity).and_then(|notes| notes.told_at);
        let offer = |waiter: &Waiter| party(waiter.tag) == activity && matches!(waiter.state, State::Offered { .. });
        told_at.is_some_and(|told_at| self.now < told_at.saturating_add(self.settings.verdict_after))
            || self.waiters.iter().any(offer)
    }

    /// Of some holders those that cannot be served, however the others end.
    fn stuck(&self, mut holders: Holders, implied: bool) -> Holders {
        loop {
            let served = |activity: &u64| {
                let mut waiters = self.waiters_of(*activity, implied);
                waiters.any(|(_, waiter)| self.lacks(waiter, &holders, implied).any(|lacks| lacks.is_empty()))
            };
            match holders.iter().copied().find(served) {
                Some(activity) => holders.remove(&activity),
                None => return holders,
            };
        }
    }

    /// For each alternative of a waiter: the loans that have too little for its least, if all was there but what
    /// `stuck` hold, or of which its module would have more than its cap; if none, what has to come back for safety.
    pub(super) fn lacks<'a>(
        &'a self,
        waiter: &'a Waiter,
        stuck: &'a Holders,
        implied: bool,
    ) -> impl Iterator<Item = BTreeSet<BudgetId>> + 'a {
        let of_stuck = move |tag: Tag| stuck.contains(&party(tag)) && (implied || !is_implied(tag));
        waiter.ladders.iter().map(move |ladder| {
            let least: &Asks = ladder.last().expect("a ladder has a rung");
            let loans = least.iter().filter(|(id, _)| !self.stocks[id].is_rate());
            let lacks = loans.filter(|&&(id, units)| {
                let units = u128::from(units);
                let held = self.held_by(id, of_stuck);
                let of_module = |tag: Tag| tag.module == waiter.tag.module && of_stuck(tag);
                let cap = self.cap(waiter.tag, id);
                held + units > self.stocks[&id].limit().into()
                    || cap < u64::MAX && self.held_by(id, of_module) + units > cap.into()
            });
            let lacks: BTreeSet<_> = lacks.map(|(id, _)| *id).collect();
            match lacks.is_empty() {
                true => self.to_come_back(waiter.tag, least, &|activity| stuck.contains(&activity), &[]),
                false => lacks,
            }
        })
    }

    /// Who is told what: first those who wait for what they hold themselves, then those who hold what is awaited; of
    /// these the lowest rank that somebody asked for.
    fn victim(&self, stuck: &Holders, due: &Holders) -> Option<(usize, Why)> {
        let awaited: BTreeSet<BudgetId> = stuck
            .iter()
            .flat_map(|activity| self.waiters_of(*activity, false))
            .flat_map(|(_, waiter)| self.lacks(waiter, stuck, false))
            .flatten()
            .collect();
        let last = |concerned: &dyn Fn(u64) -> bool| {
            let due = due.iter().filter(|activity| concerned(**activity));
            let waiters = due.flat_map(|activity| self.waiters_of(*activity, false));
            waiters.max_by_key(|(_, waiter)| (waiter.level, waiter.own.1, waiter.own.2)).map(|(at, _)| at)
        };
        let blocks_itself = |activity| self.stuck(Holders::from([activity]), false).contains(&activity);
        if let Some(at) = last(&blocks_itself) {
            return Some((at, Why::Split));
        }
        let holds_some = |activity| !self.holds_if(activity, false).is_disjoint(&awaited);
        let at = last(&holds_some).or_else(|| last(&|_| true))?;
        let told = self.notes[&self.waiters[at].tag.activity].roll_backs;
        Some((at, if told < self.settings.roll_backs { Why::RollBack } else { Why::Split }))
    }
}
