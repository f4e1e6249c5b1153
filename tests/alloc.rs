//! What allocates and what does not, counted per thread.

mod common;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use allocation_counter::measure;
use bursar::memory::HostSpace;
use bursar::tiered::{OverUse, Tiers};
use bursar::{Activity, Budget, BudgetId, Config, Priority, Request, Reservation, SpaceId, Tier};
use common::*;
use futures::FutureExt;

fn poll(reservation: &mut Reservation) -> Option<bursar::Lease> {
    match Pin::new(reservation).poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(lease) => Some(lease.unwrap()),
        std::task::Poll::Pending => None,
    }
}

/// Eight loans and a rate.
fn wide() -> (Rig, Vec<BudgetId>) {
    let ids: Vec<_> = (0..8).map(|at| BudgetId::custom(at).unwrap()).collect();
    let budgets = ids.iter().map(|&id| Budget::loan(id, 100)).chain([Budget::rate(IO, 1_000_000)]);
    (Rig::new(Config::new().with_budgets(budgets)), ids)
}

#[track_caller]
fn assert_allocates_nothing(what: &str, work: impl FnOnce()) {
    let counted = measure(work);
    assert_eq!((counted.count_total, counted.bytes_current), (0, 0), "{what}: {counted:?}");
}

#[test]
fn reserving_and_releasing_up_to_eight_budgets_allocates_nothing() {
    let (rig, ids) = wide();
    for count in 1..=8 {
        let request = ids[..count].iter().fold(Request::new(), |request, &id| request.amount(id, 1));
        let request = request.priority(Priority::High).deadline(MS);
        // The books make a place for a bundle once; it is used again and again.
        drop(rig.scheduler.try_reserve(request.clone()).expect("free"));
        assert_allocates_nothing(&format!("{count} budgets"), || {
            for _ in 0..1_000 {
                drop(poll(&mut rig.scheduler.reserve(request.clone())).expect("free"));
                drop(rig.scheduler.try_reserve(request.clone()).expect("free"));
            }
        });
    }
    assert_untouched(&rig.scheduler);
}

/// The slots of the queue are reused: a wait allocates nothing once as many have waited before.
#[test]
fn a_wait_allocates_nothing_once_the_queue_is_warm() {
    let rig = Rig::loans(10, 10);
    let round = || {
        let held = rig.scheduler.try_reserve(gpu(10)).unwrap();
        let mut waiting = [(); 8].map(|()| rig.scheduler.reserve(gpu(1)));
        assert!(waiting.iter_mut().all(|waiting| poll(waiting).is_none()));
        drop(held);
        assert!(waiting.iter_mut().all(|waiting| poll(waiting).is_some()));
    };
    // Twice, because the slots of the first round are swept in the second.
    (0..8).for_each(|_| round());
    assert_allocates_nothing("eight waits", || {
        let held = rig.scheduler.try_reserve(gpu(10)).unwrap();
        let mut waiting = rig.scheduler.reserve(gpu(1));
        assert!(poll(&mut waiting).is_none());
        drop(held);
        assert!(poll(&mut waiting).is_some());
    });
    let many = measure(round);
    assert!(many.count_total <= 4, "only the list of wakers grows: {many:?}");
    assert_eq!(many.bytes_current, 0);
    assert_untouched(&rig.scheduler);
}

/// Those that come in order of rank stand in a list that lies in their slots.
#[test]
fn however_many_wait_in_order_of_arrival_they_allocate_nothing_once_the_queue_is_warm() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let reservations = || (0..200).map(|_| rig.scheduler.reserve(gpu(1))).collect::<Vec<_>>();
    let wait = |all: &mut Vec<Reservation>| assert!(all.iter_mut().all(|waiting| poll(waiting).is_none()));
    wait(&mut reservations());
    let mut again = reservations();
    assert_allocates_nothing("two hundred waits", || wait(&mut again));
}

#[test]
fn cloning_a_request_and_a_handle_allocates_nothing() {
    let (rig, ids) = wide();
    let request = ids.iter().fold(Request::new().label("static"), |request, &id| request.amount(id, 1));
    assert_allocates_nothing("clones", || {
        for _ in 0..100 {
            drop((request.clone(), rig.scheduler.clone()));
        }
    });
}

/// The counter itself: what surely allocates is counted.
#[test]
fn the_counter_counts() {
    let counted = measure(|| drop(std::hint::black_box(vec![1u8; 64])));
    assert_eq!((counted.count_total, counted.bytes_total, counted.bytes_current), (1, 64, 0));
}

/// The headline request has a rate in it.
#[test]
fn reserving_a_bundle_with_a_rate_in_it_allocates_nothing() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with(Budget::rate(IO, 1_000)));
    assert_allocates_nothing("a loan and a rate", || drop(rig.scheduler.try_reserve(gpu(1).io(1u64)).unwrap()));
}

/// One waker to drop is the usual number, in a cancel as in a second poll of somebody who waits.
#[test]
fn cancelling_and_polling_again_allocate_nothing() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let wait = || {
        let mut waiting = rig.scheduler.reserve(gpu(1));
        assert!(poll(&mut waiting).is_none());
        waiting
    };
    drop(wait());
    let mut waiting = wait();
    assert_allocates_nothing("a second poll", || assert!(poll(&mut waiting).is_none()));
    assert_allocates_nothing("a cancel", || drop(waiting));
}

/// A request of a module shares the name with the handle, and its clones share whatever else it has.
#[test]
fn a_request_of_a_module_costs_no_copy_of_its_name_and_its_clones_allocate_nothing() {
    let rig = Rig::loans(10, 10);
    let [short, long] = ["chat".to_owned(), "chat".repeat(1_000)].map(|name| rig.scheduler.module(name).register());
    let bytes = [short.unwrap(), long.unwrap()].map(|module| {
        let made = measure(|| drop(gpu(1).of(&module)));
        assert_eq!(made.count_total, 1, "what few requests have: {made:?}");
        let request = gpu(1).of(&module);
        drop(take(&rig.scheduler, request.clone()));
        assert_allocates_nothing("requests of a module", || {
            for _ in 0..100 {
                drop(rig.scheduler.try_reserve(request.clone()).unwrap());
                drop(poll(&mut rig.scheduler.reserve(request.clone())).unwrap());
            }
        });
        made.bytes_total
    });
    assert_eq!(bytes[0], bytes[1]);
    assert_untouched(&rig.scheduler);
}

/// Activities, modules and waits that are over are forgotten.
#[test]
fn a_thousand_activities_and_modules_one_after_the_other_keep_memory_flat() {
    let rig = Rig::loans(10, 10);
    let live_and_die = || {
        let (first, second) = (Activity::new("first"), Activity::new("second"));
        let module = rig.scheduler.module("over").cap(GPU, 8).register().unwrap();
        let mut lease = take(&rig.scheduler, gpu(4).activity(&first).of(&module).preemptible());
        lease.grow(&bundle(&[(HOST, 1)])).now_or_never().expect("free").unwrap();
        let mut waiting = queued(&rig.scheduler, gpu(7).activity(&second));
        let given_up = queued(&rig.scheduler, gpu(8).activity(&first).of(&module));
        drop((given_up, lease));
        drop(granted(&mut waiting));
    };
    (0..100).for_each(|_| live_and_die());
    let counted = measure(|| (0..1_000).for_each(|_| live_and_die()));
    assert_eq!((counted.count_current, counted.bytes_current), (0, 0), "{counted:?}");
    assert_untouched(&rig.scheduler);
}

/// While somebody is in a scope, who is in none still allocates nothing.
#[test]
fn a_scope_elsewhere_costs_a_reservation_no_allocation() {
    let rig = Rig::loans(10, 10);
    // The books make a place for a bundle once.
    drop(take(&rig.scheduler, gpu(1).host(1u64)));
    let scope = Activity::new("elsewhere").scope(std::future::pending::<()>());
    assert_allocates_nothing("outside of the scope", || {
        drop(take(&rig.scheduler, gpu(1)));
        drop(poll(&mut rig.scheduler.reserve(gpu(1).host(1u64))).unwrap());
    });
    drop(scope);
    assert_untouched(&rig.scheduler);
}

/// A charge that has to wait for memory is put in a box, and nobody's but that.
#[test]
fn a_leased_block_that_nothing_uses_any_more_is_freed_without_an_allocation() {
    let rig = Rig::new(Config::new().with(Budget::loan(HOST, 64 << 20)));
    let id = SpaceId { tier: Tier::Host, index: 0 };
    let tiers = Tiers::builder().space(HostSpace::new(id, 64 << 20)).build(&rig.scheduler).expect("it has a budget");
    let lease = tiers.attach(take(&rig.scheduler, Request::new().host(64u64 << 20)), OverUse::Fail).expect("its own");
    let block = || lease.allocate_in(id, 4_096).now_or_never().expect("it waits for nothing").expect("room");
    // The tables of blocks and the caches of the pool grow once.
    drop([block(), block()]);
    let blocks = [block(), block()];
    let freed = measure(|| drop(blocks));
    assert_eq!(freed.count_total, 0, "{freed:?}");
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_snapshot_takes_no_more_memory_among_thousands_of_holders() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 100_000)));
    let hold = |count| (0..count).map(|_| take(&rig.scheduler, gpu(1).label("one of many"))).collect::<Vec<_>>();
    let most = || measure(|| drop(rig.scheduler.snapshot(10))).bytes_max;
    let few = hold(20);
    most();
    let among_few = most();
    let many = hold(20_000);
    assert_eq!(most(), among_few);
    drop((few, many));
}
