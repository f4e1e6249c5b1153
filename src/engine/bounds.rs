//! What activities have said that they will ever hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Amounts, Tag};

use super::activity::{Parties, Party};

/// What a bounded activity said.
#[derive(Debug)]
struct Bound {
    most: Arc<Amounts>,
    /// Its leases, also those that hold nothing, as any of them may grow; and the reservations that may become leases.
    uses: u32,
}

/// What all of them said, each from when it asks until it has neither a lease nor a reservation.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    all: BTreeMap<u64, Bound>,
    /// Those of them that hold something for certain: the others can end after all of these.
    holders: BTreeSet<u64>,
}

impl Bounds {
    /// An activity holds something for certain, or nothing.
    #[inline]
    pub(super) fn note_held(&mut self, activity: u64, holds: bool) {
        if self.all.is_empty() {
            return;
        }
        if holds && self.all.contains_key(&activity) {
            self.holders.insert(activity);
        } else {
            self.holders.remove(&activity);
        }
    }
}

impl Parties {
    /// An activity asks for something that has said how much it will ever hold. What it had said before.
    pub(super) fn bound(&mut self, activity: u64, most: &Arc<Amounts>) -> Option<Arc<Amounts>> {
        let before = self.bounds.all.get(&activity);
        let (uses, said) = before.map_or((0, None), |bound| (bound.uses, Some(Arc::clone(&bound.most))));
        self.bounds.all.insert(activity, Bound { most: Arc::clone(most), uses });
        let holds = self.get(activity).is_some_and(Party::holds_for_certain);
        self.bounds.note_held(activity, holds);
        said
    }

    /// Forgets the bound of an activity that has neither a lease nor a reservation; nor any from before it was bounded.
    #[inline]
    pub(super) fn unbind(&mut self, activity: u64) {
        if self.are_bounded() {
            self.unbind_if_over(activity);
        }
    }

    fn unbind_if_over(&mut self, activity: u64) {
        let is_over = self.bounds.all.get(&activity).is_some_and(|bound| bound.uses == 0);
        if is_over && self.get(activity).is_none_or(Party::is_idle_for_certain) {
            self.bounds.all.remove(&activity);
            self.bounds.holders.remove(&activity);
        }
    }

    /// An activity has another lease or reservation, or one less.
    pub(super) fn count_use(&mut self, tag: Tag, more: bool) {
        if let Some(bound) = self.bounds.all.get_mut(&tag.activity) {
            bound.uses = if more { bound.uses.saturating_add(1) } else { bound.uses.saturating_sub(1) };
            self.unbind(tag.activity);
        }
    }

    /// Whether any activity has said how much it will ever hold.
    #[inline]
    pub(super) fn are_bounded(&self) -> bool {
        !self.bounds.all.is_empty()
    }

    /// The most that an activity will ever hold, if it has said so.
    #[inline]
    pub(super) fn most(&self, activity: u64) -> Option<&Amounts> {
        if self.are_bounded() { self.bounds.all.get(&activity).map(|bound| &*bound.most) } else { None }
    }

    /// All that have.
    pub(super) fn bounds(&self) -> impl Iterator<Item = (u64, &Amounts)> {
        self.bounds.all.iter().map(|(&activity, bound)| (activity, &*bound.most))
    }

    /// Those of them that hold something for certain.
    pub(super) fn bounded_holders(&self) -> impl Iterator<Item = (u64, &Amounts)> {
        self.bounds.holders.iter().filter_map(|&activity| Some((activity, self.most(activity)?)))
    }
}
