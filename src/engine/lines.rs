//! Where waiters stand in line.
//!
//! Every budget has a line. An alternative of a waiter stands in exactly one line, that of its *witness*: a budget that
//! cannot serve it. So a release looks only at those whom it may help, and no waiter is looked at because of a budget
//! that is not what keeps it.
//!
//! A line has a lane for each level; a lane is a list in order of arrival, with a tree beside it for the few that come
//! out of order: deadlines, and those that stood elsewhere first. Joining and leaving the list is O(1), whatever waits
//! around it.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::model::{BudgetId, Priority};
use crate::policy::Rank;

use super::queue::Queue;
use super::sizes::Sizes;

const NONE: u32 = u32::MAX;

/// The order in which filings are looked at: rank, then preference.
pub(super) type Key = (Rank, u8);

/// So many slots there may be: a filing has three bits for the alternative, and some to spare.
pub(super) const MOST_SLOTS: usize = 1 << 28;

/// One alternative of one waiter: the slot, and three bits for the alternative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Filing(u32);

impl Filing {
    /// After all others, as numbers go.
    pub(super) const LAST: Filing = Filing(u32::MAX);

    #[inline]
    pub(super) fn new(slot: u32, alternative: u8) -> Self {
        Filing(slot << 3 | u32::from(alternative))
    }

    #[inline]
    pub(super) fn slot(self) -> u32 {
        self.0 >> 3
    }

    #[inline]
    pub(super) fn alternative(self) -> u8 {
        (self.0 & 7) as u8
    }
}

/// Where a filing stands, and its neighbours there if it is in the list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    prev: u32,
    next: u32,
    /// Index of the budget, or `NO_PLACE`.
    place: u8,
    /// In the tree of the lane, not in its list.
    sorted: bool,
}

const NO_PLACE: u8 = u8::MAX;

impl Link {
    pub(super) const NOWHERE: Link = Link { prev: NONE, next: NONE, place: NO_PLACE, sorted: false };
}

/// How many filings of a list come from one milestone to the next when they are appended. Few in debug builds, so that
/// the small crowds of simulations come past many.
pub(super) const MILE: u32 = if cfg!(debug_assertions) { 4 } else { 64 };

#[derive(Debug)]
struct Lane {
    head: u32,
    tail: u32,
    /// Nothing in the list ranks after this. May be later than the tail, after a removal.
    last: Rank,
    sorted: BTreeMap<Key, Filing>,
    /// How many are in the list.
    listed: u32,
    /// Some of those that were appended, in order: where to go on from, without a walk from the head, if one of them
    /// still stands there.
    milestones: Vec<(Rank, Filing)>,
    /// How many were appended since the last of them.
    since: u32,
}

impl Lane {
    fn new() -> Self {
        Lane {
            head: NONE,
            tail: NONE,
            last: Rank::BEFORE_ALL,
            sorted: BTreeMap::new(),
            listed: 0,
            milestones: Vec::new(),
            since: 0,
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.head == NONE && self.sorted.is_empty()
    }

    /// One was appended. Whether it is time for a milestone.
    #[inline]
    fn count_appended(&mut self) -> bool {
        self.listed += 1;
        self.since += 1;
        self.since >= MILE
    }

    /// One has left the list.
    #[inline]
    fn count_out(&mut self) {
        self.listed -= 1;
        if self.listed == 0 {
            self.milestones.clear();
            self.since = 0;
        }
    }
}

/// The lanes of one budget and which of them are in use.
#[derive(Debug)]
struct Line {
    levels: u8,
    lane: [Lane; Priority::COUNT],
    /// How many here ask for how much of a loan, so that a release that is too small for all looks at nobody.
    asks: Sizes,
}

/// The lines of all budgets.
#[derive(Debug)]
pub(super) struct Lines(Vec<Line>);

impl Lines {
    pub(super) fn new() -> Self {
        let lane = || std::array::from_fn(|_| Lane::new());
        let line = || Line { levels: 0, lane: lane(), asks: Sizes::default() };
        Lines((0..BudgetId::LIMIT).map(|_| line()).collect())
    }

    /// The least that anybody in this line asks for.
    #[inline]
    pub(super) fn least(&self, budget: BudgetId) -> u64 {
        self.0[budget.index()].asks.least().unwrap_or(u64::MAX)
    }

    /// Somebody in this line asks for something else now.
    pub(super) fn ask_again(&mut self, budget: BudgetId, before: u64, now: u64) {
        let asks = &mut self.0[budget.index()].asks;
        asks.take(before);
        asks.add(now);
    }

    #[inline]
    pub(super) fn is_empty(&self, budget: BudgetId) -> bool {
        self.0[budget.index()].levels == 0
    }

    /// How many milestones there are in a line.
    #[cfg(test)]
    pub(super) fn milestones(&self, budget: BudgetId) -> usize {
        self.0[budget.index()].lane.iter().map(|lane| lane.milestones.len()).sum()
    }
}

impl Queue {
    #[inline]
    fn link(&self, filing: Filing) -> &Link {
        match filing.alternative() {
            0 => &self.get(filing.slot()).link,
            _ => self.other_link(filing),
        }
    }

    #[cold]
    fn other_link(&self, filing: Filing) -> &Link {
        const NOWHERE: &Link = &Link::NOWHERE;
        let links = self.flexible(filing.slot()).map(|flexible| &flexible.links);
        links.and_then(|links| links.get(usize::from(filing.alternative()) - 1)).unwrap_or(NOWHERE)
    }

    /// Changes the link of a filing, which has one.
    #[inline]
    fn link_mut(&mut self, filing: Filing, change: impl FnOnce(&mut Link)) {
        if filing.alternative() == 0 {
            return change(&mut self.get_mut(filing.slot()).link);
        }
        let flexible = self.flexible_mut(filing.slot());
        if let Some(link) = flexible.and_then(|all| all.links.get_mut(usize::from(filing.alternative()) - 1)) {
            change(link);
        }
    }

    /// The budget in whose line an alternative stands.
    #[inline]
    pub(super) fn place(&self, filing: Filing) -> Option<BudgetId> {
        BudgetId::from_index(usize::from(self.link(filing).place))
    }

    /// The budgets in whose lines a waiter stands, with the alternatives that do, in order of preference.
    pub(super) fn filings(&self, slot: u32) -> impl Iterator<Item = (Filing, BudgetId)> + '_ {
        let all = (0..self.alternatives(slot)).map(move |alternative| Filing::new(slot, alternative));
        all.filter_map(|filing| Some((filing, self.place(filing)?)))
    }

    /// Puts a filing that stands nowhere into a line.
    #[inline]
    pub(super) fn join(&mut self, filing: Filing, budget: BudgetId) {
        debug_assert!(self.place(filing).is_none(), "{filing:?} stands somewhere already");
        let units = self.asks(filing.slot(), filing.alternative()).get(budget);
        let waiter = self.get(filing.slot());
        let rank = waiter.rank;
        let level = rank.level().index();
        // A far deadline at the end of the list would send everybody after it into the tree.
        let listed = waiter.deadline == u64::MAX;
        let line = &mut self.lines.0[budget.index()];
        line.levels |= 1 << level;
        line.asks.add(units);
        let lane = &mut line.lane[level];
        let listed = listed && (lane.head == NONE || lane.last < rank);
        let mut link = Link { prev: NONE, next: NONE, place: budget.index() as u8, sorted: !listed };
        if !listed {
            lane.sorted.insert((rank, filing.alternative()), filing);
            return self.link_mut(filing, |at| *at = link);
        }
        link.prev = std::mem::replace(&mut lane.tail, filing.0);
        lane.last = rank;
        if link.prev == NONE {
            lane.head = filing.0;
        }
        let is_milestone = lane.count_appended();
        if link.prev != NONE {
            self.link_mut(Filing(link.prev), |before| before.next = filing.0);
        }
        self.link_mut(filing, |at| *at = link);
        if is_milestone {
            self.put_milestone(budget, level, (rank, filing));
        }
    }

    /// The last of a list becomes a milestone. Those that stand there no more are dropped when there are as many of
    /// them as others, so that this costs no more than having put them there did.
    #[cold]
    fn put_milestone(&mut self, budget: BudgetId, level: usize, milestone: (Rank, Filing)) {
        let lane = &mut self.lines.0[budget.index()].lane[level];
        lane.since = 0;
        let mut milestones = std::mem::take(&mut lane.milestones);
        let of_those_there = lane.listed / MILE;
        if milestones.len() as u64 > 2 * u64::from(of_those_there) + 8 {
            milestones.retain(|milestone| self.is_there(budget, milestone));
        }
        milestones.push(milestone);
        self.lines.0[budget.index()].lane[level].milestones = milestones;
    }

    /// Whether a milestone still stands in the list where it was put.
    fn is_there(&self, budget: BudgetId, &(rank, filing): &(Rank, Filing)) -> bool {
        let link = self.link(filing);
        link.place == budget.index() as u8 && !link.sorted && self.get(filing.slot()).rank == rank
    }

    /// Takes a filing out of its line, if it stands in one.
    #[inline]
    pub(super) fn leave(&mut self, filing: Filing) {
        let Link { prev, next, place, sorted } = *self.link(filing);
        let rank = self.get(filing.slot()).rank;
        let level = rank.level().index();
        let Some(budget) = BudgetId::from_index(usize::from(place)) else { return };
        let units = self.asks(filing.slot(), filing.alternative()).get(budget);
        let line = &mut self.lines.0[budget.index()];
        let lane = &mut line.lane[level];
        if sorted {
            lane.sorted.remove(&(rank, filing.alternative()));
        } else {
            if prev == NONE {
                lane.head = next;
            }
            if next == NONE {
                lane.tail = prev;
            }
            lane.count_out();
        }
        if lane.is_empty() {
            line.levels &= !(1 << level);
        }
        line.asks.take(units);
        if !sorted && prev != NONE {
            self.link_mut(Filing(prev), |before| before.next = next);
        }
        if !sorted && next != NONE {
            self.link_mut(Filing(next), |after| after.prev = prev);
        }
        self.link_mut(filing, |at| *at = Link::NOWHERE);
    }

    /// The first in a line.
    #[inline]
    pub(super) fn head(&self, budget: BudgetId) -> Option<(Rank, Filing)> {
        let line = &self.lines.0[budget.index()];
        // A line without levels in use has no first.
        let lane = line.lane.get(line.levels.trailing_zeros() as usize)?;
        let listed = (lane.head != NONE).then(|| (self.get(lane.head >> 3).rank, Filing(lane.head)));
        if lane.sorted.is_empty() { listed } else { earlier(listed, lane.sorted.first_key_value()) }
    }

    /// Those in a line who rank before `rank`, each by one of its alternatives, in no particular order.
    pub(super) fn before(&self, budget: BudgetId, rank: Rank) -> impl Iterator<Item = Filing> + '_ {
        let filing = |at: u32| (at != NONE).then_some(Filing(at));
        let lanes = &self.lines.0[budget.index()].lane[..=rank.level().index()];
        let all = lanes.iter().flat_map(move |lane| {
            let listed = std::iter::successors(filing(lane.head), move |&at| filing(self.link(at).next));
            let listed = listed.take_while(move |at| self.get(at.slot()).rank < rank);
            listed.chain(lane.sorted.range(..(rank, 0)).map(|(_, &at)| at))
        });
        all.filter(move |&at| at.alternative() == 0 || !self.stands_before(at, budget))
    }

    /// Whether an alternative that the waiter prefers to this one stands in the same line.
    fn stands_before(&self, filing: Filing, budget: BudgetId) -> bool {
        let earlier = (0..filing.alternative()).map(|alternative| Filing::new(filing.slot(), alternative));
        earlier.into_iter().any(|earlier| self.place(earlier) == Some(budget))
    }

    /// The first in a line that comes after `after`. `hint`: a filing to look from, if it still stands there.
    pub(super) fn next(&self, budget: BudgetId, after: Key, hint: Option<Filing>) -> Option<(Rank, Filing)> {
        let line = &self.lines.0[budget.index()];
        let first = after.0.level().index();
        let lanes = line.lane.iter().enumerate().skip(first).filter(|(level, _)| line.levels & 1 << level != 0);
        for (level, lane) in lanes {
            let hint = hint.filter(|_| level == first);
            let listed = self.listed_after(lane, budget, after, hint);
            let sorted = lane.sorted.range((Bound::Excluded(after), Bound::Unbounded)).next();
            if let Some(found) = earlier(listed, sorted) {
                return Some(found);
            }
        }
        None
    }

    fn listed_after(&self, lane: &Lane, budget: BudgetId, after: Key, hint: Option<Filing>) -> Option<(Rank, Filing)> {
        let key = |filing: Filing| (self.get(filing.slot()).rank, filing.alternative());
        let stands = |hint: &Filing| {
            let link = self.link(*hint);
            let here = link.place == budget.index() as u8 && !link.sorted;
            here && key(*hint) <= after && key(*hint).0.level() == after.0.level()
        };
        let mut at = hint
            .filter(stands)
            .or_else(|| self.milestone_before(lane, budget, after))
            .map_or(lane.head, |from| self.link(from).next);
        while at != NONE {
            if key(Filing(at)) > after {
                return Some((key(Filing(at)).0, Filing(at)));
            }
            at = self.link(Filing(at)).next;
        }
        None
    }

    /// The last milestone in a list that comes before `after`.
    fn milestone_before(&self, lane: &Lane, budget: BudgetId, (after, _): Key) -> Option<Filing> {
        let before = lane.milestones.partition_point(|&(rank, _)| rank < after);
        let there = lane.milestones[..before].iter().rev().find(|milestone| self.is_there(budget, milestone));
        there.map(|&(_, filing)| filing)
    }
}

/// The earlier of the first in the list and the first in the tree.
fn earlier(listed: Option<(Rank, Filing)>, sorted: Option<(&Key, &Filing)>) -> Option<(Rank, Filing)> {
    let sorted = sorted.map(|(&(rank, _), &filing)| (rank, filing));
    match (listed, sorted) {
        (Some(a), Some(b)) => {
            let key = |(rank, filing): (Rank, Filing)| (rank, filing.alternative());
            Some(if key(a) < key(b) { a } else { b })
        }
        (a, b) => a.or(b),
    }
}
