//! A space without bytes: it counts, checks what it is asked, and refuses when it is told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bursar::memory::{BlockId, BlockSize, Remains, Space, SpaceError, Stream};
use bursar::{SpaceId, Tier};

pub const GPU0: SpaceId = SpaceId { tier: Tier::Gpu, index: 0 };

#[derive(Debug, Default)]
struct State {
    live: HashMap<BlockId, BlockSize>,
    used: u64,
    most: u64,
    asked: u32,
    /// Nothing is given beyond this.
    mark: Option<u64>,
    /// Fails with something that is no want of memory.
    broken: bool,
}

/// Clones are the same space.
#[derive(Debug, Clone)]
pub struct Paper {
    state: Arc<Mutex<State>>,
    capacity: u64,
    align: u64,
}

impl Paper {
    pub fn new(capacity: u64, align: u64) -> Self {
        Paper { state: Arc::default(), capacity, align }
    }

    pub fn refuse_above(&self, mark: Option<u64>) {
        self.state().mark = mark;
    }

    pub fn break_down(&self, broken: bool) {
        self.state().broken = broken;
    }

    /// How often it was asked for a block, what is allocated, and the most that ever was.
    pub fn seen(&self) -> (u32, u64, u64) {
        let state = self.state();
        (state.asked, state.used, state.most)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

#[async_trait]
impl Space for Paper {
    fn id(&self) -> SpaceId {
        GPU0
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.state().used
    }

    fn probe(&self) -> Result<u64, SpaceError> {
        if self.state().broken { Err(lost()) } else { Ok(self.capacity) }
    }

    fn footprint(&self, bytes: u64) -> u64 {
        bytes.next_multiple_of(self.align)
    }

    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError> {
        self.state().live.get(&block).copied().ok_or(SpaceError::StaleBlock { block })
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        let mut state = self.state();
        state.asked += 1;
        if state.broken {
            return Err(lost());
        }
        let size = BlockSize { len: bytes, capacity: self.footprint(bytes) };
        let used = state.used + size.capacity;
        assert!(used <= self.capacity, "asked for more than there is: the ledger let {used} pass");
        if state.mark.is_some_and(|mark| used > mark) {
            let free = self.capacity - state.used;
            return Err(SpaceError::OutOfMemory { space: GPU0, asked: bytes, free, largest_free: Some(0), pending: 0 });
        }
        (state.used, state.most) = (used, state.most.max(used));
        let id = BlockId::new(GPU0, state.asked, 0);
        state.live.insert(id, size);
        Ok(id)
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        let mut state = self.state();
        let size = state.live.remove(&block).ok_or(SpaceError::StaleBlock { block })?;
        state.used -= size.capacity;
        Ok(None)
    }

    async fn write(&self, _: Stream, _: BlockId, _: u64, _: &[u8]) -> Result<(), SpaceError> {
        Ok(())
    }

    async fn read(&self, _: Stream, _: BlockId, _: u64, _: &mut [u8]) -> Result<(), SpaceError> {
        Ok(())
    }
}

fn lost() -> SpaceError {
    SpaceError::Lost { space: GPU0, reason: "fell off the bus".into() }
}
