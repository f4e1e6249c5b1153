//! Memory of the host.

mod block;
mod numa;
mod source;
mod space;

pub use block::HostBlock;
pub use numa::NumaError;
pub use source::{HeapSlab, HeapSource, PagePin};
pub use space::HostSpace;
