//! Leases, and the activities that hold them.

use std::collections::BTreeSet;

use bursar::{BudgetId, Priority, Tag};

use crate::ask::{Asks, part_of, rest_of, sum_of, units_of};
use crate::event::{Arrival, Grant, OF_ONE_LEASE, is_implied, party, tag_of_part};

use super::{Model, Path, State, Waiter, Who};

/// What an owner holds, and for whom.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub asks: Asks,
    pub tag: Tag,
    pub level: Priority,
}

/// What is known of an activity beside its leases and waiters.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    /// Waits outside the scheduler that it has declared.
    pub outside: u32,
    /// How often it was told to roll back since it last held nothing.
    pub roll_backs: u32,
    /// Since when it can be served no more however the others end.
    pub stuck_since: Option<u64>,
    /// When it was last told a verdict.
    pub told_at: Option<u64>,
    /// Since when it is stuck if what scopes imply is right, and whether that was said.
    pub seems_stuck_since: Option<u64>,
    pub alerted: bool,
}

impl Model {
    /// A lease of what was granted.
    pub(super) fn hold(&mut self, waiter: &Waiter, (alternative, rung): Path) -> Grant {
        let loans = self.loans(&waiter.ladders[alternative][rung]);
        self.held.insert(waiter.id, Lease { asks: loans.clone(), tag: waiter.tag, level: waiter.level });
        Grant { alternative: alternative as u8, rung: rung as u8, loans }
    }

    pub(super) fn hold_past_engine(&mut self, arrival: &Arrival, loans: Asks) {
        self.held.insert(arrival.id, Lease { asks: loans, tag: Tag::NOBODY, level: arrival.level });
    }

    /// All that leases and offers hold, with whom they belong to.
    pub(super) fn holdings(&self) -> impl Iterator<Item = (Tag, &[(BudgetId, u64)])> {
        let leases = self.held.values().map(|lease| (lease.tag, &lease.asks[..]));
        let offers = self.waiters.iter().filter(|waiter| matches!(waiter.state, State::Offered { .. }));
        leases.chain(offers.map(|waiter| (waiter.tag, self.bundle_of(waiter))))
    }

    /// The loans of which an activity holds anything, as a scope implies or for certain.
    pub(super) fn holds(&self, activity: u64) -> BTreeSet<BudgetId> {
        self.holds_if(activity, true)
    }

    /// The same; what only scopes imply counts if so wanted.
    pub(super) fn holds_if(&self, activity: u64, implied: bool) -> BTreeSet<BudgetId> {
        if activity == 0 {
            return BTreeSet::new();
        }
        let its = self.holdings().filter(|(tag, _)| party(*tag) == activity && (implied || !is_implied(*tag)));
        let all = its.flat_map(|(_, asks)| asks).map(|(id, _)| *id);
        all.filter(|id| !self.stocks[id].is_rate()).collect()
    }

    pub(super) fn who(&self, waiter: &Waiter) -> Who {
        Who { rank: waiter.rank, holds: self.holds(party(waiter.tag)) }
    }

    /// Activities that hold something and wait, or have said that they wait outside.
    pub(super) fn holders(&self, implied: bool) -> BTreeSet<u64> {
        let waits = |waiter: &&Waiter| waiter.state == State::Waiting && (implied || !is_implied(waiter.tag));
        let waiting = self.waiters.iter().filter(waits).map(|waiter| party(waiter.tag));
        let outside = self.notes.iter().filter(|(_, notes)| notes.outside > 0).map(|(activity, _)| *activity);
        let all: BTreeSet<u64> = waiting.chain(outside).collect();
        all.into_iter().filter(|activity| !self.holds_if(*activity, implied).is_empty()).collect()
    }

    /// Forgets what was told to those who hold nothing any more, and all of those who do not wait either.
    pub(super) fn forget_gone(&mut self) {
        for activity in self.notes.keys().copied().collect::<Vec<_>>() {
            let waits = |waiter: &Waiter| waiter.state == State::Waiting && party(waiter.tag) == activity;
            let waits = self.waiters.iter().any(waits);
            let (holds, certain) = (!self.holds(activity).is_empty(), !self.holds_if(activity, false).is_empty());
            let notes = self.notes.entry(activity).or_default();
            if !certain {
                notes.roll_backs = 0;
            }
            if !holds && !waits && notes.outside == 0 {
                self.notes.remove(&activity);
            }
        }
        self.forget_bounds();
    }

    pub(super) fn release(&mut self, id: u32, late: bool) {
        let Some(lease) = self.held.remove(&id) else { return };
        let is_bounded = self.is_bounded(lease.tag) && self.names_a_loan(&lease.asks);
        self.leases -= 1;
        self.unlend(id);
        self.mark_caps(lease.tag, &lease.asks);
        for (id, units) in &lease.asks {
            self.stock(*id).give(*units);
        }
        self.forget_gone();
        let belongs = lease.tag != Tag::NOBODY;
        if is_bounded {
            self.look_at_unsafe();
        }
        if self.closed || self.named(&lease.asks) {
            let budgets = lease.asks.iter().map(|(id, _)| *id).collect();
            // The owner of what belongs to somebody is at the desk at once.
            if late && !belongs { self.late.push(budgets) } else { self.released(budgets) }
        } else if belongs {
            self.advance();
            self.settle();
        }
    }

    /// A part is a lease of its own for a moment, and then given back.
    pub(super) fn shrink(&mut self, id: u32, by: &Asks) {
        const PART: u32 = u32::MAX;
        self.split(id, by, PART);
        self.release(PART, false);
    }

    pub(super) fn split(&mut self, id: u32, by: &Asks, into: u32) {
        let Some(lease) = self.held.get(&id) else { return };
        let (asks, tag) = (part_of(&lease.asks, by), lease.tag);
        if asks.is_empty() {
            return;
        }
        let Some(lease) = self.held.get_mut(&id) else { return };
        lease.asks = rest_of(&lease.asks, &asks);
        let part = Lease { asks, tag: tag_of_part(tag), ..*lease };
        self.held.insert(into, part);
        self.leases += 1;
        self.lend_part(id, into);
        if tag != Tag::NOBODY {
            let is_bounded = self.is_bounded(tag) && self.names_a_loan(&self.held[&into].asks);
            self.forget_gone();
            if tag_of_part(tag) != tag {
                self.mark_caps(tag, &self.held[&into].asks.clone());
                if is_bounded {
                    self.look_at_unsafe();
                }
            }
            self.advance();
            self.settle();
        }
    }

    pub(super) fn merge(&mut self, id: u32, other: u32) {
        if id == other || !self.held.contains_key(&id) || !self.held.contains_key(&other) {
            return;
        }
        let (to, from) = (self.held[&id].clone(), self.held[&other].clone());
        let belongs = to.tag != Tag::NOBODY || from.tag != Tag::NOBODY;
        let bounded = self.is_bounded(from.tag) || self.is_bounded(to.tag);
        let is_bounded = bounded && self.names_a_loan(&from.asks);
        self.held.insert(id, Lease { asks: sum_of(&to.asks, &from.asks), ..to });
        self.held.insert(other, Lease { asks: Asks::new(), ..from });
        if belongs {
            self.forget_gone();
            if from.tag != to.tag {
                self.mark_caps(from.tag, &from.asks);
                if is_bounded {
                    self.look_at_unsafe();
                }
            }
            self.advance();
            self.settle();
        }
        self.release(other, false);
    }

    /// A lease that is in no activity becomes one of its own; then more is asked for.
    pub(super) fn grow(&mut self, of: u32, more: &Arrival) {
        let Some(lease) = self.held.get(&of) else { return };
        if lease.tag.activity == 0 {
            let (tag, own, asks) = (lease.tag, OF_ONE_LEASE | u64::from(more.id), lease.asks.clone());
            self.held.entry(of).and_modify(|lease| lease.tag.activity = own);
            if tag != Tag::NOBODY {
                self.mark_caps(tag, &asks);
            }
            self.advance();
            self.settle();
        }
        let lease = &self.held[&of];
        let more = Arrival { tag: lease.tag, level: lease.level, ..more.clone() };
        self.submit(&more);
    }

    pub(super) fn wait_outside(&mut self, activity: u64, begins: bool) {
        self.advance();
        let notes = self.notes.entry(activity).or_default();
        notes.outside = if begins { notes.outside + 1 } else { notes.outside.saturating_sub(1) };
        self.forget_gone();
        self.settle();
    }

    /// Units of a budget that some activities hold, or one module holds for some activities.
    pub(super) fn held_by(&self, id: BudgetId, counts: impl Fn(Tag) -> bool) -> u128 {
        let all = self.holdings().filter(|(tag, _)| counts(*tag));
        all.map(|(_, asks)| u128::from(units_of(asks, id))).sum()
    }
}
