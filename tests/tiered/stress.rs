//! Many tasks on many threads. Shadow books know every byte; whenever all rest the accounts are exact, and the space
//! itself checks that it is never asked for more than it has.

use std::sync::Arc;

use bursar::tiered::{Block, MemoryLease, OverUse};
use bursar::{Amounts, KIB, MIB, Request};
use tokio::sync::{Barrier, Mutex, RwLock};

use crate::backends::{Rig, rig, rigs};
use crate::paper::{GPU0, Paper};

/// A small generator, so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn lease(rig: &Rig, bytes: u64, over_use: OverUse) -> MemoryLease {
    rig.tiers.attach(rig.scheduler.try_reserve(Request::new().gpu(bytes)).unwrap(), over_use).unwrap()
}

async fn on_tasks<F: Future<Output = ()> + Send + 'static>(count: u64, task: impl Fn(u64) -> F) {
    let tasks: Vec<_> = (0..count).map(|number| tokio::spawn(task(number))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scenario_25_eight_tasks_inside_one_reservation_never_change_the_total() {
    let paper = Paper::new(64 * MIB, 256);
    let rig = Arc::new(rig(paper.clone(), 64 * MIB));
    let shared = Arc::new(lease(&rig, 64 * MIB, OverUse::Fail));
    on_tasks(8, |number| {
        let (rig, shared) = (Arc::clone(&rig), Arc::clone(&shared));
        async move {
            let (mut random, mut held) = (Random(number), Vec::new());
            for round in 0..5_000 {
                held.push(shared.allocate_in(GPU0, 256 + random.below(64 * KIB - 256)).await.unwrap());
                if held.len() > 16 {
                    held.swap_remove(random.below(16) as usize);
                }
                if round % 1_000 == 0 {
                    assert_eq!(rig.usage().total, 64 * MIB);
                }
            }
        }
    })
    .await;
    assert_eq!((rig.usage().total, shared.usage(GPU0).allocated), (64 * MIB, 0));
    assert!(paper.seen().2 <= 8 * 17 * 64 * KIB);
    drop(shared);
    rig.assert_untouched();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scenario_26_a_lease_that_grows_and_shrinks_under_its_users_ends_exact() {
    let rig = Arc::new(rig(Paper::new(64 * MIB, 256), 64 * MIB));
    let shared = Arc::new(RwLock::new(lease(&rig, MIB, OverUse::Ignore)));
    let changer = tokio::spawn({
        let shared = Arc::clone(&shared);
        async move {
            for _ in 0..20_000 {
                shared.write().await.grow(&Amounts::of(GPU0.budget().unwrap(), 64 * KIB)).await.unwrap();
                tokio::task::yield_now().await;
                shared.write().await.shrink_to_fit();
            }
        }
    });
    on_tasks(4, |number| {
        let shared = Arc::clone(&shared);
        async move {
            let (mut random, mut held) = (Random(number), Vec::new());
            for _ in 0..20_000 {
                let bytes = 4 * KIB + random.below(252 * KIB);
                held.push(shared.read().await.allocate_in(GPU0, bytes).await.unwrap());
                if held.len() > 4 {
                    held.swap_remove(random.below(4) as usize);
                }
            }
        }
    })
    .await;
    changer.await.unwrap();
    let shared = Arc::into_inner(shared).unwrap().into_inner();
    let usage = shared.usage(GPU0);
    assert_eq!((usage.allocated, usage.over, rig.usage().total), (0, 0, usage.reserved));
    drop(shared);
    rig.assert_untouched();
}

/// Half of the space cannot be reserved, so the excess goes through the headroom and the budget both.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scenario_27_excess_that_many_want_at_once_never_exceeds_the_capacity() {
    for over_use in [OverUse::Ignore, OverUse::Grow, OverUse::Fail] {
        let paper = Paper::new(4 * MIB, 256);
        let rig = Arc::new(rig(paper.clone(), 2 * MIB));
        let refusals = Arc::new(Mutex::new(0_u64));
        on_tasks(8, |number| {
            let (rig, refusals) = (Arc::clone(&rig), Arc::clone(&refusals));
            async move {
                let mut random = Random(number);
                // The others may have taken all of the budget for what they need beyond theirs.
                let reserved = rig.tiers.reserve(Request::new().gpu(64 * KIB)).await.unwrap();
                drop(reserved);
                for _ in 0..10_000 {
                    let Ok(plain) = rig.scheduler.try_reserve(Request::new().gpu(64 * KIB)) else { continue };
                    let lease = rig.tiers.attach(plain, over_use).unwrap();
                    let sizes = [32 * KIB + random.below(MIB), 32 * KIB + random.below(MIB)];
                    let one = lease.allocate_in(GPU0, sizes[0]).await;
                    let other = lease.allocate_in(GPU0, sizes[1]).await;
                    *refusals.lock().await += u64::from(one.is_err()) + u64::from(other.is_err());
                    assert!(rig.tiers.space(GPU0).unwrap().used() <= 4 * MIB);
                    if random.below(2) == 0 {
                        drop(lease);
                        tokio::task::yield_now().await;
                    }
                }
            }
        })
        .await;
        assert!(*refusals.lock().await > 0 && paper.seen().2 > 0);
        rig.assert_untouched();
        drop(rig.scheduler.try_reserve(Request::new().gpu(2 * MIB)).unwrap());
    }
}

/// What one worker has, and what the books have to say of it.
struct Worker {
    lease: MemoryLease,
    /// Blocks of a lease stay with its index, whoever frees them.
    untracked: Vec<Block>,
}

type Shelf = Arc<Mutex<Vec<(usize, Block)>>>;

/// The identity, from outside: untracked + Σ max(allocated_i, reserved_i), with what each block says it takes.
fn expected(workers: &[Worker], shelf: &[(usize, Block)]) -> u64 {
    let leases = workers.iter().enumerate().map(|(number, worker)| {
        let own = shelf.iter().filter(|(owner, _)| *owner == number).map(|(_, block)| block.capacity());
        let (allocated, usage) = (own.sum::<u64>(), worker.lease.usage(GPU0));
        assert_eq!((usage.allocated, usage.over), (allocated, allocated.saturating_sub(usage.reserved)));
        allocated.max(usage.reserved)
    });
    let untracked = workers.iter().flat_map(|worker| &worker.untracked).map(Block::capacity);
    leases.sum::<u64>() + untracked.sum::<u64>()
}

async fn work(rig: &Rig, worker: &mut Worker, number: usize, random: &mut Random, shelf: &Shelf) {
    let bytes = 256 * (1 + random.below(512)) - random.below(2) * random.below(256);
    let budget = |bytes| Amounts::of(rig.budget, bytes);
    match random.below(100) {
        0..30 => {
            if let Ok(block) = worker.lease.allocate_in(GPU0, bytes).await {
                shelf.lock().await.push((number, block));
            }
        }
        // Its own or another's, whichever is there.
        30..65 => {
            let mut shelf = shelf.lock().await;
            let count = shelf.len() as u64;
            let block = (count > 0).then(|| shelf.swap_remove(random.below(count) as usize));
            drop(shelf);
            drop(block);
        }
        65..75 => worker.untracked.extend(rig.tiers.allocate(GPU0, bytes).await),
        75..85 => drop(worker.untracked.pop()),
        85..90 => drop(worker.lease.try_grow(&budget(bytes))),
        90..95 => drop(worker.lease.shrink(&budget(bytes))),
        _ => {
            let temporary = rig.scheduler.try_reserve(Request::new().gpu(bytes));
            tokio::task::yield_now().await;
            drop(temporary);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scenario_28_the_identity_holds_whenever_all_rest_whatever_they_did() {
    const ROUNDS: usize = 20;
    let paper = Paper::new(24 * MIB, 256);
    let rig = Arc::new(rig(paper.clone(), 20 * MIB));
    let shelf = Shelf::default();
    let (begin, end) = (Arc::new(Barrier::new(8)), Arc::new(Barrier::new(8)));
    let policies = [OverUse::Ignore, OverUse::Grow, OverUse::Fail];
    let workers: Vec<_> = (0..8)
        .map(|number| {
            let lease = lease(&rig, [256 * KIB, MIB, 4 * MIB][number % 3], policies[number % 3]);
            Worker { lease, untracked: Vec::new() }
        })
        .collect();
    let workers = Arc::new(workers.into_iter().map(|worker| Mutex::new(Some(worker))).collect::<Vec<_>>());
    on_tasks(8, |number| {
        let (rig, shelf, workers) = (Arc::clone(&rig), Arc::clone(&shelf), Arc::clone(&workers));
        let (begin, end) = (Arc::clone(&begin), Arc::clone(&end));
        async move {
            let (number, mut random) = (number as usize, Random(number + 28));
            for _ in 0..ROUNDS {
                let mut worker = workers[number].lock().await.take().unwrap();
                for _ in 0..1_000 {
                    work(&rig, &mut worker, number, &mut random, &shelf).await;
                }
                *workers[number].lock().await = Some(worker);
                if begin.wait().await.is_leader() {
                    let mut all = Vec::new();
                    for worker in workers.iter() {
                        all.push(worker.lock().await.take().unwrap());
                    }
                    let usage = rig.usage();
                    assert_eq!(usage.total, expected(&all, &shelf.lock().await), "{usage:?}");
                    assert!(usage.total <= usage.capacity && usage.reserved <= usage.limit, "{usage:?}");
                    assert_eq!(usage.allocated, rig.tiers.space(GPU0).unwrap().used());
                    for (slot, worker) in workers.iter().zip(all) {
                        *slot.lock().await = Some(worker);
                    }
                }
                end.wait().await;
            }
        }
    })
    .await;
    drop(workers);
    shelf.lock().await.clear();
    assert!(paper.seen().2 <= 24 * MIB);
    rig.assert_untouched();
}

/// 25 to 27 in small, on spaces with real memory and files: within, beyond and beside leases that grow and shrink.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scenarios_25_to_27_on_every_space_the_accounts_are_exact_after_all() {
    for rig in rigs(65_536, 49_152).await {
        let rig = Arc::new(rig);
        on_tasks(6, |number| {
            let rig = Arc::clone(&rig);
            async move {
                let (mut random, budget) = (Random(number), |bytes| Amounts::of(rig.budget, bytes));
                for round in 0..30 {
                    let over_use = [OverUse::Ignore, OverUse::Grow, OverUse::Fail][round % 3];
                    let lease = rig.scheduler.reserve(Request::new().amount(rig.budget, 65_536)).await.unwrap();
                    let mut lease = rig.tiers.attach(lease, over_use).unwrap();
                    let mut held = Vec::new();
                    for _ in 0..6 {
                        let bytes = 512 * (1 + random.below(64));
                        held.extend(lease.allocate_in(rig.id, bytes).await);
                        held.extend(rig.tiers.allocate(rig.id, bytes).await);
                        if let Some(block) = (random.below(2) == 0).then(|| held.pop()).flatten() {
                            block.free().await.unwrap();
                        }
                        drop(lease.try_grow(&budget(bytes)));
                        drop(lease.shrink(&budget(bytes / 2)));
                    }
                    lease.shrink_to_fit();
                    let space = rig.tiers.space(rig.id).unwrap();
                    assert!(space.used() <= space.capacity(), "{}", rig.id);
                    for block in held {
                        block.free().await.unwrap();
                    }
                    assert_eq!((lease.usage(rig.id).allocated, lease.usage(rig.id).over), (0, 0));
                }
            }
        })
        .await;
        rig.assert_untouched();
    }
}

/// Leases end while their blocks are freed elsewhere, on every space.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leases_that_end_while_their_blocks_are_freed_leave_nothing_behind() {
    for rig in rigs(65_536, 49_152).await {
        let rig = Arc::new(rig);
        on_tasks(6, |number| {
            let rig = Arc::clone(&rig);
            async move {
                let mut random = Random(number);
                for _ in 0..40 {
                    let lease = rig.tiers.reserve(Request::new().amount(rig.budget, 65_536)).await.unwrap();
                    let mut freed = Vec::new();
                    for _ in 0..4 {
                        let Ok(block) = lease.allocate_in(rig.id, 4_096 * (1 + random.below(4))).await else {
                            continue;
                        };
                        freed.push(tokio::spawn(block.free()));
                    }
                    drop(lease);
                    for free in freed {
                        free.await.unwrap().unwrap();
                    }
                }
            }
        })
        .await;
        rig.assert_untouched();
    }
}
