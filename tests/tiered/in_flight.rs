//! Blocks that are freed while a copy of them, which nobody waits for any more, is still under way: their charge comes
//! back after their memory, so that the scheduler never lends what the space has not.
//!
//! The copy is one to a disk, whose thread does not come to it before the test says so.

use std::pin::pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bursar::memory::{DiskSpace, Space};
use bursar::tiered::{AllocateError, Block, MemoryLease, OverUse, Tiers};
use bursar::{Amounts, Budget, BudgetId, Config, Request, Scheduler, SpaceId, Tier, TryReserveError};
use tokio::runtime::{Builder, Runtime};

use crate::backends::{K, disk, rigs, space};

const SIZE: u64 = 64 * K;
const DISK: SpaceId = space(Tier::Disk);

/// A full disk, and a copy to it that is under way until it lands.
struct Scene {
    disk: Arc<DiskSpace>,
    scheduler: Scheduler,
    tiers: Tiers,
    lease: MemoryLease,
    block: Block,
    flight: Flight,
}

/// Dropping this lets the copy land, and then ends the runtime, which waits for its threads.
struct Flight {
    gate: Sender<()>,
    runtime: Runtime,
}

impl Flight {
    /// Has the only thread that may block do nothing before the gate opens. What it is given comes after that.
    fn new(runtime: Runtime) -> Self {
        let (gate, shut): (_, Receiver<()>) = channel();
        runtime.spawn_blocking(move || shut.recv());
        Flight { gate, runtime }
    }

    fn land(self) -> Runtime {
        drop(self.gate);
        self.runtime
    }
}

/// The lease has as much as the disk, and so has its block.
fn scene(over_use: OverUse) -> Scene {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let (disk, scheduler) = runtime.block_on(async {
        let disk = Arc::new(disk(SIZE).await);
        let config = Config::new().with(Budget::loan(BudgetId::DISK, SIZE));
        (disk, Scheduler::builder().config(config).spawn().unwrap())
    });
    let tiers = Tiers::builder().shared_space(disk.clone()).build(&scheduler).unwrap();
    let lease = scheduler.try_reserve(Request::new().disk(SIZE)).unwrap();
    let lease = tiers.attach(lease, over_use).unwrap();
    let mut block = runtime.block_on(lease.allocate_in(DISK, SIZE)).unwrap();
    let flight = Flight::new(runtime);
    flight.runtime.block_on(async {
        let copy = pin!(block.write(0, &[1; 1_024]));
        assert!(futures::poll!(copy).is_pending());
    });
    Scene { disk, scheduler, tiers, lease, block, flight }
}

fn assert_in_flight(tiers: &Tiers, disk: &DiskSpace) {
    let usage = tiers.usage(DISK).unwrap();
    assert_eq!((usage.total, usage.allocated, usage.in_flight, usage.blocks), (SIZE, SIZE, SIZE, 1));
    assert_eq!(disk.used(), SIZE);
}

fn assert_untouched(scheduler: &Scheduler, tiers: &Tiers, disk: &DiskSpace) {
    let usage = tiers.usage(DISK).unwrap();
    assert_eq!((usage.total, usage.allocated, usage.in_flight, usage.blocks), (0, 0, 0, 0), "{usage:?}");
    assert_eq!((disk.used(), scheduler.stats().leases), (0, 0));
    scheduler.verify().unwrap();
}

#[test]
fn whoever_asks_while_a_freed_block_is_in_flight_waits_for_the_ledger_and_then_has_the_memory() {
    let Scene { disk, scheduler, tiers, lease, block, flight } = scene(OverUse::Fail);
    drop((block, lease));
    assert_in_flight(&tiers, &disk);
    match scheduler.try_reserve(Request::new().disk(1_u64)) {
        Err(TryReserveError::NotNow(shortage)) => assert_eq!(shortage.free, 0),
        other => panic!("{other:?}"),
    }
    let refused = flight.runtime.block_on(tiers.allocate(DISK, 1)).unwrap_err();
    assert!(matches!(refused, AllocateError::NoRoom { short: 1, .. }), "{refused}");
    let mut next = tokio_test::task::spawn(tiers.reserve(Request::new().disk(SIZE)));
    assert!(flight.runtime.block_on(async { next.poll() }).is_pending());
    let runtime = flight.land();
    let next = runtime.block_on(next).unwrap();
    let block = runtime.block_on(next.allocate_in(DISK, SIZE)).unwrap();
    runtime.block_on(block.free()).unwrap();
    drop(next);
    assert_untouched(&scheduler, &tiers, &disk);
}

#[test]
fn inside_its_lease_a_freed_block_in_flight_counts_as_allocated_and_who_is_refused_is_told_so() {
    for over_use in [OverUse::Fail, OverUse::Ignore, OverUse::Grow] {
        let Scene { disk, scheduler, tiers, mut lease, block, flight } = scene(over_use);
        drop(block);
        assert_in_flight(&tiers, &disk);
        let usage = lease.usage(DISK);
        assert_eq!((usage.reserved, usage.allocated, usage.in_flight, usage.unused()), (SIZE, SIZE, SIZE, 0));
        let refused = flight.runtime.block_on(lease.allocate_in(DISK, 1)).unwrap_err();
        match &refused {
            AllocateError::OverReserved { in_flight: SIZE, allocated: SIZE, .. } if over_use == OverUse::Fail => {
                let text = refused.to_string();
                assert!(text.contains("1.0 KiB come back when work has passed that still uses them"), "{text}");
            }
            AllocateError::NoRoom { short: 1, .. } if over_use != OverUse::Fail => {}
            other => panic!("{over_use:?}: {other}"),
        }
        assert!(lease.shrink(&Amounts::of(BudgetId::DISK, 1)).is_err());
        assert!(lease.shrink_to_fit().is_empty());
        let runtime = flight.land();
        while lease.usage(DISK).allocated > 0 {
            std::thread::yield_now();
        }
        assert_eq!((lease.usage(DISK).in_flight, lease.usage(DISK).unused()), (0, SIZE));
        let again = runtime.block_on(lease.allocate_in(DISK, SIZE)).unwrap();
        runtime.block_on(again.free()).unwrap();
        drop(lease);
        assert_untouched(&scheduler, &tiers, &disk);
    }
}

#[test]
fn who_frees_a_block_in_flight_does_not_wait_for_the_flight_and_its_retired_block_counts_once() {
    let Scene { disk, scheduler, tiers, lease, block, flight } = scene(OverUse::Fail);
    drop((block.retire(), lease));
    assert_in_flight(&tiers, &disk);
    drop(flight.land());
    assert_untouched(&scheduler, &tiers, &disk);
}

/// Whatever is left of them, in whatever order they go.
#[test]
fn lease_tiers_space_and_scheduler_may_go_before_a_freed_block_has_landed_and_nothing_is_left_of_any() {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]] {
        let Scene { disk, scheduler, tiers, lease, block, flight } = scene(OverUse::Ignore);
        let gone: Weak<DiskSpace> = Arc::downgrade(&disk);
        let watched = scheduler.clone();
        let mut parts: [Option<Box<dyn Send>>; 4] =
            [Some(Box::new(lease)), Some(Box::new(tiers)), Some(Box::new(disk)), Some(Box::new(scheduler))];
        drop(parts[order[0]].take());
        drop(block);
        order[1..].iter().for_each(|&at| drop(parts[at].take()));
        let held = watched.stats().budget(BudgetId::DISK).unwrap().granted;
        assert_eq!((held, gone.upgrade().map(|disk| disk.used())), (SIZE, Some(SIZE)), "{order:?}");
        watched.verify().unwrap();
        // What its thread has not begun when it shuts down is dropped with the runtime.
        drop(flight.land());
        let stats = watched.stats();
        assert_eq!((stats.leases, stats.budget(BudgetId::DISK).unwrap().granted), (0, 0), "{order:?}");
        watched.verify().unwrap();
        assert!(gone.upgrade().is_none(), "the charge keeps nothing alive: {order:?}");
    }
}

#[test]
fn the_scheduler_may_be_closed_and_gone_before_a_freed_block_has_landed() {
    let Scene { disk, scheduler, tiers, lease, block, flight } = scene(OverUse::Fail);
    scheduler.close();
    drop((block, lease, tiers, scheduler));
    assert_eq!(disk.used(), SIZE);
    let (alive, ended) = channel::<()>();
    std::thread::spawn(move || {
        let _alive = alive;
        drop(flight.land());
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Err(RecvTimeoutError::Disconnected), "it hangs");
    assert_eq!((disk.used(), Arc::strong_count(&disk)), (0, 1));
}

/// With whatever threads there are, and with spaces in which nothing is in flight too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_every_space_what_is_charged_is_never_less_than_what_is_used_and_what_can_be_reserved_is_there() {
    for rig in rigs(131_072, 131_072).await {
        for polls in 0..24 {
            let lease = rig.tiers.reserve(Request::new().amount(rig.budget, 131_072 * K)).await.unwrap();
            let mut block = lease.allocate_in(rig.id, 131_072 * K).await.expect("what is reserved is there");
            {
                let mut copy = pin!(block.write(0, &[1; 131_072 * K as usize]));
                for _ in 0..polls {
                    if futures::poll!(copy.as_mut()).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            drop((block, lease));
            // In this order, as both only fall.
            let charged = rig.usage().total;
            let used = rig.tiers.space(rig.id).unwrap().used();
            assert!(used <= charged, "{}: {used} bytes are used, {charged} charged", rig.id);
        }
        while rig.usage().total > 0 {
            tokio::task::yield_now().await;
        }
        rig.assert_untouched();
    }
}
