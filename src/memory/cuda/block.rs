//! A block of device memory.

use std::mem::ManuallyDrop;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut};

use super::probe::reason;
use super::source::CudaSource;
use crate::memory::Stream;
use crate::memory::error::SpaceError;
use crate::memory::pool::PoolBlock;
use crate::model::SpaceId;

/// Memory of a device. Dropping it frees it in the order of its stream: it may be moved into the work that uses it and
/// be dropped as soon as that is queued.
#[derive(Debug)]
pub struct DeviceBlock {
    block: PoolBlock<CudaSource>,
}

/// A block as cudarc sees it, for its copies and kernels. The block is free again when this is dropped and the stream
/// has passed what was queued with it.
#[derive(Debug)]
pub struct DeviceView<'a> {
    slice: ManuallyDrop<CudaSlice<u8>>,
    _block: &'a mut DeviceBlock,
}

impl DeviceBlock {
    pub(super) fn new(block: PoolBlock<CudaSource>) -> Self {
        DeviceBlock { block }
    }

    /// The address on the device (`CUdeviceptr`): a multiple of 256.
    ///
    /// Whoever uses it on another stream than this block's says so with [`used_on`](DeviceBlock::used_on).
    #[inline]
    pub fn address(&self) -> u64 {
        self.block.address()
    }

    /// How many bytes were asked.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "there is no empty block")]
    pub fn len(&self) -> u64 {
        self.block.len()
    }

    /// How many bytes it takes of its space: those that were asked, rounded up.
    pub fn capacity(&self) -> u64 {
        self.block.capacity()
    }

    /// The space it is in.
    pub fn space(&self) -> SpaceId {
        self.block.space()
    }

    /// The stream in whose order it is freed.
    pub fn stream(&self) -> Stream {
        self.block.stream()
    }

    /// That stream, for cudarc.
    pub fn cuda_stream(&self) -> &Arc<CudaStream> {
        self.block.source().stream(self.block.stream())
    }

    /// Says that another stream uses it too: it is freed after what is queued there when it is dropped.
    pub fn used_on(&mut self, stream: Stream) {
        self.block.used_on(stream);
    }

    /// The block as a slice of cudarc's, on the block's stream.
    ///
    /// # Errors
    /// [`SpaceError::Lost`] when the device does not answer any more.
    #[allow(unsafe_code)]
    pub fn view(&mut self) -> Result<DeviceView<'_>, SpaceError> {
        let stream = Arc::clone(self.cuda_stream());
        // cudarc makes two events for a slice, and panics if it cannot.
        let probe = stream.context().new_event(None);
        probe.map_err(|error| SpaceError::Lost { space: self.space(), reason: reason(error) })?;
        // SAFETY: the block is memory of this context of at least this length. Every byte is a valid `u8`. The slice
        // never frees it: it is given up in the view's `drop`, and nobody else gets it by value or by `&mut`.
        let slice = unsafe { stream.upgrade_device_ptr::<u8>(self.address(), self.len() as usize) };
        Ok(DeviceView { slice: ManuallyDrop::new(slice), _block: self })
    }
}

impl DeviceView<'_> {
    /// All of it, to read.
    pub fn bytes(&self) -> CudaView<'_, u8> {
        self.slice.as_view()
    }

    /// All of it, to write.
    pub fn bytes_mut(&mut self) -> CudaViewMut<'_, u8> {
        self.slice.as_view_mut()
    }
}

impl Drop for DeviceView<'_> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: not used again, as this is `drop`.
        let slice = unsafe { ManuallyDrop::take(&mut self.slice) };
        // Makes the block's stream wait for other streams that the slice was used on, and frees no memory.
        slice.leak();
    }
}
