//! Host memory that a device reaches at full speed.

use std::ffi::c_void;
use std::fmt::Debug;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::result::DriverError;
use cudarc::driver::{CudaContext, sys};

use super::current::bind;
use super::probe::reason;
use super::source::refused;
use crate::memory::host::PagePin;
use crate::memory::pool::SourceError;

/// Pinned for every context, not only for the one that does it.
const PORTABLE: u32 = 1;

/// Pins host memory for CUDA devices. See [`CudaSpace::pin`](super::CudaSpace::pin).
#[derive(Debug)]
pub struct CudaPin {
    context: Arc<CudaContext>,
}

#[derive(Debug)]
struct Pinned {
    context: Arc<CudaContext>,
    address: u64,
}

impl CudaPin {
    pub(super) fn new(context: Arc<CudaContext>) -> Self {
        CudaPin { context }
    }
}

impl PagePin for CudaPin {
    #[allow(unsafe_code)]
    fn pin(&self, address: u64, bytes: u64) -> Result<Box<dyn Send + Sync + Debug>, SourceError> {
        let memory = ptr::without_provenance_mut::<c_void>(address as usize);
        let _current = bind(&self.context).map_err(refused)?;
        // SAFETY: the driver takes an address and a length; it does not read or write, and refuses what is not memory
        // of this process.
        unsafe { sys::cuMemHostRegister_v2(memory, bytes as usize, PORTABLE) }.result().map_err(refused)?;
        Ok(Box::new(Pinned { context: Arc::clone(&self.context), address }))
    }
}

impl Drop for Pinned {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let memory = ptr::without_provenance_mut::<c_void>(self.address as usize);
        // SAFETY: pinned when this was made, and not unpinned since. Copies of this memory keep their blocks until they
        // are done, so none is under way.
        let unpin = || unsafe { sys::cuMemHostUnregister(memory) }.result();
        let unpinned: Result<(), DriverError> = bind(&self.context).and_then(|_current| unpin());
        if let Err(error) = unpinned {
            tracing::warn!(target: "bursar::memory", reason = reason(error), "host memory could not be unpinned");
        }
    }
}
