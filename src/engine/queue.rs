//! Who waits, indexed by (rank, short budget).
//!
//! A waiter is filed under every budget that blocked it when it was last examined, in the lane of its level. So a
//! release looks only at the heads of the lanes of what came free, and the head of a lane is the first that may have
//! the budget. A lane is a list in order of arrival, with a tree beside it for the few that come out of order:
//! deadlines, and waiters that were blocked elsewhere first. Filing and unfiling an ordinary waiter is O(1), whatever
//! waits around it.

use std::collections::BTreeMap;

use crate::model::{Amounts, BudgetId, Priority};
use crate::policy::Rank;

const NONE: u32 = u32::MAX;

/// Where a waiter is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The slot is free.
    Free,
    /// Queued, filed and counted.
    Waiting,
    /// Granted; the bundle lies on the board, or has been taken up and the slot not yet swept.
    Offered,
    /// Its offer expired: it keeps its rank, but asks for nothing until it is polled (R5).
    Dormant,
    /// Ended without a grant; the owner has not collected the reason.
    Ended,
}

/// What is asked: one amount inline, more in a side table, so that a single-budget waiter stays small.
#[derive(Debug, Clone, Copy)]
struct Ask {
    set: u64,
    /// The units of the one budget, or the index of the bundle.
    units: u64,
}

/// What a waiter asks for, as it is kept.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asks<'a> {
    /// So much of one budget.
    One(BudgetId, u64),
    /// A bundle.
    Many(&'a Amounts),
}

impl Asks<'_> {
    /// How much of one budget.
    pub(super) fn get(self, id: BudgetId) -> u64 {
        match self {
            Asks::One(only, units) => {
                if only == id {
                    units
                } else {
                    0
                }
            }
            Asks::Many(amounts) => amounts.get(id),
        }
    }

    /// All of it, as a bundle of its own.
    pub(super) fn bundle(self) -> Amounts {
        match self {
            Asks::One(only, units) => Amounts::of(only, units),
            Asks::Many(amounts) => amounts.clone(),
        }
    }
}

/// One waiter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub rank: Rank,
    ask: Ask,
    /// The budgets it is filed under.
    pub filed: u64,
    /// When it arrived.
    pub since: u64,
    /// When the offer to it may expire, once there is one.
    pub expiry: u64,
    /// The first of its nodes.
    node: u32,
    pub state: State,
    /// Whether its rank holds a deadline of its own, not the implied one.
    due: bool,
    /// How many offers to it have expired.
    pub expiries: u8,
    /// How often it gave up a claim on a loan, because another blocked it.
    pub yielded: u8,
}

impl Waiter {
    /// The latest time of its grant, if it has one.
    #[inline]
    fn deadline(&self) -> Option<u64> {
        self.due.then(|| self.rank.deadline())
    }
}

/// One filing of a waiter under a budget.
#[derive(Debug, Clone, Copy)]
struct Node {
    prev: u32,
    next: u32,
    slot: u32,
    /// The next node of the same waiter, or of the free list.
    sibling: u32,
    budget: u8,
    /// In the tree of the lane, not in its list.
    sorted: bool,
}

#[derive(Debug)]
struct Lane {
    head: u32,
    tail: u32,
    /// Nothing in the list ranks after this. May be later than the tail, after a removal.
    last: Option<Rank>,
    sorted: BTreeMap<Rank, u32>,
}

impl Lane {
    /// The first of the lane when some of it is in the tree.
    #[cold]
    fn first_sorted(&self, nodes: &[Node], listed: Option<(Rank, u32)>) -> Option<(Rank, u32)> {
        let sorted = self.sorted.first_key_value().map(|(&rank, &node)| (rank, nodes[node as usize].slot));
        match (listed, sorted) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.head == NONE && self.sorted.is_empty()
    }
}

/// The lanes of one budget and which of them are in use.
#[derive(Debug)]
struct Lanes {
    levels: u8,
    lane: [Lane; Priority::COUNT],
}

/// All waiters.
#[derive(Debug)]
pub(super) struct Queue {
    slots: Vec<Waiter>,
    free_slots: Vec<u32>,
    bundles: Vec<Amounts>,
    free_bundles: Vec<u32>,
    nodes: Vec<Node>,
    free_nodes: u32,
    lanes: Vec<Lanes>,
}

impl Queue {
    pub(super) fn new() -> Self {
        let lane = || Lane { head: NONE, tail: NONE, last: None, sorted: BTreeMap::new() };
        let lanes = || Lanes { levels: 0, lane: std::array::from_fn(|_| lane()) };
        Queue {
            slots: Vec::new(),
            free_slots: Vec::new(),
            bundles: Vec::new(),
            free_bundles: Vec::new(),
            nodes: Vec::new(),
            free_nodes: NONE,
            lanes: (0..BudgetId::LIMIT).map(|_| lanes()).collect(),
        }
    }

    /// A new waiter, filed nowhere.
    pub(super) fn insert(&mut self, rank: Rank, amounts: &Amounts, since: u64, due: bool) -> u32 {
        let set = amounts.set();
        let units = match BudgetId::first_of(set) {
            Some(only) if set.is_power_of_two() => amounts.get(only),
            _ => u64::from(self.keep_bundle(amounts)),
        };
        let ask = Ask { set, units };
        let state = State::Waiting;
        let waiter = Waiter { rank, ask, filed: 0, since, expiry: 0, node: NONE, state, due, expiries: 0, yielded: 0 };
        match self.free_slots.pop() {
            Some(slot) => {
                self.slots[slot as usize] = waiter;
                slot
            }
            None => {
                self.slots.push(waiter);
                self.slots.len() as u32 - 1
            }
        }
    }

    fn keep_bundle(&mut self, amounts: &Amounts) -> u32 {
        match self.free_bundles.pop() {
            Some(at) => {
                self.bundles[at as usize] = amounts.clone();
                at
            }
            None => {
                self.bundles.push(amounts.clone());
                self.bundles.len() as u32 - 1
            }
        }
    }

    /// Frees the slot of a waiter that is filed nowhere.
    pub(super) fn remove(&mut self, slot: u32) {
        let waiter = &mut self.slots[slot as usize];
        debug_assert!(waiter.filed == 0 && waiter.state != State::Free);
        waiter.state = State::Free;
        let ask = waiter.ask;
        if !ask.set.is_power_of_two() {
            self.bundles[ask.units as usize] = Amounts::new();
            self.free_bundles.push(ask.units as u32);
        }
        self.free_slots.push(slot);
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Waiter {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Waiter {
        &mut self.slots[slot as usize]
    }

    /// The entry of a waiter among the deadlines, if it has one.
    #[inline]
    pub(super) fn deadline(&self, slot: u32) -> Option<super::Deadline> {
        let waiter = self.get(slot);
        waiter.deadline().map(|deadline| (deadline, waiter.rank.arrival(), slot))
    }

    /// The budgets that a waiter asks for.
    #[inline]
    pub(super) fn set(&self, slot: u32) -> u64 {
        self.slots[slot as usize].ask.set
    }

    /// What a waiter asks for.
    #[inline]
    pub(super) fn asks(&self, slot: u32) -> Asks<'_> {
        let ask = self.slots[slot as usize].ask;
        match BudgetId::first_of(ask.set) {
            Some(only) if ask.set.is_power_of_two() => Asks::One(only, ask.units),
            _ => Asks::Many(&self.bundles[ask.units as usize]),
        }
    }

    /// Files a waiter under exactly the budgets of `set`.
    pub(super) fn file(&mut self, slot: u32, set: u64) {
        let filed = self.slots[slot as usize].filed;
        for budget in BudgetId::in_set(filed & !set) {
            self.unlink(slot, budget);
        }
        for budget in BudgetId::in_set(set & !filed) {
            self.link(slot, budget);
        }
        self.slots[slot as usize].filed = set;
    }

    /// The waiter that comes first at a budget.
    #[inline]
    pub(super) fn head(&self, budget: BudgetId) -> Option<(Rank, u32)> {
        let lanes = &self.lanes[budget.index()];
        if lanes.levels == 0 {
            return None;
        }
        let lane = &lanes.lane[lanes.levels.trailing_zeros() as usize % Priority::COUNT];
        let listed = self.nodes.get(lane.head as usize).map(|node| (self.slots[node.slot as usize].rank, node.slot));
        if lane.sorted.is_empty() { listed } else { lane.first_sorted(&self.nodes, listed) }
    }

    fn link(&mut self, slot: u32, budget: BudgetId) {
        let waiter = &mut self.slots[slot as usize];
        let rank = waiter.rank;
        let level = rank.level().index();
        let lanes = &mut self.lanes[budget.index()];
        lanes.levels |= 1 << level;
        let lane = &mut lanes.lane[level];
        // A far deadline at the end of the list would send everybody after it into the tree.
        let in_order = !waiter.due && (lane.head == NONE || lane.last.is_none_or(|last| last < rank));
        let prev = if in_order { lane.tail } else { NONE };
        let node =
            Node { prev, next: NONE, slot, sibling: waiter.node, budget: budget.index() as u8, sorted: !in_order };
        let at = match self.nodes.get_mut(self.free_nodes as usize) {
            Some(free) => {
                let at = self.free_nodes;
                self.free_nodes = free.sibling;
                *free = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        waiter.node = at;
        if in_order {
            lane.tail = at;
            lane.last = Some(rank);
            match self.nodes.get_mut(prev as usize) {
                Some(tail) => tail.next = at,
                None => lane.head = at,
            }
        } else {
            lane.sorted.insert(rank, at);
        }
    }

    fn unlink(&mut self, slot: u32, budget: BudgetId) {
        let waiter = &mut self.slots[slot as usize];
        let level = waiter.rank.level().index();
        // Take the node out of the waiter's chain.
        let mut at = waiter.node;
        if self.nodes[at as usize].budget == budget.index() as u8 {
            waiter.node = self.nodes[at as usize].sibling;
        } else {
            let mut before = at;
            at = self.nodes[at as usize].sibling;
            while self.nodes[at as usize].budget != budget.index() as u8 {
                before = at;
                at = self.nodes[at as usize].sibling;
            }
            self.nodes[before as usize].sibling = self.nodes[at as usize].sibling;
        }
        // Take it out of its lane.
        let lanes = &mut self.lanes[budget.index()];
        let lane = &mut lanes.lane[level];
        let node = &mut self.nodes[at as usize];
        node.sibling = self.free_nodes;
        self.free_nodes = at;
        if node.sorted {
            lane.sorted.remove(&waiter.rank);
        } else {
            let (prev, next) = (node.prev, node.next);
            match self.nodes.get_mut(prev as usize) {
                Some(prev) => prev.next = next,
                None => lane.head = next,
            }
            match self.nodes.get_mut(next as usize) {
                Some(next) => next.prev = prev,
                None => lane.tail = prev,
            }
        }
        if lane.is_empty() {
            lanes.levels &= !(1 << level);
        }
    }

    /// Slots in use, with their waiters: for checks, closing and capacity changes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Waiter)> {
        let used = |(_, waiter): &(usize, &Waiter)| waiter.state != State::Free;
        self.slots.iter().enumerate().filter(used).map(|(slot, waiter)| (slot as u32, waiter))
    }

    /// Number of slots in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free_slots.len()
    }
}
