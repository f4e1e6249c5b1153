//! Protected bypass (C3, R4): who fits may pass who does not, but not too often and not for too long.
//!
//! A waiter is *passed* by a grant to a lower rank that takes units of a budget in whose line the waiter stands, as one
//! of the first `look_ahead` there, and by having to stand in another line: somebody took there what it lacks now. Who
//! that was is not known any more; if it was a higher rank, the claim hardens a little early.
//! After `bypass_limit` passes, or at the first attempt to pass it `bypass_time` after the first, its claim is *hard*:
//! lower ranks can take of the budgets of its bundle only what lies beyond it.
//!
//! So a waiter is passed at most `bypass_limit` times, whatever arrives, from when it is among the first `look_ahead`
//! of its line. Those in front of it are passed no more often, and each takes its claim first. With holds of at most H
//! and nobody of higher rank arriving, a waiter with n in front of it in line has started after at most `bypass_time +
//! (n + 1) H` from the first pass, or earlier when the limit is reached first: then nothing but what they wait for is
//! taken, and all of it has come back after one H each.
//!
//! While nothing but safety keeps a waiter (`avoid`), units do not help it, and it claims none. What delays it then is
//! that bounded activities begin: those pass it, and those it keeps out when it may be passed no more (`entry`, which
//! has the bound). Other grants are counted as ever, and delay it by nothing but the time until what they took has come
//! back: it claims that as soon as it is short of it. Neither bound holds while nothing but the cap of its module keeps
//! a waiter: it claims nothing then, and can be passed for as long as others are served whom that does not keep.

use crate::model::BudgetId;
use crate::policy::Rank;

use super::entry::Entry;
use super::lines::Filing;
use super::queue::State;
use super::{Engine, Turn};

impl Engine {
    /// Whether a grant of these budgets to this rank passes anybody.
    #[inline]
    pub(super) fn passes_somebody(&self, set: u64, rank: Rank) -> bool {
        BudgetId::in_set(set).any(|id| self.queue.head(id).is_some_and(|(first, _)| first < rank))
    }

    /// Those whom a grant of these budgets to this rank passes, with those whom safety keeps, each once. The first come
    /// first: their claims are part of what keeps the others.
    fn passed_by(&self, set: u64, rank: Rank, kept: &[u32]) -> Vec<u32> {
        let mut passed: Vec<(Rank, u32)> = kept.iter().map(|&slot| (self.queue.get(slot).rank, slot)).collect();
        for id in BudgetId::in_set(set) {
            let mut next = self.queue.head(id);
            for _ in 0..self.settings.look_ahead {
                let Some((first, filing)) = next.filter(|&(first, _)| first < rank) else { break };
                passed.push((first, filing.slot()));
                next = self.queue.next(id, (first, filing.alternative()), Some(filing));
            }
        }
        passed.sort_unstable();
        passed.dedup();
        passed.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Before a grant: hardens the claims of those whom it would pass and who may be passed no more. Whether there were
    /// any; the grant then has to be looked at again.
    #[inline]
    pub(super) fn protect(&mut self, turn: &mut Turn<'_>, set: u64, rank: Rank, entry: Option<Entry>) -> bool {
        (entry.is_some() || self.passes_somebody(set, rank)) && self.protect_passed(turn, set, rank, entry)
    }

    fn protect_passed(&mut self, turn: &mut Turn<'_>, set: u64, rank: Rank, entry: Option<Entry>) -> bool {
        let kept = self.passed_by_entry(turn, entry);
        let mut changed = false;
        for slot in self.passed_by(set, rank, &kept) {
            let before = *self.queue.get(slot);
            let late = before.passes > 0 && self.now >= before.first_pass.saturating_add(self.settings.bypass_time);
            if !before.hard && (before.passes >= self.settings.bypass_limit || late) {
                self.harden(turn, slot);
                changed |= self.queue.get(slot).hard || !before.spent;
            }
        }
        changed
    }

    /// After a grant: counts it against those whom it passed.
    #[inline]
    pub(super) fn count_passes(&mut self, turn: &mut Turn<'_>, set: u64, rank: Rank, kept: &[u32]) {
        if !kept.is_empty() || self.passes_somebody(set, rank) {
            self.passed_by(set, rank, kept).into_iter().for_each(|slot| self.pass(turn, slot));
        }
    }

    /// Counts one pass of a waiter.
    pub(super) fn pass(&mut self, turn: &mut Turn<'_>, slot: u32) {
        let now = self.now;
        let waiter = self.queue.get_mut(slot);
        if waiter.passes == 0 {
            waiter.first_pass = now;
        }
        waiter.passes = waiter.passes.saturating_add(1);
        self.harden_if_due(turn, slot);
    }

    /// Who may be passed no more, or is served from a minimum, claims hard. With a limit of zero nobody is ever passed.
    #[inline]
    pub(super) fn harden_if_due(&mut self, turn: &mut Turn<'_>, slot: u32) {
        let waiter = self.queue.get(slot);
        if !waiter.hard && (waiter.spent || waiter.passes >= self.settings.bypass_limit || self.has_guarantee(slot)) {
            self.harden(turn, slot);
        }
    }

    /// From now on nobody of lower rank takes what this waiter needs; while nothing but safety keeps it, nobody is kept
    /// from units (`entry`).
    pub(super) fn harden(&mut self, turn: &mut Turn<'_>, slot: u32) {
        self.queue.get_mut(slot).spent = true;
        self.note_guard(slot);
        if self.is_kept_for_safety(turn, slot) {
            return;
        }
        self.queue.get_mut(slot).hard = true;
        self.note_claiming(slot);
        self.claim(turn, slot);
    }

    /// Enters the claim of a hard waiter that has none, if it stands in line.
    pub(super) fn claim(&mut self, turn: &mut Turn<'_>, slot: u32) {
        let waiter = *self.queue.get(slot);
        if !waiter.hard || waiter.state != State::Waiting {
            return;
        }
        let Some(filing) = self.claiming(turn, slot) else { return };
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.claiming = Some(filing);
        }
        let asks = self.queue.asks(slot, filing.alternative()).bundle();
        // Who insists, for now, on more than there ever is keeps nobody from it meanwhile.
        if asks.iter().any(|(id, units)| units > turn.books.limit(id)) {
            return;
        }
        for (id, units) in asks.iter() {
            let units = turn.books.bucket(id).map_or(units, |bucket| units.min(bucket.burst()));
            self.claims.add(id, waiter.rank, units, slot);
        }
    }

    /// Brings the claim of a waiter up to date: what it asks, or where it stands, has changed.
    pub(super) fn renew_claim(&mut self, turn: &mut Turn<'_>, slot: u32) {
        let before = self.unclaim(slot);
        self.claim_again(turn, slot);
        self.mark_lowered(self.queue.get(slot).rank, before);
    }

    /// Enters the claim of a waiter anew, unless nothing but safety keeps it now.
    pub(super) fn claim_again(&mut self, turn: &mut Turn<'_>, slot: u32) {
        if self.queue.get(slot).hard && self.is_kept_for_safety(turn, slot) {
            self.soften(slot);
        }
        self.claim(turn, slot);
        self.harden_if_due(turn, slot);
    }

    /// Marks where a waiter of this rank claims less than it did.
    pub(super) fn mark_lowered(&mut self, rank: Rank, before: Vec<(BudgetId, u64)>) {
        for (id, units) in before {
            if self.claims.of(id, rank).is_none_or(|claimed| claimed < units) {
                self.mark_from(id, rank);
            }
        }
    }

    /// Takes the claim of a waiter out.
    pub(super) fn unclaim(&mut self, slot: u32) -> Vec<(BudgetId, u64)> {
        let rank = self.queue.get(slot).rank;
        let claimed = BudgetId::in_set(self.queue.set(slot) & self.claims.claimed());
        claimed.filter_map(|id| Some((id, self.claims.remove(id, rank)?))).collect()
    }

    /// Withdraws the claim of a waiter; those behind it may be next.
    #[inline]
    pub(super) fn withdraw(&mut self, slot: u32) {
        let claimed = self.queue.set(slot) & self.claims.claimed();
        if claimed != 0 && self.queue.get(slot).hard {
            let rank = self.queue.get(slot).rank;
            for id in BudgetId::in_set(claimed) {
                if self.claims.remove(id, rank).is_some() {
                    self.mark_from(id, rank);
                }
            }
        }
    }

    /// The alternative that carries the claim of a waiter: of those that stand in line the one that lacks the smallest
    /// part of what it asks, the preferred one among equals (R10). Once chosen it stays, for as long as it is in line.
    fn claiming(&self, turn: &mut Turn<'_>, slot: u32) -> Option<Filing> {
        let chosen = self.queue.flexible(slot).and_then(|flexible| flexible.claiming);
        if let Some(chosen) = chosen.filter(|&chosen| self.queue.place(chosen).is_some()) {
            return Some(chosen);
        }
        let mut filed = self.queue.filings(slot).map(|(filing, _)| filing);
        let first = filed.next()?;
        let mut best = (first, u64::MAX);
        let mut others = filed.peekable();
        if others.peek().is_none() {
            return Some(first);
        }
        for filing in std::iter::once(first).chain(others) {
            let shortfall = self.shortfall(turn, filing);
            if shortfall < best.1 {
                best = (filing, shortfall);
            }
        }
        Some(best.0)
    }

    /// The largest part of an amount that an alternative lacks, in millionths.
    fn shortfall(&self, turn: &mut Turn<'_>, filing: Filing) -> u64 {
        let who = self.claimant(filing.slot());
        let asks = self.queue.asks(filing.slot(), filing.alternative()).bundle();
        let lacks = |(id, units): (BudgetId, u64)| {
            let (asked, free) = match turn.books.bucket_mut(id) {
                Some(bucket) => {
                    bucket.refill(self.now);
                    (units.min(bucket.burst()), bucket.free())
                }
                None => (units, turn.books.free(id)),
            };
            let has = free.saturating_sub(self.claimed_above(turn.books, id, who, u64::MAX));
            // A part of a million.
            (u128::from(asked.saturating_sub(has)) * 1_000_000 / u128::from(asked.max(1))) as u64
        };
        asks.iter().map(lacks).max().unwrap_or(0)
    }
}
