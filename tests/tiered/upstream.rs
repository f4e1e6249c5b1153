//! What is asked of a space, and what becomes of the accounts when it refuses.

use std::sync::{Arc, Mutex};

use bursar::memory::SpaceError;
use bursar::tiered::{AllocateError, Block, OverUse, Relief, Tiers};
use bursar::{Request, Scheduler, SpaceId, TryReserveError};

use crate::backends::{Rig, rig};
use crate::paper::{GPU0, Paper};

fn lease(rig: &Rig, bytes: u64, over_use: OverUse) -> bursar::tiered::MemoryLease {
    rig.tiers.attach(rig.scheduler.try_reserve(Request::new().gpu(bytes)).unwrap(), over_use).unwrap()
}

#[tokio::test]
async fn scenario_8_the_untracked_is_charged_rounded_up_and_the_space_is_asked_for_what_was_asked() {
    let paper = Paper::new(8_192, 256);
    let rig = rig(paper.clone(), 8_192);
    let block = rig.tiers.allocate(GPU0, 100).await.unwrap();
    assert_eq!((block.len(), block.capacity(), rig.usage().total), (100, 256, 256));
    let other = rig.tiers.allocate(GPU0, 300).await.unwrap();
    assert_eq!((other.len(), other.capacity(), rig.usage().total), (300, 512, 768));
    assert_eq!((rig.usage().outside, rig.usage().reserved, paper.seen().0), (768, 0, 2));
    drop((block, other));
    rig.assert_untouched();
}

#[tokio::test]
async fn scenario_9_more_than_the_capacity_is_refused_before_the_space_is_asked() {
    let paper = Paper::new(1_024, 1);
    let rig = rig(paper.clone(), 1_024);
    let refused = rig.tiers.allocate(GPU0, 4_096).await.unwrap_err();
    assert!(!refused.is_shortage(), "it never fits: {refused}");
    let full = rig.tiers.allocate(GPU0, 1_024).await.unwrap();
    match rig.tiers.allocate(GPU0, 1).await.unwrap_err() {
        AllocateError::NoRoom { asked: 1, short: 1, source, holders, .. } => {
            assert!(matches!(*source, TryReserveError::NotNow(_)), "{source}");
            assert!(holders.is_empty(), "nobody that has a label");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((paper.seen(), rig.usage().total), ((1, 1_024, 1_024), 1_024));
    drop(full);
    rig.assert_untouched();
    for huge in [u64::MAX, 1 << 63, (1 << 63) - 1] {
        assert!(rig.tiers.allocate(GPU0, huge).await.is_err());
        rig.assert_untouched();
    }
}

#[tokio::test]
async fn scenario_10_a_block_of_no_bytes_is_refused_wherever_it_is_asked_for() {
    let paper = Paper::new(1_024, 1);
    let rig = rig(paper.clone(), 1_024);
    let zero = AllocateError::Space { source: SpaceError::Zero { space: GPU0 }, holders: Vec::new() };
    for over_use in [OverUse::Fail, OverUse::Ignore, OverUse::Grow] {
        let lease = lease(&rig, 512, over_use);
        assert_eq!(lease.allocate_in(GPU0, 0).await.unwrap_err(), zero);
        let _full = lease.allocate_in(GPU0, 512).await.unwrap();
        assert_eq!(lease.allocate_in(GPU0, 0).await.unwrap_err(), zero);
        assert_eq!(lease.usage(GPU0).reserved, 512);
    }
    assert_eq!(rig.tiers.allocate(GPU0, 0).await.unwrap_err(), zero);
    assert_eq!(paper.seen().0, 3);
    rig.assert_untouched();
}

#[tokio::test]
async fn scenario_11_what_is_rounded_up_counts_against_capacity_and_reservation() {
    let paper = Paper::new(1_000, 256);
    let rig = rig(paper.clone(), 1_000);
    assert!(matches!(rig.tiers.allocate(GPU0, 900).await, Err(AllocateError::NoRoom { short: 1_024, .. })));
    let failing = lease(&rig, 1_000, OverUse::Fail);
    let (space, asked, footprint) = (GPU0, 900, 1_024);
    let (allocated, in_flight, reserved) = (0, 0, 1_000);
    let expected = AllocateError::OverReserved { space, asked, footprint, allocated, in_flight, reserved };
    assert_eq!(failing.allocate_in(GPU0, 900).await.unwrap_err(), expected);
    drop(failing);
    for over_use in [OverUse::Ignore, OverUse::Grow] {
        let lease = lease(&rig, 1_000, over_use);
        assert!(matches!(lease.allocate_in(GPU0, 900).await, Err(AllocateError::NoRoom { short: 24, .. })));
        assert_eq!(rig.usage().total, 1_000);
    }
    assert_eq!(paper.seen().0, 0);
    rig.assert_untouched();
}

#[tokio::test]
async fn scenario_12_a_refusal_of_the_space_is_rolled_back_and_says_who_has_the_memory() {
    let paper = Paper::new(8_192, 1);
    let rig = rig(paper.clone(), 8_192);
    let holder = rig.scheduler.try_reserve(Request::new().gpu(2_048_u64).label("chat")).unwrap();
    paper.refuse_above(Some(0));
    for (reserved, asked, over_use) in
        [(1_024, 2_048, OverUse::Ignore), (4_096, 4_096, OverUse::Fail), (1_024, 512, OverUse::Grow)]
    {
        let lease = lease(&rig, reserved, over_use);
        match lease.allocate_in(GPU0, asked).await.unwrap_err() {
            AllocateError::Space { source: SpaceError::OutOfMemory { space: GPU0, asked: told, .. }, holders } => {
                assert_eq!((told, holders), (asked, vec![("chat".into(), 2_048)]));
            }
            other => panic!("{other:?}"),
        }
        let usage = lease.usage(GPU0);
        assert_eq!((usage.allocated, usage.over, usage.peak, rig.usage().total), (0, 0, 0, 2_048 + reserved));
    }
    assert!(rig.tiers.allocate(GPU0, 1_024).await.is_err());
    paper.break_down(true);
    match rig.tiers.allocate(GPU0, 1_024).await.unwrap_err() {
        AllocateError::Space { source: SpaceError::Lost { .. }, holders } => assert!(holders.is_empty()),
        other => panic!("{other:?}"),
    }
    drop(holder);
    rig.assert_untouched();
}

/// Whoever refuses, the budget, the memory or the disk, says who has it, how much was asked and how much is free.
#[tokio::test]
async fn every_lack_of_room_says_where_how_much_is_free_and_who_holds_it() {
    let rig = rig(Paper::new(8_192, 1), 8_192);
    let chat = rig.scheduler.try_reserve(Request::new().gpu(5_000_u64).label("chat")).unwrap();
    let batch = rig.scheduler.try_reserve(Request::new().gpu(2_000_u64).label("batch")).unwrap();
    let refused = rig.tiers.allocate(GPU0, 2_000).await.unwrap_err();
    match &refused {
        AllocateError::NoRoom { space: GPU0, asked: 2_000, short: 2_000, source, holders } => {
            let TryReserveError::NotNow(shortage) = &**source else { panic!("{source}") };
            assert_eq!((shortage.asked, shortage.free, shortage.limit), (2_000, 1_192, 8_192));
            assert_eq!(*holders, [("chat".into(), 5_000), ("batch".into(), 2_000)]);
        }
        other => panic!("{other:?}"),
    }
    let text = refused.to_string();
    assert!(text.contains("gpu0") && text.ends_with("reserved by `chat` 4.9 KiB, `batch` 2.0 KiB"), "{text}");
    drop((chat, batch));
    rig.assert_untouched();
}

#[tokio::test]
async fn scenario_23_what_is_refused_raises_no_peak() {
    let paper = Paper::new(8_192, 1);
    let rig = rig(paper.clone(), 8_192);
    let lease = lease(&rig, 1_024, OverUse::Ignore);
    let block = lease.allocate_in(GPU0, 1_024).await.unwrap();
    paper.refuse_above(Some(1_024));
    for asked in [1, 1_024, 4_096, 100_000] {
        assert!(lease.allocate_in(GPU0, asked).await.is_err());
    }
    assert_eq!((lease.usage(GPU0).peak, rig.usage().peak_allocated, rig.usage().total), (1_024, 1_024, 1_024));
    let stream = rig.usage().streams[0].1;
    assert_eq!((stream.allocated, stream.peak, rig.usage().streams.len()), (1_024, 1_024, 1));
    drop((lease, block));
    rig.assert_untouched();
}

/// Raises the mark, or drops a block that can be spared, and counts how often it was asked.
#[derive(Debug, Default)]
struct Help {
    paper: Option<(Paper, u64)>,
    spare: Mutex<Vec<Block>>,
    asked: Mutex<u32>,
}

#[async_trait::async_trait]
impl Relief for Help {
    async fn relieve(&self, refused: &AllocateError) -> bool {
        assert!(refused.is_shortage());
        *self.asked.lock().unwrap() += 1;
        match &self.paper {
            Some((paper, mark)) => paper.refuse_above(Some(*mark)),
            None => drop(self.spare.lock().unwrap().pop()),
        }
        true
    }
}

fn helped(paper: &Paper, help: &Arc<Help>) -> Rig {
    let scheduler = Scheduler::builder().gpu(8_192_u64).spawn().unwrap();
    let relief = Arc::clone(help) as Arc<dyn Relief>;
    let tiers = Tiers::builder().space(paper.clone()).relief(relief).build(&scheduler).unwrap();
    let id: SpaceId = GPU0;
    Rig { scheduler, tiers, id, budget: id.budget().unwrap() }
}

#[tokio::test]
async fn scenario_24_a_refusal_of_the_space_is_tried_once_more_after_relief() {
    let paper = Paper::new(8_192, 1);
    let help = Arc::new(Help { paper: Some((paper.clone(), 4_096)), ..Help::default() });
    let rig = helped(&paper, &help);
    let lease = lease(&rig, 1_024, OverUse::Ignore);
    // Untracked, and straddling what is reserved.
    for _ in 0..2 {
        paper.refuse_above(Some(0));
        drop(rig.tiers.allocate(GPU0, 2_048).await.unwrap());
        paper.refuse_above(Some(0));
        drop(lease.allocate_in(GPU0, 2_048).await.unwrap());
    }
    assert_eq!((*help.asked.lock().unwrap(), rig.usage().total), (4, 1_024));
    // A second refusal is final, and rolled back.
    let refused = lease.allocate_in(GPU0, 5_000).await.unwrap_err();
    assert!(refused.is_shortage());
    assert_eq!((*help.asked.lock().unwrap(), rig.usage().total, lease.usage(GPU0).peak), (5, 1_024, 2_048));
    drop(lease);
    rig.assert_untouched();
}

#[tokio::test]
async fn scenario_24_a_lack_of_room_is_relieved_too() {
    let paper = Paper::new(8_192, 1);
    let help = Arc::new(Help::default());
    let rig = helped(&paper, &help);
    let spare = rig.tiers.allocate(GPU0, 1_024).await.unwrap();
    help.spare.lock().unwrap().push(spare);
    let block = rig.tiers.allocate(GPU0, 8_000).await.unwrap();
    assert_eq!((*help.asked.lock().unwrap(), rig.usage().total), (1, 8_000));
    // What was forbidden is no lack of room.
    let lease = lease(&rig, 100, OverUse::Fail);
    assert!(lease.allocate_in(GPU0, 101).await.is_err());
    assert_eq!(*help.asked.lock().unwrap(), 1);
    drop((block, lease));
    rig.assert_untouched();
}
