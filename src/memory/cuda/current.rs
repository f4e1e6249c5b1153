//! Which context is current on a thread.

use std::ptr;

use cudarc::driver::CudaContext;
use cudarc::driver::result::{DriverError, ctx};
use cudarc::driver::sys::CUcontext;

/// A context is current on this thread until this is dropped, and then the one that was before.
///
/// cudarc makes its own current before every call and leaves it so. Others in the process, PyTorch for one, use
/// whichever is current: a task of this crate must not move their work to another device.
#[derive(Debug)]
#[must_use = "the context is current until this is dropped"]
pub(super) struct Current {
    /// The one that was before, null if none was; `None` if it is the same. A pointer, so this stays on its thread.
    before: Option<CUcontext>,
}

impl Current {
    /// Whatever is made current from now on, the one that is now will be again.
    pub(super) fn remember() -> Result<Self, DriverError> {
        Ok(Current { before: Some(current()?) })
    }
}

/// Makes a context current on this thread.
#[allow(unsafe_code)]
pub(super) fn bind(context: &CudaContext) -> Result<Current, DriverError> {
    let before = current()?;
    if before == context.cu_ctx() {
        return Ok(Current { before: None });
    }
    // SAFETY: the context lives as long as the reference.
    unsafe { ctx::set_current(context.cu_ctx()) }?;
    Ok(Current { before: Some(before) })
}

fn current() -> Result<CUcontext, DriverError> {
    Ok(ctx::get_current()?.unwrap_or(ptr::null_mut()))
}

impl Drop for Current {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: it was current, and whoever destroys a context does that when nobody uses it; or null, for none.
            // The driver refuses one that is gone, and then there is none.
            let _ = unsafe { ctx::set_current(before).or_else(|_| ctx::set_current(ptr::null_mut())) };
        }
    }
}
