//! What a pool has, in figures.

use std::sync::{Arc, Weak};

use super::source::Source;
use super::{Keep, Pool};
use crate::model::{Figure, Figures, Unit};

/// The accounts of a pool in bytes. While no call is under way they are exact, and
/// `reserved == allocated + cached + pending + free`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolUsage {
    /// The most that may be reserved.
    pub limit: u64,
    /// In slabs, taken from the source.
    pub reserved: u64,
    /// In blocks, with what they were rounded up by.
    pub allocated: u64,
    /// In blocks, as it was asked.
    pub asked: u64,
    /// Free, and kept by a thread for the stream that freed it.
    pub cached: u64,
    /// Freed, and waiting for a stream to pass.
    pub pending: u64,
    /// Free for everybody.
    pub free: u64,
    /// Free for everybody in one piece.
    pub largest_free: u64,
    /// How many blocks there are.
    pub blocks: u64,
    /// How many slabs there are.
    pub slabs: u64,
    /// The most that was reserved at a time.
    pub peak_reserved: u64,
    /// The most that was allocated at a time: exact while one thread allocates and frees, and never too low. For every
    /// other thread that did, it is too high by at most a quarter of what a thread may keep, or 1 MiB if that is more.
    pub peak_allocated: u64,
    /// Allocations that a cache could serve.
    pub hits: u64,
    /// Allocations that it could not.
    pub misses: u64,
    /// The misses that what is free for everybody could not serve either: slabs were taken, or what others keep or wait
    /// for was called in.
    pub fallbacks: u64,
    /// How often a slab was taken.
    pub grown: u64,
    /// Allocations that were refused for want of memory.
    pub refused: u64,
}

impl PoolUsage {
    /// How much of what is free for everybody cannot be had in one piece, in millionths: 0 if all of it can, or if
    /// nothing is free.
    pub fn fragmentation(&self) -> u64 {
        let millionths = u128::from(self.free - self.largest_free) * 1_000_000;
        millionths.checked_div(u128::from(self.free)).map_or(0, |millionths| millionths as u64)
    }
}

impl PoolUsage {
    /// The same as figures to be shown beside others.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let bytes = [
            ("pool_reserved", self.reserved),
            ("pool_allocated", self.allocated),
            ("pool_cached", self.cached),
            ("pool_pending", self.pending),
            ("pool_free", self.free),
            ("pool_largest_free", self.largest_free),
        ];
        let so_far = [
            ("pool_hits", self.hits),
            ("pool_misses", self.misses),
            ("pool_fallbacks", self.fallbacks),
            ("pool_refused", self.refused),
        ];
        let bytes = bytes.into_iter().map(|(name, value)| Figure::gauge(name, value, Unit::Bytes));
        bytes.chain(Figure::counts(&[], &so_far)).collect()
    }
}

/// The figures of a pool until its last handle is gone: what [`Pool::figures`] returns.
#[derive(Debug)]
pub struct PoolFigures<S: Source>(Weak<[Keep<S>]>);

impl<S: Source> Figures for PoolFigures<S> {
    fn figures(&self) -> Vec<Figure> {
        self.0.upgrade().map(|keeps| Pool { keeps }.usage().figures()).unwrap_or_default()
    }

    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl<S: Source> Pool<S> {
    /// Its figures, to be shown beside those of a scheduler. They do not keep the pool. The spaces of
    /// [`Tiers`](crate::tiered::Tiers) show theirs without this.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bursar::memory::{HeapSource, Pool, PoolConfig};
    /// use bursar::{MIB, Scheduler, SpaceId, Tier};
    ///
    /// let scheduler = Scheduler::builder().host(64 * MIB).spawn()?;
    /// let staging = Pool::new(SpaceId { tier: Tier::Host, index: 0 }, HeapSource::new(), PoolConfig::host(64 * MIB));
    /// scheduler.publish("staging", staging.figures());
    /// assert_eq!(&*scheduler.snapshot(0).sections[0].name, "staging");
    /// # Ok(()) }
    /// ```
    pub fn figures(&self) -> PoolFigures<S> {
        PoolFigures(Arc::downgrade(&self.keeps))
    }

    /// What it has taken from the source, in bytes. Visits no cache.
    pub fn reserved(&self) -> u64 {
        self.shared().central.lock().reserved
    }

    /// What it has. Visits the cache of every thread.
    pub fn usage(&self) -> PoolUsage {
        let shared = self.shared();
        let mut usage = PoolUsage { peak_allocated: shared.peak.get(), ..PoolUsage::default() };
        let (mut allocated, mut asked, mut blocks) = (0, 0, 0);
        for cache in &shared.caches {
            let cache = cache.lock();
            let account = cache.account;
            allocated += account.bytes;
            asked += account.asked;
            blocks += account.blocks;
            usage.cached += cache.bytes;
            usage.hits += account.hits;
            usage.misses += account.misses;
        }
        // A block that is allocated on one thread and freed on another in between may be counted by one of them only.
        let at_least_zero = |sum: i64| u64::try_from(sum).unwrap_or(0);
        usage.allocated = at_least_zero(allocated);
        usage.asked = at_least_zero(asked);
        usage.blocks = at_least_zero(blocks);
        let central = shared.central.lock();
        usage.limit = central.limit;
        usage.reserved = central.reserved;
        usage.pending = central.pending_bytes;
        usage.free = central.free();
        usage.largest_free = central.largest();
        usage.slabs = central.slabs() as u64;
        usage.peak_reserved = central.peak_reserved;
        usage.fallbacks = central.fallbacks;
        usage.grown = central.grown;
        usage.refused = central.refused;
        usage
    }

    /// Lets both peaks begin again with what there is now.
    pub fn reset_peaks(&self) {
        let shared = self.shared();
        for cache in &shared.caches {
            cache.lock().account.settle(&shared.peak);
        }
        shared.peak.reset();
        let mut central = shared.central.lock();
        central.peak_reserved = central.reserved;
    }
}
