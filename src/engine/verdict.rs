//! When holders wait for each other (C7).
//!
//! Holders are told to roll back, or to split, when none of them can ever be served: what is free, with all that is
//! held by others than holders, is not enough for any, and would not be after those were served that can be. This is
//! the reduction of a resource allocation graph (Coffman, Elphick and Shoshani, "System Deadlocks", 1971, section on
//! detection), with declared waits outside as holders that never finish. Claims count as free, as they do not bind
//! holders (R3). A holder whose grant lies ready is not waiting, so nothing is decided while a wake is on its way
//! (P36).
//!
//! A deadlock that lasts `verdict_after` ends with a verdict for the lowest rank among the waiters of those holders.
//! Each verdict ends a wait; an activity is told to roll back `roll_backs` times at most before it is told to split,
//! until it has held nothing once. So no two holders are parked for ever, and none is sent round for ever.

use crate::model::{Amounts, BudgetId};

use super::activity::Party;
use super::{Engine, Turn, Verdict};

impl Engine {
    /// Looks for holders that wait for each other; decides, or notes when to decide. Whether it ended a wait.
    #[inline]
    pub(super) fn look_for_deadlock(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.parties.is_empty() {
            self.verdict_at = u64::MAX;
            return false;
        }
        let stuck = self.stuck(turn);
        let Some(victim) = self.victim(&stuck) else {
            self.verdict_at = u64::MAX;
            return false;
        };
        if self.verdict_at == u64::MAX {
            self.verdict_at = self.now.saturating_add(self.settings.verdict_after);
        }
        let due = self.verdict_at <= self.now;
        if due {
            self.verdict_at = u64::MAX;
            self.decide(turn, victim, stuck.len());
        }
        due
    }

    /// The holders that cannot be served however the others end.
    fn stuck(&self, turn: &Turn<'_>) -> Vec<u64> {
        let mut stuck: Vec<(u64, &Party)> = self.parties.holders().collect();
        if stuck.is_empty() {
            return Vec::new();
        }
        // What is not held by holders: free, or coming back.
        let mut there: Vec<u64> = (0..BudgetId::LIMIT)
            .filter_map(BudgetId::from_index)
            .map(|id| {
                stuck.iter().fold(turn.books.capacity(id), |left, (_, party)| left.saturating_sub(party.held.get(id)))
            })
            .collect();
        while let Some(at) = stuck.iter().position(|(_, party)| self.can_be_served(turn, party, &there)) {
            let (_, served) = stuck.swap_remove(at);
            served.held.iter().for_each(|(id, units)| there[id.index()] = there[id.index()].saturating_add(units));
        }
        stuck.into_iter().map(|(activity, _)| activity).collect()
    }

    /// Whether one of the waits of a holder can end, given what will be there. Rates come back with time.
    fn can_be_served(&self, turn: &Turn<'_>, party: &Party, there: &[u64]) -> bool {
        let rates = turn.books.rates();
        let fits =
            |amounts: &Amounts| amounts.iter().all(|(id, units)| rates & id.bit() != 0 || units <= there[id.index()]);
        let served = |&slot: &u32| {
            let flexible = self.queue.flexible(slot);
            flexible.is_some_and(|flexible| flexible.terms.alternatives.iter().any(|each| fits(each.least())))
        };
        party.waiters.iter().any(served)
    }

    /// The lowest rank among the waiters of these activities. One that only waits outside cannot be told anything.
    fn victim(&self, stuck: &[u64]) -> Option<u32> {
        let waiters = stuck.iter().filter_map(|&activity| self.parties.get(activity)).flat_map(|party| &party.waiters);
        waiters.copied().max_by_key(|&slot| self.queue.get(slot).rank)
    }

    fn decide(&mut self, turn: &mut Turn<'_>, slot: u32, stuck: usize) {
        let activity = self.tag(slot).activity;
        let told = self.parties.get(activity).map_or(0, |party| party.roll_backs);
        // If it is the only one, what it would give back would help nobody.
        let verdict = if stuck > 1 && told < self.settings.roll_backs { Verdict::RollBack } else { Verdict::Split };
        if verdict == Verdict::RollBack {
            self.parties.change(activity, |party| party.roll_backs += 1);
        }
        self.end(turn, slot, verdict);
    }
}
