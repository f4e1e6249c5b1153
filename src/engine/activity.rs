//! Who holds what while waiting for more.
//!
//! The engine knows what every activity holds and which waiters are its. A *holder* here is an activity that holds
//! something and waits, or has said that it waits outside; what it holds comes back only after its wait.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Books, Held};
use crate::model::{Amounts, Tag};
use crate::policy::Rank;

use super::bounds::Bounds;
use super::{Engine, Turn};

/// What is taken for certain of activities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sure {
    /// What somebody has said: it is told verdicts.
    Declared,
    /// Also what only the scope of a task implies: it raises alerts (R12).
    Implied,
}

/// What is known of an activity with one kind of certainty.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub held: Amounts,
    /// The part of that which counts against each module.
    pub of_modules: BTreeMap<u64, Amounts>,
    /// Its active waiters.
    pub waiters: BTreeSet<u32>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiters.is_empty()
    }
}

/// One activity that holds or waits.
#[derive(Debug, Default)]
pub(super) struct Party {
    declared: Part,
    /// Out of line, as few have one.
    implied: Option<Box<Part>>,
    /// How many waits outside the scheduler it has declared.
    pub outside: u32,
    /// How often it was told to roll back since it last held nothing.
    pub roll_backs: u32,
    /// When it was last told a verdict.
    pub told_at: Option<u64>,
    /// Since when it can be served no more however the others end, as far as is declared; and with what is implied.
    pub stuck_since: Option<u64>,
    seems_stuck_since: Option<u64>,
    /// An alert was raised since then.
    pub alerted: bool,
}

impl Party {
    /// What is known with one kind of certainty.
    pub(super) fn part_mut(&mut self, sure: Sure) -> &mut Part {
        match sure {
            Sure::Declared => &mut self.declared,
            Sure::Implied => self.implied.get_or_insert_default(),
        }
    }

    /// Everything that is at least so certain.
    pub(super) fn parts(&self, sure: Sure) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.declared).chain(self.implied(sure))
    }

    fn implied(&self, sure: Sure) -> Option<&Part> {
        self.implied.as_deref().filter(|_| sure == Sure::Implied)
    }

    /// Whether anything is known of it from the scope of a task only.
    pub(super) fn is_implied(&self) -> bool {
        self.implied.as_ref().is_some_and(|part| !part.is_empty())
    }

    /// Whether it holds something or waits outside.
    pub(super) fn is_engaged(&self) -> bool {
        self.outside > 0 || self.holds(Sure::Implied) != 0
    }

    /// Whether something is noted of it that only a look for deadlocks takes back.
    fn is_noted(&self) -> bool {
        self.stuck_since.is_some() || self.seems_stuck_since.is_some() || self.alerted
    }

    /// What it was declared to hold.
    pub(super) fn held_for_certain(&self) -> &Amounts {
        &self.declared.held
    }

    pub(super) fn holds_for_certain(&self) -> bool {
        !self.declared.held.is_empty()
    }

    /// Whether nothing that it holds or waits for is declared.
    pub(super) fn is_idle_for_certain(&self) -> bool {
        self.declared.is_empty()
    }

    /// The budgets of which it holds something.
    pub(super) fn holds(&self, sure: Sure) -> u64 {
        self.declared.held.set() | self.implied(sure).map_or(0, |part| part.held.set())
    }

    /// Its active waiters.
    pub(super) fn waiters(&self, sure: Sure) -> impl Iterator<Item = u32> + '_ {
        self.parts(sure).flat_map(|part| part.waiters.iter().copied())
    }

    pub(super) fn waits(&self, sure: Sure) -> bool {
        !self.declared.waiters.is_empty() || self.implied(sure).is_some_and(|part| !part.waiters.is_empty())
    }

    /// Since when it can be served no more however the others end, as far as that is so certain.
    pub(super) fn stuck_since(&self, sure: Sure) -> Option<u64> {
        match sure {
            Sure::Declared => self.stuck_since,
            Sure::Implied => self.seems_stuck_since,
        }
    }

    fn stuck_since_mut(&mut self, sure: Sure) -> &mut Option<u64> {
        match sure {
            Sure::Declared => &mut self.stuck_since,
            Sure::Implied => &mut self.seems_stuck_since,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.parts(Sure::Implied).all(Part::is_empty) && self.outside == 0
    }

    /// It was granted loans.
    fn gain(&mut self, tag: Tag, loans: &Amounts) {
        let part = self.part_mut(tag.into());
        // The sum of what is granted of a budget is at most its capacity, so it is a valid amount.
        let _ = part.held.put_all(loans);
        if tag.module != 0 {
            let _ = part.of_modules.entry(tag.module).or_default().put_all(loans);
        }
    }

    /// Loans of it came back.
    fn lose(&mut self, tag: Tag, loans: &Amounts) {
        let part = self.part_mut(tag.into());
        // What came back was counted when it was granted.
        let _ = part.held.take(loans);
        if let Some(of_module) = part.of_modules.get_mut(&tag.module) {
            let _ = of_module.take(loans);
        }
        if part.held.is_empty() {
            part.of_modules.clear();
        }
    }

    /// Whether it holds something that does not come back before a wait of it ends.
    pub(super) fn holds_and_waits(&self, sure: Sure) -> bool {
        self.holds(sure) != 0 && (self.outside > 0 || self.waits(sure))
    }
}

/// All activities that hold or wait.
#[derive(Debug, Default)]
pub(super) struct Parties {
    all: BTreeMap<u64, Party>,
    /// Those that hold something or wait outside, and those that did until lately: the others are not looked at when a
    /// turn ends, however many wait.
    engaged: BTreeSet<u64>,
    /// Of how many something is known from the scope of a task only.
    implied: usize,
    /// Those that have said how much they will ever hold.
    pub(super) bounds: Bounds,
}

impl Parties {
    pub(super) fn get(&self, activity: u64) -> Option<&Party> {
        self.all.get(&activity)
    }

    /// Those that hold and wait, in order of number.
    pub(super) fn holders(&self, sure: Sure) -> impl Iterator<Item = (u64, &Party)> {
        self.engaged().filter(move |(_, party)| party.holds_and_waits(sure))
    }

    /// Those that hold something or wait outside, or did until lately, in order of number.
    pub(super) fn engaged(&self) -> impl Iterator<Item = (u64, &Party)> {
        self.engaged.iter().filter_map(|id| Some((*id, self.all.get(id)?)))
    }

    /// Forgets which of those did so until lately whom nobody has a reason to keep.
    pub(super) fn disengage(&mut self, keep: impl Fn(&Party) -> bool) {
        let Parties { all, engaged, .. } = self;
        let stays = |party: &Party| party.is_engaged() || party.is_noted() || keep(party);
        engaged.retain(|id| all.get(id).is_some_and(stays));
    }

    /// The waiters of those that hold.
    pub(super) fn holding_waiters(&self) -> impl Iterator<Item = u32> + '_ {
        self.holders(Sure::Implied).flat_map(|(_, party)| party.waiters(Sure::Implied))
    }

    /// The budgets of which an activity holds something.
    #[inline]
    pub(super) fn holds(&self, activity: u64) -> u64 {
        if activity == 0 { 0 } else { self.all.get(&activity).map_or(0, |party| party.holds(Sure::Implied)) }
    }

    /// Changes what is known of an activity, and forgets it when there is nothing to know.
    pub(super) fn change(&mut self, activity: u64, change: impl FnOnce(&mut Party)) {
        if activity != 0 {
            let party = self.all.entry(activity).or_default();
            self.implied -= usize::from(party.is_implied());
            change(party);
            if party.declared.held.is_empty() {
                party.roll_backs = 0;
            }
            self.implied += usize::from(party.is_implied());
            self.bounds.note_held(activity, party.holds_for_certain());
            if party.is_engaged() {
                self.engaged.insert(activity);
            }
            if party.is_gone() {
                self.all.remove(&activity);
                self.engaged.remove(&activity);
            }
        }
    }

    /// From now on these are stuck, and no others. They are in order of number.
    pub(super) fn note_stuck(&mut self, sure: Sure, stuck: &[u64], now: u64) {
        for activity in &self.engaged {
            let Some(party) = self.all.get_mut(activity) else { continue };
            let is_stuck = stuck.binary_search(activity).is_ok();
            let since = party.stuck_since_mut(sure);
            *since = is_stuck.then(|| since.unwrap_or(now));
            party.alerted &= is_stuck || sure == Sure::Declared;
        }
    }

    /// Whether anything is known of any of them from the scope of a task only.
    pub(super) fn are_implied(&self) -> bool {
        self.implied > 0
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Party)> {
        self.all.iter().map(|(&id, party)| (id, party))
    }
}

impl From<Tag> for Sure {
    fn from(tag: Tag) -> Self {
        if tag.is_implied() { Sure::Implied } else { Sure::Declared }
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
        let holds = if self.parties.is_empty() { 0 } else { self.parties.holds(self.tag(slot).party()) };
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
            self.parties.change(tag.party(), |party| party.gain(tag, &loans));
            self.modules.count(tag, &loans, true);
        }
    }

    /// Loans of an activity came back.
    pub(super) fn lose(&mut self, turn: &Turn<'_>, tag: Tag, amounts: &Amounts) {
        if tag != Tag::NOBODY {
            let loans = amounts.without(turn.books.rates());
            self.parties.change(tag.party(), |party| party.lose(tag, &loans));
            self.note_lost(tag, &loans);
        }
    }

    /// What it was that loans belonged to has less of them.
    fn note_lost(&mut self, tag: Tag, loans: &Amounts) {
        self.modules.count(tag, loans, false);
        self.mark_caps(tag.module, loans);
        // What others hold counts as coming back anyway.
        if self.bound_of(tag).is_some() && !loans.is_empty() {
            self.look_at_unsafe();
        }
    }

    /// Loans of an activity are its own in another way: of another module, or for certain. It held them all along, so
    /// what it was told is not forgotten.
    fn retag(&mut self, turn: &Turn<'_>, amounts: &Amounts, from: Tag, to: Tag) {
        let loans = amounts.without(turn.books.rates());
        self.parties.change(to.party(), |party| {
            party.lose(from, &loans);
            party.gain(to, &loans);
        });
        self.note_lost(from, &loans);
        self.modules.count(to, &loans, true);
    }

    /// What the end of a turn means to holders: their ranks, the claims that bind them, and whether they wait for each
    /// other. Whether somebody is to be looked at because of that.
    #[inline]
    pub(super) fn consider_holders(&mut self, turn: &mut Turn<'_>, regranted: bool) -> bool {
        if self.parties.is_empty() {
            self.verdict_at = u64::MAX;
            return false;
        }
        self.look_at_holders(turn, regranted)
    }

    /// What [`consider_holders`](Self::consider_holders) does where there are any.
    #[inline(never)]
    fn look_at_holders(&mut self, turn: &mut Turn<'_>, regranted: bool) -> bool {
        if regranted {
            // Who was granted is waited for no more.
            self.inherit(turn.books);
        }
        self.mark_unbound(turn);
        self.look_at_short(turn);
        !self.dirty.is_clean() || self.look_for_deadlock(turn)
    }

    /// Which claims bind a holder changes with every wait and every grant, and whoever comes to hold something is not
    /// bound by the growth reserve any more (R3), nor kept from beginning: marks the lines of those whom these kept out
    /// and keep out no more.
    fn mark_unbound(&mut self, turn: &mut Turn<'_>) {
        let claimed = self.claims.claimed() | self.reserved | self.held_back.places();
        if claimed == 0 {
            return;
        }
        let slots: Vec<u32> = self.parties.holding_waiters().collect();
        for slot in slots {
            let who = self.claimant(slot);
            let filed: Vec<_> = self.queue.filings(slot).filter(|(_, place)| claimed & place.bit() != 0).collect();
            for (filing, place) in filed {
                let units = self.queue.asks(slot, filing.alternative()).get(place);
                // Whom nothing but safety keeps by now is to be held back.
                let is_held_back = self.held_back.place(filing) == Some(place);
                let stays = is_held_back && self.filing_endangers(turn.books, filing);
                if !stays && !self.blocks(turn.books, place, units, who) {
                    self.mark_from(place, who.rank);
                }
            }
        }
    }

    /// The budgets that a waiter waits for. Who is parked stands in no line of one, and waits for what others of its
    /// module hold.
    pub(super) fn places(&self, slot: u32) -> u64 {
        let set = if self.is_parked(slot) { self.queue.set(slot) } else { 0 };
        self.queue.filings(slot).fold(set, |set, (_, place)| set | place.bit())
    }

    /// The budgets of which something has to come back before a waiter is served: where it stands, and where others
    /// hold what it is not safe to serve it before.
    pub(super) fn awaited(&self, books: &Books, slot: u32) -> u64 {
        self.places(slot) | self.unsafe_before(books, slot)
    }

    /// These budgets, and those that the holders of them wait for, and so on (R3).
    pub(super) fn awaited_through(&self, books: &Books, mut awaited: u64) -> u64 {
        // Whom safety keeps is costly to ask: each holder is asked once.
        let mut holders: Vec<&Party> = self.parties.holders(Sure::Implied).map(|(_, party)| party).collect();
        while let Some(at) = holders.iter().position(|party| party.holds(Sure::Implied) & awaited != 0) {
            let waiters = holders.swap_remove(at).waiters(Sure::Implied);
            awaited = waiters.fold(awaited, |set, slot| set | self.awaited(books, slot));
        }
        awaited
    }

    /// A lease that belongs to somebody has ended: what it held is back in the books.
    pub fn ended(&mut self, turn: &mut Turn<'_>, held: Held) {
        let (tag, amounts) = (turn.books.tag(held), turn.books.amounts(held));
        self.unlend(turn.books, held);
        let flagged = turn.books.give(held);
        self.lose(turn, tag, &amounts);
        self.parties.count_use(tag, false);
        self.advance(turn);
        // The owner is at the desk whether anybody waits for it or not.
        if flagged.is_some() {
            self.dirty.mark(amounts.set());
        }
    }

    /// A part of a lease became one of its own, and belongs to whom this says.
    pub fn split_off(&mut self, tag: Tag) {
        self.parties.count_use(tag, true);
    }

    /// A part of a lease now belongs to somebody else.
    pub fn handed_over(&mut self, turn: &mut Turn<'_>, amounts: &Amounts, from: Tag, to: Tag) {
        let is_its_own = from.party() == to.party() && to.party() != 0;
        if from != to && is_its_own {
            self.retag(turn, amounts, from, to);
        } else if from != to {
            self.lose(turn, from, amounts);
            self.gain(turn, to, amounts);
        }
        // Who has all that it may yet get of an overdrawn loan needs nothing more of it, and can end.
        if from != to && self.bound_of(to).is_some() && !amounts.without(turn.books.rates()).is_empty() {
            self.look_at_unsafe();
        }
        self.note_lent_changed();
        self.advance(turn);
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
        self.parties.change(tag.party(), |party| {
            let waiters = &mut party.part_mut(tag.into()).waiters;
            if begins {
                waiters.insert(slot);
            } else {
                waiters.remove(&slot);
            }
        });
    }
}
