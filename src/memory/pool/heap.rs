//! Where the blocks lie: two-level segregated fit over the slabs, in units, without the memory itself.
//!
//! The algorithm is Masmano, Ripoll, Crespo and Real, "TLSF: a new dynamic memory allocator for real-time systems"
//! (2004): free pieces stand in lists by size, sixteen to an octave, two words of bits say which lists have any, and
//! neighbours that are free are joined at once. Taking and giving are a constant number of steps however many pieces
//! there are. It keeps its notes in the memory that it manages; a device's memory cannot be read, so here they lie in a
//! table beside.
//!
//! Of the list that the size itself belongs to, the first few pieces are tried before a list whose pieces all fit: what
//! is freed has mostly the size of what is taken next.

/// No node.
const NONE: u32 = u32::MAX;
/// Lists an octave.
const STEPS: u32 = 16;
const LEVELS: usize = 29;
/// How many pieces of the own list are tried.
const TRIES: usize = 8;

/// A piece of a slab, free or taken, between its neighbours.
#[derive(Debug, Clone, Copy)]
struct Node {
    slab: u32,
    start: u32,
    units: u32,
    /// The neighbours in the slab.
    before: u32,
    after: u32,
    /// The neighbours in the list, if it is free.
    previous: u32,
    next: u32,
    free: bool,
}

/// Where a piece lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: u32,
    pub(super) slab: u32,
    pub(super) start: u32,
    pub(super) units: u32,
}

/// How hard to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// In constant time. May miss a piece that fits.
    Quick,
    /// At every piece of the lists that may hold one that fits.
    Thorough,
}

#[derive(Debug)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    /// Numbers of nodes that are nothing now.
    spare: Vec<u32>,
    heads: Box<[[u32; STEPS as usize]; LEVELS]>,
    /// Which levels have any piece, and which of their lists.
    levels: u32,
    lists: [u16; LEVELS],
    free: u64,
}

/// A list: level and step.
type List = (usize, usize);

impl Heap {
    pub(super) fn new() -> Self {
        let heads = Box::new([[NONE; STEPS as usize]; LEVELS]);
        Heap { nodes: Vec::new(), spare: Vec::new(), heads, levels: 0, lists: [0; LEVELS], free: 0 }
    }

    /// Units that are free.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Adds a slab, wholly free. Returns its first node, which stays the first for as long as the slab is there. `None`
    /// if there are too many pieces already.
    pub(super) fn add(&mut self, slab: u32, units: u32) -> Option<u32> {
        let node = Node { slab, start: 0, units, before: NONE, after: NONE, previous: NONE, next: NONE, free: false };
        let node = self.enter(node)?;
        self.list(node);
        Some(node)
    }

    /// Removes a slab if it is wholly free.
    pub(super) fn remove(&mut self, first: u32) -> bool {
        let empty = self.is_empty(first);
        if empty {
            self.unlist(first);
            self.spare.push(first);
        }
        empty
    }

    /// Whether nothing is taken of the slab with this first node.
    pub(super) fn is_empty(&self, first: u32) -> bool {
        let node = self.nodes[first as usize];
        node.free && node.after == NONE
    }

    /// The largest piece.
    pub(super) fn largest(&self) -> u32 {
        let Some(level) = self.levels.checked_ilog2() else { return 0 };
        let level = level as usize;
        let step = self.lists[level].ilog2() as usize;
        self.list_of(level, step).map(|node| self.nodes[node as usize].units).max().unwrap_or(0)
    }

    /// Takes a piece of so many units that begins at a multiple of `align` in its slab.
    pub(super) fn take(&mut self, units: u32, align: u32, look: Look) -> Option<Place> {
        let found = self.near(units, align, look).or_else(|| self.good(units, align))?;
        let (node, front) = (found, self.gap(found, align));
        self.unlist(node);
        let node = if front > 0 { self.cut_front(node, front) } else { Some(node) };
        let node = node?;
        self.cut_back(node, units);
        let Node { slab, start, units, .. } = self.nodes[node as usize];
        Some(Place { node, slab, start, units })
    }

    /// Gives a piece back and joins it with its free neighbours.
    pub(super) fn give(&mut self, node: u32) {
        let mut node = node;
        debug_assert!(!self.nodes[node as usize].free, "given back twice");
        let Node { before, after, .. } = self.nodes[node as usize];
        if after != NONE && self.nodes[after as usize].free {
            self.unlist(after);
            self.join(node, after);
        }
        if before != NONE && self.nodes[before as usize].free {
            self.unlist(before);
            self.join(before, node);
            node = before;
        }
        self.list(node);
    }

    /// Cuts a taken piece down to its first units. The rest is free.
    pub(super) fn cut_back(&mut self, node: u32, units: u32) {
        if let Some(rest) = self.cut(node, units) {
            // Its other neighbour may be free: pieces that were taken are cut too.
            self.give(rest);
        }
    }

    /// Frees the first units of a taken piece. Returns the node of what is left of it, or `None`, and frees it all, if
    /// there are too many nodes.
    fn cut_front(&mut self, node: u32, units: u32) -> Option<u32> {
        let rest = self.cut(node, units);
        self.list(node);
        rest
    }

    /// Cuts a taken piece in two, both taken. The second is new.
    fn cut(&mut self, node: u32, units: u32) -> Option<u32> {
        let whole = self.nodes[node as usize];
        if whole.units == units {
            return None;
        }
        let rest = Node { start: whole.start + units, units: whole.units - units, before: node, ..whole };
        let rest = self.enter(rest)?;
        if whole.after != NONE {
            self.nodes[whole.after as usize].before = rest;
        }
        let first = &mut self.nodes[node as usize];
        (first.units, first.after) = (units, rest);
        Some(rest)
    }

    /// Adds the second of two neighbours to the first.
    fn join(&mut self, first: u32, second: u32) {
        let Node { units, after, .. } = self.nodes[second as usize];
        let joined = &mut self.nodes[first as usize];
        joined.units += units;
        joined.after = after;
        if after != NONE {
            self.nodes[after as usize].before = first;
        }
        self.spare.push(second);
    }

    /// A piece of a list that may hold one of just this size.
    fn near(&self, units: u32, align: u32, look: Look) -> Option<u32> {
        let (level, step) = list_with(units);
        let fits = |&node: &u32| self.nodes[node as usize].units >= units.saturating_add(self.gap(node, align));
        if look == Look::Quick {
            return self.list_of(level, step).take(TRIES).find(fits);
        }
        let lists = level * STEPS as usize + step..LEVELS * STEPS as usize;
        let mut pieces = lists.flat_map(|list| self.list_of(list / STEPS as usize, list % STEPS as usize));
        pieces.find(fits)
    }

    /// A piece that is so large that it fits wherever it begins.
    fn good(&self, units: u32, align: u32) -> Option<u32> {
        let (level, step) = list_above(units.checked_add(align - 1)?)?;
        let steps = self.lists.get(level)? & u16::MAX << step;
        let (level, steps) = if steps != 0 {
            (level, steps)
        } else {
            let levels = self.levels & (u32::MAX << level << 1);
            let level = levels.trailing_zeros() as usize;
            (level, *self.lists.get(level)?)
        };
        Some(self.heads[level][steps.trailing_zeros() as usize])
    }

    /// Units of a piece before its first multiple of `align`.
    fn gap(&self, node: u32, align: u32) -> u32 {
        let start = self.nodes[node as usize].start;
        start.wrapping_neg() & (align - 1)
    }

    fn list_of(&self, level: usize, step: usize) -> impl Iterator<Item = u32> + '_ {
        let some = |node: u32| (node != NONE).then_some(node);
        std::iter::successors(some(self.heads[level][step]), move |&node| some(self.nodes[node as usize].next))
    }

    fn list(&mut self, number: u32) {
        let units = self.nodes[number as usize].units;
        let (level, step) = list_with(units);
        let head = std::mem::replace(&mut self.heads[level][step], number);
        if head != NONE {
            self.nodes[head as usize].previous = number;
        }
        let node = &mut self.nodes[number as usize];
        (node.free, node.previous, node.next) = (true, NONE, head);
        self.levels |= 1 << level;
        self.lists[level] |= 1 << step;
        self.free += u64::from(units);
    }

    fn unlist(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        node.free = false;
        let Node { units, previous, next, .. } = *node;
        self.free -= u64::from(units);
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
            return;
        }
        let (level, step) = list_with(units);
        self.heads[level][step] = next;
        if next == NONE {
            self.lists[level] &= !(1 << step);
            if self.lists[level] == 0 {
                self.levels &= !(1 << level);
            }
        }
    }

    fn enter(&mut self, node: Node) -> Option<u32> {
        if let Some(number) = self.spare.pop() {
            self.nodes[number as usize] = node;
            return Some(number);
        }
        let number = u32::try_from(self.nodes.len()).ok().filter(|&number| number != NONE)?;
        self.nodes.push(node);
        Some(number)
    }
}

/// The list that a piece of so many units stands in.
fn list_with(units: u32) -> List {
    if units < STEPS {
        return (0, units as usize);
    }
    let octave = units.ilog2();
    let step = (units >> (octave - STEPS.ilog2())) & (STEPS - 1);
    ((octave - STEPS.ilog2() + 1) as usize, step as usize)
}

/// The first list whose pieces all have so many units.
fn list_above(units: u32) -> Option<List> {
    let rest = if units < STEPS { 0 } else { (1 << (units.ilog2() - STEPS.ilog2())) - 1 };
    units.checked_add(rest).map(list_with)
}

#[cfg(test)]
mod tests;
