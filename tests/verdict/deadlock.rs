//! Who is told what.

use std::task::Poll;

use bursar::{Amounts, Budget, Priority, ReserveError};

use super::*;

const LOW: Priority = Priority::Low;

#[test]
fn p30_of_two_growing_holders_the_lower_rank_rolls_back_and_the_other_goes_on() {
    let mut rig = rig();
    let (mut a, mut b) = (take(&rig.scheduler, gpu(5)), take(&rig.scheduler, gpu(5)));
    let mut growth_a = growing(&mut a, 1);
    let mut growth_b = growing(&mut b, 1);
    rig.pass(9 * MS);
    assert!(!growth_a.is_woken() && !growth_b.is_woken());
    rig.pass(MS);
    assert!(!growth_a.is_woken() && growth_b.is_woken(), "the later one is told, at the time said");
    let Poll::Ready(Err(error)) = growth_b.poll() else { panic!("it waits") };
    assert_rolled_back(&error);
    drop(growth_b);
    assert_eq!(b.get(GPU), 5, "the lease is as it was");
    drop(b);
    assert!(growth_a.is_woken() && growth_a.poll().is_ready());
    drop(growth_a);
    assert_eq!((a.get(GPU), verdicts(&rig.scheduler)), (6, (1, 0)));
    drop(a);
    assert_untouched(&rig.scheduler);
}

/// P30, R8: by the level of the request: the urgent one does not lose because the other has inherited its level.
#[test]
fn p30_the_lower_level_rolls_back_whoever_came_first_and_whatever_it_has_inherited() {
    let mut rig = rig();
    let mut low = take(&rig.scheduler, gpu(5).priority(LOW));
    let mut high = take(&rig.scheduler, gpu(5).priority(Priority::High));
    let mut growth_low = growing(&mut low, 1);
    let growth_high = growing(&mut high, 1);
    rig.pass(10 * MS);
    assert!(growth_low.is_woken() && !growth_high.is_woken());
    assert!(matches!(growth_low.poll(), Poll::Ready(Err(ReserveError::RolledBack { .. }))));
    drop(growth_low);
    drop(low);
    assert!(growth_high.is_woken());
    drop(growth_high);
    drop(high);
    assert_untouched(&rig.scheduler);
}

#[test]
fn p31_a_parent_that_awaits_a_child_of_its_own_activity_is_told_to_split() {
    let mut rig = rig();
    let (query, parent) = holder(&rig.scheduler, "query", gpu(8));
    let mut child = queued(&rig.scheduler, gpu(5).activity(&query));
    rig.pass(10 * MS);
    assert_split(&told(&mut child));
    drop((child, parent));
    assert_untouched(&rig.scheduler);
}

/// P31: who waits for what itself holds is told first; a holder that waits behind it need not roll back for that.
#[test]
fn p31_who_blocks_itself_is_told_to_split_before_others_are_told_anything() {
    let mut rig = rig();
    let (query, parent) = holder(&rig.scheduler, "query", gpu(8));
    let (behind, lease) = holder(&rig.scheduler, "behind", gpu(1));
    let mut child = queued(&rig.scheduler, gpu(5).priority(Priority::High).activity(&query));
    let mut waits = queued(&rig.scheduler, gpu(3).priority(LOW).activity(&behind));
    rig.pass(10 * MS);
    assert_split(&told(&mut child));
    assert!(!waits.is_woken());
    drop(parent);
    drop((granted(&mut waits), lease));
    assert_untouched(&rig.scheduler);
}

#[test]
fn p32_bundles_in_opposite_order_are_no_deadlock() {
    let mut rig = rig();
    let first = take(&rig.scheduler, ask(&[(GPU, 6), (HOST, 6)]));
    let mut second = queued(&rig.scheduler, ask(&[(HOST, 6), (GPU, 6)]).activity(&Activity::new("second")));
    rig.pass(50 * MS);
    assert_waits(&mut second);
    drop(first);
    drop(granted(&mut second));
    assert_eq!(verdicts(&rig.scheduler), (0, 0));
    assert_untouched(&rig.scheduler);
}

#[test]
fn p32_two_reservations_each_in_opposite_order_end_with_one_verdict() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6));
    let (two, has_host) = holder(&rig.scheduler, "two", host(6));
    let mut one = queued(&rig.scheduler, host(6).activity(&one));
    let mut two = queued(&rig.scheduler, gpu(6).activity(&two));
    rig.pass(10 * MS);
    assert!(!one.is_woken());
    assert_rolled_back(&told(&mut two));
    drop(has_host);
    drop((granted(&mut one), has_gpu));
    rig.pass(100 * MS);
    assert_eq!(verdicts(&rig.scheduler), (1, 0));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_three_in_a_ring_end_with_one_verdict() {
    let mut rig = rig();
    let ids = [GPU, HOST, DISK];
    let held: Vec<_> = ids.iter().map(|&id| holder(&rig.scheduler, "one", ask(&[(id, 7)]))).collect();
    let ask_of = |at: usize| ask(&[(ids[(at + 1) % 3], 7)]).activity(&held[at].0);
    let mut waits: Vec<_> = (0..3).map(|at| queued(&rig.scheduler, ask_of(at))).collect();
    rig.pass(10 * MS);
    assert_rolled_back(&told(&mut waits[2]));
    assert!(!waits[0].is_woken() && !waits[1].is_woken());
    let mut leases: Vec<_> = held.into_iter().map(|(_, lease)| Some(lease)).collect();
    // The third gives up the disk, the second goes on and gives up the host memory, the first goes on.
    leases[2] = None;
    drop(granted(&mut waits[1]));
    leases[1] = None;
    drop(granted(&mut waits[0]));
    drop(leases);
    assert_eq!(verdicts(&rig.scheduler), (1, 0));
    assert_untouched(&rig.scheduler);
}

/// P30: where one that gives back does not help anybody, the next is told as well: it is stuck all the same.
#[test]
fn p30_one_that_rolls_back_in_vain_is_not_the_last() {
    let mut rig = Rig::loans(100, 10);
    let held: Vec<_> = [35, 35, 30].iter().map(|&units| holder(&rig.scheduler, "one", gpu(units))).collect();
    let mut waits: Vec<_> = held.iter().map(|(one, _)| queued(&rig.scheduler, gpu(40).activity(one))).collect();
    rig.pass(10 * MS);
    assert_rolled_back(&told(&mut waits[2]));
    assert_rolled_back(&told(&mut waits[1]));
    let mut leases: Vec<_> = held.into_iter().map(|(_, lease)| lease).collect();
    drop((leases.pop(), leases.pop()));
    drop((granted(&mut waits[0]), leases));
    assert_untouched(&rig.scheduler);
}

/// C7: a holder that waits for the stuck ones and has nothing that they want is not told to give it back.
#[test]
fn c7_a_bystander_of_lower_rank_is_not_rolled_back_for_nothing() {
    let mut rig = rig();
    let (one, has_one) = holder(&rig.scheduler, "one", gpu(5));
    let (two, has_two) = holder(&rig.scheduler, "two", gpu(5));
    let (bystander, has_host) = holder(&rig.scheduler, "bystander", host(5));
    let mut one = queued(&rig.scheduler, gpu(1).activity(&one));
    let mut two = queued(&rig.scheduler, gpu(1).activity(&two));
    let mut three = queued(&rig.scheduler, gpu(1).priority(LOW).activity(&bystander));
    rig.pass(10 * MS);
    assert!(!three.is_woken() && !one.is_woken());
    assert_rolled_back(&told(&mut two));
    drop(has_two);
    drop((granted(&mut one), granted(&mut three), has_one, has_host));
    assert_eq!(verdicts(&rig.scheduler), (1, 0));
    assert_untouched(&rig.scheduler);
}

/// C7: two wait for each other while a third comes and goes at another budget, with every turn.
#[test]
fn c7_a_deadlock_of_some_is_found_while_others_go_on() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6));
    let (two, has_host) = holder(&rig.scheduler, "two", host(6));
    let (third, part) = holder(&rig.scheduler, "third", disk(1));
    let mut other = take(&rig.scheduler, disk(9));
    let mut one = queued(&rig.scheduler, host(6).activity(&one));
    let mut two = queued(&rig.scheduler, gpu(6).activity(&two));
    for _ in 0..10 {
        assert!(!two.is_woken());
        let mut cycles = queued(&rig.scheduler, disk(9).activity(&third));
        drop(other);
        other = granted(&mut cycles);
        let mut plain = queued(&rig.scheduler, disk(9));
        drop(other);
        other = granted(&mut plain);
        rig.pass(MS);
    }
    assert_rolled_back(&told(&mut two));
    drop((has_host, part, other));
    drop((granted(&mut one), has_gpu));
    assert_untouched(&rig.scheduler);
}

/// C7: and while others end in a deadlock themselves, again and again.
#[test]
fn c7_a_deadlock_is_found_beside_others_that_are_found() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6));
    let mut waits = None;
    for round in 0..20 {
        let (query, lease) = holder(&rig.scheduler, "noise", disk(8));
        let mut child = queued(&rig.scheduler, disk(8).priority(LOW).activity(&query));
        if round == 3 {
            waits = Some(queued(&rig.scheduler, gpu(6).activity(&one)));
        }
        rig.pass(7 * MS);
        if let Some(waits) = waits.as_ref().filter(|waits| waits.is_woken()) {
            assert!(round == 4, "told in round {round}: {waits:?}");
            break;
        }
        rig.pass(3 * MS);
        assert_split(&told(&mut child));
        drop(lease);
    }
    assert_split(&told(&mut waits.unwrap()));
    drop(has_gpu);
    rig.pass(MS);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_a_holder_without_activity_will_end_so_nobody_is_told_anything() {
    let mut rig = rig();
    let plain = take(&rig.scheduler, gpu(5));
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(5));
    let mut waits = queued(&rig.scheduler, gpu(5).activity(&one));
    rig.pass(1_000 * MS);
    assert_waits(&mut waits);
    drop(plain);
    drop((granted(&mut waits), has_gpu));
    assert_untouched(&rig.scheduler);
}

/// C7: nor while an activity that holds runs.
#[test]
fn c7_an_activity_that_waits_for_nothing_will_end_too() {
    let mut rig = rig();
    let (_runs, running) = holder(&rig.scheduler, "runs", gpu(5));
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(5));
    let mut waits = queued(&rig.scheduler, gpu(5).activity(&one));
    rig.pass(1_000 * MS);
    assert_waits(&mut waits);
    drop(running);
    drop((granted(&mut waits), has_gpu));
    assert_untouched(&rig.scheduler);
}

/// C7: an activity that rolls back only in part and comes back is told to split in the end; having held nothing, it is
/// told to roll back again.
#[test]
fn c7_who_comes_back_too_often_is_told_to_split_until_it_has_held_nothing() {
    let mut rig = Rig::new(three_loans().with_roll_backs(2));
    let (first, has_first) = holder(&rig.scheduler, "first", gpu(5));
    let (again, mut lease) = holder(&rig.scheduler, "again", gpu(5));
    let _waits = queued(&rig.scheduler, gpu(5).priority(Priority::High).activity(&first));
    let ask_again = |rig: &mut Rig| {
        let mut waits = queued(&rig.scheduler, gpu(5).activity(&again));
        step(rig, 20);
        told(&mut waits)
    };
    assert_rolled_back(&ask_again(&mut rig));
    lease.shrink(&Amounts::of(GPU, 1)).unwrap();
    assert_rolled_back(&ask_again(&mut rig));
    assert_split(&ask_again(&mut rig));
    assert_split(&ask_again(&mut rig));
    drop(has_first);
    drop(_waits);
    drop(lease);
    // Anew.
    let (first, has_first) = holder(&rig.scheduler, "first", gpu(5));
    lease = take(&rig.scheduler, gpu(5).activity(&again));
    let _waits = queued(&rig.scheduler, gpu(5).priority(Priority::High).activity(&first));
    let mut waits = queued(&rig.scheduler, gpu(5).activity(&again));
    rig.pass(20 * MS);
    assert_rolled_back(&told(&mut waits));
    drop((has_first, lease, waits, _waits));
    assert_untouched(&rig.scheduler);
}

/// Who did as it was told has nothing left that could still come back, and is no reason to wait longer.
#[test]
fn c7_who_gave_everything_back_is_stuck_the_next_time_after_the_same_time() {
    let mut rig = rig();
    let (first, has_first) = holder(&rig.scheduler, "first", gpu(5));
    let (again, mut lease) = holder(&rig.scheduler, "again", gpu(5));
    for _ in 0..2 {
        let mut urgent = queued(&rig.scheduler, gpu(5).priority(Priority::High).activity(&first));
        let mut waits = queued(&rig.scheduler, gpu(5).activity(&again));
        rig.run();
        rig.pass(9 * MS);
        assert!(!waits.is_woken());
        rig.pass(MS);
        assert_rolled_back(&told(&mut waits));
        drop((waits, lease));
        drop(granted(&mut urgent));
        lease = take(&rig.scheduler, gpu(5).activity(&again));
    }
    drop((has_first, lease));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_who_has_an_alternative_that_can_be_served_gets_no_verdict() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6));
    let (two, has_host) = holder(&rig.scheduler, "two", host(6));
    let plain = take(&rig.scheduler, disk(10));
    let mut one = queued(&rig.scheduler, host(6).activity(&one));
    let mut two = queued(&rig.scheduler, gpu(6).or(disk(6)).activity(&two));
    rig.pass(100 * MS);
    assert!(!one.is_woken() && !two.is_woken());
    drop(plain);
    assert_eq!(granted(&mut two).get(DISK), 6);
    drop(has_host);
    drop((granted(&mut one), has_gpu));
    assert_eq!(verdicts(&rig.scheduler), (0, 0));
    assert_untouched(&rig.scheduler);
}

/// C7: an elastic amount that would do with what is there gets it once its patience is over, and no verdict before.
#[test]
fn c7_who_would_do_with_less_gets_no_verdict_while_it_insists() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6));
    let elastic = gpu(6).down_to(GPU, 2).patience(50 * MS).activity(&one);
    let mut waits = queued(&rig.scheduler, elastic);
    rig.pass(49 * MS);
    assert_waits(&mut waits);
    rig.pass(MS);
    assert_eq!(granted(&mut waits).get(GPU), 3);
    drop(has_gpu);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_a_rate_never_causes_a_verdict() {
    let config = three_loans().with(Budget::rate(IO, 10).burst(10).max_debt(1_000));
    let mut rig = Rig::new(config);
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6).io(10u64));
    let (two, has_host) = holder(&rig.scheduler, "two", host(6));
    let mut one = queued(&rig.scheduler, io(500).activity(&one));
    let mut two = queued(&rig.scheduler, io(10).gpu(1u64).activity(&two));
    rig.pass(900 * MS);
    assert!(!one.is_woken() && !two.is_woken());
    rig.pass(200_000 * MS);
    drop(granted(&mut one));
    rig.pass(200_000 * MS);
    drop((granted(&mut two), has_gpu, has_host));
    assert_eq!(verdicts(&rig.scheduler), (0, 0));
    rig.scheduler.verify().unwrap();
}

/// C7, C6: a capacity that shrinks below what is held makes holders wait for each other who did not before.
#[test]
fn c7_a_shrink_below_use_counts_what_is_overdrawn() {
    let mut rig = rig();
    let (one, has_one) = holder(&rig.scheduler, "one", gpu(8));
    let (two, has_two) = holder(&rig.scheduler, "two", gpu(2));
    let plain = take(&rig.scheduler, host(10));
    let mut one = queued(&rig.scheduler, host(1).activity(&one));
    let mut two = queued(&rig.scheduler, gpu(4).activity(&two));
    rig.pass(50 * MS);
    assert!(!two.is_woken());
    rig.scheduler.set_capacity(GPU, 5).unwrap();
    rig.pass(10 * MS);
    // One can go on, but there will be 3 then, not 5 with what is overdrawn left out.
    assert_split(&told(&mut two));
    assert!(!one.is_woken());
    drop(plain);
    drop((granted(&mut one), has_one, has_two));
    rig.scheduler.set_capacity(GPU, 10).unwrap();
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_a_verdict_names_budget_label_asked_and_free() {
    let mut rig = rig();
    let (a, b) = (take(&rig.scheduler, gpu(5).label("sort")), take(&rig.scheduler, gpu(4).label("join")));
    let (mut a, mut b) = (a, b);
    let growth_a = growing(&mut a, 2);
    let mut growth_b = growing(&mut b, 3);
    rig.pass(10 * MS);
    let Poll::Ready(Err(error)) = growth_b.poll() else { panic!("it waits") };
    let ReserveError::RolledBack { shortage, waited } = &error else { panic!("{error}") };
    assert_eq!((shortage.budget, shortage.asked, shortage.free, shortage.limit), (GPU, 3, 1, 10));
    assert_eq!((shortage.label.as_deref(), *waited), (Some("join"), 10 * MS));
    assert!(!error.is_permanent());
    let text = error.to_string();
    let whole = "rolled back after 10.000 ms: `join`: asked 3 B of budget gpu0.memory, 1 B free of 10 B, 1 \
                 waiting; held by `sort` 5 B, `join` 4 B; all who hold it wait as well; give back what \
                 the activity holds, then ask again";
    assert_eq!(text, whole);
    drop(growth_b);
    drop(growth_a);
    drop(b);
    let mut growth_a = growing(&mut a, 6);
    rig.pass(10 * MS);
    let Poll::Ready(Err(error)) = growth_a.poll() else { panic!("it waits") };
    assert!(matches!(&error, ReserveError::Split { shortage, .. } if shortage.asked == 6 && shortage.free == 5));
    let whole = "to be split after 10.000 ms: `sort`: asked 6 B of budget gpu0.memory, 5 B free of 10 B, \
                 0 waiting; held by `sort` 5 B; what is missing is held by the activity itself, or \
                 rolling back did not help; do the work in smaller parts";
    assert_eq!(error.to_string(), whole);
    drop(growth_a);
    drop(a);
    assert_untouched(&rig.scheduler);
}

/// With no quiet period the verdict comes in the turn that completes the ring.
#[test]
fn c7_without_a_quiet_period_the_last_to_come_is_told_at_once() {
    let rig = Rig::new(three_loans().with_verdict_after(std::time::Duration::ZERO));
    let (mut a, mut b) = (take(&rig.scheduler, gpu(5)), take(&rig.scheduler, gpu(5)));
    let growth_a = growing(&mut a, 1);
    let growth_b = growing(&mut b, 1);
    assert!(growth_b.is_woken() && !growth_a.is_woken());
    drop(growth_b);
    drop(b);
    assert!(growth_a.is_woken());
    drop(growth_a);
    drop(a);
    assert_untouched(&rig.scheduler);
}

/// R12: a verdict is due when all that is free, with all that is held by others than waiting activities, serves none of
/// these; one unit more, and none is due. Whoever is plain, labelled or in a scope counts as one that will end.
#[test]
fn r12_a_verdict_is_due_exactly_when_what_will_be_there_serves_nobody() {
    for (others, asked, stuck) in [(4, 6, false), (4, 7, true), (2, 4, false), (2, 5, true)] {
        let mut rig = rig();
        let plain = take(&rig.scheduler, gpu(others - 1));
        let scope = Activity::new("in a scope, and not said to be held by it");
        let ready = tokio_test::block_on(scope.scope(async { take(&rig.scheduler, gpu(1).label("labelled")) }));
        let held = (8 - others) / 2;
        let (mut a, mut b) = (take(&rig.scheduler, gpu(held)), take(&rig.scheduler, gpu(held)));
        let mut waits = queued(&rig.scheduler, gpu(2 + others + held));
        let (mut growth_a, mut growth_b) = (growing(&mut a, asked), growing(&mut b, asked));
        rig.pass(1_000 * MS);
        assert_eq!(growth_b.is_woken(), stuck, "{others} are held by others, {asked} are asked");
        assert_eq!(verdicts(&rig.scheduler), (u64::from(stuck), 0));
        assert_waits(&mut waits);
        drop((growth_a.poll(), growth_b.poll()));
        drop((growth_a, growth_b));
        drop((waits, plain, ready, a, b));
        assert_untouched(&rig.scheduler);
    }
}
