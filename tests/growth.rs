//! Leases that grow (C7), and the claims that do not bind them (R3).

mod common;

use bursar::{Activity, Amounts, Budget, BudgetId, Config, Growth, Lease, Order, Priority, Request, ReserveError};
use bursar::{LeaseError, TryReserveError};
use common::*;
use tokio_test::task::{self, Spawn};

fn of(units: u64) -> Amounts {
    Amounts::of(GPU, units)
}

/// Polls a growth once; it has to wait.
#[track_caller]
fn growing(lease: &mut Lease, id: BudgetId, units: u64) -> Spawn<Growth<'_>> {
    let mut growth = task::spawn(lease.grow(&Amounts::of(id, units)));
    assert!(growth.poll().is_pending());
    growth
}

/// What a growth ended with, after it was woken.
#[track_caller]
fn end(growth: &mut Spawn<Growth<'_>>) -> Result<(), ReserveError> {
    assert!(growth.is_woken(), "it was not woken");
    assert_ready(growth.poll())
}

#[track_caller]
fn assert_ready<T>(polled: std::task::Poll<T>) -> T {
    match polled {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

fn strict(gpu: u64, host: u64) -> Rig {
    let config = Config::new().with(Budget::loan(GPU, gpu)).with(Budget::loan(HOST, host));
    Rig::new(config.with_bypass_limit(0))
}

#[test]
fn c7_growth_is_granted_at_once_when_there_is_enough() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(4));
    assert_ready(task::spawn(lease.grow(&of(6))).poll()).unwrap();
    assert_eq!((lease.get(GPU), free(&rig.scheduler, GPU)), (10, 0));
    assert_eq!(rig.scheduler.stats().leases, 1);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_growth_into_a_budget_that_the_lease_did_not_have_adds_it() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(4));
    lease.try_grow(&bundle(&[(GPU, 1), (HOST, 7)])).unwrap();
    assert_eq!(lease.amounts(), bundle(&[(GPU, 5), (HOST, 7)]));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_growth_waits_and_is_granted_by_a_release() {
    let rig = Rig::loans(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, gpu(6)));
    let mut growth = growing(&mut lease, GPU, 3);
    assert!(!growth.is_woken());
    drop(other);
    end(&mut growth).unwrap();
    drop(growth);
    assert_eq!((lease.get(GPU), free(&rig.scheduler, GPU)), (7, 3));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_growth_goes_before_admission_of_its_level_and_after_that_of_a_higher_one() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(1));
    let [one, two, three] = [3, 3, 3].map(|units| take(&rig.scheduler, gpu(units)));
    let mut normal = queued(&rig.scheduler, gpu(3).deadline(50 * MS));
    let mut growth = growing(&mut lease, GPU, 3);
    let mut high = queued(&rig.scheduler, gpu(3).priority(Priority::High));
    drop(one);
    let first = granted(&mut high);
    assert!(!growth.is_woken() && !normal.is_woken());
    drop(two);
    end(&mut growth).unwrap();
    assert!(!normal.is_woken());
    drop(three);
    drop((granted(&mut normal), first, growth));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// C7, C4: having aged, growth goes before those whom it has come up to, as it did before those it comes from.
#[test]
fn c7_growth_that_has_aged_goes_before_admission_of_the_level_it_has_risen_to() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with_aging_step(100 * MS);
    let mut rig = Rig::new(config);
    let mut lease = take(&rig.scheduler, gpu(1).priority(Priority::Low));
    let [one, two] = [4, 5].map(|units| take(&rig.scheduler, gpu(units)));
    let mut growth = growing(&mut lease, GPU, 3);
    rig.pass(50 * MS);
    let mut normal = queued(&rig.scheduler, gpu(3));
    rig.pass(60 * MS);
    drop(one);
    end(&mut growth).unwrap();
    assert!(!normal.is_woken(), "the growth went after it");
    drop(two);
    drop((granted(&mut normal), growth));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// C7: growth costs its share like all else, from where its turn would have been: it does not set the clock back.
#[test]
fn c7_growth_under_shares_goes_first_and_saves_nothing_up() {
    let config = Config::new().with(Budget::loan(GPU, 100)).with(Budget::loan(HOST, 10)).with_order(Order::Shares);
    let rig = Rig::new(config);
    let held = take(&rig.scheduler, gpu(90));
    let mut lease = take(&rig.scheduler, gpu(10));
    // The nameless module has used 100, the named one 0.
    lease.try_grow(&Amounts::of(HOST, 1)).unwrap();
    let mut nameless = queued(&rig.scheduler, gpu(90));
    let mut named = queued(&rig.scheduler, gpu(90).module("named"));
    drop(held);
    assert!(named.is_woken() && !nameless.is_woken(), "a growth wiped out what the nameless had");
    drop(granted(&mut named));
    drop((granted(&mut nameless), lease));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_try_grow_takes_all_or_nothing_at_once() {
    let rig = Rig::loans(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(4).label("grower")), take(&rig.scheduler, gpu(4)));
    lease.try_grow(&of(1)).unwrap();
    let refused = lease.try_grow(&bundle(&[(GPU, 2), (HOST, 1)])).unwrap_err();
    let TryReserveError::NotNow(short) = &refused else { panic!("{refused:?}") };
    assert_eq!((short.budget, short.asked, short.free, short.label.as_deref()), (GPU, 2, 1, Some("grower")));
    assert!(matches!(lease.try_grow(&of(11)), Err(TryReserveError::NeverFits(_))));
    assert!(matches!(lease.try_grow(&Amounts::new()), Err(TryReserveError::Invalid(_))));
    assert_eq!((lease.get(GPU), lease.get(HOST), lease.label().as_deref()), (5, 0, Some("grower")));
    assert_eq!(rig.scheduler.holders(GPU).len(), 1, "a lease that grew is one holder");
    drop((lease, other));
    assert_untouched(&rig.scheduler);
}

/// C7, P23: neither growth nor an attempt at it passes a claim of somebody who waits for something else.
#[test]
fn p23_an_attempt_to_grow_passes_nobody_whom_growth_would_not_pass() {
    let rig = strict(10, 10);
    let mut lease = take(&rig.scheduler, host(1));
    let other = take(&rig.scheduler, gpu(8));
    let mut first = queued(&rig.scheduler, gpu(5).priority(Priority::High));
    assert!(matches!(lease.try_grow(&of(1)), Err(TryReserveError::NotNow(_))));
    let mut growth = growing(&mut lease, GPU, 1);
    drop(other);
    drop(granted(&mut first));
    end(&mut growth).unwrap();
    drop(growth);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c5_c7_growth_dropped_before_its_first_poll_asks_for_nothing() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(4));
    drop(lease.grow(&of(3)));
    assert_eq!((lease.get(GPU), free(&rig.scheduler, GPU)), (4, 6));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c5_c7_growth_dropped_while_it_waits_leaves_the_lease_and_lets_the_next_go() {
    let rig = strict(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, gpu(4)));
    let growth = growing(&mut lease, GPU, 3);
    let mut next = queued(&rig.scheduler, gpu(2));
    drop(growth);
    assert_eq!(granted(&mut next).get(GPU), 2);
    assert_eq!((lease.get(GPU), free(&rig.scheduler, GPU)), (4, 2));
    drop((lease, other));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c5_c7_growth_dropped_with_its_grant_unpolled_leaves_the_lease_and_returns_the_grant() {
    let rig = Rig::loans(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, gpu(6)));
    let growth = growing(&mut lease, GPU, 3);
    let mut next = queued(&rig.scheduler, gpu(6));
    drop(other);
    assert!(growth.is_woken() && !next.is_woken());
    drop(growth);
    assert_eq!(granted(&mut next).get(GPU), 6);
    assert_eq!(lease.get(GPU), 4);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// C5, R5: a growth whose grant nobody polled asks again when it is polled, with the rank it had.
#[test]
fn r5_growth_whose_grant_expired_asks_again() {
    let mut rig = Rig::loans(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, gpu(6)));
    let mut growth = growing(&mut lease, GPU, 3);
    let mut rival = queued(&rig.scheduler, gpu(6));
    drop(other);
    rig.pass(101 * MS);
    let rival = granted(&mut rival);
    assert!(growth.poll().is_pending());
    rig.scheduler.verify().unwrap();
    drop(rival);
    end(&mut growth).unwrap();
    drop(growth);
    assert_eq!(lease.get(GPU), 7);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// C6, C7: more than there is can never be; more than there is beside what the lease holds is told to split.
#[test]
fn c6_growth_past_the_capacity_never_fits_and_growth_past_the_rest_is_told_to_split() {
    let mut rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(6).label("query"));
    let refused = assert_ready(task::spawn(lease.grow(&of(11))).poll()).unwrap_err();
    assert!(matches!(&refused, ReserveError::NeverFits(short) if short.asked == 11 && short.limit == 10));
    let mut growth = growing(&mut lease, GPU, 5);
    rig.pass(9 * MS);
    assert!(!growth.is_woken());
    rig.pass(MS);
    let told = end(&mut growth).unwrap_err();
    assert!(matches!(told, ReserveError::Split { .. }), "{told}");
    drop(growth);
    assert_eq!(lease.get(GPU), 6);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// C6: a capacity that falls below what a growth asks for ends it.
#[test]
fn c6_growth_ends_when_the_capacity_falls_below_it() {
    let rig = Rig::loans(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(1)), take(&rig.scheduler, gpu(6)));
    let mut growth = growing(&mut lease, GPU, 5);
    rig.scheduler.set_capacity(GPU, 4).unwrap();
    assert!(matches!(end(&mut growth), Err(ReserveError::NeverFits(_))));
    drop(growth);
    drop((lease, other));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_growth_within_a_time_is_late_when_it_passes_and_the_lease_goes_on() {
    let mut rig = Rig::loans(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(4).label("query")), take(&rig.scheduler, gpu(6)));
    let mut growth = task::spawn(lease.grow(&of(3)).within(5 * MS));
    assert!(growth.poll().is_pending());
    rig.pass(4 * MS);
    assert!(!growth.is_woken());
    rig.pass(MS);
    let late = end(&mut growth).unwrap_err();
    let ReserveError::Late { shortage, waited } = &late else { panic!("{late}") };
    assert_eq!((shortage.asked, shortage.free, shortage.label.as_deref()), (3, 0, Some("query")));
    assert_eq!(*waited, 5 * MS);
    drop(growth);
    drop(other);
    lease.try_grow(&of(3)).unwrap();
    let no_time = assert_ready(task::spawn(lease.grow(&of(9)).within(std::time::Duration::ZERO)).poll()).unwrap_err();
    assert!(matches!(no_time, ReserveError::Late { .. }));
    assert_eq!(lease.get(GPU), 7);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_a_lease_that_grew_splits_shrinks_and_merges_like_any_other() {
    let rig = Rig::loans(20, 10);
    let mut lease = take(&rig.scheduler, gpu(4));
    lease.try_grow(&bundle(&[(GPU, 6), (HOST, 3)])).unwrap();
    let mut part = lease.split(&bundle(&[(GPU, 3), (HOST, 3)])).unwrap();
    lease.shrink(&of(2)).unwrap();
    assert_eq!(lease.shrink(&of(6)), Err(LeaseError::HoldsLess { budget: GPU, held: 5, asked: 6 }));
    part.try_grow(&of(1)).unwrap();
    rig.scheduler.verify().unwrap();
    assert_eq!((lease.amounts(), part.amounts()), (of(5), bundle(&[(GPU, 4), (HOST, 3)])));
    lease.merge(part).unwrap();
    lease.merge(take(&rig.scheduler, gpu(2))).unwrap();
    let mut plain = take(&rig.scheduler, gpu(1));
    assert_eq!((lease.amounts(), free(&rig.scheduler, GPU)), (bundle(&[(GPU, 11), (HOST, 3)]), 8));
    plain.merge(lease).unwrap();
    rig.scheduler.verify().unwrap();
    assert_eq!((plain.get(GPU), free(&rig.scheduler, GPU)), (12, 8));
    drop(plain);
    assert_untouched(&rig.scheduler);
}

/// C7: a lease that was split before it grew, or all of which was split off or shrunk away, grows all the same.
#[test]
fn c7_a_lease_that_holds_nothing_any_more_grows() {
    let rig = Rig::loans(10, 10);
    let mut lease = take(&rig.scheduler, gpu(4));
    let part = lease.split(&of(4)).unwrap();
    lease.try_grow(&of(2)).unwrap();
    lease.shrink(&of(2)).unwrap();
    lease.try_grow(&Amounts::of(HOST, 10)).unwrap();
    rig.scheduler.verify().unwrap();
    assert_eq!((lease.amounts(), part.amounts()), (Amounts::of(HOST, 10), of(4)));
    drop((lease, part));
    assert_untouched(&rig.scheduler);
}

/// C7: the part of a lease that went elsewhere comes back by itself, so a growth that needs it is no deadlock. What an
/// activity was said to hold does not.
#[test]
fn c7_a_part_split_off_comes_back_unless_it_is_of_a_declared_activity() {
    for declared in [false, true] {
        let mut rig = Rig::loans(10, 10);
        let query = Activity::new("query");
        let request = if declared { gpu(4).activity(&query) } else { gpu(4) };
        let mut lease = take(&rig.scheduler, request);
        lease.try_grow(&of(6)).unwrap();
        let part = lease.split(&of(5)).unwrap();
        let mut growth = growing(&mut lease, GPU, 5);
        rig.pass(50 * MS);
        assert_eq!(growth.is_woken(), declared);
        drop(part);
        assert_eq!(end(&mut growth).is_err(), declared);
        drop(growth);
        drop(lease);
        assert_untouched(&rig.scheduler);
    }
}

/// C7: what is handed over counts for whoever has it. Here it makes the difference between two deadlocks.
#[test]
fn c7_merging_leases_of_different_activities_hands_over_what_is_held() {
    let mut rig = Rig::loans(10, 10);
    let (one, two) = (Activity::new("one"), Activity::new("two"));
    let mut of_one = take(&rig.scheduler, gpu(4).activity(&one));
    let of_two = take(&rig.scheduler, gpu(4).activity(&two));
    let mut waits = queued(&rig.scheduler, gpu(5).activity(&two));
    rig.pass(50 * MS);
    assert_waits(&mut waits);
    // Now that one holds all and waits for nothing, two holds nothing and waits.
    of_one.merge(of_two).unwrap();
    rig.scheduler.verify().unwrap();
    rig.pass(50 * MS);
    assert_waits(&mut waits);
    // And now it waits for what it holds itself.
    let mut back = queued(&rig.scheduler, gpu(3).activity(&one));
    rig.pass(11 * MS);
    assert!(matches!(outcome(&mut back), Err(ReserveError::Split { .. })) && !waits.is_woken());
    drop(of_one);
    drop(granted(&mut waits));
    assert_untouched(&rig.scheduler);
}

/// R3: the claim of a waiter does not keep out a holder whose units it waits for: neither a growth nor a nested
/// request.
#[test]
fn r3_a_claim_does_not_keep_a_holder_out_whose_units_the_claimant_waits_for() {
    for nested in [false, true] {
        let rig = strict(10, 10);
        let query = Activity::new("query");
        let mut lease = take(&rig.scheduler, gpu(8).activity(&query));
        let mut claimant = queued(&rig.scheduler, gpu(5).priority(Priority::Critical));
        assert!(rig.scheduler.try_reserve(gpu(1)).is_err(), "the claim is hard");
        if nested {
            drop(take(&rig.scheduler, gpu(2).activity(&query)));
        } else {
            lease.try_grow(&of(2)).unwrap();
        }
        drop(lease);
        drop(granted(&mut claimant));
        assert_untouched(&rig.scheduler);
    }
}

#[test]
fn r3_a_claim_keeps_out_holders_of_something_else() {
    let rig = strict(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, host(5)), take(&rig.scheduler, gpu(8)));
    let mut claimant = queued(&rig.scheduler, gpu(5).priority(Priority::Critical));
    let mut growth = growing(&mut lease, GPU, 2);
    assert!(!growth.is_woken());
    drop(other);
    drop(granted(&mut claimant));
    end(&mut growth).unwrap();
    drop(growth);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// R3, through another holder: W claims GPU and waits for HOST, which B holds, who waits for DISK, which A holds. A
/// claim that kept A from the GPU would keep W waiting for ever, and no verdict would end that, as there is enough of
/// the GPU.
#[test]
fn r3_a_claim_does_not_keep_a_holder_out_on_whom_the_claimant_depends_through_another() {
    let disk = BudgetId::DISK;
    let config = [GPU, HOST, disk].into_iter().fold(Config::new(), |all, id| all.with(Budget::loan(id, 10)));
    let mut rig = Rig::new(config.with_bypass_limit(0));
    let mut a = take(&rig.scheduler, Request::new().amount(disk, 10));
    let mut b = take(&rig.scheduler, host(10));
    let mut claimant = queued(&rig.scheduler, gpu(10).host(1u64).priority(Priority::Critical));
    let mut growth_of_a = growing(&mut a, GPU, 5);
    let mut growth_of_b = growing(&mut b, disk, 1);
    // Only now does the claimant depend on A.
    end(&mut growth_of_a).expect("nothing keeps it");
    drop(growth_of_a);
    drop(a);
    end(&mut growth_of_b).unwrap();
    drop(growth_of_b);
    drop(b);
    rig.pass(MS);
    drop(granted(&mut claimant));
    assert_untouched(&rig.scheduler);
}

/// The same among equals, where nobody inherits anything that would carry a nested request past the claim.
#[test]
fn r3_a_claim_does_not_keep_a_nested_request_out_on_which_the_claimant_depends() {
    let disk = BudgetId::DISK;
    let config = [GPU, HOST, disk].into_iter().fold(Config::new(), |all, id| all.with(Budget::loan(id, 10)));
    let mut rig = Rig::new(config.with_bypass_limit(0));
    let (a, b) = (Activity::new("a"), Activity::new("b"));
    let has_disk = take(&rig.scheduler, Request::new().amount(disk, 10).activity(&a));
    let has_host = take(&rig.scheduler, host(10).activity(&b));
    let mut claimant = queued(&rig.scheduler, gpu(10).host(1u64));
    rig.pass(MS);
    let mut nested_a = queued(&rig.scheduler, gpu(5).activity(&a));
    let mut nested_b = queued(&rig.scheduler, Request::new().amount(disk, 1).activity(&b));
    drop((granted(&mut nested_a), has_disk));
    drop((granted(&mut nested_b), has_host));
    drop(granted(&mut claimant));
    assert_untouched(&rig.scheduler);
}

/// R3: where a claimant stands decides whom its claim binds; whoever it binds no more because it moved is looked at.
#[test]
fn r3_a_holder_goes_when_the_claimant_has_come_to_wait_for_what_it_holds() {
    let disk = BudgetId::DISK;
    let config = [GPU, HOST, disk].into_iter().fold(Config::new(), |all, id| all.with(Budget::loan(id, 10)));
    let mut rig = Rig::new(config.with_bypass_limit(0));
    let mut lease = take(&rig.scheduler, host(10));
    let others = take(&rig.scheduler, gpu(1));
    let all = Request::new().amount(disk, 10).gpu(10u64).host(1u64).priority(Priority::Critical);
    let mut claimant = queued(&rig.scheduler, all);
    let mut growth = growing(&mut lease, disk, 1);
    assert!(!growth.is_woken(), "the claimant waits for the GPU, not for what this holds");
    drop(others);
    end(&mut growth).expect("the claimant waits for this now");
    drop(growth);
    drop(lease);
    rig.pass(MS);
    drop(granted(&mut claimant));
    assert_untouched(&rig.scheduler);
}

/// R3, R8: an inherited rank gives the claim of its owner more weight, and takes it back.
#[test]
fn r3_a_claim_that_falls_back_with_its_rank_lets_those_go_whom_it_kept_out() {
    let rig = strict(10, 10);
    let low = Activity::new("low");
    let lease = take(&rig.scheduler, host(10).activity(&low));
    let other = take(&rig.scheduler, gpu(5));
    // Claims all of the GPU, with the rank of whoever waits for the host memory.
    let mut claims = queued(&rig.scheduler, gpu(10).priority(Priority::Low).activity(&low));
    let critical = queued(&rig.scheduler, host(1).priority(Priority::Critical));
    let mut high = queued(&rig.scheduler, gpu(5).priority(Priority::High));
    drop(critical);
    assert_eq!(granted(&mut high).get(GPU), 5);
    drop((other, lease));
    drop(granted(&mut claims));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_growth_ends_with_the_scheduler_and_the_lease_stays_valid() {
    let rig = Rig::loans(10, 10);
    let (mut lease, other) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, gpu(6)));
    let mut growth = growing(&mut lease, GPU, 3);
    rig.scheduler.close();
    assert!(matches!(end(&mut growth), Err(ReserveError::Closed { .. })));
    drop(growth);
    assert!(matches!(lease.try_grow(&of(1)), Err(TryReserveError::Closed { .. })));
    assert_eq!(lease.get(GPU), 4);
    drop((lease, other));
    assert_untouched(&rig.scheduler);
}
