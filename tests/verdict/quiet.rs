//! When somebody is told something, and when nobody is: waits outside, and wakes that are on their way.

use bursar::{Activity, Amounts, Priority};

use super::*;

const LOW: Priority = Priority::Low;

#[test]
fn p35_a_declared_wait_outside_counts_until_it_ends() {
    let mut rig = rig();
    let (build, has_gpu) = holder(&rig.scheduler, "build", gpu(6));
    let (probe, has_host) = holder(&rig.scheduler, "probe", host(6));
    let mut waits = queued(&rig.scheduler, gpu(6).activity(&probe));
    rig.pass(50 * MS);
    assert_waits(&mut waits);
    // The build side waits for the probe side: nobody will give anything back.
    let outside = [build.external_wait(&rig.scheduler), build.external_wait(&rig.scheduler)];
    rig.pass(9 * MS);
    assert_waits(&mut waits);
    let [first, second] = outside;
    drop(first);
    rig.pass(MS);
    assert_rolled_back(&told(&mut waits));
    let mut waits = queued(&rig.scheduler, gpu(6).activity(&probe));
    rig.pass(5 * MS);
    drop(second);
    rig.pass(50 * MS);
    assert_waits(&mut waits);
    drop(has_gpu);
    drop((granted(&mut waits), has_host));
    assert_untouched(&rig.scheduler);
}

/// P35: who waits outside cannot be told; while nobody else is concerned nobody is, and the scheduler task sleeps.
#[test]
fn p35_a_wait_outside_alone_is_no_deadlock() {
    let mut rig = rig();
    let (build, has_gpu) = holder(&rig.scheduler, "build", gpu(6));
    let outside = build.external_wait(&rig.scheduler);
    let mut plain = queued(&rig.scheduler, gpu(6));
    rig.jump(500 * MS);
    assert_eq!(rig.run(), 0, "nothing was due");
    assert_waits(&mut plain);
    drop((outside, has_gpu));
    drop(granted(&mut plain));
    // The end of a wait whose activity holds nothing any more, and of one that never held anything.
    drop(Activity::new("idle").external_wait(&rig.scheduler));
    assert_untouched(&rig.scheduler);
}

#[test]
fn p36_a_release_in_the_quiet_period_ends_it_and_the_next_one_starts_anew() {
    let mut rig = rig();
    let (first, has_gpu) = holder(&rig.scheduler, "first", gpu(5));
    let (two, mut has_host) = holder(&rig.scheduler, "two", host(6));
    let mut one = queued(&rig.scheduler, host(6).activity(&first));
    let mut waits = queued(&rig.scheduler, gpu(6).activity(&two));
    rig.pass(9 * MS);
    has_host.shrink(&Amounts::of(HOST, 2)).unwrap();
    let got = granted(&mut one);
    rig.pass(50 * MS);
    assert_waits(&mut waits);
    // Another deadlock of the same two.
    let mut one = queued(&rig.scheduler, host(4).activity(&first));
    step(&mut rig, 9);
    assert!(!one.is_woken() && !waits.is_woken());
    step(&mut rig, 1);
    assert_rolled_back(&told(&mut one));
    drop((got, has_gpu));
    drop((granted(&mut waits), has_host));
    assert_eq!(verdicts(&rig.scheduler), (1, 0));
    assert_untouched(&rig.scheduler);
}

/// P36: each holder has a quiet period of its own: one that was stuck for an instant does not pay for one that was
/// stuck for long, nor does a noise elsewhere put off who is.
#[test]
fn p36_every_holder_is_stuck_for_the_whole_period_before_it_is_told() {
    let mut rig = rig();
    let (one, has_one) = holder(&rig.scheduler, "one", gpu(5));
    let (two, has_two) = holder(&rig.scheduler, "two", gpu(5));
    let (three, has_three) = holder(&rig.scheduler, "three", host(5));
    let (four, has_four) = holder(&rig.scheduler, "four", host(5));
    let mut one = queued(&rig.scheduler, gpu(1).activity(&one));
    let mut two = queued(&rig.scheduler, gpu(1).activity(&two));
    rig.pass(9 * MS);
    let mut three = queued(&rig.scheduler, host(1).priority(LOW).activity(&three));
    let mut four = queued(&rig.scheduler, host(1).priority(LOW).activity(&four));
    rig.pass(MS);
    assert_rolled_back(&told(&mut two));
    assert!(!one.is_woken() && !three.is_woken() && !four.is_woken());
    rig.pass(8 * MS);
    assert!(!four.is_woken());
    rig.pass(MS);
    assert_rolled_back(&told(&mut four));
    drop((has_two, has_four));
    drop((granted(&mut one), granted(&mut three), has_one, has_three));
    assert_untouched(&rig.scheduler);
}

/// P36: an offer that lies unpolled is a wake on its way: its owner is not waiting.
#[test]
fn p36_no_verdict_while_an_offer_lies_unpolled() {
    let mut rig = rig();
    let (mut a, mut b, c) = (take(&rig.scheduler, gpu(4)), take(&rig.scheduler, gpu(5)), take(&rig.scheduler, gpu(1)));
    let mut growth_a = growing(&mut a, 1);
    let growth_b = growing(&mut b, 1);
    drop(c);
    assert!(growth_a.is_woken());
    rig.pass(50 * MS);
    assert!(!growth_b.is_woken());
    assert!(growth_a.poll().is_ready());
    rig.pass(50 * MS);
    assert!(!growth_b.is_woken(), "A runs");
    drop(growth_a);
    let mut growth_a = growing(&mut a, 1);
    rig.pass(10 * MS);
    assert!(growth_a.is_woken() && growth_a.poll().is_ready(), "now both wait, and A asked last");
    drop(growth_a);
    drop(a);
    assert!(growth_b.is_woken());
    drop(growth_b);
    drop(b);
    assert_untouched(&rig.scheduler);
}

/// P36: nor while an offer lies unpolled for another wait of the same activity; and when that came to nothing, nothing
/// need happen before the verdict.
#[test]
fn p36_an_offer_for_another_wait_of_the_activity_starts_the_quiet_period_anew() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6));
    let (two, has_host) = holder(&rig.scheduler, "two", host(6));
    let other = take(&rig.scheduler, disk(10));
    let mut joined = queued(&rig.scheduler, disk(1).activity(&two));
    let mut one = queued(&rig.scheduler, host(6).activity(&one));
    let mut waits = queued(&rig.scheduler, gpu(6).activity(&two));
    rig.pass(50 * MS);
    assert!(!waits.is_woken(), "one of its waits can be served, so it may go on");
    drop(other);
    assert!(joined.is_woken());
    rig.pass(50 * MS);
    assert!(!waits.is_woken(), "the grant lies ready");
    let part = granted(&mut joined);
    step(&mut rig, 9);
    assert!(!waits.is_woken());
    step(&mut rig, 11);
    assert_rolled_back(&told(&mut waits));
    drop((part, has_host));
    drop((granted(&mut one), has_gpu));
    assert_untouched(&rig.scheduler);
}

/// P36: an activity with two waits that was told something gets time to act on it before it, or anybody else, is told
/// more.
#[test]
fn p36_who_was_just_told_is_given_the_time_to_act() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", ask(&[(GPU, 6), (DISK, 6)]));
    let (two, has_host) = holder(&rig.scheduler, "two", host(6));
    let mut one = queued(&rig.scheduler, host(6).activity(&one));
    let mut waits = [gpu(6), disk(6)].map(|request| queued(&rig.scheduler, request.activity(&two)));
    rig.pass(10 * MS);
    assert_rolled_back(&told(&mut waits[1]));
    rig.pass(9 * MS);
    assert!(!waits[0].is_woken() && !one.is_woken());
    let [first, _] = waits;
    drop((first, has_host));
    drop((granted(&mut one), has_gpu));
    assert_eq!(verdicts(&rig.scheduler), (1, 0));
    assert_untouched(&rig.scheduler);
}

/// R5: whose grant expired is not waiting either; it does when it is polled.
#[test]
fn r5_a_dormant_holder_is_not_stuck_until_it_is_polled() {
    let mut rig = rig();
    let (one, has_gpu) = holder(&rig.scheduler, "one", gpu(6));
    let plain = take(&rig.scheduler, host(6));
    let mut first = queued(&rig.scheduler, host(6).activity(&one));
    let (two, has_disk) = holder(&rig.scheduler, "two", disk(6));
    let mut second = queued(&rig.scheduler, ask(&[(HOST, 6)]).activity(&two));
    drop(plain);
    rig.pass(101 * MS);
    let has_host = granted(&mut second);
    let mut second = queued(&rig.scheduler, gpu(6).activity(&two));
    rig.pass(50 * MS);
    assert_waits(&mut second);
    assert!(first.poll().is_pending());
    rig.pass(10 * MS);
    assert_rolled_back(&told(&mut second));
    drop((has_host, has_disk));
    drop((granted(&mut first), has_gpu));
    assert_untouched(&rig.scheduler);
}
