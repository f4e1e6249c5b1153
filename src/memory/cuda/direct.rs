//! Copies between a block and pinned memory of the host, or [another block](super::across), which the device does by
//! itself.

use std::ops::Range;
use std::sync::Arc;

use super::block::DeviceBlock;
use super::copy::{Unqueued, Way};
use super::flight::{Flights, Keep};
use super::space::CudaSpace;
use crate::memory::host::{HostBlock, Lent};
use crate::memory::joint::Joint;
use crate::memory::turns::Turn;
use crate::memory::{BlockId, Space, SpaceError, Stream};

/// What is copied at once.
const CHUNK: usize = 16 << 20;
/// The last chunk. The device is at it while the task wakes up that waited for the one before, which takes some 50 us;
/// so the task need not be woken once more, and looks for the end of this one.
const TAIL: usize = 4 << 20;
/// How many chunks of one copy are under way at a time at most.
const DEPTH: usize = 4;

/// One copy, chunk by chunk as its caller queues them. `K` keeps the memory of the other end.
pub(crate) struct Direct<'a, K: Keep> {
    space: &'a CudaSpace,
    way: Way,
    stream: Stream,
    block: BlockId,
    /// Where the range begins in the block, and at the other end.
    start: u64,
    other: u64,
    length: usize,
    /// The other end is a block of this stream.
    follower: Option<(&'a CudaSpace, Stream)>,
    keeps: K,
    flights: Flights<(Arc<Joint<DeviceBlock>>, K)>,
    _turn: Turn,
}

impl CudaSpace {
    /// Copies a host block into a block, from `offset` on: at the speed of the link if it is pinned by this driver (see
    /// [`pin`](CudaSpace::pin)), else as [`write`](Space::write).
    ///
    /// # Errors
    /// As [`write`](Space::write).
    ///
    /// # Cancel safety
    /// Dropping the future stops the copy as that of every [`Space`]. The host block is shared until the device is done
    /// with what it has begun.
    pub async fn write_from(
        &self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        from: &Arc<HostBlock>,
    ) -> Result<(), SpaceError> {
        if !from.is_pinned() {
            return self.write(stream, block, offset, from).await;
        }
        #[allow(unsafe_code)]
        // SAFETY: who has a share of a host block keeps it, and nobody can write it.
        let direct = unsafe {
            self.direct(Way::ToDevice, stream, block, offset, from.address(), from.len(), Arc::clone(from)).await
        };
        direct?.all().await
    }

    /// Fills a host block from a block, from `offset` on, and returns it: at the speed of the link if it is pinned by
    /// this driver, else as [`read`](Space::read).
    ///
    /// # Errors
    /// As [`read`](Space::read); the host block is freed then.
    ///
    /// # Cancel safety
    /// Dropping the future stops the copy as that of every [`Space`], and frees the host block as soon as the device is
    /// done with what it has begun.
    pub async fn read_into(
        &self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        mut into: HostBlock,
    ) -> Result<HostBlock, SpaceError> {
        if !into.is_pinned() {
            self.read(stream, block, offset, &mut into).await?;
            return Ok(into);
        }
        let into = Arc::new(into);
        #[allow(unsafe_code)]
        // SAFETY: all shares are of this copy, and nobody looks into the block before it is alone again.
        let direct = unsafe {
            self.direct(Way::ToHost, stream, block, offset, into.address(), into.len(), Arc::clone(&into)).await
        };
        direct?.all().await?;
        // Every chunk has given up its share.
        Arc::into_inner(into).ok_or(SpaceError::Busy { block })
    }

    /// Begins to copy from a block of the host, which nobody else uses meanwhile.
    pub(crate) async fn copy_in(
        &self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        from: Lent,
    ) -> Result<Direct<'_, Arc<Lent>>, SpaceError> {
        #[allow(unsafe_code)]
        // SAFETY: what is lent stays, and nobody else uses it.
        unsafe {
            self.direct(Way::ToDevice, stream, block, offset, from.address(), from.len(), Arc::new(from)).await
        }
    }

    /// Begins to copy to a block of the host, which nobody else uses meanwhile.
    pub(crate) async fn copy_out(
        &self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        into: Lent,
    ) -> Result<Direct<'_, Arc<Lent>>, SpaceError> {
        let into = Arc::new(into.for_writing());
        #[allow(unsafe_code)]
        // SAFETY: as above.
        unsafe {
            self.direct(Way::ToHost, stream, block, offset, into.address(), into.len(), into).await
        }
    }

    /// Begins a copy.
    ///
    /// # Safety
    /// `keeps` and each of its clones keep the memory from `other` on, and until the last is gone nobody writes it; nor
    /// uses it at all if the copy is to the host.
    #[allow(unsafe_code)]
    #[expect(clippy::too_many_arguments, reason = "two ends, and the way between them")]
    pub(super) async unsafe fn direct<K: Clone + Keep>(
        &self,
        way: Way,
        stream: Stream,
        block: BlockId,
        offset: u64,
        other: u64,
        length: usize,
        keeps: K,
    ) -> Result<Direct<'_, K>, SpaceError> {
        let (start, turn) = self.begin(stream, block, offset, length).await?;
        let flights = Flights::new();
        let follower = None;
        Ok(Direct { space: self, way, stream, block, start, other, length, follower, keeps, flights, _turn: turn })
    }
}

impl<'a, K: Clone + Keep> Direct<'a, K> {
    /// What is queued on a stream of the other end from now on comes after what is queued of the copy.
    pub(super) fn followed_by(self, space: &'a CudaSpace, stream: Stream) -> Self {
        Direct { follower: Some((space, stream)), ..self }
    }

    /// Queues the copy of a part of the range.
    ///
    /// # Errors
    /// [`SpaceError::OutOfRange`], [`SpaceError::StaleBlock`], [`SpaceError::Lost`], and whether the device may be at
    /// it.
    pub(crate) fn queue(&mut self, range: Range<usize>) -> Result<(), Unqueued> {
        if range.end > self.length || range.start > range.end {
            let (offset, length) = (range.start as u64, range.len() as u64);
            let size = self.length as u64;
            return Err(Unqueued::Not(SpaceError::OutOfRange { block: self.block, size, offset, length }));
        }
        // Looked up every time: a block that was freed in between is stale.
        let device = self.space.block(self.block).map_err(Unqueued::Not)?;
        let at = range.start as u64;
        let (to, from) = (device.address() + self.start + at, self.other + at);
        let keeps = (device, self.keeps.clone());
        #[allow(unsafe_code)]
        // SAFETY: the part lies in the range, which lies in both blocks, and the flight keeps both.
        let flight = unsafe { self.space.take_off(&self.way, self.stream, to, from, range.len(), keeps) };
        self.flights.add(flight?);
        let Some((space, follower)) = self.follower else { return Ok(()) };
        space.follow(follower, self.space, self.stream).map_err(Unqueued::Begun)
    }

    /// How many parts are queued and were not waited for.
    pub(crate) fn under_way(&self) -> usize {
        self.flights.under_way()
    }

    /// Waits for the oldest.
    pub(crate) async fn land(&mut self) -> Result<(), SpaceError> {
        let last = self.under_way() == 1;
        let landed = if last { self.flights.land_soon().await } else { self.flights.land().await };
        self.space.landed(landed).map(drop)
    }

    /// Copies all of it.
    pub(super) async fn all(mut self) -> Result<(), SpaceError> {
        for range in parts(self.length, None) {
            if self.under_way() == DEPTH {
                self.land().await?;
            }
            self.queue(range)?;
        }
        while self.under_way() > 0 {
            self.land().await?;
        }
        Ok(())
    }
}

/// Cuts so many bytes into chunks of this size, or into those that suit a device best.
pub(crate) fn parts(length: usize, chunk: Option<usize>) -> impl Iterator<Item = Range<usize>> {
    let (chunk, tail) = chunk.map_or((CHUNK, TAIL), |chunk| (chunk.max(1), 0));
    let body = if length > 2 * tail { length - tail } else { length };
    let chunks = (0..body).step_by(chunk).map(move |start| start..body.min(start + chunk));
    chunks.chain((body < length).then_some(body..length))
}
