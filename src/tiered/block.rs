//! A block that belongs to a lease.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::account::Charge;
use super::shared::Entry;
use crate::memory::{BlockId, Remains, Space, SpaceError, Stream, offload};
use crate::model::{Priority, SpaceId, Tier};
use crate::scheduler::Scheduler;

/// A tier as a type.
pub trait InTier: sealed::Sealed + Send + Sync + 'static {
    /// Which one.
    const TIER: Tier;
}

mod sealed {
    pub trait Sealed {}
}

/// The tier of device memory.
#[derive(Debug, Clone, Copy)]
pub enum Device {}

/// The tier of host memory.
#[derive(Debug, Clone, Copy)]
pub enum Host {}

/// The tier of files.
#[derive(Debug, Clone, Copy)]
pub enum Disk {}

/// Whatever tier.
#[derive(Debug, Clone, Copy)]
pub enum Anywhere {}

impl sealed::Sealed for Device {}
impl sealed::Sealed for Host {}
impl sealed::Sealed for Disk {}

impl InTier for Device {
    const TIER: Tier = Tier::Gpu;
}

impl InTier for Host {
    const TIER: Tier = Tier::Host;
}

impl InTier for Disk {
    const TIER: Tier = Tier::Disk;
}

/// A block of device memory.
pub type DeviceBlock = Block<Device>;
/// A block of host memory.
pub type HostBlock = Block<Host>;
/// A block in a file.
pub type DiskBlock = Block<Disk>;

/// Memory of a space that is charged to a lease. Dropping it frees it, and gives its bytes back to the lease; it may
/// outlive the lease, and then holds its part of it.
///
/// Bytes are back in the lease once their memory is back in the space. That is at once, unless a file has to be
/// removed, or a copy of the block was dropped that is still under way: as long as that takes they count as allocated,
/// and under a copy as in flight. A copy that is forgotten (`mem::forget`) may keep them for ever.
///
/// It belongs into the work that uses it, as a lease does: move it into the task, or the blocking closure. Work that
/// only needs it to stay is given [`retire`](Block::retire). To drop it may call the driver of its device, which CUDA
/// forbids in a host function (`cuLaunchHostFunc`): one that ends the work wakes whoever has the block.
///
/// Copies from and to a block are done in the order of its [stream](Block::stream).
pub struct Block<T = Anywhere> {
    held: Held,
    tier: PhantomData<fn() -> T>,
}

/// A block that its owner is done with and that work still uses: it is freed when this drops. Move it into what runs
/// when the work has passed: a task, not a host function of CUDA, which may not call the driver. Until then it counts
/// as allocated, and as in flight.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use bursar::{BudgetId, MIB, Request, Scheduler, SpaceId, Tier, memory::SimulatedDevice};
/// # use bursar::tiered::{DeviceBlock, Tiers};
/// # let (scheduler, gpu) = (Scheduler::builder().gpu(MIB).spawn()?, SpaceId { tier: Tier::Gpu, index: 0 });
/// # let tiers = Tiers::builder().space(SimulatedDevice::new(gpu, MIB)).build(&scheduler)?;
/// let lease = tiers.reserve(Request::new().gpu(MIB)).await?;
/// let block: DeviceBlock = lease.allocate(MIB).await?;
/// let (kernel, passed) = tokio::sync::oneshot::channel::<()>();
/// let in_flight = block.retire();
/// let work = tokio::spawn(async move {
///     let _ = passed.await;
///     drop(in_flight);
/// });
/// drop(lease);
/// assert!(scheduler.try_reserve(Request::new().gpu(MIB)).is_err(), "the kernel is still at it");
/// # drop(kernel); work.await?;
/// assert!(scheduler.try_reserve(Request::new().gpu(MIB)).is_ok());
/// # Ok(()) }
/// ```
#[must_use = "dropping it says that the work has passed"]
pub struct InFlight {
    held: Held,
}

/// A block and its charge, whatever they are called outside.
#[derive(Debug)]
pub(super) struct Held {
    id: BlockId,
    len: u64,
    stream: Stream,
    charge: Charge,
}

/// What goes in this order: the memory, then the charge for it, unless that waits for something else.
struct Leftover {
    _remains: Remains,
    _charge: Option<Charge>,
}

impl Held {
    pub(super) fn new(id: BlockId, len: u64, stream: Stream, charge: Charge) -> Self {
        Held { id, len, stream, charge }
    }

    pub(super) fn id(&self) -> BlockId {
        self.id
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    pub(super) fn entry(&self) -> &Entry {
        self.charge.entry()
    }

    pub(super) fn space(&self) -> &Arc<dyn Space> {
        &self.entry().space
    }

    pub(super) fn scheduler(&self) -> &Scheduler {
        &self.charge.shared().scheduler
    }

    pub(super) fn level(&self) -> Priority {
        self.charge.level()
    }

    /// Frees the memory and hands out what is left to be done, with the charge for it. Where something still uses the
    /// memory, the charge stays with that, in flight.
    fn release(&mut self) -> Result<Option<Leftover>, SpaceError> {
        let mut charge = Some(self.charge.take());
        let mut stay = || -> Remains {
            charge.iter_mut().for_each(Charge::in_flight);
            Box::new(charge.take())
        };
        let remains = self.entry().space.release_then(self.id, &mut stay)?;
        // Where nothing is left the charge ends here.
        Ok(remains.map(|remains| Leftover { _remains: remains, _charge: charge }))
    }

    pub(super) async fn free(mut self) -> Result<(), SpaceError> {
        let leftover = self.release();
        // Whatever drops it now finds nothing charged, and the id stale.
        if let Some(leftover) = leftover?
            && Handle::try_current().is_ok()
        {
            // Where that is not done, it was dropped all the same.
            _ = offload::run(move || drop(leftover)).await;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Somebody may have freed it behind the back of its owner: then only the charge is left.
        if let Ok(Some(leftover)) = self.release()
            && Handle::try_current().is_ok()
        {
            // Where there is no thread for it, it is dropped here, as it is outside of a runtime: nobody waits there.
            offload::detach(move || drop(leftover));
        }
    }
}

impl<T> Block<T> {
    pub(super) fn of(held: Held) -> Self {
        Block { held, tier: PhantomData }
    }

    pub(super) fn held(&self) -> &Held {
        &self.held
    }

    pub(super) fn into_held(self) -> Held {
        self.held
    }

    /// Its id in its space. It does not keep the block: see [`Tiers::into_id`](super::Tiers::into_id).
    pub fn id(&self) -> BlockId {
        self.held.id
    }

    /// The space it is in.
    pub fn space(&self) -> SpaceId {
        self.held.id.space()
    }

    /// How many bytes were asked.
    #[allow(clippy::len_without_is_empty, reason = "there is no empty block")]
    pub fn len(&self) -> u64 {
        self.held.len
    }

    /// How many bytes its lease is charged: those that were asked, rounded up.
    pub fn capacity(&self) -> u64 {
        self.held.charge.units()
    }

    /// The stream in whose order it is copied and freed.
    pub fn stream(&self) -> Stream {
        self.held.stream
    }

    /// Copies `bytes` into it, from `offset` on.
    ///
    /// # Errors
    /// As [`Space::write`].
    ///
    /// # Cancel safety
    /// Dropping the future stops it: bytes of the range may have been copied, others not.
    pub async fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        self.held.space().write(self.held.stream, self.held.id, offset, bytes).await
    }

    /// Copies a part of it into `into`, from `offset` on.
    ///
    /// # Errors
    /// As [`Space::read`].
    ///
    /// # Cancel safety
    /// Dropping the future stops it; what is in `into` is then undefined.
    pub async fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        self.held.space().read(self.held.stream, self.held.id, offset, into).await
    }

    /// Frees it, and waits until that is done: a file is removed on a thread that may block, or here where the system
    /// has none to give. Its bytes are back in the lease then, or, where a copy that was dropped is still under way,
    /// right after that.
    ///
    /// # Errors
    /// As [`Space::free`], when somebody freed it by its id behind the back of its owner.
    ///
    /// # Panics
    /// When the space does.
    ///
    /// # Cancel safety
    /// Dropping the future stops the waiting only.
    pub async fn free(self) -> Result<(), SpaceError> {
        self.held.free().await
    }

    /// Gives it up for something that keeps it until work that uses it has passed.
    pub fn retire(self) -> InFlight {
        let mut held = self.held;
        held.charge.in_flight();
        InFlight { held }
    }

    /// The same block, of whatever tier.
    pub fn untyped(self) -> Block {
        Block::of(self.held)
    }
}

impl Block {
    /// The same block, of a tier.
    ///
    /// # Errors
    /// The block, when it is of another tier.
    pub fn typed<T: InTier>(self) -> Result<Block<T>, Block> {
        if self.space().tier == T::TIER { Ok(Block::of(self.held)) } else { Err(self) }
    }
}

impl InFlight {
    /// The id of the block.
    pub fn id(&self) -> BlockId {
        self.held.id
    }
}

impl<T> fmt::Debug for Block<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Block");
        shown.field("id", &self.held.id).field("len", &self.held.len).field("capacity", &self.capacity());
        shown.field("stream", &self.held.stream).finish()
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight").field("id", &self.held.id).field("len", &self.held.len).finish()
    }
}

#[cfg(all(test, feature = "cuda"))]
mod tests;
