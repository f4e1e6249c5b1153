//! What is behind an id of host memory: a block that is used by one at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::block::HostBlock;
use crate::memory::joint::Joint;
use crate::memory::{BlockId, SpaceError};

#[derive(Debug)]
pub(super) struct Memory {
    /// A lock that is waited for asynchronously, because a device that copies by itself has it for as long as that
    /// takes. A mutex of tokio would show itself in tokio-console, and owned guards of others need a block of their
    /// own.
    in_use: AtomicBool,
    /// Tells one of those who wait.
    left: Notify,
    /// Locked by whoever uses it, so never for long, and never in vain.
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    block: HostBlock,
    /// A device failed while it wrote it, and may still be at it: nobody else may look.
    lost: bool,
}

/// Keeps everybody else from a block until it drops.
#[derive(Debug)]
pub(super) struct Use {
    memory: Arc<Joint<Memory>>,
}

impl Memory {
    pub(super) fn new(block: HostBlock) -> Self {
        let content = Mutex::new(Content { block, lost: false });
        Memory { in_use: AtomicBool::new(false), left: Notify::new(), content }
    }

    pub(super) fn into_block(self) -> HostBlock {
        self.content.into_inner().unwrap_or_else(PoisonError::into_inner).block
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    /// Waits until nobody else uses it.
    pub(super) async fn of(memory: Arc<Joint<Memory>>) -> Self {
        loop {
            let left = memory.left.notified();
            if !memory.in_use.swap(true, Ordering::Acquire) {
                break;
            }
            left.await;
        }
        Use { memory }
    }

    /// Looks at the block, unless it is lost.
    pub(super) fn with<R>(&self, id: BlockId, look: impl FnOnce(&mut HostBlock) -> R) -> Result<R, SpaceError> {
        let mut content = self.memory.content();
        if content.lost { Err(SpaceError::Busy { block: id }) } else { Ok(look(&mut content.block)) }
    }

    /// Keeps the memory for ever. If it is `lost` nobody may look any more.
    #[cfg(feature = "cuda")]
    pub(super) fn abandon(&self, lost: bool) {
        self.memory.content().lost |= lost;
        Arc::clone(&self.memory).abandon();
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.memory.in_use.store(false, Ordering::Release);
        self.memory.left.notify_one();
    }
}
