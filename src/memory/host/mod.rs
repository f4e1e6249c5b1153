//! Memory of the host.

mod block;
mod source;
mod space;

pub use block::HostBlock;
pub use source::{HeapSlab, HeapSource, PagePin};
pub use space::HostSpace;
