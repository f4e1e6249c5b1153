//! What there is: driver and devices. Nothing here needs a context, which would take memory of the device.

use std::ffi::c_char;
use std::fmt;
use std::sync::OnceLock;

use cudarc::driver::result::{self, DriverError};
use thiserror::Error;

use crate::model::Bytes;

/// Why CUDA cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The library of the driver cannot be loaded.
    #[error("no CUDA driver: {reason}; install one, or use another space")]
    NoDriver {
        /// What the system says.
        reason: String,
    },
    /// There is no such device.
    #[error("no CUDA device {ordinal}: there are {devices}")]
    NoDevice {
        /// Which was asked.
        ordinal: usize,
        /// How many there are.
        devices: usize,
    },
    /// The limit is less than the driver gives at once.
    #[error("a limit of {} is less than a device gives at once; allow at least {}", Bytes(*.asked), Bytes(*.least))]
    TooSmall {
        /// The limit, in bytes.
        asked: u64,
        /// The smallest one.
        least: u64,
    },
    /// The device has less free than the driver gives at once.
    #[error(
        "CUDA device {ordinal} has {} free and gives at least {} at once; end what uses it, or take another",
        Bytes(*.free), Bytes(*.least)
    )]
    Full {
        /// Which was asked.
        ordinal: usize,
        /// How many bytes are free on it, less what is left to others if no limit was set.
        free: u64,
        /// How many there would have to be.
        least: u64,
    },
    /// The driver failed.
    #[error("{call} failed: {reason}")]
    Driver {
        /// What was tried.
        call: &'static str,
        /// What the driver says.
        reason: String,
    },
}

/// A device, as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaDevice {
    /// Its number, from 0 on.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// How many bytes it has.
    pub memory: u64,
    /// Tells it from every other.
    pub uuid: [u8; 16],
}

impl fmt::Display for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, Bytes(self.memory))
    }
}

impl CudaDevice {
    /// All devices, in the order of their numbers. None if the driver finds none.
    ///
    /// Loads the driver when it is first called, which takes up to a second; blocks.
    ///
    /// # Errors
    /// [`CudaError::NoDriver`] where there is none, [`CudaError::Driver`] when it does not answer.
    ///
    /// ```
    /// match bursar::memory::CudaDevice::all() {
    ///     Ok(devices) => devices.iter().for_each(|device| println!("{device}")),
    ///     Err(error) => println!("{error}"),
    /// }
    /// ```
    pub fn all() -> Result<Vec<CudaDevice>, CudaError> {
        (0..count()?).map(describe).collect()
    }
}

/// What a failed call of the driver becomes. The driver is asked for the words, so it must be loaded.
pub(super) fn failed(call: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |error| CudaError::Driver { call, reason: reason(error) }
}

pub(super) fn reason(error: DriverError) -> String {
    let words = error.error_string().map_or("".into(), |words| words.to_string_lossy());
    format!("{words} ({:?})", error.0)
}

/// Loads the driver. Every call of it panics if it is not there, so this comes first.
#[allow(unsafe_code)]
pub(super) fn load() -> Result<(), CudaError> {
    static LOADED: OnceLock<Result<(), CudaError>> = OnceLock::new();
    let name = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };
    let load = || {
        // SAFETY: this is the name of the driver, whose initialisers do nothing but prepare it. It stays loaded.
        match unsafe { libloading::Library::new(name) } {
            Ok(library) => std::mem::forget(library),
            Err(error) => return Err(CudaError::NoDriver { reason: error.to_string() }),
        }
        match result::init() {
            Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_NO_DEVICE)) | Ok(()) => Ok(()),
            Err(error) => Err(failed("cuInit")(error)),
        }
    };
    LOADED.get_or_init(load).clone()
}

/// How many devices there are.
pub(super) fn count() -> Result<usize, CudaError> {
    load()?;
    match result::device::get_count() {
        Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
        Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Ok(0),
        // A driver without any device is never initialised.
        Err(DriverError(cudarc::driver::sys::CUresult::CUDA_ERROR_NOT_INITIALIZED)) => Ok(0),
        Err(error) => Err(failed("cuDeviceGetCount")(error)),
    }
}

#[allow(unsafe_code)]
fn describe(ordinal: usize) -> Result<CudaDevice, CudaError> {
    let device = result::device::get(ordinal as i32).map_err(failed("cuDeviceGet"))?;
    let name = result::device::get_name(device).map_err(failed("cuDeviceGetName"))?;
    // SAFETY: the driver gave the device.
    let memory = unsafe { result::device::total_mem(device) }.map_err(failed("cuDeviceTotalMem"))? as u64;
    let uuid = result::device::get_uuid(device).map_err(failed("cuDeviceGetUuid"))?;
    let uuid = uuid.bytes.map(|byte: c_char| byte as u8);
    Ok(CudaDevice { ordinal, name, memory, uuid })
}
