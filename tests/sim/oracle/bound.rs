//! Activities that said how much they will ever hold.

use bursar::{BudgetId, Tag};

use crate::ask::units_of;
use crate::event::{Event, Figures, Seen, Standing, View};

use super::{Oracle, Verdict};

impl Oracle {
    pub(super) fn is_bounded(&self, tag: Tag) -> bool {
        self.bounds.contains_key(&tag.activity)
    }

    /// The most of a loan that whoever it is will ever hold.
    pub(super) fn bound(&self, tag: Tag, id: BudgetId) -> u64 {
        let loan = self.capacities.contains_key(&id);
        self.bounds.get(&tag.activity).filter(|_| loan).map_or(u64::MAX, |most| units_of(most, id))
    }

    fn leased(&self, activity: u64, id: BudgetId) -> u64 {
        let its = self.owners.iter().filter(|(_, (tag, _))| tag.activity == activity);
        its.map(|(lease, _)| units_of(&self.held[lease], id)).sum()
    }

    /// Whether a refusal is right to say that no more is left of what was said.
    pub(super) fn has_no_room(&self, tag: Tag, short: &Figures) -> bool {
        let left = self.bound(tag, short.budget).saturating_sub(self.leased(tag.activity, short.budget));
        self.is_bounded(tag) && short.asked > short.limit && short.limit <= left
    }

    /// Notes whether a bounded activity begins with what was seen, whatever it was granted: with units of a loan.
    pub(super) fn note_begun(&mut self, event: &Event, seen: &Seen) {
        let (tag, level, ask) = match (seen, event) {
            (Seen::Granted(..), Event::Submit(arrival)) => (arrival.tag, arrival.level, &arrival.ask),
            (Seen::Offered { id, .. } | Seen::Regained(id, _), _) => match self.waits.get(id) {
                Some(wait) => (wait.tag, wait.rank.0, &wait.ask),
                None => return,
            },
            _ => return,
        };
        let of_loans = |(id, _): &(BudgetId, u64)| self.capacities.contains_key(id);
        let begins = ask.alternatives.iter().all(|alternative| alternative.wants.iter().any(of_loans));
        if begins && self.is_bounded(tag) && !self.may_hold(tag.activity) {
            self.begun.push((tag.activity, level));
        }
    }

    /// No bounded activity begins beside one of a higher level that may be passed no more and that may ask for the same
    /// as it (C3, R4). Only where nothing but inheritance changes a level, which may come and go within a turn: so this
    /// goes by the level that somebody asked for.
    pub(super) fn judge_begun(&self, view: &View) -> Verdict {
        let levels_change = self.config.aging_step.is_some() || !self.modules.is_empty();
        let Some(last) = self.last.as_ref().filter(|_| !levels_change) else { return Ok(()) };
        let keeps_out = |standing: &&Standing| standing.spent && !standing.filed.is_empty();
        for &(activity, level) in &self.begun {
            for now in view.standing.iter().filter(keeps_out) {
                let other = &self.waits[&now.id];
                let before = last.standing.iter().filter(keeps_out).any(|then| then.id == now.id);
                if before && other.rank.0 < level && self.may_meet(other.tag, activity) {
                    return Err(format!("activity {activity} begins at {level:?} beside {now:?}"));
                }
            }
        }
        Ok(())
    }

    /// Whether a bounded activity may ask for a loan that another may ask for too.
    fn may_meet(&self, tag: Tag, other: u64) -> bool {
        let shared =
            |(id, _): &(BudgetId, u64)| self.capacities.contains_key(id) && units_of(&self.bounds[&other], *id) > 0;
        tag.activity != other && self.bounds.get(&tag.activity).is_some_and(|most| most.iter().any(shared))
    }

    /// Nobody was granted more than it said (C7).
    pub(super) fn judge_bounds(&self) -> Verdict {
        for (activity, most) in self.bounds.iter().filter(|(activity, _)| !self.merged.contains(activity)) {
            for id in self.capacities.keys() {
                let held = self.leased(*activity, *id);
                if held > units_of(most, *id) {
                    return Err(format!("activity {activity} holds {held} of {id} and said {most:?}"));
                }
            }
        }
        Ok(())
    }
}
