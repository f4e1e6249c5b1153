//! Elastic amounts (R10): all that is wanted while patience lasts, then what can be had, never less than the floor.

mod common;

use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Path, Priority, Request, RequestError, ReserveError, TryReserveError};
use common::*;

const EXPIRY: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3_600);

fn rung(rung: u8) -> Path {
    Path { alternative: 0, rung }
}

/// A hundred of each loan, and a rate that takes an hour to give anything.
fn rig(bypass_limit: u32) -> Rig {
    let loans = Config::new().with(Budget::loan(GPU, 100)).with(Budget::loan(HOST, 100));
    Rig::new(Config { bypass_limit, ..loans.with(Budget::rate(IO, 1).burst(100)) })
}

fn frees(rig: &Rig) -> [u64; 3] {
    [GPU, HOST, IO].map(|id| free(&rig.scheduler, id))
}

/// 80 of GPU memory, or 40, 20, 10.
fn elastic() -> Request {
    gpu(80).down_to(GPU, 10)
}

#[test]
fn r10_without_patience_it_takes_the_highest_rung_that_fits_at_once() {
    for (held, path, got) in [(20, 0, 80), (21, 1, 40), (60, 1, 40), (61, 2, 20), (81, 3, 10), (90, 3, 10)] {
        let rig = rig(16);
        let held = take(&rig.scheduler, gpu(held));
        let lease = take(&rig.scheduler, elastic());
        assert_eq!((lease.path(), lease.amounts()), (rung(path), bundle(&[(GPU, got)])));
        drop((held, lease));
        assert_untouched(&rig.scheduler);
    }
}

/// R10: never less than the floor, whatever is free.
#[test]
fn r10_below_its_floor_it_waits() {
    let rig = rig(16);
    let mut held = take(&rig.scheduler, gpu(91));
    let refused = rig.scheduler.try_reserve(elastic());
    assert!(matches!(refused, Err(TryReserveError::NotNow(_))));
    let mut waiting = queued(&rig.scheduler, elastic());
    held.shrink(&bundle(&[(GPU, 1)])).unwrap();
    let lease = granted(&mut waiting);
    assert_eq!((lease.path(), lease.get(GPU)), (rung(3), 10));
}

/// R10: until its patience ends it insists on all of it; then the timer alone brings it what can be had.
#[test]
fn r10_it_wants_all_of_it_while_its_patience_lasts_and_takes_less_from_then_on() {
    let mut rig = rig(16);
    let held = take(&rig.scheduler, gpu(50));
    assert!(rig.scheduler.try_reserve(elastic().patience(MS)).is_err(), "who does not wait is never impatient");
    let mut waiting = queued(&rig.scheduler, elastic().patience(20 * MS));
    rig.pass(20 * MS - Duration::from_nanos(1));
    assert_waits(&mut waiting);
    rig.pass(Duration::from_nanos(1));
    let lease = granted(&mut waiting);
    assert_eq!((lease.path(), lease.get(GPU)), (rung(1), 40));
    drop((held, lease));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r10_what_comes_back_before_its_patience_ends_brings_it_all_it_wants() {
    let mut rig = rig(16);
    let held = take(&rig.scheduler, gpu(50));
    let mut waiting = queued(&rig.scheduler, elastic().patience(20 * MS));
    rig.pass(19 * MS);
    drop(held);
    let lease = granted(&mut waiting);
    assert_eq!((lease.path(), lease.get(GPU)), (rung(0), 80));
    rig.pass(HOUR);
    assert_eq!(lease.get(GPU), 80);
}

/// Also when the scheduler task has not come round to say so: any call notices the time.
#[test]
fn r10_a_release_after_its_patience_ended_finds_it_content_with_less() {
    let rig = rig(16);
    let held = [take(&rig.scheduler, gpu(95)), take(&rig.scheduler, host(1))];
    let mut waiting = queued(&rig.scheduler, elastic().patience(20 * MS));
    let [mut on_gpu, _on_host] = held;
    rig.jump(20 * MS);
    on_gpu.shrink(&bundle(&[(GPU, 20)])).unwrap();
    assert_eq!(granted(&mut waiting).path(), rung(2));
}

/// R10: one factor for all elastic amounts; the others stay as they are.
#[test]
fn r10_all_elastic_amounts_go_down_the_ladder_together_and_rigid_ones_stay() {
    let rig = rig(16);
    let held = take(&rig.scheduler, gpu(70));
    let request = gpu(80).host(60u64).io(7u64).down_to(GPU, 10).down_to(HOST, 25);
    let lease = take(&rig.scheduler, request.clone());
    assert_eq!((lease.path(), lease.amounts()), (rung(2), bundle(&[(GPU, 20), (HOST, 25)])));
    assert_eq!(frees(&rig), [10, 75, 93]);
    drop((held, lease));
    let all_but_30 = take(&rig.scheduler, gpu(70));
    let lease = take(&rig.scheduler, request.ladder(0.3));
    assert_eq!((lease.path(), lease.amounts()), (rung(1), bundle(&[(GPU, 24), (HOST, 25)])));
    drop((all_but_30, lease));
}

/// The steep, the flat and the longest ladder end at the floor.
#[test]
fn r10_every_ladder_ends_at_the_floor() {
    for factor in [0.000_001, 0.3, 0.999_999] {
        let rig = rig(16);
        let _held = take(&rig.scheduler, gpu(97));
        let lease = take(&rig.scheduler, gpu(80).down_to(GPU, 3).ladder(factor));
        assert_eq!(lease.get(GPU), 3, "{factor}");
    }
}

/// RROS grants CRITICAL a part of what it asks when there is not enough, without being asked to. Here that is a floor
/// of one, and is said.
#[test]
fn a_critical_request_with_a_floor_of_one_takes_what_is_left_and_one_without_waits() {
    let rig = rig(16);
    let held = take(&rig.scheduler, gpu(97));
    let critical = gpu(50).priority(Priority::Critical);
    assert!(rig.scheduler.try_reserve(critical.clone()).is_err());
    let mut whole = queued(&rig.scheduler, critical.clone());
    let part = take(&rig.scheduler, critical.down_to(GPU, 1).ladder(0.999_999));
    assert!((1..=3).contains(&part.get(GPU)), "{part:?}");
    assert_waits(&mut whole);
    drop(held);
    assert_eq!(granted(&mut whole).get(GPU), 50);
}

/// R7: a rate is charged what was granted, and refunded that.
#[test]
fn c5_r7_an_offer_that_is_dropped_returns_what_it_got_and_not_what_it_wanted() {
    let rig = rig(0);
    let held = take(&rig.scheduler, gpu(100));
    let slow = queued(&rig.scheduler, gpu(80).io(60u64).down_to(GPU, 10).down_to(IO, 10));
    let mut held = held;
    held.shrink(&bundle(&[(GPU, 25)])).unwrap();
    assert!(slow.is_woken());
    assert_eq!((frees(&rig), rig.scheduler.stats().budget(GPU).unwrap().offered), ([5, 100, 85], 20));
    let mut next = queued(&rig.scheduler, gpu(25).io(100u64));
    drop(slow);
    drop((granted(&mut next), held));
    assert_untouched(&rig.scheduler);
}

/// R5 and R10: an offer that expired comes back to the unit; polled again it takes what there is then.
#[test]
fn r5_r7_an_offer_that_expires_returns_what_it_got_and_the_next_may_be_another() {
    let mut rig = rig(16);
    let mut held = take(&rig.scheduler, gpu(100));
    let mut slow = queued(&rig.scheduler, gpu(80).io(60u64).down_to(GPU, 10).down_to(IO, 10));
    held.shrink(&bundle(&[(GPU, 25)])).unwrap();
    let mut rival = queued(&rig.scheduler, gpu(10));
    rig.pass(EXPIRY);
    let rival = granted(&mut rival);
    assert_eq!(frees(&rig), [15, 100, 100]);
    let lease = granted(&mut slow);
    assert_eq!((lease.path(), lease.get(GPU), frees(&rig)), (rung(3), 10, [5, 100, 90]));
    drop((lease, rival, held));
    assert_untouched(&rig.scheduler);
}

/// Patience counts from the first poll, also through an offer that expired.
#[test]
fn r5_r10_patience_that_ended_while_it_was_dormant_has_ended_at_the_next_poll() {
    let mut rig = rig(16);
    let held = take(&rig.scheduler, gpu(100));
    let mut slow = queued(&rig.scheduler, elastic().patience(EXPIRY + MS));
    drop(held);
    let mut rival = queued(&rig.scheduler, gpu(60));
    rig.pass(EXPIRY);
    let rival = granted(&mut rival);
    rig.pass(MS);
    let lease = granted(&mut slow);
    assert_eq!(lease.path(), rung(1));
    drop((rival, lease));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_r10_patience_goes_on_after_a_poll_that_found_nothing() {
    let mut rig = rig(16);
    let held = take(&rig.scheduler, gpu(100));
    let mut slow = queued(&rig.scheduler, elastic().patience(EXPIRY + 5 * MS));
    drop(held);
    let mut rival = queued(&rig.scheduler, gpu(60));
    rig.pass(EXPIRY);
    let _rival = granted(&mut rival);
    assert!(slow.is_woken() && slow.poll().is_pending());
    rig.pass(4 * MS);
    assert_waits(&mut slow);
    rig.pass(MS);
    assert_eq!(granted(&mut slow).path(), rung(1));
}

/// R2: an impatient waiter claims no more than it needs, and those behind it are served when it comes to that.
#[test]
fn r2_r10_a_claim_falls_to_the_floor_when_patience_ends() {
    let mut rig = rig(0);
    let all_host = take(&rig.scheduler, host(100));
    let mut hard = queued(&rig.scheduler, elastic().host(1u64).patience(20 * MS));
    assert!(rig.scheduler.try_reserve(gpu(21)).is_err());
    drop(take(&rig.scheduler, gpu(20)));
    let mut behind = queued(&rig.scheduler, gpu(90));
    rig.pass(20 * MS);
    let lease = granted(&mut behind);
    assert!(rig.scheduler.try_reserve(gpu(1)).is_err());
    drop(all_host);
    assert_eq!(granted(&mut hard).get(GPU), 10);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// R2: what it takes beyond its floor is no more than the claims of higher ranks leave.
#[test]
fn r2_r10_the_rung_leaves_what_higher_ranks_claim() {
    let rig = rig(0);
    let _all_host = take(&rig.scheduler, host(100));
    let _claims = queued(&rig.scheduler, gpu(50).host(1u64));
    let lease = take(&rig.scheduler, elastic());
    assert_eq!((lease.path(), lease.get(GPU)), (rung(1), 40));
}

/// C5 for those that are not ripe, and for those that are: cancelled, late, closed.
#[test]
fn c5_an_elastic_wait_that_ends_leaves_nothing_behind() {
    for patience in [Duration::ZERO, 50 * MS] {
        let mut rig = rig(0);
        let held = take(&rig.scheduler, gpu(95));
        let request = elastic().host(100u64).patience(patience).deadline(10 * MS);
        let dropped = queued(&rig.scheduler, request.clone());
        drop(dropped);
        drop(take(&rig.scheduler, host(100)));
        let mut late = queued(&rig.scheduler, request.clone());
        let mut behind = queued(&rig.scheduler, host(1));
        rig.pass(10 * MS);
        assert!(matches!(outcome(&mut late), Err(ReserveError::Late { .. })));
        drop(granted(&mut behind));
        let mut closed = queued(&rig.scheduler, request);
        rig.scheduler.close();
        assert!(matches!(outcome(&mut closed), Err(ReserveError::Closed { .. })));
        drop(held);
        assert_untouched(&rig.scheduler);
    }
}

/// Each alternative has its own floors; patience and factor are those of the request.
#[test]
fn r10_every_alternative_has_floors_of_its_own() {
    let mut rig = rig(16);
    let _held = take(&rig.scheduler, gpu(80).host(70u64));
    let request = gpu(60).down_to(GPU, 25).or(host(80).down_to(HOST, 10)).patience(5 * MS);
    let mut waiting = queued(&rig.scheduler, request);
    rig.pass(5 * MS);
    let lease = granted(&mut waiting);
    assert_eq!((lease.path(), lease.get(HOST)), (Path { alternative: 1, rung: 2 }, 20));
}

/// C6: it never fits when its floor never does, and waits for a capacity between floor and want.
#[test]
fn c6_r10_what_counts_for_never_is_the_floor() {
    let rig = rig(16);
    let lease = take(&rig.scheduler, gpu(150).down_to(GPU, 100));
    assert_eq!((lease.path(), lease.get(GPU)), (rung(1), 100));
    let never = rig.scheduler.try_reserve(gpu(150).down_to(GPU, 101));
    assert!(matches!(never, Err(TryReserveError::NeverFits(short)) if short.budget == GPU));
    let mut waiting = queued(&rig.scheduler, elastic());
    rig.scheduler.set_capacity(GPU, 10).unwrap();
    assert_waits(&mut waiting);
    rig.scheduler.set_capacity(GPU, 9).unwrap();
    assert!(matches!(outcome(&mut waiting), Err(ReserveError::NeverFits(_))));
}

#[test]
fn bad_floors_and_ladders_are_refused() {
    let above = |floor, asked| Err(RequestError::FloorAbove { budget: GPU, floor, asked });
    assert_eq!(gpu(4).down_to(GPU, 5).check(), above(5, 4));
    assert_eq!(host(4).down_to(GPU, 1).check(), above(1, 0));
    assert_eq!(gpu(4).down_to(GPU, 3).down_to(GPU, 2).check(), above(5, 4));
    assert_eq!(gpu(4).down_to(GPU, 4).check(), Ok(()));
    assert_eq!(Request::new().down_to(GPU, 2).gpu(4u64).check(), Ok(()), "in any order");
    assert_eq!(gpu(4).down_to(GPU, 0).check(), Err(RequestError::Zero { budget: GPU }));
    let overflow = gpu(4).down_to(GPU, u64::MAX).check();
    assert!(matches!(overflow, Err(RequestError::Overflow { budget: BudgetId::GPU, .. })), "{overflow:?}");
    for factor in [0.0, 1.0, -0.5, 1.5, 1e-9, 0.999_999_9, f64::NAN, f64::INFINITY] {
        let bad = elastic().ladder(factor).check();
        assert!(matches!(bad, Err(RequestError::Ladder { .. })), "{factor}: {bad:?}");
    }
    for factor in [0.000_001, 0.5, 0.999_999] {
        assert_eq!(elastic().ladder(factor).check(), Ok(()));
    }
}

/// A floor that is all of it changes nothing.
#[test]
fn a_floor_at_the_amount_is_a_rigid_amount() {
    let mut rig = rig(16);
    let held = take(&rig.scheduler, gpu(50));
    let mut waiting = queued(&rig.scheduler, gpu(60).down_to(GPU, 60).patience(MS));
    rig.pass(HOUR);
    assert_waits(&mut waiting);
    drop(held);
    assert_eq!(granted(&mut waiting).path(), rung(0));
}

#[test]
fn r7_no_rung_leads_a_rate_further_into_debt_than_it_may_go() {
    let rig = rig(16);
    assert!(matches!(rig.scheduler.try_reserve(io(150)), Err(TryReserveError::NeverFits(_))));
    let _lease = take(&rig.scheduler, io(150).down_to(IO, 50));
    // 75 were granted, so 25 are left.
    drop(take(&rig.scheduler, io(25)));
}

#[test]
fn c3_r2_nobody_waits_for_the_claim_of_one_that_cannot_be_served_before_its_patience_ends() {
    let mut rig = rig(0);
    let held = take(&rig.scheduler, gpu(1));
    let _impossible_yet = queued(&rig.scheduler, gpu(150).down_to(GPU, 10).patience(HOUR));
    drop(held);
    rig.pass(MS);
    assert_eq!(free(&rig.scheduler, GPU), 100);
    drop(take(&rig.scheduler, gpu(1)));
}
