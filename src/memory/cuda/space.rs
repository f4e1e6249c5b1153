//! A device as a space.

use std::sync::Arc;

use async_trait::async_trait;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaStream};

use super::across::Reached;
use super::block::DeviceBlock;
use super::current::{Current, bind};
use super::pin::CudaPin;
use super::probe::{CudaError, count, failed, reason};
use super::source::CudaSource;
use super::view::{DeviceElement, DeviceView, ViewError};
use crate::memory::blocks::{BlockId, Blocks};
use crate::memory::error::SpaceError;
use crate::memory::host::HeapSource;
use crate::memory::joint::Joint;
use crate::memory::offload;
use crate::memory::pool::{Pool, PoolConfig};
use crate::memory::staged::{Slice, Staging};
use crate::memory::streams::StreamPool;
use crate::memory::turns::{Turn, Turns, check_range};
use crate::memory::{BlockSize, Remains, Space, Stream};
use crate::model::{Figure, MIB, SpaceId};

/// What the driver gives memory in.
const GRANULE: u64 = 2 * MIB;
/// One core fills pinned memory at 7 to 11 GB/s; PCIe 5.0 carries 55.
const MOST_COPY_THREADS: usize = 12;

/// Which device, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaConfig {
    ordinal: usize,
    limit: Option<u64>,
    streams: u8,
    most_streams: u8,
    copy_threads: usize,
}

impl CudaConfig {
    /// A device by its number: nine tenths of what is free on it when it is opened, and 16 streams.
    pub fn new(ordinal: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        CudaConfig {
            ordinal,
            limit: None,
            streams: StreamPool::DEFAULT,
            most_streams: 0,
            copy_threads: cores.min(MOST_COPY_THREADS),
        }
    }

    /// The most bytes to take of the device; less if less is free when it is opened. Memory is taken 2 MiB at a time: a
    /// limit that is no multiple of it is rounded down, and one below it is refused.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// How many streams to make; at least one.
    #[must_use]
    pub fn streams(mut self, count: u8) -> Self {
        self.streams = count.max(1);
        self
    }

    /// How many streams there may be when more borrowers come than there are streams: see [`StreamPool::growing`]; no
    /// more than at the beginning unless this is called. The device's part of all of them is made when it is opened.
    #[must_use]
    pub fn most_streams(mut self, count: u8) -> Self {
        self.most_streams = count;
        self
    }

    /// How many threads fill or empty pinned memory when slices of 32 MiB or more are copied, all such copies together
    /// and with the threads that poll them: as many as there are cores, but at most 12, unless this is called. With
    /// one, no others are called for.
    #[must_use]
    pub fn copy_threads(mut self, count: usize) -> Self {
        self.copy_threads = count;
        self
    }
}

/// A CUDA device: its memory in a [`Pool`], and streams.
///
/// There are two ways to its blocks: a [`DeviceBlock`] is owned and is what kernels work on; a [`BlockId`] is plain
/// data, for code that allocates and copies only.
///
/// A copy comes after what is queued on its stream and on the block's own. Slices are copied through pinned memory of
/// the space, 64 MiB of it at most, as fast as one core copies memory, and from 32 MiB on as fast as
/// [several](CudaConfig::copy_threads) do; [`write_from`](CudaSpace::write_from) and
/// [`read_into`](CudaSpace::read_into) copy a pinned [`HostBlock`](crate::memory::HostBlock) directly.
///
/// The first copy of `tiered` between two devices lets each of them reach the memory of the other, for as
/// long as they are open (`cuCtxEnablePeerAccess`), as that of PyTorch does. Where the machine cannot do that the
/// driver takes such copies through memory of its own on the host.
///
/// Whatever context of CUDA is current on a thread is so again after every call. What cudarc does by itself, with a
/// stream or a view of this, and when the last owner of a device goes, leaves that device's current.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::memory::{CudaConfig, CudaDevice, CudaSpace};
/// use bursar::{GIB, MIB, SpaceId, Tier};
///
/// if CudaDevice::all().is_ok_and(|devices| !devices.is_empty()) {
///     let gpu = CudaSpace::open(SpaceId { tier: Tier::Gpu, index: 0 }, CudaConfig::new(0).limit(GIB))?;
///     let stream = gpu.streams().acquire().await;
///     let block = gpu.allocate_block(MIB, *stream)?;
///     println!("{:#x}, on {:?}", block.address(), gpu.cuda_stream(*stream));
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct CudaSpace {
    pool: Pool<CudaSource>,
    capacity: u64,
    blocks: Blocks<Arc<Joint<DeviceBlock>>>,
    turns: Turns,
    streams: StreamPool,
    staging: Staging,
    reached: Reached,
}

impl CudaSpace {
    /// Opens a device: makes a context, which takes some hundred mebibytes of it and up to a second, and its streams.
    /// Blocks.
    ///
    /// # Errors
    /// [`CudaError::TooSmall`], [`CudaError::NoDriver`], [`CudaError::NoDevice`], [`CudaError::Full`], or
    /// [`CudaError::Driver`] when a call fails.
    pub fn open(id: SpaceId, config: CudaConfig) -> Result<Self, CudaError> {
        if let Some(asked) = config.limit.filter(|&limit| limit < GRANULE) {
            return Err(CudaError::TooSmall { asked, least: GRANULE });
        }
        let devices = count()?;
        if config.ordinal >= devices {
            return Err(CudaError::NoDevice { ordinal: config.ordinal, devices });
        }
        let _current = Current::remember().map_err(failed("cuCtxGetCurrent"))?;
        let context = CudaContext::new(config.ordinal).map_err(failed("creating a context"))?;
        let streams: Result<_, _> =
            (0..config.streams.max(config.most_streams)).map(|_| context.new_stream()).collect();
        let streams = streams.map_err(failed("cuStreamCreate"))?;
        let free = free_memory(&context).map_err(failed("cuMemGetInfo"))?;
        let most = config.limit.map_or(free / 10 * 9, |limit| limit.min(free));
        let capacity = most / GRANULE * GRANULE;
        if capacity == 0 {
            return Err(CudaError::Full { ordinal: config.ordinal, free: most, least: GRANULE });
        }

        let pool_config = PoolConfig::device(capacity).granule(GRANULE);
        let pinned = HeapSource::pinned(Arc::new(CudaPin::new(Arc::clone(&context))));
        let staging = Staging::new(id, pinned, config.copy_threads);
        Ok(CudaSpace {
            pool: Pool::new(id, CudaSource::new(context, streams), pool_config),
            capacity,
            blocks: Blocks::new(id),
            turns: Turns::new(),
            streams: StreamPool::growing(config.streams, config.most_streams),
            staging,
            reached: Reached::default(),
        })
    }

    /// Allocates a block for the work of a stream.
    ///
    /// # Errors
    /// As [`Pool::allocate`].
    pub fn allocate_block(&self, bytes: u64, stream: Stream) -> Result<DeviceBlock, SpaceError> {
        self.pool.allocate(bytes, stream).map(DeviceBlock::new)
    }

    /// Gives a block up for an id of it.
    ///
    /// # Errors
    /// [`SpaceError::TooManyIds`].
    pub fn into_id(&self, block: DeviceBlock) -> Result<BlockId, SpaceError> {
        self.blocks.insert(Joint::new(block)).ok_or(SpaceError::TooManyIds { space: self.id() })
    }

    /// Takes the block of an id, which is stale from then on.
    ///
    /// # Errors
    /// As [`free`](Space::free), and [`SpaceError::Busy`] while it is being copied to or from.
    pub fn take(&self, id: BlockId) -> Result<DeviceBlock, SpaceError> {
        // Nobody can have found it since.
        self.blocks.remove_if(id, Joint::is_alone)?.into_inner().ok_or(SpaceError::Busy { block: id })
    }

    /// Streams for exclusive use.
    pub fn streams(&self) -> &StreamPool {
        &self.streams
    }

    /// A stream as cudarc sees it.
    pub fn cuda_stream(&self, stream: Stream) -> &Arc<CudaStream> {
        self.pool.source().stream(stream)
    }

    /// The context.
    pub fn context(&self) -> &Arc<CudaContext> {
        self.pool.source().context()
    }

    /// The pool below, for its figures, for trimming and for warming it up.
    pub fn pool(&self) -> &Pool<CudaSource> {
        &self.pool
    }

    /// Pins host memory, for a [`HostSpace`](crate::memory::HostSpace) whose blocks this device copies at full speed.
    pub fn pin(&self) -> Arc<CudaPin> {
        Arc::new(CudaPin::new(Arc::clone(self.context())))
    }

    /// What the device has free now, in bytes: less than the limit leaves if other processes use it too.
    ///
    /// Asks the driver, which takes some microseconds; for a sampler.
    ///
    /// # Errors
    /// [`SpaceError::Lost`].
    pub fn free_memory(&self) -> Result<u64, SpaceError> {
        free_memory(self.context()).map_err(|error| self.lost(error))
    }

    pub(super) fn lost(&self, error: DriverError) -> SpaceError {
        lost(self.id(), error)
    }

    pub(super) fn staging(&self) -> &Staging {
        &self.staging
    }

    pub(super) fn reached(&self) -> &Reached {
        &self.reached
    }

    /// The right to queue copies on a stream.
    pub(super) async fn turn(&self, stream: Stream) -> Turn {
        self.turns.take(stream).await
    }

    /// A block of this device as a slice of cudarc's. It keeps the memory; who calls this says what it borrows.
    pub(crate) fn view_of<'a, T: DeviceElement>(&self, id: BlockId) -> Result<DeviceView<'a, T>, ViewError> {
        DeviceView::keep(self.block(id)?)
    }

    /// Where a block begins on the device.
    pub(crate) fn address_of(&self, id: BlockId) -> Result<u64, SpaceError> {
        self.blocks.with(id, |block| block.address())
    }

    /// What keeps a block.
    pub(super) fn block(&self, id: BlockId) -> Result<Arc<Joint<DeviceBlock>>, SpaceError> {
        self.blocks.get(id)
    }

    /// Where a range of a block begins in it, if it lies in it.
    pub(super) fn check(&self, id: BlockId, offset: u64, length: usize) -> Result<u64, SpaceError> {
        let size = self.blocks.with(id, |block| block.len())?;
        check_range(id, size, offset, length).map(|start| start as u64)
    }

    /// Waits until every stream of this space has passed what is queued on it now.
    async fn pass(&self) -> Result<(), SpaceError> {
        let (pool, id) = (self.pool.clone(), self.id());
        let pass = move || pool.source().pass().map_err(|error| lost(id, error));
        offload::blocking(id, pass).await
    }
}

fn lost(space: SpaceId, error: DriverError) -> SpaceError {
    SpaceError::Lost { space, reason: reason(error) }
}

fn free_memory(context: &CudaContext) -> Result<u64, DriverError> {
    let _current = bind(context)?;
    result::mem_get_info().map(|(free, _)| free as u64)
}

#[async_trait]
impl Space for CudaSpace {
    fn id(&self) -> SpaceId {
        self.pool.space()
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        self.pool.usage().allocated
    }

    /// What the pool has taken and what the device has free.
    fn probe(&self) -> Result<u64, SpaceError> {
        loop {
            let reserved = self.pool.reserved();
            let free = self.free_memory()?;
            // Else it grew or shrank in between, and something would be counted twice or not at all.
            if self.pool.reserved() == reserved {
                return Ok(self.capacity.min(reserved.saturating_add(free)));
            }
        }
    }

    fn figures(&self) -> Vec<Figure> {
        self.pool.usage().figures()
    }

    fn footprint(&self, bytes: u64) -> u64 {
        self.pool.footprint(bytes)
    }

    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError> {
        self.blocks.with(block, |block| BlockSize { len: block.len(), capacity: block.capacity() })
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        self.allocate_on(Stream(0), bytes).await
    }

    /// Waits for what is queued on the streams of this space if memory that was freed in their order is all there is.
    async fn allocate_on(&self, stream: Stream, bytes: u64) -> Result<BlockId, SpaceError> {
        let block = match self.allocate_block(bytes, stream) {
            Err(SpaceError::OutOfMemory { pending: 1.., .. }) => {
                self.pass().await?;
                self.allocate_block(bytes, stream)
            }
            allocated => allocated,
        };
        self.into_id(block?)
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        self.release_then(block, &mut || Box::new(()))
    }

    /// A copy that is under way keeps its memory until it is done, and so does a view.
    fn release_then(&self, block: BlockId, then: &mut dyn FnMut() -> Remains) -> Result<Option<Remains>, SpaceError> {
        self.blocks.remove(block)?.freed(then);
        Ok(None)
    }

    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        self.through_staging(stream, block, offset, Slice::ToDevice(bytes)).await
    }

    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        self.through_staging(stream, block, offset, Slice::ToHost(into)).await
    }

    fn cuda(&self) -> Option<&CudaSpace> {
        Some(self)
    }
}
