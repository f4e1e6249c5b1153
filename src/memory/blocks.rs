//! Who is allocated: a table whose ids are good for one allocation.

use std::fmt;

use crate::model::SpaceId;

use super::error::SpaceError;

/// Names one allocated block of one space. Stale once the block is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    space: SpaceId,
    slot: u32,
    /// Counts the blocks that were in the slot before. With 2³² of them it comes round.
    generation: u32,
}

impl BlockId {
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

/// The blocks of a space.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    space: SpaceId,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Blocks<T> {
    pub(super) const fn new(space: SpaceId) -> Self {
        Blocks { space, slots: Vec::new(), free: Vec::new() }
    }

    /// Enters a block. `None` when there are 2³² already.
    pub(super) fn insert(&mut self, content: T) -> Option<BlockId> {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let number = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot { generation: 0, content: None });
                number
            }
        };
        let slot = self.slots.get_mut(number as usize)?;
        slot.content = Some(content);
        Some(BlockId { space: self.space, slot: number, generation: slot.generation })
    }

    pub(super) fn get(&self, block: BlockId) -> Result<&T, SpaceError> {
        self.check_space(block)?;
        let slot = self.slots.get(block.slot as usize).filter(|slot| slot.generation == block.generation);
        slot.and_then(|slot| slot.content.as_ref()).ok_or(SpaceError::StaleBlock { block })
    }

    /// Takes a block out; its id is stale from now on.
    pub(super) fn remove(&mut self, block: BlockId) -> Result<T, SpaceError> {
        self.check_space(block)?;
        let slot = self.slots.get_mut(block.slot as usize).filter(|slot| slot.generation == block.generation);
        let (slot, content) = slot
            .and_then(|slot| slot.content.take().map(|content| (slot, content)))
            .ok_or(SpaceError::StaleBlock { block })?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(block.slot);
        Ok(content)
    }

    fn check_space(&self, block: BlockId) -> Result<(), SpaceError> {
        if block.space == self.space { Ok(()) } else { Err(SpaceError::ForeignBlock { block, space: self.space }) }
    }
}
