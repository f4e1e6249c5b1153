//! The memory of the host as a space.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::block::HostBlock;
use super::source::HeapSource;
use crate::memory::blocks::{BlockId, Blocks};
use crate::memory::error::SpaceError;
use crate::memory::pool::{Pool, PoolConfig};
use crate::memory::turns::{Turns, check_range};
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

type Entry = Arc<Mutex<HostBlock>>;

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
        self.blocks.insert(Arc::new(Mutex::new(block))).ok_or(SpaceError::TooManyIds { space: self.id() })
    }

    /// Takes the block of an id, which is stale from then on.
    ///
    /// # Errors
    /// As [`free`](Space::free), and [`SpaceError::Busy`] while a piece of it is being copied.
    pub fn take(&self, id: BlockId) -> Result<HostBlock, SpaceError> {
        let entry = self.blocks.remove_if(id, |entry| Arc::strong_count(entry) == 1)?;
        // Nobody can have found it since.
        let block = Arc::try_unwrap(entry).map_err(|_| SpaceError::Busy { block: id })?;
        Ok(block.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The pool below, for its figures, for trimming and for warming it up.
    pub fn pool(&self) -> &Pool<HeapSource> {
        &self.pool
    }

    /// Calls `each` for the bytes of a range, piece by piece, with where the piece begins in the range.
    async fn in_pieces(
        &self,
        id: BlockId,
        offset: usize,
        length: usize,
        mut each: impl FnMut(&mut [u8], usize) + Send,
    ) -> Result<(), SpaceError> {
        let mut done = 0;
        while done < length {
            let end = length.min(done + PIECE);
            // Looked up every time: a block that was freed in between is stale.
            let entry = self.blocks.get(id)?;
            // The range was checked, and a block never changes its size.
            if let Some(piece) = lock(&entry).get_mut(offset + done..offset + end) {
                each(piece, done);
            }
            done = end;
            if done < length {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn check(&self, id: BlockId, offset: u64, length: usize) -> Result<usize, SpaceError> {
        let size = self.blocks.with(id, |entry| lock(entry).len() as u64)?;
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
        self.blocks.with(block, |entry| {
            let block = lock(entry);
            BlockSize { len: block.len() as u64, capacity: block.capacity() }
        })
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        self.into_id(self.allocate_block(bytes)?)
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        // A copy that is under way keeps its memory until it finds its block stale.
        self.blocks.remove(block).map(|_| None)
    }

    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, bytes.len())?;
        let _turn = self.turns.take(stream).await;
        let copy = |piece: &mut [u8], at: usize| piece.copy_from_slice(&bytes[at..at + piece.len()]);
        self.in_pieces(block, start, bytes.len(), copy).await
    }

    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, into.len())?;
        let _turn = self.turns.take(stream).await;
        let length = into.len();
        let copy = |piece: &mut [u8], at: usize| into[at..at + piece.len()].copy_from_slice(piece);
        self.in_pieces(block, start, length, copy).await
    }
}

/// A copy cannot panic between two bytes, so what a panicking thread left is as good as any.
fn lock(entry: &Mutex<HostBlock>) -> MutexGuard<'_, HostBlock> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}
