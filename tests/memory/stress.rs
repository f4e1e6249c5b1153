//! The pool on many threads. Shadow books know every byte; the accounts must be exact whenever all threads rest.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};

use bursar::memory::{HeapSource, Pool, PoolBlock, PoolConfig, PoolUsage, SpaceError, Stream};
use bursar::{GIB, KIB, MIB, SpaceId, Tier};

use crate::hand::{Hand, Owners, Random, audit};

const ROUNDS: usize = 8;

#[test]
fn with_threads_that_pass_blocks_on_the_accounts_are_exact_whenever_all_rest() {
    let hand = Hand::new(GIB);
    let limit = 24 * MIB;
    let pool = hand.pool(PoolConfig::device(limit).slab(2 * MIB).cache(MIB));
    let (owners, shared, barrier) = (Owners::default(), Mutex::new(Vec::new()), Barrier::new(8));
    let held_bytes = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let (pool, hand, owners, shared, barrier, held_bytes) =
                (&pool, &hand, &owners, &shared, &barrier, &held_bytes);
            scope.spawn(move || {
                let mut random = Random(thread.into());
                let mut held: Vec<PoolBlock<Hand>> = Vec::new();
                for _ in 0..ROUNDS {
                    for _ in 0..400 {
                        let stream = Stream(thread % 4);
                        let bytes = 1 + (random.below(2 * MIB) >> random.below(13));
                        match random.below(10) {
                            0..=4 => {
                                if let Ok(block) = pool.allocate(bytes, stream) {
                                    owners.enter(&block);
                                    held.push(block);
                                }
                            }
                            // Another thread frees it.
                            5 => shared.lock().unwrap().extend(held.pop()),
                            6 => hand.queue(stream),
                            7 => hand.pass(stream),
                            _ => {
                                let other = shared.lock().unwrap().pop();
                                let at = random.below(held.len().max(1) as u64) as usize;
                                let own = (at < held.len()).then(|| held.swap_remove(at));
                                other.iter().chain(&own).for_each(|block| owners.leave(block));
                            }
                        }
                    }
                    held_bytes.fetch_add(held.iter().map(PoolBlock::capacity).sum(), Ordering::Relaxed);
                    if barrier.wait().is_leader() {
                        let passed_on: u64 = shared.lock().unwrap().iter().map(PoolBlock::capacity).sum();
                        assert_eq!(audit(pool).allocated, held_bytes.swap(0, Ordering::Relaxed) + passed_on);
                    }
                    barrier.wait();
                }
                shared.lock().unwrap().append(&mut held);
            });
        }
    });
    drop(shared);
    (0..4).for_each(|stream| hand.pass(Stream(stream)));
    pool.trim(0);
    let usage = audit(&pool);
    assert_eq!((usage.allocated, usage.asked, usage.blocks, usage.reserved), (0, 0, 0, 0));
    assert!(usage.peak_reserved <= limit && hand.out().1 <= limit);
}

#[test]
fn scenario_23_of_the_pool_eight_threads_on_one_size_never_have_the_same_block() {
    let host = SpaceId { tier: Tier::Host, index: 0 };
    let pool = Pool::new(host, HeapSource::new(), PoolConfig::host(64 * MIB).cache(256 * KIB));
    let owners = Owners::default();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (pool, owners) = (&pool, &owners);
            scope.spawn(move || {
                let mut random = Random(thread);
                let mut held = Vec::new();
                for _ in 0..3_000 {
                    let block = pool.allocate(64 * KIB, Stream(0)).unwrap();
                    owners.enter(&block);
                    held.push(block);
                    while held.len() > random.below(32) as usize {
                        owners.leave(&held.swap_remove(random.below(held.len() as u64) as usize));
                    }
                }
                held.iter().for_each(|block| owners.leave(block));
            });
        }
    });
    assert_eq!(pool.usage().allocated, 0);
}

/// Sixteen threads may have ten blocks together, one each at most, as leases would allow it. Whoever has a permit must
/// get a block, although others free and allocate all the time.
#[test]
fn who_has_a_right_to_a_block_gets_it_however_many_others_come_and_go() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(10 * MIB).slab(MIB).cache(4 * MIB));
    let permits = AtomicU64::new(10);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (pool, permits) = (&pool, &permits);
            scope.spawn(move || {
                let mut random = Random(thread);
                for _ in 0..50 {
                    let taken = permits.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
                    if taken.is_err() {
                        std::thread::yield_now();
                        continue;
                    }
                    // All sizes share the ten mebibytes: what one freed is of no use to the next before it is joined.
                    let mut held = Vec::new();
                    let (count, bytes) = [(1, MIB), (4, 256 * KIB), (16, 64 * KIB)][random.below(3) as usize];
                    for _ in 0..count {
                        match pool.allocate(bytes, Stream(0)) {
                            Ok(block) => held.push(block),
                            // Enough is free, but in pieces that are too small. Some of it may just have been freed.
                            Err(SpaceError::OutOfMemory { free, pending, asked, largest_free, .. }) => {
                                assert!(largest_free < Some(asked), "{largest_free:?} in one piece, {asked} asked");
                                assert!(free + pending >= asked, "{free} free and {pending} pending of {asked}");
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                    drop(held);
                    permits.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
    });
    let usage = audit(&pool);
    assert!(usage.allocated == 0 && usage.peak_reserved <= 10 * MIB);
}

#[test]
fn scenario_27_of_the_pool_sixteen_threads_at_a_limit_of_ten_mebibytes_never_have_more() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(10 * MIB).slab(3 * MIB));
    let live = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (pool, live) = (&pool, &live);
            scope.spawn(move || {
                for _ in 0..50 {
                    if let Ok(block) = pool.allocate(1_000_000, Stream(thread)) {
                        let now = live.fetch_add(block.capacity(), Ordering::SeqCst) + block.capacity();
                        assert!(now <= 10 * MIB);
                        std::thread::yield_now();
                        live.fetch_sub(block.capacity(), Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(audit(&pool).allocated, 0);
    assert!(hand.out().1 <= 10 * MIB);
}

/// Trims and limits come and go while six threads allocate; the notes tell of a pool that this brought to a halt.
#[test]
fn allocating_goes_on_while_another_thread_trims_and_changes_the_limit() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(32 * MIB).slab(MIB).cache(MIB));
    let done = AtomicBool::new(false);
    let granted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|thread| {
                let (pool, granted) = (&pool, &granted);
                scope.spawn(move || {
                    let mut random = Random(thread);
                    for _ in 0..2_000 {
                        let block = pool.allocate(1 + random.below(MIB), Stream(thread as u8));
                        granted.fetch_add(u64::from(block.is_ok()), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let (pool, done) = (&pool, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                pool.trim(0);
                pool.set_limit(31 * MIB);
                let _: PoolUsage = pool.usage();
                pool.set_limit(32 * MIB);
                pool.collect();
                std::thread::yield_now();
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Release);
    });
    // Six blocks of a mebibyte and their slabs always fit.
    assert_eq!((granted.into_inner(), audit(&pool).allocated), (12_000, 0));
}
