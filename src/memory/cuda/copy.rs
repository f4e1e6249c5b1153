//! Copies between host and device, in chunks of which several are under way: while the device copies one, the next is
//! queued behind it.
//!
//! A slice of the caller's may be gone as soon as the caller gives up, and the device cannot be stopped. So what is in
//! a slice goes through pinned memory of the space. A pinned block of the host is copied [directly](super::direct), as
//! the copy can keep it.

use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::result::DriverError;
use cudarc::driver::{CudaContext, sys};

use super::block::DeviceBlock;
use super::current::bind;
use super::flight::{Flight, Flights, Keep};
use super::space::CudaSpace;
use crate::memory::error::SpaceError;
use crate::memory::joint::Joint;
use crate::memory::staged::{Link, Slice, Staged};
use crate::memory::turns::Turn;
use crate::memory::{BlockId, Space, Stream};

/// Which way. Where the other end is a block too, it stands for the host.
#[derive(Debug)]
pub(super) enum Way {
    ToDevice,
    ToHost,
    /// From another block of this device.
    Within,
    /// From a block of another device, which has this context.
    Across(Arc<CudaContext>),
}

/// Why a part of a copy was not queued as it should be.
#[derive(Debug)]
pub(crate) enum Unqueued {
    /// Nothing of it was.
    Not(SpaceError),
    /// Nothing of it was, as the driver does not copy this way.
    Refused(SpaceError),
    /// The device may be at it all the same.
    Begun(SpaceError),
}

impl From<Unqueued> for SpaceError {
    fn from(unqueued: Unqueued) -> Self {
        match unqueued {
            Unqueued::Not(error) | Unqueued::Refused(error) | Unqueued::Begun(error) => error,
        }
    }
}

/// A copy between a block and pinned memory of the space.
struct Staging<'a> {
    space: &'a CudaSpace,
    way: Way,
    stream: Stream,
    block: BlockId,
    /// Where the range begins in the block.
    start: u64,
    flights: Flights<(Staged, Arc<Joint<DeviceBlock>>)>,
}

impl Link for Staging<'_> {
    fn take_off(&mut self, range: Range<usize>, staged: Staged) -> Result<(), SpaceError> {
        let device = self.space.block(self.block)?;
        let (to, from) = (device.address() + self.start + range.start as u64, staged.memory.address());
        #[allow(unsafe_code)]
        // SAFETY: the range lies in the block and is no longer than a chunk. The flight keeps both, and nobody looks
        // into the memory before it has landed.
        let flight = unsafe { self.space.take_off(&self.way, self.stream, to, from, range.len(), (staged, device)) };
        self.flights.add(flight?);
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.flights.under_way()
    }

    async fn land(&mut self) -> Result<Staged, SpaceError> {
        let landed = self.flights.land_soon().await;
        self.space.landed(landed).map(|(staged, _)| staged)
    }

    fn landed(&mut self) -> Option<Result<Staged, SpaceError>> {
        let landed = self.flights.landed()?;
        Some(self.space.landed(Some(landed)).map(|(staged, _)| staged))
    }
}

impl CudaSpace {
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
    pub(super) async fn begin(
        &self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        length: usize,
    ) -> Result<(u64, Turn), SpaceError> {
        let start = self.check(block, offset, length)?;
        let turn = self.turn(stream).await;
        self.follow(stream, self, self.block(block)?.stream())?;
        Ok((start, turn))
    }

    /// What is queued on a stream from now on comes after what is queued now on another one, of whatever device.
    pub(super) fn follow(&self, stream: Stream, space: &CudaSpace, other: Stream) -> Result<(), SpaceError> {
        let (source, others) = (self.pool().source(), space.pool().source());
        if !Arc::ptr_eq(others.stream(other), source.stream(stream)) {
            let event = others.try_record(other).map_err(|error| space.lost(error))?;
            source.try_wait(stream, &event).map_err(|error| self.lost(error))?;
        }
        Ok(())
    }

    /// Queues a copy.
    ///
    /// # Safety
    /// `keeps` keeps both ranges of memory, and nobody uses the other one otherwise until it is given up.
    #[allow(unsafe_code)]
    pub(super) unsafe fn take_off<K: Keep>(
        &self,
        way: &Way,
        stream: Stream,
        device: u64,
        other: u64,
        bytes: usize,
        keeps: K,
    ) -> Result<Flight<K>, Unqueued> {
        let refused = |error| match way {
            Way::Across(_) => Unqueued::Refused(self.lost(error)),
            _ => Unqueued::Not(self.lost(error)),
        };
        let _current = bind(self.context()).map_err(refused)?;
        // SAFETY: as above.
        unsafe { self.queue(way, stream, device, other, bytes) }.map_err(refused)?;
        match self.pool().source().try_record(stream) {
            Ok(event) => Ok(Flight::new(event, keeps)),
            Err(error) => {
                // Nobody can tell when the device is done.
                keeps.abandon();
                Err(Unqueued::Begun(self.lost(error)))
            }
        }
    }

    /// The context is current.
    ///
    /// # Safety
    /// Both ranges are memory until the stream has passed the copy.
    #[allow(unsafe_code)]
    unsafe fn queue(
        &self,
        way: &Way,
        stream: Stream,
        device: u64,
        other: u64,
        bytes: usize,
    ) -> Result<(), DriverError> {
        let (on, host) = (self.cuda_stream(stream).cu_stream(), other as usize);
        // SAFETY: as above, and the contexts live as long as what refers to them.
        let result = unsafe {
            match way {
                Way::ToDevice => sys::cuMemcpyHtoDAsync_v2(device, ptr::with_exposed_provenance(host), bytes, on),
                Way::ToHost => sys::cuMemcpyDtoHAsync_v2(ptr::with_exposed_provenance_mut(host), device, bytes, on),
                Way::Within => sys::cuMemcpyDtoDAsync_v2(device, other, bytes, on),
                Way::Across(context) => {
                    let (own, others) = (self.context().cu_ctx(), context.cu_ctx());
                    sys::cuMemcpyPeerAsync(device, own, other, others, bytes, on)
                }
            }
        };
        result.result()
    }

    /// What has landed, if anything has.
    pub(super) fn landed<K>(&self, landed: Option<Result<K, DriverError>>) -> Result<K, SpaceError> {
        let none = || SpaceError::Lost { space: self.id(), reason: "no copy is under way".into() };
        landed.ok_or_else(none)?.map_err(|error| self.lost(error))
    }
}
