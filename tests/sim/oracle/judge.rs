//! The rules themselves: conservation, bounded bypass, no lost wake-up.

use bursar::{BudgetId, Priority, Tag};

use crate::ask::{Ask, Asks, units_of};
use crate::driven::Driven;
use crate::event::{Event, Grant, Standing, View};
use crate::tally::Case;

use super::{BILLION, Flow, Oracle, State, Verdict, Wait};

impl Oracle {
    /// A grant is a rung of an alternative, whole (C2), and no less than was asked then (R10).
    pub(super) fn judge_grant(&mut self, id: u32, wait: &Wait, grant: &Grant) -> Verdict {
        let bundle = self.bundle(&wait.ask, grant)?;
        if grant.rung > 0 && self.clock < wait.ripe_at {
            return Err(format!("less than the whole before its patience ended at {}", wait.ripe_at));
        }
        for (id, units) in &bundle {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.charged_least += u128::from(*units);
                flow.charged_most += u128::from(*units);
            }
        }
        self.granted.push((wait.rank, bundle));
        self.hold(id, wait, grant);
        Ok(())
    }

    /// What a grant took, if it is one of those that would do.
    fn bundle(&self, ask: &Ask, grant: &Grant) -> Result<Asks, String> {
        let ladders = ask.ladders();
        let bundle = ladders.get(usize::from(grant.alternative)).and_then(|ladder| ladder.get(usize::from(grant.rung)));
        let loans = |bundle: &Asks| -> Asks {
            bundle.iter().copied().filter(|(id, _)| self.capacities.contains_key(id)).collect()
        };
        match bundle.filter(|bundle| loans(bundle) == grant.loans) {
            Some(bundle) => Ok(bundle.clone()),
            None => Err(format!("{grant:?} is not what was asked for: {ask:?}")),
        }
    }

    /// The books say what the owners have (R6, P57), and the counters what they wait for (P11).
    pub(super) fn judge_books(&mut self, event: &Event, view: &View, driven: &impl Driven) -> Verdict {
        for (at, shelf) in view.shelves.iter().enumerate() {
            let id = shelf.budget;
            let naming = self.active().filter(|wait| wait.ask.names(id)).count() as u64;
            let (least, most) = self.offered(id);
            if shelf.naming != naming || !(least..=most).contains(&shelf.offered.into()) {
                return Err(format!("{shelf:?}: {naming} wait for it, {least} to {most} are offered"));
            }
            if let Some(flow) = self.flows.get(&id) {
                flow.judge(driven.spent(id).unwrap_or(0), self.clock).map_err(|wrong| format!("{id}: {wrong}"))?;
                continue;
            }
            let leased: u64 = self.held.values().map(|held| units_of(held, id)).sum();
            let (out, capacity) = (leased + shelf.offered, self.capacities[&id]);
            let (free, deficit) = (capacity.saturating_sub(out), out.saturating_sub(capacity));
            if (shelf.granted, shelf.free, shelf.deficit) != (out, free, deficit) || shelf.peak < out {
                return Err(format!("{shelf:?}: {out} of {capacity} are out"));
            }
            let Some(before) = self.last.as_ref().map(|last| &last.shelves[at]) else { continue };
            // Only a smaller capacity makes or deepens a deficit: no grant takes what is not there (C1, P52).
            if shelf.deficit > before.deficit && !matches!(event, Event::Capacity(..)) || shelf.peak < before.peak {
                return Err(format!("{shelf:?} after {before:?}"));
            }
            if shelf.deficit < before.deficit && matches!(event, Event::Release { .. } | Event::Shrink { .. }) {
                self.tally.count(Case::DeficitDrained);
            }
        }
        let offers = self.waits.values().filter(|wait| matches!(wait.state, State::Offered { .. })).count();
        let (waiting, leases) = (self.active().count(), (self.held.len() + offers) as u64);
        if (view.waiting, view.offers, view.leases, view.immediate) != (waiting, offers, leases, self.immediate) {
            return Err(format!("{view:?}: {waiting} wait, {offers} offers and {leases} leases are out"));
        }
        Ok(())
    }

    /// Everybody who waits is filed, is passed no more often than allowed before the claim is hard, and rises only as
    /// far as allowed (C3, C4, R4).
    pub(super) fn judge_standing(&mut self, view: &View) -> Verdict {
        let waiting = self.waits.iter().filter(|(_, wait)| wait.state == State::Waiting);
        if !waiting.map(|(id, _)| id).eq(view.standing.iter().map(|standing| &standing.id)) {
            return Err(format!("not those who wait: {:?}", view.standing));
        }
        for standing in &view.standing {
            let wait = &self.waits[&standing.id];
            let all = 0..wait.ask.alternatives.len();
            let possible = all.filter(|at| self.above_limit(&wait.ask, wait.tag, *at).is_none());
            let mut stands: Vec<_> = standing.filed.iter().map(|(at, _)| *at).chain(standing.parked.clone()).collect();
            stands.sort();
            if !possible.eq(stands.into_iter().map(usize::from)) {
                return Err(format!("what is possible is not what is filed: {standing:?}, {wait:?}"));
            }
            let names = |(at, id): &(u8, BudgetId)| units_of(&wait.ask.alternatives[usize::from(*at)].wants, *id) > 0;
            if !standing.filed.iter().all(names) {
                return Err(format!("filed where it does not ask for anything: {standing:?}, {wait:?}"));
            }
            if !standing.spent && standing.passes >= self.config.bypass_limit {
                return Err(format!("passed without end: {standing:?}"));
            }
            // By waiting to `High`; by a minimum, or as a holder, to `Critical`.
            let belongs = wait.tag != Tag::NOBODY;
            let highest = if belongs { Priority::Critical } else { wait.rank.0.min(Priority::High) };
            if standing.level > wait.rank.0 || standing.level < highest {
                return Err(format!("rose too far, or fell: {standing:?}, {wait:?}"));
            }
        }
        let last = self.last.take();
        let before = last.as_ref().map_or(&[][..], |last| &last.standing);
        self.tally.compare(before, &view.standing);
        let inherited = last.as_ref().map_or(0, |last| last.inherited);
        self.tally.count_times(Case::Inherited, view.inherited - inherited);
        let judged = self.judge_passes(before, view);
        self.last = last;
        judged
    }

    /// Every grant to a lower rank of what somebody is filed at is counted (R4).
    fn judge_passes(&self, before: &[Standing], view: &View) -> Verdict {
        let filings: usize = before.iter().map(|standing| standing.filed.len()).sum();
        if !self.knows_ranks() || filings > self.config.look_ahead {
            return Ok(());
        }
        for now in &view.standing {
            let Some(then) = before.iter().find(|then| then.id == now.id && then.filed == now.filed) else { continue };
            let passes = |(rank, bundle): &&(super::Rank, Asks)| {
                *rank > self.waits[&now.id].rank && now.filed.iter().any(|(_, id)| units_of(bundle, *id) > 0)
            };
            // It may have been filed elsewhere for a moment when there were more.
            let passed = self.granted.iter().filter(passes).count().min(1) as u32;
            if self.granted.len() == 1 && now.passes < then.passes + passed {
                return Err(format!("{:?} passes {now:?}, which does not count it", self.granted));
            }
        }
        Ok(())
    }

    /// Nothing is due: nobody waits who could be granted, and nobody who can no longer be.
    pub(super) fn judge_quiet(&mut self, view: &View, driven: &impl Driven) -> Verdict {
        for (id, wait) in &self.waits {
            if matches!(wait.state, State::Offered { .. } | State::Ended) {
                continue;
            }
            if self.closed || self.never_fits(&wait.ask, wait.tag).is_some() {
                return Err(format!("{id} goes on although nothing can come of it: {wait:?}"));
            }
            if wait.deadline.is_some_and(|deadline| deadline <= self.clock) {
                return Err(format!("{id} goes on at {} although its deadline passed: {wait:?}", self.clock));
            }
            if wait.state == State::Waiting && self.could_be_granted(*id, wait, view, driven) {
                if self.is_bounded(wait.tag) {
                    self.tally.count(Case::Unsafe);
                    continue;
                }
                return Err(format!("{id} waits though it fits and nobody claims any of it: {wait:?}"));
            }
        }
        if self.active().next().is_some() {
            self.tally.count(Case::QuietCrowd);
        }
        Ok(())
    }

    /// Whether an alternative fits that nobody else can have a hard claim on.
    fn could_be_granted(&self, id: u32, wait: &Wait, view: &View, driven: &impl Driven) -> bool {
        let claimed = |budget| {
            let hard = view.standing.iter().filter(|other| other.hard && other.id != id);
            hard.into_iter().any(|other| self.waits[&other.id].ask.names(budget))
        };
        let fits = |&(budget, units): &(BudgetId, u64)| {
            let shelf = view.shelves.iter().find(|shelf| shelf.budget == budget);
            let there = driven.rate_serves(budget, units).or_else(|| Some(shelf?.free >= units));
            let kept = shelf.is_some_and(|shelf| {
                let kept = self.kept(wait, budget, shelf.granted);
                kept > 0 && shelf.free < units + kept
            });
            let limit = self.limit_for(wait.tag, budget);
            units <= limit && there == Some(true) && !kept && !claimed(budget)
        };
        let parked =
            |at: usize| view.standing.iter().any(|standing| standing.id == id && standing.parked.contains(&(at as u8)));
        let alternatives = wait.ask.alternatives.iter().enumerate().filter(|(at, _)| !parked(*at));
        alternatives.into_iter().any(|(_, alternative)| match self.clock >= wait.ripe_at {
            true => alternative.least().iter().all(fits),
            false => alternative.wants.iter().all(fits),
        })
    }

    /// The least and the most of a budget that offers can have.
    fn offered(&self, id: BudgetId) -> (u128, u128) {
        let offers = self.waits.values().filter(|wait| matches!(wait.state, State::Offered { .. }));
        let bounds = offers.map(|wait| bounds(&wait.ask, id));
        bounds.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Wait> {
        self.waits.values().filter(|wait| wait.state == State::Waiting)
    }

    fn limit(&self, id: BudgetId) -> u64 {
        match self.flows.get(&id) {
            Some(flow) => flow.burst + flow.max_debt,
            None => self.capacities[&id],
        }
    }

    fn limit_for(&self, tag: Tag, id: BudgetId) -> u64 {
        self.limit(id).min(self.cap(tag, id)).min(self.bound(tag, id))
    }

    /// The first budget that an alternative asks too much of, as little as it may be.
    fn above_limit(&self, ask: &Ask, tag: Tag, alternative: usize) -> Option<BudgetId> {
        let least = ask.alternatives[alternative].least();
        least.into_iter().find(|(id, units)| *units > self.limit_for(tag, *id)).map(|(id, _)| id)
    }

    /// Where the first alternative asks too much, if all do.
    pub(super) fn never_fits(&self, ask: &Ask, tag: Tag) -> Option<BudgetId> {
        let all = (0..ask.alternatives.len()).all(|alternative| self.above_limit(ask, tag, alternative).is_some());
        self.above_limit(ask, tag, 0).filter(|_| all)
    }

    /// An offer was made: what it charges of rates is between these bounds.
    pub(super) fn charge_offer(&mut self, ask: &Ask) {
        for (id, flow) in &mut self.flows {
            let (least, most) = bounds(ask, *id);
            flow.charged_least += least;
            flow.charged_most += most;
        }
    }

    /// An offer was taken up: now its bundle is known.
    pub(super) fn settle_offer(&mut self, ask: &Ask, grant: &Grant) -> Verdict {
        let bundle = self.bundle(ask, grant)?;
        for (id, flow) in &mut self.flows {
            let ((least, most), units) = (bounds(ask, *id), u128::from(units_of(&bundle, *id)));
            flow.charged_least += units - least;
            flow.charged_most -= most - units;
        }
        Ok(())
    }

    /// Notes that an offer was never taken up.
    pub(super) fn undone(&mut self, ask: &Ask) {
        for (id, flow) in &mut self.flows {
            flow.undone += bounds(ask, *id).1;
        }
    }
}

/// The least and the most of a budget that a grant can take.
fn bounds(ask: &Ask, id: BudgetId) -> (u128, u128) {
    let each = |of: fn(&crate::ask::Alternative) -> Asks| {
        ask.alternatives.iter().map(move |alternative| u128::from(units_of(&of(alternative), id)))
    };
    let least = each(crate::ask::Alternative::least).min().unwrap_or(0);
    let most = each(|alternative| alternative.wants.clone()).max().unwrap_or(0);
    (least, most)
}

impl Flow {
    pub(super) fn new(per_second: u64, burst: u64, max_debt: u64, since: u64) -> Flow {
        let inflow = u128::from(burst) * BILLION;
        Flow { per_second, burst, max_debt, charged_least: 0, charged_most: 0, undone: 0, inflow, since }
    }

    /// Moves the time on.
    pub(super) fn bring(&mut self, now: u64) {
        self.inflow += u128::from(self.per_second) * u128::from(now.saturating_sub(self.since));
        self.since = now.max(self.since);
    }

    /// What was charged is what grants took, less at most what was undone; and no more than can have come in, and a
    /// debt.
    fn judge(&self, spent: u64, now: u64) -> Verdict {
        let inflow = self.inflow + u128::from(self.per_second) * u128::from(now.saturating_sub(self.since));
        let (spent, most) = (u128::from(spent), inflow / BILLION + u128::from(self.max_debt));
        if spent > self.charged_most || spent + self.undone < self.charged_least || spent > most {
            return Err(format!("{spent} spent, at most {most} can be: {self:?}"));
        }
        Ok(())
    }
}
