//! Requests that can be served in several ways (R10): they wait for all of them at once and take one.

mod common;

use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Path, Priority, Request, RequestError, ReserveError, TryReserveError};
use common::*;

const EXPIRY: Duration = Duration::from_millis(100);

fn path(alternative: u8) -> Path {
    Path { alternative, rung: 0 }
}

/// Ten of each loan, and a rate that takes an hour to give anything. With a limit of zero claims are hard at once.
fn rig(bypass_limit: u32) -> Rig {
    let loans = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    Rig::new(Config { bypass_limit, ..loans.with(Budget::rate(IO, 1).burst(10)) })
}

fn frees(rig: &Rig) -> [u64; 3] {
    [GPU, HOST, IO].map(|id| free(&rig.scheduler, id))
}

#[test]
fn r10_the_first_alternative_that_fits_is_granted_at_once() {
    let rig = rig(16);
    let request = gpu(6).or(host(6)).or(gpu(1).host(1u64));
    let leases = [0, 1, 2].map(|at| {
        let lease = take(&rig.scheduler, request.clone());
        assert_eq!(lease.path(), path(at));
        lease
    });
    assert_eq!(frees(&rig), [3, 3, 10]);
    drop(leases);
    let lease = block_on(rig.scheduler.reserve(request)).unwrap();
    assert_eq!((lease.path(), lease.amounts()), (path(0), bundle(&[(GPU, 6)])));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// It stands in a line for each of its alternatives, takes the first that can be had, and is gone from all of them.
#[test]
fn r10_whichever_comes_free_first_is_taken_and_only_that() {
    for first in [0, 1, 2] {
        let rig = rig(16);
        let mut held = [gpu(10), host(10), io(10)].map(|request| Some(take(&rig.scheduler, request)));
        let mut any = queued(&rig.scheduler, gpu(3).or(host(4)).or(gpu(5).host(5u64)));
        held[first.min(1)] = None;
        let lease = granted(&mut any);
        assert_eq!(lease.path(), path(first.min(1) as u8));
        held = [None, None, None];
        assert_eq!(frees(&rig)[..2], [[7, 10], [10, 6], [10, 6]][first]);
        drop((lease, held));
        assert_untouched(&rig.scheduler);
    }
}

/// R10: what comes free in one turn is chosen from by preference, whatever budget it is.
#[test]
fn r10_preference_decides_between_alternatives_that_come_free_in_one_turn() {
    for (request, alternative) in [(gpu(2).or(host(2)), 0), (host(2).or(gpu(2)), 0)] {
        let rig = rig(16);
        let held = take(&rig.scheduler, gpu(10).host(10u64));
        let mut either = queued(&rig.scheduler, request.clone());
        drop(held);
        let lease = granted(&mut either);
        assert_eq!((lease.path(), &lease.amounts()), (path(alternative), request.amounts()));
    }
}

/// A rank goes before a preference: the second waiter gets what the first leaves.
#[test]
fn r10_two_waiters_for_the_same_two_get_one_each() {
    let rig = rig(16);
    let held = take(&rig.scheduler, gpu(10).host(10u64));
    let mut first = queued(&rig.scheduler, gpu(10).or(host(10)));
    let mut second = queued(&rig.scheduler, gpu(10).or(host(10)));
    let mut urgent = queued(&rig.scheduler, host(10).or(gpu(10)).priority(Priority::High));
    drop(held);
    let leases = (granted(&mut urgent), granted(&mut first));
    assert_eq!((leases.0.path(), leases.0.get(HOST)), (path(0), 10));
    assert_eq!((leases.1.path(), leases.1.get(GPU)), (path(0), 10));
    assert_waits(&mut second);
    drop(leases.0);
    assert_eq!(granted(&mut second).path(), path(1));
    drop(leases.1);
    assert_untouched(&rig.scheduler);
}

/// R10: what can never be had is skipped; a larger capacity makes it possible and is used in the same call.
#[test]
fn r10_an_alternative_that_can_never_fit_is_skipped_and_revived_by_a_larger_capacity() {
    let rig = rig(16);
    let request = gpu(12).or(host(3));
    assert_eq!(take(&rig.scheduler, request.clone()).path(), path(1));
    let all_host = take(&rig.scheduler, host(10));
    let mut waiting = queued(&rig.scheduler, request);
    rig.scheduler.set_capacity(GPU, 11).unwrap();
    assert_waits(&mut waiting);
    rig.scheduler.set_capacity(GPU, 12).unwrap();
    let lease = granted(&mut waiting);
    assert_eq!((lease.path(), lease.get(GPU)), (path(0), 12));
    drop((lease, all_host));
    assert_untouched(&rig.scheduler);
}

/// C6: never is said when the last way is gone, and not before.
#[test]
fn r10_c6_a_request_never_fits_when_none_of_its_alternatives_ever_can() {
    let rig = rig(16);
    let refused = rig.scheduler.try_reserve(gpu(11).or(host(12)));
    assert!(matches!(refused, Err(TryReserveError::NeverFits(short)) if (short.budget, short.asked) == (GPU, 11)));
    let unknown = rig.scheduler.try_reserve(gpu(1).or(Request::new().disk(1u64)));
    assert!(matches!(
        unknown,
        Err(TryReserveError::Invalid(RequestError::UnknownBudget { budget: BudgetId::DISK, .. }))
    ));
    let _held = take(&rig.scheduler, gpu(10).host(10u64));
    let mut waiting = queued(&rig.scheduler, gpu(8).or(host(8)));
    rig.scheduler.set_capacity(GPU, 7).unwrap();
    assert_waits(&mut waiting);
    rig.scheduler.set_capacity(HOST, 7).unwrap();
    assert!(matches!(outcome(&mut waiting), Err(ReserveError::NeverFits(short)) if short.budget == GPU));
}

/// R10: the claim is on the alternative that lacks the smallest part, the preferred one among equals.
#[test]
fn r10_r2_at_most_one_alternative_carries_the_hard_claim() {
    for (on_gpu, on_host, claimed) in [(5, 4, HOST), (4, 5, GPU), (5, 5, GPU)] {
        let rig = rig(0);
        let _held = take(&rig.scheduler, gpu(on_gpu).host(on_host));
        let _either = queued(&rig.scheduler, gpu(8).or(host(8)));
        for id in [GPU, HOST] {
            let passed = rig.scheduler.try_reserve(ask(&[(id, 1)]));
            assert_eq!(passed.is_err(), id == claimed, "{id} with {on_gpu} and {on_host} held");
        }
    }
}

/// R10: a claim on what has become impossible goes over to what is left, and those behind it are served.
#[test]
fn r10_r2_a_claim_moves_on_when_its_alternative_becomes_impossible() {
    let rig = rig(0);
    let _held = take(&rig.scheduler, gpu(4).host(5u64));
    let _either = queued(&rig.scheduler, gpu(8).or(host(8)));
    let mut behind = queued(&rig.scheduler, gpu(1));
    drop(take(&rig.scheduler, host(1)));
    rig.scheduler.set_capacity(GPU, 7).unwrap();
    drop(granted(&mut behind));
    assert!(rig.scheduler.try_reserve(host(1)).is_err());
}

/// C5: a grant by one way withdraws the claim on the other, and those behind that are served in the same call.
#[test]
fn r10_r2_a_grant_by_another_alternative_withdraws_the_claim() {
    let rig = rig(0);
    let (_gpu_held, host_held) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, host(8)));
    let mut either = queued(&rig.scheduler, gpu(8).or(host(8)));
    let mut behind = queued(&rig.scheduler, gpu(6));
    assert_waits(&mut behind);
    drop(host_held);
    let leases = (granted(&mut either), granted(&mut behind));
    assert_eq!((leases.0.path(), frees(&rig)), (path(1), [0, 2, 10]));
}

/// C5 in every state, with a rate in the way that was granted: all comes back, and the next is served in that call.
#[test]
fn c5_r7_dropping_it_in_any_state_returns_exactly_what_it_had() {
    let request = gpu(9).or(host(6).io(7u64));
    let queued_only = rig(0);
    let held = take(&queued_only.scheduler, gpu(10).host(10u64));
    drop((queued(&queued_only.scheduler, request.clone()), held));
    assert_untouched(&queued_only.scheduler);

    let offered = rig(0);
    let (gpu_held, host_held) = (take(&offered.scheduler, gpu(2)), take(&offered.scheduler, host(5)));
    let either = queued(&offered.scheduler, request.clone());
    drop(host_held);
    assert!(either.is_woken());
    assert_eq!(frees(&offered), [8, 4, 3]);
    assert_eq!(offered.scheduler.stats().budget(HOST).unwrap().offered, 6);
    let mut next = queued(&offered.scheduler, host(10).io(10u64));
    drop(either);
    drop((granted(&mut next), gpu_held));
    assert_untouched(&offered.scheduler);

    let mut dormant = rig(0);
    let (gpu_held, host_held) = (take(&dormant.scheduler, gpu(2)), take(&dormant.scheduler, host(5)));
    let either = queued(&dormant.scheduler, request);
    drop(host_held);
    let mut rival = queued(&dormant.scheduler, host(10).io(10u64));
    dormant.pass(EXPIRY);
    let rival = granted(&mut rival);
    assert_eq!(frees(&dormant), [8, 0, 0]);
    drop((either, rival, gpu_held));
    assert_untouched(&dormant.scheduler);
}

/// R5: polled again, it asks for all of its alternatives again, and may get another one.
#[test]
fn r5_r10_after_an_expired_offer_it_asks_for_every_alternative_again() {
    let mut rig = rig(16);
    let (gpu_held, host_held) = (take(&rig.scheduler, gpu(10)), take(&rig.scheduler, host(10)));
    let mut either = queued(&rig.scheduler, gpu(6).or(host(6).io(7u64)));
    drop(host_held);
    let mut rival = queued(&rig.scheduler, host(6));
    rig.pass(EXPIRY);
    let rival = granted(&mut rival);
    assert_eq!(frees(&rig), [0, 4, 10]);
    assert!(either.poll().is_pending());
    drop(gpu_held);
    let lease = granted(&mut either);
    assert_eq!((lease.path(), lease.amounts()), (path(0), bundle(&[(GPU, 6)])));
    drop((lease, rival));
    assert_untouched(&rig.scheduler);
}

/// R5: at the poll itself too, when one of them is free by then.
#[test]
fn r5_r10_after_an_expired_offer_the_poll_takes_what_is_free() {
    let mut rig = rig(16);
    let (gpu_held, host_held) = (take(&rig.scheduler, gpu(10)), take(&rig.scheduler, host(10)));
    let mut either = queued(&rig.scheduler, gpu(6).or(host(6)));
    drop(host_held);
    let mut rival = queued(&rig.scheduler, host(6));
    rig.pass(EXPIRY);
    let rival = granted(&mut rival);
    drop(gpu_held);
    assert_eq!(granted(&mut either).path(), path(0));
    drop(rival);
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_on_close_an_offer_of_an_alternative_stays_acceptable_and_the_others_end() {
    let rig = rig(16);
    let (_gpu_held, host_held) = (take(&rig.scheduler, gpu(10)), take(&rig.scheduler, host(10)));
    let mut offered = queued(&rig.scheduler, gpu(6).or(host(6)));
    let mut waiting = queued(&rig.scheduler, gpu(6).or(host(6)));
    drop(host_held);
    rig.scheduler.close();
    assert!(matches!(outcome(&mut waiting), Err(ReserveError::Closed { .. })));
    let lease = granted(&mut offered);
    assert_eq!((lease.path(), lease.get(HOST)), (path(1), 6));
}

/// C6: what an ended wait names is what it was asked of its first alternative that stood in line.
#[test]
fn c6_a_late_request_names_its_first_possible_alternative() {
    let mut rig = rig(16);
    let _held = take(&rig.scheduler, gpu(10).host(10u64));
    let mut late = queued(&rig.scheduler, gpu(11).or(host(3)).or(gpu(4)).deadline(MS));
    rig.pass(MS);
    let Err(ReserveError::Late { shortage, waited }) = outcome(&mut late) else { panic!("in time") };
    assert_eq!((shortage.budget, shortage.asked, waited), (HOST, 3, MS));
}

#[test]
fn c6_a_refused_attempt_names_what_the_alternative_asked_that_was_blocked() {
    let rig = rig(16);
    let _held = take(&rig.scheduler, host(10));
    let refused = rig.scheduler.try_reserve(gpu(11).or(host(3)));
    assert!(matches!(refused, Err(TryReserveError::NotNow(short)) if (short.budget, short.asked) == (HOST, 3)));
    let late = block_on(rig.scheduler.reserve(gpu(11).or(host(3)).deadline(Duration::ZERO)));
    let Err(ReserveError::Late { shortage, .. }) = late else { panic!("in time") };
    assert_eq!((shortage.budget, shortage.asked), (HOST, 3));
}

#[test]
fn a_label_shows_what_was_granted_and_not_what_was_asked_first() {
    let rig = rig(16);
    let held = take(&rig.scheduler, gpu(10).host(10u64));
    let mut either = queued(&rig.scheduler, gpu(6).or(host(4)).label("either"));
    drop(held);
    let all_gpu = granted(&mut either);
    let second = take(&rig.scheduler, gpu(6).or(host(4)).label("second"));
    let holders = rig.scheduler.holders(HOST);
    assert_eq!(holders.iter().map(|holder| holder.label.as_ref()).collect::<Vec<_>>(), ["second"]);
    drop((all_gpu, second));
    assert_untouched(&rig.scheduler);
}

/// The amounts of a lease change and end like those of any other.
#[test]
fn a_lease_of_an_alternative_is_split_merged_and_shrunk_like_any_other() {
    let rig = rig(16);
    let mut lease = take(&rig.scheduler, gpu(11).or(host(6).io(2u64)));
    let part = lease.split(&bundle(&[(HOST, 2)])).unwrap();
    lease.shrink(&bundle(&[(HOST, 1)])).unwrap();
    assert_eq!((lease.get(HOST), part.get(HOST), lease.path()), (3, 2, path(1)));
    lease.merge(part).unwrap();
    lease.shrink(&bundle(&[(HOST, 5)])).unwrap();
    assert_eq!(frees(&rig), [10, 10, 8]);
    // Its place is free again, and says nothing of it to the next.
    drop(lease);
    assert_eq!(take(&rig.scheduler, gpu(1).host(1u64)).path(), path(0));
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_part_of_a_lease_tells_how_it_was_chosen() {
    let rig = rig(16);
    let mut lease = take(&rig.scheduler, gpu(11).or(host(6)));
    let part = lease.split(&bundle(&[(HOST, 2)])).unwrap();
    assert_eq!(part.path(), lease.path());
}

/// R4 and R1: every budget of every alternative has its flag, and none when it is gone.
#[test]
fn r1_the_flags_of_all_alternatives_are_set_and_cleared() {
    let rig = rig(0);
    let held = take(&rig.scheduler, gpu(5).host(5u64));
    let either = queued(&rig.scheduler, gpu(8).or(host(8).io(1u64)));
    let waiting = [GPU, HOST, IO].map(|id| rig.scheduler.stats().budget(id).unwrap().waiting);
    assert_eq!(waiting, [1, 1, 1]);
    drop(either);
    let waiting = [GPU, HOST, IO].map(|id| rig.scheduler.stats().budget(id).unwrap().waiting);
    assert_eq!(waiting, [0, 0, 0]);
    drop(held);
    assert_untouched(&rig.scheduler);
}

#[test]
fn there_are_at_most_eight_alternatives_and_a_bad_one_spoils_the_request() {
    let ways = |count: u64| (2..=count).fold(gpu(1), |request, units| request.or(gpu(units)));
    assert_eq!(ways(8).check(), Ok(()));
    assert_eq!(ways(9).check(), Err(RequestError::TooManyAlternatives { limit: 8 }));
    assert_eq!(ways(4).or(ways(4)).check(), Ok(()));
    assert_eq!(ways(4).or(ways(5)).check(), Err(RequestError::TooManyAlternatives { limit: 8 }));
    assert_eq!(gpu(1).or(host(0)).check(), Err(RequestError::Zero { budget: HOST }));
    assert_eq!(gpu(1).or(Request::new()).check(), Err(RequestError::Empty));
    assert_eq!(Request::new().or(gpu(1)).check(), Err(RequestError::Empty));
    let above = Err(RequestError::FloorAbove { budget: HOST, floor: 3, asked: 2 });
    assert_eq!(gpu(1).or(host(2).down_to(HOST, 3)).check(), above);
    let rig = rig(16);
    assert!(matches!(
        rig.scheduler.try_reserve(ways(9)),
        Err(TryReserveError::Invalid(RequestError::TooManyAlternatives { .. }))
    ));
    assert_untouched(&rig.scheduler);
}

/// The alternatives of an alternative follow it, and nothing else of it counts.
#[test]
fn an_alternative_brings_its_own_alternatives_and_nothing_else() {
    let rig = rig(16);
    let other = host(11).or(host(2)).priority(Priority::Idle).deadline(Duration::ZERO).label("other").module("other");
    let request = gpu(11).or(other).or(gpu(3));
    let lease = take(&rig.scheduler, request);
    assert_eq!((lease.path(), lease.get(HOST), lease.priority()), (path(2), 2, Priority::Normal));
    assert_eq!(lease.label(), None);
}
