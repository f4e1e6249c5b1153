//! Memory inside leases: where the scheduler, which knows who may have how much, meets the spaces, which have it.
//!
//! [`Tiers`] knows a [`Space`] for each budget of memory. A [`MemoryLease`] is a lease of the scheduler's out of which
//! [`Block`]s are allocated; a block that is dropped gives its bytes back to its lease, and [`copy`] moves bytes
//! between any two.
//!
//! # The account
//!
//! Of every space, in integers, whenever no call is under way:
//!
//! ```text
//! total = untracked + Σ max(allocated_i, reserved_i) <= capacity
//! ```
//!
//! where `i` goes over the leases and `untracked` is what was [allocated without one](Tiers::allocate). What a block
//! takes is its [footprint](Space::footprint), with what it is rounded up by. A lease that may allocate more than it
//! reserved ([`OverUse`]) is charged for the difference only. Such charges, and what is untracked, first use the part
//! of the space that its budget does not lend ([`Budget::reservation_limit`](crate::Budget::reservation_limit)), and
//! then the budget itself, behind whoever waits for it.
//!
//! # Others on the same device
//!
//! Other processes may use a device or a disk too. [`Tiers::sample`] looks how much they leave, and
//! [`Tiers::keep_sampled`] does so time and again: a budget lends no more than that.
//!
//! # What it shows
//!
//! Each space shows what is allocated, copied, spilled to a slower tier, outside of leases and refused among the
//! figures of its scheduler ([`Snapshot::sections`](crate::Snapshot::sections), as `memory gpu0`), with those of its
//! own, until the last handle, lease and block of the tiers are gone.
//!
//! A [copy](copy()) to a slower tier is a span `spill` of the target `bursar::spill`, at the level of debug, inside
//! that of its caller: from where to where, how many bytes, and in the end how many came there (`copied`). Its end is a
//! line in it, unless the copy was dropped.
//!
//! # What ends when
//!
//! A block holds its part of the lease. When a lease is dropped, what no block uses comes back at once, and the rest
//! as the blocks go: units are never lent again while the memory they stand for is in use. So whatever works on a
//! block is given the block, or an [`InFlight`] of it, and no lease ends before the work does. Copies see to that
//! themselves: one that is dropped while the device is at it keeps the memory, and with it the charge for it, until
//! that is done ([`Space::release_then`]).
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bursar::memory::{HostSpace, SimulatedDevice};
//! use bursar::tiered::{DeviceBlock, HostBlock, Tiers, copy};
//! use bursar::{MIB, Request, Scheduler, SpaceId, Tier};
//!
//! let scheduler = Scheduler::builder().gpu(64 * MIB).host(64 * MIB).spawn()?;
//! let tiers = Tiers::builder()
//!     .space(SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, 64 * MIB))
//!     .space(HostSpace::new(SpaceId { tier: Tier::Host, index: 0 }, 64 * MIB))
//!     .build(&scheduler)?;
//!
//! let lease = tiers.reserve(Request::new().gpu(8 * MIB).host(8 * MIB)).await?;
//! let mut staged: HostBlock = lease.allocate(8 * MIB).await?;
//! let mut on_device: DeviceBlock = lease.allocate(8 * MIB).await?;
//! staged.write(0, b"weights").await?;
//! copy(&staged, &mut on_device).await?;
//! # let mut back = [0; 7];
//! # on_device.read(0, &mut back).await?;
//! # assert_eq!(&back, b"weights");
//! # Ok(()) }
//! ```

mod account;
mod block;
mod builder;
mod copy;
#[cfg(feature = "cuda")]
mod direct;
mod error;
mod figures;
mod lease;
mod outside;
mod over_use;
mod relief;
mod sampling;
mod shared;
mod tiers;
mod usage;
#[cfg(feature = "cuda")]
mod view;

use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(doc)]
use crate::memory::Space;

pub use block::{Anywhere, Block, Device, DeviceBlock, Disk, DiskBlock, Host, HostBlock, InFlight, InTier};
pub use builder::TiersBuilder;
pub use copy::{Progress, Transfer, copy};
pub use error::{AllocateError, CopyError, CopyFault, ForeignLease, TiersError};
pub use lease::MemoryLease;
pub use over_use::OverUse;
pub use relief::Relief;
pub use tiers::Tiers;
pub use usage::{LeaseUsage, SpaceUsage, StreamUsage};

/// Nothing that may panic runs under a lock of this layer, so what is in it is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
