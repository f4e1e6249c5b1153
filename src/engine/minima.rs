//! Who is served from the minimum of a module (R9).
//!
//! A request whose first alternative is wholly inside what its module has neither used of its minimum nor promised to
//! others ranks just below `Critical`, and its claim is hard from the start, so what others release gathers for it. Who
//! is inside is found when a request arrives. Of those that wait, it is looked for when a turn begins and something of
//! their module has changed, or the rank of one of them: in order of rank, among those that ask for no more than the
//! whole minimum, until `look_ahead` were looked at in vain (R11). Nobody is looked at while less is left than any of
//! them asks for.
//!
//! An offer uses what was promised. Once it has expired nothing is promised to its owner, and another may be promised
//! the same: so a dormant one that asks again is looked at anew, and if it is not inside any more it is what it would
//! be had it never been.

use std::ops::Bound::{Excluded, Unbounded};

use crate::model::{Amounts, Priority};
use crate::policy::Rank;

use super::module::{Module, Share};
use super::{Engine, Turn};

/// A waiter, by its rank.
pub(super) type Hopeful = (Rank, u32);

/// What one that is served from a minimum would be otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outside {
    pub rank: Rank,
    /// When it would gain the next level.
    pub raise_at: u64,
}

impl Module {
    /// Whether a bundle is wholly inside what is left of the minimum.
    pub(super) fn is_inside_minimum(&self, amounts: &Amounts) -> bool {
        self.each_is_at_most(amounts, Share::unused)
    }

    fn each_is_at_most(&self, amounts: &Amounts, most: impl Fn(&Share) -> u64) -> bool {
        let mut all = amounts.iter();
        !amounts.is_empty() && all.all(|(id, units)| self.share(id).is_some_and(|share| units <= most(share)))
    }

    pub(super) fn promise(&mut self, amounts: &Amounts, more: bool) {
        for (id, units) in amounts.iter() {
            if let Some(share) = self.shares.get_mut(&id) {
                let promised = share.promised;
                share.promised = if more { promised.saturating_add(units) } else { promised.saturating_sub(units) };
            }
        }
    }

    /// An active waiter that is not served from the minimum, and could be if all of it was left.
    pub(super) fn hope(&mut self, hopeful: Hopeful, wanted: &Amounts) {
        if self.each_is_at_most(wanted, |share| share.minimum) && self.hopefuls.insert(hopeful) {
            self.each_share(wanted, |share, units| share.hoped_for.add(units));
        }
    }

    /// It is none any more.
    pub(super) fn give_up(&mut self, hopeful: Hopeful, wanted: &Amounts) -> bool {
        let was_there = self.hopefuls.remove(&hopeful);
        if was_there {
            self.each_share(wanted, |share, units| share.hoped_for.take(units));
        }
        was_there
    }

    fn each_share(&mut self, amounts: &Amounts, each: impl Fn(&mut Share, u64)) {
        for (id, units) in amounts.iter() {
            self.shares.get_mut(&id).into_iter().for_each(|share| each(share, units));
        }
    }

    /// The first that may be inside by now of those that rank after `at`.
    fn next_hopeful(&self, at: Hopeful) -> Option<Hopeful> {
        let has_enough = |share: &Share| share.hoped_for.least().is_some_and(|least| least <= share.unused());
        let next = self.hopefuls.range((Excluded(at), Unbounded)).next().copied();
        next.filter(|_| self.shares.values().any(has_enough))
    }
}

impl Engine {
    /// Serves those from the minimum of a module who are inside it by now.
    pub(super) fn guarantee_those_inside(&mut self, turn: &mut Turn<'_>, number: u64) {
        let (mut at, mut in_vain) = ((Rank::BEFORE_ALL, 0), 0);
        while let Some(next) = self.modules.get(number).and_then(|module| module.next_hopeful(at)) {
            at = next;
            let (_, slot) = next;
            if self.modules.is_inside_minimum(self.tag(slot), &self.wanted(slot)) {
                self.guarantee(turn, slot);
                continue;
            }
            in_vain += 1;
            if in_vain == self.settings.look_ahead {
                break;
            }
        }
    }

    /// All that the first alternative of a waiter wants, whatever less would do.
    pub(super) fn wanted(&self, slot: u32) -> Amounts {
        match self.queue.flexible(slot).and_then(|flexible| flexible.terms.alternatives.first()) {
            Some(first) => first.want().clone(),
            None => self.queue.asks(slot, 0).bundle(),
        }
    }

    /// The rank of what is served from a minimum: just below `Critical`.
    pub(super) fn guaranteed_rank(arrival: u64) -> Rank {
        Rank::last_of(Priority::Critical, arrival)
    }

    /// From now on a waiter is served from the minimum of its module.
    fn guarantee(&mut self, turn: &mut Turn<'_>, slot: u32) {
        self.stop_aging(slot);
        let (tag, wanted, rank) = (self.tag(slot), self.wanted(slot), self.queue.get(slot).rank);
        if let Some(module) = self.modules.get_mut(tag.module) {
            module.give_up((rank, slot), &wanted);
            module.promise(&wanted, true);
        }
        let outside = Outside { rank: self.own_rank(slot), raise_at: self.queue.get(slot).raise_at };
        self.set_guaranteed(slot, outside);
        self.queue.get_mut(slot).raise_at = u64::MAX;
        self.set_own_rank(slot, Engine::guaranteed_rank(rank.arrival()));
        self.harden_if_due(turn, slot);
    }

    /// Notes that a waiter is served from the minimum.
    pub(super) fn set_guaranteed(&mut self, slot: u32, outside: Outside) {
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.guaranteed = Some(outside);
        }
    }

    /// Whether a waiter is served from the minimum of its module.
    pub(super) fn has_guarantee(&self, slot: u32) -> bool {
        self.queue.flexible(slot).is_some_and(|flexible| flexible.guaranteed.is_some())
    }

    /// A dormant waiter asks again: if it is not inside the minimum any more, it is not served from it.
    pub(super) fn renew_guarantee(&mut self, slot: u32) {
        if !self.has_guarantee(slot) || self.modules.is_inside_minimum(self.tag(slot), &self.wanted(slot)) {
            return;
        }
        let Some(flexible) = self.queue.flexible_mut(slot) else { return };
        let Some(Outside { rank, raise_at }) = flexible.guaranteed.take() else { return };
        let waiter = self.queue.get_mut(slot);
        (waiter.rank, waiter.raise_at) = (rank, raise_at);
        // It claimed hard from the start; now it does once it may be passed no more.
        (waiter.hard, waiter.spent) = (false, false);
    }
}
