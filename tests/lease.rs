//! The guard of what was granted: split, merge, shrink, forget, drop, and who is known to hold what.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use bursar::{Activity, Amounts, Budget, BudgetId, Config, Lease, LeaseError, Priority, Request, Scheduler};
use common::*;
use tokio_test::task;

#[test]
fn a_split_part_is_a_lease_of_its_own() {
    let rig = Rig::loans(10, 10);
    let mut whole = take(&rig.scheduler, gpu(8).host(4u64).priority(Priority::High));
    let part = whole.split(&bundle(&[(GPU, 3), (HOST, 4)])).unwrap();
    assert_eq!((whole.amounts(), part.amounts()), (bundle(&[(GPU, 5)]), bundle(&[(GPU, 3), (HOST, 4)])));
    assert_eq!(part.priority(), Priority::High);
    assert_eq!(rig.scheduler.stats().leases, 2);
    drop(whole);
    assert_eq!((free(&rig.scheduler, GPU), free(&rig.scheduler, HOST)), (7, 6));
    drop(part);
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_merged_lease_gives_everything_back_at_once() {
    let rig = Rig::loans(10, 10);
    let mut one = take(&rig.scheduler, gpu(3));
    one.merge(take(&rig.scheduler, gpu(4).host(5u64))).unwrap();
    assert_eq!(one.amounts(), bundle(&[(GPU, 7), (HOST, 5)]));
    assert_eq!(rig.scheduler.stats().leases, 1);
    assert_eq!((free(&rig.scheduler, GPU), free(&rig.scheduler, HOST)), (3, 5));
    drop(one);
    assert_untouched(&rig.scheduler);
}

#[test]
fn leases_of_different_schedulers_are_not_merged_and_neither_is_lost() {
    let (mine, other) = (Rig::loans(10, 10), Rig::loans(10, 10));
    let mut lease = take(&mine.scheduler, gpu(3));
    let error = lease.merge(take(&other.scheduler, gpu(4))).unwrap_err();
    assert_eq!((lease.get(GPU), error.0.get(GPU)), (3, 4));
    assert_eq!(free(&other.scheduler, GPU), 6, "the lease lies in the error");
    drop(error);
    assert_untouched(&other.scheduler);
    drop(lease);
    assert_untouched(&mine.scheduler);
}

#[test]
fn a_part_given_back_is_granted_to_a_waiter_in_the_same_call() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(10).host(10u64));
    let mut waiting = queued(&rig.scheduler, gpu(3));
    lease.shrink(&bundle(&[(HOST, 10), (GPU, 2)])).unwrap();
    assert_waits(&mut waiting);
    lease.shrink(&bundle(&[(GPU, 1)])).unwrap();
    let rest = granted(&mut waiting);
    assert_eq!((lease.amounts(), rest.get(GPU)), (bundle(&[(GPU, 7)]), 3));
    drop((lease, rest));
    assert_untouched(&rig.scheduler);
}

#[test]
fn more_than_is_held_is_refused_and_changes_nothing() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(4).host(4u64));
    let more = bundle(&[(GPU, 4), (HOST, 5)]);
    let refused = LeaseError::HoldsLess { budget: HOST, held: 4, asked: 5 };
    assert_eq!(lease.shrink(&more).unwrap_err(), refused);
    assert_eq!(lease.split(&more).unwrap_err(), refused);
    assert_eq!(lease.amounts(), bundle(&[(GPU, 4), (HOST, 4)]));
    assert_eq!((free(&rig.scheduler, GPU), rig.scheduler.stats().leases), (6, 1));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn an_empty_lease_is_still_a_lease_until_it_drops() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(4));
    lease.shrink(&bundle(&[(GPU, 4)])).unwrap();
    let empty = lease.split(&Amounts::new()).unwrap();
    assert_eq!((free(&rig.scheduler, GPU), rig.scheduler.stats().leases), (10, 2));
    lease.merge(empty).unwrap();
    assert_eq!(rig.scheduler.stats().leases, 1);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// R7: what was charged to a rate is spent, so no lease holds it.
#[test]
fn r7_a_lease_holds_nothing_of_a_rate() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with(Budget::rate(IO, 100)));
    let mut lease = take(&rig.scheduler, gpu(1).io(60u64));
    assert_eq!(lease.amounts(), bundle(&[(GPU, 1)]));
    let refused = LeaseError::HoldsLess { budget: IO, held: 0, asked: 60 };
    assert_eq!(lease.shrink(&bundle(&[(IO, 60)])).unwrap_err(), refused);
    drop(lease.split(&bundle(&[(GPU, 1)])).unwrap());
    drop(lease);
    assert_eq!(free(&rig.scheduler, IO), 40, "spent is spent");
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_lease_of_more_than_eight_budgets_splits_and_comes_back_whole() {
    let ids = || (0..12).map(|index| BudgetId::custom(index).unwrap());
    let rig = Rig::new(Config::new().with_budgets(ids().map(|id| Budget::loan(id, 100))));
    let request = ids().fold(Request::new(), |request, id| request.amount(id, 10));
    let mut lease = take(&rig.scheduler, request.clone());
    let odd: Vec<_> = ids().filter(|id| id.index() % 2 == 1).map(|id| (id, 7)).collect();
    let part = lease.split(&bundle(&odd)).unwrap();
    assert!(ids().all(|id| lease.get(id) + part.get(id) == 10 && free(&rig.scheduler, id) == 90));
    drop(lease);
    assert!(ids().all(|id| free(&rig.scheduler, id) == 100 - part.get(id)));
    drop(part);
    assert_untouched(&rig.scheduler);
}

#[test]
fn p05_a_forgotten_lease_is_lost_and_everybody_can_see_it() {
    let rig = Rig::loans(10, 10);
    take(&rig.scheduler, gpu(4).label("leaky")).forget();
    take(&rig.scheduler, gpu(1)).forget();
    let stats = rig.scheduler.stats();
    assert_eq!((stats.forgotten, stats.budget(GPU).unwrap().granted), (2, 5));
    let holders = rig.scheduler.holders(GPU);
    assert_eq!(holders.len(), 1);
    assert!(holders[0].label == "leaky" && holders[0].forgotten);
    assert!(rig.scheduler.try_reserve(gpu(6)).is_err());
    drop(take(&rig.scheduler, gpu(5)));
    rig.scheduler.verify().unwrap();
}

/// P05: a guard that is leaked takes its units with it, but not its name: whoever lacks them is told who has them.
#[test]
fn p05_a_leaked_lease_is_named_to_everybody_who_lacks_what_it_holds() {
    let mut rig = Rig::loans(10, 10);
    std::mem::forget(take(&rig.scheduler, gpu(7).label("leaky")));
    let waits = queued(&rig.scheduler, gpu(4));
    rig.pass(3_600_000 * MS);
    let why = waits.explain();
    let holder = &why.blockers[0].holders[0];
    assert_eq!((&*holder.label, holder.units), ("leaky", 7), "{why}");
    assert_eq!(rig.scheduler.stats().budget(GPU).unwrap().granted, 7);
    drop(waits);
    drop(take(&rig.scheduler, gpu(3)));
    rig.scheduler.verify().unwrap();
}

/// P06: between the accounting of a grant and its guard there is nothing that an owner's end could come in between.
/// The owner is gone by a panic, in each state from the queue to the lease; plain, elastic, and more for a lease.
#[test]
fn p06_an_owner_that_panics_before_it_has_the_guard_leaks_nothing() {
    for (kind, granted, polled) in (0..12).map(|case| (case % 3, case / 3 % 2 == 0, case / 6 == 0)) {
        let rig = Rig::loans(10, 10);
        let scheduler = rig.scheduler.clone();
        let mut holder = Some(take(&scheduler, gpu(8)));
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let mut own = take(&scheduler, host(1).activity(&Activity::new("owner")));
            let mut plain = (kind == 0).then(|| queued(&scheduler, gpu(5).host(5u64)));
            let elastic = gpu(9).down_to(GPU, 5).host(5u64).label("elastic");
            let mut elastic = (kind == 1).then(|| queued(&scheduler, elastic));
            let mut growth = (kind == 2).then(|| task::spawn(own.grow(&bundle(&[(GPU, 5), (HOST, 5)]))));
            assert!(growth.as_mut().is_none_or(|growth| growth.poll().is_pending()));
            if granted {
                drop(holder.take());
                assert_eq!(scheduler.stats().offered, 1);
            }
            let polled = polled && granted;
            let leases =
                [&mut plain, &mut elastic].map(|waiting| polled.then(|| waiting.as_mut().map(common::granted)));
            assert!(!polled || growth.as_mut().is_none_or(|growth| growth.poll().is_ready()));
            let _leases = leases;
            panic!("the owner is gone");
        }));
        let panic = unwound.expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"the owner is gone"), "kind {kind}");
        drop(holder);
        assert_untouched(&scheduler);
    }
}

#[test]
fn the_table_of_holders_follows_every_change_of_a_labelled_lease() {
    let rig = Rig::loans(100, 10);
    let held = |scheduler: &Scheduler| -> Vec<(String, u64)> {
        scheduler.holders(GPU).iter().map(|h| (h.label.to_string(), h.amounts.get(GPU))).collect()
    };
    let list = |all: &[(&str, u64)]| all.iter().map(|&(label, units)| (label.to_owned(), units)).collect::<Vec<_>>();
    let _unlabelled = take(&rig.scheduler, gpu(50));
    let mut small = take(&rig.scheduler, gpu(10).label("small"));
    let mut large = take(&rig.scheduler, gpu(20).label(String::from("large")).module("chat").priority(Priority::High));
    assert_eq!(held(&rig.scheduler), list(&[("large", 20), ("small", 10)]), "largest first");
    large.shrink(&bundle(&[(GPU, 10)])).unwrap();
    assert_eq!(held(&rig.scheduler), list(&[("small", 10), ("large", 10)]), "then oldest first");
    let part = large.split(&bundle(&[(GPU, 4)])).unwrap();
    assert_eq!((part.label().as_deref(), large.label().as_deref()), (Some("large"), Some("large")));
    assert_eq!(held(&rig.scheduler), list(&[("small", 10), ("large", 6), ("large", 4)]));
    small.merge(part).unwrap();
    assert_eq!(held(&rig.scheduler), list(&[("small", 14), ("large", 6)]));
    let chat = rig.scheduler.holders(GPU).pop().unwrap();
    assert_eq!((chat.module.as_deref(), chat.priority), (Some("chat"), Priority::High));
    drop((small, large));
    assert_eq!(held(&rig.scheduler), list(&[]));
}

#[test]
fn a_lease_comes_back_when_its_holder_panics() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(10));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _part = lease.split(&bundle(&[(GPU, 6)])).unwrap();
        let _second = take(&rig.scheduler, host(3));
        panic!("the work fails");
    }));
    assert!(panicked.is_err());
    assert_eq!((free(&rig.scheduler, GPU), free(&rig.scheduler, HOST)), (6, 10));
    assert_waits(&mut waiting);
    drop(lease);
    drop(granted(&mut waiting));
    assert_untouched(&rig.scheduler);
}

#[tokio::test]
async fn a_lease_comes_back_when_its_task_panics_or_is_aborted() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let held = scheduler.clone();
    let panics = tokio::spawn(async move {
        let _lease = held.reserve(gpu(6)).await.unwrap();
        panic!("the work fails");
    });
    let lease = scheduler.reserve(gpu(4)).await.unwrap();
    let hangs = tokio::spawn(async move {
        let _lease = lease;
        std::future::pending::<()>().await;
    });
    assert!(panics.await.is_err());
    hangs.abort();
    drop(scheduler.reserve(gpu(10)).await.unwrap());
    assert!(hangs.await.is_err());
    assert_untouched(&scheduler);
}

/// P17: a lease that moved into the work ends with the work, not with the caller who lost patience.
#[tokio::test(start_paused = true)]
async fn p17_a_lease_moved_into_blocking_work_outlives_the_callers_timeout() {
    let scheduler = Scheduler::builder().gpu(10u64).spawn().unwrap();
    let lease = scheduler.reserve(gpu(10)).await.unwrap();
    let (started, finish) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (at_start, at_end) = (Arc::clone(&started), Arc::clone(&finish));
    let mut work = tokio::task::spawn_blocking(move || {
        let _lease = lease;
        at_start.wait();
        at_end.wait();
    });
    started.wait();
    // Time does not move on its own while blocking work runs.
    let (impatient, ()) = tokio::join!(tokio::time::timeout(MS, &mut work), tokio::time::advance(2 * MS));
    assert!(impatient.is_err());
    assert_eq!(free(&scheduler, GPU), 0, "the work still runs");
    finish.wait();
    work.await.unwrap();
    assert_untouched(&scheduler);
}

/// C12, P45 for leases: split, merge, shrink and drop from many threads free every unit exactly once.
#[test]
fn c12_leases_passed_between_threads_are_freed_exactly_once() {
    const UNITS: u64 = 1_000;
    for threads in 1..=6 {
        let rig = Rig::loans(UNITS, UNITS);
        let pool = Arc::new(Mutex::new(Vec::<Lease>::new()));
        let start = Arc::new(Barrier::new(threads));
        thread::scope(|scope| {
            for seed in 0..threads {
                let (scheduler, pool, start) = (rig.scheduler.clone(), Arc::clone(&pool), Arc::clone(&start));
                scope.spawn(move || {
                    start.wait();
                    let mut dice = Dice(seed as u64);
                    (0..2_000).for_each(|_| shuffle_leases(&scheduler, &pool, &mut dice));
                });
            }
        });
        let leases = std::mem::take(&mut *pool.lock().unwrap());
        let held: u64 = leases.iter().map(|lease| lease.get(GPU)).sum();
        assert_eq!(free(&rig.scheduler, GPU), UNITS - held, "{threads} threads");
        assert_eq!(rig.scheduler.stats().leases, leases.len() as u64);
        rig.scheduler.verify().unwrap();
        drop(leases);
        assert_untouched(&rig.scheduler);
    }
}

/// One random operation on leases that any thread may have made.
fn shuffle_leases(scheduler: &Scheduler, pool: &Mutex<Vec<Lease>>, dice: &mut Dice) {
    let taken = {
        let mut pool = pool.lock().unwrap();
        let at = dice.below(pool.len() as u64 + 1) as usize;
        (at < pool.len()).then(|| pool.swap_remove(at))
    };
    let units = 1 + dice.below(20);
    let part = bundle(&[(GPU, units), (HOST, units)]);
    let kept = match (taken, dice.below(5)) {
        (None, _) | (_, 0) => scheduler.try_reserve(gpu(units).host(units)).into_iter().collect(),
        (Some(lease), 1) => {
            drop(lease);
            vec![]
        }
        (Some(mut lease), 2) => {
            let part = lease.split(&part);
            part.into_iter().chain([lease]).collect()
        }
        (Some(mut lease), 3) => {
            let other = pool.lock().unwrap().pop();
            other.into_iter().for_each(|other| lease.merge(other).unwrap());
            vec![lease]
        }
        (Some(mut lease), _) => {
            // Refused when it holds less.
            let _ = lease.shrink(&part);
            vec![lease]
        }
    };
    pool.lock().unwrap().extend(kept);
}

#[test]
fn a_lease_outlives_its_scheduler_and_is_dropped_without_harm() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(10).label("late"));
    drop(rig);
    let part = lease.split(&bundle(&[(GPU, 3)])).unwrap();
    assert_eq!((lease.get(GPU), part.label().as_deref()), (7, Some("late")));
    thread::spawn(move || drop(lease)).join().unwrap();
    drop(part);
}
