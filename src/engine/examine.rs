//! Whether something can be granted, and if not, what keeps it.

use std::collections::BTreeMap;

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, Path, Tag, Terms};

use super::Engine;
use super::activity::Claimant;
use super::lines::Filing;
use super::queue::Asks;

impl Engine {
    /// The budget that cannot give a bundle to a waiter of this rank: the first loan that has too little beyond the
    /// hard claims of higher ranks; if none, the first such rate, as rates are tested last (R7).
    #[inline]
    pub(super) fn blocking(&self, books: &mut Books, asks: Asks<'_>, who: Claimant) -> Option<BudgetId> {
        match asks {
            Asks::One(id, units) => self.blocks(books, id, units, who).then_some(id),
            Asks::Many(amounts) => self.blocking_bundle(books, amounts, who),
        }
    }

    fn blocking_bundle(&self, books: &mut Books, amounts: &Amounts, who: Claimant) -> Option<BudgetId> {
        let rates = books.rates();
        let loans = amounts.iter().filter(|(id, _)| rates & id.bit() == 0);
        let metered = amounts.iter().filter(|(id, _)| rates & id.bit() != 0);
        loans.chain(metered).find(|&(id, units)| self.blocks(books, id, units, who)).map(|(id, _)| id)
    }

    /// Whether one budget cannot give so much to a waiter of this rank.
    #[inline]
    pub(super) fn blocks(&self, books: &mut Books, id: BudgetId, units: u64, who: Claimant) -> bool {
        if books.rates() & id.bit() != 0 {
            return self.rate_blocks(books, id, units, who);
        }
        let free = books.loan_free(id);
        free < units || (self.is_spoken_for(id) && free - units < self.left_to_others(books, id, who, free))
    }

    /// Whether anything of a budget is claimed, or kept for growth.
    #[inline]
    fn is_spoken_for(&self, id: BudgetId) -> bool {
        (self.claims.claimed() | self.reserved) & id.bit() != 0
    }

    /// What of a loan somebody of this rank has to leave to others; some number above `enough` if that is more.
    #[inline(never)]
    fn left_to_others(&self, books: &Books, id: BudgetId, who: Claimant, enough: u64) -> u64 {
        self.claimed_above(books, id, who, enough).saturating_add(self.kept(books, id, who))
    }

    /// The same of a rate.
    #[inline(never)]
    fn rate_blocks(&self, books: &mut Books, id: BudgetId, units: u64, who: Claimant) -> bool {
        let (claimed, now) = (self.claimed_above(books, id, who, u64::MAX), self.now);
        books.bucket_mut(id).is_none_or(|bucket| {
            bucket.refill(now);
            !bucket.eligible(units, claimed)
        })
    }

    /// What new requests leave for growth: nothing if nothing runs that could grow (C7).
    #[inline]
    pub(super) fn kept(&self, books: &Books, id: BudgetId, who: Claimant) -> u64 {
        let waived = self.reserved & id.bit() == 0 || who.holds != 0 || books.granted(id) == 0;
        if waived { 0 } else { self.reserves.get(&id).copied().unwrap_or(0) }
    }

    /// What higher ranks claim of a budget, as far as that binds somebody: a claim does not bind who holds what the
    /// claimant waits for, be it through other holders or for safety (R3).
    #[inline]
    pub(super) fn claimed_above(&self, books: &Books, id: BudgetId, who: Claimant, enough: u64) -> u64 {
        if who.holds == 0 {
            return self.claims.above(id, who.rank, enough);
        }
        if self.claims.claimed() & id.bit() == 0 {
            return 0;
        }
        // Many claimants wait for the same.
        let mut binding = BTreeMap::new();
        self.claims.above_if(id, who.rank, enough, |slot| {
            let awaited = self.awaited(books, slot);
            *binding.entry(awaited).or_insert_with(|| self.awaited_through(books, awaited) & who.holds == 0)
        })
    }

    /// The same for an alternative of a waiter, with the least that it would do with.
    #[inline]
    pub(super) fn blocking_filing(&self, books: &mut Books, filing: Filing) -> Option<BudgetId> {
        let who = self.claimant(filing.slot());
        self.blocking(books, self.queue.asks(filing.slot(), filing.alternative()), who)
    }

    /// Settles what an alternative that nothing blocks is granted.
    #[inline]
    pub(super) fn fit(&mut self, books: &mut Books, filing: Filing) {
        if let Some(flexible) = self.queue.flexible(filing.slot()) {
            let who = self.claimant(filing.slot());
            let chosen = self.best_rung(books, &flexible.terms, filing.alternative(), flexible.ripe, who);
            if let Some(flexible) = self.queue.flexible_mut(filing.slot()) {
                flexible.granted = chosen;
            }
        }
    }

    /// The most of an alternative that nothing blocks; its least is known not to be blocked.
    pub(super) fn best_rung(
        &self,
        books: &mut Books,
        terms: &Terms,
        alternative: u8,
        ripe: bool,
        who: Claimant,
    ) -> (Path, Amounts) {
        let Some(chosen) = terms.alternatives.get(usize::from(alternative)) else { return Default::default() };
        if !ripe {
            return (Path { alternative, rung: 0 }, chosen.want().clone());
        }
        let mut last = (0, chosen.least().clone());
        for (rung, amounts) in chosen.rungs(terms.factor) {
            last = (rung, amounts);
            let capped = self.modules.exceeds(terms.tag, &last.1).is_some();
            let free = !capped && self.blocking_bundle(books, &last.1, who).is_none();
            if free && !self.endangers(books, terms.tag, &last.1, who) {
                break;
            }
        }
        (Path { alternative, rung: last.0 }, last.1)
    }

    /// Whether the cap of its module keeps an alternative, with the least that it would do with.
    #[inline]
    pub(super) fn is_capped(&self, filing: Filing) -> bool {
        if self.modules.is_empty() {
            return false;
        }
        let amounts = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        self.modules.exceeds(self.tag(filing.slot()), &amounts).is_some()
    }

    /// The most that whoever it is could ever be granted of a budget.
    #[inline]
    pub(super) fn limit(&self, books: &Books, tag: Tag, id: BudgetId) -> u64 {
        let bound = if books.rates() & id.bit() == 0 { self.bound(tag, id) } else { u64::MAX };
        let limit = books.limit(id).min(bound);
        if self.modules.is_empty() { limit } else { limit.min(self.modules.cap(tag, id)) }
    }

    /// The most that a request that arrives now can ask for: a bounded activity no more than it has left.
    pub(super) fn limit_now(&self, books: &Books, tag: Tag, id: BudgetId) -> u64 {
        let room = if books.rates() & id.bit() == 0 { self.room(tag, id) } else { u64::MAX };
        self.limit(books, tag, id).min(room)
    }

    /// The alternatives that the budgets could ever serve, as a set.
    pub(super) fn possible(&self, books: &Books, slot: u32) -> u8 {
        let tag = self.tag(slot);
        let limits = |amounts: &Amounts| amounts.iter().all(|(id, units)| units <= self.limit(books, tag, id));
        match self.queue.flexible(slot) {
            Some(flexible) => possible_terms(&flexible.terms, limits),
            None => match self.queue.asks(slot, 0) {
                Asks::One(id, units) => u8::from(units <= books.limit(id)),
                Asks::Many(amounts) => u8::from(limits(amounts)),
            },
        }
    }
}

/// The alternatives of which `fits` says so of the least, as a set.
pub(super) fn possible_terms(terms: &Terms, fits: impl Fn(&Amounts) -> bool) -> u8 {
    let each = terms.alternatives.iter().enumerate();
    each.filter(|(_, alternative)| fits(alternative.least())).fold(0, |set, (at, _)| set | 1 << at)
}
