//! What all threads of a pool share: the slabs, the heap over them, and what waits for streams. Under one short lock,
//! which is taken when a thread's cache is empty or full, and never while the source is asked for anything.

use std::collections::VecDeque;

use super::heap::{Heap, Look, Place};
use super::source::{Slab, Source};
use crate::memory::Stream;

/// What the heap counts in.
pub(super) const UNIT: u64 = 256;
/// The largest slab: what the heap can count.
pub(super) const LARGEST_SLAB: u64 = (u32::MAX as u64) * UNIT;

/// A piece of a slab that is cut out of the heap: in use, in a cache, or waiting for a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) address: u64,
    pub(super) bytes: u64,
    pub(super) node: u32,
}

/// Pieces that were freed on a stream, and the point that it has to pass before another may have them.
#[derive(Debug)]
pub(super) struct Batch<E> {
    pub(super) stream: Stream,
    /// `None` if the stream could not be asked for one: never passed.
    pub(super) event: Option<E>,
    pub(super) cuts: Vec<Cut>,
}

#[derive(Debug)]
struct Held<L> {
    slab: L,
    first: u32,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Central<S: Source> {
    heap: Heap,
    /// By the number that the heap has for them. In a place of its own, so that cutting does not look into the slab.
    bases: Vec<u64>,
    slabs: Vec<Option<Held<S::Slab>>>,
    spare: Vec<u32>,
    /// Oldest first.
    pub(super) pending: VecDeque<Batch<S::Event>>,
    /// Bytes of pieces that wait for streams, also of batches that are out to be asked about.
    pub(super) pending_bytes: u64,
    pub(super) limit: u64,
    /// Bytes of slabs, also of those that are being taken.
    pub(super) reserved: u64,
    pub(super) peak_reserved: u64,
    /// How many requests neither a cache nor a quick look here could serve.
    pub(super) fallbacks: u64,
    /// How many slabs were ever taken.
    pub(super) grown: u64,
    /// How many requests were refused.
    pub(super) refused: u64,
}

impl<S: Source> Central<S> {
    pub(super) fn new(limit: u64) -> Self {
        Central {
            heap: Heap::new(),
            bases: Vec::new(),
            slabs: Vec::new(),
            spare: Vec::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            limit,
            reserved: 0,
            peak_reserved: 0,
            fallbacks: 0,
            grown: 0,
            refused: 0,
        }
    }

    pub(super) fn free(&self) -> u64 {
        self.heap.free() * UNIT
    }

    pub(super) fn largest(&self) -> u64 {
        u64::from(self.heap.largest()) * UNIT
    }

    pub(super) fn slabs(&self) -> usize {
        self.slabs.iter().flatten().count()
    }

    /// Cuts a piece out of the heap.
    #[inline]
    pub(super) fn cut(&mut self, bytes: u64, align: u64, look: Look) -> Option<Cut> {
        let units = u32::try_from(bytes / UNIT).ok()?;
        let place = self.heap.take(units, (align / UNIT) as u32, look)?;
        Some(self.cut_at(place))
    }

    fn cut_at(&self, place: Place) -> Cut {
        let address = self.bases[place.slab as usize] + u64::from(place.start) * UNIT;
        Cut { address, bytes: u64::from(place.units) * UNIT, node: place.node }
    }

    /// Returns a piece, which nobody and no stream uses, to the heap.
    pub(super) fn give(&mut self, cut: Cut) {
        self.heap.give(cut.node);
    }

    /// Takes pieces that a stream may still use.
    pub(super) fn postpone(&mut self, batch: Batch<S::Event>) {
        self.pending_bytes += batch.cuts.iter().map(|cut| cut.bytes).sum::<u64>();
        self.pending.push_back(batch);
    }

    /// Returns the pieces of a batch whose stream has passed.
    pub(super) fn settle(&mut self, batch: Batch<S::Event>) {
        for cut in batch.cuts {
            self.pending_bytes -= cut.bytes;
            self.give(cut);
        }
    }

    /// Sets bytes aside for a slab that is about to be taken: at least `least`, better `want`, and a multiple of the
    /// granule. `None` if the limit leaves less.
    pub(super) fn plan(&mut self, least: u64, want: u64, granule: u64) -> Option<u64> {
        let room = self.room(granule).min(LARGEST_SLAB / granule * granule);
        let least = least.checked_next_multiple_of(granule)?;
        let bytes = want.min(room).max(least).checked_next_multiple_of(granule)?.min(room);
        if bytes < least {
            return None;
        }
        self.reserved += bytes;
        Some(bytes)
    }

    /// What the limit leaves for further slabs.
    pub(super) fn room(&self, granule: u64) -> u64 {
        self.limit.saturating_sub(self.reserved) / granule * granule
    }

    /// Gives up what was set aside.
    pub(super) fn unplan(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// Enters a slab that was planned. Returns it if there is no place to note it.
    pub(super) fn add(&mut self, slab: S::Slab, bytes: u64) -> Result<(), S::Slab> {
        let number = self.spare.pop().unwrap_or(self.slabs.len() as u32);
        let Some(first) = self.heap.add(number, (bytes / UNIT) as u32) else {
            self.spare.push(number);
            return Err(slab);
        };
        if number as usize == self.slabs.len() {
            self.slabs.push(None);
            self.bases.push(0);
        }
        self.bases[number as usize] = slab.address();
        self.slabs[number as usize] = Some(Held { slab, first, bytes });
        self.peak_reserved = self.peak_reserved.max(self.reserved);
        self.grown += 1;
        Ok(())
    }

    /// Takes out slabs of which nothing is in use, until at most `keep` bytes would be reserved. Who gets them drops
    /// them without the lock, and gives up their bytes then.
    pub(super) fn remove_empty(&mut self, keep: u64) -> (Vec<S::Slab>, u64) {
        let (mut removed, mut bytes) = (Vec::new(), 0);
        for number in (0..self.slabs.len()).rev() {
            if self.reserved - bytes <= keep {
                break;
            }
            let slot = &mut self.slabs[number];
            if slot.as_ref().is_some_and(|held| self.heap.remove(held.first))
                && let Some(held) = slot.take()
            {
                bytes += held.bytes;
                self.spare.push(number as u32);
                removed.push(held.slab);
            }
        }
        (removed, bytes)
    }

    /// Bytes of slabs of which nothing is in use.
    pub(super) fn empty(&self) -> u64 {
        self.slabs.iter().flatten().filter(|held| self.heap.is_empty(held.first)).map(|held| held.bytes).sum()
    }
}
