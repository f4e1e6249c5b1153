//! A device as a space.

use std::sync::Arc;

use async_trait::async_trait;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::{CudaContext, CudaStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::block::DeviceBlock;
use super::pin::CudaPin;
use super::probe::{CudaError, count, failed, reason};
use super::source::{CudaSource, bind};
use crate::memory::blocks::{BlockId, Blocks};
use crate::memory::error::SpaceError;
use crate::memory::host::{HeapSource, HostBlock, HostSpace};
use crate::memory::pool::{Pool, PoolConfig};
use crate::memory::streams::StreamPool;
use crate::memory::turns::{Turn, Turns, check_range};
use crate::memory::{BlockSize, Remains, Space, Stream};
use crate::model::{MIB, SpaceId, Tier};

/// What is copied at once.
const CHUNK: usize = 4 << 20;
/// How many chunks are under way at a time at most. There is as much pinned memory for them, once it was needed.
const CHUNKS: usize = 16;
const STAGING: u64 = (CHUNK * CHUNKS) as u64;
/// What the driver gives memory in.
const GRANULE: u64 = 2 * MIB;

/// Which device, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaConfig {
    ordinal: usize,
    limit: Option<u64>,
    streams: u8,
}

impl CudaConfig {
    /// A device by its number: nine tenths of what is free on it when it is opened, and 16 streams.
    pub fn new(ordinal: usize) -> Self {
        CudaConfig { ordinal, limit: None, streams: StreamPool::DEFAULT }
    }

    /// The most bytes to take of the device; less if less is free when it is opened.
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
}

/// A CUDA device: its memory in a [`Pool`], and streams.
///
/// There are two ways to its blocks: a [`DeviceBlock`] is owned and is what kernels work on; a [`BlockId`] is plain
/// data, for code that allocates and copies only.
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
    blocks: Blocks<Arc<DeviceBlock>>,
    turns: Turns,
    streams: StreamPool,
    staging: HostSpace,
    chunks: Arc<Semaphore>,
}

/// Pinned memory for a chunk.
struct Staging {
    memory: HostBlock,
    turn: Turn,
    _place: Option<OwnedSemaphorePermit>,
}

impl CudaSpace {
    /// Opens a device: makes a context, which takes some hundred mebibytes of it and up to a second, and its streams.
    /// Blocks.
    ///
    /// # Errors
    /// [`CudaError::NoDriver`], [`CudaError::NoDevice`], or [`CudaError::Driver`] when a call fails.
    pub fn open(id: SpaceId, config: CudaConfig) -> Result<Self, CudaError> {
        let devices = count()?;
        if config.ordinal >= devices {
            return Err(CudaError::NoDevice { ordinal: config.ordinal, devices });
        }
        let context = CudaContext::new(config.ordinal).map_err(failed("creating a context"))?;
        let streams: Result<_, _> = (0..config.streams).map(|_| context.new_stream()).collect();
        let streams = streams.map_err(failed("cuStreamCreate"))?;
        let free = free_memory(&context).map_err(failed("cuMemGetInfo"))?;
        let capacity = config.limit.map_or(free / 10 * 9, |limit| limit.min(free)) / GRANULE * GRANULE;

        let pin = HeapSource::pinned(Arc::new(CudaPin::new(Arc::clone(&context))));
        let staging_id = SpaceId { tier: Tier::Host, index: id.index };
        let staging = HostSpace::with(staging_id, pin, STAGING, PoolConfig::host(STAGING).slab(16 * MIB));
        let pool_config = PoolConfig::device(capacity).granule(GRANULE);
        Ok(CudaSpace {
            pool: Pool::new(id, CudaSource::new(context, streams), pool_config),
            capacity,
            blocks: Blocks::new(id),
            turns: Turns::new(),
            streams: StreamPool::new(config.streams),
            staging,
            chunks: Arc::new(Semaphore::new(CHUNKS)),
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
        self.blocks.insert(Arc::new(block)).ok_or(SpaceError::TooManyIds { space: self.id() })
    }

    /// Takes the block of an id, which is stale from then on.
    ///
    /// # Errors
    /// As [`free`](Space::free), and [`SpaceError::Busy`] while it is being copied to or from.
    pub fn take(&self, id: BlockId) -> Result<DeviceBlock, SpaceError> {
        let block = self.blocks.remove_if(id, |block| Arc::strong_count(block) == 1)?;
        // Nobody can have found it since.
        Arc::try_unwrap(block).map_err(|_| SpaceError::Busy { block: id })
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

    /// Pins host memory, for a [`HostSpace`] whose blocks this device copies at full speed.
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

    fn lost(&self, error: DriverError) -> SpaceError {
        SpaceError::Lost { space: self.id(), reason: reason(error) }
    }

    fn check(&self, id: BlockId, offset: u64, length: usize) -> Result<u64, SpaceError> {
        let size = self.blocks.with(id, |block| block.len())?;
        check_range(id, size, offset, length).map(|start| start as u64)
    }

    /// Waits for memory for a chunk. All chunks have the same size there, so that it never lies in pieces.
    async fn staging(&self, turn: Turn) -> Result<Staging, SpaceError> {
        // The semaphore is never closed.
        let place = Arc::clone(&self.chunks).acquire_owned().await.ok();
        Ok(Staging { memory: self.staging.allocate_block(CHUNK as u64)?, turn, _place: place })
    }

    /// Copies a chunk on a thread that may block. The turn goes with it: if nobody waits for the copy any more it is
    /// done all the same, and the next copy of the stream comes after it.
    async fn chunk(
        &self,
        stream: Stream,
        staging: Staging,
        copy: impl FnOnce(&mut [u8], &CudaStream) -> Result<(), DriverError> + Send + 'static,
    ) -> Result<Staging, SpaceError> {
        let on = Arc::clone(self.cuda_stream(stream));
        let copied = self.blocking(move || {
            let mut staging = staging;
            match bind(on.context()).and_then(|()| copy(&mut staging.memory, &on)) {
                Ok(()) => Ok(staging),
                Err(error) => {
                    // The device may still be at it, as far as anybody knows.
                    std::mem::forget(staging.memory);
                    Err(error)
                }
            }
        });
        copied.await
    }

    /// Waits until every stream of this space has passed what is queued on it now.
    async fn pass(&self) -> Result<(), SpaceError> {
        let pool = self.pool.clone();
        let pass = move || pool.source().streams().iter().try_for_each(|stream| stream.synchronize());
        self.blocking(pass).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, SpaceError> {
        match tokio::task::spawn_blocking(call).await {
            Ok(done) => done.map_err(|error| self.lost(error)),
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => Err(SpaceError::Lost { space: self.id(), reason: "the runtime is shutting down".into() }),
        }
    }
}

fn free_memory(context: &CudaContext) -> Result<u64, DriverError> {
    bind(context)?;
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
        // A copy that is under way keeps its memory until it is done.
        self.blocks.remove(block).map(|_| None)
    }

    #[allow(unsafe_code)]
    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, bytes.len())?;
        let mut turn = self.turns.take(stream).await;
        for (number, chunk) in bytes.chunks(CHUNK).enumerate() {
            let mut staging = self.staging(turn).await?;
            let target = self.blocks.get(block)?;
            let address = target.address() + start + (number * CHUNK) as u64;
            let length = chunk.len();
            staging.memory[..length].copy_from_slice(chunk);
            let copy = move |memory: &mut [u8], on: &CudaStream| {
                // SAFETY: the range was checked and `target` keeps the block; the pinned memory lives until the stream
                // has been waited for, or for ever.
                unsafe { result::memcpy_htod_async(address, &memory[..length], on.cu_stream()) }?;
                on.synchronize().map(|()| drop(target))
            };
            turn = self.chunk(stream, staging, copy).await?.turn;
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, into.len())?;
        let mut turn = self.turns.take(stream).await;
        for (number, chunk) in into.chunks_mut(CHUNK).enumerate() {
            let staging = self.staging(turn).await?;
            let source = self.blocks.get(block)?;
            let address = source.address() + start + (number * CHUNK) as u64;
            let length = chunk.len();
            let copy = move |memory: &mut [u8], on: &CudaStream| {
                // SAFETY: as in `write`.
                unsafe { result::memcpy_dtoh_async(&mut memory[..length], address, on.cu_stream()) }?;
                on.synchronize().map(|()| drop(source))
            };
            let filled = self.chunk(stream, staging, copy).await?;
            chunk.copy_from_slice(&filled.memory[..length]);
            turn = filled.turn;
        }
        Ok(())
    }
}
