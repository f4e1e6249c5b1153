//! CUDA devices, through the driver's own interface, which is loaded when it is first asked for: a program with this
//! feature builds and runs on machines without a driver, and is told so with a [`CudaError`].

mod across;
mod block;
mod copy;
mod current;
mod direct;
mod flight;
mod pin;
mod probe;
mod source;
mod space;
mod view;

pub use block::DeviceBlock;
pub(crate) use copy::Unqueued;
pub(crate) use direct::{Direct, parts};
pub(crate) use flight::Keep;
pub use pin::CudaPin;
pub use probe::{CudaDevice, CudaError};
pub use source::{CudaSource, DeviceEvent, DeviceSlab};
pub use space::{CudaConfig, CudaSpace};
pub use view::{DeviceElement, DeviceView, ViewError};
