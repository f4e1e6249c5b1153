//! Streams that are held up, and devices that no other test uses meanwhile.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cudarc::driver::{CudaStream, result};

/// Holds a stream up until it is let go.
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn shut(stream: &CudaStream) -> Gate {
        unsafe extern "C" fn wait(open: *mut c_void) {
            // SAFETY: made by `into_raw` below, for this one call.
            let open = unsafe { Arc::from_raw(open.cast::<AtomicBool>()) };
            while !open.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
        }
        let open = Arc::new(AtomicBool::new(false));
        let raw = Arc::into_raw(Arc::clone(&open)).cast_mut().cast();
        stream.context().bind_to_thread().unwrap();
        // SAFETY: the function calls nothing of CUDA, and `raw` is a count of its own.
        unsafe { result::stream::launch_host_function(stream.cu_stream(), wait, raw) }.unwrap();
        Gate(open)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// No other test uses a device until this is dropped: the driver keeps every thread waiting while one of them returns
/// memory, which waits for the whole device, and so for streams that another test holds up.
#[derive(Debug)]
pub struct Turn;

static TAKEN: Mutex<bool> = Mutex::new(false);
static GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    pub fn take() -> Turn {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = GIVEN_BACK.wait_while(taken, |taken| *taken).unwrap_or_else(PoisonError::into_inner);
        *taken = true;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        GIVEN_BACK.notify_one();
    }
}
