//! Who holds what while waiting for more.
//!
//! The engine knows what every activity holds and which waiters are its. A *holder* here is an activity that holds
//! something and waits, or has said that it waits outside; what it holds comes back only after its wait.

use std::collections::BTreeMap;

use crate::ledger::Held;
use crate::model::{Amounts, Tag};
use crate::policy::Rank;

use super::{Engine, Turn};

/// One activity that holds or waits.
#[derive(Debug, Default)]
pub(super) struct Party {
    pub held: Amounts,
    /// The part of that which counts against each module.
    pub of_modules: BTreeMap<u64, Amounts>,
    /// Its active waiters.
    pub waiters: Vec<u32>,
    /// How many waits outside the scheduler it has declared.
    pub outside: u32,
    /// How often it was told to roll back since it last held nothing.
    pub roll_backs: u32,
    /// Since when it can be served no more however the others end.
    pub stuck_since: Option<u64>,
    /// When it was last told a verdict.
    pub told_at: Option<u64>,
}

impl Party {
    pub(super) fn is_gone(&self) -> bool {
        self.held.is_empty() && self.waiters.is_empty() && self.outside == 0
    }

    /// Whether it holds something that does not come back before a wait of it ends.
    pub(super) fn holds_and_waits(&self) -> bool {
        !self.held.is_empty() && (!self.waiters.is_empty() || self.outside > 0)
    }
}

/// All activities that hold or wait.
#[derive(Debug, Default)]
pub(super) struct Parties {
    all: BTreeMap<u64, Party>,
}

impl Parties {
    pub(super) fn get(&self, activity: u64) -> Option<&Party> {
        self.all.get(&activity)
    }

    /// Those that hold and wait.
    pub(super) fn holders(&self) -> impl Iterator<Item = (u64, &Party)> {
        self.all.iter().filter(|(_, party)| party.holds_and_waits()).map(|(&id, party)| (id, party))
    }

    /// The budgets of which an activity holds something.
    #[inline]
    pub(super) fn holds(&self, activity: u64) -> u64 {
        if activity == 0 { 0 } else { self.all.get(&activity).map_or(0, |party| party.held.set()) }
    }

    /// Changes what is known of an activity, and forgets it when there is nothing to know.
    pub(super) fn change(&mut self, activity: u64, change: impl FnOnce(&mut Party)) {
        if activity != 0 {
            let party = self.all.entry(activity).or_default();
            change(party);
            if party.is_gone() {
                self.all.remove(&activity);
            }
        }
    }

    /// From now on these are stuck, and no others.
    pub(super) fn note_stuck(&mut self, stuck: &[u64], now: u64) {
        for (activity, party) in &mut self.all {
            party.stuck_since = stuck.contains(activity).then(|| party.stuck_since.unwrap_or(now));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Party)> {
        self.all.iter().map(|(&id, party)| (id, party))
    }
}

/// Somebody who asks, as far as claims go: the rank, and the budgets it holds something of (R3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claimant {
    pub rank: Rank,
    pub holds: u64,
}

impl From<Rank> for Claimant {
    /// Somebody who holds nothing.
    #[inline]
    fn from(rank: Rank) -> Self {
        Claimant { rank, holds: 0 }
    }
}

impl Engine {
    /// A waiter, as far as claims go.
    #[inline]
    pub(super) fn claimant(&self, slot: u32) -> Claimant {
        let holds = if self.parties.is_empty() { 0 } else { self.parties.holds(self.tag(slot).activity) };
        Claimant { rank: self.queue.get(slot).rank, holds }
    }

    /// Whom a waiter belongs to.
    #[inline]
    pub(super) fn tag(&self, slot: u32) -> Tag {
        self.queue.flexible(slot).map_or(Tag::NOBODY, |flexible| flexible.terms.tag)
    }

    /// An activity was granted loans.
    pub(super) fn gain(&mut self, turn: &Turn<'_>, tag: Tag, amounts: &Amounts) {
        if tag != Tag::NOBODY {
            let loans = amounts.without(turn.books.rates());
            // The sum of what is granted of a budget is at most its capacity, so it is a valid amount.
            self.parties.change(tag.activity, |party| {
                let _ = party.held.put_all(&loans);
                if tag.module != 0 {
                    let _ = party.of_modules.entry(tag.module).or_default().put_all(&loans);
                }
            });
            self.modules.count(tag, &loans, true);
        }
    }

    /// Loans of an activity came back.
    pub(super) fn lose(&mut self, turn: &Turn<'_>, tag: Tag, amounts: &Amounts) {
        if tag != Tag::NOBODY {
            let loans = amounts.without(turn.books.rates());
            self.parties.change(tag.activity, |party| {
                // What came back was counted when it was granted.
                let _ = party.held.take(&loans);
                if let Some(part) = party.of_modules.get_mut(&tag.module) {
                    let _ = part.take(&loans);
                }
                if party.held.is_empty() {
                    party.roll_backs = 0;
                    party.of_modules.clear();
                }
            });
            self.modules.count(tag, &loans, false);
        }
    }

    /// What the end of a turn means to holders: their ranks, the claims that bind them, and whether they wait for each
    /// other. Whether somebody is to be looked at because of that.
    pub(super) fn consider_holders(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.parties.is_empty() {
            self.verdict_at = u64::MAX;
            return false;
        }
        // Who was granted is waited for no more.
        self.inherit();
        self.mark_unbound(turn);
        !self.dirty.is_clean() || self.look_for_deadlock(turn)
    }

    /// Which claims bind a holder changes with every wait and every grant, and whoever comes to hold something is not
    /// bound by the growth reserve any more (R3): marks the lines of those whom these kept out and keep out no more.
    fn mark_unbound(&mut self, turn: &mut Turn<'_>) {
        let claimed = self.claims.claimed() | self.reserved;
        if claimed == 0 {
            return;
        }
        let slots: Vec<u32> = self.parties.holders().flat_map(|(_, party)| party.waiters.iter().copied()).collect();
        for slot in slots {
            let who = self.claimant(slot);
            let filed: Vec<_> = self.queue.filings(slot).filter(|(_, place)| claimed & place.bit() != 0).collect();
            for (filing, place) in filed {
                let units = self.queue.asks(slot, filing.alternative()).get(place);
                if !self.blocks(turn.books, place, units, who) {
                    self.mark_from(place, who.rank);
                }
            }
        }
    }

    /// The budgets that a waiter waits for, and those that the holders of these wait for, and so on (R3).
    pub(super) fn awaited_by(&self, slot: u32) -> u64 {
        // Who is parked stands in no line, and waits for what others of its module hold.
        let parked = |slot: u32| self.modules.is_parked(self.tag(slot), self.queue.get(slot).rank);
        let places = |slot: u32| {
            let set = if parked(slot) { self.queue.set(slot) } else { 0 };
            self.queue.filings(slot).fold(set, |set, (_, place)| set | place.bit())
        };
        let mut awaited = places(slot);
        loop {
            let holders = self.parties.holders().filter(|(_, party)| party.held.set() & awaited != 0);
            let more = holders.flat_map(|(_, party)| &party.waiters).fold(awaited, |set, &slot| set | places(slot));
            if more == awaited {
                return awaited;
            }
            awaited = more;
        }
    }

    /// A lease that belongs to somebody has ended: what it held is back in the books.
    pub fn ended(&mut self, turn: &mut Turn<'_>, held: Held) {
        let (tag, amounts) = (turn.books.tag(held), turn.books.amounts(held));
        let flagged = turn.books.give(held);
        self.lose(turn, tag, &amounts);
        // The owner is at the desk whether anybody waits for it or not.
        if flagged.is_some() {
            self.released(turn, amounts.set());
        }
    }

    /// A part of a lease now belongs to somebody else.
    pub fn handed_over(&mut self, turn: &Turn<'_>, amounts: &Amounts, from: Tag, to: Tag) {
        if from != to {
            self.lose(turn, from, amounts);
            self.gain(turn, to, amounts);
        }
    }

    /// An activity begins, or ends, a wait outside the scheduler.
    pub fn wait_outside(&mut self, turn: &mut Turn<'_>, activity: u64, begins: bool) {
        self.advance(turn);
        self.parties.change(activity, |party| {
            party.outside = if begins { party.outside + 1 } else { party.outside.saturating_sub(1) };
        });
    }

    /// A waiter of an activity becomes active, or is no more.
    pub(super) fn note_wait(&mut self, slot: u32, begins: bool) {
        let tag = self.tag(slot);
        if !self.modules.is_empty() {
            self.note_module_wait(slot, begins);
        }
        self.parties.change(tag.activity, |party| {
            if begins {
                party.waiters.push(slot);
            } else {
                party.waiters.retain(|&waiter| waiter != slot);
            }
        });
    }
}
