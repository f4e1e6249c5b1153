//! What only the scope of a task implies raises alerts and gets nobody a verdict (R12).

use std::future::Future;
use std::pin::Pin;

use bursar::Scheduler;
use tracing::Level;

use super::*;

type InScope = Spawn<Pin<Box<dyn Future<Output = Result<Lease, ReserveError>>>>>;

/// A reservation inside the scope of an activity.
fn reserve_in(activity: &Activity, scheduler: &Scheduler, request: Request) -> InScope {
    let reservation = scheduler.reserve(request);
    task::spawn(Box::pin(activity.scope(reservation)))
}

fn lease_in(activity: &Activity, scheduler: &Scheduler, request: Request) -> Lease {
    match reserve_in(activity, scheduler, request).poll() {
        std::task::Poll::Ready(Ok(lease)) => lease,
        other => panic!("not granted: {other:?}"),
    }
}

fn waiting_in(activity: &Activity, scheduler: &Scheduler, request: Request) -> InScope {
    let mut waiting = reserve_in(activity, scheduler, request);
    assert!(waiting.poll().is_pending());
    waiting
}

#[track_caller]
fn lease_of(waiting: &mut InScope) -> Lease {
    assert!(waiting.is_woken(), "it was not woken");
    match waiting.poll() {
        std::task::Poll::Ready(Ok(lease)) => lease,
        other => panic!("not granted: {other:?}"),
    }
}

#[test]
fn r12_scopes_that_wait_for_each_other_raise_an_alert_once_and_get_no_verdict() {
    let mut rig = rig();
    let (probe, build) = (Activity::new("probe side"), Activity::new("build side"));
    let has_gpu = lease_in(&probe, &rig.scheduler, gpu(6));
    let has_host = lease_in(&build, &rig.scheduler, host(6));
    let mut one = waiting_in(&probe, &rig.scheduler, host(6).label("rows"));
    let two = waiting_in(&build, &rig.scheduler, gpu(6));
    let lines = log::Lines::get();
    step(&mut rig, 9);
    assert_eq!(rig.scheduler.stats().alerts, 0, "the quiet period");
    step(&mut rig, 100);
    assert_eq!((rig.scheduler.stats().alerts, verdicts(&rig.scheduler)), (2, (0, 0)));
    assert!(!one.is_woken() && !two.is_woken());
    let warnings = lines.of("bursar::alert");
    let [(Level::WARN, first), (Level::WARN, second)] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(first.contains("`probe side` waits for host0.memory, which `build side` holds"), "{first}");
    assert!(first.contains("label=\"rows\""), "{first}");
    assert!(second.contains("`build side` waits for gpu0.memory, which `probe side` holds"), "{second}");
    // Somebody gives in, and the others go on; the next time it is said again.
    drop(two);
    drop(has_host);
    drop(lease_of(&mut one));
    let has_host = lease_in(&build, &rig.scheduler, host(6));
    let again = [waiting_in(&probe, &rig.scheduler, host(6)), waiting_in(&build, &rig.scheduler, gpu(6))];
    step(&mut rig, 11);
    assert_eq!(rig.scheduler.stats().alerts, 4);
    drop((again, has_gpu, has_host));
    assert_untouched(&rig.scheduler);
}

/// The explicit one would have to give in for somebody who may not hold what it seems to hold.
#[test]
fn r12_who_waits_for_a_scope_gets_no_verdict_even_if_it_is_declared() {
    let mut rig = rig();
    let (declared, has_gpu) = holder(&rig.scheduler, "declared", gpu(6));
    let implied = Activity::new("implied");
    let has_host = lease_in(&implied, &rig.scheduler, host(6));
    let mut one = queued(&rig.scheduler, host(6).activity(&declared));
    let mut two = waiting_in(&implied, &rig.scheduler, gpu(6));
    step(&mut rig, 50);
    assert_eq!((rig.scheduler.stats().alerts, verdicts(&rig.scheduler)), (2, (0, 0)));
    assert_waits(&mut one);
    // Here it was wrong: the lease had been handed to somebody who gives it back.
    drop(has_host);
    drop((granted(&mut one), has_gpu));
    drop(lease_of(&mut two));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r12_a_request_that_names_its_activity_is_told_inside_a_scope_as_outside() {
    let mut rig = rig();
    let (a, b) = (Activity::new("a"), Activity::new("b"));
    let has_gpu = lease_in(&a, &rig.scheduler, gpu(6).activity(&a));
    let has_host = lease_in(&b, &rig.scheduler, host(6).activity(&b));
    let one = waiting_in(&a, &rig.scheduler, host(6).activity(&a));
    let mut two = waiting_in(&b, &rig.scheduler, gpu(6).activity(&b));
    step(&mut rig, 10);
    assert_eq!((rig.scheduler.stats().alerts, verdicts(&rig.scheduler)), (0, (1, 0)));
    assert!(two.is_woken() && !one.is_woken());
    let std::task::Poll::Ready(Err(error)) = two.poll() else { panic!("no verdict") };
    assert_rolled_back(&error);
    drop((one, has_gpu, has_host));
    assert_untouched(&rig.scheduler);
}

/// What a scope holds by requests that name it, and what it waits for by one that does not, belong together.
#[test]
fn r12_a_scope_and_its_activity_are_one_for_alerts() {
    let mut rig = rig();
    let (a, has_gpu) = holder(&rig.scheduler, "a", gpu(6));
    let (b, has_host) = holder(&rig.scheduler, "b", host(6));
    let one = waiting_in(&a, &rig.scheduler, host(6));
    let mut two = queued(&rig.scheduler, gpu(6).activity(&b));
    step(&mut rig, 30);
    assert_eq!((rig.scheduler.stats().alerts, verdicts(&rig.scheduler)), (2, (0, 0)));
    assert_waits(&mut two);
    drop((one, two, has_gpu, has_host));
    assert_untouched(&rig.scheduler);
}

/// A lease that was granted in a scope belongs to it wherever it grows.
#[test]
fn r12_growth_of_what_a_scope_holds_raises_an_alert() {
    let mut rig = rig();
    let (a, b) = (Activity::new("a"), Activity::new("b"));
    let mut first = lease_in(&a, &rig.scheduler, gpu(5));
    let mut second = lease_in(&b, &rig.scheduler, gpu(5));
    let growth = [growing(&mut first, 1), growing(&mut second, 1)];
    step(&mut rig, 30);
    assert_eq!((rig.scheduler.stats().alerts, verdicts(&rig.scheduler)), (2, (0, 0)));
    drop(growth);
    drop((first, second));
    assert_untouched(&rig.scheduler);
}

/// An alert is no reason to wake anybody, and where nobody waits for another there is none.
#[test]
fn r12_a_scope_that_waits_for_somebody_who_goes_on_raises_no_alert() {
    let mut rig = rig();
    let query = Activity::new("query");
    let has_gpu = lease_in(&query, &rig.scheduler, gpu(6));
    let elsewhere = take(&rig.scheduler, host(6));
    let mut waits = waiting_in(&query, &rig.scheduler, host(6));
    rig.jump(500 * MS);
    assert_eq!(rig.run(), 0, "nothing was due");
    assert_eq!(rig.scheduler.stats().alerts, 0);
    drop(elsewhere);
    drop((lease_of(&mut waits), has_gpu));
    assert_untouched(&rig.scheduler);
}

/// R3: what a scope waits for is not kept from it by the claim of somebody who waits for what it holds.
#[test]
fn r3_a_claim_does_not_bind_the_scope_that_it_waits_for() {
    let rig = Rig::new(Config { bypass_limit: 0, ..three_loans() });
    let query = Activity::new("query");
    let has_gpu = lease_in(&query, &rig.scheduler, gpu(6));
    let mut large = queued(&rig.scheduler, gpu(10).host(10u64));
    assert!(rig.scheduler.try_reserve(host(2)).is_err());
    let nested = lease_in(&query, &rig.scheduler, host(2));
    drop((nested, has_gpu));
    drop(granted(&mut large));
    assert_untouched(&rig.scheduler);
}

/// While there is a scope somewhere, others pay a look and nothing else.
#[test]
fn a_reservation_outside_of_every_scope_belongs_to_nobody() {
    let mut rig = rig();
    let query = Activity::new("query");
    let has_gpu = lease_in(&query, &rig.scheduler, gpu(6));
    let outside = take(&rig.scheduler, host(6));
    let mut waits = queued(&rig.scheduler, gpu(6));
    let inside = waiting_in(&query, &rig.scheduler, host(6));
    step(&mut rig, 30);
    assert_eq!(rig.scheduler.stats().alerts, 0, "whoever has the host memory may give it back");
    drop((inside, has_gpu));
    drop((granted(&mut waits), outside));
    assert_untouched(&rig.scheduler);
}
