//! The order of streams: who may have freed memory when. Streams are moved by hand.

use bursar::memory::{PoolBlock, PoolConfig, SpaceError, Stream};
use bursar::{GIB, KIB, MIB};

use crate::hand::{Event, Hand, audit};

const A: Stream = Stream(1);
const B: Stream = Stream(2);

#[test]
fn the_stream_that_freed_a_block_may_have_it_at_once_and_no_other_may_before_the_event() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(GIB));
    hand.queue(A);
    let block = pool.allocate(256 * KIB, A).unwrap();
    let address = block.address();
    drop(block);
    let other = pool.allocate(256 * KIB, B).unwrap();
    assert_ne!(other.address(), address);
    assert_eq!(pool.allocate(256 * KIB, A).unwrap().address(), address);
    assert_eq!(hand.waits(), []);
}

#[test]
fn scenario_5_of_the_pool_four_streams_with_a_block_each_never_get_that_of_another_before_its_event() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(MIB).slab(MIB));
    let mut before = Vec::new();
    for number in 0..4 {
        hand.queue(Stream(number));
        before.push(pool.allocate(256 * KIB, Stream(number)).unwrap().address());
    }
    // Everything is freed, and every stream gets its own again, although there is no other memory.
    let own: Vec<_> = (0..4).map(|number| pool.allocate(256 * KIB, Stream(number)).unwrap()).collect();
    assert_eq!(own.iter().map(PoolBlock::address).collect::<Vec<_>>(), before);
    assert_eq!((hand.waits(), audit(&pool).allocated), (Vec::new(), MIB));
    drop(own);
}

/// A pool of one block, which A has freed while it had work queued.
fn busy() -> (Hand, bursar::memory::Pool<Hand>) {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(MIB).slab(MIB));
    let block = pool.allocate(MIB, A).unwrap();
    hand.queue(A);
    drop(block);
    (hand, pool)
}

#[test]
fn once_the_event_has_passed_another_stream_has_it_without_waiting() {
    let (hand, pool) = busy();
    pool.trim(0);
    assert_eq!((audit(&pool).pending, audit(&pool).cached), (MIB, 0));
    hand.pass(A);
    let block = pool.allocate(MIB, B).unwrap();
    assert_eq!((hand.waits(), audit(&pool).pending), (Vec::new(), 0));
    drop(block);
}

#[test]
fn when_there_is_nothing_else_the_other_stream_is_made_to_wait() {
    let (hand, pool) = busy();
    let block = pool.allocate(MIB, B).unwrap();
    assert_eq!(hand.waits(), [(B, Event { stream: 1, at: 1 })]);
    assert_eq!((audit(&pool).pending, audit(&pool).allocated), (0, MIB));
    drop(block);
}

#[test]
fn what_waits_is_not_joined_and_is_told_when_there_is_too_little() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(2 * MIB).slab(2 * MIB));
    let halves = [pool.allocate(MIB, A).unwrap(), pool.allocate(MIB, A).unwrap()];
    hand.queue(A);
    drop(halves);
    match pool.allocate(2 * MIB, B) {
        Err(SpaceError::OutOfMemory { free, largest_free, pending, .. }) => {
            assert_eq!((free, largest_free, pending), (0, Some(0), 2 * MIB));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(hand.waits(), []);
    hand.pass(A);
    assert_eq!(pool.allocate(2 * MIB, B).unwrap().len(), 2 * MIB);
}

#[test]
fn a_larger_piece_that_waits_on_the_same_stream_is_taken_before_the_pool_grows() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(GIB).slab(MIB).cache(0));
    drop(pool.allocate(MIB, A).unwrap());
    hand.queue(A);
    let block = pool.allocate(MIB, A).unwrap();
    drop(block);
    let smaller = pool.allocate(900 * KIB, A).unwrap();
    assert_eq!((hand.out().0, hand.waits()), (MIB, Vec::new()));
    assert_eq!((smaller.len(), smaller.capacity()), (900 * KIB, MIB));
    drop(smaller);
    audit(&pool);
    // But not for something much smaller.
    let tiny = pool.allocate(KIB, A).unwrap();
    assert_eq!((tiny.capacity(), hand.out().0), (KIB, 2 * MIB));
}

#[test]
fn a_block_that_other_streams_use_is_freed_after_them_too() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(MIB).slab(MIB));
    let mut block = pool.allocate(MIB, A).unwrap();
    hand.queue(B);
    hand.queue(B);
    block.used_on(B);
    block.used_on(A);
    drop(block);
    // A waits for B, so that what A does with this memory from now on comes after B.
    assert_eq!(hand.waits(), [(A, Event { stream: 2, at: 2 })]);
    assert!(pool.allocate(MIB, A).is_ok());
}

#[test]
fn one_event_covers_everything_that_leaves_a_cache_together() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(64 * MIB).slab(64 * MIB).cache(MIB));
    let blocks: Vec<_> = (0..1_024).map(|_| pool.allocate(4 * KIB, A).unwrap()).collect();
    hand.queue(A);
    drop(blocks);
    let (_, records, _) = hand.calls();
    assert!((1..=64).contains(&records), "{records} events for 1,024 blocks");
    let usage = audit(&pool);
    assert!(usage.allocated == 0 && usage.pending + usage.cached >= 4 * MIB, "{usage:?}");
    hand.pass(A);
    pool.trim(0);
    assert_eq!(audit(&pool).reserved, 0);
}

#[test]
fn what_could_not_be_marked_keeps_nothing_back_that_was_freed_after_it() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(2 * MIB).slab(MIB).cache(0));
    let [unmarked, marked] = [(); 2].map(|()| pool.allocate(MIB, A).unwrap());
    hand.queue(A);
    hand.mark(false);
    drop(unmarked);
    hand.mark(true);
    drop(marked);
    hand.pass(A);
    assert_eq!(pool.trim(0), MIB);
    // The other is not given to anybody any more, nor back.
    let _marked = pool.allocate(MIB, A).unwrap();
    assert!(pool.allocate(MIB, A).is_err());
    assert_eq!(audit(&pool).pending, MIB);
}

#[test]
fn a_slab_that_a_stream_may_still_use_is_not_given_back() {
    let (hand, pool) = busy();
    assert_eq!(pool.trim(0), 0);
    hand.pass(A);
    assert_eq!((pool.trim(0), hand.out().0), (MIB, 0));
}

#[test]
fn a_stream_that_is_behind_is_asked_about_once() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(GIB).slab(MIB).cache(0));
    let blocks: Vec<_> = (0..50).map(|_| pool.allocate(MIB, A).unwrap()).collect();
    hand.queue(A);
    drop(blocks);
    let (_, _, before) = hand.calls();
    pool.collect();
    assert_eq!(hand.calls().2 - before, 1);
    hand.pass(A);
    pool.collect();
    assert_eq!((audit(&pool).pending, audit(&pool).free), (0, 50 * MIB));
}
