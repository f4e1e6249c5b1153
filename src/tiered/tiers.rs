//! The handle.

use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;

use super::account::Account;
use super::block::{Block, Held};
use super::builder::TiersBuilder;
use super::error::{AllocateError, ForeignLease};
use super::figures::Shown;
use super::lease::MemoryLease;
use super::over_use::OverUse;
use super::shared::Shared;
use super::usage::SpaceUsage;
use crate::memory::{BlockId, Space, SpaceError, StreamPool};
use crate::model::{Amounts, Priority, Request, ReserveError, SpaceId};
use crate::scheduler::{Lease, Scheduler};

/// The spaces of a scheduler. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Tiers {
    pub(super) shared: Arc<Shared>,
    /// Of what is allocated without a lease.
    untracked: Arc<Account>,
    ids: Arc<DashMap<BlockId, Held>>,
}

impl Tiers {
    /// Brings spaces together with a scheduler.
    pub fn builder() -> TiersBuilder {
        TiersBuilder::default()
    }

    pub(super) fn new(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        for (at, entry) in shared.entries.iter().enumerate() {
            let shown = Shown { shared: Arc::downgrade(&shared), at };
            shared.scheduler.publish_part(&format!("memory {}", entry.id), shown);
        }
        let none = Amounts::new();
        let untracked = Account::new(Arc::clone(&shared), &none, OverUse::Ignore, Priority::Normal);
        Tiers { shared, untracked: Arc::new(untracked), ids: Arc::default() }
    }

    /// Reserves at the scheduler: [`Scheduler::reserve`], then [`attach`](Tiers::attach).
    ///
    /// # Errors
    /// As [`Scheduler::reserve`].
    ///
    /// # Cancel safety
    /// As [`Scheduler::reserve`].
    pub async fn reserve(&self, request: Request) -> Result<MemoryLease, ReserveError> {
        let lease = self.shared.scheduler.reserve(request).await?;
        Ok(MemoryLease::new(Arc::clone(&self.shared), lease, OverUse::Fail))
    }

    /// Takes a lease of this scheduler, so that its memory can be allocated, and says what is to happen when it is not
    /// enough.
    ///
    /// # Errors
    /// [`ForeignLease`] when it is of another scheduler; the error holds it.
    pub fn attach(&self, lease: Lease, over_use: OverUse) -> Result<MemoryLease, ForeignLease> {
        if !lease.is_of(&self.shared.scheduler) {
            return Err(ForeignLease(lease));
        }
        Ok(MemoryLease::new(Arc::clone(&self.shared), lease, over_use))
    }

    /// Allocates a block without a lease, of what nobody has reserved and nobody waits for. For what is small and lives
    /// long; whatever competes should reserve.
    ///
    /// # Errors
    /// [`AllocateError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves no block and no charge behind.
    pub async fn allocate(&self, space: SpaceId, bytes: u64) -> Result<Block, AllocateError> {
        let at = self.shared.find(space)?;
        self.untracked.allocate(None, at, None, bytes).await.map(Block::of)
    }

    /// How many bytes a block of so many takes of a lease. Where a space is not known it is as many.
    pub fn footprint(&self, space: SpaceId, bytes: u64) -> u64 {
        self.space(space).map_or(bytes, |space| space.footprint(bytes))
    }

    /// Gives a block up for its id, for code that can pass plain data only. The block stays, and stays charged to its
    /// lease, until it is [freed](Tiers::free) or [taken back](Tiers::take), or the last clone of this drops.
    pub fn into_id<T>(&self, block: Block<T>) -> BlockId {
        let held = block.into_held();
        let id = held.id();
        self.ids.insert(id, held);
        id
    }

    /// Takes the block of an id back. Of several that take or free one block, exactly one succeeds.
    ///
    /// # Errors
    /// [`SpaceError::StaleBlock`].
    pub fn take(&self, id: BlockId) -> Result<Block, SpaceError> {
        let held = self.ids.remove(&id).ok_or(SpaceError::StaleBlock { block: id })?;
        Ok(Block::of(held.1))
    }

    /// Frees the block of an id. Of several that take or free one block, exactly one succeeds.
    ///
    /// # Errors
    /// [`SpaceError::StaleBlock`].
    ///
    /// # Cancel safety
    /// As [`Block::free`].
    pub async fn free(&self, id: BlockId) -> Result<(), SpaceError> {
        self.take(id)?.free().await
    }

    /// A space, for what is particular to it. Blocks are better not freed there.
    pub fn space(&self, space: SpaceId) -> Option<&Arc<dyn Space>> {
        let at = self.shared.find(space).ok()?;
        Some(&self.shared.entries[at].space)
    }

    /// The streams of a space, for exclusive use.
    pub fn streams(&self, space: SpaceId) -> Option<&StreamPool> {
        let at = self.shared.find(space).ok()?;
        Some(&self.shared.entries[at].streams)
    }

    /// The account of a space.
    pub fn usage(&self, space: SpaceId) -> Option<SpaceUsage> {
        let at = self.shared.find(space).ok()?;
        Some(self.shared.entries[at].usage(&self.shared.scheduler))
    }

    /// Lets the peaks of a space begin again with what is allocated now.
    pub fn reset_peaks(&self, space: SpaceId) {
        if let Ok(at) = self.shared.find(space) {
            self.shared.entries[at].reset_peaks();
        }
    }

    /// The scheduler.
    pub fn scheduler(&self) -> &Scheduler {
        &self.shared.scheduler
    }
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spaces = self.shared.entries.iter().map(|entry| (entry.id, entry.usage(&self.shared.scheduler)));
        f.debug_map().entries(spaces).finish()
    }
}
