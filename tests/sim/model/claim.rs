//! Who is passed, and who is passed no more: bypasses are counted, and harden into claims.

use std::collections::BTreeSet;

use bursar::BudgetId;

use crate::ask::{Asks, units_of};

use super::{Model, Path, Rank, Waiter, Who};

impl Model {
    /// Those that a grant of this bundle and rank passes, in order of rank: of each line that it takes from, as many
    /// filings of higher rank as a turn may look at in vain; and these, whom safety keeps.
    fn window(&self, bundle: &Asks, rank: Rank, kept: &[u32]) -> Vec<usize> {
        let mut met: BTreeSet<(Rank, usize)> = BTreeSet::new();
        for (id, _) in bundle {
            let line = self.line(*id);
            let above = line.into_iter().filter(|(filed, ..)| *filed < rank);
            met.extend(above.take(self.settings.look_ahead).map(|(filed, _, at)| (filed, at)));
        }
        let kept = kept.iter().filter_map(|id| self.at(*id)).map(|at| (self.waiters[at].rank, at));
        met.extend(kept);
        met.into_iter().map(|(_, at)| at).collect()
    }

    /// Before a grant: whoever was passed often or long enough is passed no more. Whether that changed anything.
    pub(super) fn harden_due(&mut self, bundle: &Asks, waiter: &Waiter) -> bool {
        let kept = self.ids(&self.passed_by_entry(waiter, bundle));
        let window = self.window(bundle, waiter.rank, &kept);
        let due: Vec<_> = window.into_iter().filter(|at| self.is_due(*at)).collect();
        let is_new = due.iter().any(|at| !self.waiters[*at].spent);
        due.iter().for_each(|at| self.harden(*at));
        is_new || due.iter().any(|at| self.waiters[*at].hard)
    }

    pub(super) fn is_due(&self, at: usize) -> bool {
        let waiter = &self.waiters[at];
        let long = waiter.passes > 0 && self.now >= waiter.first_pass.saturating_add(self.settings.bypass_time);
        !waiter.hard && (waiter.passes >= self.settings.bypass_limit || long)
    }

    /// Takes the units of what nothing blocks.
    pub(super) fn take_fairly(&mut self, waiter: &Waiter, (alternative, rung): Path) {
        let who = self.who(waiter);
        let covered = self.covered(&who);
        self.take(&waiter.ladders[alternative][rung], self.now);
        self.lend(waiter);
        if self.covered(&who) != covered {
            self.broken.get_or_insert(format!("{waiter:?} took what others claim"));
        }
    }

    /// What follows from every grant: whose turn it was, and who was passed.
    pub(super) fn granted(&mut self, bundle: &Asks, rank: Rank, kept: &[u32]) {
        // Who is served from a minimum has not waited for its turn.
        if !Model::is_of_a_minimum(rank) {
            let level = rank.0 as usize;
            self.virtual_time[level] = self.virtual_time[level].max(rank.1);
        }
        self.window(bundle, rank, kept).into_iter().for_each(|at| self.pass(at));
    }

    /// Whether each hard claim that binds somebody is there, beside those of them that go before it.
    fn covered(&self, who: &Who) -> Vec<(u32, BudgetId, bool)> {
        let mut covered = Vec::new();
        let above = self.waiters.iter().filter(|waiter| waiter.claiming.is_some() && waiter.rank < who.rank);
        for waiter in above.filter(|waiter| self.binds(waiter, who)) {
            let claimant = Who { rank: waiter.rank, ..who.clone() };
            let there = |(id, units)| {
                let there = self.stocks[&id].serves(units, self.claimed(id, &claimant), self.now);
                (waiter.id, id, there)
            };
            covered.extend(self.claim(waiter).into_iter().map(there));
        }
        covered
    }

    pub(super) fn pass(&mut self, at: usize) {
        let now = self.now;
        let waiter = &mut self.waiters[at];
        if waiter.passes == 0 {
            waiter.first_pass = now;
        }
        waiter.passes = waiter.passes.saturating_add(1);
        self.harden_if_due(at);
    }

    /// Who may be passed no more, or is served from a minimum, claims hard.
    pub(super) fn harden_if_due(&mut self, at: usize) {
        let waiter = &self.waiters[at];
        let spent = waiter.spent || waiter.passes >= self.settings.bypass_limit || waiter.guaranteed.is_some();
        if !waiter.hard && spent {
            self.harden(at);
        }
    }

    pub(super) fn harden(&mut self, at: usize) {
        self.waiters[at].spent = true;
        if !self.is_kept_for_safety(at) {
            self.waiters[at].hard = true;
            self.pick_if_none(at);
        }
    }

    /// Which alternative carries the claim: the one that is least short, then the preferred one.
    pub(super) fn pick_if_none(&mut self, at: usize) {
        let waiter = &self.waiters[at];
        if !waiter.hard || waiter.claiming.is_some() {
            return;
        }
        let who = self.who(waiter);
        let filed = (0..waiter.filed.len()).filter(|alternative| waiter.filed[*alternative].is_some());
        let claiming = filed.min_by_key(|alternative| {
            let short =
                |&(id, units): &(BudgetId, u64)| self.stocks[&id].shortfall(units, self.claimed(id, &who), self.now);
            self.low(waiter, *alternative).iter().map(short).max()
        });
        self.waiters[at].claiming = claiming;
    }

    /// Takes a claim away; that may help those that rank behind.
    pub(super) fn withdraw(&mut self, at: usize) {
        let before = self.claim(&self.waiters[at]);
        self.waiters[at].claiming = None;
        self.mark_lowered(at, before);
    }

    /// A claim was `before` and may be another now: that may help those that rank behind where it became smaller.
    pub(super) fn mark_lowered(&mut self, at: usize, before: Asks) {
        let (after, rank) = (self.claim(&self.waiters[at]), self.waiters[at].rank);
        for (id, _) in before.into_iter().filter(|(id, units)| units_of(&after, *id) < *units) {
            self.mark(id, rank);
        }
    }

    /// Patience has passed: the claim becomes smaller, and so does what the elastic alternatives ask.
    pub(super) fn ripen(&mut self, at: usize) {
        let waiter = self.waiters[at].clone();
        let claimed = waiter.claiming.map_or(Asks::new(), |claiming| self.claim_of(&waiter.ladders[claiming][0]));
        self.claim_again(at);
        self.mark_lowered(at, claimed);
        for alternative in (0..waiter.filed.len()).filter(|alternative| waiter.ladders[*alternative].len() > 1) {
            if let Some(place) = waiter.place(alternative) {
                self.mark_place(place, waiter.rank);
            }
        }
    }
}
