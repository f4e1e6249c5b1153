//! Pinned blocks that a device copies from or to by itself.

use std::ops::Deref;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard};

use super::block::HostBlock;
use super::space::HostSpace;
use crate::memory::turns::Turn;
use crate::memory::{BlockId, SpaceError, Stream};

/// Nobody writes the block.
pub(crate) type Shared = OwnedRwLockReadGuard<HostBlock>;
/// Nobody else uses the block.
pub(crate) type Alone = OwnedRwLockWriteGuard<HostBlock>;

/// A range of a pinned block, and the right to it until this is dropped.
#[derive(Debug)]
pub(crate) struct Lent<G> {
    block: G,
    start: usize,
    length: usize,
    _turn: Turn,
}

impl<G: Deref<Target = HostBlock>> Lent<G> {
    pub(in crate::memory) fn address(&self) -> u64 {
        self.block.address() + self.start as u64
    }

    pub(in crate::memory) fn len(&self) -> usize {
        self.length
    }
}

impl HostSpace {
    /// Lends a range to whoever reads it, in the order of a stream. `None` if its memory is not pinned.
    ///
    /// # Errors
    /// As [`read`](crate::memory::Space::read).
    pub(crate) async fn lend(
        &self,
        stream: Stream,
        id: BlockId,
        offset: u64,
        length: usize,
    ) -> Result<Option<Lent<Shared>>, SpaceError> {
        if !self.pool().source().is_pinned() {
            return Ok(None);
        }
        let start = self.check(id, offset, length)?;
        let turn = self.turn(stream).await;
        let block = self.entry(id)?.read_owned().await;
        Ok(Some(Lent { block, start, length, _turn: turn }))
    }

    /// The same for whoever writes it.
    ///
    /// # Errors
    /// As [`write`](crate::memory::Space::write).
    pub(crate) async fn lend_alone(
        &self,
        stream: Stream,
        id: BlockId,
        offset: u64,
        length: usize,
    ) -> Result<Option<Lent<Alone>>, SpaceError> {
        if !self.pool().source().is_pinned() {
            return Ok(None);
        }
        let start = self.check(id, offset, length)?;
        let turn = self.turn(stream).await;
        let block = self.entry(id)?.write_owned().await;
        Ok(Some(Lent { block, start, length, _turn: turn }))
    }
}
