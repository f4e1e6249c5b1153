//! A block of device memory.

use std::sync::Arc;

use cudarc::driver::CudaStream;

use super::source::CudaSource;
use super::view::{DeviceElement, DeviceView, ViewError};
use crate::memory::Stream;
use crate::memory::pool::PoolBlock;
use crate::model::SpaceId;

/// Memory of a device. Dropping it frees it in the order of its stream: it may be moved into the work that uses it and
/// be dropped as soon as that is queued.
#[derive(Debug)]
pub struct DeviceBlock {
    block: PoolBlock<CudaSource>,
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
    /// [`ViewError::Length`] and [`ViewError::Alignment`] when it does not hold a whole number of such elements, and
    /// [`SpaceError::Lost`](crate::memory::SpaceError::Lost) when the device does not answer any more.
    pub fn view<T: DeviceElement>(&mut self) -> Result<DeviceView<'_, T>, ViewError> {
        DeviceView::borrow(self)
    }
}
