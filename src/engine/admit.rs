//! How requests arrive, and how dormant waiters come back.

use std::sync::Arc;

use crate::ledger::{Books, Held};
use crate::model::{Amounts, BudgetId, Path, Priority, Tag, Terms};
use crate::policy::{Rank, Shares};

use super::activity::Claimant;
use super::lines::{Filing, MOST_SLOTS};
use super::minima::Outside;
use super::queue::{Asks, Newcomer, State};
use super::{Asked, Effect, Engine, Refusal, Submitted, Turn};

/// What an arriving request came to.
enum Admitted {
    Held(Held),
    Blocked { by: Blocking, rank: Rank },
}

/// What keeps a request: a budget, and what is asked of it.
type Blocking = (BudgetId, u64);

/// The bundle of a flexible request, and how it was chosen.
type Chosen = (Path, Amounts);

impl Engine {
    /// A request arrives. Grants it at once if nothing blocks it, else queues it.
    pub fn submit(&mut self, turn: &mut Turn<'_>, asked: Asked<'_>) -> Submitted {
        let tag = tag_of(&asked);
        let submitted = self.submit_noted(turn, asked);
        self.parties.unbind(tag.party());
        submitted
    }

    fn submit_noted(&mut self, turn: &mut Turn<'_>, asked: Asked<'_>) -> Submitted {
        let (by, rank) = match self.admit(turn, &asked) {
            Err(refusal) => return Submitted::Refused(refusal),
            Ok(Admitted::Held(held)) => return Submitted::Granted(held),
            Ok(Admitted::Blocked { by, rank }) => (by, rank),
        };
        if asked.deadline == 0 {
            return Submitted::Refused(Box::new(Refusal::Late(self.short_of(turn.books, by))));
        }
        if self.is_full_for(&asked) {
            let short = self.short_of(turn.books, by);
            return Submitted::Refused(Box::new(Refusal::Full(self.waiting, short)));
        }
        Submitted::Waiting(self.enqueue(turn, asked, rank, by.0))
    }

    /// Whether no more may wait. Who comes back with its place, as work that was preempted does, was let in before
    /// (P27).
    pub(super) fn is_full_for(&self, asked: &Asked<'_>) -> bool {
        let comes_back = asked.terms.as_ref().is_some_and(|terms| terms.arrived != 0);
        self.waiting >= if comes_back { MOST_SLOTS } else { self.settings.max_waiters }
    }

    /// A request arrives that will not wait. It passes nobody that one that waits would not pass.
    ///
    /// # Errors
    /// [`Refusal::NotNow`] when something blocks it.
    pub fn try_submit(&mut self, turn: &mut Turn<'_>, asked: Asked<'_>) -> Result<Held, Box<Refusal>> {
        let admitted = self.admit(turn, &asked);
        self.parties.unbind(tag_of(&asked).party());
        match admitted? {
            Admitted::Held(held) => Ok(held),
            Admitted::Blocked { by, .. } => Err(Box::new(Refusal::NotNow(self.short_of(turn.books, by)))),
        }
    }

    fn admit(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Result<Admitted, Box<Refusal>> {
        if let Some(reason) = self.closed {
            let first = asked.amounts.iter().next().unwrap_or((BudgetId::GPU, 0));
            return Err(Box::new(Refusal::Closed(reason, self.short_of(turn.books, first))));
        }
        self.advance(turn);
        if let Some(terms) = &asked.terms {
            self.note_bound(terms);
        }
        if let Some(refusal) = self.impossible(turn.books, asked) {
            return Err(Box::new(refusal));
        }
        // Whatever an earlier turn left undone has the older right.
        self.resume(turn);
        let rank = self.rank_of(asked, self.now);
        let tag = tag_of(asked);
        let who = Claimant { rank, holds: self.parties.holds(tag.party()) };
        let chosen = match &asked.terms {
            None => self.admit_bundle(turn, asked.amounts, who).map(|()| None),
            Some(terms) => self.admit_flexibly(turn, terms, who, asked.level).map(Some),
        };
        let chosen = match chosen {
            Err(by) => return Ok(Admitted::Blocked { by, rank }),
            Ok(chosen) => chosen,
        };
        turn.books.count_immediate(asked.level);
        self.note_share(turn.books, asked);
        let set = chosen.as_ref().map_or(asked.amounts.set(), |(_, amounts)| amounts.set());
        let entry = self.entry(turn.books, tag, set, who);
        let kept = self.passed_by_entry(turn, entry);
        let held = match chosen {
            None => turn.books.take(asked.amounts, asked.level),
            Some((path, amounts)) => {
                let held = turn.books.take_flexibly(&amounts, path, tag, asked.level);
                self.parties.count_use(tag, true);
                self.gain(turn, tag, &amounts);
                if tag.preemptible {
                    self.lend(turn.books, held, arrived_of(&asked.terms, self.now));
                }
                held
            }
        };
        self.granted(turn, set, rank, &kept);
        Ok(Admitted::Held(held))
    }

    /// Whether a bundle can be granted at once, or what blocks it.
    fn admit_bundle(&mut self, turn: &mut Turn<'_>, amounts: &Amounts, who: Claimant) -> Result<(), Blocking> {
        let asks = Asks::of(amounts);
        loop {
            if let Some(at) = self.blocking(turn.books, asks, who) {
                return Err((at, asks.get(at)));
            }
            if !self.protect(turn, amounts.set(), who.rank, None) {
                return Ok(());
            }
        }
    }

    /// The first alternative that can be granted at once, or what blocks the first possible one.
    fn admit_flexibly(
        &mut self,
        turn: &mut Turn<'_>,
        terms: &Terms,
        who: Claimant,
        level: Priority,
    ) -> Result<Chosen, Blocking> {
        let mut first = None;
        for (at, alternative) in (0u8..).zip(&terms.alternatives) {
            let ripe = terms.patience == 0;
            let asks = if ripe { alternative.least() } else { alternative.want() };
            if !self.within_limits(turn.books, terms.tag, alternative.least()) {
                continue;
            }
            loop {
                if self.keeps(turn.books, terms.tag, asks, who).is_some() {
                    first = first.or(Some(asks));
                    break;
                }
                let chosen = self.best_rung(turn.books, terms, at, ripe, who);
                if self.endangers(turn.books, terms.tag, &chosen.1, who) {
                    first = first.or(Some(asks));
                    break;
                }
                let set = chosen.1.set();
                let entry = self.entry(turn.books, terms.tag, set, who);
                if !self.protect(turn, set, who.rank, entry)
                    && !self.preempts_first(turn, terms.tag, level, set, who.rank)
                {
                    return Ok(chosen);
                }
            }
        }
        // As of now: those whom a later alternative would have passed may have hardened. At least one alternative is
        // possible, or the request would have been refused.
        let mut keeps = |asks| self.keeps(turn.books, terms.tag, asks, who).or(BudgetId::first_of(asks.set()));
        let blocked = first.and_then(|asks| Some((keeps(asks)?, asks)));
        Err(blocked.map_or((BudgetId::GPU, 0), |(at, asks)| (at, asks.get(at))))
    }

    /// The cap or the budget that keeps a bundle from being granted.
    pub(super) fn keeps(&self, books: &mut Books, tag: Tag, amounts: &Amounts, who: Claimant) -> Option<BudgetId> {
        let capped = self.modules.exceeds(tag, amounts);
        capped.or_else(|| self.blocking(books, Asks::Many(amounts), who))
    }

    fn enqueue(&mut self, turn: &mut Turn<'_>, asked: Asked<'_>, rank: Rank, at: BudgetId) -> u32 {
        let outside = self.is_guaranteed(&asked).then(|| self.rank_outside(&asked, self.now));
        self.arrivals += 1;
        self.note_share(turn.books, &asked);
        let due = self.now.saturating_add(asked.deadline);
        let deadline = if Rank::is_never(due) { u64::MAX } else { due };
        let (amounts, base, since, flexible) = (asked.amounts, asked.level, self.now, asked.terms.is_some());
        let hold = asked.expected_hold;
        let slot = self.queue.insert(Newcomer { rank, base, amounts, terms: asked.terms, since, deadline });
        if let Some(holds) = &mut self.holds {
            holds.note(slot, hold);
        }
        turn.board.open(slot);
        self.start_deadline(slot);
        self.start_aging(slot, self.ages_since(slot));
        self.count(turn.books, slot);
        if flexible {
            self.start_ripening(slot);
            if let Some(rank) = outside {
                let raise_at = self.settings.aging.due(rank.level(), self.ages_since(slot));
                self.set_guaranteed(slot, Outside { rank, raise_at });
            }
            self.note_wait(slot, true);
            self.parties.count_use(self.tag(slot), true);
            self.file_all(turn, slot, None);
        } else {
            self.queue.join(Filing::new(slot, 0), at);
        }
        self.harden_if_due(turn, slot);
        slot
    }

    /// The owner of a dormant waiter polled it: it asks again, with the rank it had. What it holds, when it was granted
    /// at once.
    pub fn reactivate(&mut self, turn: &mut Turn<'_>, slot: u32) -> Option<Held> {
        self.advance(turn);
        self.resume(turn);
        if self.queue.get(slot).state != State::Dormant {
            return None;
        }
        self.dormant -= 1;
        self.renew_guarantee(slot);
        self.catch_up(slot);
        self.ripen_if_due(slot);
        let rank = self.queue.get(slot).rank;
        for alternative in 0..self.queue.alternatives(slot) {
            let filing = Filing::new(slot, alternative);
            if self.possible(turn.books, slot) & 1 << alternative == 0 || !self.settle_on(turn, filing) {
                continue;
            }
            let set = self.queue.granted(slot).set();
            let kept = self.passed_by_entry(turn, self.entry_of(turn.books, slot, set));
            let held = self.take(turn, slot, alternative);
            let waiter = self.queue.get(slot);
            let (level, waited) = (waiter.base, self.now - waiter.since);
            let budget = BudgetId::first_of(set).unwrap_or(BudgetId::GPU);
            self.effects.push(Effect::Regained { level, budget, waited });
            self.forget(slot);
            self.granted(turn, set, rank, &kept);
            return Some(held);
        }
        self.queue.get_mut(slot).state = State::Waiting;
        self.resume_aging(slot);
        self.start_ripening(slot);
        self.note_wait(slot, true);
        self.count(turn.books, slot);
        self.file_all(turn, slot, None);
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.claiming = None;
        }
        self.claim_again(turn, slot);
        None
    }

    /// Whether an alternative can be granted now; notes what it gets. Hardens on the way those whom it may not pass.
    pub(super) fn settle_on(&mut self, turn: &mut Turn<'_>, filing: Filing) -> bool {
        let rank = self.queue.get(filing.slot()).rank;
        loop {
            if self.is_capped(filing) || self.blocking_filing(turn.books, filing).is_some() {
                return false;
            }
            self.fit(turn.books, filing);
            if self.grant_endangers(turn.books, filing.slot()) {
                return false;
            }
            let set = self.queue.granted(filing.slot()).set();
            let level = self.queue.get(filing.slot()).base;
            if !self.protect(turn, set, rank, self.entry_of(turn.books, filing.slot(), set))
                && !self.preempts_first(turn, self.tag(filing.slot()), level, set, rank)
            {
                return true;
            }
        }
    }

    /// Makes a waiter count: sets the flags of every budget it names (R1).
    fn count(&mut self, books: &mut Books, slot: u32) {
        let set = self.queue.set(slot);
        for id in BudgetId::in_set(set) {
            self.naming[id.index()] += 1;
        }
        if set & !books.shut() != 0 {
            books.set_shut(set, true);
        }
        self.waiting += 1;
        self.waiting_at[self.queue.get(slot).base.index()] += 1;
    }

    /// Files every alternative that is possible and stands nowhere, and takes out those that are possible no more. One
    /// that nothing blocks, which only a new limit of a budget brings about, stands in the line of that budget.
    pub(super) fn file_all(&mut self, turn: &mut Turn<'_>, slot: u32, changed: Option<BudgetId>) {
        let possible = self.possible(turn.books, slot);
        for alternative in 0..self.queue.alternatives(slot) {
            let filing = Filing::new(slot, alternative);
            if possible & 1 << alternative == 0 {
                self.leave(filing);
                self.let_go(filing);
            } else if self.keeper(filing).is_some() || self.queue.place(filing).is_some() {
                continue;
            } else if self.is_capped(filing) {
                self.keep_out(filing);
            } else if let Some(at) =
                self.blocking_filing(turn.books, filing).or_else(|| self.unsafe_place(turn.books, filing)).or(changed)
            {
                self.join(filing, at);
            }
        }
    }

    /// What follows from every grant: whom it passes, of those whom safety keeps these, and whose turn it was.
    #[inline]
    pub(super) fn granted(&mut self, turn: &mut Turn<'_>, set: u64, rank: Rank, kept: &[u32]) {
        self.count_passes(turn, set, rank, kept);
        self.served(rank);
    }

    /// Whose turn it was.
    #[inline]
    pub(super) fn served(&mut self, rank: Rank) {
        if let Some(shares) = &mut self.shares {
            shares.served(rank);
        }
    }

    /// Whether a request is wholly inside what its module has not used of its minimum.
    fn is_guaranteed(&self, asked: &Asked<'_>) -> bool {
        asked.terms.as_ref().is_some_and(|terms| self.modules.is_inside_minimum(terms.tag, asked.amounts))
    }

    /// The rank of a request that arrives now.
    #[inline]
    pub(super) fn rank_of(&self, asked: &Asked<'_>, now: u64) -> Rank {
        if self.is_guaranteed(asked) {
            return Engine::guaranteed_rank(self.arrivals + 1);
        }
        self.rank_outside(asked, now)
    }

    /// The same, whatever minimum its module has.
    #[inline]
    fn rank_outside(&self, asked: &Asked<'_>, now: u64) -> Rank {
        let arrived = arrived_of(&asked.terms, now);
        let order_by = match &self.shares {
            // Growth goes before admission at equal priority (C7).
            _ if asked.terms.as_ref().is_some_and(|terms| terms.grows) => 0,
            Some(shares) => {
                let name = asked.module.or_else(|| self.modules.name(tag_of(asked).module));
                shares.start(asked.level, name)
            }
            // Deadlines end waits, but do not order them.
            None if asked.deadline == u64::MAX || self.holds.is_some() => {
                arrived.saturating_add(self.settings.aging.horizon)
            }
            None => now.saturating_add(asked.deadline),
        };
        Rank::new(asked.level, order_by, self.arrivals + 1)
    }

    /// Charges the share of a module for a request that was not refused.
    #[inline]
    fn note_share(&mut self, books: &Books, asked: &Asked<'_>) {
        if self.shares.is_some() {
            self.charge_share(books, asked);
        }
    }

    /// The same where there are shares.
    #[inline(never)]
    fn charge_share(&mut self, books: &Books, asked: &Asked<'_>) {
        // What can never be had is not charged.
        let possible = |terms: &Terms| {
            let mut all = terms.alternatives.iter();
            all.find(|each| self.within_limits(books, terms.tag, each.least())).map(|each| each.want().clone())
        };
        let amounts = asked.terms.as_ref().and_then(|terms| possible(terms)).unwrap_or_else(|| asked.amounts.clone());
        if let Some(shares) = &mut self.shares {
            let part = |(id, units): (BudgetId, u64)| {
                u128::from(units) * u128::from(Shares::WHOLE) / u128::from(books.limit(id).max(1))
            };
            let cost = amounts.iter().map(part).max().unwrap_or(0).min(u128::from(Shares::WHOLE));
            let tag = asked.terms.as_ref().map_or(Tag::NOBODY, |terms| terms.tag);
            // Growth names none, but its lease is of one.
            let name = asked.module.or_else(|| self.modules.name(tag.module));
            shares.charge(asked.level, name, cost, self.modules.weight(tag.module));
        }
    }

    /// Why a request can never be granted, if that is so.
    #[inline]
    pub(super) fn impossible(&self, books: &mut Books, asked: &Asked<'_>) -> Option<Refusal> {
        // A plain request belongs to nobody, so nothing but the budgets limits it.
        let fits = |amounts: &Amounts| amounts.iter().all(|(id, units)| units <= books.limit(id));
        let plain = asked.terms.is_none() && asked.amounts.set() & !books.budgets() == 0;
        if plain && fits(asked.amounts) { None } else { self.why_impossible(books, asked) }
    }

    /// The same, for whomever it is.
    #[inline(never)]
    fn why_impossible(&self, books: &mut Books, asked: &Asked<'_>) -> Option<Refusal> {
        let set = asked.terms.as_ref().map_or(asked.amounts.set(), |terms| terms.set());
        if let Some(unknown) = BudgetId::first_of(set & !books.budgets()) {
            return Some(Refusal::UnknownBudget(unknown));
        }
        let tag = tag_of(asked);
        let fits = |amounts: &Amounts| amounts.iter().all(|(id, units)| units <= self.limit_now(books, tag, id));
        let (first, possible) = match &asked.terms {
            None => (asked.amounts, fits(asked.amounts)),
            Some(terms) => {
                let first = terms.alternatives.first().map_or(asked.amounts, |first| first.least());
                (first, terms.alternatives.iter().any(|each| fits(each.least())))
            }
        };
        if possible {
            return None;
        }
        Some(Refusal::NeverFits(self.above_limit(books, first, |books, id| self.limit_now(books, tag, id))))
    }

    /// Whether every budget could ever give so much at once.
    #[inline]
    fn within_limits(&self, books: &Books, tag: Tag, amounts: &Amounts) -> bool {
        amounts.iter().all(|(id, units)| units <= self.limit(books, tag, id))
    }
}

/// When a request arrived: now, or when its work first did.
fn arrived_of(terms: &Option<Arc<Terms>>, now: u64) -> u64 {
    let before = terms.as_ref().map_or(0, |terms| terms.arrived);
    if before == 0 { now } else { before.min(now) }
}

/// Whom a request is for.
fn tag_of(asked: &Asked<'_>) -> Tag {
    asked.terms.as_ref().map_or(Tag::NOBODY, |terms| terms.tag)
}
