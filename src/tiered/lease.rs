//! A lease out of which blocks are allocated.

use std::fmt;
use std::sync::Arc;

use super::account::{Account, Growable};
use super::block::{Block, InTier};
use super::error::AllocateError;
use super::over_use::OverUse;
use super::shared::Shared;
use super::usage::LeaseUsage;
use crate::memory::Stream;
use crate::model::{Amounts, LeaseError, Priority, ReserveError, SpaceId, Tier, TryReserveError};
use crate::scheduler::{Lease, Revoked};

/// A [`Lease`] whose memory can be allocated: what [`Tiers::reserve`](super::Tiers::reserve) and
/// [`Tiers::attach`](super::Tiers::attach) return. Allocating takes `&self`, so tasks may share it in an `Arc`.
///
/// When it drops, budgets that are no memory, and memory that no block uses, come back at once; the rest as the blocks
/// go.
#[must_use = "a lease that is not kept gives everything back at once"]
pub struct MemoryLease {
    lease: Growable,
    account: Arc<Account>,
}

impl MemoryLease {
    pub(super) fn new(shared: Arc<Shared>, lease: Lease, over_use: OverUse) -> Self {
        let account = Account::new(shared, &lease.amounts(), over_use, lease.priority());
        MemoryLease { lease: Growable::new(lease), account: Arc::new(account) }
    }

    /// Allocates a block in the tier of its type: in the first space of the tier of which the lease has enough left,
    /// else in that of which it has most. What is in the block is undefined until it is written.
    ///
    /// # Errors
    /// [`AllocateError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves no block and no charge behind; the lease keeps what it grew by.
    pub async fn allocate<T: InTier>(&self, bytes: u64) -> Result<Block<T>, AllocateError> {
        let at = self.place(T::TIER, bytes)?;
        self.account.allocate(Some(&self.lease), at, None, bytes).await.map(Block::of)
    }

    /// Allocates a block in a space.
    ///
    /// # Errors
    /// [`AllocateError`].
    ///
    /// # Cancel safety
    /// As [`allocate`](MemoryLease::allocate).
    pub async fn allocate_in(&self, space: SpaceId, bytes: u64) -> Result<Block, AllocateError> {
        let at = self.account.shared.find(space)?;
        self.account.allocate(Some(&self.lease), at, None, bytes).await.map(Block::of)
    }

    /// Allocates a block for the work of a stream: it is copied and freed in the order of that. For streams of
    /// [`Tiers::streams`](super::Tiers::streams), which are lent to one at a time.
    ///
    /// # Errors
    /// [`AllocateError`].
    ///
    /// # Cancel safety
    /// As [`allocate`](MemoryLease::allocate).
    pub async fn allocate_on(&self, space: SpaceId, stream: Stream, bytes: u64) -> Result<Block, AllocateError> {
        let at = self.account.shared.find(space)?;
        self.account.allocate(Some(&self.lease), at, Some(stream), bytes).await.map(Block::of)
    }

    /// Its account in a space; nothing at all for a space that is not known here.
    pub fn usage(&self, space: SpaceId) -> LeaseUsage {
        self.account.shared.find(space).map(|at| self.account.usage(at)).unwrap_or_default()
    }

    /// Lets its peaks begin again with what is allocated now.
    pub fn reset_peaks(&self) {
        self.account.reset_peaks();
    }

    /// What it holds, of every budget.
    pub fn amounts(&mut self) -> Amounts {
        self.lease.get_mut().amounts()
    }

    /// The level it was granted at.
    pub fn priority(&self) -> Priority {
        self.account.level()
    }

    /// Asks for more: see [`Lease::grow`]. What was over-used is inside the lease from then on.
    ///
    /// # Errors
    /// As [`Lease::grow`].
    ///
    /// # Cancel safety
    /// Dropping the future gives back what it was about to get.
    pub async fn grow(&mut self, more: &Amounts) -> Result<(), ReserveError> {
        self.lease.get_mut().grow(more).await?;
        self.account.grown(more);
        Ok(())
    }

    /// Takes more if that is possible at once: see [`Lease::try_grow`].
    ///
    /// # Errors
    /// As [`Lease::try_grow`].
    pub fn try_grow(&mut self, more: &Amounts) -> Result<(), TryReserveError> {
        self.lease.get_mut().try_grow(more)?;
        self.account.grown(more);
        Ok(())
    }

    /// Takes a part that no block uses out into a lease of its own.
    ///
    /// # Errors
    /// [`LeaseError::HoldsLess`], of what is not used; the lease is unchanged.
    pub fn split(&mut self, part: &Amounts) -> Result<MemoryLease, LeaseError> {
        let (shared, over_use) = (Arc::clone(&self.account.shared), self.account.over_use);
        self.part(part).map(|part| MemoryLease::new(shared, part, over_use))
    }

    /// Gives back a part that no block uses. Whoever waits for it is granted in this call.
    ///
    /// # Errors
    /// As [`split`](MemoryLease::split).
    pub fn shrink(&mut self, by: &Amounts) -> Result<(), LeaseError> {
        self.part(by).map(drop)
    }

    /// Gives back all memory that no block uses, and says how much that was.
    pub fn shrink_to_fit(&mut self) -> Amounts {
        let unused = self.account.withdraw_unused();
        if !unused.is_empty() {
            // It holds that much: nothing else takes out of it.
            drop(self.lease.get_mut().split(&unused));
        }
        unused
    }

    /// Waits until the lease is asked to end: see [`Lease::revoked`].
    pub fn revoked(&mut self) -> Revoked<'_> {
        self.lease.get_mut().revoked()
    }

    fn part(&mut self, part: &Amounts) -> Result<Lease, LeaseError> {
        self.account.withdraw(part)?;
        // What it does not hold can only be of budgets that are no memory here.
        self.lease.get_mut().split(part).inspect_err(|_| self.account.grown(part))
    }

    fn place(&self, tier: Tier, bytes: u64) -> Result<usize, AllocateError> {
        let entries = self.account.shared.entries.iter().enumerate().filter(|(_, entry)| entry.id.tier == tier);
        let reserved = entries.map(|(at, entry)| (at, self.account.usage(at), entry.space.footprint(bytes)));
        let reserved: Vec<_> = reserved.filter(|(_, usage, _)| usage.reserved > 0).collect();
        let enough = reserved.iter().find(|(_, usage, footprint)| usage.unused() >= *footprint);
        let most = || reserved.iter().rev().max_by_key(|(_, usage, _)| usage.unused());
        enough.or_else(most).map(|&(at, ..)| at).ok_or(AllocateError::NothingReserved { tier })
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        let used = self.account.close();
        if !used.is_empty() {
            // It holds that much: nothing else takes out of it. The rest ends with this.
            let used = self.lease.get_mut().split(&used);
            self.account.keep(used.ok());
        }
    }
}

impl fmt::Debug for MemoryLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.account.shared.entries.iter().enumerate();
        f.debug_map().entries(entries.map(|(at, entry)| (entry.id, self.account.usage(at)))).finish()
    }
}
