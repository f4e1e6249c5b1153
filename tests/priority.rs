//! Who goes first: level, then deadline, then arrival, on every budget that is contended (C3).

mod common;

use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Priority, Request, ReserveError};
use common::*;

/// Releases one unit after the other and returns the order in which the waiters are granted.
fn order_of_grants(rig: &mut Rig, mut waiting: Vec<Waiting>) -> Vec<usize> {
    let mut order = Vec::new();
    for capacity in 1..=waiting.len() as u64 {
        rig.scheduler.set_capacity(GPU, 1_000 + capacity).unwrap();
        let next = waiting.iter().position(|waiting| waiting.is_woken()).expect("one more is granted");
        std::mem::forget(granted(&mut waiting[next]));
        assert!(waiting.iter().all(|waiting| !waiting.is_woken()), "one unit, one grant");
        order.push(next);
    }
    order
}

fn full_rig() -> Rig {
    let rig = Rig::loans(1_000, 10);
    std::mem::forget(take(&rig.scheduler, gpu(1_000)));
    rig
}

#[test]
fn c3_a_higher_level_goes_first_and_equals_go_in_the_order_they_came() {
    let mut rig = full_rig();
    let levels = [2, 4, 0, 3, 1, 2, 0, 4, 1, 3].map(|level| Priority::ALL[level]);
    let waiting = levels.iter().map(|&level| queued(&rig.scheduler, gpu(1).priority(level))).collect();
    assert_eq!(order_of_grants(&mut rig, waiting), [2, 6, 4, 8, 0, 5, 3, 9, 1, 7]);
}

#[test]
fn c3_within_a_level_the_earlier_deadline_goes_first() {
    let mut rig = full_rig();
    let deadlines = [500, 100, 300, 200, 400];
    let waiting = deadlines.iter().map(|&ms| queued(&rig.scheduler, gpu(1).deadline(ms * MS))).collect();
    assert_eq!(order_of_grants(&mut rig, waiting), [1, 3, 2, 4, 0]);
}

#[test]
fn c3_a_level_goes_before_a_deadline() {
    let mut rig = full_rig();
    let low = queued(&rig.scheduler, gpu(1).priority(Priority::Low).deadline(MS));
    let high = queued(&rig.scheduler, gpu(1).priority(Priority::High));
    assert_eq!(order_of_grants(&mut rig, vec![low, high]), [1, 0]);
}

/// R8: who has no deadline is ordered as if it were `edf_horizon` after the arrival, so deadlines cannot keep it out.
#[test]
fn r8_a_request_without_a_deadline_is_ordered_by_the_horizon() {
    let mut rig = full_rig();
    let none = queued(&rig.scheduler, gpu(1));
    let before = queued(&rig.scheduler, gpu(1).deadline(999 * MS));
    let after = queued(&rig.scheduler, gpu(1).deadline(1_001 * MS));
    rig.pass(500 * MS);
    let later_but_urgent = queued(&rig.scheduler, gpu(1).deadline(499 * MS));
    let later = queued(&rig.scheduler, gpu(1));
    let waiting = vec![none, before, after, later_but_urgent, later];
    assert_eq!(order_of_grants(&mut rig, waiting), [1, 3, 0, 2, 4]);
}

#[test]
fn the_absolute_deadline_decides_and_not_the_relative_one() {
    let mut rig = full_rig();
    let first = queued(&rig.scheduler, gpu(1).deadline(300 * MS));
    rig.pass(250 * MS);
    let second = queued(&rig.scheduler, gpu(1).deadline(100 * MS));
    assert_eq!(order_of_grants(&mut rig, vec![second, first]), [1, 0]);
}

/// C3 by brute force: 300 waiters of random level and deadline leave in the order of (level, deadline, arrival).
#[test]
fn c3_any_mixture_leaves_in_the_one_total_order() {
    for seed in 0..20 {
        let mut rig = full_rig();
        let mut dice = Dice(seed);
        let mut keys = Vec::new();
        let mut elapsed = Duration::ZERO;
        let waiting = (0..300)
            .map(|at| {
                if dice.below(4) == 0 {
                    elapsed += MS;
                    rig.pass(MS);
                }
                let level = Priority::ALL[dice.below(5) as usize];
                let limit = (dice.below(3) == 0).then(|| (400 + dice.below(1_200) as u32) * MS);
                keys.push((level, elapsed + limit.unwrap_or(Duration::from_secs(1)), at));
                let request = gpu(1).priority(level);
                queued(&rig.scheduler, limit.map_or(request.clone(), |limit| request.deadline(limit)))
            })
            .collect();
        let mut expected: Vec<usize> = (0..300).collect();
        expected.sort_by_key(|&at| keys[at]);
        assert_eq!(order_of_grants(&mut rig, waiting), expected, "seed {seed}");
    }
}

/// C3, strict head of line order: a blocked head is not passed, neither by small ones nor by those that fit.
#[test]
fn c3_in_strict_order_a_blocked_head_is_passed_by_nobody_of_lower_rank() {
    let rig = Rig::strict(10, 10);
    let held = take(&rig.scheduler, gpu(5));
    let mut head = queued(&rig.scheduler, gpu(8).priority(Priority::High));
    let mut small: Vec<_> = (0..5).map(|_| queued(&rig.scheduler, gpu(1))).collect();
    small.iter_mut().for_each(assert_waits);
    drop(held);
    let lease = granted(&mut head);
    let leases: Vec<_> = small[..2].iter_mut().map(granted).collect();
    small[2..].iter_mut().for_each(assert_waits);
    drop((lease, leases));
    small[2..].iter_mut().map(granted).for_each(drop);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c3_requests_that_share_no_short_budget_never_block_each_other() {
    let rig = Rig::loans(10, 10);
    let _all_host = take(&rig.scheduler, host(10));
    let mut short_of_host = queued(&rig.scheduler, gpu(5).host(5u64).priority(Priority::Critical));
    for level in Priority::ALL {
        drop(take(&rig.scheduler, gpu(10).priority(level)));
    }
    assert_waits(&mut short_of_host);
}

#[test]
fn c6_a_deadline_that_passes_ends_the_wait_and_frees_the_way_for_those_behind() {
    let mut rig = Rig::strict(10, 10);
    let _held = take(&rig.scheduler, gpu(5));
    let mut head = queued(&rig.scheduler, gpu(8).deadline(20 * MS));
    let mut behind = queued(&rig.scheduler, gpu(3).priority(Priority::Low));
    rig.pass(19 * MS);
    assert_waits(&mut behind);
    rig.pass(MS);
    drop(granted(&mut behind));
    match outcome(&mut head) {
        Err(ReserveError::Late { waited, .. }) => assert_eq!(waited, 20 * MS),
        other => panic!("{other:?}"),
    }
}

/// Past its deadline nothing is granted any more, even if the scheduler task has not come round to say so.
#[test]
fn c6_a_release_after_the_deadline_grants_nothing_to_the_late() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut late = queued(&rig.scheduler, gpu(10).deadline(20 * MS));
    let mut in_time = queued(&rig.scheduler, gpu(10));
    rig.jump(20 * MS);
    drop(held);
    assert!(matches!(outcome(&mut late), Err(ReserveError::Late { .. })));
    drop(granted(&mut in_time));
}

#[test]
fn a_deadline_of_zero_is_granted_at_once_or_never() {
    let rig = Rig::loans(10, 10);
    let held = block_on(rig.scheduler.reserve(gpu(10).deadline(Duration::ZERO))).unwrap();
    let refused = block_on(rig.scheduler.reserve(gpu(1).deadline(Duration::ZERO)));
    assert!(matches!(refused, Err(ReserveError::Late { waited: Duration::ZERO, .. })));
    drop(held);
    assert_untouched(&rig.scheduler);
}

/// P28: the release that makes room grants the CRITICAL one, whatever waits below.
#[test]
fn p28_a_critical_grant_comes_in_the_call_that_makes_room_for_it_whoever_waits() {
    let budgets = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    let rig = Rig::new(Config { look_ahead: 1, ..budgets });
    let mut held = take(&rig.scheduler, gpu(10).host(10u64));
    let request = gpu(3).host(10u64).priority(Priority::Idle);
    let flood: Vec<_> = (0..10_000).map(|_| queued(&rig.scheduler, request.clone())).collect();
    let mut critical = queued(&rig.scheduler, gpu(5).host(5u64).priority(Priority::Critical));
    held.shrink(&bundle(&[(GPU, 5)])).unwrap();
    assert_waits(&mut critical);
    held.shrink(&bundle(&[(HOST, 5)])).unwrap();
    drop(granted(&mut critical));
    assert!(flood.iter().all(|waiting| !waiting.is_woken()));
    drop(take(&rig.scheduler, gpu(5).host(5u64).priority(Priority::Critical)));
}

/// P28: how many wait at lower levels is nothing to a CRITICAL grant. With a look-ahead of one, a turn that looks at a
/// second waiter in vain leaves the rest to another turn of the scheduler task, and turns can be counted.
#[test]
fn p28_a_critical_grant_looks_at_no_more_waiters_with_100_000_idle_ones_than_with_ten() {
    for idle in [10, 100_000] {
        let budgets = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
        let mut rig = Rig::new(budgets.with_look_ahead(1));
        let held = take(&rig.scheduler, gpu(10).host(10u64));
        let request = gpu(10).host(10u64).priority(Priority::Idle);
        let mut flood: Vec<_> = (0..idle).map(|_| queued(&rig.scheduler, request.clone())).collect();
        let mut critical = queued(&rig.scheduler, gpu(5).host(5u64).priority(Priority::Critical));
        assert_eq!(rig.run(), 0);
        drop(held);
        assert_eq!(rig.run(), 1, "{idle} idle: one turn, to note when the offer expires");
        let lease = granted(&mut critical);
        drop(take(&rig.scheduler, gpu(5).priority(Priority::Critical)));
        assert_eq!(rig.run(), 0, "{idle} idle");
        assert!(flood.iter().all(|waiting| !waiting.is_woken()));
        drop(lease);
        assert_eq!(rig.run(), 0, "{idle} idle");
        drop(granted(&mut flood[0]));
        assert_eq!(flood.iter().filter(|waiting| waiting.is_woken()).count(), 1, "the next of them");
        rig.scheduler.verify().unwrap();
    }
}

fn own(at: u8) -> BudgetId {
    BudgetId::custom(at).unwrap()
}

/// Waiters that come first at one budget that has nothing, each short of another one of its own as well.
fn heads_in_vain(rig: &Rig, count: u8) -> Vec<Waiting> {
    (0..count).for_each(|at| std::mem::forget(take(&rig.scheduler, Request::new().amount(own(at), 1))));
    (0..count).map(|at| queued(&rig.scheduler, gpu(1).amount(own(at), 1))).collect()
}

fn look_ahead(look_ahead: usize) -> Rig {
    let budgets = (0..20).map(|at| Budget::loan(own(at), 1));
    let budgets = budgets.chain([Budget::loan(GPU, 10), Budget::loan(HOST, 10)]);
    Rig::new(Config::new().with_budgets(budgets).with_look_ahead(look_ahead))
}

/// R1: whoever waits shuts the way past the engine, also where every other budget is shut already.
#[test]
fn r1_the_last_of_sixty_four_budgets_is_shut_like_the_others() {
    let all = || (0..BudgetId::LIMIT).filter_map(BudgetId::from_index);
    let config = Config::new().with_budgets(all().map(|id| Budget::loan(id, 2)));
    let rig = Rig::new(Config { bypass_limit: 0, ..config });
    let one = |id| Request::new().amount(id, 1);
    let _held: Vec<_> = all().map(|id| take(&rig.scheduler, one(id))).collect();
    let _waiting: Vec<_> = all().map(|id| queued(&rig.scheduler, Request::new().amount(id, 2))).collect();
    for id in all() {
        assert!(rig.scheduler.try_reserve(one(id)).is_err(), "{id}");
    }
    rig.scheduler.verify().unwrap();
}

/// R11: a turn that looked at enough waiters in vain leaves the rest to the scheduler task, which finishes by itself.
#[test]
fn r11_a_regrant_that_reached_its_bound_is_finished_by_the_scheduler_task() {
    let mut rig = look_ahead(4);
    let held = take(&rig.scheduler, gpu(10));
    let mut in_vain = heads_in_vain(&rig, 20);
    let mut last = queued(&rig.scheduler, gpu(10));
    rig.run();
    drop(held);
    assert!(!last.is_woken(), "it lies behind the bound");
    assert!(rig.driver.is_woken());
    rig.run();
    drop(granted(&mut last));
    in_vain.iter_mut().for_each(assert_waits);
    rig.scheduler.verify().unwrap();
}

/// R11: the flags stay set in between, so a newcomer goes on with it and is looked at after those who waited.
#[test]
fn r11_p23_an_unfinished_regrant_goes_on_before_a_newcomer_is_looked_at() {
    let rig = look_ahead(4);
    let held = take(&rig.scheduler, gpu(10));
    let in_vain = heads_in_vain(&rig, 6);
    let mut last = queued(&rig.scheduler, gpu(10));
    drop(held);
    assert!(!last.is_woken(), "it lies behind the bound");
    assert!(rig.scheduler.try_reserve(gpu(1)).is_err());
    drop((granted(&mut last), in_vain));
    rig.scheduler.verify().unwrap();
}

/// R11: whoever comes next goes on with it, without the scheduler task.
#[test]
fn r11_an_unfinished_regrant_is_continued_by_the_next_call_from_anywhere() {
    type Call = fn(&Rig);
    let calls: [Call; 4] = [
        |rig| drop(rig.scheduler.stats()),
        |rig| assert!(rig.scheduler.try_reserve(gpu(11)).is_err()),
        |rig| drop(queued(&rig.scheduler, Request::new().amount(own(0), 1).priority(Priority::Idle))),
        |rig| rig.scheduler.set_capacity(HOST, 10).unwrap(),
    ];
    for call in calls {
        let rig = look_ahead(4);
        let held = take(&rig.scheduler, gpu(10));
        let in_vain = heads_in_vain(&rig, 20);
        let mut last = queued(&rig.scheduler, gpu(10));
        drop(held);
        let calls = (1..=20).find(|_| {
            call(&rig);
            last.is_woken()
        });
        assert!(calls.is_some_and(|calls| calls <= 6), "{calls:?}");
        drop((granted(&mut last), in_vain));
        rig.scheduler.verify().unwrap();
    }
}

/// C3: whatever lower ranks do with the parts of a bundle, the waiter for all of it is not starved.
#[test]
fn c3_a_bundle_is_not_starved_by_lower_ranks_that_take_turns_with_its_parts() {
    let rig = Rig::loans(1, 1);
    let idle = |request: Request| rig.scheduler.try_reserve(request.priority(Priority::Idle));
    let mut on_gpu = idle(gpu(1)).ok();
    let mut critical = queued(&rig.scheduler, gpu(1).host(1u64).priority(Priority::Critical));
    let mut on_host = None;
    let served = (0..1_000).position(|_| {
        on_host = on_host.take().or(idle(host(1)).ok());
        on_gpu = None;
        on_gpu = on_gpu.take().or(idle(gpu(1)).ok());
        on_host = None;
        critical.is_woken()
    });
    assert!(served.is_some_and(|rounds| rounds <= 8), "{served:?}");
    drop((granted(&mut critical), on_gpu));
}
