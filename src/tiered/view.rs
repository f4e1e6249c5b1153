//! Blocks of CUDA devices as cudarc and kernels see them.

use std::sync::Arc;

use cudarc::driver::CudaStream;

use super::block::{Block, Device};
use crate::memory::{CudaSpace, DeviceElement, DeviceView, ViewError};

/// What only blocks in the memory of a CUDA device have. Those of another device in that tier, a simulated one for
/// instance, answer [`ViewError::NotCuda`].
impl Block<Device> {
    /// The address on the device (`CUdeviceptr`), for kernels: a multiple of 256, good for as long as the block lives.
    /// Work that uses it is queued on [`cuda_stream`](Block::cuda_stream), in whose order the block is freed; a block
    /// that other streams use is [retired](Block::retire) into what runs when these have passed.
    ///
    /// # Errors
    /// [`ViewError::NotCuda`], or [`ViewError::Space`] when somebody freed the block by its id.
    pub fn address(&self) -> Result<u64, ViewError> {
        Ok(self.cuda()?.address_of(self.id())?)
    }

    /// The stream in whose order the block is copied and freed, for cudarc.
    ///
    /// # Errors
    /// [`ViewError::NotCuda`].
    pub fn cuda_stream(&self) -> Result<&Arc<CudaStream>, ViewError> {
        Ok(self.cuda()?.cuda_stream(self.stream()))
    }

    /// The block as a slice of cudarc's, for its copies and kernels. Whatever is in it are such elements.
    ///
    /// The slice borrows the block:
    ///
    /// ```compile_fail,E0505
    /// # fn cannot(mut block: bursar::tiered::DeviceBlock) {
    /// let view = block.view::<f32>();
    /// drop(block);
    /// drop(view);
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ViewError`]: the block is not on a CUDA device, does not hold a whole number of elements, was freed by its id,
    /// or the device does not answer any more.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bursar::memory::{CudaConfig, CudaDevice, CudaSpace};
    /// use bursar::tiered::{DeviceBlock, Tiers};
    /// use bursar::{MIB, Request, Scheduler, SpaceId, Tier};
    ///
    /// if CudaDevice::all().is_ok_and(|devices| !devices.is_empty()) {
    ///     let gpu = CudaSpace::open(SpaceId { tier: Tier::Gpu, index: 0 }, CudaConfig::new(0).limit(64 * MIB))?;
    ///     let scheduler = Scheduler::builder().gpu(64 * MIB).spawn()?;
    ///     let tiers = Tiers::builder().space(gpu).build(&scheduler)?;
    ///
    ///     let lease = tiers.reserve(Request::new().gpu(MIB)).await?;
    ///     let mut block: DeviceBlock = lease.allocate(MIB).await?;
    ///     let mut view = block.view::<f32>()?;
    ///     let stream = view.stream().clone();
    ///     stream.memcpy_htod(&[0.5; 1 << 18], &mut view.as_view_mut())?;
    ///     assert_eq!(stream.clone_dtoh(&view.as_view())?, [0.5; 1 << 18]);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn view<T: DeviceElement>(&mut self) -> Result<DeviceView<'_, T>, ViewError> {
        self.cuda()?.view_of(self.id())
    }

    fn cuda(&self) -> Result<&CudaSpace, ViewError> {
        self.held().space().cuda().ok_or(ViewError::NotCuda { space: self.space() })
    }
}
