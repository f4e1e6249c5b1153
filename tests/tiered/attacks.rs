//! Spaces that fail at any call, and futures that are dropped at any await point: the accounts are exact afterwards.

use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use bursar::memory::{BlockId, BlockSize, Remains, SimulatedDevice, Space, SpaceError, Stream};
use bursar::tiered::{AllocateError, Block, CopyFault, OverUse, Tiers, copy};
use bursar::{BudgetId, KIB, MIB, Request, Scheduler, SpaceId, Tier};

use crate::backends::{K, Rig, rigs, space};
use crate::paper::GPU0;

const HOST0: SpaceId = space(Tier::Host);

/// A device of which one call fails, by its number, or all from then on.
#[derive(Debug)]
struct Faulty {
    device: SimulatedDevice,
    calls: AtomicU32,
    fails_at: AtomicU32,
    for_ever: bool,
    fault: Fault,
}

impl Faulty {
    fn new(id: SpaceId, fault: Fault, for_ever: bool) -> Arc<Self> {
        let (calls, fails_at) = (AtomicU32::new(0), AtomicU32::new(u32::MAX));
        Arc::new(Faulty { device: SimulatedDevice::new(id, MIB), calls, fails_at, for_ever, fault })
    }

    /// From now on the call with this number fails, counted from 0.
    fn fail_at(&self, call: u32) {
        self.calls.store(0, Ordering::Relaxed);
        self.fails_at.store(call, Ordering::Relaxed);
    }

    /// Comes to an await point, and may fail there.
    async fn call(&self, block: BlockId) -> Result<(), SpaceError> {
        tokio::task::yield_now().await;
        let (call, at) = (self.calls.fetch_add(1, Ordering::Relaxed), self.fails_at.load(Ordering::Relaxed));
        if call == at || (self.for_ever && call > at) { Err((self.fault)(block)) } else { Ok(()) }
    }
}

#[async_trait]
impl Space for Faulty {
    fn id(&self) -> SpaceId {
        self.device.id()
    }

    fn capacity(&self) -> u64 {
        self.device.capacity()
    }

    fn used(&self) -> u64 {
        self.device.used()
    }

    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError> {
        self.device.size(block)
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        self.call(BlockId::new(self.id(), 0, 0)).await?;
        self.device.allocate(bytes).await
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        self.device.release(block)
    }

    fn release_then(&self, block: BlockId, then: &mut dyn FnMut() -> Remains) -> Result<Option<Remains>, SpaceError> {
        self.device.release_then(block, then)
    }

    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        self.call(block).await?;
        self.device.write(stream, block, offset, bytes).await
    }

    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        self.call(block).await?;
        self.device.read(stream, block, offset, into).await
    }
}

/// What goes wrong with a block.
type Fault = fn(BlockId) -> SpaceError;

/// Everything that goes wrong below: whether it goes on, and what it is.
const FAULTS: [(bool, Fault); 6] = [
    (false, |block| SpaceError::OutOfMemory {
        space: block.space(),
        asked: 1,
        free: 0,
        largest_free: Some(0),
        pending: 0,
    }),
    (false, |block| SpaceError::DiskFull { space: block.space(), asked: 1, free: 0 }),
    (false, |block| SpaceError::Short { block, expected: 2, done: 1 }),
    (false, |block| SpaceError::Corrupt { block, offset: 0, length: 1 }),
    (false, |block| SpaceError::Io { space: block.space(), call: "copying", reason: "EIO".into() }),
    (true, |block| SpaceError::Lost { space: block.space(), reason: "fell off the bus".into() }),
];

fn faulty_pair(fault: Fault, for_ever: bool) -> (Scheduler, Tiers, [Arc<Faulty>; 2]) {
    let pair = [GPU0, HOST0].map(|id| Faulty::new(id, fault, for_ever));
    let scheduler = Scheduler::builder().gpu(MIB).host(MIB).spawn().unwrap();
    let [gpu, host] = pair.clone();
    let tiers = Tiers::builder().shared_space(gpu).shared_space(host).build(&scheduler).unwrap();
    (scheduler, tiers, pair)
}

#[tokio::test]
async fn whatever_an_allocation_fails_with_is_told_and_charged_to_nobody() {
    for (for_ever, fault) in FAULTS {
        for over_use in [OverUse::Fail, OverUse::Ignore, OverUse::Grow] {
            let (scheduler, tiers, [gpu, _]) = faulty_pair(fault, for_ever);
            let lease = scheduler.try_reserve(Request::new().gpu(64 * KIB)).unwrap();
            let lease = tiers.attach(lease, over_use).unwrap();
            let kept = lease.allocate_in(GPU0, 60 * KIB).await.unwrap();
            gpu.fail_at(0);
            let failed = lease.allocate_in(GPU0, 4 * KIB).await.unwrap_err();
            let expected = fault(BlockId::new(GPU0, 0, 0));
            assert!(matches!(&failed, AllocateError::Space { source, .. } if *source == expected), "{failed}");
            let usage = lease.usage(GPU0);
            assert_eq!((usage.allocated, usage.over, usage.reserved), (60 * KIB, 0, 64 * KIB));
            assert_eq!(lease.allocate_in(GPU0, 4 * KIB).await.is_err(), for_ever);
            drop((kept, lease));
            assert_eq!(tiers.usage(GPU0).map(|usage| (usage.total, usage.allocated)), Some((0, 0)));
            scheduler.verify().unwrap();
        }
    }
}

#[tokio::test]
async fn whatever_a_copy_fails_with_at_any_chunk_it_says_what_is_done_and_the_blocks_stay_what_they_are() {
    const SIZE: u64 = 8 * KIB;
    for (for_ever, fault) in FAULTS {
        for (reading, chunk) in [true, false].into_iter().flat_map(|reading| (0..8).map(move |chunk| (reading, chunk)))
        {
            let (scheduler, tiers, [gpu, host]) = faulty_pair(fault, for_ever);
            let lease = tiers.reserve(Request::new().gpu(SIZE).host(SIZE)).await.unwrap();
            let mut from = lease.allocate_in(GPU0, SIZE).await.unwrap();
            let mut to = lease.allocate_in(HOST0, SIZE).await.unwrap();
            from.write(0, &[1; SIZE as usize]).await.unwrap();
            to.write(0, &[2; SIZE as usize]).await.unwrap();
            if reading {
                gpu.fail_at(chunk)
            } else {
                host.fail_at(chunk)
            }

            let broken = copy(&from, &mut to).chunk(KIB).await.unwrap_err();
            let (read, written) = (CopyFault::Read(fault(from.id())), CopyFault::Write(fault(to.id())));
            assert_eq!(broken.fault, if reading { read } else { written });
            // Who reads is ahead of who writes.
            let done = u64::from(chunk) * KIB;
            assert!(broken.done <= done && done - broken.done <= if reading { 3 * KIB } else { 0 }, "{broken}");
            assert_eq!(broken.unknown, KIB);
            let mut found = [0; SIZE as usize];
            gpu.device.read(Stream(9), from.id(), 0, &mut found).await.unwrap();
            assert_eq!(found, [1; SIZE as usize]);
            host.device.read(Stream(9), to.id(), 0, &mut found).await.unwrap();
            let (known, rest) = (broken.done as usize, (broken.done + broken.unknown) as usize);
            assert!(found[..known].iter().all(|&byte| byte == 1) && found[rest..].iter().all(|&byte| byte == 2));
            assert_eq!((lease.usage(GPU0).allocated, lease.usage(HOST0).allocated), (SIZE, SIZE));
            drop((from, to, lease));
            assert_eq!((gpu.used(), host.used(), scheduler.stats().leases), (0, 0, 0));
            scheduler.verify().unwrap();
        }
    }
}

/// Polls a future so often and drops it. `true` if it came to its end.
async fn cut_off<F: Future>(future: F, polls: u32) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        if futures::poll!(future.as_mut()).is_ready() {
            return true;
        }
        // What it waits for may be on this thread.
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn an_allocation_that_is_dropped_at_any_await_point_is_charged_to_nobody() {
    for over_use in [OverUse::Fail, OverUse::Ignore, OverUse::Grow] {
        let mut polls = 0;
        loop {
            let (scheduler, tiers, [gpu, _]) = faulty_pair(FAULTS[0].1, false);
            let lease = tiers.attach(scheduler.try_reserve(Request::new().gpu(KIB)).unwrap(), over_use).unwrap();
            let bytes = if over_use == OverUse::Fail { KIB } else { 2 * KIB };
            let ended = cut_off(lease.allocate_in(GPU0, bytes), polls).await;
            let usage = lease.usage(GPU0);
            assert_eq!((usage.allocated, usage.over, gpu.used()), (0, 0, 0), "{over_use:?} after {polls} polls");
            assert_eq!(tiers.usage(GPU0).unwrap().total, usage.reserved);
            drop(lease);
            assert_eq!((tiers.usage(GPU0).unwrap().total, scheduler.stats().leases), (0, 0));
            scheduler.verify().unwrap();
            if ended {
                break;
            }
            polls += 1;
        }
        assert!(polls > 0, "it has an await point");
    }
}

#[tokio::test]
async fn a_copy_that_is_dropped_at_any_await_point_leaves_what_it_says_and_blocks_that_can_be_freed() {
    const SIZE: u64 = 4 * KIB;
    let mut polls = 0;
    loop {
        let (scheduler, tiers, [gpu, host]) = faulty_pair(FAULTS[0].1, false);
        let lease = tiers.reserve(Request::new().gpu(SIZE).host(SIZE)).await.unwrap();
        let mut from = lease.allocate_in(GPU0, SIZE).await.unwrap();
        let mut to = lease.allocate_in(HOST0, SIZE).await.unwrap();
        from.write(0, &[1; SIZE as usize]).await.unwrap();
        to.write(0, &[2; SIZE as usize]).await.unwrap();
        let transfer = copy(&from, &mut to).chunk(KIB);
        let progress = transfer.progress();
        let ended = cut_off(transfer.into_future(), polls).await;
        let mut found = [0; SIZE as usize];
        to.read(0, &mut found).await.unwrap();
        let done = progress.done() as usize;
        assert!(found[..done].iter().all(|&byte| byte == 1), "after {polls} polls");
        assert!(found[(done + 1_024).min(found.len())..].iter().all(|&byte| byte == 2), "after {polls} polls");
        drop((from, to, lease));
        assert_eq!((gpu.used(), host.used(), scheduler.stats().leases), (0, 0, 0));
        scheduler.verify().unwrap();
        if ended {
            break;
        }
        polls += 1;
    }
    assert!(polls >= 8, "four chunks are read and written: {polls} await points");
}

/// A block may be dropped in any state, on whatever thread, also while the runtime goes.
#[test]
fn leases_and_blocks_that_are_dropped_after_their_runtime_leave_nothing_behind() {
    for order in 0..6_usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (rigs, held) = runtime.block_on(async {
            let rigs = rigs(8_192, 8_192).await;
            let mut held = Vec::new();
            for rig in &rigs {
                let lease = rig.lease(8_192, OverUse::Fail);
                let (block, retired) = (rig.block(&lease, 2_048).await, rig.block(&lease, 4_096).await.retire());
                held.push((lease, block, retired));
            }
            (rigs, held)
        });
        drop(runtime);
        for (lease, block, retired) in held {
            let mut parts: [Option<Box<dyn Send>>; 3] =
                [Some(Box::new(lease)), Some(Box::new(block)), Some(Box::new(retired))];
            for at in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][order] {
                drop(parts[at].take());
            }
        }
        rigs.iter().for_each(Rig::assert_untouched);
    }
}

#[tokio::test]
async fn a_request_that_waits_is_not_woken_by_an_allocation_that_fails_and_is_by_the_lease_that_ends() {
    let fault = FAULTS[5].1;
    let (scheduler, tiers, [gpu, _]) = faulty_pair(fault, true);
    let lease = tiers.reserve(Request::new().gpu(MIB)).await.unwrap();
    let mut waiting = tokio_test::task::spawn(tiers.reserve(Request::new().gpu(MIB)));
    assert!(waiting.poll().is_pending());
    gpu.fail_at(0);
    let failed: Result<Block, _> = lease.allocate_in(GPU0, K).await;
    assert!(failed.is_err() && !waiting.is_woken());
    drop(lease);
    assert!(waiting.is_woken() && matches!(waiting.poll(), Poll::Ready(Ok(_))));
    drop(waiting);
    assert_eq!(scheduler.stats().budget(BudgetId::GPU).unwrap().free, MIB);
}
