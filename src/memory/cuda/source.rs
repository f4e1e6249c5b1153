//! Device memory in large pieces, and events, for the pool.
//!
//! Slabs are made with `cuMemAlloc`, which is slow and, on return, waits for the whole device, and other threads' calls
//! of the driver wait with it; a pool does both rarely. So what a stream waits for must not itself wait for the driver.
//! Calls go to the driver itself: the safe layer above it reports errors of earlier, unrelated calls in the next one.
//!
//! The driver's other way is to map memory behind addresses that were reserved (`cuMemCreate`, `cuMemMap`), so that
//! pieces can be put in one row wherever they lie. On an H200 a slab of 64 MiB takes 30 us to allocate and 41 us to
//! map, and one of 1 GiB 67 and 70 us. After every other slab of a full device was given back, `cuMemAlloc` gave all of
//! it in one piece, so the driver puts pieces together itself, and mapping gains no room. It gains on return: beside a
//! stream with work `cuMemFree` took as long as that work, unmapping 0.1 ms. A pool returns slabs when it is trimmed or
//! short of memory, so that is the case to change if it ever hurts (`gpu -- mapping`).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{CUevent_wait_flags, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, CudaStream};

use super::current::bind;
use super::flight::Point;
use super::probe::reason;
use crate::memory::Stream;
use crate::memory::pool::{Slab, Source, SourceError};

/// A device's memory and streams.
#[derive(Debug)]
pub struct CudaSource {
    context: Arc<CudaContext>,
    streams: Box<[Arc<CudaStream>]>,
    /// Events are used again: to make one costs more than to record it.
    spare: Arc<Mutex<Vec<CudaEvent>>>,
}

/// Memory of a device.
pub struct DeviceSlab {
    context: Arc<CudaContext>,
    address: u64,
}

/// A point of a stream of a device.
#[derive(Debug)]
pub struct DeviceEvent {
    /// Taken when it goes back.
    event: Option<CudaEvent>,
    spare: Arc<Mutex<Vec<CudaEvent>>>,
}

impl CudaSource {
    /// `streams` has at least one.
    pub(super) fn new(context: Arc<CudaContext>, streams: Box<[Arc<CudaStream>]>) -> Self {
        CudaSource { context, streams, spare: Arc::default() }
    }

    /// The stream of CUDA that stands for a stream. There are fewer of them; one stands for several then.
    pub fn stream(&self, stream: Stream) -> &Arc<CudaStream> {
        &self.streams[usize::from(stream.0) % self.streams.len()]
    }

    /// Waits until all of them have passed what is queued on them now. Blocks.
    pub(super) fn pass(&self) -> Result<(), DriverError> {
        let _current = bind(&self.context)?;
        self.streams.iter().try_for_each(|stream| stream.synchronize())
    }

    /// The context.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    fn event(&self) -> Result<DeviceEvent, DriverError> {
        let spare = lock(&self.spare).pop();
        let event = spare.map_or_else(|| self.context.new_event(None), Ok)?;
        Ok(DeviceEvent { event: Some(event), spare: Arc::clone(&self.spare) })
    }

    #[allow(unsafe_code)]
    pub(super) fn try_record(&self, stream: Stream) -> Result<DeviceEvent, DriverError> {
        let _current = bind(&self.context)?;
        let event = self.event()?;
        if let Some(event) = &event.event {
            // SAFETY: event and stream are of this context and live.
            unsafe { result::event::record(event.cu_event(), self.stream(stream).cu_stream()) }?;
        }
        Ok(event)
    }

    #[allow(unsafe_code)]
    pub(super) fn try_wait(&self, stream: Stream, event: &DeviceEvent) -> Result<(), DriverError> {
        let (stream, flags) = (self.stream(stream).cu_stream(), CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT);
        let _current = bind(&self.context)?;
        // Only `drop` takes it.
        let Some(event) = &event.event else { return Ok(()) };
        // SAFETY: event and stream are of this context and live. The event may be recorded anew afterwards.
        unsafe { result::stream::wait_event(stream, event.cu_event(), flags) }
    }
}

impl Source for CudaSource {
    type Slab = DeviceSlab;
    type Event = DeviceEvent;

    const STREAMS: bool = true;

    #[allow(unsafe_code)]
    fn slab(&self, bytes: u64) -> Result<DeviceSlab, SourceError> {
        let size = usize::try_from(bytes).map_err(|_| SourceError::Exhausted)?;
        // SAFETY: the context is current. The memory is not read before it is written: a block says that its content is
        // undefined.
        let address = bind(&self.context).and_then(|_current| unsafe { result::malloc_sync(size) }).map_err(refused)?;
        Ok(DeviceSlab { context: Arc::clone(&self.context), address })
    }

    fn record(&self, stream: Stream) -> Option<DeviceEvent> {
        self.try_record(stream).ok()
    }

    #[allow(unsafe_code)]
    fn has_passed(&self, event: &DeviceEvent) -> bool {
        let Some(event) = &event.event else { return false };
        // SAFETY: the event is of this context and lives.
        bind(&self.context).and_then(|_current| unsafe { result::event::query(event.cu_event()) }).is_ok()
    }

    fn wait(&self, stream: Stream, event: &DeviceEvent) -> bool {
        self.try_wait(stream, event).is_ok()
    }
}

impl Point for DeviceEvent {
    #[allow(unsafe_code)]
    fn synchronize(&self) -> Result<(), DriverError> {
        // Only `drop` takes it.
        let Some(event) = &self.event else { return Ok(()) };
        // SAFETY: the event lives. Waiting for one needs no current context.
        unsafe { result::event::synchronize(event.cu_event()) }
    }
}

impl Slab for DeviceSlab {
    fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for DeviceSlab {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: allocated in this context and freed only here. Blocks in it keep their pool alive, and a pool drops a
        // slab only when it has no blocks; what is still queued on streams is waited for by the driver.
        let freed = bind(&self.context).and_then(|_current| unsafe { result::free_sync(self.address) });
        if let Err(error) = freed {
            tracing::warn!(target: "bursar::memory", reason = reason(error), "device memory could not be freed");
        }
    }
}

impl Drop for DeviceEvent {
    fn drop(&mut self) {
        lock(&self.spare).extend(self.event.take());
    }
}

impl fmt::Debug for DeviceSlab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceSlab({:#x})", self.address)
    }
}

/// Why there is no memory.
pub(super) fn refused(error: DriverError) -> SourceError {
    match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => SourceError::Exhausted,
        _ => SourceError::Lost { reason: reason(error) },
    }
}

fn lock(spare: &Mutex<Vec<CudaEvent>>) -> MutexGuard<'_, Vec<CudaEvent>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}
