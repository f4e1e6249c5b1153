//! Host memory that stands for a GPU: a capacity, a link with bandwidth and latency, and streams.
//!
//! The bytes are real. What is modelled is time, on tokio's clock: a copy waits for its turn in its stream, then for
//! the link of its direction, then as long as the link takes, and moves its bytes at the end. Tokio's timer has a
//! resolution of one millisecond, which is long for a copy. So the model keeps its own time, exactly, for every stream
//! and both links, and a copy waits only once that time is a millisecond ahead: many short copies take as long as the
//! model says, and a single one is done up to a millisecond early.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::model::{GIB, KIB, SpaceId};

use super::blocks::{BlockId, Blocks};
use super::error::SpaceError;
use super::turns::{Turns, check_range};
use super::{BlockSize, Remains, STREAMS, Space, Stream};

/// The resolution of tokio's timer.
const TICK: Duration = Duration::from_millis(1);

/// Memory lies in pieces of this size: what is moved before other tasks of the thread get a turn, some 25 us.
const PIECE: usize = 256 * KIB as usize;

/// What a block holds. Shared with the copies that are under way.
#[derive(Debug)]
struct Content {
    size: u64,
    /// Whole pieces and a shorter last one.
    pieces: Vec<Mutex<Box<[u8]>>>,
}

/// A GPU made of host memory.
///
/// # Panics
/// Its copies, when they are polled outside of a tokio runtime with a timer: they take time on its clock.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), bursar::memory::SpaceError> {
/// use std::time::Duration;
/// use bursar::memory::{SimulatedDevice, Space, Stream};
/// use bursar::{MIB, SpaceId, Tier};
///
/// let device = SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, 64 * MIB)
///     .bandwidth(100 * MIB)
///     .latency(Duration::from_millis(1));
/// let block = device.allocate(50 * MIB).await?;
/// let before = tokio::time::Instant::now();
/// device.write(Stream(0), block, 0, &vec![7; 50 << 20]).await?;
/// assert_eq!(before.elapsed(), Duration::from_millis(501));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct SimulatedDevice {
    id: SpaceId,
    capacity: u64,
    bandwidth: u64,
    latency: Duration,
    heap: Mutex<Heap>,
    blocks: Blocks<Arc<Content>>,
    to_device: Link,
    from_device: Link,
    turns: Turns,
    streams: Box<[Mutex<Clock>]>,
}

/// When something is free again in the time of the model; `None` when it was never used.
type Clock = Option<Instant>;

#[derive(Debug)]
struct Heap {
    used: u64,
    /// What others use of the device.
    others: u64,
    /// Whole pieces of freed blocks. As with a real device, the memory is taken from the system once, not for every
    /// block.
    spare: Vec<Box<[u8]>>,
}

/// One direction of the connection to the host.
#[derive(Debug)]
struct Link {
    free_at: Mutex<Clock>,
}

impl SimulatedDevice {
    /// A device with so much memory, connected by 16 GiB a second each way with 10 us of latency: about what PCIe 4.0
    /// does.
    pub fn new(id: SpaceId, capacity: u64) -> Self {
        SimulatedDevice {
            id,
            capacity,
            bandwidth: 16 * GIB,
            latency: Duration::from_micros(10),
            heap: Mutex::new(Heap { used: 0, others: 0, spare: Vec::new() }),
            blocks: Blocks::new(id),
            to_device: Link { free_at: Mutex::new(None) },
            from_device: Link { free_at: Mutex::new(None) },
            turns: Turns::new(),
            streams: (0..STREAMS).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Another bandwidth, in bytes a second each way; at least 1.
    #[must_use]
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bandwidth = bytes_per_second.max(1);
        self
    }

    /// Another latency of a copy.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        // A day is as good as never, and can be added to any time.
        self.latency = latency.min(Duration::from_secs(86_400));
        self
    }

    /// Lets others use so many bytes of the device, as other processes do of a real one: instead of what they used
    /// before. What is allocated stays.
    pub fn used_by_others(&self, bytes: u64) {
        lock(&self.heap).others = bytes;
    }

    /// Runs a kernel over a block, in stream order. It is called for one piece of the block after the other, with the
    /// offset of the piece, and takes whatever time it takes on the host.
    ///
    /// # Errors
    /// [`SpaceError::StaleBlock`] or [`SpaceError::ForeignBlock`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the pieces that come later as they were.
    pub async fn launch<K>(&self, stream: Stream, block: BlockId, mut kernel: K) -> Result<(), SpaceError>
    where
        K: FnMut(u64, &mut [u8]) + Send,
    {
        let _turn = self.turns.take(stream).await;
        let size = self.content(block)?.size;
        self.in_pieces(block, 0, size as usize, |content, at, _| kernel(at as u64, content)).await
    }

    /// Waits for as long as a copy takes after what its stream did before.
    async fn transfer(&self, stream: Stream, link: &Link, length: usize) {
        let nanos = length as u128 * 1_000_000_000 / u128::from(self.bandwidth);
        let busy = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let done = {
            let mut clock = lock(&self.streams[usize::from(stream.0)]);
            let done = link.occupy(clock.map_or(now, |at| at.max(now)), busy) + self.latency;
            *clock = Some(done);
            done
        };
        if done >= now + TICK {
            tokio::time::sleep_until(done).await;
        }
    }

    /// Calls `each` for the bytes of a range, piece by piece: with the piece, where it begins in the block, and where
    /// in the range.
    async fn in_pieces(
        &self,
        block: BlockId,
        offset: usize,
        length: usize,
        mut each: impl FnMut(&mut [u8], usize, usize) + Send,
    ) -> Result<(), SpaceError> {
        let mut done = 0;
        while done < length {
            let (piece, from) = ((offset + done) / PIECE, (offset + done) % PIECE);
            let to = PIECE.min(from + length - done);
            // Looked up every time: a block that was freed in between is stale.
            let content = self.content(block)?;
            // The range was checked, and a block never changes its size.
            if let Some(piece) = content.pieces.get(piece)
                && let Some(bytes) = lock(piece).get_mut(from..to)
            {
                each(bytes, offset + done, done);
            }
            done += to - from;
            if done < length {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn content(&self, block: BlockId) -> Result<Arc<Content>, SpaceError> {
        self.blocks.get(block)
    }

    fn check_range(&self, block: BlockId, offset: u64, length: usize) -> Result<usize, SpaceError> {
        check_range(block, self.content(block)?.size, offset, length)
    }
}

#[async_trait]
impl Space for SimulatedDevice {
    fn id(&self) -> SpaceId {
        self.id
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&self) -> u64 {
        lock(&self.heap).used
    }

    fn probe(&self) -> Result<u64, SpaceError> {
        Ok(self.capacity.saturating_sub(lock(&self.heap).others))
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        if bytes == 0 {
            return Err(SpaceError::Zero { space: self.id });
        }
        let (space, asked) = (self.id, bytes);
        let out_of_memory = |free| SpaceError::OutOfMemory { space, asked, free, largest_free: None, pending: 0 };
        let mut heap = lock(&self.heap);
        let free = (self.capacity - heap.used).saturating_sub(heap.others);
        let size = usize::try_from(bytes).ok().filter(|_| bytes <= free).ok_or_else(|| out_of_memory(free))?;
        let pieces = heap.pieces(size);
        let content = Arc::new(Content { size: bytes, pieces });
        let block = self.blocks.insert(content).ok_or(SpaceError::TooManyIds { space })?;
        heap.used += bytes;
        Ok(block)
    }

    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError> {
        self.blocks.with(block, |content| BlockSize { len: content.size, capacity: content.size })
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        let content = self.blocks.remove(block)?;
        let mut heap = lock(&self.heap);
        heap.used -= content.size;
        // A copy that is under way keeps its bytes to itself and drops them when it finds its block stale.
        if let Some(content) = Arc::into_inner(content) {
            heap.keep(content.pieces);
        }
        Ok(None)
    }

    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        let start = self.check_range(block, offset, bytes.len())?;
        let _turn = self.turns.take(stream).await;
        self.transfer(stream, &self.to_device, bytes.len()).await;
        let copy = |piece: &mut [u8], _, at: usize| piece.copy_from_slice(&bytes[at..at + piece.len()]);
        self.in_pieces(block, start, bytes.len(), copy).await
    }

    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        let start = self.check_range(block, offset, into.len())?;
        let _turn = self.turns.take(stream).await;
        self.transfer(stream, &self.from_device, into.len()).await;
        let length = into.len();
        let copy = |piece: &mut [u8], _, at: usize| into[at..at + piece.len()].copy_from_slice(piece);
        self.in_pieces(block, start, length, copy).await
    }
}

impl Heap {
    /// Memory for a block, used pieces first.
    fn pieces(&mut self, size: usize) -> Vec<Mutex<Box<[u8]>>> {
        let fresh = |length| vec![0; length].into_boxed_slice();
        let whole = (0..size / PIECE).map(|_| self.spare.pop().unwrap_or_else(|| fresh(PIECE)));
        let mut pieces: Vec<_> = whole.map(Mutex::new).collect();
        if !size.is_multiple_of(PIECE) {
            pieces.push(Mutex::new(fresh(size % PIECE)));
        }
        pieces
    }

    fn keep(&mut self, pieces: Vec<Mutex<Box<[u8]>>>) {
        let bytes = pieces.into_iter().map(|piece| match piece.into_inner() {
            Ok(bytes) => bytes,
            Err(poisoned) => poisoned.into_inner(),
        });
        self.spare.extend(bytes.filter(|bytes| bytes.len() == PIECE));
    }
}

impl Link {
    /// Takes the link for `busy`, not before `ready` and after whoever has it now. Returns when that ends.
    fn occupy(&self, ready: Instant, busy: Duration) -> Instant {
        let mut free_at = lock(&self.free_at);
        let start = free_at.map_or(ready, |at| at.max(ready));
        let end = start + busy;
        *free_at = Some(end);
        end
    }
}

/// A lock whose holder panicked is taken all the same: a kernel of the caller's can do no more than leave a piece half
/// done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}
