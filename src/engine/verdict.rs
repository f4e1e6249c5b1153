//! When holders wait for each other (C7).
//!
//! Holders are told to roll back, or to split, when none of them can ever be served: what is free, with all that is
//! held by others than holders, is not enough for any, and would not be after those were served that can be. This is
//! the reduction of a resource allocation graph (Coffman, Elphick and Shoshani, "System Deadlocks", 1971, section on
//! detection), with declared waits outside as holders that never finish. Claims count as free, as they do not bind
//! those on whom the claimant depends (R3). Who has a grant that lies ready, or was just told a verdict, is taken to go
//! on, so nothing is decided while a wake is on its way (P36).
//!
//! A holder that has been stuck for `verdict_after` without a break may get a verdict: it goes to the lowest rank, by
//! the level of the request, among those who hold what is awaited. Who waits for what itself holds gets its verdict
//! before them, as nothing that others give back would help it; it is told to split. Each verdict ends a wait, and what
//! its activity holds counts as coming back; whoever is stuck all the same has waited long enough and needs no further
//! delay. An activity is told to roll back `roll_backs` times at most before it is told to split, until it has held
//! nothing once. So no two holders are parked for ever, and none is sent round for ever.

use std::collections::BTreeMap;

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, Tag};

use super::activity::Party;
use super::{Engine, Turn, Verdict};

/// What is not held by some holders: free, or coming back.
struct There {
    /// Of each budget; below zero while a shrunk budget is overdrawn.
    units: [i128; BudgetId::LIMIT],
    /// What those holders have of what each module may have: a cap is a budget too (R9).
    of_modules: BTreeMap<(u64, BudgetId), u128>,
}

impl There {
    fn without(holders: &[(u64, &Party)], books: &Books) -> Self {
        let mut there = There { units: [0; BudgetId::LIMIT], of_modules: BTreeMap::new() };
        for id in BudgetId::in_set(books.budgets() & !books.rates()) {
            there.units[id.index()] = i128::from(books.capacity(id));
        }
        for (_, party) in holders {
            party.held.iter().for_each(|(id, units)| there.units[id.index()] -= i128::from(units));
            for (&module, part) in &party.of_modules {
                for (id, units) in part.iter() {
                    *there.of_modules.entry((module, id)).or_default() += u128::from(units);
                }
            }
        }
        there
    }

    /// One of those holders goes on, and gives back what it holds.
    fn put(&mut self, party: &Party) {
        party.held.iter().for_each(|(id, units)| self.units[id.index()] += i128::from(units));
        for (&module, part) in &party.of_modules {
            for (id, units) in part.iter() {
                let of_module = self.of_modules.entry((module, id)).or_default();
                *of_module = of_module.saturating_sub(u128::from(units));
            }
        }
    }
}

impl Engine {
    /// Looks for holders that wait for each other; decides, or notes when to decide. Whether it ended a wait.
    pub(super) fn look_for_deadlock(&mut self, turn: &mut Turn<'_>) -> bool {
        self.verdict_at = u64::MAX;
        if self.parties.holders().next().is_none() {
            self.parties.note_stuck(&[], self.now);
            return false;
        }
        let (mut stuck, mut there) = self.stuck(turn, &[]);
        let going: Vec<u64> = stuck.iter().copied().filter(|&activity| self.goes_on(turn, activity)).collect();
        if !going.is_empty() {
            // They may well come to nothing, and no event need follow when they do.
            self.verdict_at = self.now.saturating_add(self.settings.verdict_after);
            (stuck, there) = self.stuck(turn, &going);
        }
        self.parties.note_stuck(&stuck, self.now);
        let mut due = Vec::new();
        for &activity in &stuck {
            let Some(party) = self.parties.get(activity).filter(|party| !party.waiters.is_empty()) else { continue };
            let at = party.stuck_since.unwrap_or(self.now).saturating_add(self.settings.verdict_after);
            if at <= self.now {
                due.push(activity);
            } else {
                self.verdict_at = self.verdict_at.min(at);
            }
        }
        let Some((victim, verdict)) = self.victim(turn, &stuck, &due, &there) else { return false };
        self.decide(turn, victim, verdict);
        true
    }

    /// Whether a wake is on its way to an activity: a grant of its lies ready, or it was just told something.
    fn goes_on(&self, turn: &Turn<'_>, activity: u64) -> bool {
        let told = self.parties.get(activity).and_then(|party| party.told_at);
        let of_it = |slot: u32| self.tag(slot).activity == activity && !turn.board.accepted(slot);
        told.is_some_and(|told| self.now < told.saturating_add(self.settings.verdict_after))
            || self.offers.iter().any(|&(_, slot)| of_it(slot))
    }

    /// The holders that cannot be served however the others end, if these go on; and what there will be without them.
    fn stuck(&self, turn: &Turn<'_>, going: &[u64]) -> (Vec<u64>, There) {
        let mut stuck: Vec<(u64, &Party)> =
            self.parties.holders().filter(|(activity, _)| !going.contains(activity)).collect();
        let mut there = There::without(&stuck, turn.books);
        while let Some(at) = stuck.iter().position(|(_, party)| self.can_be_served(turn, party, &there)) {
            let (_, served) = stuck.swap_remove(at);
            there.put(served);
        }
        (stuck.into_iter().map(|(activity, _)| activity).collect(), there)
    }

    /// The budgets that have too little for each of the alternatives that a party waits for, or of which its module may
    /// have too little. Rates come back with time.
    fn lacks<'a>(&'a self, turn: &Turn<'_>, party: &'a Party, there: &'a There) -> impl Iterator<Item = u64> + 'a {
        let rates = turn.books.rates();
        let short = move |tag: Tag, amounts: &Amounts| {
            let lacks = |&(id, units): &(BudgetId, u64)| {
                let has = there.of_modules.get(&(tag.module, id)).copied().unwrap_or(0);
                i128::from(units) > there.units[id.index()]
                    || has + u128::from(units) > u128::from(self.modules.cap(tag, id))
            };
            amounts.iter().filter(lacks).fold(0, |set, (id, _)| set | id.bit()) & !rates
        };
        let terms = party.waiters.iter().filter_map(|&slot| self.queue.flexible(slot)).map(|flexible| &flexible.terms);
        let each = terms.flat_map(|terms| terms.alternatives.iter().map(|each| (terms.tag, each)));
        each.map(move |(tag, each)| short(tag, each.least()))
    }

    /// Whether one of the waits of a holder can end, given what will be there.
    fn can_be_served(&self, turn: &Turn<'_>, party: &Party, there: &There) -> bool {
        self.lacks(turn, party, there).any(|lacks| lacks == 0)
    }

    /// Whether a holder could not be served even if it were alone.
    fn blocks_itself(&self, turn: &Turn<'_>, party: &Party) -> bool {
        !self.can_be_served(turn, party, &There::without(&[(0, party)], turn.books))
    }

    /// Who of those whose time has come is told what. One that only waits outside cannot be told anything.
    fn victim(&self, turn: &Turn<'_>, stuck: &[u64], due: &[u64], there: &There) -> Option<(u32, Verdict)> {
        let party = |&activity: &u64| self.parties.get(activity);
        let awaited = stuck.iter().filter_map(party).flat_map(|party| self.lacks(turn, party, there));
        let awaited = awaited.fold(0, |set, lacks| set | lacks);
        let due: Vec<&Party> = due.iter().filter_map(party).collect();
        let pick =
            |concerned: &dyn Fn(&Party) -> bool| self.last_of(&mut due.iter().copied().filter(|&p| concerned(p)));
        if let Some(slot) = pick(&|party| self.blocks_itself(turn, party)) {
            return Some((slot, Verdict::Split));
        }
        let slot = pick(&|party| party.held.set() & awaited != 0).or_else(|| pick(&|_| true))?;
        let told = self.parties.get(self.tag(slot).activity).map_or(0, |party| party.roll_backs);
        let verdict = if told < self.settings.roll_backs { Verdict::RollBack } else { Verdict::Split };
        Some((slot, verdict))
    }

    /// The last of the waiters of some parties, in the order of what they asked for: a rank that one of them has from
    /// another, or from waiting long, is no reason to tell somebody else.
    fn last_of(&self, parties: &mut dyn Iterator<Item = &Party>) -> Option<u32> {
        parties.flat_map(|party| party.waiters.iter().copied()).max_by_key(|&slot| {
            let own = self.own_rank(slot);
            (self.queue.get(slot).base, own.order_by(), own.arrival())
        })
    }

    fn decide(&mut self, turn: &mut Turn<'_>, slot: u32, verdict: Verdict) {
        let now = self.now;
        self.parties.change(self.tag(slot).activity, |party| {
            party.roll_backs += u32::from(verdict == Verdict::RollBack);
            (party.told_at, party.stuck_since) = (Some(now), None);
        });
        self.end(turn, slot, verdict);
    }
}
