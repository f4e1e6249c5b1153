//! Aging (C4, R8): a waiter gains a level each time it has waited a step, up to High.

mod common;

use std::time::Duration;

use bursar::{Budget, Config, Priority, Request, ReserveError};
use common::*;

const STEP: Duration = Duration::from_millis(10);

/// All of it is taken, for good.
fn rig(config: Config) -> Rig {
    let config = Config { aging_step: Some(STEP), ..config };
    let rig = Rig::new(config.with(Budget::loan(GPU, 100)).with(Budget::loan(HOST, 10)));
    std::mem::forget(take(&rig.scheduler, gpu(100)));
    rig
}

fn one(level: Priority) -> Request {
    gpu(1).priority(level)
}

/// Brings in one unit after the other and returns the order in which the waiters are granted.
fn order_of_grants(rig: &Rig, waiting: &mut [Waiting]) -> Vec<usize> {
    let mut order = Vec::new();
    for more in 1..=waiting.len() as u64 {
        rig.scheduler.set_capacity(GPU, 100 + more).unwrap();
        let next = waiting.iter().position(|waiting| waiting.is_woken()).expect("one more is granted");
        std::mem::forget(granted(&mut waiting[next]));
        order.push(next);
    }
    order
}

/// R8: in the level that it has risen to a waiter stands as if it had arrived there when it rose.
#[test]
fn c4_r8_a_waiter_rises_one_level_a_step_and_stands_there_by_the_time_it_rose() {
    let mut rig = rig(Config::new());
    let low = queued(&rig.scheduler, one(Priority::Low));
    rig.pass(STEP - MS);
    let normal_before = queued(&rig.scheduler, one(Priority::Normal));
    rig.pass(2 * MS);
    let normal_after = queued(&rig.scheduler, one(Priority::Normal));
    let low_after = queued(&rig.scheduler, one(Priority::Low));
    let mut waiting = [low, normal_before, normal_after, low_after];
    assert_eq!(order_of_grants(&rig, &mut waiting), [1, 0, 2, 3]);
}

#[test]
fn c4_a_second_step_leads_to_high_and_none_leads_further() {
    let mut rig = rig(Config::new());
    let low = queued(&rig.scheduler, one(Priority::Low));
    rig.pass(2 * STEP - MS);
    let high_before = queued(&rig.scheduler, one(Priority::High));
    rig.pass(2 * MS);
    let high_after = queued(&rig.scheduler, one(Priority::High));
    rig.pass(100 * STEP);
    let critical = queued(&rig.scheduler, one(Priority::Critical));
    let mut waiting = [low, high_before, high_after, critical];
    assert_eq!(order_of_grants(&rig, &mut waiting), [3, 1, 0, 2]);
}

#[test]
fn c4_idle_ages_only_if_configured() {
    for age_idle in [false, true] {
        let mut rig = rig(Config { age_idle, ..Config::new() });
        let idle = queued(&rig.scheduler, one(Priority::Idle));
        rig.pass(3 * STEP);
        let (low, high) = (queued(&rig.scheduler, one(Priority::Low)), queued(&rig.scheduler, one(Priority::High)));
        let mut waiting = [idle, low, high];
        let expected = if age_idle { [0, 2, 1] } else { [2, 1, 0] };
        assert_eq!(order_of_grants(&rig, &mut waiting), expected);
    }
}

#[test]
fn c4_without_a_step_nobody_ages() {
    let mut rig = Rig::loans(100, 10);
    let held = take(&rig.scheduler, gpu(100));
    let mut waiting = queued(&rig.scheduler, gpu(100).priority(Priority::Low));
    rig.pass(Duration::from_secs(3_600));
    let mut fresh = queued(&rig.scheduler, gpu(100));
    drop(held);
    drop(granted(&mut fresh));
    drop(granted(&mut waiting));
}

/// C4: who came first stays first, through however many steps.
#[test]
fn c4_equals_keep_the_order_in_which_they_came() {
    for apart in [Duration::ZERO, MS, STEP, 3 * STEP] {
        let mut rig = rig(Config::new());
        let mut waiting = Vec::new();
        for _ in 0..10 {
            waiting.push(queued(&rig.scheduler, one(Priority::Low)));
            rig.pass(apart);
        }
        rig.pass(STEP);
        assert_eq!(order_of_grants(&rig, &mut waiting), (0..10).collect::<Vec<_>>(), "{apart:?} apart");
    }
}

/// R8: what has risen is ordered by the horizon, not by its deadline, and still ends at its deadline.
#[test]
fn r8_a_waiter_with_a_far_deadline_has_the_implied_one_in_the_level_it_has_risen_to() {
    let mut rig = rig(Config::new());
    let far = queued(&rig.scheduler, one(Priority::Low).deadline(Duration::from_secs(5)));
    rig.pass(STEP + MS);
    let mut waiting = [far, queued(&rig.scheduler, one(Priority::Normal))];
    assert_eq!(order_of_grants(&rig, &mut waiting), [0, 1]);
    let mut late = queued(&rig.scheduler, one(Priority::Low).deadline(3 * STEP));
    rig.pass(3 * STEP - MS);
    assert_waits(&mut late);
    rig.pass(MS);
    assert!(matches!(outcome(&mut late), Err(ReserveError::Late { waited, .. }) if waited == 3 * STEP));
}

/// R8: statistics and the lease tell the level of the request.
#[test]
fn r8_statistics_and_leases_tell_the_level_that_was_asked_for() {
    let mut rig = rig(Config::new());
    let mut low = queued(&rig.scheduler, one(Priority::Low));
    let cancelled = queued(&rig.scheduler, one(Priority::Low));
    rig.pass(5 * STEP);
    rig.scheduler.set_capacity(GPU, 101).unwrap();
    let lease = granted(&mut low);
    assert_eq!(lease.priority(), Priority::Low);
    drop(cancelled);
    let stats = rig.scheduler.stats();
    assert_eq!((stats.level(Priority::Low).waited, stats.level(Priority::Low).cancelled), (1, 1));
    assert_eq!(stats.level(Priority::High).waited, 0);
    assert_eq!(stats.budget(GPU).unwrap().waits[Priority::Low.index()].count, 1);
}

/// All of host memory is taken; strict order, so whoever waits for that claims all it needs.
fn strict() -> (Rig, bursar::Lease) {
    let config = Config { bypass_limit: 0, aging_step: Some(STEP), ..Config::new() };
    let rig = Rig::new(config.with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10)));
    let all_host = take(&rig.scheduler, host(10));
    (rig, all_host)
}

/// Nothing else has to happen: the raise alone takes a waiter past the claim that kept it.
#[test]
fn c4_r2_a_waiter_that_rises_past_a_claim_is_granted_by_that_alone() {
    let (mut rig, all_host) = strict();
    let far = Duration::from_secs(5);
    let mut claims = queued(&rig.scheduler, gpu(10).host(1u64).priority(Priority::High).deadline(far));
    let mut normal = queued(&rig.scheduler, gpu(3));
    rig.pass(STEP - MS);
    assert_waits(&mut normal);
    rig.pass(MS);
    drop(granted(&mut normal));
    drop(all_host);
    drop(granted(&mut claims));
    assert_untouched(&rig.scheduler);
}

/// The claim of a waiter rises with it, and goes with it.
#[test]
fn c4_r2_a_claim_rises_with_its_waiter() {
    let (mut rig, all_host) = strict();
    let claims = queued(&rig.scheduler, gpu(10).host(1u64));
    drop(take(&rig.scheduler, gpu(1).priority(Priority::High)));
    rig.pass(STEP);
    let mut high = queued(&rig.scheduler, gpu(1).priority(Priority::High));
    drop(block_on(rig.scheduler.reserve(gpu(1).priority(Priority::High).deadline(MS))).expect("an earlier deadline"));
    drop(take(&rig.scheduler, gpu(1).priority(Priority::Critical)));
    assert_waits(&mut high);
    drop(claims);
    drop((granted(&mut high), all_host));
    assert_untouched(&rig.scheduler);
}

/// A dormant waiter rises when it is polled, by all the steps that came due.
#[test]
fn c4_r5_a_dormant_waiter_catches_up_when_it_is_polled() {
    let mut rig = rig(Config { offer_expiry: 2 * MS, ..Config::new() });
    let mut slow = queued(&rig.scheduler, one(Priority::Low));
    rig.scheduler.set_capacity(GPU, 101).unwrap();
    assert!(slow.is_woken());
    let mut rival = queued(&rig.scheduler, one(Priority::Low));
    rig.pass(2 * MS);
    std::mem::forget(granted(&mut rival));
    rig.pass(2 * STEP);
    let normal = queued(&rig.scheduler, one(Priority::Normal));
    let high = queued(&rig.scheduler, one(Priority::High));
    assert!(slow.poll().is_pending());
    let waiting = &mut [slow, normal, high];
    rig.scheduler.set_capacity(GPU, 102).unwrap();
    std::mem::forget(granted(&mut waiting[0]));
    rig.scheduler.set_capacity(GPU, 103).unwrap();
    std::mem::forget(granted(&mut waiting[2]));
    rig.scheduler.set_capacity(GPU, 104).unwrap();
    std::mem::forget(granted(&mut waiting[1]));
}

/// With aging a stream of higher levels cannot keep a waiter out for ever; without, it can (C3 says so).
#[test]
fn c4_a_low_waiter_starts_within_two_steps_and_a_horizon_under_an_endless_stream_of_high_ones() {
    for ages in [true, false] {
        let config = Config { aging_step: ages.then_some(STEP), edf_horizon: 20 * MS, ..Config::new() };
        let mut rig = Rig::new(config.with(Budget::loan(GPU, 1)));
        let mut held = Some(take(&rig.scheduler, gpu(1)));
        let low = queued(&rig.scheduler, one(Priority::Low));
        let mut next = queued(&rig.scheduler, one(Priority::High));
        let started = (1..=200).find(|_| {
            let after = queued(&rig.scheduler, one(Priority::High));
            rig.pass(MS);
            held = None;
            if !low.is_woken() {
                held = Some(granted(&mut next));
                next = after;
            }
            low.is_woken()
        });
        assert_eq!(started.is_some(), ages);
        assert!(started.is_none_or(|ms| ms <= 2 * 10 + 20 + 2), "{started:?}");
    }
}

/// A line of many that rise all at once stays in order, and nobody is lost.
#[test]
fn c4_a_thousand_waiters_that_rise_together_stay_in_order() {
    let mut rig = rig(Config::new());
    let mut waiting: Vec<_> = (0..1_000).map(|_| queued(&rig.scheduler, one(Priority::Low))).collect();
    rig.pass(STEP);
    waiting.push(queued(&rig.scheduler, one(Priority::Normal)));
    rig.pass(STEP);
    rig.scheduler.verify().unwrap();
    assert_eq!(order_of_grants(&rig, &mut waiting), (0..=1_000).collect::<Vec<_>>());
}
