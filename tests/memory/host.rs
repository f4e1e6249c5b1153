//! Blocks of host memory, and streams that are lent.

use std::collections::HashSet;

use bursar::memory::{HostSpace, Space, SpaceError, StreamPool};
use bursar::{KIB, MIB, SpaceId, Tier};

use crate::hand::Random;

const HOST0: SpaceId = SpaceId { tier: Tier::Host, index: 0 };

#[test]
fn blocks_of_a_page_begin_at_pages_and_slices_of_different_blocks_never_touch() {
    let host = HostSpace::new(HOST0, 64 * MIB);
    let mut random = Random(3);
    let mut blocks = Vec::new();
    for n in 0..2_000_u32 {
        let bytes = 1 + (random.below(256 * KIB) >> random.below(12));
        let mut block = host.allocate_block(bytes).unwrap();
        assert_eq!(block.len() as u64, bytes);
        let alignment = if bytes >= 4 * KIB { 4_096 } else { 512 };
        assert!(block.as_ptr().addr().is_multiple_of(alignment), "{bytes} bytes at {:?}", block.as_ptr());
        block.fill(n as u8);
        blocks.push((n as u8, block));
        if blocks.len() > 300 {
            let (n, block) = blocks.swap_remove(random.below(300) as usize);
            assert!(block.iter().all(|&byte| byte == n));
        }
    }
    assert!(blocks.iter().all(|(n, block)| block.iter().all(|byte| byte == n)));
    drop(blocks);
    assert_eq!(host.used(), 0);
}

#[test]
fn small_slabs_mebibytes_and_runs_come_out_of_the_same_memory() {
    let host = HostSpace::new(HOST0, 4 * MIB);
    for bytes in [512, KIB, 2 * KIB, 4 * KIB, 8 * KIB, MIB, 3 * MIB] {
        let blocks: Vec<_> = (0..4 * MIB / bytes).map(|_| host.allocate_block(bytes).unwrap()).collect();
        assert!(blocks.iter().all(|block| block.capacity() == bytes && !block.is_pinned()));
        assert_eq!(host.used(), 4 * MIB / bytes * bytes);
        assert!(host.allocate_block(MIB + 1).is_err());
    }
    assert_eq!(host.pool().usage().peak_reserved, 4 * MIB);
}

#[test]
fn memory_that_was_never_written_is_zero() {
    let host = HostSpace::new(HOST0, 4 * MIB);
    assert!(host.allocate_block(4 * MIB).unwrap().iter().all(|&byte| byte == 0));
}

#[tokio::test]
async fn a_block_becomes_an_id_and_a_block_again_and_the_id_is_stale_then() {
    let host = HostSpace::new(HOST0, 4 * MIB);
    let mut block = host.allocate_block(100).unwrap();
    block.fill(5);
    let id = host.into_id(block).unwrap();
    let block = host.take(id).unwrap();
    assert_eq!((&block[..], block.space()), (&[5; 100][..], HOST0));
    assert_eq!(host.take(id).unwrap_err(), SpaceError::StaleBlock { block: id });
    assert_eq!(host.free(id).await, Err(SpaceError::StaleBlock { block: id }));
    drop(block);
    assert_eq!(host.used(), 0);
}

#[tokio::test]
async fn borrowed_streams_are_different_and_who_waits_is_served_in_order() {
    let streams = StreamPool::new(StreamPool::DEFAULT);
    let mut lent: Vec<_> = (0..16).map(|_| streams.try_acquire().unwrap()).collect();
    assert_eq!(lent.iter().map(|stream| **stream).collect::<HashSet<_>>().len(), 16);
    assert!(streams.try_acquire().is_none());
    let mut waiting: Vec<_> = (0..3).map(|_| tokio_test::task::spawn(streams.acquire())).collect();
    assert!(waiting.iter_mut().all(|waiting| waiting.poll().is_pending()));
    // Who gives up is passed over, and nothing is lost with him.
    drop(waiting.remove(1));
    let returned = *lent[7];
    drop(lent.remove(7));
    assert!(streams.try_acquire().is_none());
    assert!(waiting[1].poll().is_pending());
    match waiting[0].poll() {
        std::task::Poll::Ready(lease) => assert_eq!(*lease, returned),
        std::task::Poll::Pending => panic!("the first waits although a stream is here"),
    }
    drop(waiting);
    drop(lent);
    assert_eq!(streams.available(), 16);
}

#[tokio::test]
async fn a_pool_of_streams_that_may_grow_makes_one_when_all_are_lent_and_then_lets_wait() {
    let streams = StreamPool::growing(2, 4);
    let mut lent: Vec<_> = (0..4).map(|_| streams.try_acquire().unwrap()).collect();
    assert_eq!(lent.iter().map(|stream| **stream).collect::<HashSet<_>>().len(), 4);
    assert!(streams.try_acquire().is_none());
    let mut waiting = tokio_test::task::spawn(streams.acquire());
    assert!(waiting.poll().is_pending());
    drop(lent.pop());
    assert!(waiting.is_woken() && waiting.poll().is_ready());
    drop((lent, waiting));
    assert_eq!((streams.available(), streams.count()), (4, 4), "what was made stays");
    // Threads that all want one at once get each its own, and there are never more than there may be.
    let streams = StreamPool::growing(1, 8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1_000).for_each(|_| drop(streams.try_acquire().expect("there may be one each"))));
        }
    });
    assert!(streams.available() == usize::from(streams.count()) && streams.count() <= 8);
}
