//! Pinned blocks that a device copies from or to by itself.

use futures::lock::OwnedMutexGuard;

use super::block::HostBlock;
use super::space::HostSpace;
use crate::memory::turns::Turn;
use crate::memory::{BlockId, SpaceError, Stream};

/// A range of a pinned block, which nobody else uses until this is dropped.
#[derive(Debug)]
pub(crate) struct Lent {
    block: OwnedMutexGuard<HostBlock>,
    start: usize,
    length: usize,
    _turn: Turn,
}

impl Lent {
    pub(in crate::memory) fn address(&self) -> u64 {
        self.block.address() + self.start as u64
    }

    pub(in crate::memory) fn len(&self) -> usize {
        self.length
    }
}

impl HostSpace {
    /// Lends a range, in the order of a stream. `None` if its memory is not pinned.
    ///
    /// # Errors
    /// As [`read`](crate::memory::Space::read).
    pub(crate) async fn lend(
        &self,
        stream: Stream,
        id: BlockId,
        offset: u64,
        length: usize,
    ) -> Result<Option<Lent>, SpaceError> {
        if !self.pool().source().is_pinned() {
            return Ok(None);
        }
        let start = self.check(id, offset, length)?;
        let turn = self.turn(stream).await;
        let block = self.entry(id)?.lock_owned().await;
        Ok(Some(Lent { block, start, length, _turn: turn }))
    }
}
