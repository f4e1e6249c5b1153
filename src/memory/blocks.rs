//! Who is allocated: a table whose ids are good for one allocation.
//!
//! It is in parts, each under a lock of its own, and a thread enters blocks into its part.

use std::fmt;

use crossbeam_utils::CachePadded;

use super::error::SpaceError;
use super::{Lock, thread};
use crate::model::SpaceId;

/// There are at most so many parts; the lowest bits of a slot's number say which it is in.
const PART_BITS: u32 = 7;

/// Names one allocated block of one space. Stale for ever once the block is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    space: SpaceId,
    slot: u32,
    /// Counts the blocks that were in the slot before. A slot that has had 2³² is not used again.
    generation: u32,
}

impl BlockId {
    /// The id of a block, for those who implement [`Space`](super::Space): `generation` counts the blocks that were in
    /// the slot before.
    pub const fn new(space: SpaceId, slot: u32, generation: u32) -> Self {
        BlockId { space, slot, generation }
    }

    /// The space it is in.
    pub const fn space(self) -> SpaceId {
        self.space
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}.{} of {}", self.slot, self.generation, self.space)
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Option<T>,
}

#[derive(Debug)]
struct Part<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

/// The blocks of a space.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    space: SpaceId,
    parts: Box<[CachePadded<Lock<Part<T>>>]>,
}

impl<T> Blocks<T> {
    pub(super) fn new(space: SpaceId) -> Self {
        let part = || CachePadded::new(Lock::new(Part { slots: Vec::new(), free: Vec::new() }));
        Blocks { space, parts: (0..thread::parts()).map(|_| part()).collect() }
    }

    /// Enters a block. `None` when there are too many already: 2²⁵ in a part.
    pub(super) fn insert(&self, content: T) -> Option<BlockId> {
        let number = thread::number() & (self.parts.len() - 1);
        let mut part = self.parts[number].lock();
        let at = match part.free.pop() {
            Some(at) => at,
            None => {
                let at = u32::try_from(part.slots.len()).ok().filter(|at| at >> (u32::BITS - PART_BITS) == 0)?;
                part.slots.push(Slot { generation: 0, content: None });
                at
            }
        };
        let slot = part.slots.get_mut(at as usize)?;
        slot.content = Some(content);
        Some(BlockId { space: self.space, slot: at << PART_BITS | number as u32, generation: slot.generation })
    }

    /// Looks at a block.
    pub(super) fn with<R>(&self, block: BlockId, look: impl FnOnce(&T) -> R) -> Result<R, SpaceError> {
        let mut part = self.part(block)?.lock();
        let (_, content) = part.find(block)?;
        Ok(look(content))
    }

    /// Takes a block out; its id is stale from now on.
    pub(super) fn remove(&self, block: BlockId) -> Result<T, SpaceError> {
        self.remove_if(block, |_| true)
    }

    /// Takes a block out if it may be taken, looking at it under the lock.
    pub(super) fn remove_if(&self, block: BlockId, may: impl FnOnce(&T) -> bool) -> Result<T, SpaceError> {
        let mut part = self.part(block)?.lock();
        let (at, content) = part.find(block)?;
        if !may(content) {
            return Err(SpaceError::Busy { block });
        }
        let slot = &mut part.slots[at];
        let content = slot.content.take().ok_or(SpaceError::StaleBlock { block })?;
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            part.free.push(at as u32);
        }
        Ok(content)
    }

    fn part(&self, block: BlockId) -> Result<&Lock<Part<T>>, SpaceError> {
        if block.space != self.space {
            return Err(SpaceError::ForeignBlock { block, space: self.space });
        }
        let number = block.slot & ((1 << PART_BITS) - 1);
        self.parts.get(number as usize).map(|part| &**part).ok_or(SpaceError::StaleBlock { block })
    }
}

impl<T: Clone> Blocks<T> {
    /// What a block holds.
    pub(super) fn get(&self, block: BlockId) -> Result<T, SpaceError> {
        self.with(block, T::clone)
    }
}

impl<T> Part<T> {
    fn find(&mut self, block: BlockId) -> Result<(usize, &T), SpaceError> {
        let at = (block.slot >> PART_BITS) as usize;
        let slot = self.slots.get(at).filter(|slot| slot.generation == block.generation);
        let content = slot.and_then(|slot| slot.content.as_ref()).ok_or(SpaceError::StaleBlock { block })?;
        Ok((at, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Tier;

    #[test]
    fn a_slot_that_has_had_every_generation_is_not_used_again() {
        let blocks = Blocks::new(SpaceId { tier: Tier::Host, index: 0 });
        let first = blocks.insert('a').expect("room");
        for part in &blocks.parts {
            part.lock().slots.iter_mut().for_each(|slot| slot.generation = u32::MAX);
        }
        let last = BlockId { generation: u32::MAX, ..first };
        assert_eq!(blocks.get(first), Err(SpaceError::StaleBlock { block: first }));
        assert_eq!((blocks.remove(last), blocks.get(last)), (Ok('a'), Err(SpaceError::StaleBlock { block: last })));
        let next = blocks.insert('b').expect("room");
        assert_ne!(next.slot, last.slot);
        assert_eq!(blocks.get(last), Err(SpaceError::StaleBlock { block: last }));
    }
}
