//! Preemption (C8, R8, R9, R13): who is asked to end, for whom and until when, and who is overdue.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bursar::{BudgetId, Priority, Tag};

use crate::ask::{Asks, units_of};
use crate::event::{Seen, party};

use super::{Model, Rank, State, Waiter};

/// In each line, so many are asked whether somebody could give way to them, and count for holders.
const HEADS: usize = 8;

/// What is known of a preemptible lease, or of an offer of one, beside what it holds.
#[derive(Debug, Clone)]
struct Lent {
    /// The number of the grant, which a part has from the whole, and of the grant or the split.
    granted: u64,
    made: u64,
    /// When its request arrived, or its work first did.
    arrived: u64,
    /// For which level it was asked to end, and until when.
    asked: Option<(Priority, u64)>,
}

/// Those who were asked for one waiter.
#[derive(Debug)]
struct Asked {
    of: u32,
    until: u64,
    victims: Vec<u32>,
}

/// All preemptible leases and offers, by the ids of their requests.
#[derive(Debug, Default)]
pub(super) struct Preemption {
    lent: BTreeMap<u32, Lent>,
    made: u64,
    underway: Option<Asked>,
}

/// What is held, by whom, and at which level.
pub(super) struct Holding<'a> {
    pub asks: &'a [(BudgetId, u64)],
    pub tag: Tag,
    level: Priority,
}

impl Model {
    /// Something was granted.
    pub(super) fn lend(&mut self, waiter: &Waiter) {
        if waiter.tag.preemptible {
            let made = self.number();
            let lent = Lent { granted: made, made, arrived: waiter.arrived, asked: None };
            self.preemption.lent.insert(waiter.id, lent);
        }
    }

    /// A part was split off. It is as old as the whole, and asked if that is.
    pub(super) fn lend_part(&mut self, of: u32, part: u32) {
        let Some(whole) = self.preemption.lent.get(&of).cloned() else { return };
        let made = self.number();
        self.preemption.lent.insert(part, Lent { made, ..whole });
        if let Some(underway) = &mut self.preemption.underway
            && underway.victims.contains(&of)
        {
            underway.victims.push(part);
        }
    }

    fn number(&mut self) -> u64 {
        self.preemption.made += 1;
        self.preemption.made
    }

    /// A lease has ended, or an offer was taken back.
    pub(super) fn unlend(&mut self, id: u32) {
        // If it was asked in this very turn, nobody is told.
        let mut at = 0..self.seen.len();
        let asked = |seen: &Seen| matches!(seen, Seen::Revoked(asked, _) if *asked == id);
        self.seen.retain(|seen| at.next() < Some(self.told) || !asked(seen));
        self.preemption.lent.remove(&id);
        if let Some(underway) = &mut self.preemption.underway {
            underway.victims.retain(|victim| *victim != id);
        }
    }

    /// When the grace of those who were asked is over.
    pub(super) fn grace_ends(&self) -> Option<u64> {
        self.preemption.underway.as_ref().map(|underway| underway.until)
    }

    /// Who was asked to end: for which level, until when, and when its request arrived.
    pub(super) fn asked(&self) -> Vec<(u32, Priority, u64, u64)> {
        let asked = |(id, lent): (&u32, &Lent)| lent.asked.map(|(by, until)| (*id, by, until, lent.arrived));
        self.preemption.lent.iter().filter_map(asked).collect()
    }

    /// The driver finds that the grace is over.
    pub(super) fn end_grace(&mut self) {
        if self.grace_ends().is_some_and(|until| until <= self.now)
            && let Some(underway) = self.preemption.underway.take()
            && self.waits(underway.of)
        {
            self.seen.extend(underway.victims.into_iter().map(Seen::Overdue));
        }
    }

    fn waits(&self, id: u32) -> bool {
        self.at(id).is_some_and(|at| self.waiters[at].state == State::Waiting)
    }

    /// At the end of a turn: asks for the first who can be helped, if nobody is asked already. Whether it did.
    pub(super) fn preempt(&mut self) -> bool {
        let first = self.first_to_help(|_| true);
        let found = first.is_some();
        first.into_iter().for_each(|(at, alternative, victims)| self.ask_to_end(at, alternative, victims));
        found
    }

    /// Before a grant of what may be asked back: asks for the first of those who rank before, if that one needs
    /// anything of it and could ask for it once it is granted (P43). Whether it did.
    pub(super) fn preempt_before(&mut self, waiter: &Waiter, bundle: &Asks) -> bool {
        if !waiter.tag.preemptible {
            return false;
        }
        let Some((at, alternative, victims)) = self.first_to_help(|rank| rank < waiter.rank) else { return false };
        let first = &self.waiters[at];
        let needs = self.low(first, alternative).iter().any(|(id, _)| units_of(bundle, *id) > 0);
        let strangers = waiter.tag.activity == 0 || party(waiter.tag) != party(first.tag);
        let asks = needs && strangers && waiter.level > self.unaged(at);
        if asks {
            self.ask_to_end(at, alternative, victims);
        }
        asks
    }

    /// The first of those in front whom somebody's end would help, and whose; if nobody is asked already.
    fn first_to_help(&mut self, counts: impl Fn(Rank) -> bool) -> Option<(usize, usize, Vec<u32>)> {
        let goes_on = |asked: &Asked| !asked.victims.is_empty() && self.waits(asked.of);
        if self.preemption.underway.as_ref().is_some_and(goes_on) {
            return None;
        }
        self.preemption.underway = None;
        let places: Vec<BudgetId> = self.stocks.keys().copied().collect();
        let heads = places.into_iter().flat_map(|place| self.line(place).into_iter().take(HEADS));
        let mut heads: Vec<(Rank, usize, usize)> = heads.filter(|(rank, ..)| counts(*rank)).collect();
        heads.sort();
        heads.into_iter().find_map(|(_, alternative, at)| Some((at, alternative, self.victims(at, alternative)?)))
    }

    fn ask_to_end(&mut self, at: usize, alternative: usize, victims: Vec<u32>) {
        let (by, until) = (self.unaged(at), self.now.saturating_add(self.settings.grace));
        for victim in &victims {
            self.seen.push(Seen::Revoked(*victim, self.holding(*victim).level));
            self.preemption.lent.get_mut(victim).expect("it is preemptible").asked = Some((by, until));
        }
        let of = self.waiters[at].id;
        self.preemption.underway = Some(Asked { of, until, victims });
        let waiter = &mut self.waiters[at];
        if waiter.guaranteed.is_none() {
            let (inherits, first) = (waiter.own != waiter.rank, (waiter.own.0, 0, waiter.own.2));
            waiter.own = first;
            if !inherits {
                self.rerank(at, first);
            }
        }
        let before = self.claim(&self.waiters[at]);
        let kept = self.is_kept_for_safety(at);
        let waiter = &mut self.waiters[at];
        waiter.spent = true;
        (waiter.hard, waiter.claiming) = if kept { (false, None) } else { (true, Some(alternative)) };
        self.mark_lowered(at, before);
    }

    /// Who has to end so that an alternative of a waiter can be served, as far as loans go.
    fn victims(&self, at: usize, alternative: usize) -> Option<Vec<u32>> {
        let waiter = &self.waiters[at];
        let mut lacks = self.lacking(waiter, alternative);
        // What others were asked for is on its way while they have time.
        for lent in self.coming_back() {
            lacks.iter_mut().for_each(|(id, lack)| *lack = lack.saturating_sub(units_of(lent.asks, *id).into()));
        }
        lacks.retain(|_, lack| *lack > 0);
        let helps = |id: &u32| lacks.keys().any(|budget| units_of(self.holding(*id).asks, *budget) > 0);
        let quiet = self.quiet();
        let willing = quiet.iter().copied().filter(|id| helps(id) && self.gives_way(*id, at, &lacks, &quiet));
        let mut victims = match lacks.is_empty() {
            true => Vec::new(),
            false => smallest(&lacks, &willing.collect::<Vec<_>>(), |id| self.holding(id).asks)?,
        };
        if self.is_kept_out(waiter, self.low(waiter, alternative)) {
            return None;
        }
        if self.endangers(waiter.tag, self.low(waiter, alternative)) {
            let (is_enough, more) = (|set: &[u32]| self.is_enough(set, &lacks), self.bounded_below(at, &quiet));
            victims = self.safe_with(at, alternative, victims, &more, is_enough)?;
        }
        Some(victims).filter(|victims| !victims.is_empty())
    }

    fn is_enough(&self, set: &[u32], lacks: &BTreeMap<BudgetId, u128>) -> bool {
        let sum = |id| set.iter().map(|each| u128::from(units_of(self.holding(*each).asks, id))).sum::<u128>();
        lacks.iter().all(|(id, lack)| sum(*id) >= *lack)
    }

    /// Leases of bounded activities, but its own, that may be asked to end for a waiter.
    fn bounded_below(&self, at: usize, quiet: &[u32]) -> Vec<u32> {
        let (level, own) = (self.unaged(at), party(self.waiters[at].tag));
        let may = |id: &u32| {
            let holding = self.holding(*id);
            holding.level > level && party(holding.tag) != own && self.bounds.contains_key(&holding.tag.activity)
        };
        quiet.iter().copied().filter(may).collect()
    }

    /// Also who has to end so that it is safe, one after the other; then nobody who is not needed.
    fn safe_with(
        &self,
        at: usize,
        alternative: usize,
        mut victims: Vec<u32>,
        more: &[u32],
        is_enough: impl Fn(&[u32]) -> bool,
    ) -> Option<Vec<u32>> {
        let waiter = &self.waiters[at];
        let has_time = |lent: &Lent| lent.asked.is_some_and(|(_, until)| until > self.now);
        let asked = self.preemption.lent.iter().filter(|(_, lent)| has_time(lent));
        let coming: Vec<u32> = asked.map(|(id, _)| *id).collect();
        let low = self.low(waiter, alternative);
        let is_safe = |set: &[u32]| !self.endangers_without(waiter.tag, low, &[&coming, set].concat());
        for each in more {
            if !is_safe(&victims) && !victims.contains(each) {
                victims.push(*each);
            }
        }
        if !is_safe(&victims) {
            return None;
        }
        for each in victims.clone().into_iter().rev() {
            let others: Vec<u32> = victims.iter().copied().filter(|other| other != &each).collect();
            if is_enough(&others) && is_safe(&others) {
                victims = others;
            }
        }
        Some(victims)
    }

    /// What is missing of each loan beyond what binding claims and the reserve keep, and beyond a deficit.
    fn lacking(&self, waiter: &Waiter, alternative: usize) -> BTreeMap<BudgetId, u128> {
        let who = self.who(waiter);
        let mut lacks = BTreeMap::new();
        for (id, units) in self.loans(self.low(waiter, alternative)) {
            let stock = &self.stocks[&id];
            let needs = u128::from(units) + self.claimed(id, &who) + u128::from(self.kept(id, &who));
            let there = u128::from(stock.free(self.now));
            if needs > there {
                lacks.insert(id, needs - there + u128::from(stock.deficit()));
            }
        }
        lacks
    }

    /// Whether a lease gives way to a waiter: never to its own activity; always to a higher level; and what was lent of
    /// a minimum to whom the minimum is for, unless it is critical.
    fn gives_way(&self, id: u32, at: usize, lacks: &BTreeMap<BudgetId, u128>, quiet: &[u32]) -> bool {
        let (holding, waiter) = (self.holding(id), &self.waiters[at]);
        if holding.tag.activity != 0 && party(holding.tag) == party(waiter.tag) {
            return false;
        }
        let of_another = holding.tag.module != waiter.tag.module && holding.level > Priority::Critical;
        let is_lent = || lacks.keys().any(|budget| self.is_lent(id, *budget, quiet));
        holding.level > self.unaged(at) || (waiter.guaranteed.is_some() && of_another && is_lent())
    }

    /// Whether a lease holds something by which its module has more than its minimum, if those have ended that are
    /// asked before it and those that still have time to.
    fn is_lent(&self, id: u32, budget: BudgetId, quiet: &[u32]) -> bool {
        let tag = self.holding(id).tag;
        let its = |holding: &Holding| holding.tag.module == tag.module;
        let before = quiet.iter().take_while(|other| **other != id).map(|other| self.holding(*other));
        let gone = before.chain(self.coming_back()).filter(its);
        let gone: u128 = gone.map(|holding| u128::from(units_of(holding.asks, budget))).sum();
        let held = self.held_by(budget, |of| of.module == tag.module);
        units_of(self.holding(id).asks, budget) > 0 && held - gone > self.minimum(tag, budget).into()
    }

    /// Those who were asked and still have time.
    fn coming_back(&self) -> impl Iterator<Item = Holding<'_>> {
        let has_time = |lent: &Lent| lent.asked.is_some_and(|(_, until)| until > self.now);
        let asked = self.preemption.lent.iter().filter(move |(_, lent)| has_time(lent));
        asked.map(|(id, _)| self.holding(*id))
    }

    /// Those whom nobody has asked, in the order in which they would be: the least urgent and youngest first.
    fn quiet(&self) -> Vec<u32> {
        let quiet = self.preemption.lent.iter().filter(|(_, lent)| lent.asked.is_none());
        let order =
            |(id, lent): (&u32, &Lent)| (Reverse(self.holding(*id).level), Reverse((lent.granted, lent.made)), *id);
        let mut quiet: Vec<_> = quiet.map(order).collect();
        quiet.sort();
        quiet.into_iter().map(|(.., id)| id).collect()
    }

    pub(super) fn holding(&self, id: u32) -> Holding<'_> {
        if let Some(lease) = self.held.get(&id) {
            return Holding { asks: &lease.asks, tag: lease.tag, level: lease.level };
        }
        let waiter = &self.waiters[self.at(id).expect("what is lent is held or offered")];
        Holding { asks: self.bundle_of(waiter), tag: waiter.tag, level: waiter.level }
    }

    /// The highest level of a waiter's request and of the requests of those in front of the lines who wait, directly or
    /// through others, for what its activity holds (R8).
    fn unaged(&self, at: usize) -> Priority {
        let mut through = BTreeSet::from([at]);
        loop {
            let holds = through.iter().flat_map(|at| self.holds(party(self.waiters[*at].tag)));
            let lines = holds.map(|id| self.line(id));
            let more = lines.flat_map(|line| line.into_iter().take(HEADS).map(|(.., at)| at)).collect::<Vec<_>>();
            let before = through.len();
            through.extend(more);
            if through.len() == before {
                return through.iter().map(|at| self.waiters[*at].level).min().expect("it is among them");
            }
        }
    }
}

/// Of those who would help, in order, who is enough: each that holds something of what is still missing, until nothing
/// is; then, the last first, everybody is spared without whom it is enough. `None` if nothing is lacking or all are not
/// enough.
fn smallest<'a>(
    lacks: &BTreeMap<BudgetId, u128>,
    willing: &[u32],
    asks: impl Fn(u32) -> &'a [(BudgetId, u64)],
) -> Option<Vec<u32>> {
    let sum = |set: &[u32], id: BudgetId| set.iter().map(|each| u128::from(units_of(asks(*each), id))).sum::<u128>();
    let missing = |set: &[u32]| -> Vec<BudgetId> {
        lacks.iter().filter(|(id, lack)| sum(set, **id) < **lack).map(|(id, _)| *id).collect()
    };
    let mut chosen = Vec::new();
    for each in willing {
        if missing(&chosen).iter().any(|id| units_of(asks(*each), *id) > 0) {
            chosen.push(*each);
        }
    }
    if lacks.is_empty() || !missing(&chosen).is_empty() {
        return None;
    }
    for each in chosen.clone().into_iter().rev() {
        let others: Vec<u32> = chosen.iter().copied().filter(|other| *other != each).collect();
        if missing(&others).is_empty() {
            chosen = others;
        }
    }
    Some(chosen)
}

/// What two budgets lack, and who holds how much of them.
#[test]
fn the_smallest_set_passes_over_and_spares_whom_it_does_not_need() {
    let (gpu, host) = (BudgetId::GPU, BudgetId::HOST);
    let held: Vec<Asks> = vec![vec![(gpu, 3), (host, 3)], vec![(host, 3)], vec![(gpu, 9)], vec![(gpu, 1)]];
    let choose = |lacks: &[(BudgetId, u128)], willing: &[u32]| {
        smallest(&lacks.iter().copied().collect(), willing, |at| &held[at as usize])
    };
    assert_eq!(choose(&[(gpu, 3), (host, 3)], &[0, 1, 2]), Some(vec![0]));
    assert_eq!(choose(&[(gpu, 9)], &[3, 1, 2]), Some(vec![2]), "the one unit is not needed after all");
    assert_eq!(choose(&[(gpu, 5), (host, 3)], &[3, 1]), None);
    assert_eq!(choose(&[], &[0]), None);
}
