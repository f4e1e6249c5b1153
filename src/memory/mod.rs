//! Spaces: memory in which blocks are allocated, and to and from which bytes are copied.
//!
//! A [`Space`] knows its capacity and its blocks, and nothing of reservations: whoever holds a lease of so many bytes
//! of a space's budget may allocate so many in it.
//!
//! | backend | where blocks are |
//! |---|---|
//! | [`HostSpace`] | in page-aligned slabs of the host's memory, pinned if somebody can do that |
//! | `CudaSpace` (feature `cuda`) | on a CUDA device |
//! | [`DiskSpace`] | in files, with checksums |
//! | [`SimulatedDevice`] | in memory of the host that stands for a GPU, with its links and streams |
//!
//! The first two cut their blocks out of a [`Pool`], and beside ids they have blocks that are owned and free
//! themselves. [`StreamPool`] lends streams for exclusive use.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), bursar::memory::SpaceError> {
//! use bursar::memory::{SimulatedDevice, Space, Stream};
//! use bursar::{MIB, SpaceId, Tier};
//!
//! let device = SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, 64 * MIB);
//! let block = device.allocate(MIB).await?;
//! device.write(Stream(0), block, 0, b"key value cache").await?;
//! let mut back = [0; 15];
//! device.read(Stream(0), block, 0, &mut back).await?;
//! assert_eq!(&back, b"key value cache");
//! device.free(block).await?;
//! assert!(device.free(block).await.is_err());
//! # Ok(()) }
//! ```

mod blocks;
#[cfg(any(feature = "cuda", test))]
mod crew;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(unix)]
mod disk;
mod error;
mod host;
mod joint;
pub(crate) mod offload;
#[cfg(any(feature = "cuda", test))]
mod past_cache;
mod pool;
mod simulated;
#[cfg(any(feature = "cuda", test))]
mod staged;
mod streams;
mod thread;
mod turns;

use std::fmt::Debug;

use async_trait::async_trait;

use crate::model::{Figure, SpaceId};

pub use blocks::BlockId;
#[cfg(feature = "cuda")]
pub use cuda::{
    CudaConfig, CudaDevice, CudaError, CudaPin, CudaSource, CudaSpace, DeviceBlock, DeviceElement, DeviceEvent,
    DeviceSlab, DeviceView, ViewError,
};
#[cfg(feature = "cuda")]
pub(crate) use cuda::{Direct, Keep, Unqueued, parts};
#[cfg(unix)]
pub use disk::{DiskBlock, DiskConfig, DiskSpace, Durability};
pub use error::SpaceError;
pub use host::{HeapSlab, HeapSource, HostBlock, HostSpace, NumaError, PagePin};
pub use pool::{Pool, PoolBlock, PoolConfig, PoolFigures, PoolUsage, Slab, Source, SourceError};
pub use simulated::SimulatedDevice;
pub use streams::{StreamLease, StreamPool};

/// A lock for a few hundred nanoseconds. Who finds it taken lets others run.
type Lock<T> = spin::mutex::SpinMutex<T, spin::Yield>;

/// How many streams a space has.
const STREAMS: usize = 1 << u8::BITS;

/// Names a queue of a space, in which copies are done one after the other. There are 256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream(pub u8);

/// How large a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize {
    /// How many bytes were asked.
    pub len: u64,
    /// How many bytes it takes of the capacity.
    pub capacity: u64,
}

/// What is left to do after a block was freed, or once its memory is back. Dropping it does it, and may block for as
/// long as a disk does.
pub type Remains = Box<dyn Send>;

/// One memory location with blocks in it. Held as `dyn Space`.
///
/// # Contract
///
/// * What is allocated is never more than the capacity. A block is exactly as large as asked, though it may take a
///   little more of the capacity, which [`used`](Space::used) counts.
/// * A [`BlockId`] is good for one allocation: after its block is freed it is stale for ever, also when its place is
///   used again. Of several that free one block at the same time, exactly one succeeds.
/// * Copies of one stream are done in the order in which they were first polled. Copies of different streams have no
///   order.
/// * A copy whose range does not lie in the block, or whose block is stale, moves nothing.
///
/// # Cancel safety
///
/// Dropping the future of a copy stops it: bytes of its range may have been copied, others not. Dropping the future of
/// [`allocate`](Space::allocate) leaves no block behind. A copy whose future is forgotten (`mem::forget`) touches the
/// caller's slice no more either, but it keeps its stream to itself.
#[async_trait]
pub trait Space: Send + Sync + Debug {
    /// Which space this is.
    fn id(&self) -> SpaceId;

    /// How many bytes it has.
    fn capacity(&self) -> u64;

    /// How many bytes are allocated, with what blocks were rounded up by.
    fn used(&self) -> u64;

    /// How many bytes it could have now if none were in use: less than the capacity while others use the same device
    /// or disk. Asks the driver or the system, which may block for as long as they do; for a sampler.
    ///
    /// # Errors
    /// [`SpaceError::Lost`], after which nothing in it can be used any more, or [`SpaceError::Io`].
    fn probe(&self) -> Result<u64, SpaceError> {
        Ok(self.capacity())
    }

    /// What it has to show beside what it has and uses: hits and misses of its caches, say.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }

    /// How many bytes of the capacity a block of so many bytes takes, unless it happens to get a piece that is smaller
    /// or larger.
    fn footprint(&self, bytes: u64) -> u64 {
        bytes
    }

    /// How large a block is.
    ///
    /// # Errors
    /// As [`free`](Space::free).
    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError>;

    /// Allocates a block. What is in it is undefined until it is written.
    ///
    /// # Errors
    /// [`SpaceError::OutOfMemory`], or [`SpaceError::Zero`] for a block of no bytes.
    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError>;

    /// Allocates a block for the work of a stream. It may be used on others too; where blocks are freed in the order of
    /// a stream, this one is freed in the order of that.
    ///
    /// # Errors
    /// As [`allocate`](Space::allocate).
    async fn allocate_on(&self, stream: Stream, bytes: u64) -> Result<BlockId, SpaceError> {
        let _ = stream;
        self.allocate(bytes).await
    }

    /// Frees a block without waiting, for those who cannot wait. The id is stale at once. What blocks is left to the
    /// caller; what the block takes of the capacity comes back after that, or at once if there is nothing of the kind,
    /// but not before a copy that is still under way, or whatever else uses the block, is done with it.
    ///
    /// # Errors
    /// As [`free`](Space::free).
    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError>;

    /// Frees a block as [`release`](Space::release) does, for those who have to know when what it takes of the capacity
    /// is back. If something still uses the block, `then` is called, once, and what it returns is dropped right after
    /// the memory is back, on whatever thread that is. If `then` is not called, the memory is back as soon as what is
    /// left to the caller is dropped.
    ///
    /// A space in which nothing uses a block that is freed need not have this. A space around another one passes it on.
    ///
    /// Where the memory never comes back, because a device failed while it used it, what `then` returned is dropped as
    /// soon as that is known.
    ///
    /// # Errors
    /// As [`free`](Space::free); `then` is not called then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), bursar::memory::SpaceError> {
    /// use bursar::memory::{SimulatedDevice, Space};
    /// use bursar::{MIB, SpaceId, Tier};
    ///
    /// let device = SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, 64 * MIB);
    /// let block = device.allocate(MIB).await?;
    /// let mut permit = Some("so much may be allocated");
    /// drop(device.release_then(block, &mut || Box::new(permit.take()))?);
    /// assert!(permit.is_some(), "nothing uses the block, so the permit is given back here");
    /// # Ok(()) }
    /// ```
    fn release_then(&self, block: BlockId, then: &mut dyn FnMut() -> Remains) -> Result<Option<Remains>, SpaceError> {
        let _ = then;
        self.release(block)
    }

    /// Frees a block.
    ///
    /// # Errors
    /// [`SpaceError::StaleBlock`] when it is freed already, [`SpaceError::ForeignBlock`] when it is of another space.
    async fn free(&self, block: BlockId) -> Result<(), SpaceError> {
        if let Some(remains) = self.release(block)? {
            // The id is stale now; the rest is not left to whoever waits for this. It fails only where there is no
            // thread for it, and then `remains` was dropped, or is with its runtime.
            let finish = move || {
                drop(remains);
                Ok(())
            };
            let _ = offload::blocking(self.id(), finish).await;
        }
        Ok(())
    }

    /// Copies `bytes` into a block, from `offset` on.
    ///
    /// # Errors
    /// [`SpaceError::OutOfRange`], or as [`free`](Space::free). A block that is freed while it is written is stale too.
    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError>;

    /// Copies a part of a block into `into`, from `offset` on.
    ///
    /// # Errors
    /// As [`write`](Space::write).
    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError>;

    /// The CUDA device that this is, for what only kernels and cudarc can do with its blocks. A space around another
    /// one passes this on.
    #[cfg(feature = "cuda")]
    fn cuda(&self) -> Option<&CudaSpace> {
        None
    }

    /// The memory of the host that this is, from and to which a CUDA device copies by itself if it is pinned. A space
    /// around another one passes this on.
    #[cfg(feature = "cuda")]
    fn host(&self) -> Option<&HostSpace> {
        None
    }
}
