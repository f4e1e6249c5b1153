//! Protected bypass (C3, R2, R4): who fits may pass who does not, but not too often and not for too long.

mod common;

use std::collections::VecDeque;
use std::time::Duration;

use bursar::{Budget, Config, Lease, Priority, Request, ReserveError};
use common::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// Ten of each loan, and a rate that takes an hour to give anything.
fn rig(bypass_limit: u32, bypass_time: Duration) -> Rig {
    let loans = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    Rig::new(Config { bypass_limit, bypass_time, ..loans.with(Budget::rate(IO, 1).burst(10)) })
}

/// How many attempts get through before one is refused, at most 1,000.
fn passes(rig: &Rig, request: &Request) -> usize {
    (0..1_000).take_while(|_| rig.scheduler.try_reserve(request.clone()).is_ok()).count()
}

/// P20: the head lacks a little, the others need less than that.
#[test]
fn c3_p20_small_requests_run_beside_a_large_one_that_is_blocked() {
    let rig = rig(16, HOUR);
    let held = take(&rig.scheduler, gpu(1));
    let mut large = queued(&rig.scheduler, gpu(10));
    let small: Vec<_> = (0..9).map(|_| take(&rig.scheduler, gpu(1))).collect();
    assert_waits(&mut large);
    drop((held, small));
    drop(granted(&mut large));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r4_a_waiter_is_passed_as_often_as_configured_and_no_more() {
    for limit in [0, 1, 3, 16] {
        let rig = rig(limit, HOUR);
        let _held = take(&rig.scheduler, gpu(1));
        let _large = queued(&rig.scheduler, gpu(10));
        for level in [Priority::Normal, Priority::Low, Priority::Idle] {
            let expected = if level == Priority::Normal { limit as usize } else { 0 };
            assert_eq!(passes(&rig, &gpu(1).priority(level)), expected, "{level} at {limit}");
        }
    }
}

/// A stream of small requests, one a millisecond, each held for ten; a large one arrives in the middle. When it
/// starts, counted from its arrival, and how many small ones started meanwhile.
fn small_stream_against_a_large_one(mut rig: Rig, large: Request) -> (u32, usize) {
    let mut held: VecDeque<Lease> = VecDeque::new();
    let mut blocked: VecDeque<Waiting> = VecDeque::new();
    let mut small = |rig: &mut Rig| {
        rig.pass(MS);
        if held.len() == 10 || blocked.len() > 5 {
            held.pop_front();
        }
        while let Some(mut first) = blocked.pop_front_if(|waiting| waiting.is_woken()) {
            held.push_back(granted(&mut first));
        }
        match rig.scheduler.try_reserve(gpu(1)) {
            Ok(lease) => held.push_back(lease),
            Err(_) => blocked.push_back(queued(&rig.scheduler, gpu(1))),
        }
    };
    (0..20).for_each(|_| small(&mut rig));
    let waiting = queued(&rig.scheduler, large);
    let before = rig.scheduler.stats().grants();
    let mut elapsed = 0;
    while !waiting.is_woken() {
        small(&mut rig);
        elapsed += 1;
        assert!(elapsed < 10_000, "starved");
    }
    (elapsed, (rig.scheduler.stats().grants() - before) as usize)
}

/// P20 and P21 together: the stream goes on for a while, and the large one starts within the stated bound.
#[test]
fn c3_p21_a_large_request_starts_within_the_stated_bound_under_an_endless_small_stream() {
    let by_time = small_stream_against_a_large_one(rig(u32::MAX, 50 * MS), gpu(8));
    assert!(by_time.0 <= 50 + 20, "{by_time:?}");
    assert!(by_time.1 >= 40, "small ones ran for {by_time:?}");
    let by_count = small_stream_against_a_large_one(rig(16, HOUR), gpu(8));
    assert!(by_count.0 <= 16 + 20, "{by_count:?}");
    assert!(by_count.1 >= 16, "small ones ran for {by_count:?}");
}

/// R4: one grant counts once, over however many lines the two meet.
#[test]
fn r4_a_grant_that_passes_a_waiter_in_two_lines_counts_once() {
    let rig = rig(4, HOUR);
    let _held = take(&rig.scheduler, gpu(5).host(5u64));
    let _either = queued(&rig.scheduler, gpu(8).or(host(8)).or(gpu(7)));
    assert_eq!(passes(&rig, &gpu(1).host(1u64)), 4);
}

/// R4: every way to be granted counts: an attempt, a newcomer, a waiter whose turn it is.
#[test]
fn r4_attempts_newcomers_and_regrants_count_alike() {
    let rig = rig(3, HOUR);
    let (_held, all_host) = (take(&rig.scheduler, gpu(5)), take(&rig.scheduler, host(10)));
    let mut large = queued(&rig.scheduler, gpu(8));
    let mut regranted = queued(&rig.scheduler, gpu(1).host(1u64));
    drop(take(&rig.scheduler, gpu(1)));
    drop(block_on(rig.scheduler.reserve(gpu(1))).unwrap());
    drop(all_host);
    drop(granted(&mut regranted));
    assert_eq!(passes(&rig, &gpu(1)), 0);
    assert_waits(&mut large);
}

/// R4: a dormant waiter is not passed, but what was counted before stays.
#[test]
fn r4_passes_are_kept_when_an_offer_expires() {
    let mut rig = rig(4, HOUR);
    let held = take(&rig.scheduler, gpu(5));
    let mut large = queued(&rig.scheduler, gpu(8));
    (0..3).for_each(|_| drop(take(&rig.scheduler, gpu(1))));
    drop(held);
    let mut rival = queued(&rig.scheduler, gpu(5));
    rig.pass(100 * MS);
    let rival = granted(&mut rival);
    assert_eq!(passes(&rig, &gpu(1)), 1_000, "nobody counts while it is dormant");
    assert!(large.poll().is_pending());
    assert_eq!(passes(&rig, &gpu(1)), 1);
    drop(rival);
    drop((granted(&mut large), passes(&rig, &gpu(1))));
    assert_untouched(&rig.scheduler);
}

/// R4: an overdue waiter that is granted itself, past somebody else, was not about to be passed: its claim stays soft.
#[test]
fn r4_its_own_grant_does_not_harden_the_claim_of_an_overdue_waiter() {
    let mut rig = rig(u32::MAX, 50 * MS);
    let mut held = take(&rig.scheduler, gpu(8));
    let mut both = queued(&rig.scheduler, gpu(4).host(8u64));
    drop(take(&rig.scheduler, gpu(1)));
    rig.jump(50 * MS);
    let high = queued(&rig.scheduler, gpu(9).priority(Priority::High));
    held.shrink(&bundle(&[(GPU, 4)])).unwrap();
    rig.pass(100 * MS);
    let urgent = take(&rig.scheduler, gpu(3).priority(Priority::Critical));
    assert!(both.poll().is_pending(), "its offer has expired");
    drop(take(&rig.scheduler, host(5)));
    drop((high, held, urgent));
    drop(granted(&mut both));
    assert_untouched(&rig.scheduler);
}

/// R4: a higher rank is no pass, and goes through a hard claim.
#[test]
fn r4_a_higher_rank_is_not_counted_and_passes_hard_claims() {
    let rig = rig(2, HOUR);
    let _held = take(&rig.scheduler, gpu(5));
    let mut large = queued(&rig.scheduler, gpu(8));
    for round in 0..3 {
        assert_eq!(passes(&rig, &gpu(5).priority(Priority::High)), 1_000);
        for _ in 0..20 {
            drop(block_on(rig.scheduler.reserve(gpu(5).deadline(MS))).expect("an earlier deadline is a higher rank"));
        }
        assert_eq!(passes(&rig, &gpu(1)), if round == 0 { 2 } else { 0 });
    }
    assert_waits(&mut large);
}

/// R2: a claim leaves its units in `free`, and whoever needs no more than lies beyond it is served.
#[test]
fn r2_a_hard_claim_holds_nothing_and_covers_the_whole_bundle_and_its_rates() {
    let rig = rig(0, HOUR);
    let held = take(&rig.scheduler, gpu(5));
    let mut large = queued(&rig.scheduler, gpu(6).host(7u64).io(4u64));
    assert_eq!([GPU, HOST, IO].map(|id| free(&rig.scheduler, id)), [5, 10, 10]);
    assert!(rig.scheduler.try_reserve(gpu(1)).is_err());
    assert!(rig.scheduler.try_reserve(host(4)).is_err());
    assert!(rig.scheduler.try_reserve(io(7)).is_err());
    let beyond = take(&rig.scheduler, host(3).io(6u64));
    assert_eq!([GPU, HOST, IO].map(|id| free(&rig.scheduler, id)), [5, 7, 4]);
    drop(held);
    let lease = granted(&mut large);
    assert_eq!([GPU, HOST, IO].map(|id| free(&rig.scheduler, id)), [4, 0, 0]);
    drop((lease, beyond));
    assert_untouched(&rig.scheduler);
}

/// A rate is claimed as far as it is tested: what goes beyond the burst becomes debt.
#[test]
fn r2_r7_a_claim_on_a_rate_is_no_more_than_its_burst() {
    let loans = Config::new().with(Budget::loan(GPU, 10)).with(Budget::rate(IO, 10).burst(10).max_debt(20));
    let mut rig = Rig::new(Config { bypass_limit: 0, ..loans });
    drop(take(&rig.scheduler, io(5)));
    let mut large = queued(&rig.scheduler, io(25));
    let mut small = queued(&rig.scheduler, io(1));
    rig.pass(500 * MS);
    drop(granted(&mut large));
    assert_waits(&mut small);
    rig.pass(1_600 * MS);
    drop(granted(&mut small));
}

#[test]
fn r4_the_time_counts_from_the_first_pass_and_ends_at_the_next_attempt() {
    let mut rig = rig(u32::MAX, 100 * MS);
    let _held = take(&rig.scheduler, gpu(5));
    let mut large = queued(&rig.scheduler, gpu(8));
    rig.pass(HOUR);
    drop(take(&rig.scheduler, gpu(1)));
    rig.pass(100 * MS - Duration::from_nanos(1));
    assert_eq!(passes(&rig, &gpu(1)), 1_000);
    rig.pass(Duration::from_nanos(1));
    assert_eq!(passes(&rig, &gpu(1)), 0);
    assert_waits(&mut large);
}

/// R4: the bounds hold for a small one that is regranted too: it is looked at again once it has hardened a claim.
#[test]
fn r4_a_regrant_that_would_pass_somebody_overdue_stays_in_line() {
    let mut rig = rig(u32::MAX, 10 * MS);
    let (held, all_host) = (take(&rig.scheduler, gpu(5)), take(&rig.scheduler, host(10)));
    let mut large = queued(&rig.scheduler, gpu(8));
    drop(take(&rig.scheduler, gpu(1)));
    rig.pass(10 * MS);
    let mut small = queued(&rig.scheduler, gpu(3).host(1u64));
    drop(all_host);
    assert_waits(&mut small);
    drop(held);
    let lease = granted(&mut large);
    assert_waits(&mut small);
    drop(lease);
    drop(granted(&mut small));
    assert_untouched(&rig.scheduler);
}

/// Small requests alternate on two budgets so that never both are free at once; a pair needs both. How many of them
/// started before the pair.
fn ping_pong(rig: &Rig, pair: Request) -> usize {
    let mut on_gpu = Some(take(&rig.scheduler, gpu(10)));
    let mut pair = queued(&rig.scheduler, pair);
    let mut started = 0;
    for _ in 0..1_000 {
        let on_host = rig.scheduler.try_reserve(host(10)).ok().inspect(|_| started += 1);
        drop(on_gpu.take());
        on_gpu = rig.scheduler.try_reserve(gpu(10)).ok().inspect(|_| started += 1);
        drop(on_host);
        if pair.is_woken() {
            drop((granted(&mut pair), on_gpu));
            return started;
        }
    }
    panic!("starved");
}

/// C3: whoever is short of another budget each time it is looked at was passed, though in no line for long.
#[test]
fn c3_r4_a_waiter_for_two_budgets_is_not_starved_by_those_who_take_turns_with_them() {
    for limit in [0, 1, 4, 16] {
        let rig = rig(limit, HOUR);
        let started = ping_pong(&rig, gpu(10).host(10u64));
        assert!(started <= limit as usize + 2, "{started} at {limit}");
        assert!(started + 2 >= limit as usize, "{started} at {limit}");
        assert_untouched(&rig.scheduler);
    }
}

type End = fn(&mut Rig, Waiting);

/// C5: whatever ends a hard wait, its claim is withdrawn and those behind are served in the same call, also at budgets
/// in whose line it did not stand.
#[test]
fn c5_a_hard_claim_goes_with_its_waiter_and_those_behind_are_served_in_the_same_call() {
    let ends: [End; 3] = [
        |_, waiting| drop(waiting),
        |rig, mut waiting| {
            rig.pass(20 * MS);
            assert!(matches!(outcome(&mut waiting), Err(ReserveError::Late { .. })));
        },
        |rig, mut waiting| {
            rig.scheduler.set_capacity(GPU, 6).unwrap();
            assert!(matches!(outcome(&mut waiting), Err(ReserveError::NeverFits(_))));
        },
    ];
    for end in ends {
        let mut rig = rig(0, HOUR);
        let held = take(&rig.scheduler, gpu(5));
        let hard = queued(&rig.scheduler, gpu(8).host(10u64).io(10u64).deadline(20 * MS));
        let mut behind =
            [queued(&rig.scheduler, gpu(1)), queued(&rig.scheduler, host(10)), queued(&rig.scheduler, io(9))];
        behind.iter_mut().for_each(assert_waits);
        end(&mut rig, hard);
        drop((held, behind.each_mut().map(granted)));
        rig.scheduler.set_capacity(GPU, 10).unwrap();
        assert_untouched(&rig.scheduler);
    }
}

#[test]
fn c5_a_hard_waiter_that_has_an_offer_claims_nothing_more_and_dropping_it_serves_the_next() {
    let rig = rig(0, HOUR);
    let held = take(&rig.scheduler, gpu(10));
    let hard = queued(&rig.scheduler, gpu(8).host(8u64).io(8u64));
    drop(held);
    assert!(hard.is_woken());
    drop(take(&rig.scheduler, gpu(2).host(2u64).io(2u64)));
    let mut next = queued(&rig.scheduler, gpu(10).host(10u64).io(8u64));
    drop(hard);
    drop(granted(&mut next));
    assert_untouched(&rig.scheduler);
}

/// R5: a dormant waiter has no claim; polled, it has it again.
#[test]
fn r5_a_hard_waiter_claims_nothing_while_it_is_dormant_and_claims_again_when_it_is_polled() {
    let mut rig = rig(0, HOUR);
    let held = take(&rig.scheduler, gpu(10));
    let mut hard = queued(&rig.scheduler, gpu(8));
    drop(held);
    let mut rival = queued(&rig.scheduler, gpu(4));
    rig.pass(100 * MS);
    let rival = granted(&mut rival);
    assert_eq!(passes(&rig, &gpu(6)), 1_000);
    assert!(hard.poll().is_pending());
    assert_eq!(passes(&rig, &gpu(1)), 0);
    drop(rival);
    drop(granted(&mut hard));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c5_closing_ends_hard_waiters_and_leaves_nothing_claimed() {
    let rig = rig(0, HOUR);
    let held = take(&rig.scheduler, gpu(5));
    let mut waiting = [queued(&rig.scheduler, gpu(8)), queued(&rig.scheduler, gpu(1).host(1u64))];
    rig.scheduler.close();
    for waiting in &mut waiting {
        assert!(matches!(outcome(waiting), Err(ReserveError::Closed { .. })));
    }
    drop(held);
    assert_untouched(&rig.scheduler);
}

/// R2: claims add up in the order of rank, and each waiter is bound by those of higher rank only.
#[test]
fn r2_claims_are_met_in_the_order_of_rank() {
    let rig = rig(0, HOUR);
    let held = [2, 4, 4].map(|units| take(&rig.scheduler, gpu(units)));
    let mut normal = queued(&rig.scheduler, gpu(6));
    let mut low = queued(&rig.scheduler, gpu(2).priority(Priority::Low));
    let mut high = queued(&rig.scheduler, gpu(6).priority(Priority::High));
    let [two, four, last] = held;
    drop(two);
    low.is_woken().then(|| panic!("the claims of the others go first"));
    drop(four);
    let lease = granted(&mut high);
    assert_waits(&mut normal);
    drop(last);
    assert_waits(&mut normal);
    drop(lease);
    drop((granted(&mut normal), granted(&mut low)));
    assert_untouched(&rig.scheduler);
}

/// The bound of the module's text for those with others in front: each takes its claim first.
#[test]
fn c3_p21_several_large_ones_start_one_after_the_other_in_their_order() {
    let rig = rig(2, HOUR);
    let held = take(&rig.scheduler, gpu(3));
    let mut large: Vec<_> = (0..3).map(|_| queued(&rig.scheduler, gpu(8))).collect();
    assert_eq!(passes(&rig, &gpu(1)), 2, "one grant passes all three");
    drop(held);
    for (at, large) in large.iter_mut().enumerate() {
        let lease = granted(large);
        assert_eq!(passes(&rig, &gpu(1)), if at < 2 { 0 } else { 1_000 });
        drop(lease);
    }
    assert_untouched(&rig.scheduler);
}
