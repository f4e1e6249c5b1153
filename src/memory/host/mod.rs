//! Memory of the host.

mod block;
#[cfg(feature = "cuda")]
mod lent;
mod memory;
mod numa;
mod source;
mod space;

pub use block::HostBlock;
#[cfg(feature = "cuda")]
pub(crate) use lent::Lent;
pub use numa::NumaError;
pub use source::{HeapSlab, HeapSource, PagePin};
pub use space::HostSpace;
