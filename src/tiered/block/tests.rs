//! Blocks of pinned memory that are freed while a device copies from or to them.

use std::fmt::Debug;
use std::sync::Arc;

use tokio_test::task;

use super::*;
use crate::memory::{HeapSource, HostSpace, Keep, PagePin, PoolConfig, SourceError};
use crate::model::{MIB, Request, TryReserveError};
use crate::tiered::{MemoryLease, Tiers};

const HOST0: SpaceId = SpaceId { tier: Tier::Host, index: 0 };

#[derive(Debug)]
struct Pretended;

impl PagePin for Pretended {
    fn pin(&self, _: u64, _: u64) -> Result<Box<dyn Send + Sync + Debug>, SourceError> {
        Ok(Box::new(()))
    }
}

/// All there is, in one block, and what a device keeps of it while it copies.
struct Scene<K> {
    scheduler: Scheduler,
    tiers: Tiers,
    space: Arc<HostSpace>,
    lease: MemoryLease,
    block: HostBlock,
    lent: K,
}

async fn scene() -> Scene<impl Keep> {
    let scheduler = Scheduler::builder().host(MIB).spawn().expect("it is sound");
    let source = HeapSource::pinned(Arc::new(Pretended));
    let space = Arc::new(HostSpace::with(HOST0, source, MIB, PoolConfig::host(MIB)));
    let tiers = Tiers::builder().shared_space(Arc::clone(&space) as _).build(&scheduler).expect("it has a budget");
    let lease = tiers.reserve(Request::new().host(MIB)).await.expect("room");
    let block: HostBlock = lease.allocate(MIB).await.expect("room");
    let lent = space.lend(block.stream(), block.id(), 0, MIB as usize).await.expect("it is there");
    Scene { scheduler, tiers, space, lease, block, lent: Arc::new(lent.expect("pinned")) }
}

/// What is charged and in flight, and what the space has allocated.
fn figures(tiers: &Tiers, space: &HostSpace) -> (u64, u64, u64) {
    let usage = tiers.usage(HOST0).expect("it is there");
    (usage.total, usage.in_flight, space.used())
}

#[tokio::test]
async fn whoever_asks_while_a_device_still_copies_a_freed_block_waits_for_the_ledger_and_then_has_the_memory() {
    let Scene { scheduler, tiers, space, lease, block, lent } = scene().await;
    block.free().await.expect("it does not wait for the device");
    drop(lease);
    assert_eq!(figures(&tiers, &space), (MIB, MIB, MIB));
    let refused = scheduler.try_reserve(Request::new().host(1_u64));
    assert!(matches!(refused, Err(TryReserveError::NotNow(_))), "{refused:?}");
    let mut next = task::spawn(tiers.reserve(Request::new().host(MIB)));
    assert!(next.poll().is_pending());
    drop(lent);
    assert!(next.is_woken());
    let next = next.await.expect("granted");
    let block: HostBlock = next.allocate(MIB).await.expect("what is reserved is there");
    drop((block, next));
    assert_eq!((figures(&tiers, &space), scheduler.stats().leases), ((0, 0, 0), 0));
    scheduler.verify().expect("the books balance");
}

/// The memory is lost, and so is room in the space, but no lease waits for it.
#[tokio::test]
async fn a_device_that_fails_before_or_after_its_block_is_freed_keeps_the_memory_and_not_the_charge() {
    for freed_first in [true, false] {
        let Scene { scheduler, tiers, space, lease, block, lent } = scene().await;
        if freed_first {
            drop((block, lease));
            assert_eq!(figures(&tiers, &space), (MIB, MIB, MIB));
            lent.abandon();
        } else {
            lent.abandon();
            drop((block, lease));
        }
        assert_eq!((figures(&tiers, &space), scheduler.stats().leases), ((0, 0, MIB), 0), "{freed_first}");
        scheduler.verify().expect("the books balance");
    }
}
