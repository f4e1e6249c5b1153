//! Copies between host and device, in chunks of which several are under way: while the device copies one, the next is
//! queued behind it.
//!
//! A slice of the caller's may be gone as soon as the caller gives up, and the device cannot be stopped. So what is in
//! a slice goes through pinned memory of the space. A pinned [`HostBlock`] is copied directly, as the copy can keep it.

use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::{self, CUstream};

use super::block::DeviceBlock;
use super::flight::{Flight, Flights};
use super::source::bind;
use super::space::CudaSpace;
use crate::memory::error::SpaceError;
use crate::memory::host::HostBlock;
use crate::memory::staged::{Link, Slice, Staged};
use crate::memory::turns::Turn;
use crate::memory::{BlockId, Space, Stream};

/// What is copied at once from or to pinned memory of the caller's.
const DIRECT: usize = 16 << 20;
/// The last piece of such a copy. The device is done with it while the task wakes up that waited for the piece before,
/// which takes some 50 us; so the task need not be woken once more.
const TAIL: usize = 2 << 20;
/// How many chunks of one copy are under way at a time at most.
const DEPTH: usize = 4;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToDevice,
    ToHost,
}

/// A copy between a block and pinned memory of the space.
struct Staging<'a> {
    space: &'a CudaSpace,
    way: Way,
    stream: Stream,
    block: BlockId,
    /// Where the range begins in the block.
    start: u64,
    flights: Flights<(Staged, Arc<DeviceBlock>)>,
}

impl Link for Staging<'_> {
    fn take_off(&mut self, range: Range<usize>, staged: Staged) -> Result<(), SpaceError> {
        let device = self.space.block(self.block)?;
        let (to, from) = (device.address() + self.start + range.start as u64, staged.memory.address());
        #[allow(unsafe_code)]
        // SAFETY: the range lies in the block and is no longer than a chunk. The flight keeps both, and nobody looks
        // into the memory before it has landed.
        let flight = unsafe { self.space.take_off(self.way, self.stream, to, from, range.len(), (staged, device)) };
        self.flights.add(flight?);
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.flights.under_way()
    }

    async fn land(&mut self) -> Result<Staged, SpaceError> {
        let landed = self.flights.land().await;
        self.space.landed(landed).map(|(staged, _)| staged)
    }

    fn landed(&mut self) -> Option<Result<Staged, SpaceError>> {
        let landed = self.flights.landed()?;
        Some(self.space.landed(Some(landed)).map(|(staged, _)| staged))
    }
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
        self.directly(Way::ToDevice, stream, block, offset, from).await
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
        self.directly(Way::ToHost, stream, block, offset, &into).await?;
        // Every chunk has given up its share.
        Arc::into_inner(into).ok_or(SpaceError::Busy { block })
    }

    /// Copies between a block and all of a pinned host block. To it only if nobody else has it.
    async fn directly(
        &self,
        way: Way,
        stream: Stream,
        block: BlockId,
        offset: u64,
        host: &Arc<HostBlock>,
    ) -> Result<(), SpaceError> {
        let (start, _turn) = self.begin(stream, block, offset, host.len()).await?;
        let mut flights = Flights::new();
        for range in ranges(host.len(), DIRECT, TAIL) {
            if flights.under_way() == DEPTH {
                self.landed(flights.land().await)?;
            }
            let device = self.block(block)?;
            let (to, from) = (device.address() + start + range.start as u64, host.address() + range.start as u64);
            let keeps = (device, Arc::clone(host));
            #[allow(unsafe_code)]
            // SAFETY: the range lies in both blocks, which the flight keeps. The host block is shared and so written by
            // nobody, or nobody looks into it before the last flight has landed.
            let flight = unsafe { self.take_off(way, stream, to, from, range.len(), keeps) };
            flights.add(flight?);
        }
        while flights.under_way() > 0 {
            self.landed(flights.land().await)?;
        }
        Ok(())
    }

    /// Copies between a block and a slice, through pinned memory of the space.
    pub(super) async fn through_staging(
        &self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        slice: Slice<'_>,
    ) -> Result<(), SpaceError> {
        let (start, _turn) = self.begin(stream, block, offset, slice.len()).await?;
        let way = match slice {
            Slice::ToDevice(_) => Way::ToDevice,
            Slice::ToHost(_) => Way::ToHost,
        };
        let mut link = Staging { space: self, way, stream, block, start, flights: Flights::new() };
        self.staging().copy(&mut link, slice).await
    }

    /// Checks the range, and waits for the right to queue copies on the stream. What is queued there from then on comes
    /// after what is queued on the block's own stream: another block's work may be, which had the same memory before.
    async fn begin(
        &self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        length: usize,
    ) -> Result<(u64, Turn), SpaceError> {
        let start = self.check(block, offset, length)?;
        let turn = self.turn(stream).await;
        let own = self.block(block)?.stream();
        let source = self.pool().source();
        if !Arc::ptr_eq(source.stream(own), source.stream(stream)) {
            let event = source.try_record(own).map_err(|error| self.lost(error))?;
            source.try_wait(stream, &event).map_err(|error| self.lost(error))?;
        }
        Ok((start, turn))
    }

    /// Queues a copy.
    ///
    /// # Safety
    /// `keeps` keeps both ranges of memory, and nobody uses the host's otherwise until it is given up.
    #[allow(unsafe_code)]
    unsafe fn take_off<K>(
        &self,
        way: Way,
        stream: Stream,
        device: u64,
        host: u64,
        bytes: usize,
        keeps: K,
    ) -> Result<Flight<K>, SpaceError> {
        let source = self.pool().source();
        let on = source.stream(stream).cu_stream();
        // SAFETY: as above.
        let queued = bind(self.context()).and_then(|()| unsafe { queue(way, device, host, bytes, on) });
        queued.map_err(|error| self.lost(error))?;
        match source.try_record(stream) {
            Ok(event) => Ok(Flight::new(event, keeps)),
            Err(error) => {
                // Nobody can tell when the device is done.
                std::mem::forget(keeps);
                Err(self.lost(error))
            }
        }
    }

    /// What has landed, if anything has.
    fn landed<K>(&self, landed: Option<Result<K, DriverError>>) -> Result<K, SpaceError> {
        let none = || SpaceError::Lost { space: self.id(), reason: "no copy is under way".into() };
        landed.ok_or_else(none)?.map_err(|error| self.lost(error))
    }
}

/// Cuts so many bytes into chunks, of which the last is the tail if there is enough for one.
fn ranges(length: usize, chunk: usize, tail: usize) -> impl Iterator<Item = Range<usize>> {
    let body = if length > 2 * tail { length - tail } else { length };
    let chunks = (0..body).step_by(chunk).map(move |start| start..body.min(start + chunk));
    chunks.chain((body < length).then_some(body..length))
}

/// # Safety
/// Both ranges are memory until the stream has passed the copy.
#[allow(unsafe_code)]
unsafe fn queue(way: Way, device: u64, host: u64, bytes: usize, on: CUstream) -> Result<(), DriverError> {
    let host = host as usize;
    // SAFETY: as above.
    let result = unsafe {
        match way {
            Way::ToDevice => sys::cuMemcpyHtoDAsync_v2(device, ptr::with_exposed_provenance(host), bytes, on),
            Way::ToHost => sys::cuMemcpyDtoHAsync_v2(ptr::with_exposed_provenance_mut(host), device, bytes, on),
        }
    };
    result.result()
}
