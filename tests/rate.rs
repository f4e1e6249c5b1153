//! Budgets of time (R7): charged when granted, refilled by the clock, never lent.

mod common;

use std::time::Duration;

use bursar::{Budget, CapacityError, Config, ConfigError, Lease, Priority, ReserveError, Scheduler, TryReserveError};
use common::*;
use tokio_test::task;

const SECOND: Duration = Duration::from_secs(1);

/// GPU memory to lend, I/O at `per_second` with `burst`.
fn metered(per_second: u64, burst: u64, max_debt: u64) -> Rig {
    let io = Budget::rate(IO, per_second).burst(burst).max_debt(max_debt);
    Rig::new(Config::new().with(Budget::loan(GPU, 10)).with(io))
}

/// Spends `units` of I/O.
#[track_caller]
fn spend(rig: &Rig, units: u64) {
    drop(take(&rig.scheduler, io(units)));
}

#[test]
fn r7_a_rate_is_spent_by_the_grant_and_comes_back_with_the_clock_alone() {
    let mut rig = metered(10, 10, 0);
    let lease: Lease = take(&rig.scheduler, gpu(1).io(6u64));
    assert_eq!(free(&rig.scheduler, IO), 4);
    drop(lease);
    assert_eq!(free(&rig.scheduler, IO), 4, "dropping the lease gives no time back");
    rig.pass(300 * MS);
    assert_eq!(free(&rig.scheduler, IO), 7);
    rig.pass(60 * SECOND);
    assert_eq!(free(&rig.scheduler, IO), 10, "never above the burst");
    rig.scheduler.verify().unwrap();
}

#[test]
fn r7_a_waiter_is_granted_at_the_very_moment_at_which_its_units_are_there() {
    let mut rig = metered(10, 10, 0);
    spend(&rig, 10);
    let mut waiting = queued(&rig.scheduler, io(5));
    rig.pass(500 * MS - MS);
    assert_waits(&mut waiting);
    rig.pass(MS);
    drop(granted(&mut waiting));
    assert_eq!(free(&rig.scheduler, IO), 0);
}

#[test]
fn r7_a_rate_is_not_charged_while_a_loan_is_short() {
    let rig = metered(10, 10, 0);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(1).io(10u64));
    assert_eq!(free(&rig.scheduler, IO), 10);
    spend(&rig, 10);
    drop(held);
    assert_waits(&mut waiting);
    assert_eq!(free(&rig.scheduler, GPU), 10, "and no loan is held while the rate is short");
}

#[test]
fn c2_a_bundle_that_waits_for_a_rate_holds_none_of_its_loans() {
    let mut rig = metered(10, 10, 0);
    spend(&rig, 10);
    let mut waiting = queued(&rig.scheduler, gpu(10).io(10u64));
    let lease = take(&rig.scheduler, gpu(10).priority(Priority::Idle));
    rig.pass(SECOND);
    assert_waits(&mut waiting);
    drop(lease);
    drop(granted(&mut waiting));
    rig.scheduler.verify().unwrap();
}

#[test]
fn r7_a_request_above_the_burst_is_granted_when_the_bucket_is_full_and_the_rest_is_debt() {
    let mut rig = metered(10, 10, 20);
    spend(&rig, 1);
    let mut large = queued(&rig.scheduler, io(30));
    rig.pass(99 * MS);
    assert_waits(&mut large);
    rig.pass(MS);
    drop(granted(&mut large));
    assert_eq!(free(&rig.scheduler, IO), 0);
    let mut next = queued(&rig.scheduler, io(1));
    rig.pass(2 * SECOND + 99 * MS);
    assert_waits(&mut next);
    rig.pass(MS);
    drop(granted(&mut next));
    rig.scheduler.verify().unwrap();
}

#[test]
fn p22_more_than_burst_and_debt_never_fits() {
    let rig = metered(10, 10, 20);
    let refused = task::spawn(rig.scheduler.reserve(io(31))).poll();
    let std::task::Poll::Ready(Err(ReserveError::NeverFits(short))) = refused else { panic!("{refused:?}") };
    assert_eq!((short.budget, short.asked, short.free, short.limit), (IO, 31, 10, 30));
    assert!(matches!(rig.scheduler.try_reserve(io(31)), Err(TryReserveError::NeverFits(_))));
}

#[test]
fn r7_a_cancelled_offer_is_refunded_and_a_lease_never() {
    let rig = metered(10, 10, 0);
    let held = take(&rig.scheduler, gpu(10));
    let cancelled = queued(&rig.scheduler, gpu(5).io(8u64));
    drop(held);
    assert_eq!(free(&rig.scheduler, IO), 2);
    rig.jump(300 * MS);
    assert_eq!(free(&rig.scheduler, IO), 5);
    drop(cancelled);
    assert_eq!(free(&rig.scheduler, IO), 10, "8 came back, and no more than the burst stays");
    let mut lease = take(&rig.scheduler, gpu(5).io(8u64));
    drop(lease.split(&bundle(&[(GPU, 2)])).unwrap());
    lease.shrink(&bundle(&[(GPU, 2)])).unwrap();
    drop(lease);
    assert_eq!(free(&rig.scheduler, IO), 2);
    rig.scheduler.verify().unwrap();
}

/// C3 on a rate, in strict order: who fits now does not pass who came before.
#[test]
fn c3_in_strict_order_a_small_request_does_not_pass_a_large_one_that_waits_for_the_rate() {
    let mut rig = Rig::new(Config { bypass_limit: 0, ..Config::new().with(Budget::rate(IO, 10)) });
    spend(&rig, 5);
    let mut large = queued(&rig.scheduler, io(10));
    let mut small = queued(&rig.scheduler, io(1));
    assert!(rig.scheduler.try_reserve(io(1)).is_err());
    rig.pass(400 * MS);
    assert_waits(&mut small);
    rig.pass(100 * MS);
    drop(granted(&mut large));
    assert_waits(&mut small);
    rig.pass(100 * MS);
    drop(granted(&mut small));
}

/// R6 for rates: whatever is asked when, no more than the burst and the time that passed is ever granted.
#[test]
fn r6_no_sequence_of_grants_exceeds_the_burst_and_the_time_that_passed() {
    for seed in 0..10 {
        let (per_second, burst) = (7, 20);
        let mut rig = metered(per_second, burst, 0);
        let mut dice = Dice(seed);
        let (mut spent, mut elapsed) = (0, Duration::ZERO);
        let mut waiting: Vec<(u64, Waiting)> = Vec::new();
        for _ in 0..300 {
            let units = 1 + dice.below(burst);
            match dice.below(4) {
                0 => spent += rig.scheduler.try_reserve(io(units)).map_or(0, |_| units),
                1 if waiting.len() < 4 => {
                    let mut reservation = task::spawn(rig.scheduler.reserve(io(units)));
                    if reservation.poll().is_ready() { spent += units } else { waiting.push((units, reservation)) }
                }
                2 => drop(waiting.pop()),
                _ => {
                    let step = dice.below(900) as u32 * MS;
                    elapsed += step;
                    rig.pass(step);
                }
            }
            waiting.retain_mut(|(units, reservation)| {
                let ready = reservation.is_woken() && reservation.poll().is_ready();
                spent += if ready { *units } else { 0 };
                !ready
            });
            let most = burst + u64::try_from(elapsed.as_nanos()).unwrap() * per_second / 1_000_000_000;
            assert!(spent <= most, "seed {seed}: {spent} granted, {most} at most");
            assert_eq!(rig.scheduler.stats().budget(IO).unwrap().granted, spent);
            rig.scheduler.verify().unwrap();
        }
    }
}

/// A thousand grants at 7 a second take 1,000 / 7 seconds: no fraction of a unit is lost, a late alarm costs nothing.
#[tokio::test(start_paused = true)]
async fn a_metered_stream_runs_at_exactly_its_rate() {
    let scheduler = Scheduler::builder().budget(Budget::rate(IO, 7).burst(10)).spawn().unwrap();
    scheduler.reserve(io(10)).await.map(drop).unwrap();
    let started = tokio::time::Instant::now();
    for _ in 0..1_000 {
        scheduler.reserve(io(1)).await.map(drop).unwrap();
    }
    let (elapsed, exact) = (started.elapsed().as_nanos(), 1_000 * 1_000_000_000u128 / 7);
    assert!((exact..=exact + MS.as_nanos()).contains(&elapsed), "{elapsed} ns instead of {exact}");
}

#[test]
fn p10_a_faster_rate_grants_sooner_and_a_slower_one_later() {
    let mut rig = metered(10, 10, 0);
    spend(&rig, 10);
    let mut first = queued(&rig.scheduler, io(10));
    rig.pass(500 * MS);
    rig.scheduler.set_rate(IO, 100, 10).unwrap();
    rig.pass(50 * MS);
    drop(granted(&mut first));
    let mut second = queued(&rig.scheduler, io(10));
    rig.scheduler.set_rate(IO, 1, 10).unwrap();
    rig.pass(9_999 * MS);
    assert_waits(&mut second);
    rig.pass(MS);
    drop(granted(&mut second));
    rig.scheduler.verify().unwrap();
}

#[test]
fn p10_a_larger_burst_lets_a_waiter_in_and_a_smaller_one_ends_it() {
    let rig = metered(10, 10, 5);
    let mut waiting = queued_after_spending(&rig, 15);
    rig.scheduler.set_rate(IO, 10, 9).unwrap();
    assert!(matches!(outcome(&mut waiting), Err(ReserveError::NeverFits(short)) if short.limit == 14));
    rig.scheduler.set_rate(IO, 10, 40).unwrap();
    drop(queued(&rig.scheduler, io(45)));
    rig.scheduler.verify().unwrap();
}

fn queued_after_spending(rig: &Rig, units: u64) -> Waiting {
    spend(rig, 10);
    queued(&rig.scheduler, io(units))
}

#[test]
fn a_change_of_the_wrong_kind_is_refused_and_changes_nothing() {
    let rig = metered(10, 10, 0);
    assert!(matches!(rig.scheduler.set_capacity(IO, 5), Err(CapacityError::WrongKind { budget: IO, .. })));
    assert!(matches!(rig.scheduler.set_rate(GPU, 5, 5), Err(CapacityError::WrongKind { budget: GPU, .. })));
    assert_eq!(rig.scheduler.set_rate(IO, 0, 5), Err(CapacityError::Zero { budget: IO }));
    assert_eq!(rig.scheduler.set_rate(IO, 5, 0), Err(CapacityError::Zero { budget: IO }));
    assert!(matches!(rig.scheduler.set_rate(IO, u64::MAX, 5), Err(CapacityError::TooLarge { .. })));
    assert_eq!((free(&rig.scheduler, IO), free(&rig.scheduler, GPU)), (10, 10));
}

#[test]
fn the_largest_rate_and_debt_there_can_be_do_not_overflow() {
    let most = i64::MAX as u64;
    let mut rig = metered(most, most / 2, most / 2);
    spend(&rig, most / 2);
    rig.pass(1_000 * SECOND);
    assert_eq!(free(&rig.scheduler, IO), most / 2);
    spend(&rig, most - 1);
    rig.pass(3_600 * SECOND);
    spend(&rig, most / 2);
    rig.scheduler.verify().unwrap();
}

#[test]
fn a_larger_burst_over_the_largest_debt_there_can_be_with_it_does_not_overflow() {
    let most = i64::MAX as u64;
    let mut rig = metered(1, 1, most / 2);
    spend(&rig, 1 + most / 2);
    rig.scheduler.set_rate(IO, most, most - most / 2).unwrap();
    assert_eq!(free(&rig.scheduler, IO), 0, "the debt is still there");
    rig.pass(1_500 * MS);
    assert_eq!(free(&rig.scheduler, IO), most - most / 2, "paid, and full");
    rig.scheduler.verify().unwrap();
}

/// From a debt beyond what burst and debt may come to, the way back to a full bucket cannot be counted.
#[test]
fn a_burst_that_with_the_largest_debt_is_more_than_can_be_counted_is_refused() {
    let most = i64::MAX as u64;
    let mut rig = metered(1, 1, most - 1);
    spend(&rig, most);
    let refused = rig.scheduler.set_rate(IO, most / 4, most / 4);
    rig.pass(4_500 * MS);
    assert!(free(&rig.scheduler, IO) <= 1);
    rig.scheduler.verify().unwrap();
    let text = "budget io: burst + max_debt of 11529215046068469757 is more than 2^63 - 1";
    assert_eq!(refused.unwrap_err().to_string(), text);
}

#[test]
fn a_rate_can_be_changed_to_whatever_a_configuration_may_say_and_to_nothing_else() {
    let most = i64::MAX as u64;
    let figures = [0, 1, most / 4, most / 4 + 1, most - 1, most, most + 1, u64::MAX];
    for max_debt in [0, 1, most / 2, most - 1] {
        let rig = metered(1, 1, max_debt);
        for (per_second, burst) in figures.iter().flat_map(|&rate| figures.map(|burst| (rate, burst))) {
            let config = Config::new().with(Budget::rate(IO, per_second).burst(burst).max_debt(max_debt));
            let (said, changed) = (config.check(), rig.scheduler.set_rate(IO, per_second, burst));
            let same = match (&said, &changed) {
                (Ok(()), Ok(())) => true,
                (Err(ConfigError::Zero { .. }), Err(CapacityError::Zero { budget })) => *budget == IO,
                (
                    Err(ConfigError::TooLarge { what, value, .. }),
                    Err(CapacityError::TooLarge { budget, what: live_what, value: live_value }),
                ) => (*budget, live_what, live_value) == (IO, what, value),
                _ => false,
            };
            assert!(same, "{per_second}, {burst}, {max_debt}: {said:?} in a configuration, {changed:?} live");
        }
        rig.scheduler.verify().unwrap();
    }
}
