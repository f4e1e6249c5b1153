//! Blocks that are passed as plain ids.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bursar::memory::{BlockId, SpaceError};
use bursar::tiered::OverUse;

use crate::backends::{K, rigs};

/// Scenario 19 of the notes about a pool of blocks: double frees, and frees of ids that are stale.
#[tokio::test]
async fn an_id_frees_its_block_once_and_is_stale_for_ever() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        let mut stale: Vec<BlockId> = Vec::new();
        for _ in 0..20 {
            let id = rig.tiers.into_id(rig.block(&lease, 4_096).await);
            for &old in &stale {
                assert_eq!(rig.tiers.free(old).await, Err(SpaceError::StaleBlock { block: old }));
                assert!(rig.tiers.take(old).is_err());
            }
            assert_eq!(rig.of(&lease).allocated, 4_096 * K);
            rig.tiers.free(id).await.unwrap();
            stale.push(id);
        }
        assert_eq!(rig.of(&lease).allocated, 0);
        drop(lease);
        rig.assert_untouched();
    }
}

/// Scenario 19 too: of 2 and of 16 that race for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_free_one_id_at_the_same_time_exactly_one_succeeds() {
    for rig in rigs(8_192, 8_192).await {
        let rig = Arc::new(rig);
        let lease = rig.lease(4_096, OverUse::Fail);
        for racers in [2, 16] {
            for _ in 0..20 {
                let id = rig.tiers.into_id(rig.block(&lease, 1_024).await);
                let freed = Arc::new(AtomicU64::new(0));
                let tasks: Vec<_> = (0..racers)
                    .map(|_| {
                        let (rig, freed) = (Arc::clone(&rig), Arc::clone(&freed));
                        tokio::spawn(async move {
                            freed.fetch_add(u64::from(rig.tiers.free(id).await.is_ok()), Ordering::Relaxed);
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                assert_eq!((freed.load(Ordering::Relaxed), rig.of(&lease).allocated), (1, 0));
            }
        }
        drop(lease);
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn an_id_keeps_its_block_when_the_lease_is_gone_and_can_be_taken_back() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        let mut block = rig.block(&lease, 1_024).await;
        block.write(0, b"kept").await.unwrap();
        let id = rig.tiers.into_id(block);
        drop(lease);
        assert_eq!(rig.total(), 1_024);
        let block = rig.tiers.take(id).unwrap();
        let mut back = [0; 4];
        block.read(0, &mut back).await.unwrap();
        assert_eq!((&back, block.id()), (b"kept", id));
        assert!(rig.tiers.free(id).await.is_err(), "it is not an id any more");
        block.free().await.unwrap();
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn blocks_whose_ids_nobody_can_use_any_more_go_with_the_last_handle() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(4_096, OverUse::Fail);
        let id = rig.tiers.into_id(rig.block(&lease, 1_024).await);
        let clone = rig.tiers.clone();
        let space = Arc::clone(clone.space(rig.id).unwrap());
        drop((lease, rig.tiers));
        assert!(space.size(id).is_ok());
        drop(clone);
        assert!(space.size(id).is_err());
        while rig.scheduler.stats().leases > 0 {
            tokio::task::yield_now().await;
        }
        rig.scheduler.verify().unwrap();
    }
}

/// The notes tell of a block that was freed through somebody else's account, which then let too much through.
#[tokio::test]
async fn a_block_that_is_freed_in_its_space_behind_its_owner_stays_charged_until_the_owner_drops_it() {
    for rig in rigs(8_192, 8_192).await {
        let lease = rig.lease(1_024, OverUse::Fail);
        let block = rig.block(&lease, 1_024).await;
        let space = rig.tiers.space(rig.id).unwrap();
        space.free(block.id()).await.unwrap();
        assert_eq!(rig.of(&lease).unused(), 0);
        let id = block.id();
        assert_eq!(block.free().await, Err(SpaceError::StaleBlock { block: id }));
        assert_eq!(rig.of(&lease).allocated, 0);
        drop(lease);
        rig.assert_untouched();
    }
}
