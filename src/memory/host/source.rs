//! Slabs of the heap of the host, page-aligned, and pinned if somebody can do that.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt::Debug;
use std::ptr::with_exposed_provenance_mut;
use std::sync::Arc;

use super::numa::{self, Binding, NumaError};
use crate::memory::Stream;
use crate::memory::pool::{Slab, Source, SourceError};

const PAGE: usize = 4_096;
/// What every allocator gives anyway. With more it would have to write the zeros, and so touch every page.
const ALIGN: usize = 8;

/// Keeps memory where it is, so that a device can copy to and from it at full speed.
pub trait PagePin: Send + Sync + Debug {
    /// Pins so many bytes from an address on, until what it returns is dropped.
    ///
    /// # Errors
    /// Whatever keeps it from being pinned. The memory is then not used.
    fn pin(&self, address: u64, bytes: u64) -> Result<Box<dyn Send + Sync + Debug>, SourceError>;
}

/// The heap of the host as a source of slabs. They are zeroed, begin at pages, and take real memory only when they are
/// written, unless they are pinned.
///
/// Unless they are [bound to a NUMA node](HeapSource::on_node), the system places a page near the thread that writes it
/// first.
#[derive(Debug, Default)]
pub struct HeapSource {
    pin: Option<Arc<dyn PagePin>>,
    node: Option<u32>,
}

impl HeapSource {
    /// Plain memory.
    pub fn new() -> Self {
        HeapSource::default()
    }

    /// Memory that is pinned, slab for slab.
    pub fn pinned(pin: Arc<dyn PagePin>) -> Self {
        HeapSource { pin: Some(pin), node: None }
    }

    /// The same, with its memory bound to a NUMA node: its pages lie there, whoever writes them, and nowhere else. A
    /// limit below what the node has is for the caller to choose.
    ///
    /// ```
    /// use bursar::memory::{HeapSource, HostSpace, NumaError, PoolConfig};
    /// use bursar::{MIB, SpaceId, Tier};
    ///
    /// for node in HeapSource::nodes() {
    ///     let id = SpaceId { tier: Tier::Host, index: node as u8 };
    ///     match HeapSource::new().on_node(node) {
    ///         Ok(source) => drop(HostSpace::with(id, source, 64 * MIB, PoolConfig::host(64 * MIB))),
    ///         Err(refused) => println!("{refused}"),
    ///     }
    /// }
    /// let missing = HeapSource::new().on_node(900);
    /// assert!(matches!(missing, Err(NumaError::NoNode { node: 900, .. })));
    /// ```
    ///
    /// # Errors
    /// [`NumaError::NoNode`], and [`NumaError::Refused`] where the system does not let this process bind memory.
    pub fn on_node(self, node: u32) -> Result<Self, NumaError> {
        numa::check(node)?;
        Ok(HeapSource { node: Some(node), ..self })
    }

    /// The NUMA nodes of this machine that have memory, ascending; node 0 where there are none to tell apart.
    pub fn nodes() -> Vec<u32> {
        numa::nodes()
    }

    /// The node it is bound to.
    pub fn node(&self) -> Option<u32> {
        self.node
    }

    /// Whether it is pinned.
    pub fn is_pinned(&self) -> bool {
        self.pin.is_some()
    }
}

/// A slab of the heap.
#[derive(Debug)]
pub struct HeapSlab {
    /// Dropped before the memory goes, which the order in [`Drop`] sees to, as is what follows.
    pin: Option<Box<dyn Send + Sync + Debug>>,
    bound: Option<Binding>,
    /// Where the allocation begins. Its provenance is exposed: blocks are made of addresses later.
    memory: usize,
    layout: Layout,
    /// The first page boundary in it.
    address: u64,
}

/// The pages that lie in so many bytes from a page boundary on.
fn whole_pages(bytes: u64) -> usize {
    // A slab is in memory, so its length is a `usize`.
    bytes as usize / PAGE * PAGE
}

impl Source for HeapSource {
    type Slab = HeapSlab;
    type Event = ();

    const STREAMS: bool = false;

    fn slab(&self, bytes: u64) -> Result<HeapSlab, SourceError> {
        let size = usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_add(PAGE));
        let layout = size.and_then(|size| Layout::from_size_align(size, ALIGN).ok()).ok_or(SourceError::Exhausted)?;
        // SAFETY: the size is at least a page, so not zero.
        #[allow(unsafe_code)]
        let memory = unsafe { alloc_zeroed(layout) };
        if memory.is_null() {
            return Err(SourceError::Exhausted);
        }
        let memory = memory.expose_provenance();
        let address = memory.next_multiple_of(PAGE) as u64;
        let mut slab = HeapSlab { pin: None, bound: None, memory, layout, address };
        // Before it is pinned, which takes the pages.
        if let Some(node) = self.node {
            let bound = Binding::new(address as usize, whole_pages(bytes), node);
            slab.bound = Some(bound.map_err(|error| SourceError::Lost { reason: format!("mbind: {error}") })?);
        }
        if let Some(pin) = &self.pin {
            slab.pin = Some(pin.pin(address, bytes)?);
        }
        Ok(slab)
    }

    fn record(&self, _: Stream) -> Option<()> {
        Some(())
    }

    fn has_passed(&self, (): &()) -> bool {
        true
    }

    fn wait(&self, _: Stream, (): &()) -> bool {
        true
    }
}

impl Slab for HeapSlab {
    fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for HeapSlab {
    fn drop(&mut self) {
        self.pin = None;
        self.bound = None;
        // SAFETY: allocated with this layout, and freed only here. Blocks in it keep their pool alive, and a pool drops
        // a slab only when it has no blocks.
        #[allow(unsafe_code)]
        unsafe {
            dealloc(with_exposed_provenance_mut(self.memory), self.layout);
        }
    }
}
