//! The pool on one thread: sizes, reuse, growth, limits, trimming, figures. The names of scenarios are those of the
//! notes on an earlier pool, whose own tests asked for less.

use bursar::memory::{HeapSource, Pool, PoolBlock, PoolConfig, Source, SpaceError, Stream};
use bursar::{Figures, GIB, KIB, MIB, SpaceId, Tier};

use crate::hand::{GPU0, Hand, Owners, Random, audit};

const S: Stream = Stream(0);

fn pool(limit: u64) -> Pool<Hand> {
    Hand::new(GIB * 100).pool(PoolConfig::device(limit))
}

/// Frees everything, and nothing may remain.
fn end(pool: &Pool<Hand>, blocks: Vec<PoolBlock<Hand>>) {
    drop(blocks);
    let usage = audit(pool);
    assert_eq!((usage.allocated, usage.asked, usage.blocks), (0, 0, 0));
    pool.trim(0);
    assert_eq!((audit(pool).reserved, pool.source().out().0), (0, 0));
}

#[test]
fn scenario_1_of_the_pool_every_size_from_a_page_to_four_mebibytes_comes_and_goes_without_residue() {
    let pool = pool(GIB);
    let sizes = [4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB];
    let blocks: Vec<_> = sizes.iter().map(|&bytes| pool.allocate(bytes, S).unwrap()).collect();
    for (block, bytes) in blocks.iter().zip(sizes) {
        assert_eq!((block.len(), block.capacity(), block.space(), block.stream()), (bytes, bytes, GPU0, S));
    }
    let usage = audit(&pool);
    assert_eq!((usage.blocks, usage.allocated, usage.hits + usage.misses), (6, sizes.iter().sum(), 6));
    end(&pool, blocks);
}

#[test]
fn scenario_2_of_the_pool_a_freed_block_is_given_to_the_next_of_its_size_without_asking_the_source() {
    let pool = pool(GIB);
    let block = pool.allocate(64 * KIB, S).unwrap();
    let (address, hits) = (block.address(), pool.usage().hits);
    drop(block);
    let calls = pool.source().calls();
    let again = pool.allocate(64 * KIB - 5, S).unwrap();
    assert_eq!((again.address(), again.len(), pool.usage().hits), (address, 64 * KIB - 5, hits + 1));
    assert_eq!(pool.source().calls(), calls);
    end(&pool, vec![again]);
}

#[test]
fn a_pool_shows_its_figures_as_long_as_there_is_a_handle_of_it() {
    let pool = pool(GIB);
    let shown = pool.figures();
    let block = pool.allocate(64 * KIB, S).unwrap();
    drop(pool.allocate(64 * KIB, S).unwrap());
    let again = pool.allocate(64 * KIB, S).unwrap();
    let value = |name| shown.figures().iter().find(|figure| figure.name == name).map(|figure| figure.value);
    let usage = pool.usage();
    // The first had to take a slab, and was given a few at once.
    assert_eq!((usage.fallbacks, usage.grown), (1, 1));
    assert_eq!(value("pool_allocated"), Some(128 * KIB));
    assert_eq!([value("pool_hits"), value("pool_misses")], [Some(usage.hits), Some(usage.misses)]);
    assert_eq!(value("pool_fallbacks"), Some(1));
    assert!(!shown.is_gone());
    drop(pool.clone());
    assert!(!shown.is_gone());
    drop(pool);
    assert!(shown.is_gone() && shown.figures().is_empty());
    drop((block, again));
}

#[test]
fn scenarios_3_and_4_of_the_pool_many_blocks_of_one_size_do_not_overlap_and_need_few_slabs() {
    for (count, bytes) in [(100, 16 * KIB), (200, 64 * KIB)] {
        let (pool, owners) = (pool(GIB), Owners::default());
        let blocks: Vec<_> = (0..count).map(|_| pool.allocate(bytes, S).unwrap()).collect();
        blocks.iter().for_each(|block| owners.enter(block));
        let usage = audit(&pool);
        assert_eq!((usage.allocated, usage.slabs), (count * bytes, 1));
        end(&pool, blocks);
    }
}

#[test]
fn scenario_7_of_the_pool_after_ten_blocks_a_hundred_rounds_are_all_served_from_the_cache() {
    let pool = pool(GIB);
    drop((0..10).map(|_| pool.allocate(64 * KIB, S).unwrap()).collect::<Vec<_>>());
    let before = pool.usage();
    for _ in 0..100 {
        drop(pool.allocate(64 * KIB, S).unwrap());
    }
    let after = audit(&pool);
    assert_eq!((after.hits - before.hits, after.misses - before.misses), (100, 0));
}

/// 6: a thousand loops of a mebibyte, against the source alone. What a call of it costs is what it costs either way.
#[test]
fn scenario_6_of_the_pool_a_thousand_loops_cost_one_call_where_the_source_alone_takes_two_thousand() {
    let (pool, alone) = (pool(GIB), Hand::new(GIB));
    for _ in 0..1_000 {
        drop(pool.allocate(MIB, S).unwrap());
        drop(alone.slab(MIB).unwrap());
    }
    assert_eq!((pool.source().calls().0, alone.calls().0), (1, 1_000));
    assert_eq!((pool.source().out().1, alone.out().1), (pool.usage().reserved, MIB));
}

/// 22: what lives beside it makes a pair no dearer. How long it takes is measured by the benchmark `pool`.
#[test]
fn scenario_22_of_the_pool_beside_a_hundred_to_a_hundred_thousand_blocks_every_pair_is_a_hit() {
    let pool = pool(64 * GIB);
    let mut live = Vec::new();
    for count in [100, 1_000, 10_000, 100_000] {
        live.extend((live.len()..count).map(|n| pool.allocate(256 + (n as u64 % 64) * 256, S).unwrap()));
        drop(pool.allocate(16 * KIB, S).unwrap());
        let (before, calls) = (pool.usage(), pool.source().calls());
        for _ in 0..1_000 {
            drop(pool.allocate(16 * KIB, S).unwrap());
        }
        let after = pool.usage();
        assert_eq!((after.hits - before.hits, after.misses - before.misses), (1_000, 0), "beside {count}");
        assert_eq!(pool.source().calls(), calls, "beside {count}");
    }
    end(&pool, live);
}

#[test]
fn a_hit_asks_the_source_for_nothing() {
    let pool = pool(GIB);
    drop(pool.allocate(MIB, S).unwrap());
    let calls = pool.source().calls();
    for _ in 0..1_000 {
        pool.source().queue(S);
        drop(pool.allocate(MIB, S).unwrap());
    }
    assert_eq!(pool.source().calls(), calls);
}

#[test]
fn scenario_8_of_the_pool_the_peak_never_falls_and_is_the_largest_value_of_the_account() {
    let pool = pool(GIB);
    let mut most = 0;
    let mut held = Vec::new();
    let mut random = Random(8);
    for _ in 0..2_000 {
        if random.below(5) < 3 {
            held.push(pool.allocate(1 + random.below(MIB), S).unwrap());
        } else if !held.is_empty() {
            held.swap_remove(random.below(held.len() as u64) as usize);
        }
        let usage = audit(&pool);
        most = usage.allocated.max(most);
        assert_eq!(usage.peak_allocated, most);
    }
    held.truncate(3);
    let left = pool.usage().allocated;
    pool.reset_peaks();
    assert_eq!((pool.usage().peak_allocated, pool.usage().peak_reserved), (left, pool.usage().reserved));
    end(&pool, held);
}

#[test]
fn a_failed_allocation_raises_no_peak() {
    let pool = pool(8 * MIB);
    let block = pool.allocate(MIB, S).unwrap();
    let before = pool.usage();
    assert!(pool.allocate(8 * MIB, S).is_err());
    let after = audit(&pool);
    assert_eq!((after.peak_allocated, after.allocated), (before.peak_allocated, before.allocated));
    assert_eq!((before.refused, after.refused), (0, 1));
    end(&pool, vec![block]);
}

#[test]
fn scenario_9_of_the_pool_ten_thousand_mixed_blocks_leave_nothing() {
    for sizes in [[4, 8, 16, 32], [4, 16, 64, 256]] {
        let (pool, owners) = (pool(4 * GIB), Owners::default());
        let blocks: Vec<_> = (0..10_000).map(|n| pool.allocate(sizes[n % 4] * KIB, S).unwrap()).collect();
        blocks.iter().for_each(|block| owners.enter(block));
        assert_eq!(audit(&pool).allocated, 2_500 * sizes.iter().sum::<u64>() * KIB);
        end(&pool, blocks);
    }
}

#[test]
fn scenario_10_of_the_pool_random_operations_agree_with_a_model_and_every_refusal_is_true() {
    for seed in [42, 43, 44, 45] {
        let mut random = Random(seed);
        let limit = 16 * MIB;
        let hand = Hand::new(GIB);
        let pool = hand.pool(PoolConfig::device(limit).slab(MIB << random.below(4)));
        let owners = Owners::default();
        let mut held: Vec<PoolBlock<Hand>> = Vec::new();
        for step in 0..5_000 {
            let stream = Stream(random.below(3) as u8);
            let bytes = 1 + (random.below(8 * MIB) >> random.below(15));
            match random.below(16) {
                0 => hand.queue(stream),
                1 => hand.pass(stream),
                2 if random.below(20) == 0 => drop(pool.trim(random.below(limit))),
                3..=9 => match pool.allocate(bytes, stream) {
                    Ok(block) => {
                        owners.enter(&block);
                        held.push(block);
                    }
                    Err(SpaceError::OutOfMemory { asked, free, largest_free: Some(largest), pending, .. }) => {
                        let usage = audit(&pool);
                        assert!(asked > largest, "seed {seed}, step {step}: {asked} of {usage:?}");
                        assert_eq!(
                            (free, pending, usage.cached),
                            (limit - usage.allocated - pending, usage.pending, 0)
                        );
                    }
                    Err(other) => panic!("{other}"),
                },
                _ if !held.is_empty() => {
                    let block = held.swap_remove(random.below(held.len() as u64) as usize);
                    owners.leave(&block);
                }
                _ => {}
            }
            let usage = audit(&pool);
            assert_eq!(usage.asked, held.iter().map(PoolBlock::len).sum::<u64>());
            assert_eq!(usage.allocated, held.iter().map(PoolBlock::capacity).sum::<u64>());
        }
        (0..3).for_each(|stream| hand.pass(Stream(stream)));
        end(&pool, held);
    }
}

#[test]
fn scenario_11_of_the_pool_what_a_thread_keeps_for_itself_is_bounded() {
    let pool = Hand::new(GIB).pool(PoolConfig::device(GIB).cache(4 * MIB));
    for _ in 0..10 {
        let blocks: Vec<_> = (0..100).map(|_| pool.allocate(64 * KIB, S).unwrap()).collect();
        drop(blocks);
        let usage = audit(&pool);
        assert!(usage.allocated == 0 && usage.cached <= 4 * MIB, "{usage:?}");
    }
    // Of many sizes too.
    let blocks: Vec<_> = (1..100).map(|n| pool.allocate(n * 8 * KIB, S).unwrap()).collect();
    drop(blocks);
    assert!(audit(&pool).cached <= 4 * MIB);
}

#[test]
fn scenario_12_of_the_pool_a_limit_of_a_hundred_mebibytes_grants_exactly_ten_of_ten_and_again_after_a_free() {
    let pool = pool(100 * MIB);
    for _ in 0..2 {
        let mut blocks: Vec<_> = (0..10).map(|_| pool.allocate(10 * MIB, S).unwrap()).collect();
        let refused = pool.allocate(10 * MIB, S);
        assert!(
            matches!(refused, Err(SpaceError::OutOfMemory { space: GPU0, asked, free: 0, largest_free: Some(0), .. })
                if asked == 10 * MIB),
            "{refused:?}"
        );
        assert_eq!(audit(&pool).reserved, 100 * MIB);
        blocks.clear();
    }
    end(&pool, Vec::new());
}

#[test]
fn scenario_13_of_the_pool_a_mebibyte_grants_exactly_two_halves() {
    let host = SpaceId { tier: Tier::Host, index: 0 };
    let pool = Pool::new(host, HeapSource::new(), PoolConfig::host(MIB));
    for _ in 0..2 {
        let halves = [pool.allocate(512 * KIB, S).unwrap(), pool.allocate(512 * KIB, S).unwrap()];
        assert!(pool.allocate(1, S).is_err());
        drop(halves);
    }
}

#[test]
fn the_last_byte_of_the_limit_can_be_had_and_no_byte_more() {
    // Neither a size that there is a class for, nor a multiple of anything but 256.
    let limit = 7 * MIB + 5 * 256;
    let pool = pool(limit);
    let whole = pool.allocate(limit, S).unwrap();
    assert_eq!((whole.capacity(), audit(&pool).reserved), (limit, limit));
    assert!(pool.allocate(1, S).is_err());
    drop(whole);
    assert!(pool.allocate(limit + 1, S).is_err());
    let parts: Vec<_> = (0..limit / 256).map(|_| pool.allocate(256, S).unwrap()).collect();
    assert!(pool.allocate(1, S).is_err());
    assert_eq!(audit(&pool).allocated, limit);
    end(&pool, parts);
}

#[test]
fn when_the_device_refuses_the_pool_takes_less_and_when_it_has_nothing_the_ledger_is_unchanged() {
    let hand = Hand::new(5 * MIB);
    let pool = hand.pool(PoolConfig::device(GIB).slab(64 * MIB));
    // 64 MiB are refused, 32, 16, 8; 4 are there.
    let block = pool.allocate(MIB, S).unwrap();
    assert_eq!((hand.calls().0, audit(&pool).reserved), (5, 4 * MIB));
    let before = audit(&pool);
    for _ in 0..10 {
        match pool.allocate(512 * MIB, S) {
            Err(SpaceError::OutOfMemory { asked, free, largest_free, .. }) => {
                assert_eq!((asked, free, largest_free), (512 * MIB, 3 * MIB, Some(3 * MIB)));
            }
            other => panic!("{other:?}"),
        }
    }
    let after = audit(&pool);
    assert_eq!((after.reserved, after.allocated, after.refused), (before.reserved, before.allocated, 10));
    // A refusal is not remembered.
    drop(block);
    hand.refuse(10);
    assert!(pool.allocate(5 * MIB, S).is_err());
    hand.refuse(0);
    assert_eq!(pool.allocate(5 * MIB, S).unwrap().capacity(), 5 * MIB);
}

#[test]
fn scenario_24_of_the_pool_hundreds_of_large_pairs_are_never_refused() {
    let pool = pool(64 * MIB);
    for _ in 0..300 {
        drop(pool.allocate(8 * MIB, S).unwrap());
    }
    for n in 0..1_000 {
        drop((pool.allocate(MIB + n * 256, S).unwrap(), pool.allocate(2 * MIB + n, S).unwrap()));
    }
    end(&pool, Vec::new());
}

#[test]
fn scenario_25_of_the_pool_after_a_trim_as_many_blocks_can_be_had_as_before() {
    let pool = pool(10 * MIB);
    for _ in 0..3 {
        let blocks: Vec<_> = (0..40).map(|_| pool.allocate(256 * KIB, S).unwrap()).collect();
        assert!(pool.allocate(256 * KIB, S).is_err());
        end(&pool, blocks);
    }
}

#[test]
fn scenario_26_of_the_pool_a_trim_gives_back_exactly_what_is_free_and_leaves_live_blocks_alone() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(GIB).slab(MIB));
    let mut blocks: Vec<_> = (0..40).map(|_| pool.allocate(MIB, S).unwrap()).collect();
    let owners = Owners::default();
    let kept = blocks.split_off(37);
    kept.iter().for_each(|block| owners.enter(block));
    drop(blocks);
    assert_eq!(pool.trim(10 * MIB), 30 * MIB);
    assert_eq!(pool.trim(0), 7 * MIB);
    assert_eq!(pool.trim(0), 0);
    assert_eq!(hand.out().0, 3 * MIB);
    // The addresses of what was given back come again, those of live blocks do not.
    let more: Vec<_> = (0..40).map(|_| pool.allocate(MIB, S).unwrap()).collect();
    more.iter().for_each(|block| owners.enter(block));
    drop(kept);
    end(&pool, more);
}

#[test]
fn blocks_outlive_every_handle_of_their_pool() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(GIB));
    let block = pool.allocate(MIB, S).unwrap();
    drop(pool.clone());
    drop(pool);
    assert_eq!(hand.out().0, 16 * MIB);
    drop(block);
    assert_eq!(hand.out().0, 0);
}

#[test]
fn prewarming_takes_what_is_wanted_once_and_not_more_than_the_limit() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(64 * MIB).slab(4 * MIB));
    assert_eq!(pool.prewarm(10 * MIB), Ok(10 * MIB));
    assert_eq!(hand.calls().0, 3);
    let blocks: Vec<_> = (0..8).map(|_| pool.allocate(MIB, S).unwrap()).collect();
    assert_eq!(hand.calls().0, 3);
    assert_eq!(pool.prewarm(GIB), Ok(64 * MIB));
    end(&pool, blocks);
}

#[test]
fn whoever_asks_for_all_there_is_gets_what_the_limit_leaves() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(64 * MIB));
    assert_eq!(pool.prewarm(u64::MAX), Ok(64 * MIB));
    end(&pool, Vec::new());
    let pool = hand.pool(PoolConfig::device(64 * MIB).slab(u64::MAX));
    let block = pool.allocate(MIB, S).unwrap();
    assert_eq!((audit(&pool).slabs, audit(&pool).reserved), (1, 64 * MIB));
    end(&pool, vec![block]);
}

#[test]
fn free_pieces_of_other_sizes_and_whole_slabs_are_turned_into_what_is_needed() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(8 * MIB).slab(MIB));
    // All of it in small blocks, then free in caches and in eight slabs.
    drop((0..8 * 1_024).map(|_| pool.allocate(KIB, S).unwrap()).collect::<Vec<_>>());
    let block = pool.allocate(8 * MIB, S).unwrap();
    assert_eq!((audit(&pool).slabs, hand.out().1), (1, 8 * MIB));
    end(&pool, vec![block]);
}

#[test]
fn fragmentation_is_the_part_that_cannot_be_had_in_one_piece() {
    let pool = Hand::new(GIB).pool(PoolConfig::device(4 * MIB).slab(4 * MIB).cache(0));
    let mut blocks: Vec<_> = (0..4).map(|_| pool.allocate(MIB, S).unwrap()).collect();
    blocks.sort_by_key(PoolBlock::address);
    assert_eq!(pool.usage().fragmentation(), 0);
    drop(blocks.remove(0));
    pool.collect();
    assert_eq!(pool.usage().fragmentation(), 0);
    drop(blocks.remove(1));
    pool.collect();
    let usage = audit(&pool);
    assert_eq!((usage.free, usage.largest_free, usage.fragmentation()), (2 * MIB, MIB, 500_000));
    match pool.allocate(2 * MIB, S) {
        Err(SpaceError::OutOfMemory { free, largest_free, .. }) => {
            assert_eq!((free, largest_free), (2 * MIB, Some(MIB)));
        }
        other => panic!("{other:?}"),
    }
    drop(blocks.remove(0));
    pool.collect();
    assert_eq!((audit(&pool).largest_free, pool.usage().fragmentation()), (3 * MIB, 0));
}

#[test]
fn a_lower_limit_takes_nothing_away_and_allows_nothing_more() {
    let pool = Hand::new(GIB).pool(PoolConfig::device(8 * MIB).slab(MIB));
    let blocks: Vec<_> = (0..6).map(|_| pool.allocate(MIB, S).unwrap()).collect();
    pool.set_limit(4 * MIB);
    assert!(pool.allocate(MIB, S).is_err());
    drop(blocks);
    pool.trim(pool.usage().limit);
    assert_eq!(audit_after_shrink(&pool), 4 * MIB);
    let held: Vec<_> = (0..4).map(|_| pool.allocate(MIB, S).unwrap()).collect();
    assert!(pool.allocate(1, S).is_err());
    pool.set_limit(5 * MIB);
    assert!(pool.allocate(MIB, S).is_ok());
    drop(held);
}

fn audit_after_shrink(pool: &Pool<Hand>) -> u64 {
    let usage = pool.usage();
    assert_eq!(usage.reserved, usage.allocated + usage.cached + usage.pending + usage.free);
    usage.reserved
}

#[test]
fn nothing_and_more_than_there_can_be_are_refused() {
    let pool = pool(GIB);
    assert_eq!(pool.allocate(0, S).unwrap_err(), SpaceError::Zero { space: GPU0 });
    for bytes in [GIB + 1, 1 << 40, 1 << 62, (1 << 62) + 1, u64::MAX] {
        assert!(matches!(pool.allocate(bytes, S), Err(SpaceError::OutOfMemory { asked, .. }) if asked == bytes));
    }
    assert_eq!(audit(&pool).reserved, 0);
}

#[test]
fn a_lost_device_is_told_and_what_was_freed_on_it_is_never_used_again() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(8 * MIB).slab(MIB).cache(0));
    let block = pool.allocate(MIB, S).unwrap();
    hand.lose();
    let lost = SpaceError::Lost { space: GPU0, reason: "fell off the bus".into() };
    assert_eq!(pool.allocate(2 * MIB, S).unwrap_err(), lost);
    drop(block);
    assert_eq!((audit(&pool).pending, pool.allocate(MIB, Stream(1)).unwrap_err()), (MIB, lost));
}
