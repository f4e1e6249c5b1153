//! Whether something can be granted, and if not, what keeps it.

use crate::ledger::Books;
use crate::model::{Amounts, BudgetId, Path, Terms};
use crate::policy::Rank;

use super::Engine;
use super::lines::Filing;
use super::queue::Asks;

impl Engine {
    /// The budget that cannot give a bundle to a waiter of this rank: the first loan that has too little beyond the
    /// hard claims of higher ranks; if none, the first such rate, as rates are tested last (R7).
    #[inline]
    pub(super) fn blocking(&self, books: &mut Books, asks: Asks<'_>, rank: Rank) -> Option<BudgetId> {
        match asks {
            Asks::One(id, units) => self.blocks(books, id, units, rank).then_some(id),
            Asks::Many(amounts) => self.blocking_bundle(books, amounts, rank),
        }
    }

    fn blocking_bundle(&self, books: &mut Books, amounts: &Amounts, rank: Rank) -> Option<BudgetId> {
        let rates = books.rates();
        let loans = amounts.iter().filter(|(id, _)| rates & id.bit() == 0);
        let metered = amounts.iter().filter(|(id, _)| rates & id.bit() != 0);
        loans.chain(metered).find(|&(id, units)| self.blocks(books, id, units, rank)).map(|(id, _)| id)
    }

    /// Whether one budget cannot give so much to a waiter of this rank.
    #[inline]
    pub(super) fn blocks(&self, books: &mut Books, id: BudgetId, units: u64, rank: Rank) -> bool {
        if books.rates() & id.bit() != 0 {
            let (claimed, now) = (self.claims.above(id, rank, u64::MAX), self.now);
            return books.bucket_mut(id).is_none_or(|bucket| {
                bucket.refill(now);
                !bucket.eligible(units, claimed)
            });
        }
        let free = books.loan_free(id);
        free < units || free - units < self.claims.above(id, rank, free)
    }

    /// The same for an alternative of a waiter, with the least that it would do with.
    #[inline]
    pub(super) fn blocking_filing(&self, books: &mut Books, filing: Filing) -> Option<BudgetId> {
        let rank = self.queue.get(filing.slot()).rank;
        self.blocking(books, self.queue.asks(filing.slot(), filing.alternative()), rank)
    }

    /// Settles what an alternative that nothing blocks is granted.
    #[inline]
    pub(super) fn fit(&mut self, books: &mut Books, filing: Filing) {
        if let Some(flexible) = self.queue.flexible(filing.slot()) {
            let rank = self.queue.get(filing.slot()).rank;
            let chosen = self.best_rung(books, &flexible.terms, filing.alternative(), flexible.ripe, rank);
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
        rank: Rank,
    ) -> (Path, Amounts) {
        let Some(chosen) = terms.alternatives.get(usize::from(alternative)) else { return Default::default() };
        if !ripe {
            return (Path { alternative, rung: 0 }, chosen.want().clone());
        }
        let mut last = (0, chosen.least().clone());
        for (rung, amounts) in chosen.rungs(terms.factor) {
            last = (rung, amounts);
            if self.blocking_bundle(books, &last.1, rank).is_none() {
                break;
            }
        }
        (Path { alternative, rung: last.0 }, last.1)
    }

    /// The alternatives that the budgets could ever serve, as a set.
    pub(super) fn possible(&self, books: &Books, slot: u32) -> u8 {
        let limits = |amounts: &Amounts| amounts.iter().all(|(id, units)| units <= books.limit(id));
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
