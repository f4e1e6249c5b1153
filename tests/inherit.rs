//! Inheritance: who holds what a higher rank waits for waits with that rank (R8, P25).

mod common;

use bursar::{Activity, Priority, Request, Scheduler};
use common::*;

const CRITICAL: Priority = Priority::Critical;
const HIGH: Priority = Priority::High;
const NORMAL: Priority = Priority::Normal;
const LOW: Priority = Priority::Low;

fn rig() -> Rig {
    Rig::new(three_loans())
}

/// An activity that holds one thing and waits for another, at LOW.
#[track_caller]
fn low(scheduler: &Scheduler, holds: Request, asks: Request) -> (Activity, bursar::Lease, Waiting) {
    let activity = Activity::new("low");
    let lease = take(scheduler, holds.priority(LOW).activity(&activity));
    let waits = queued(scheduler, asks.priority(LOW).activity(&activity));
    (activity, lease, waits)
}

#[test]
fn p25_a_holder_of_what_critical_waits_for_goes_before_normal_waiters() {
    let rig = rig();
    let other = take(&rig.scheduler, host(10));
    let mut normal = queued(&rig.scheduler, host(10));
    let (_low, lease, mut waits) = low(&rig.scheduler, gpu(10), host(10));
    let mut critical = queued(&rig.scheduler, gpu(1).priority(CRITICAL));
    drop(other);
    assert!(!normal.is_woken());
    let part = granted(&mut waits);
    assert_eq!(part.priority(), LOW, "the level of the request stays what it was");
    drop(lease);
    drop((granted(&mut critical), part));
    drop(granted(&mut normal));
    // R8: figures go by the level of the request.
    let stats = rig.scheduler.stats();
    assert_eq!((stats.level(LOW).waited, stats.level(CRITICAL).waited, stats.level(NORMAL).waited), (1, 1, 1));
    assert_untouched(&rig.scheduler);
}

#[test]
fn p25_without_somebody_urgent_the_holder_waits_its_turn() {
    let rig = rig();
    let other = take(&rig.scheduler, host(10));
    let mut normal = queued(&rig.scheduler, host(10));
    let (_low, lease, mut waits) = low(&rig.scheduler, gpu(10), host(10));
    // This one waits for something else.
    let third = take(&rig.scheduler, disk(10));
    let critical = queued(&rig.scheduler, disk(1).priority(CRITICAL));
    drop(other);
    assert!(!waits.is_woken());
    drop(granted(&mut normal));
    drop((granted(&mut waits), lease, third, critical));
    assert_untouched(&rig.scheduler);
}

/// R8: LOW holds the GPU that CRITICAL waits for, and waits for the host memory of another LOW, which waits for disk.
#[test]
fn p25_inheritance_passes_over_two_holders() {
    let rig = rig();
    let other = take(&rig.scheduler, disk(10));
    let mut normal = queued(&rig.scheduler, disk(10).priority(HIGH));
    let (_far, far_lease, mut far) = low(&rig.scheduler, host(10), disk(10));
    let (_near, near_lease, mut near) = low(&rig.scheduler, gpu(10), host(10));
    let mut critical = queued(&rig.scheduler, gpu(1).priority(CRITICAL));
    drop(other);
    assert!(!normal.is_woken(), "CRITICAL waits for it over two holders");
    drop((granted(&mut far), far_lease));
    let near = granted(&mut near);
    assert_eq!(granted(&mut normal).get(DISK), 10);
    drop((near, near_lease));
    drop(granted(&mut critical));
    assert_untouched(&rig.scheduler);
}

#[test]
fn p25_a_holder_falls_back_when_the_urgent_one_gives_up() {
    let rig = rig();
    let other = take(&rig.scheduler, host(10));
    let mut normal = queued(&rig.scheduler, host(10));
    let (_low, lease, mut waits) = low(&rig.scheduler, gpu(10), host(10));
    let bystander = queued(&rig.scheduler, gpu(1).priority(LOW));
    let critical = queued(&rig.scheduler, gpu(1).priority(CRITICAL));
    drop(critical);
    drop(other);
    assert!(!waits.is_woken());
    drop(granted(&mut normal));
    drop((granted(&mut waits), lease, bystander));
    assert_untouched(&rig.scheduler);
}

#[test]
fn p25_a_holder_falls_back_when_the_urgent_one_is_served() {
    let rig = rig();
    let (gpu_of_another, other) = (take(&rig.scheduler, gpu(3)), take(&rig.scheduler, host(10)));
    let mut normal = queued(&rig.scheduler, host(10));
    let (_low, lease, mut waits) = low(&rig.scheduler, gpu(7), host(10));
    let mut critical = queued(&rig.scheduler, gpu(3).priority(CRITICAL));
    drop(gpu_of_another);
    drop(granted(&mut critical));
    drop(other);
    assert!(!waits.is_woken());
    drop(granted(&mut normal));
    drop((granted(&mut waits), lease));
    assert_untouched(&rig.scheduler);
}

/// A parked request stands in no line, so the holder whom it waits for goes on with its own rank, whatever that is.
#[test]
fn p25_whom_only_the_cap_of_its_module_keeps_passes_no_rank_on() {
    let rig = rig();
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let other = take(&rig.scheduler, host(10));
    let mut normal = queued(&rig.scheduler, host(10));
    let (_low, lease, mut waits) = low(&rig.scheduler, gpu(4).of(&vision), host(10));
    let mut critical = queued(&rig.scheduler, gpu(1).of(&vision).priority(CRITICAL));
    drop(other);
    assert!(!waits.is_woken());
    drop(granted(&mut normal));
    drop((granted(&mut waits), lease));
    drop(granted(&mut critical));
    assert_untouched(&rig.scheduler);
}

/// Two holders that wait for each other's budgets, without being stuck: the level that came from outside must not go
/// round between them once its owner is gone.
#[test]
fn p25_holders_in_a_ring_do_not_keep_a_level_among_them_whose_owner_is_gone() {
    let rig = rig();
    let (one, two) = (Activity::new("one"), Activity::new("two"));
    let (g, h) = (take(&rig.scheduler, gpu(5)), take(&rig.scheduler, host(5)));
    let lease_one = take(&rig.scheduler, gpu(5).activity(&one));
    let lease_two = take(&rig.scheduler, host(5).activity(&two));
    let mut one = queued(&rig.scheduler, host(5).priority(LOW).activity(&one));
    let mut two = queued(&rig.scheduler, gpu(5).priority(LOW).activity(&two));
    let mut normal = queued(&rig.scheduler, host(5));
    let critical = queued(&rig.scheduler, gpu(1).priority(CRITICAL));
    drop(critical);
    drop(h);
    // One inherits from whoever waits for the GPU: from LOW, so it goes after the NORMAL one.
    assert!(normal.is_woken() && !one.is_woken(), "it kept the level of CRITICAL");
    drop(granted(&mut normal));
    let one = granted(&mut one);
    drop((g, lease_one, one));
    drop((granted(&mut two), lease_two));
    assert_untouched(&rig.scheduler);
}

/// C3: what both could use goes to the urgent one itself.
#[test]
fn c3_a_holder_does_not_pass_whom_it_inherits_from() {
    let rig = rig();
    let mut lease = take(&rig.scheduler, gpu(2).priority(LOW));
    let [one, two] = [4, 4].map(|units| take(&rig.scheduler, gpu(units)));
    let more = bursar::Amounts::of(GPU, 4);
    let mut growth = tokio_test::task::spawn(lease.grow(&more));
    assert!(growth.poll().is_pending());
    let mut normal = queued(&rig.scheduler, gpu(4));
    let mut critical = queued(&rig.scheduler, gpu(4).priority(CRITICAL));
    drop(one);
    let first = granted(&mut critical);
    assert!(!growth.is_woken() && !normal.is_woken());
    drop(two);
    // CRITICAL has what it wanted: NORMAL inherits nothing to LOW but its own rank, and goes first too.
    drop(granted(&mut normal));
    drop(first);
    assert!(growth.is_woken() && growth.poll().is_ready());
    drop(growth);
    drop(lease);
    assert_untouched(&rig.scheduler);
}

/// R8, C4: what a waiter has gained by waiting shows when what it inherited is gone.
#[test]
fn r8_aging_goes_on_beneath_what_is_inherited() {
    let mut rig = Rig::new(three_loans().with_aging_step(100 * MS));
    let other = take(&rig.scheduler, host(10));
    let (_low, lease, mut waits) = low(&rig.scheduler, gpu(10), host(10));
    let critical = queued(&rig.scheduler, gpu(1).priority(CRITICAL));
    rig.pass(110 * MS);
    drop(critical);
    // It has risen to NORMAL meanwhile, where it came before this one.
    let mut normal = queued(&rig.scheduler, host(10));
    drop(other);
    assert!(!normal.is_woken());
    drop((granted(&mut waits), lease));
    drop(granted(&mut normal));
    assert_untouched(&rig.scheduler);
}

/// R8, C4: who has aged as far as it inherits keeps the better place of the two.
#[test]
fn r8_a_holder_that_ages_into_the_level_it_has_inherited_keeps_its_place() {
    let mut rig = Rig::new(three_loans().with_aging_step(100 * MS));
    let (activity, other) = (Activity::new("normal"), take(&rig.scheduler, host(10)));
    let lease = take(&rig.scheduler, gpu(10).activity(&activity));
    let mut waits = queued(&rig.scheduler, host(10).activity(&activity));
    let high = queued(&rig.scheduler, gpu(1).priority(HIGH));
    rig.pass(50 * MS);
    let mut rival = queued(&rig.scheduler, host(10).priority(HIGH));
    rig.pass(60 * MS);
    drop(other);
    assert!(!rival.is_woken());
    drop((granted(&mut waits), lease, high));
    drop(granted(&mut rival));
    assert_untouched(&rig.scheduler);
}

/// R5, R8: a holder whose grant expired is dormant and inherits nothing; polled, it inherits again.
#[test]
fn r5_a_dormant_holder_inherits_nothing_until_it_is_polled() {
    let mut rig = rig();
    let other = take(&rig.scheduler, host(10));
    let (_low, lease, mut waits) = low(&rig.scheduler, gpu(10), host(10));
    let critical = queued(&rig.scheduler, gpu(1).priority(CRITICAL));
    let mut normal = queued(&rig.scheduler, host(10));
    drop(other);
    assert!(waits.is_woken());
    rig.pass(101 * MS);
    let held = granted(&mut normal);
    let mut second = queued(&rig.scheduler, host(10));
    assert!(waits.poll().is_pending());
    drop(held);
    assert!(!second.is_woken());
    drop((granted(&mut waits), lease, critical));
    drop(granted(&mut second));
    assert_untouched(&rig.scheduler);
}

/// R8: of several waits of one activity, all inherit, and an alternative carries the rank in every line.
#[test]
fn r8_every_wait_of_a_holder_inherits_in_every_line_it_stands_in() {
    let rig = rig();
    let (h, d) = (take(&rig.scheduler, host(10)), take(&rig.scheduler, disk(10)));
    let (activity, lease, mut first) = low(&rig.scheduler, gpu(10), host(10).or(disk(10)));
    let mut second = queued(&rig.scheduler, disk(1).priority(LOW).activity(&activity));
    let mut normal = queued(&rig.scheduler, disk(10));
    let critical = queued(&rig.scheduler, gpu(1).priority(CRITICAL));
    drop(d);
    let got = granted(&mut first);
    assert_eq!((got.get(DISK), got.path().alternative), (10, 1));
    assert!(!normal.is_woken());
    drop(got);
    drop(granted(&mut second));
    drop((granted(&mut normal), lease, h, critical));
    assert_untouched(&rig.scheduler);
}
