//! The memory of the host as a space.

use std::sync::Arc;

use async_trait::async_trait;

use super::block::HostBlock;
use super::memory::{Memory, Use};
use super::source::HeapSource;
use crate::memory::blocks::{BlockId, Blocks};
use crate::memory::error::SpaceError;
use crate::memory::joint::Joint;
use crate::memory::pool::{Pool, PoolConfig};
use crate::memory::turns::{Turn, Turns, check_range};
use crate::memory::{BlockSize, Remains, Space, Stream};
use crate::model::{Figure, KIB, SpaceId};

/// What is copied before other tasks of the thread get a turn, some 25 us.
const PIECE: usize = 256 * KIB as usize;

/// Memory of the host: page-aligned slabs, from which blocks of any size, in one piece each, are given.
///
/// Blocks below a page of 4 KiB are multiples of 512 bytes, others whole pages. There are two ways to them: a
/// [`HostBlock`] is owned and frees itself, a [`BlockId`] is plain data.
#[derive(Debug)]
pub struct HostSpace {
    pool: Pool<HeapSource>,
    capacity: u64,
    blocks: Blocks<Entry>,
    turns: Turns,
}

#[derive(Debug, Clone)]
struct Entry {
    size: BlockSize,
    memory: Arc<Joint<Memory>>,
}

impl HostSpace {
    /// So much of the heap.
    pub fn new(id: SpaceId, capacity: u64) -> Self {
        HostSpace::with(id, HeapSource::new(), capacity, PoolConfig::host(capacity))
    }

    /// Memory of a source of one's own choice, pinned memory for instance, in a pool of one's own choice. The limit of
    /// the pool is the capacity.
    pub fn with(id: SpaceId, source: HeapSource, capacity: u64, config: PoolConfig) -> Self {
        let pool = Pool::new(id, source, config.limit(capacity));
        HostSpace { pool, capacity, blocks: Blocks::new(id), turns: Turns::new() }
    }

    /// Allocates a block that is owned.
    ///
    /// # Errors
    /// As [`allocate`](Space::allocate).
    pub fn allocate_block(&self, bytes: u64) -> Result<HostBlock, SpaceError> {
        self.pool.allocate(bytes, Stream(0)).map(HostBlock::new)
    }

    /// Gives a block up for an id of it.
    ///
    /// # Errors
    /// [`SpaceError::TooManyIds`].
    pub fn into_id(&self, block: HostBlock) -> Result<BlockId, SpaceError> {
        let size = BlockSize { len: block.len() as u64, capacity: block.capacity() };
        let entry = Entry { size, memory: Joint::new(Memory::new(block)) };
        self.blocks.insert(entry).ok_or(SpaceError::TooManyIds { space: self.id() })
    }

    /// Takes the block of an id, which is stale from then on.
    ///
    /// # Errors
    /// As [`free`](Space::free), and [`SpaceError::Busy`] while a piece of it is being copied.
    pub fn take(&self, id: BlockId) -> Result<HostBlock, SpaceError> {
        let entry = self.blocks.remove_if(id, |entry| entry.memory.is_alone())?;
        // Nobody can have found it since.
        entry.memory.into_inner().map(Memory::into_block).ok_or(SpaceError::Busy { block: id })
    }

    /// The pool below, for its figures, for trimming and for warming it up.
    pub fn pool(&self) -> &Pool<HeapSource> {
        &self.pool
    }

    /// The right to copy in the order of a stream.
    pub(super) async fn turn(&self, stream: Stream) -> Turn {
        self.turns.take(stream).await
    }

    /// The use of a block by its id, looked up for every piece: a block that was freed in between is stale.
    pub(super) async fn use_of(&self, id: BlockId) -> Result<Use, SpaceError> {
        let memory = self.blocks.with(id, |entry| Arc::clone(&entry.memory))?;
        Ok(Use::of(memory).await)
    }

    pub(super) fn check(&self, id: BlockId, offset: u64, length: usize) -> Result<usize, SpaceError> {
        let size = self.blocks.with(id, |entry| entry.size.len)?;
        check_range(id, size, offset, length)
    }
}

#[async_trait]
impl Space for HostSpace {
    fn id(&self) -> SpaceId {
        self.pool.space()
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.pool.usage().allocated
    }

    fn figures(&self) -> Vec<Figure> {
        self.pool.usage().figures()
    }

    fn footprint(&self, bytes: u64) -> u64 {
        self.pool.footprint(bytes)
    }

    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError> {
        self.blocks.with(block, |entry| entry.size)
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        self.into_id(self.allocate_block(bytes)?)
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        self.release_then(block, &mut || Box::new(()))
    }

    /// A copy that is under way keeps its memory until it finds its block stale; a device that copies by itself, until
    /// it is done.
    fn release_then(&self, block: BlockId, then: &mut dyn FnMut() -> Remains) -> Result<Option<Remains>, SpaceError> {
        self.blocks.remove(block)?.memory.freed(then);
        Ok(None)
    }

    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, bytes.len())?;
        let _turn = self.turn(stream).await;
        for (at, piece) in pieces(bytes.len()) {
            if at > 0 {
                tokio::task::yield_now().await;
            }
            // The range was checked, and a block never changes its size.
            let write = |memory: &mut HostBlock| {
                memory[start + at..start + at + piece].copy_from_slice(&bytes[at..at + piece]);
            };
            self.use_of(block).await?.with(block, write)?;
        }
        Ok(())
    }

    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, into.len())?;
        let _turn = self.turn(stream).await;
        for (at, piece) in pieces(into.len()) {
            if at > 0 {
                tokio::task::yield_now().await;
            }
            let read = |memory: &mut HostBlock| {
                into[at..at + piece].copy_from_slice(&memory[start + at..start + at + piece]);
            };
            self.use_of(block).await?.with(block, read)?;
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn host(&self) -> Option<&HostSpace> {
        Some(self)
    }
}

/// Where the pieces of so many bytes begin, and how long each is.
fn pieces(length: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..length).step_by(PIECE).map(move |at| (at, PIECE.min(length - at)))
}
