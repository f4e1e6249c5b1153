//! The pool: large allocations, made rarely, cut into blocks, often.
//!
//! # How it works
//!
//! * **Caches.** A thread finds free blocks of the size and stream in a cache of its own ([`cache`], after the
//!   magazines of Bonwick and Adams), under a lock that nobody else wants. Nothing that threads share is written on
//!   this path, but for the mark of the peak once in a while.
//! * **The heap.** An empty cache is filled from, and a full one emptied into, two-level segregated fit over the slabs
//!   ([`heap`], after Masmano and others), which joins free neighbours at once. Sizes are four to an octave
//!   ([`classes`]).
//! * **Streams.** A block is freed in the order of a stream: what is queued on that stream may still use it. So the
//!   cache gives it to the same stream at once, which comes later anyway, and to no other. What leaves the cache waits,
//!   with one event for the whole batch, until the stream has passed. PyTorch's allocator keeps a block to its stream
//!   for ever, cudaMallocAsync and RMM record an event for every free; here only overflow costs an event.
//! * **Need.** When the heap has no piece ([`need`]): return what streams have passed, take over what waits on the same
//!   stream, grow; then call in the caches of all threads, and try again; then take over what waits on another stream,
//!   which the new one is told to wait for; then give wholly free slabs back to the source and grow by exactly what is
//!   asked. Only then refuse. While a thread is in need what others free goes to the heap and not into caches, so that
//!   a refusal is true: at one moment after it began there was no such piece in the whole pool.
//! * **Limit.** What is taken from the source is planned under the lock before it is taken, and counted until it is
//!   given back; it is never above the limit, not for a moment.
//!
//! # What it costs
//!
//! Constant time for a block, whatever number of blocks lives; the paths of need visit every cache and are rare. A hit
//! takes two locked instructions for the lock and the count of the pool's owners, on lines that only this thread writes
//! to, and as many for the return. `cargo bench -p bursar-benches --bench pool` measures it.

mod cache;
mod central;
mod classes;
mod heap;
mod need;
mod source;
mod usage;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_utils::CachePadded;

use self::cache::{Cache, Kept, Peak, Room};
use self::central::{Batch, Central, Cut, UNIT};
use self::classes::{Classes, Rounded};
use self::heap::Look;
use super::error::SpaceError;
use super::{Lock, STREAMS, Stream, thread};
use crate::model::SpaceId;

pub use source::{Slab, Source, SourceError};
pub use usage::{PoolFigures, PoolUsage};

/// No request can be larger.
const LARGEST: u64 = 1 << 62;

/// How a pool grows and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    limit: u64,
    slab: u64,
    granule: u64,
    cache: u64,
    grain: u64,
    page: u64,
}

impl PoolConfig {
    /// For device memory of at most so many bytes: blocks are multiples of 256 bytes and begin at one.
    ///
    /// Slabs are a 64th of the limit but at least 2 MiB and at most 256 MiB, and a thread keeps as much as that for
    /// itself.
    pub fn device(limit: u64) -> Self {
        let share = (limit / 64).clamp(2 << 20, 256 << 20).next_power_of_two();
        PoolConfig { limit, slab: share, granule: UNIT, cache: (limit / 64).min(share), grain: 256, page: 256 }
    }

    /// For host memory of at most so many bytes: blocks of a page of 4 KiB or more are whole pages, and smaller ones
    /// multiples of 512 bytes.
    pub fn host(limit: u64) -> Self {
        PoolConfig { grain: 512, page: 4_096, granule: 4_096, ..PoolConfig::device(limit) }
    }

    /// The most that may be taken from the source.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// How much to take from the source at once, unless a block needs more or the limit leaves less.
    #[must_use]
    pub fn slab(mut self, bytes: u64) -> Self {
        self.slab = bytes;
        self
    }

    /// How many bytes each thread may keep for itself.
    #[must_use]
    pub fn cache(mut self, bytes: u64) -> Self {
        self.cache = bytes;
        self
    }

    /// What the source counts in: every slab is a multiple of it. Made a power of two, at most 1 GiB
    /// and at least what blocks are multiples of.
    #[must_use]
    pub fn granule(mut self, bytes: u64) -> Self {
        self.granule = bytes.clamp(UNIT.max(self.page), 1 << 30).next_power_of_two();
        self
    }

    /// The largest size that is kept in caches: a slab, but at most 64 MiB.
    fn largest_class(&self) -> u64 {
        let slab = self.slab.clamp(self.page, 64 << 20);
        1 << slab.ilog2()
    }
}

/// Cuts large allocations of a [`Source`] into blocks. A cheap handle: clones are the same pool.
///
/// ```
/// # fn main() -> Result<(), bursar::memory::SpaceError> {
/// use bursar::memory::{HeapSource, Pool, PoolConfig, Stream};
/// use bursar::{MIB, SpaceId, Tier};
///
/// let pool = Pool::new(SpaceId { tier: Tier::Host, index: 0 }, HeapSource::new(), PoolConfig::host(64 * MIB));
/// let block = pool.allocate(3_000, Stream(0))?;
/// assert_eq!((block.len(), block.capacity()), (3_000, 3_072));
/// let address = block.address();
/// drop(block);
/// assert_eq!(pool.allocate(3_001, Stream(0))?.address(), address);
/// assert_eq!(pool.usage().allocated, 0);
/// # Ok(()) }
/// ```
pub struct Pool<S: Source> {
    keeps: Arc<[Keep<S>]>,
}

/// A count of owners for the blocks of one thread, so that threads do not meet in a common one.
type Keep<S> = Arc<CachePadded<Arc<Shared<S>>>>;

#[derive(Debug)]
struct Shared<S: Source> {
    space: SpaceId,
    classes: Classes,
    room: Room,
    slab: u64,
    granule: u64,
    caches: Box<[CachePadded<Lock<Cache>>]>,
    /// A thread is in need: nothing goes into caches.
    need: AtomicBool,
    peak: CachePadded<Peak>,
    central: CachePadded<Lock<Central<S>>>,
    /// Held by who is in need, and by who takes from the source or gives back to it.
    turn: Mutex<()>,
    source: S,
}

/// Memory of a pool. Dropping it frees it, in the order of its stream.
pub struct PoolBlock<S: Source> {
    keep: Keep<S>,
    cut: Cut,
    asked: u64,
    class: Option<u8>,
    stream: Stream,
    /// Other streams that use it. Rare, so out of line: a block is less than a line of the processor's cache.
    others: Option<Box<[bool; STREAMS]>>,
}

impl<S: Source> Pool<S> {
    /// A pool of a space. Takes nothing from the source yet.
    pub fn new(space: SpaceId, source: S, config: PoolConfig) -> Self {
        let classes = Classes::new(config.grain, config.page, config.largest_class());
        let streams = if S::STREAMS { STREAMS } else { 1 };
        let room = Room { bytes: config.cache };
        let caches =
            (0..thread::parts()).map(|_| CachePadded::new(Lock::new(Cache::new(streams, classes.count(), room))));
        let shared = Arc::new(Shared {
            space,
            classes,
            room,
            slab: config.slab,
            granule: config.granule,
            caches: caches.collect(),
            need: AtomicBool::new(false),
            peak: CachePadded::default(),
            central: CachePadded::new(Lock::new(Central::new(config.limit))),
            turn: Mutex::new(()),
            source,
        });
        let keeps = (0..shared.caches.len()).map(|_| Arc::new(CachePadded::new(Arc::clone(&shared))));
        Pool { keeps: keeps.collect() }
    }

    /// Allocates a block for the work of a stream. What is in it is whatever was there before.
    ///
    /// # Errors
    /// [`SpaceError::Zero`]; [`SpaceError::OutOfMemory`] when there is no piece of this size, after everything that is
    /// kept free in caches was called in; [`SpaceError::Lost`] when the source has failed for good.
    #[inline]
    pub fn allocate(&self, bytes: u64, stream: Stream) -> Result<PoolBlock<S>, SpaceError> {
        let number = thread::number() & (self.keeps.len() - 1);
        let keep = &self.keeps[number];
        let stream = if S::STREAMS { stream } else { Stream(0) };
        let (cut, class) = keep.take(number, bytes, stream)?;
        Ok(PoolBlock { keep: Arc::clone(keep), cut, asked: bytes, class, stream, others: None })
    }

    /// What a block of so many bytes takes, unless it gets a piece that was left over.
    pub fn footprint(&self, bytes: u64) -> u64 {
        if bytes.wrapping_sub(1) >= LARGEST { bytes } else { self.shared().classes.round(bytes).bytes }
    }

    /// The source.
    pub fn source(&self) -> &S {
        &self.shared().source
    }

    /// The space it is a pool of.
    pub fn space(&self) -> SpaceId {
        self.shared().space
    }

    fn shared(&self) -> &Arc<Shared<S>> {
        &self.keeps[0]
    }
}

impl<S: Source> Shared<S> {
    #[inline]
    fn take(&self, number: usize, asked: u64, stream: Stream) -> Result<(Cut, Option<u8>), SpaceError> {
        if asked.wrapping_sub(1) >= LARGEST {
            return Err(self.impossible(asked));
        }
        let wanted = self.classes.round(asked);
        let mut cache = self.caches[number].lock();
        let (cut, class) = match wanted.class.and_then(|class| cache.pop(stream, class)) {
            Some(cut) => {
                cache.account.hits += 1;
                (cut, wanted.class)
            }
            None => {
                cache.account.misses += 1;
                if let Some(cut) = self.refill(&mut cache, wanted, stream) {
                    (cut, wanted.class)
                } else {
                    drop(cache);
                    let cut = self.in_need(wanted, asked, stream)?;
                    cache = self.caches[number].lock();
                    (cut, self.classes.of_exact(cut.bytes))
                }
            }
        };
        cache.account.allocated(cut.bytes, asked, &self.peak);
        Ok((cut, class))
    }

    /// Fills a cache that has nothing, and takes one piece more.
    #[inline(never)]
    fn refill(&self, cache: &mut Cache, wanted: Rounded, stream: Stream) -> Option<Cut> {
        let align = self.classes.alignment(wanted.bytes);
        let mut central = self.central.lock();
        let first = central.cut(wanted.bytes, align, Look::Quick)?;
        if let Some(class) = wanted.class
            && !self.need.load(Ordering::Relaxed)
        {
            for _ in 1..self.room.refill(wanted.bytes) {
                let Some(cut) = central.cut(wanted.bytes, align, Look::Quick) else { break };
                // Fewer than there is room for.
                let _ = cache.push(stream, class, cut, self.room);
            }
        }
        Some(first)
    }

    #[inline]
    fn give(&self, number: usize, block: &PoolBlock<S>) {
        let mut cache = self.caches[number].lock();
        cache.account.freed(block.cut.bytes, block.asked, &self.peak);
        // Read under the lock: who is in need sets it first and then visits the caches, one lock after the other.
        let class = block.class.filter(|_| !self.need.load(Ordering::Relaxed));
        let kept = class.map_or(Kept::No, |class| cache.push(block.stream, class, block.cut, self.room));
        match (kept, class) {
            (Kept::Yes, _) => {}
            (Kept::TooManyOfSize, Some(class)) => {
                let half = cache.older_half(block.stream, class);
                self.give_back(block.stream, half);
            }
            (Kept::TooMany, _) => self.empty(&mut cache),
            (Kept::No, _) | (_, None) => {
                drop(cache);
                self.give_back(block.stream, vec![block.cut]);
            }
        }
    }

    /// Gives everything in a cache back. Its lock is held meanwhile, so that who visits all caches misses nothing.
    #[inline(never)]
    fn empty(&self, cache: &mut Cache) {
        for (stream, cuts) in cache.take_all() {
            self.give_back(stream, cuts);
        }
    }

    /// Pieces that were freed on a stream go to the heap, if there are no streams, or wait.
    #[inline(never)]
    fn give_back(&self, stream: Stream, cuts: Vec<Cut>) {
        if cuts.is_empty() {
            return;
        }
        if S::STREAMS {
            let event = self.source.record(stream);
            self.central.lock().postpone(Batch { stream, event, cuts });
        } else {
            let mut central = self.central.lock();
            cuts.into_iter().for_each(|cut| central.give(cut));
        }
    }

    #[cold]
    fn impossible(&self, asked: u64) -> SpaceError {
        match asked {
            0 => SpaceError::Zero { space: self.space },
            _ => self.refuse(asked, false),
        }
    }
}

impl<S: Source> PoolBlock<S> {
    /// Where it begins. On a device this is an address of the device.
    #[inline]
    pub fn address(&self) -> u64 {
        self.cut.address
    }

    /// How many bytes were asked.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "there is no empty block")]
    pub fn len(&self) -> u64 {
        self.asked
    }

    /// How many bytes it has: those that were asked, rounded up to a size that the pool has.
    #[inline]
    pub fn capacity(&self) -> u64 {
        self.cut.bytes
    }

    /// The stream in whose order it is freed.
    #[inline]
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// The space it is in.
    pub fn space(&self) -> SpaceId {
        self.keep.space
    }

    /// Says that another stream uses it too: it is freed after what is queued there when it is dropped.
    pub fn used_on(&mut self, stream: Stream) {
        if S::STREAMS && stream != self.stream {
            self.others.get_or_insert_with(|| Box::new([false; STREAMS]))[usize::from(stream.0)] = true;
        }
    }

    /// The pool's source.
    pub fn source(&self) -> &S {
        &self.keep.source
    }

    /// Lets the stream of this block wait for the others that use it. `false` if that cannot be done.
    #[cold]
    fn follow_others(&self) -> bool {
        let source = &self.keep.source;
        let follow = |other| source.record(other).is_some_and(|event| source.wait(self.stream, &event));
        let others = (0..=u8::MAX).zip(self.others.iter().flat_map(|others| others.iter()));
        others.filter(|&(_, &uses)| uses).all(|(number, _)| follow(Stream(number)))
    }
}

impl<S: Source> Drop for PoolBlock<S> {
    #[inline]
    fn drop(&mut self) {
        let shared = &***self.keep;
        let number = thread::number() & (shared.caches.len() - 1);
        if self.others.is_none() || self.follow_others() {
            shared.give(number, self);
        } else {
            // Nobody can tell when the others are done: it stays away for good.
            shared.caches[number].lock().account.freed(self.cut.bytes, self.asked, &shared.peak);
            let cuts = vec![self.cut];
            shared.central.lock().postpone(Batch { stream: self.stream, event: None, cuts });
        }
    }
}

impl<S: Source> Clone for Pool<S> {
    fn clone(&self) -> Self {
        Pool { keeps: Arc::clone(&self.keeps) }
    }
}

impl<S: Source> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("space", &self.space()).field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl<S: Source> fmt::Debug for PoolBlock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = format_args!("{:#x}", self.cut.address);
        let mut shown = f.debug_struct("PoolBlock");
        shown.field("space", &self.space()).field("address", &address).field("len", &self.asked);
        shown.field("capacity", &self.cut.bytes).field("stream", &self.stream).finish()
    }
}
