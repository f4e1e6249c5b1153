//! Memory of the host.

mod source;

pub use source::{HeapSlab, HeapSource, PagePin};
