//! Bugs that were found in another memory manager for GPUs, and are not to be found here. The numbers are those of the
//! notes about it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bursar::memory::{
    HeapSource, HostSpace, PagePin, Pool, PoolConfig, Source, SourceError, Space, SpaceError, Stream, StreamPool,
};
use bursar::{GIB, MIB, SpaceId, Tier};

use crate::hand::{Hand, audit};

const HOST0: SpaceId = SpaceId { tier: Tier::Host, index: 0 };
const S: Stream = Stream(0);

/// 10: a failed allocation that was rolled back while others allocated lost what it had taken.
#[test]
fn bug_10_refusals_beside_grants_lose_nothing() {
    let hand = Hand::new(GIB);
    let pool = hand.pool(PoolConfig::device(8 * MIB).slab(MIB));
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..200 {
                    let (large, small) = (pool.allocate(9 * MIB, Stream(thread)), pool.allocate(MIB, Stream(thread)));
                    assert!(large.is_err() && small.is_ok());
                }
            });
        }
    });
    let usage = audit(&pool);
    assert_eq!((usage.allocated, usage.refused), (0, 800));
    assert_eq!(pool.allocate(8 * MIB, S).unwrap().len(), 8 * MIB);
}

/// 11: a block outlived its owner's account, and the next at the same address was credited for it.
#[tokio::test]
async fn bug_11_an_id_of_a_freed_block_is_never_that_of_the_next_at_its_address() {
    let host = HostSpace::new(HOST0, MIB);
    let mut ids = vec![host.allocate(MIB).await.unwrap()];
    for _ in 0..100 {
        host.free(*ids.last().unwrap()).await.unwrap();
        ids.push(host.allocate(MIB).await.unwrap());
        for &stale in &ids[..ids.len() - 1] {
            assert_eq!(host.free(stale).await, Err(SpaceError::StaleBlock { block: stale }));
        }
        assert_eq!(host.used(), MIB);
    }
}

/// 14: what a thread remembered of one allocator was taken for that of another.
#[test]
fn bug_14_two_pools_on_one_thread_have_nothing_in_common() {
    let (one, other) = (Hand::new(GIB), Hand::new(GIB));
    let pools = [one.pool(PoolConfig::device(MIB)), other.pool(PoolConfig::device(2 * MIB))];
    for _ in 0..3 {
        let blocks: Vec<_> = pools.iter().map(|pool| pool.allocate(MIB, S).unwrap()).collect();
        assert!(pools[0].allocate(1, S).is_err() && pools[1].allocate(MIB, S).is_ok());
        drop(blocks);
        pools.iter().for_each(|pool| assert_eq!(audit(pool).allocated, 0));
    }
}

/// 16: when growing failed half-way, counters and blocks were lost.
#[test]
fn bug_16_growth_that_fails_at_any_point_costs_nothing() {
    for refused in 1..12 {
        let hand = Hand::new(GIB);
        let pool = hand.pool(PoolConfig::device(64 * MIB).slab(8 * MIB));
        let block = pool.allocate(8 * MIB, S).unwrap();
        hand.refuse(refused);
        let more = pool.allocate(16 * MIB, S);
        let expected = 8 * MIB + more.as_ref().map_or(0, |block| block.capacity());
        assert_eq!((audit(&pool).allocated, hand.out().0), (expected, expected));
        drop((block, more));
        hand.refuse(0);
        assert_eq!(pool.allocate(64 * MIB, S).unwrap().len(), 64 * MIB);
    }
}

/// A source whose next slab comes when the test says so, and says when it is asked for one.
#[derive(Debug)]
struct Slow {
    source: HeapSource,
    asked: Sender<()>,
    go: Mutex<Receiver<()>>,
}

impl Source for Slow {
    type Slab = <HeapSource as Source>::Slab;
    type Event = ();

    const STREAMS: bool = false;

    fn slab(&self, bytes: u64) -> Result<Self::Slab, SourceError> {
        self.asked.send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        self.source.slab(bytes)
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

/// 16: while one pinned a pool of 128 MiB under the lock, nobody else could allocate or free.
#[test]
fn bug_16_while_one_thread_waits_for_the_source_others_allocate_and_free_what_is_there() {
    let ((asked, was_asked), (go, may_go)) = (channel(), channel());
    let slow = Slow { source: HeapSource::new(), asked, go: Mutex::new(may_go) };
    let pool = Pool::new(HOST0, slow, PoolConfig::host(64 * MIB).slab(MIB));
    go.send(()).unwrap();
    let first = pool.allocate(64 << 10, S).unwrap();
    was_asked.recv().unwrap();
    std::thread::scope(|scope| {
        let grows = scope.spawn(|| pool.allocate(8 * MIB, S).map(|block| block.len()));
        // It is in the source now, and stays there until all of this is done.
        was_asked.recv().unwrap();
        drop(first);
        for _ in 0..1_000 {
            let blocks: Vec<_> = (0..8).map(|_| pool.allocate(64 << 10, S).unwrap()).collect();
            drop(blocks);
        }
        assert_eq!((pool.usage().allocated, pool.usage().blocks), (0, 0));
        go.send(()).unwrap();
        assert_eq!(grows.join().unwrap(), Ok(8 * MIB));
    });
    assert_eq!(pool.usage().allocated, 0);
}

/// 19: the seventeenth borrower shared a stream with the first.
#[test]
fn bug_19_the_seventeenth_borrower_of_a_stream_gets_none() {
    let streams = StreamPool::new(StreamPool::DEFAULT);
    let lent: Vec<_> = (0..16).map(|_| streams.try_acquire().unwrap()).collect();
    assert!(streams.try_acquire().is_none());
    drop(lent);
}

#[derive(Debug, Default)]
struct Reluctant {
    refuse: AtomicU64,
    pinned: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Pin(Arc<AtomicU64>, u64);

impl PagePin for Reluctant {
    fn pin(&self, address: u64, bytes: u64) -> Result<Box<dyn Send + Sync + Debug>, SourceError> {
        assert!(address.is_multiple_of(4_096));
        if self.refuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |refuse| refuse.checked_sub(1)).is_ok() {
            return Err(SourceError::Exhausted);
        }
        self.pinned.fetch_add(bytes, Ordering::Relaxed);
        Ok(Box::new(Pin(Arc::clone(&self.pinned), bytes)))
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// 21: memory that could not be pinned was lost.
#[test]
fn bug_21_memory_that_cannot_be_pinned_is_not_used_and_not_lost() {
    let reluctant = Reluctant::default();
    let pinned = Arc::clone(&reluctant.pinned);
    reluctant.refuse.store(100, Ordering::Relaxed);
    let pin = Arc::new(reluctant);
    let source = HeapSource::pinned(Arc::clone(&pin) as Arc<dyn PagePin>);
    let host = HostSpace::with(HOST0, source, 4 * MIB, PoolConfig::host(4 * MIB).slab(MIB));
    let refused = host.allocate_block(MIB);
    assert!(matches!(refused, Err(SpaceError::OutOfMemory { free: 0, .. })), "{refused:?}");
    assert_eq!((host.pool().usage().reserved, pinned.load(Ordering::Relaxed)), (0, 0));
    pin.refuse.store(0, Ordering::Relaxed);
    let block = host.allocate_block(3 * MIB).unwrap();
    assert!(block.is_pinned());
    assert_eq!(pinned.load(Ordering::Relaxed), 3 * MIB);
    drop(block);
    host.pool().trim(0);
    assert_eq!(pinned.load(Ordering::Relaxed), 0);
}
