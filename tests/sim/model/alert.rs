//! What only scopes imply (R12): nobody is told a verdict because of it; who would be stuck raises an alert, once until
//! it goes on.

use std::collections::BTreeSet;

use bursar::BudgetId;

use crate::event::{Seen, is_implied};

use super::verdict::Holders;
use super::{Model, State};

impl Model {
    /// `declared` are stuck as far as is declared, and not of interest here.
    pub(super) fn raise_alerts(&mut self, declared: &Holders) {
        let waits = self.waiters.iter().any(|waiter| waiter.state == State::Waiting && is_implied(waiter.tag));
        let holds = self.holdings().any(|(tag, asks)| is_implied(tag) && asks.iter().any(|(id, _)| self.is_loan(*id)));
        let stuck = if waits || holds { self.find_stuck(true) } else { Holders::new() };
        let now = self.now;
        for activity in &stuck {
            self.notes.entry(*activity).or_default().seems_stuck_since.get_or_insert(now);
        }
        for (activity, notes) in &mut self.notes {
            notes.seems_stuck_since = notes.seems_stuck_since.filter(|_| stuck.contains(activity));
            notes.alerted &= stuck.contains(activity);
        }
        for activity in self.due_of(&stuck, true, |notes| notes.seems_stuck_since) {
            if !declared.contains(&activity) && !self.notes[&activity].alerted {
                self.alert(activity, &stuck);
            }
        }
    }

    /// Says of what it lacks something, the first of that, and the first of the others who hold some; itself if nobody
    /// else does.
    fn alert(&mut self, activity: u64, stuck: &Holders) {
        let waiters = self.waiters_of(activity, true);
        let lacks: BTreeSet<BudgetId> =
            waiters.flat_map(|(_, waiter)| self.lacks(waiter, stuck, true)).flatten().collect();
        if let Some(budget) = lacks.into_iter().next() {
            let holder = stuck.iter().find(|other| **other != activity && self.holds(**other).contains(&budget));
            let holder = holder.copied().unwrap_or(activity);
            self.seen.push(Seen::Alert { activity, budget, holder });
        }
        self.notes.entry(activity).or_default().alerted = true;
    }

    fn is_loan(&self, id: BudgetId) -> bool {
        !self.stocks[&id].is_rate()
    }
}
