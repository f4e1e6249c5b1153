//! When holders wait for each other (C7).
//!
//! Holders are told to roll back, or to split, when none of them can ever be served: what is free, with all that is
//! held by others than holders, is not enough for any, and would not be after those were served that can be. This is
//! the reduction of a resource allocation graph (Coffman, Elphick and Shoshani, "System Deadlocks", 1971, section on
//! detection), with declared waits outside as holders that never finish. Claims count as free, as they do not bind
//! those on whom the claimant depends (R3). A bounded activity can be served if the bounded ones among the holders that
//! cannot be served could end all the same (`avoid`). Who has a grant that lies ready, or was just told a verdict, is
//! taken to go on, so nothing is decided while a wake is on its way (P36).
//!
//! A holder that has been stuck for `verdict_after` without a break may get a verdict: it goes to the lowest rank, by
//! the level of the request, among those who hold what is awaited. Who waits for what itself holds gets its verdict
//! before them, as nothing that others give back would help it; it is told to split. Each verdict ends a wait, and what
//! its activity holds counts as coming back; whoever is stuck all the same has waited long enough and needs no further
//! delay. An activity is told to roll back `roll_backs` times at most before it is told to split, until it has held
//! nothing once. So no two holders are parked for ever, and none is sent round for ever.
//!
//! What only the scope of a task implies may be wrong: a lease that was taken there may have been handed to somebody
//! who gives it back. So nobody is told a verdict because of it; who would be stuck if it were right raises an alert
//! (R12), once until it goes on.

use std::collections::BTreeSet;

use crate::model::BudgetId;

use super::activity::{Party, Sure};
use super::reduction::There;
use super::{Effect, Engine, Turn, Verdict};

impl Engine {
    /// Looks for holders that wait for each other; decides, or notes when to decide. Whether it ended a wait.
    pub(super) fn look_for_deadlock(&mut self, turn: &mut Turn<'_>) -> bool {
        self.verdict_at = u64::MAX;
        if self.parties.holders(Sure::Implied).next().is_none() {
            self.parties.note_stuck(Sure::Declared, &[], self.now);
            self.parties.note_stuck(Sure::Implied, &[], self.now);
            self.disengage();
            return false;
        }
        let (stuck, there) = self.note_stuck(turn, Sure::Declared);
        let due = self.due(&stuck, Sure::Declared);
        if let Some((victim, verdict)) = self.victim(turn, &stuck, &due, &there) {
            self.decide(turn, victim, verdict);
            return true;
        }
        self.raise_alerts(turn, &stuck);
        self.disengage();
        false
    }

    /// Looks no more at whom nothing has to be taken back from.
    fn disengage(&mut self) {
        let mut parties = std::mem::take(&mut self.parties);
        parties.disengage(|party| self.inherits(party));
        self.parties = parties;
    }

    /// Finds out who is stuck from now on, and what there will be without them.
    fn note_stuck(&mut self, turn: &Turn<'_>, sure: Sure) -> (Vec<u64>, There) {
        let (mut stuck, mut there) = self.stuck(turn, sure, &[]);
        let going = self.going_on(turn, &stuck);
        if !going.is_empty() {
            // They may well come to nothing, and no event need follow when they do.
            self.verdict_at = self.now.saturating_add(self.settings.verdict_after).min(self.verdict_at);
            (stuck, there) = self.stuck(turn, sure, &going);
        }
        self.parties.note_stuck(sure, &stuck, self.now);
        (stuck, there)
    }

    /// Those of the stuck who wait and have been stuck for long enough; notes when the others will have been.
    fn due(&mut self, stuck: &[u64], sure: Sure) -> Vec<u64> {
        let mut due = Vec::new();
        for &activity in stuck {
            let party = self.parties.get(activity).filter(|party| party.waits(sure));
            let Some(party) = party else { continue };
            let since = party.stuck_since(sure).unwrap_or(self.now);
            let at = since.saturating_add(self.settings.verdict_after);
            if at <= self.now {
                due.push(activity);
            } else {
                self.verdict_at = self.verdict_at.min(at);
            }
        }
        due
    }

    /// Those to whom a wake is on its way: a grant of theirs lies ready, or they were just told something.
    fn going_on(&self, turn: &Turn<'_>, stuck: &[u64]) -> Vec<u64> {
        if stuck.is_empty() {
            return Vec::new();
        }
        let ready = self.offers.iter().filter(|&&(_, slot)| !turn.board.accepted(slot));
        let ready: BTreeSet<u64> = ready.map(|&(_, slot)| self.tag(slot).party()).collect();
        let told = |activity: u64| self.parties.get(activity).and_then(|party| party.told_at);
        let just = |told: u64| self.now < told.saturating_add(self.settings.verdict_after);
        let goes_on = |&activity: &u64| ready.contains(&activity) || told(activity).is_some_and(just);
        stuck.iter().copied().filter(goes_on).collect()
    }

    /// Looks for those who are stuck only if what scopes imply is right, and says so of each once.
    fn raise_alerts(&mut self, turn: &mut Turn<'_>, declared: &[u64]) {
        if !self.parties.are_implied() {
            return self.parties.note_stuck(Sure::Implied, &[], self.now);
        }
        let (stuck, there) = self.note_stuck(turn, Sure::Implied);
        for activity in self.due(&stuck, Sure::Implied) {
            let known = declared.binary_search(&activity).is_ok();
            let Some(party) = self.parties.get(activity).filter(|party| !known && !party.alerted) else { continue };
            let lacks = self.lacks(turn, party, &there).fold(0, |set, lacks| set | lacks);
            let slot = party.waiters(Sure::Implied).min_by_key(|&slot| self.own_rank(slot).arrival());
            if let (Some(slot), Some(budget)) = (slot, BudgetId::first_of(lacks)) {
                let holds = |&other: &u64| {
                    self.parties.get(other).is_some_and(|other| other.holds(Sure::Implied) & budget.bit() != 0)
                };
                let others = stuck.iter().copied().filter(|&other| other != activity);
                let holder = others.into_iter().find(holds).unwrap_or(activity);
                self.effects.push(Effect::Alert { slot, activity, budget, holder });
            }
            self.parties.change(activity, |party| party.alerted = true);
        }
    }

    /// Who of those whose time has come is told what. One that only waits outside cannot be told anything.
    fn victim(&self, turn: &Turn<'_>, stuck: &[u64], due: &[u64], there: &There) -> Option<(u32, Verdict)> {
        if due.is_empty() {
            return None;
        }
        let party = |&activity: &u64| self.parties.get(activity);
        let awaited = stuck.iter().filter_map(party).flat_map(|party| self.lacks(turn, party, there));
        let awaited = awaited.fold(0, |set, lacks| set | lacks);
        let due: Vec<&Party> = due.iter().filter_map(party).collect();
        let pick =
            |concerned: &dyn Fn(&Party) -> bool| self.last_of(&mut due.iter().copied().filter(|&p| concerned(p)));
        if let Some(slot) = pick(&|party| self.blocks_itself(turn, party)) {
            return Some((slot, Verdict::Split));
        }
        let slot = pick(&|party| party.holds(Sure::Declared) & awaited != 0).or_else(|| pick(&|_| true))?;
        let told = self.parties.get(self.tag(slot).party()).map_or(0, |party| party.roll_backs);
        let verdict = if told < self.settings.roll_backs { Verdict::RollBack } else { Verdict::Split };
        Some((slot, verdict))
    }

    /// The last of the waiters of some parties, in the order of what they asked for: a rank that one of them has from
    /// another, or from waiting long, is no reason to tell somebody else.
    fn last_of(&self, parties: &mut dyn Iterator<Item = &Party>) -> Option<u32> {
        parties.flat_map(|party| party.waiters(Sure::Declared)).max_by_key(|&slot| {
            let own = self.own_rank(slot);
            (self.queue.get(slot).base, own.order_by(), own.arrival())
        })
    }

    fn decide(&mut self, turn: &mut Turn<'_>, slot: u32, verdict: Verdict) {
        let now = self.now;
        self.parties.change(self.tag(slot).party(), |party| {
            party.roll_backs += u32::from(verdict == Verdict::RollBack);
            party.told_at = Some(now);
            party.stuck_since = None;
        });
        self.end(turn, slot, verdict);
    }
}
