//! Copies of slices that a device cannot reach, or that may be gone before it is done: through memory of the space, in
//! chunks of which several are under way. While the device copies one, the next is filled or the last one emptied.
//!
//! One core fills memory at a fraction of what a link carries, so the chunks of a large copy are filled and emptied by
//! several threads ([`Crew`]). A chunk takes off as soon as it is full, while they are at those after it.

use std::future::Future;
use std::mem::take;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::crew::Crew;
use super::error::SpaceError;
use super::host::{HeapSource, HostBlock, HostSpace};
use super::past_cache::copy_past_cache;
use super::pool::PoolConfig;
use crate::model::{MIB, SpaceId, Tier};

/// What is copied at once.
pub(super) const CHUNK: usize = 4 << 20;
/// There is memory for so many chunks, once it was needed.
const CHUNKS: usize = 16;
/// How many chunks of one copy are under way at a time at most.
const DEPTH: usize = 4;
/// From this on a copy is large. To call threads for a smaller one takes longer than they save.
const LARGE: usize = 32 << 20;
/// How many chunks of a large copy are under way at a time at most: what waits for the link is then as much as what is
/// being filled.
const LARGE_DEPTH: usize = 12;
/// How many chunks of a large copy are filled or emptied in one go at most, which takes some 600 us.
const BATCH: usize = 8;
/// What one thread fills or empties at once.
const PIECE: usize = 256 << 10;

/// Memory that copies go through, and the threads that help them.
#[derive(Debug)]
pub(super) struct Staging {
    space: HostSpace,
    places: Arc<Semaphore>,
    helpers: Arc<Semaphore>,
    /// Of the last large copy: its helpers look around for a while.
    crew: Mutex<Option<Crew>>,
}

/// Those who work on a copy, until this is dropped.
struct Hands<'a> {
    staging: &'a Staging,
    crew: Crew,
    _helpers: Option<OwnedSemaphorePermit>,
}

/// Memory for a chunk.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) memory: HostBlock,
    _place: OwnedSemaphorePermit,
}

/// The slice, and so the way.
#[derive(Debug)]
pub(super) enum Slice<'a> {
    ToDevice(&'a [u8]),
    ToHost(&'a mut [u8]),
}

/// The device's part of one copy.
pub(super) trait Link: Send {
    /// Queues the copy of a range between the device and memory, and keeps the memory until it is done.
    fn take_off(&mut self, range: Range<usize>, staged: Staged) -> Result<(), SpaceError>;

    /// How many were not waited for yet.
    fn under_way(&self) -> usize;

    /// Waits for the oldest.
    fn land(&mut self) -> impl Future<Output = Result<Staged, SpaceError>> + Send;

    /// The oldest, if it is done.
    fn landed(&mut self) -> Option<Result<Staged, SpaceError>>;
}

impl Staging {
    /// Takes no memory yet. As many threads as `threads` work on large copies, those that poll them counted in.
    pub(super) fn new(device: SpaceId, source: HeapSource, threads: usize) -> Self {
        let id = SpaceId { tier: Tier::Host, index: device.index };
        let bytes = (CHUNK * CHUNKS) as u64;
        let config = PoolConfig::host(bytes).slab(16 * MIB);
        let space = HostSpace::with(id, source, bytes, config);
        let helpers = Arc::new(Semaphore::new(threads.saturating_sub(1).min(Semaphore::MAX_PERMITS)));
        Staging { space, places: Arc::new(Semaphore::new(CHUNKS)), helpers, crew: Mutex::default() }
    }

    /// Copies between a slice and a device.
    pub(super) async fn copy(&self, link: &mut impl Link, mut slice: Slice<'_>) -> Result<(), SpaceError> {
        let large = slice.len() >= LARGE;
        let (depth, hands) = if large { (LARGE_DEPTH, self.hands()) } else { (DEPTH, self.alone()) };
        let most = if hands.crew.is_alone() { 1 } else { BATCH };
        let (mut ahead, mut behind) = (chunks(slice.len()).peekable(), chunks(slice.len()));
        loop {
            let under_way = link.under_way();
            let mut batch: Vec<(Range<usize>, Staged)> = Vec::new();
            while batch.len() < most
                && let Some(range) = ahead.peek()
                && let Some(staged) = self.next(under_way + batch.len(), depth).await?
            {
                batch.push((range.clone(), staged));
                ahead.next();
            }
            if !batch.is_empty() {
                slice.send(batch, &hands.crew, |range, staged| link.take_off(range, staged))?;
            } else if under_way > 0 {
                let mut landed = vec![link.land().await?];
                while landed.len() < most
                    && let Some(more) = link.landed()
                {
                    landed.push(more?);
                }
                slice.empty(landed.iter().zip(behind.by_ref()), &hands.crew);
            } else {
                return Ok(());
            }
        }
    }

    /// Memory for the next chunk of a copy that has so many. `None` if one of these has to be waited for first: who has
    /// any never waits for the memory of others here, as they might wait for each other.
    async fn next(&self, has: usize, depth: usize) -> Result<Option<Staged>, SpaceError> {
        let places = Arc::clone(&self.places);
        let place = match has {
            // The semaphore is never closed.
            0 => places.acquire_owned().await.ok(),
            has if has < depth => places.try_acquire_owned().ok(),
            _ => None,
        };
        // All have the same size, so that memory for one never lies in pieces.
        let staged = |place| Ok(Staged { memory: self.space.allocate_block(CHUNK as u64)?, _place: place });
        place.map(staged).transpose()
    }

    /// Those who are not at another copy.
    fn hands(&self) -> Hands<'_> {
        let free = self.helpers.available_permits();
        let wanted = u32::try_from(free).unwrap_or(u32::MAX);
        // Another copy may be quicker.
        let helpers = Arc::clone(&self.helpers).try_acquire_many_owned(wanted).ok();
        let crew = lock(&self.crew).take().unwrap_or_default();
        Hands { staging: self, crew: crew.with(helpers.as_ref().map_or(0, |_| free)), _helpers: helpers }
    }

    fn alone(&self) -> Hands<'_> {
        Hands { staging: self, crew: Crew::default(), _helpers: None }
    }
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        if !self.crew.is_alone() {
            let earlier = lock(&self.staging.crew).replace(take(&mut self.crew));
            drop(earlier);
        }
    }
}

impl Slice<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Slice::ToDevice(bytes) => bytes.len(),
            Slice::ToHost(bytes) => bytes.len(),
        }
    }

    /// Fills chunks, and hands each on as soon as it is full, in their order.
    fn send(
        &self,
        mut batch: Vec<(Range<usize>, Staged)>,
        crew: &Crew,
        mut full: impl FnMut(Range<usize>, Staged) -> Result<(), SpaceError>,
    ) -> Result<(), SpaceError> {
        let Slice::ToDevice(bytes) = self else {
            return batch.into_iter().try_for_each(|(range, staged)| full(range, staged));
        };
        // Memory that is used again within a copy stays in a cache of the processor, where the device finds it. What a
        // shorter copy writes is not there yet, and would only be fetched to be overwritten.
        let past_cache = bytes.len() >= LARGE && bytes.len() <= CHUNK * CHUNKS;
        let (mut pieces, mut left) = (Vec::new(), Vec::new());
        for (chunk, (range, staged)) in batch.iter_mut().enumerate() {
            let memory = staged.memory[..range.len()].chunks_mut(PIECE).zip(bytes[range.clone()].chunks(PIECE));
            left.push(AtomicUsize::new(range.len().div_ceil(PIECE)));
            pieces.extend(memory.map(|(to, from)| (chunk, AtomicPtr::new(to.as_mut_ptr()), from)));
        }
        let (mut batch, mut sent) = (batch.into_iter().zip(&left).peekable(), Ok(()));
        let fill = |at: usize| {
            let (chunk, to, from) = &pieces[at];
            #[allow(unsafe_code)]
            // SAFETY: pieces are done once each. This one lies in the memory of a chunk, where no other piece does, and
            // is as long as what goes into it; the chunk is not handed on, nor dropped, before all of its pieces are
            // done, and nobody else looks into it until then.
            let to = unsafe { std::slice::from_raw_parts_mut(to.load(Ordering::Relaxed), from.len()) };
            copy(to, from, past_cache);
            left[*chunk].fetch_sub(1, Ordering::Release);
        };
        crew.work(pieces.len(), &fill, || {
            while let Some(((range, staged), _)) = batch.next_if(|(_, left)| left.load(Ordering::Acquire) == 0) {
                if sent.is_ok() {
                    sent = full(range, staged);
                }
            }
        });
        sent
    }

    /// After chunks, which follow each other, have landed.
    fn empty<'a>(&mut self, chunks: impl Iterator<Item = (&'a Staged, Range<usize>)>, crew: &Crew) {
        let Slice::ToHost(bytes) = self else { return chunks.for_each(drop) };
        let (mut rest, mut at) = (&mut bytes[..], 0);
        let pairs = chunks.map(|(staged, range)| {
            let (_, ahead) = std::mem::take(&mut rest).split_at_mut(range.start - at);
            let (to, ahead) = ahead.split_at_mut(range.len());
            (rest, at) = (ahead, range.end);
            (to, &staged.memory[..range.len()])
        });
        copy_all(pairs, crew);
    }
}

/// Copies into the first what is in the second, which is as long.
fn copy_all<'a>(pairs: impl Iterator<Item = (&'a mut [u8], &'a [u8])>, crew: &Crew) {
    let cut = pairs.flat_map(|(to, from)| to.chunks_mut(PIECE).zip(from.chunks(PIECE)));
    let pieces: Vec<_> = cut.map(Mutex::new).collect();
    // What several threads copy is too much for a cache anyway.
    let past_cache = !crew.is_alone();
    let empty = |at: usize| {
        let (to, from) = &mut *lock(&pieces[at]);
        copy(to, from, past_cache);
    };
    crew.work(pieces.len(), &empty, || ());
}

fn copy(to: &mut [u8], from: &[u8], past_cache: bool) {
    if past_cache { copy_past_cache(to, from) } else { to.copy_from_slice(from) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chunks(length: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(CHUNK).map(move |start| start..length.min(start + CHUNK))
}

#[cfg(test)]
mod tests;
