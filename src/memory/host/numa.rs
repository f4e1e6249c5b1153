//! Memory of a NUMA node.
//!
//! The system places a page near the thread that writes it first. Pages that are bound to a node come from that node,
//! whoever writes them, and from no other: when the node has none left, the system does what it does when memory runs
//! out. So what is bound should be less than the node has.

use std::fmt;
use std::fs;
use std::io;

use thiserror::Error;

/// Why memory cannot be bound to a node.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NumaError {
    /// There is no such node, or it has no memory.
    #[error("no NUMA node {node} with memory: there are {}", Nodes(.nodes))]
    NoNode {
        /// Which was asked.
        node: u32,
        /// Those that there are.
        nodes: Vec<u32>,
    },
    /// The system does not bind memory for this process: a container may have to be allowed to.
    #[error("memory cannot be bound to NUMA node {node}: {reason}; allow `mbind`, or leave it unbound")]
    Refused {
        /// Which was asked.
        node: u32,
        /// What the system says.
        reason: String,
    },
}

struct Nodes<'a>(&'a [u32]);

impl fmt::Display for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join(", "))
    }
}

/// The nodes with memory, ascending. A machine that has none to tell apart is one node, 0.
pub(super) fn nodes() -> Vec<u32> {
    let read = |name| fs::read_to_string(format!("/sys/devices/system/node/{name}")).ok();
    let listed = read("has_memory").or_else(|| read("online"));
    listed.as_deref().and_then(list).filter(|nodes| !nodes.is_empty()).unwrap_or_else(|| vec![0])
}

/// A list of the kernel's, such as `0-1,4`.
fn list(text: &str) -> Option<Vec<u32>> {
    let mut nodes = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?;
        // The kernel knows no more than 1,024.
        nodes.extend(range.take(1 << 10));
    }
    Some(nodes)
}

/// Checks that memory can be bound to a node, with a page of it.
pub(super) fn check(node: u32) -> Result<(), NumaError> {
    let nodes = nodes();
    if !nodes.contains(&node) {
        return Err(NumaError::NoNode { node, nodes });
    }
    let page = vec![0_u8; 2 * PAGE];
    let address = page.as_ptr().addr().next_multiple_of(PAGE);
    let refused = |error: io::Error| NumaError::Refused { node, reason: error.to_string() };
    Binding::new(address, PAGE, node).map(drop).map_err(refused)
}

const PAGE: usize = 4_096;

/// Whole pages that are bound to a node until this is dropped.
#[derive(Debug)]
pub(super) struct Binding {
    address: usize,
    bytes: usize,
}

impl Binding {
    /// Also moves pages there that are elsewhere.
    pub(super) fn new(address: usize, bytes: usize, node: u32) -> io::Result<Self> {
        sys::bind(address, bytes, Some(node))?;
        Ok(Binding { address, bytes })
    }
}

impl Drop for Binding {
    /// The heap may use the pages for something else.
    fn drop(&mut self) {
        if let Err(error) = sys::bind(self.address, self.bytes, None) {
            tracing::warn!(target: "bursar::memory", %error, "memory stays bound to its NUMA node");
        }
    }
}

#[cfg(target_os = "linux")]
mod sys {
    use std::io;

    use libc::{MPOL_BIND, MPOL_DEFAULT, SYS_mbind, c_uint, c_ulong, syscall};

    /// Of `linux/mempolicy.h`: pages that only this process has are moved.
    const MPOL_MF_MOVE: c_uint = 2;

    /// Binds whole pages to a node, or to none.
    #[allow(unsafe_code)]
    pub(super) fn bind(address: usize, bytes: usize, node: Option<u32>) -> io::Result<()> {
        let mut mask = [0 as c_ulong; 1_024 / c_ulong::BITS as usize];
        if let Some(node) = node {
            let word = mask.get_mut((node / c_ulong::BITS) as usize).ok_or(io::ErrorKind::InvalidInput)?;
            *word |= 1 << (node % c_ulong::BITS);
        }
        // The kernel counts one bit less than it is told of.
        let (mode, bits) = if node.is_some() { (MPOL_BIND, 1_025_usize) } else { (MPOL_DEFAULT, 0) };
        let set = if node.is_some() { mask.as_ptr() } else { std::ptr::null() };
        // SAFETY: the kernel reads so many bits of the mask. It changes where pages lie, not what is in them, and
        // refuses what is no memory of this process.
        let done = unsafe { syscall(SYS_mbind, address, bytes, mode, set, bits, MPOL_MF_MOVE) };
        match done {
            0 => Ok(()),
            // A kernel that has no nodes: everything is on the one that there is.
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    /// Elsewhere all memory is of one node.
    pub(super) fn bind(_: usize, _: usize, _: Option<u32>) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_the_kernels_is_numbers_and_ranges() {
        assert_eq!(list("0\n"), Some(vec![0]));
        assert_eq!(list("0-1,4,7-8\n"), Some(vec![0, 1, 4, 7, 8]));
        assert_eq!((list("\n"), list("0-x")), (Some(Vec::new()), None));
        assert!(!nodes().is_empty());
    }

    #[test]
    fn a_node_that_is_not_there_is_an_error_that_names_those_that_are() {
        let missing = NumaError::NoNode { node: 900, nodes: nodes() };
        assert_eq!(check(900), Err(missing));
        let text = NumaError::NoNode { node: 7, nodes: vec![0, 1] }.to_string();
        assert_eq!(text, "no NUMA node 7 with memory: there are 0, 1");
    }

    /// The node that a page lies on.
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code)]
    fn node_of(address: usize) -> io::Result<u32> {
        let (mut node, by_address) = (-1_i32, 3_usize);
        let none: usize = 0;
        // SAFETY: the kernel writes one number.
        let done = unsafe { libc::syscall(libc::SYS_get_mempolicy, &raw mut node, none, none, address, by_address) };
        match done {
            0 => Ok(u32::try_from(node).expect("a node")),
            _ => Err(io::Error::last_os_error()),
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_that_are_bound_lie_on_their_node() {
        use crate::memory::host::HeapSource;
        use crate::memory::pool::{Slab, Source};

        for node in nodes() {
            let source = match HeapSource::new().on_node(node) {
                Ok(source) => source,
                Err(NumaError::Refused { reason, .. }) => return println!("skipped: {reason}"),
                Err(missing) => panic!("{missing}"),
            };
            assert_eq!(source.node(), Some(node));
            let slab = source.slab(1 << 20).expect("a mebibyte");
            for page in (0..1 << 20).step_by(PAGE) {
                let address = slab.address() as usize + page;
                // SAFETY: inside the slab, which is exposed and nobody else's.
                #[allow(unsafe_code)]
                unsafe {
                    std::ptr::with_exposed_provenance_mut::<u8>(address).write(1);
                }
                match node_of(address) {
                    Ok(found) => assert_eq!(found, node),
                    // Built without nodes, the kernel binds nothing and tells nothing; and a container may not ask.
                    Err(untold) if matches!(untold.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                        return println!("skipped: {untold}");
                    }
                    Err(failed) => panic!("{failed}"),
                }
            }
        }
    }
}
