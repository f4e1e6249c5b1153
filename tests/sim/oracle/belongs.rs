//! What belongs to modules and activities, as their owners know it.

use bursar::{BudgetId, Tag};

use crate::ask::{sum_of, units_of};
use crate::event::{Arrival, Grant, OF_ONE_LEASE};
use crate::tally::Case;

use super::{Oracle, State, Verdict, Wait};

impl Oracle {
    pub(super) fn hold(&mut self, id: u32, wait: &Wait, grant: &Grant) {
        if wait.grows {
            self.tally.count(Case::Grown);
        }
        self.held.insert(id, grant.loans.clone());
        self.owners.insert(id, (wait.tag, wait.rank.0));
    }

    pub(super) fn merge(&mut self, id: u32, other: u32) {
        if id != other && self.held.contains_key(&id) && self.held.contains_key(&other) {
            self.held.insert(id, sum_of(&self.held[&id], &self.held[&other]));
            self.held.remove(&other);
            self.owners.remove(&other);
            self.note_end(other);
        }
    }

    /// What the owner of a lease asks for; a lease that is in no activity becomes one.
    pub(super) fn growth(&mut self, of: u32, more: &Arrival) -> Option<Arrival> {
        let (tag, level) = self.owners.get_mut(&of)?;
        if tag.activity == 0 {
            tag.activity = OF_ONE_LEASE | u64::from(more.id);
        }
        Some(Arrival { tag: *tag, level: *level, ..more.clone() })
    }

    /// Whether leases of an activity hold anything.
    fn holds_leases(&self, activity: u64) -> bool {
        let mut its = self.owners.iter().filter(|(_, (tag, _))| tag.activity == activity);
        activity != 0 && its.any(|(id, _)| !self.held[id].is_empty())
    }

    /// Whether an activity may hold anything: what lies ready for it may be of rates only.
    pub(super) fn may_hold(&self, activity: u64) -> bool {
        let offer = |wait: &Wait| wait.tag.activity == activity && matches!(wait.state, State::Offered { .. });
        self.holds_leases(activity) || activity != 0 && self.waits.values().any(offer)
    }

    pub(super) fn cap(&self, tag: Tag, id: BudgetId) -> u64 {
        self.modules.get(&tag.module).and_then(|quotas| quotas.get(&id)).map_or(u64::MAX, |quota| quota.cap)
    }

    /// No grant takes a module above its cap (R9).
    pub(super) fn judge_cap(&self, tag: Tag, grant: &Grant) -> Verdict {
        for &(id, units) in &grant.loans {
            let its = self.owners.iter().filter(|(_, (of, _))| of.module == tag.module);
            let held: u64 = its.map(|(lease, _)| units_of(&self.held[lease], id)).sum();
            if self.cap(tag, id) < u64::MAX && held + units > self.cap(tag, id) {
                return Err(format!("{tag:?} has {held} of {id} already"));
            }
        }
        Ok(())
    }

    /// What of a budget a request may not have although it is free: the growth reserve, unless its activity holds
    /// something.
    pub(super) fn kept(&self, wait: &Wait, id: BudgetId, granted: u64) -> u64 {
        let budget = self.config.budgets.iter().find(|budget| budget.id == id);
        let waived = granted == 0 || self.holds_leases(wait.tag.activity);
        budget.filter(|_| !waived).map_or(0, |budget| budget.growth_reserve)
    }
}
