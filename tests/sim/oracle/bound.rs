//! Activities that said how much they will ever hold.

use bursar::{BudgetId, Tag};

use crate::ask::units_of;
use crate::event::Figures;

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
