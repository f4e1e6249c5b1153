//! A block of host memory that is read and written as a slice.

use std::ops::{Deref, DerefMut};

use super::source::HeapSource;
use crate::memory::pool::PoolBlock;
use crate::model::SpaceId;

/// Memory of the host. Page-aligned if it is a page of 4 KiB or more; frees itself.
///
/// What is in it is whatever was there before, or zeros.
///
/// ```
/// # fn main() -> Result<(), bursar::memory::SpaceError> {
/// use bursar::memory::HostSpace;
/// use bursar::{MIB, SpaceId, Tier};
///
/// let host = HostSpace::new(SpaceId { tier: Tier::Host, index: 0 }, 64 * MIB);
/// let mut block = host.allocate_block(MIB)?;
/// block[..5].copy_from_slice(b"cache");
/// assert_eq!((block.len(), &block[..5]), (1 << 20, &b"cache"[..]));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct HostBlock {
    block: PoolBlock<HeapSource>,
}

impl HostBlock {
    pub(super) fn new(block: PoolBlock<HeapSource>) -> Self {
        HostBlock { block }
    }

    /// The space it is in.
    pub fn space(&self) -> SpaceId {
        self.block.space()
    }

    /// How many bytes it takes of its space: those that were asked, rounded up.
    pub fn capacity(&self) -> u64 {
        self.block.capacity()
    }

    /// Where it begins. The provenance of that is exposed.
    #[cfg(feature = "cuda")]
    pub(in crate::memory) fn address(&self) -> u64 {
        self.block.address()
    }

    /// Whether its memory is pinned.
    pub fn is_pinned(&self) -> bool {
        self.block.source().is_pinned()
    }
}

impl Deref for HostBlock {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let memory = std::ptr::with_exposed_provenance(self.block.address() as usize);
        // SAFETY: the block lies in a slab of the heap, which exposed its provenance, was zeroed when it was allocated,
        // and lives as long as the block does. No other block overlaps this one, and it is only written through `&mut`.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(memory, self.block.len() as usize)
        }
    }
}

impl DerefMut for HostBlock {
    fn deref_mut(&mut self) -> &mut [u8] {
        let memory = std::ptr::with_exposed_provenance_mut(self.block.address() as usize);
        // SAFETY: as above, and `&mut self` keeps everybody else away.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(memory, self.block.len() as usize)
        }
    }
}

impl AsRef<[u8]> for HostBlock {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for HostBlock {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}
