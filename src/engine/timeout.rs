//! What time does: deadlines pass, patience runs out, waiters rise, offers expire, rates refill.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ledger::Books;
use crate::model::BudgetId;
use crate::policy::Rank;

use super::lines::{Filing, Key};
use super::queue::{Flexible, State};
use super::{Effect, Engine, Timer, Turn, Verdict};

/// How many in line at a rate are asked when they are ready. Those behind them are looked at once one of these is
/// served; asking everybody would make every turn as long as the line.
const FIRST_AT_A_RATE: usize = 64;

impl Engine {
    /// Takes note of the time. A deadline that has passed ends its wait before anything is granted in the same turn.
    #[inline]
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>) {
        self.now = self.now.max(turn.now);
        if !(self.deadlines.is_empty() && self.ripenings.is_empty() && self.raises.is_empty()) {
            self.advance_timers(turn);
        }
        if self.waiting > 0 && turn.books.rates() != 0 {
            self.look_at_rates(turn.books);
        }
    }

    /// Whoever in line at a rate can be served by now is looked at before anybody else takes what has come in. Only
    /// from the first such filing on: what is being looked at already goes on where it was, and would get nowhere if
    /// it started over each time.
    #[inline(never)]
    fn look_at_rates(&mut self, books: &mut Books) {
        for id in BudgetId::in_set(books.rates()) {
            let now = self.now;
            let first = self.in_line_at_a_rate(books, id).find(|&(_, ready_at)| ready_at <= now);
            if let Some((key, _)) = first {
                self.mark_from_filing(id, key);
            }
        }
    }

    fn advance_timers(&mut self, turn: &mut Turn<'_>) {
        while let Some(&(deadline, _, slot)) = self.deadlines.first() {
            if deadline > self.now {
                break;
            }
            self.end(turn, slot, Verdict::Late);
        }
        while let Some(&(at, _, slot)) = self.ripenings.first() {
            if at > self.now {
                break;
            }
            self.ripen(turn, slot);
        }
        self.age();
    }

    /// From now on a waiter takes less than it wants.
    fn ripen(&mut self, turn: &mut Turn<'_>, slot: u32) {
        self.ripen_if_due(slot);
        let rank = self.queue.get(slot).rank;
        let terms = self.queue.flexible(slot).map(|flexible| Arc::clone(&flexible.terms));
        let alternatives = terms.iter().flat_map(|terms| (0..).zip(&terms.alternatives));
        for (alternative, _) in alternatives.filter(|(_, each)| each.is_elastic()) {
            let filing = Filing::new(slot, alternative);
            match self.queue.place(filing) {
                Some(place) => self.mark_from(place, rank),
                None => self.mark_kept(filing),
            }
        }
        self.renew_claim(turn, slot);
    }

    /// Notes that the patience of a waiter has run out, if it has.
    pub(super) fn ripen_if_due(&mut self, slot: u32) {
        let due = |flexible: &Flexible| !flexible.ripe && flexible.ripe_at <= self.now;
        let Some(ripe_at) = self.queue.flexible(slot).filter(|flexible| due(flexible)).map(|flexible| flexible.ripe_at)
        else {
            return;
        };
        self.ripenings.remove(&self.timer(slot, ripe_at));
        let all = (0..self.queue.alternatives(slot)).map(|alternative| Filing::new(slot, alternative));
        let filed: Vec<_> = self.queue.filings(slot).collect();
        let kept: Vec<_> = all.filter_map(|filing| Some((filing, self.keeper(filing)?))).collect();
        kept.iter().for_each(|&(filing, _)| self.let_go(filing));
        let asks = |engine: &Engine, (filing, place): (Filing, BudgetId)| {
            (place, engine.queue.asks(slot, filing.alternative()).get(place))
        };
        let before: Vec<_> = filed.iter().map(|&filed| asks(self, filed)).collect();
        filed.iter().for_each(|&(filing, _)| self.note_elsewhere(filing, false));
        if let Some(flexible) = self.queue.flexible_mut(slot) {
            flexible.ripe = true;
        }
        for (&filed, (place, before)) in filed.iter().zip(before) {
            let (_, now) = asks(self, filed);
            self.queue.lines.ask_again(place, before, now);
            self.note_elsewhere(filed.0, true);
        }
        kept.into_iter().for_each(|(filing, id)| self.keep_at(filing, id));
    }

    /// Starts the patience of a waiter that has an elastic amount and is not ripe.
    pub(super) fn start_ripening(&mut self, slot: u32) {
        let arrival = self.queue.get(slot).rank.arrival();
        if let Some(flexible) = self.queue.flexible(slot).filter(|flexible| !flexible.ripe)
            && flexible.terms.alternatives.iter().any(|alternative| alternative.is_elastic())
        {
            self.ripenings.insert((flexible.ripe_at, arrival, slot));
        }
    }

    /// Notes the deadline of a waiter, if it has one.
    #[inline]
    pub(super) fn start_deadline(&mut self, slot: u32) {
        let deadline = self.queue.get(slot).deadline;
        if deadline != u64::MAX {
            let timer = self.timer(slot, deadline);
            self.deadlines.insert(timer);
        }
    }

    /// Nothing is due for a waiter any more.
    #[inline]
    pub(super) fn forget_timers(&mut self, slot: u32) {
        if !self.deadlines.is_empty() {
            let timer = self.timer(slot, self.queue.get(slot).deadline);
            self.deadlines.remove(&timer);
        }
        if !self.ripenings.is_empty()
            && let Some(flexible) = self.queue.flexible(slot)
        {
            let timer = self.timer(slot, flexible.ripe_at);
            self.ripenings.remove(&timer);
        }
        self.stop_aging(slot);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        self.advance(turn);
        if self.waiting > 0 && self.next_expiry <= self.now {
            self.expire_offers(turn);
        }
        self.end_grace();
    }

    /// Brings the rates up to now.
    pub fn refresh(&mut self, turn: &mut Turn<'_>) {
        self.advance(turn);
        for id in BudgetId::in_set(turn.books.rates()) {
            if let Some(bucket) = turn.books.bucket_mut(id) {
                bucket.refill(self.now);
            }
        }
    }

    /// When [`Engine::handle_timeout`] has something to do next; `u64::MAX` for never. Only submissions, releases,
    /// expiries and changes of capacity change it.
    #[inline]
    pub fn poll_timeout(&self, books: &mut Books) -> u64 {
        if !self.dirty.is_clean() {
            return self.now;
        }
        let timers = [&self.deadlines, &self.ripenings, &self.raises].into_iter();
        let first = |timers: &BTreeSet<Timer>| timers.first().map_or(u64::MAX, |timer| timer.0);
        let mut next = timers.map(first).min().unwrap_or(u64::MAX);
        if self.waiting > 0 {
            next = next.min(self.next_expiry).min(self.verdict_at).min(self.preemption.due());
            if books.rates() != 0 {
                next = next.min(self.rates_ready_at(books));
            }
        }
        next
    }

    /// When the first of those in line at any rate can be served, as far as the rate goes.
    #[inline(never)]
    fn rates_ready_at(&self, books: &mut Books) -> u64 {
        let each = BudgetId::in_set(books.rates()).map(|id| self.rate_ready_at(books, id));
        each.min().unwrap_or(u64::MAX)
    }

    /// When the first of those in line at a rate can be served, as far as the rate goes.
    fn rate_ready_at(&self, books: &mut Books, id: BudgetId) -> u64 {
        self.in_line_at_a_rate(books, id).map(|(_, ready_at)| ready_at).min().unwrap_or(u64::MAX)
    }

    /// The first in line at a rate, and when the rate can serve them.
    fn in_line_at_a_rate<'a>(&'a self, books: &'a mut Books, id: BudgetId) -> impl Iterator<Item = (Key, u64)> + 'a {
        let head = self.queue.head(id);
        if head.is_some()
            && let Some(bucket) = books.bucket_mut(id)
        {
            bucket.refill(self.now);
        }
        let books = &*books;
        let after =
            move |&(rank, filing): &(Rank, Filing)| self.queue.next(id, (rank, filing.alternative()), Some(filing));
        std::iter::successors(head, after).take(FIRST_AT_A_RATE).map(move |(rank, filing)| {
            let units = self.queue.asks(filing.slot(), filing.alternative()).get(id);
            let claimed = self.claimed_above(books, id, self.claimant(filing.slot()), u64::MAX);
            let ready_at = books.bucket(id).map_or(u64::MAX, |bucket| bucket.ready_at(units, claimed));
            ((rank, filing.alternative()), ready_at)
        })
    }

    /// Takes back offers whose time has passed, while somebody is blocked at a budget of theirs (R5): one at a time,
    /// the oldest first, and what comes back is granted before the next is looked at. So no more expire than can be
    /// used. Frees the slots of those that were taken up on the way.
    fn expire_offers(&mut self, turn: &mut Turn<'_>) {
        self.next_expiry = u64::MAX;
        let mut due = Vec::new();
        for (expiry, slot) in std::mem::take(&mut self.offers) {
            if turn.board.accepted(slot) {
                self.queue.remove(slot);
            } else if expiry <= self.now {
                due.push((expiry, self.queue.get(slot).rank, slot));
            } else {
                self.next_expiry = self.next_expiry.min(expiry);
                self.offers.push_back((expiry, slot));
            }
        }
        due.sort_unstable();
        for (expiry, _, slot) in due {
            let granted = self.queue.granted(slot).set();
            let wanted = BudgetId::in_set(granted).any(|id| !self.queue.lines.is_empty(id));
            match if wanted { turn.board.retract(slot) } else { None } {
                Some(place) => {
                    self.expire(turn, slot, place);
                    // With what lay ready there goes the rank that others of its activity had from that.
                    self.inherit(turn.books);
                    self.resume(turn);
                }
                None => {
                    // Of no use to anybody, or just taken up: look again later.
                    self.next_expiry = self.next_expiry.min(self.now.saturating_add(self.settings.offer_expiry));
                    self.offers.push_back((expiry, slot));
                }
            }
        }
    }

    /// Makes the owner of an offer that was taken back dormant.
    fn expire(&mut self, turn: &mut Turn<'_>, slot: u32, place: u32) {
        self.undo(turn, slot, place);
        let waiter = self.queue.get_mut(slot);
        waiter.state = State::Dormant;
        waiter.expiries = waiter.expiries.saturating_add(1);
        self.start_deadline(slot);
        self.effects.push(Effect::Expired { slot });
        self.dormant += 1;
        // The budget may have shrunk below it while it lay there.
        if self.possible(turn.books, slot) == 0 {
            self.end(turn, slot, Verdict::NeverFits);
        }
    }
}
