//! What a thread does that finds no piece, and what others may ask for before they need it: growing, calling in,
//! trimming. One thread at a time, so that none sees memory that another has in its hands as gone.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::central::{Batch, Cut};
use super::classes::Rounded;
use super::heap::Look;
use super::source::{Source, SourceError};
use super::{Pool, STREAMS, Shared};
use crate::memory::Stream;
use crate::memory::error::SpaceError;

/// As long as it lives nothing goes into caches.
struct Need<'a, S: Source>(&'a Shared<S>);

impl<S: Source> Drop for Need<'_, S> {
    fn drop(&mut self) {
        self.0.need.store(false, Ordering::Relaxed);
    }
}

/// What growing came to.
enum Grown {
    Yes,
    /// The limit does not allow it.
    Limited,
    /// The source has no more.
    Exhausted,
}

impl<S: Source> Shared<S> {
    /// Finds a piece by every means there is. It may be larger than wanted, or smaller, but holds what is asked.
    #[cold]
    pub(super) fn in_need(&self, wanted: Rounded, asked: u64, stream: Stream) -> Result<Cut, SpaceError> {
        let _turn = self.turn();
        self.central.lock().fallbacks += 1;
        // Somebody else may have grown while this thread waited.
        if let Some(cut) = self.cut(wanted.bytes, Look::Quick) {
            return Ok(cut);
        }
        self.collect();
        // Twice as large is better than growing; more would be a waste.
        let fitting = wanted.bytes..=2 * wanted.bytes;
        let before_growing = self.cut(wanted.bytes, Look::Quick).or_else(|| self.take_over(fitting, stream, false));
        if let Some(cut) = before_growing {
            return Ok(cut);
        }
        let grown = self.grow(wanted.bytes, self.slab)?;
        if let Grown::Yes = grown
            && let Some(cut) = self.cut(wanted.bytes, Look::Quick)
        {
            return Ok(cut);
        }

        let _need = self.need();
        self.call_in();
        let exact = self.classes.exact(asked);
        let called_in = self.cut(wanted.bytes, Look::Thorough).or_else(|| self.cut(exact, Look::Thorough));
        let found = called_in.or_else(|| self.take_over(exact..=u64::MAX, stream, true));
        if let Some(cut) = found {
            return Ok(cut);
        }
        // There may be room for what is asked and not for what it is rounded up to. Last, whole slabs can be exchanged
        // for one of the right size.
        let exhausted = matches!(grown, Grown::Exhausted);
        if let Some(cut) = self.grow_exactly(exact)? {
            return Ok(cut);
        }
        if self.make_room(exact, exhausted)
            && let Some(cut) = self.grow_exactly(exact)?
        {
            return Ok(cut);
        }
        Err(self.refuse(asked, exhausted))
    }

    pub(super) fn refuse(&self, asked: u64, exhausted: bool) -> SpaceError {
        let mut central = self.central.lock();
        central.refused += 1;
        let room = if exhausted { 0 } else { central.room(self.granule) };
        SpaceError::OutOfMemory {
            space: self.space,
            asked,
            free: central.free() + room,
            largest_free: Some(central.largest().max(room)),
            pending: central.pending_bytes,
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        // A panic of the source's leaves nothing half done that the next turn would rely on.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn need(&self) -> Need<'_, S> {
        self.need.store(true, Ordering::Relaxed);
        Need(self)
    }

    fn cut(&self, bytes: u64, look: Look) -> Option<Cut> {
        self.central.lock().cut(bytes, self.classes.alignment(bytes), look)
    }

    /// Returns to the heap what streams have passed. The source is asked without the lock; at most once for a stream
    /// that has not passed its oldest batch.
    fn collect(&self) {
        if !S::STREAMS {
            return;
        }
        let batches = std::mem::take(&mut self.central.lock().pending);
        let mut behind = [false; STREAMS];
        let (passed, waiting): (Vec<_>, Vec<_>) = batches.into_iter().partition(|Batch { stream, event, .. }| {
            // Nobody can tell when that is passed, which says nothing of what comes after it.
            let Some(event) = event else { return false };
            let behind = &mut behind[usize::from(stream.0)];
            *behind = *behind || !self.source.has_passed(event);
            !*behind
        });
        let mut central = self.central.lock();
        waiting.into_iter().rev().for_each(|batch| central.pending.push_front(batch));
        passed.into_iter().for_each(|batch| central.settle(batch));
    }

    /// Takes the smallest piece that fits of those that wait: of the same stream, which comes after its own work
    /// anyway, or of any, which the stream is then made to wait for. The piece is not cut: its end has been passed as
    /// little as its beginning.
    fn take_over(&self, sizes: RangeInclusive<u64>, stream: Stream, any: bool) -> Option<Cut> {
        if !S::STREAMS {
            return None;
        }
        let mut central = self.central.lock();
        let batches = central.pending.iter().enumerate();
        // What could not be marked stays away: other streams may be at it too.
        let marked = batches.filter(|(_, batch)| batch.event.is_some());
        let candidates = marked.filter(|(_, batch)| batch.stream == stream || any);
        let pieces =
            candidates.flat_map(|(at, batch)| batch.cuts.iter().enumerate().map(move |(n, cut)| (cut.bytes, at, n)));
        let (size, at, n) = pieces.filter(|&(size, ..)| sizes.contains(&size)).min()?;
        let batch = central.pending.get_mut(at)?;
        let cut = batch.cuts.swap_remove(n);
        if batch.stream == stream {
            central.pending_bytes -= size;
            return Some(cut);
        }
        // The source is asked without the lock. Nobody else takes batches out: this thread has the turn.
        let batch = central.pending.remove(at)?;
        drop(central);
        let waits = batch.event.as_ref().is_some_and(|event| self.source.wait(stream, event));
        let mut central = self.central.lock();
        let mut batch = batch;
        if waits {
            central.pending_bytes -= size;
        } else {
            batch.cuts.push(cut);
        }
        central.pending.insert(at, batch);
        waits.then_some(cut)
    }

    /// Takes a slab for a piece of just this size, and the piece.
    fn grow_exactly(&self, bytes: u64) -> Result<Option<Cut>, SpaceError> {
        // Others may be faster at what was grown.
        while let Grown::Yes = self.grow(bytes, bytes)? {
            if let Some(cut) = self.cut(bytes, Look::Thorough) {
                return Ok(Some(cut));
            }
        }
        Ok(None)
    }

    /// Takes a slab of the wanted size, or a smaller one if there is no more, which holds `least` all the same.
    fn grow(&self, least: u64, want: u64) -> Result<Grown, SpaceError> {
        let mut want = want;
        loop {
            let planned = self.central.lock().plan(least, want, self.granule);
            let Some(bytes) = planned else { return Ok(Grown::Limited) };
            match self.source.slab(bytes) {
                Ok(slab) => {
                    // The lock is gone before a slab that has no place is dropped.
                    let added = self.central.lock().add(slab, bytes);
                    if added.is_ok() {
                        return Ok(Grown::Yes);
                    }
                    drop(added);
                    self.central.lock().unplan(bytes);
                    return Ok(Grown::Exhausted);
                }
                Err(SourceError::Exhausted) => {
                    self.central.lock().unplan(bytes);
                    if bytes < least + self.granule {
                        return Ok(Grown::Exhausted);
                    }
                    want = bytes / 2;
                }
                Err(SourceError::Lost { reason }) => {
                    self.central.lock().unplan(bytes);
                    return Err(SpaceError::Lost { space: self.space, reason });
                }
            }
        }
    }

    /// Brings everything that is free in caches to the heap, as far as streams have passed it.
    fn call_in(&self) {
        for cache in &self.caches {
            self.empty(&mut cache.lock());
        }
        self.collect();
    }

    /// Gives slabs of which nothing is in use back, if the limit then has room for so many bytes. Where the source has
    /// no more, all of them: nobody knows what it can make of them.
    fn make_room(&self, bytes: u64, exhausted: bool) -> bool {
        let central = self.central.lock();
        let Some(bytes) = bytes.checked_next_multiple_of(self.granule) else { return false };
        let empty = central.empty();
        if empty == 0 || bytes > central.room(self.granule).saturating_add(empty) {
            return false;
        }
        let keep = if exhausted { 0 } else { central.limit.saturating_sub(bytes) };
        drop(central);
        self.release(keep);
        true
    }

    /// Gives slabs back until at most `keep` bytes are reserved. Returns how many bytes were given back.
    fn release(&self, keep: u64) -> u64 {
        let (slabs, bytes) = self.central.lock().remove_empty(keep);
        drop(slabs);
        self.central.lock().unplan(bytes);
        bytes
    }
}

impl<S: Source> Pool<S> {
    /// Takes slabs now, until so many bytes are reserved, so that the first allocations need not. Returns how many
    /// bytes are reserved: fewer if the limit or the source has no more.
    ///
    /// # Errors
    /// [`SpaceError::Lost`].
    pub fn prewarm(&self, bytes: u64) -> Result<u64, SpaceError> {
        let shared = self.shared();
        let _turn = shared.turn();
        loop {
            let reserved = shared.central.lock().reserved;
            if reserved >= bytes {
                return Ok(reserved);
            }
            let want = shared.slab.min(bytes - reserved);
            if !matches!(shared.grow(shared.granule, want)?, Grown::Yes) {
                return Ok(shared.central.lock().reserved);
            }
        }
    }

    /// Calls in the caches of all threads and gives slabs of which nothing is in use back to the source, until at most
    /// `keep` bytes are reserved. Returns how many bytes were given back.
    pub fn trim(&self, keep: u64) -> u64 {
        let shared = self.shared();
        let _turn = shared.turn();
        let _need = shared.need();
        shared.call_in();
        shared.release(keep)
    }

    /// Returns to the heap what streams have passed. Allocation does this itself when it needs to.
    pub fn collect(&self) {
        let shared = self.shared();
        let _turn = shared.turn();
        shared.collect();
    }

    /// Another limit. If more is reserved, nothing is taken away: the pool does not grow, and [`trim`](Pool::trim)
    /// gives back what it can.
    pub fn set_limit(&self, bytes: u64) {
        self.shared().central.lock().limit = bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::mem::forget;
    use std::sync::Mutex;

    use super::*;
    use crate::memory::pool::{PoolBlock, PoolConfig, Slab};
    use crate::model::{MIB, SpaceId, Tier};

    type Hook = Box<dyn FnOnce() + Send>;

    /// A source that does something when the first point of stream 2 is recorded.
    #[derive(Default)]
    struct Meddler(Mutex<Option<Hook>>);

    #[derive(Debug)]
    struct Zero;

    impl Slab for Zero {
        fn address(&self) -> u64 {
            0
        }
    }

    impl std::fmt::Debug for Meddler {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Meddler")
        }
    }

    impl Source for Meddler {
        type Slab = Zero;
        type Event = ();

        const STREAMS: bool = true;

        fn slab(&self, _: u64) -> Result<Zero, SourceError> {
            Ok(Zero)
        }

        fn record(&self, stream: Stream) -> Option<()> {
            let hook = self.0.lock().expect("no panic").take_if(|_| stream == Stream(2));
            if let Some(hook) = hook {
                hook();
            }
            Some(())
        }

        fn has_passed(&self, (): &()) -> bool {
            true
        }

        fn wait(&self, _: Stream, (): &()) -> bool {
            true
        }
    }

    /// Frees a block as the thread with this number would.
    fn free(pool: &Pool<Meddler>, number: usize, block: PoolBlock<Meddler>) {
        pool.shared().give(number, &block);
        forget(block);
    }

    #[test]
    fn what_is_freed_into_a_cache_that_was_called_in_already_is_not_missed() {
        let gpu = SpaceId { tier: Tier::Gpu, index: 0 };
        let pool = Pool::new(gpu, Meddler::default(), PoolConfig::device(2 * MIB).slab(2 * MIB).cache(2 * MIB));
        let meanwhile = pool.allocate(MIB, Stream(1)).expect("room");
        free(&pool, 1, pool.allocate(MIB / 2, Stream(2)).expect("room"));
        // When cache 1 is emptied, cache 0 has been.
        let other = pool.clone();
        *pool.source().0.lock().expect("no panic") = Some(Box::new(move || free(&other, 0, meanwhile)));
        assert_eq!(pool.allocate(2 * MIB, Stream(0)).map(|block| block.len()), Ok(2 * MIB));
    }
}
