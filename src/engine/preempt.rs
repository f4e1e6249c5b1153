//! Preemption (C8): leases that said they can end early are asked to, so that a higher level can go on.
//!
//! When the first in some line waits for units, and leases of lower levels that are marked preemptible hold enough of
//! them, a smallest set of these (`policy::victims`) is asked to end within `grace`. Meanwhile the beneficiary goes
//! first in its level and its claim is hard, so that what comes back gathers for it and only a higher level may take it
//! (R13). There is one such set at a time. It is done when the beneficiary waits no more, when all have ended, or when
//! the scheduler task finds that the grace is over; whoever has not ended then is overdue: it is reported, and never
//! asked again.
//!
//! * Whom to ask is looked for at the end of every turn that looked at all that it had to, for the first few in each
//!   line in order of rank. What such a filing lacks is what it would do with, less what is free beyond the claims of
//!   higher ranks and the reserve for growth, and less what those hold who were asked before and still have time.
//! * A lease that may be asked is not granted past somebody who would ask for it in the same turn: that one asks first,
//!   and its claim is what keeps the other (P43).
//! * Levels are those of requests, or inherited, never aged (R8): a holder asks for the highest level among its request
//!   and those that wait, directly or through other holders, for what its activity holds. Equals do not preempt, and
//!   nobody is asked to end for what its own activity waits for.
//! * A waiter inside the unused minimum of its module may also ask leases of other modules that are not critical, for
//!   what was lent to these (R9): the last to be asked of a module's leases, by which it has more than its minimum.
//!   What is left of the module is never less than that.
//! * A bounded activity (`avoid`), which may have to wait although there is enough, also asks such activities of lower
//!   levels by which it would not be safe to serve it. Where nothing but safety keeps it, it has no claim (R9).
//! * A part that is split off a lease is as old as the whole, and was asked if that was. What a lease takes in is asked
//!   if that lease is.
//!
//! The place and the claim stay with the beneficiary for as long as it waits, also when the grace is over and nobody
//! has ended. What was asked for it may still come back, and to take them away again would hand what some of a set gave
//! up to somebody who asked nobody for it, just before others are asked to make up for it. Others lose no more by it
//! than they do to anybody who was passed too often (R2, R3): a claim holds nothing, keeps no holder from going on, and
//! ends with the wait; and every grace makes one such claim at most. If the beneficiary rises by waiting, it comes to
//! its place in the new level: whoever goes before it there was above it before.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::{Books, Held};
use crate::model::{Amounts, BudgetId, Priority, Seniority, Tag};
use crate::policy::{Aging, Candidate, Rank, choose_victims};

use super::borrowed::Borrowed;
use super::lines::Filing;
use super::queue::State;
use super::reach::{Order, Reach};
use super::{Effect, Engine, Turn};

/// In how many leases the search for victims looks; those of lowest level and least age.
const CANDIDATES: usize = 1_024;

/// How many in each line are asked whether somebody could give way to them, if those in front cannot be helped; and
/// count among those who wait for what a holder has.
const HEADS: usize = 8;

/// How a preemptible lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Nobody has asked for it.
    Quiet,
    /// It was asked to end by then, for this level.
    Asked { by: Priority, until: u64 },
}

/// A preemptible lease. What it holds, and for whom, is in the books.
#[derive(Debug, Clone, Copy)]
struct Lent {
    held: Held,
    /// The number of its grant; a part that was split off is as old as the whole.
    granted: u64,
    /// Its own number: grants and parts are counted together.
    number: u64,
    /// When its request arrived.
    arrived: u64,
    standing: Standing,
}

/// Who was asked to end, and for whom.
#[derive(Debug)]
struct Underway {
    slot: u32,
    /// Tells the beneficiary from a later waiter in its slot.
    arrival: u64,
    until: u64,
    victims: Vec<u32>,
}

/// All preemptible leases, by place.
#[derive(Debug, Default)]
pub(super) struct Preemption {
    lent: BTreeMap<u32, Lent>,
    /// Those that nobody has asked, the least urgent and youngest first.
    quiet: BTreeSet<Order>,
    /// The others.
    asked: BTreeSet<u32>,
    underway: Option<Underway>,
    /// What those hold whom nobody has asked; found anew once what any of them holds has changed.
    reach: Option<Reach>,
    /// Grants and parts so far.
    made: u64,
}

impl Preemption {
    /// When the grace of those who were asked is over.
    pub(super) fn due(&self) -> u64 {
        self.underway.as_ref().map_or(u64::MAX, |underway| underway.until)
    }

    /// A lease is there that may be asked. `part_of`: the number of the grant that it is a part of.
    fn enter(&mut self, books: &Books, held: Held, arrived: u64, part_of: Option<u64>) {
        if let Some(place) = held.place() {
            self.made += 1;
            let (number, granted) = (self.made, part_of.unwrap_or(self.made));
            let lent = Lent { held, granted, number, arrived, standing: Standing::Quiet };
            self.quiet.insert(lent.order(place));
            self.count(books, &lent, place, true);
            self.lent.insert(place, lent);
        }
    }

    /// Notes that a lease was asked to end. Its level, if there is such a lease.
    fn ask(&mut self, books: &Books, place: u32, standing: Standing) -> Option<Priority> {
        let lent = self.lent.get_mut(&place)?;
        lent.standing = standing;
        let lent = *lent;
        if self.quiet.remove(&lent.order(place)) {
            self.count(books, &lent, place, false);
        }
        self.asked.insert(place);
        Some(lent.held.level())
    }

    /// A lease is one of those that nobody has asked, or is no more.
    fn count(&mut self, books: &Books, lent: &Lent, place: u32, more: bool) {
        let Some((reach, amounts)) = self.reach.as_mut().zip(books.placed(lent.held)) else { return };
        if more { reach.add(lent.order(place), amounts) } else { reach.take(lent.order(place), amounts) }
    }
}

impl Lent {
    /// Where it stands among those that nobody has asked.
    fn order(&self, place: u32) -> Order {
        (Reverse(self.held.level()), Reverse((self.granted, self.number)), place)
    }
}

impl Engine {
    /// When the request of a waiter arrived, or its work first did.
    pub(super) fn arrived(&self, slot: u32) -> u64 {
        let since = self.queue.get(slot).since;
        let before = self.queue.flexible(slot).map_or(0, |flexible| flexible.terms.arrived);
        if before == 0 { since } else { before.min(since) }
    }

    /// The place in the queue of whoever has a slot that is in use, with the levels that it has gained there.
    pub(crate) fn seniority(&self, slot: u32) -> Option<Seniority> {
        self.queue.find(slot)?;
        Some(Seniority { waits_since: self.ages_since(slot), ..Seniority::since(self.arrived(slot)) })
    }

    /// A preemptible lease was granted to a request that arrived then.
    pub(super) fn lend(&mut self, books: &Books, held: Held, arrived: u64) {
        self.preemption.enter(books, held, arrived, None);
    }

    /// A part of a preemptible lease was split off. It is as old as the whole, and what was asked of that is asked of
    /// it too.
    pub fn lend_part(&mut self, turn: &Turn<'_>, of: Held, part: Held) {
        let Some(whole) = of.place().and_then(|place| self.preemption.lent.get(&place)) else { return };
        let (arrived, granted, standing) = (whole.arrived, whole.granted, whole.standing);
        self.preemption.enter(turn.books, part, arrived, Some(granted));
        let Some(place) = part.place().filter(|_| standing != Standing::Quiet) else { return };
        self.preemption.ask(turn.books, place, standing);
        if let Some(underway) = &mut self.preemption.underway
            && of.place().is_some_and(|of| underway.victims.contains(&of))
        {
            underway.victims.push(place);
        }
    }

    /// What some lease holds has changed, or whom it belongs to.
    #[inline]
    pub(super) fn note_lent_changed(&mut self) {
        self.preemption.reach = None;
    }

    /// Nobody will ever end a lease.
    pub fn forgotten(&mut self, turn: &mut Turn<'_>, held: Held) {
        self.unlend(turn.books, held);
        self.advance(turn);
    }

    /// A lease is no more, or will not be in a moment: it is still in the books.
    #[inline]
    pub(super) fn unlend(&mut self, books: &Books, held: Held) {
        if !self.preemption.lent.is_empty()
            && let Some(place) = held.place()
            && let Some(lent) = self.preemption.lent.remove(&place)
        {
            if self.preemption.quiet.remove(&lent.order(place)) {
                self.preemption.count(books, &lent, place, false);
            }
            if self.preemption.asked.remove(&place) {
                // Its place may be another's by the time that anybody is told.
                self.effects.retain(|effect| !matches!(effect, Effect::Revoke { place: of, .. } if *of == place));
            }
            if let Some(underway) = &mut self.preemption.underway {
                underway.victims.retain(|&victim| victim != place);
            }
        }
    }

    /// When the request of a preemptible lease arrived.
    pub fn lent_since(&self, held: Held) -> Option<u64> {
        Some(self.preemption.lent.get(&held.place()?)?.arrived)
    }

    /// How long those that were asked have, in nanoseconds.
    pub fn grace(&self) -> u64 {
        self.settings.grace
    }

    /// How waiters gain levels.
    pub(crate) fn aging(&self) -> Aging {
        self.settings.aging
    }

    /// For which level a lease was asked to end, until when, and when its request arrived. `None` while it was not.
    pub fn revocation(&self, held: Held) -> Option<(Priority, u64, u64)> {
        let lent = self.preemption.lent.get(&held.place()?)?;
        match lent.standing {
            Standing::Quiet => None,
            Standing::Asked { by, until } => Some((by, until, lent.arrived)),
        }
    }

    /// Asks whoever has to give way, if nobody is on the way already. Whether it asked anybody.
    #[inline]
    pub(super) fn preempt(&mut self, turn: &mut Turn<'_>) -> bool {
        let Preemption { underway, quiet, .. } = &self.preemption;
        let concerned = underway.is_some() || (!quiet.is_empty() && self.waiting > 0);
        concerned && self.preempt_for_heads(turn)
    }

    #[cold]
    fn preempt_for_heads(&mut self, turn: &mut Turn<'_>) -> bool {
        let found = self.first_to_be_helped(turn, |_| true);
        found.is_some_and(|(filing, victims)| {
            self.ask_to_end(turn, filing, victims);
            true
        })
    }

    /// Before a lease that may be asked is granted past others: if it would be asked at once, as the first of them that
    /// can be helped needs what it takes, others are asked now, and it waits (P43). Whether anybody was.
    #[inline]
    pub(super) fn preempts_first(
        &mut self,
        turn: &mut Turn<'_>,
        tag: Tag,
        level: Priority,
        set: u64,
        rank: Rank,
    ) -> bool {
        tag.preemptible
            && !self.preemption.quiet.is_empty()
            && self.waiting > 0
            && self.preempt_for_passed(turn, tag, level, set, rank)
    }

    #[cold]
    fn preempt_for_passed(&mut self, turn: &mut Turn<'_>, tag: Tag, level: Priority, set: u64, rank: Rank) -> bool {
        let found = self.first_to_be_helped(turn, |before| before < rank);
        let would_ask = |filing: Filing| {
            let needs = self.queue.asks(filing.slot(), filing.alternative()).set() & set != 0;
            let own = tag.activity != 0 && tag.party() == self.tag(filing.slot()).party();
            needs && !own && level > self.unaged_level(filing.slot())
        };
        found.filter(|&(filing, _)| would_ask(filing)).is_some_and(|(filing, victims)| {
            self.ask_to_end(turn, filing, victims);
            true
        })
    }

    /// The first of the heads that rank so for whom somebody has to end, and who; unless others are on the way.
    fn first_to_be_helped(&mut self, turn: &mut Turn<'_>, counts: impl Fn(Rank) -> bool) -> Option<(Filing, Vec<u32>)> {
        if self.preemption.underway.as_ref().is_some_and(|underway| self.goes_on(underway)) {
            return None;
        }
        self.preemption.underway = None;
        if self.preemption.quiet.is_empty() {
            return None;
        }
        let budgets = BudgetId::in_set(turn.books.budgets());
        let heads = budgets.flat_map(|id| self.first_in(id)).filter(|&(rank, _)| counts(rank));
        let mut heads: Vec<(Rank, Filing)> = heads.filter(|(_, filing)| self.may_ask(filing.slot())).collect();
        if !heads.is_empty() && self.preemption.reach.is_none() {
            self.preemption.reach = Some(self.reach(turn.books));
        }
        #[cfg(debug_assertions)]
        self.assert_reach(turn.books);
        heads.sort_unstable_by_key(|&(rank, filing)| (rank, filing.alternative()));
        heads.into_iter().find_map(|(_, filing)| Some((filing, self.victims_for(turn, filing)?)))
    }

    /// Whether anybody is there whom a waiter may ask. Nobody is, as a rule.
    fn may_ask(&self, slot: u32) -> bool {
        let guaranteed = self.has_guarantee(slot);
        let last = self.preemption.quiet.first().map(|&(Reverse(level), ..)| level);
        last.is_some_and(|last| guaranteed || last > self.unaged_level(slot))
    }

    /// How much could come back at most.
    fn reach(&self, books: &Books) -> Reach {
        let mut reach = Reach::default();
        for &order in &self.preemption.quiet {
            let (.., place) = order;
            if let Some(amounts) = self.preemption.lent.get(&place).and_then(|lent| books.placed(lent.held)) {
                reach.add(order, amounts);
            }
        }
        reach
    }

    #[cfg(debug_assertions)]
    fn assert_reach(&self, books: &Books) {
        if self.preemption.lent.len() <= 64
            && let Some(reach) = &self.preemption.reach
        {
            assert_eq!(*reach, self.reach(books), "what those hold whom nobody has asked");
        }
    }

    /// Whether those who were asked are still to be waited for.
    fn goes_on(&self, underway: &Underway) -> bool {
        let waits = |slot| self.queue.find(slot).is_some_and(|waiter| waiter.state == State::Waiting);
        !underway.victims.is_empty()
            && waits(underway.slot)
            && self.queue.get(underway.slot).rank.arrival() == underway.arrival
    }

    /// Who has to end so that a filing can be served. Rates come back by themselves.
    fn victims_for(&self, turn: &mut Turn<'_>, filing: Filing) -> Option<Vec<u32>> {
        let slot = filing.slot();
        let level = self.unaged_level(slot);
        let guaranteed = self.has_guarantee(slot);
        let in_question = |&(Reverse(of), ..): &Order| guaranteed || of > level;
        let (books, own) = (&*turn.books, self.tag(slot));
        let mut lacks = self.missing_loans(books, filing);
        let mut borrowed = Borrowed::new(&self.modules);
        // What others were asked for and have not given back yet is on its way.
        for (tag, amounts) in self.coming_back(books) {
            lacks.iter_mut().for_each(|(id, units)| *units = units.saturating_sub(amounts.get(*id)));
            borrowed.give_back(tag, amounts);
        }
        lacks.retain(|&(_, units)| units > 0);
        if lacks.is_empty() {
            return self.until_safe(books, filing, &lacks, Vec::new());
        }
        let below = if guaranteed { Priority::Critical } else { level };
        let reach = self.preemption.reach.as_ref().filter(|reach| reach.has(&lacks, below))?;
        let candidate = |(Reverse(of), Reverse((granted, _)), place): Order| {
            let held = self.preemption.lent.get(&place)?.held;
            let (tag, amounts) = (books.tag(held), books.placed(held)?);
            let mut lacking = lacks.iter().map(|&(id, _)| id).filter(|&id| amounts.get(id) > 0);
            let lent = guaranteed && of > Priority::Critical && tag.module != own.module;
            let lent = lent && lacking.any(|id| borrowed.is_any(tag, id));
            if guaranteed {
                borrowed.give_back(tag, amounts);
            }
            // Nobody ends for what itself waits for.
            let own_activity = own.activity != 0 && tag.party() == own.party();
            let gives_way = !own_activity && (of > level || lent);
            gives_way.then_some((place, Candidate { level: of, granted, amounts }))
        };
        let found = reach.holding(&lacks).take_while(in_question).filter_map(candidate).take(CANDIDATES);
        let (places, candidates): (Vec<_>, Vec<_>) = found.unzip();
        let chosen = choose_victims(&lacks, &candidates)?;
        self.until_safe(books, filing, &lacks, chosen.into_iter().map(|at| places[at]).collect())
    }

    /// Who has to end so that a filing can be served, if these give it what it lacks: also those bounded activities by
    /// which it is not safe (`avoid`), in the same order; and nobody who is not needed then. `None` if nobody need end,
    /// or if it could not have it whoever did.
    fn until_safe(
        &self,
        books: &Books,
        filing: Filing,
        lacks: &[(BudgetId, u64)],
        mut victims: Vec<u32>,
    ) -> Option<Vec<u32>> {
        if !self.filing_endangers(books, filing) {
            return Some(victims).filter(|victims| !victims.is_empty());
        }
        let (level, own) = (self.unaged_level(filing.slot()), self.tag(filing.slot()));
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        // Nobody's end would let it in.
        if self.is_kept_out(books, own, &asks, self.claimant(filing.slot())) {
            return None;
        }
        let lease = |place: u32| {
            let held = self.preemption.lent.get(&place)?.held;
            Some((books.tag(held), books.placed(held)?))
        };
        let ended = |victims: &[u32]| -> Vec<(Tag, &Amounts)> { victims.iter().filter_map(|&at| lease(at)).collect() };
        let coming: Vec<(Tag, &Amounts)> = self.coming_back(books).collect();
        let is_safe =
            |victims: &[u32]| self.is_safe_without(books, own, &asks, &[&coming[..], &ended(victims)].concat());
        let others = |&place: &u32| {
            let bounded = |(tag, _): (Tag, _)| tag.party() != own.party() && self.bound_of(tag).is_some();
            !victims.contains(&place) && lease(place).is_some_and(bounded)
        };
        let below = self.preemption.quiet.iter().take_while(|&&(Reverse(of), ..)| of > level);
        let more: Vec<u32> = below.map(|&(.., place)| place).filter(others).take(CANDIDATES).collect();
        if !is_safe(&[&victims[..], &more].concat()) {
            return None;
        }
        for place in more {
            if is_safe(&victims) {
                break;
            }
            victims.push(place);
        }
        let has = |victims: &[u32], id| ended(victims).iter().map(|(_, held)| u128::from(held.get(id))).sum::<u128>();
        for place in victims.clone().into_iter().rev() {
            let others: Vec<u32> = victims.iter().copied().filter(|&other| other != place).collect();
            if lacks.iter().all(|&(id, units)| has(&others, id) >= u128::from(units)) && is_safe(&others) {
                victims = others;
            }
        }
        Some(victims).filter(|victims| !victims.is_empty())
    }

    /// Whom those belong to, and what they hold, that were asked and still have time.
    fn coming_back<'a>(&'a self, books: &'a Books) -> impl Iterator<Item = (Tag, &'a Amounts)> {
        let asked = self.preemption.asked.iter().filter_map(|place| self.preemption.lent.get(place));
        let in_time = |lent: &&Lent| matches!(lent.standing, Standing::Asked { until, .. } if until > self.now);
        asked.filter(in_time).filter_map(|lent| Some((books.tag(lent.held), books.placed(lent.held)?)))
    }

    /// What a filing lacks of each loan, beyond what higher ranks claim. Rates come back by themselves.
    fn missing_loans(&self, books: &Books, filing: Filing) -> Vec<(BudgetId, u64)> {
        let who = self.claimant(filing.slot());
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle().without(books.rates());
        let lack = |(id, units): (BudgetId, u64)| {
            let kept = self.claimed_above(books, id, who, u64::MAX).saturating_add(self.kept(books, id, who));
            // Nothing is free of a loan that is overdrawn.
            let lack = units.saturating_add(kept).saturating_sub(books.free(id));
            (id, lack.saturating_add(books.deficit(id)))
        };
        asks.iter().map(lack).collect()
    }

    /// The highest level of a waiter's request and of those that wait, directly or through other holders, for what its
    /// activity holds. What anybody has gained by waiting does not count (R8).
    fn unaged_level(&self, slot: u32) -> Priority {
        let mut level = self.queue.get(slot).base;
        let mut awaited = self.claimant(slot).holds;
        let mut seen = 0;
        while let Some(id) = BudgetId::first_of(awaited & !seen) {
            seen |= id.bit();
            for (_, filing) in self.first_in(id) {
                level = level.min(self.queue.get(filing.slot()).base);
                awaited |= self.claimant(filing.slot()).holds;
            }
        }
        level
    }

    /// The first few in a line, which are those that count here.
    fn first_in(&self, id: BudgetId) -> impl Iterator<Item = (Rank, Filing)> {
        let next =
            move |&(rank, filing): &(Rank, Filing)| self.queue.next(id, (rank, filing.alternative()), Some(filing));
        std::iter::successors(self.queue.head(id), next).take(HEADS)
    }

    fn ask_to_end(&mut self, turn: &mut Turn<'_>, filing: Filing, victims: Vec<u32>) {
        let slot = filing.slot();
        let by = self.unaged_level(slot);
        let until = self.now.saturating_add(self.settings.grace);
        for place in &victims {
            if let Some(level) = self.preemption.ask(turn.books, *place, Standing::Asked { by, until }) {
                self.effects.push(Effect::Revoke { place: *place, level, by });
            }
        }
        // First in its level: an equal with an earlier deadline may not take what others give up for it. Who is served
        // from a minimum stays behind all that are critical (R9).
        let own = self.own_rank(slot);
        let first = Rank::new(own.level(), 0, own.arrival());
        let guaranteed = self.has_guarantee(slot);
        if !guaranteed {
            self.set_own_rank(slot, first);
        }
        // Its claim is on what they give back.
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.claiming = Some(filing);
        }
        if self.queue.get(slot).hard {
            self.renew_claim(turn, slot);
        } else {
            self.harden(turn, slot);
            if !self.queue.get(slot).hard {
                self.soften(slot);
            }
        }
        let arrival = self.queue.get(slot).rank.arrival();
        self.preemption.underway = Some(Underway { slot, arrival, until, victims });
    }

    /// The grace of those who were asked is over: whoever has not ended is overdue, and others may be asked.
    pub(super) fn end_grace(&mut self) {
        if self.preemption.due() <= self.now
            && let Some(underway) = self.preemption.underway.take()
            && self.goes_on(&underway)
        {
            for place in underway.victims {
                if let Some(lent) = self.preemption.lent.get(&place) {
                    self.effects.push(Effect::Overdue { place, level: lent.held.level() });
                }
            }
        }
    }
}
