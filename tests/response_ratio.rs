//! Highest response ratio next (`Order::ResponseRatio`): short holds go first, until long ones have waited in
//! proportion.

mod common;

use std::time::Duration;

use bursar::{Activity, Amounts, Budget, Config, Next, Order, Priority, Request};
use common::*;
use tokio_test::task;

/// Eight units each, and nobody is passed too often unless a test says so.
fn config() -> Config {
    let loans = Config::new().with(Budget::loan(GPU, 8)).with(Budget::loan(HOST, 8));
    Config { order: Order::ResponseRatio, bypass_limit: 1_000, bypass_time: Duration::from_secs(3_600), ..loans }
}

/// All of the GPU, for about so long.
fn whole(hold: Duration) -> Request {
    gpu(8).expected_hold(hold)
}

/// Releases a lease and says which of the waiters got what it held.
#[track_caller]
fn winner(held: bursar::Lease, waiting: &mut [&mut Waiting]) -> usize {
    drop(held);
    let woken: Vec<_> = (0..waiting.len()).filter(|&at| waiting[at].is_woken()).collect();
    assert_eq!(woken.len(), 1, "one of them fits");
    woken[0]
}

#[test]
fn of_those_who_waited_equally_long_the_shorter_goes_first() {
    let mut rig = Rig::new(config());
    let held = take(&rig.scheduler, gpu(8));
    let mut long = queued(&rig.scheduler, whole(100 * MS));
    let mut short = queued(&rig.scheduler, whole(10 * MS));
    rig.pass(MS);
    assert_eq!(winner(held, &mut [&mut long, &mut short]), 1);
    drop(granted(&mut short));
    drop(granted(&mut long));
    assert_untouched(&rig.scheduler);
}

/// The long one has waited 100 ms for a hold of 100 ms when the short one arrives: ratios of 2 and more for the one, of
/// (t + 10) / 10 for the other. They cross after a ninth of 100 ms.
#[test]
fn a_long_one_goes_first_once_it_has_waited_long_in_proportion() {
    let cross = Duration::from_nanos(11_111_111);
    for (wait, expected) in [(cross, 0), (cross + Duration::from_nanos(1), 1)] {
        let mut rig = Rig::new(config());
        let held = take(&rig.scheduler, gpu(8));
        let mut long = queued(&rig.scheduler, whole(100 * MS));
        rig.pass(100 * MS);
        let mut short = queued(&rig.scheduler, whole(10 * MS));
        rig.pass(wait);
        assert_eq!(winner(held, &mut [&mut long, &mut short]), expected, "{wait:?}");
    }
}

#[test]
fn equal_ratios_go_by_arrival() {
    let mut rig = Rig::new(config());
    let held = take(&rig.scheduler, gpu(8));
    let mut first = queued(&rig.scheduler, whole(100 * MS));
    rig.pass(90 * MS);
    let mut second = queued(&rig.scheduler, whole(10 * MS));
    rig.pass(10 * MS);
    assert_eq!(winner(held, &mut [&mut first, &mut second]), 0);
}

#[test]
fn who_does_not_say_how_long_it_holds_counts_as_a_tenth_of_a_second() {
    for (hold, expected) in [(99 * MS, 1), (101 * MS, 0)] {
        let mut rig = Rig::new(config());
        let held = take(&rig.scheduler, gpu(8));
        let mut silent = queued(&rig.scheduler, gpu(8));
        let mut says = queued(&rig.scheduler, whole(hold));
        rig.pass(5 * MS);
        assert_eq!(winner(held, &mut [&mut silent, &mut says]), expected, "{hold:?}");
    }
}

/// A deadline ends a wait, and is no reason to go first.
#[test]
fn deadlines_do_not_order() {
    let mut rig = Rig::new(config());
    let held = take(&rig.scheduler, gpu(8));
    let mut first = queued(&rig.scheduler, whole(10 * MS));
    let mut urgent = queued(&rig.scheduler, whole(20 * MS).deadline(50 * MS));
    let mut late = queued(&rig.scheduler, whole(MS).deadline(2 * MS));
    rig.pass(2 * MS);
    assert!(matches!(outcome(&mut late), Err(bursar::ReserveError::Late { .. })));
    assert_eq!(winner(held, &mut [&mut first, &mut urgent]), 0);
}

#[test]
fn a_level_goes_before_a_ratio_and_growth_before_all_of_its_level() {
    let mut rig = Rig::new(config());
    let mut lease = take(&rig.scheduler, host(2));
    let held = take(&rig.scheduler, gpu(8));
    let mut short = queued(&rig.scheduler, whole(Duration::from_nanos(1)));
    let mut high = queued(&rig.scheduler, whole(Duration::from_secs(60)).priority(Priority::High));
    let more = Amounts::of(GPU, 8);
    let mut growth = task::spawn(lease.grow(&more));
    assert!(growth.poll().is_pending());
    rig.pass(10 * MS);
    drop(held);
    let lease_of_high = granted(&mut high);
    assert!(!growth.is_woken() && !short.is_woken());
    drop(lease_of_high);
    assert!(growth.is_woken() && !short.is_woken());
    drop(growth);
    drop(granted(&mut short));
}

/// Who holds what another waits for stands right behind that one, and is in no greater hurry than it.
#[test]
fn a_holder_goes_with_the_ratio_of_whom_it_keeps() {
    let mut rig = Rig::new(config());
    let high = |hold| gpu(6).expected_hold(hold).priority(Priority::High);
    let mut lease = take(&rig.scheduler, gpu(2));
    let held = take(&rig.scheduler, gpu(6));
    let mut long = queued(&rig.scheduler, high(50 * MS));
    let mut short = queued(&rig.scheduler, high(MS));
    let more = Amounts::of(GPU, 6);
    let mut growth = task::spawn(lease.grow(&more));
    assert!(growth.poll().is_pending());
    rig.pass(10 * MS);
    drop(held);
    let lease_of_short = granted(&mut short);
    assert!(!long.is_woken() && !growth.is_woken());
    drop(lease_of_short);
    let lease_of_long = granted(&mut long);
    assert!(!growth.is_woken());
    drop(lease_of_long);
    assert!(growth.is_woken());
}

/// C3: whoever comes and however short, a long one is passed no more often than the limit says.
#[test]
fn c3_a_long_one_is_passed_no_more_often_than_the_limit_allows() {
    for limit in [0, 1, 3] {
        let mut rig = Rig::new(Config { bypass_limit: limit, ..config() });
        let mut held = take(&rig.scheduler, gpu(8));
        let mut long = queued(&rig.scheduler, whole(Duration::from_secs(3_600)));
        let mut passed = 0;
        let lease = loop {
            let mut short = queued(&rig.scheduler, whole(MS));
            rig.pass(MS);
            drop(held);
            if long.is_woken() {
                break granted(&mut long);
            }
            held = granted(&mut short);
            passed += 1;
            assert!(passed <= limit, "passed {passed} times");
        };
        assert_eq!(passed, limit, "short ones go first until then");
        drop(lease);
    }
}

/// R14: ratios are compared inside the look-ahead only; who stands behind it waits until it has moved up.
#[test]
fn r14_only_the_first_in_line_are_compared() {
    for (look_ahead, expected) in [(2, 1), (3, 2)] {
        let mut rig = Rig::new(Config { look_ahead, ..config() });
        let held = take(&rig.scheduler, gpu(8));
        let holds = [100 * MS, 50 * MS, MS];
        let mut waiting = holds.map(|hold| queued(&rig.scheduler, whole(hold)));
        rig.pass(MS);
        let mut all: Vec<_> = waiting.iter_mut().collect();
        assert_eq!(winner(held, &mut all), expected, "{look_ahead}");
    }
}

/// A claim that is withdrawn while others of the same turn were looked at already lets them in all the same.
#[test]
fn who_was_kept_by_a_claim_that_falls_in_the_same_turn_is_looked_at_again() {
    let mut rig = Rig::new(Config { bypass_limit: 1, ..config() });
    let base = take(&rig.scheduler, gpu(5));
    let both = take(&rig.scheduler, gpu(1).host(8u64));
    // Of the GPU it lacks the smaller part, so there is its claim once it was passed.
    let mut either = queued(&rig.scheduler, gpu(8).or(host(8)).expected_hold(100 * MS));
    drop(take(&rig.scheduler, gpu(1)));
    let mut short = queued(&rig.scheduler, gpu(2).expected_hold(MS));
    rig.pass(MS);
    drop(both);
    let leases = [granted(&mut either), granted(&mut short)];
    assert_eq!((leases[0].get(HOST), leases[1].get(GPU)), (8, 2));
    drop((leases, base));
    assert_untouched(&rig.scheduler);
}

/// Many turns of many waiters: nobody is left in line who could have been granted, and everybody gets a turn.
#[test]
fn nobody_who_fits_is_left_in_line() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let look_ahead = 1 + dice.below(4) as usize;
        let bypass_limit = dice.below(5) as u32;
        let mut rig = Rig::new(Config { look_ahead, bypass_limit, ..config() });
        let mut held = vec![take(&rig.scheduler, gpu(8).host(8u64))];
        let mut waiting = Vec::new();
        for _ in 0..30 {
            let (on_gpu, on_host) = (gpu(1 + dice.below(8)), host(1 + dice.below(8)));
            let request = if dice.below(2) == 0 { on_gpu } else { on_gpu.or(on_host) };
            waiting.push(queued(&rig.scheduler, request.expected_hold(MS * dice.below(50) as u32)));
            rig.pass(MS * dice.below(4) as u32);
        }
        while !waiting.is_empty() {
            assert!(!held.is_empty(), "seed {seed}: {} wait for nobody", waiting.len());
            drop(held.swap_remove(dice.below(held.len() as u64) as usize));
            rig.run();
            let (woken, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|waiting| waiting.is_woken());
            held.extend(woken.into_iter().map(|mut woken| granted(&mut woken)));
            let fits =
                |waiting: &Waiting| waiting.explain().next.iter().any(|next| matches!(next, Next::Served { .. }));
            assert!(!rest.iter().any(fits), "seed {seed}");
            waiting = rest;
            rig.pass(MS * dice.below(4) as u32);
        }
        drop(held);
        assert_untouched(&rig.scheduler);
    }
}

/// One that waits for a holder's disk hands on its own hurry, not that of who waits for its host memory: it comes right
/// behind that one, which came an instant earlier, without being moved.
#[test]
fn who_is_moved_up_by_nobody_hands_on_the_pace_of_its_own() {
    let mut rig = Rig::new(Config { order: Order::ResponseRatio, ..three_loans() });
    let filler = take(&rig.scheduler, gpu(10));
    let [long, behind] = ["long", "behind"].map(Activity::new);
    let _has_host = take(&rig.scheduler, host(10).activity(&long));
    let _has_disk = take(&rig.scheduler, disk(10).activity(&behind));
    let _hurried = queued(&rig.scheduler, host(1).expected_hold(MS));
    rig.jump(Duration::from_nanos(1));
    let _waits = queued(&rig.scheduler, disk(1).activity(&long).expected_hold(1_000 * MS));
    rig.jump(MS);
    let mut rival = queued(&rig.scheduler, gpu(10).expected_hold(10 * MS));
    let mut heir = queued(&rig.scheduler, gpu(10).activity(&behind).expected_hold(10 * MS));
    rig.pass(10 * MS);
    assert_eq!(winner(filler, &mut [&mut heir, &mut rival]), 1);
}
