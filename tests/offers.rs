//! Grants on their way to an owner who may be slow, asleep or gone (R5).

mod common;

use std::future::Future;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bursar::{Budget, Config, Priority, ReserveError, Scheduler};
use common::*;

const EXPIRY: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3_600);

/// Makes a waiter for all of GPU memory dormant: granted, not polled in time, passed over for `rival`, who is granted.
fn make_dormant(rig: &mut Rig, rival: bursar::Request) -> (Waiting, bursar::Lease) {
    let held = take(&rig.scheduler, gpu(10));
    let waiting = queued(&rig.scheduler, gpu(10).host(1u64));
    drop(held);
    let mut rival = queued(&rig.scheduler, rival);
    rig.pass(EXPIRY);
    let lease = granted(&mut rival);
    assert!(waiting.is_woken());
    (waiting, lease)
}

#[test]
fn r5_an_offer_that_nobody_else_wants_stays_for_ever() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(10).deadline(MS));
    drop(held);
    rig.pass(24 * HOUR);
    let stats = rig.scheduler.stats();
    assert_eq!((stats.offered, stats.expired_offers, stats.budget(GPU).unwrap().offered), (1, 0, 10));
    drop(granted(&mut waiting));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_an_offer_that_others_wait_for_expires_at_its_time_and_not_before() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut slow = queued(&rig.scheduler, gpu(10));
    let mut next = queued(&rig.scheduler, gpu(4));
    drop(held);
    rig.pass(EXPIRY - MS);
    assert_waits(&mut next);
    rig.pass(MS);
    let lease = granted(&mut next);
    assert_eq!(rig.scheduler.stats().expired_offers, 1);
    assert!(slow.is_woken() && slow.poll().is_pending(), "it asks again when it is polled");
    drop(lease);
    drop(granted(&mut slow));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_a_late_comer_who_wants_an_overdue_offer_gets_it() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let slow = queued(&rig.scheduler, gpu(10));
    drop(held);
    rig.pass(HOUR);
    let mut next = queued(&rig.scheduler, gpu(4).priority(Priority::Idle));
    rig.pass(EXPIRY);
    drop(granted(&mut next));
    drop(slow);
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_an_offer_is_left_alone_by_those_who_wait_for_something_else() {
    let mut rig = Rig::loans(10, 10);
    let (held, all_host) = (take(&rig.scheduler, gpu(10)), take(&rig.scheduler, host(10)));
    let mut slow = queued(&rig.scheduler, gpu(10));
    drop(held);
    let mut elsewhere = queued(&rig.scheduler, host(1));
    rig.pass(HOUR);
    assert_waits(&mut elsewhere);
    assert_eq!(rig.scheduler.stats().expired_offers, 0);
    drop(granted(&mut slow));
    drop(all_host);
    drop(granted(&mut elsewhere));
}

#[test]
fn r5_a_dormant_waiter_is_in_nobodys_way() {
    let mut rig = Rig::loans(10, 10);
    let (mut dormant, lease) = make_dormant(&mut rig, gpu(10));
    drop(lease);
    let stats = rig.scheduler.stats();
    assert_eq!((stats.waiting, stats.budget(GPU).unwrap().waiting), (0, 0), "it sets no flag");
    let lease = take(&rig.scheduler, gpu(10).priority(Priority::Idle));
    let mut behind = queued(&rig.scheduler, gpu(10).priority(Priority::Idle));
    drop(lease);
    drop(granted(&mut behind));
    assert_eq!(rig.scheduler.stats().offered, 0, "it gets no offer");
    let polled = dormant.poll();
    assert!(matches!(polled, Poll::Ready(Ok(_))), "polled, it is granted at once");
    drop(polled);
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_what_a_dormant_waiter_is_granted_when_polled_counts_as_waited_for_since_it_came() {
    let mut rig = Rig::loans(10, 10);
    rig.jump(50 * MS);
    let (mut dormant, lease) = make_dormant(&mut rig, gpu(10));
    rig.jump(150 * MS);
    drop(lease);
    assert!(matches!(dormant.poll(), Poll::Ready(Ok(_))));
    let waits = rig.scheduler.stats().budget(GPU).unwrap().waits[Priority::Normal as usize];
    let expected = (EXPIRY + 150 * MS).as_nanos() as u64;
    assert_eq!(waits.count, 3, "its offer, the rival's, and the grant when it was polled");
    assert!(waits.max.abs_diff(expected) <= expected / 100, "{waits:?}");
}

#[test]
fn r5_a_dormant_waiter_keeps_its_rank() {
    let mut rig = Rig::loans(10, 10);
    let (mut dormant, lease) = make_dormant(&mut rig, gpu(10));
    let mut younger = queued(&rig.scheduler, gpu(10));
    assert!(dormant.poll().is_pending());
    drop(lease);
    assert_waits(&mut younger);
    drop(granted(&mut dormant));
    drop(granted(&mut younger));
    assert_untouched(&rig.scheduler);
}

/// Its rank is that of its first poll, not of the offer's end: who came in between stays behind it.
#[test]
fn r5_a_dormant_waiter_goes_before_who_came_while_its_offer_lay() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut slow = queued(&rig.scheduler, gpu(10));
    drop(held);
    let mut rival = queued(&rig.scheduler, gpu(10));
    let mut younger = queued(&rig.scheduler, gpu(10));
    rig.pass(EXPIRY);
    let lease = granted(&mut rival);
    assert!(slow.poll().is_pending(), "its offer has expired");
    drop(lease);
    assert_waits(&mut younger);
    drop(granted(&mut slow));
    drop(granted(&mut younger));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_the_patience_doubles_with_every_offer_that_expires() {
    let mut rig = Rig::loans(10, 10);
    let (mut slow, mut lease) = make_dormant(&mut rig, gpu(10));
    for times in [2, 4, 8] {
        assert!(slow.poll().is_pending());
        let mut rival = queued(&rig.scheduler, gpu(10));
        drop(lease);
        rig.pass(times * EXPIRY - MS);
        assert_waits(&mut rival);
        rig.pass(MS);
        lease = granted(&mut rival);
    }
    drop((lease, slow));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_a_deadline_ends_a_dormant_wait_too() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut slow = queued(&rig.scheduler, gpu(10).deadline(3 * EXPIRY));
    let mut rival = queued(&rig.scheduler, gpu(10));
    drop(held);
    rig.pass(EXPIRY);
    let lease = granted(&mut rival);
    rig.pass(3 * EXPIRY);
    assert!(matches!(outcome(&mut slow), Err(ReserveError::Late { .. })));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_an_offer_made_in_time_may_be_taken_up_after_the_deadline() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(10).deadline(10 * MS));
    rig.pass(9 * MS);
    drop(held);
    rig.pass(HOUR);
    drop(granted(&mut waiting));
    assert_untouched(&rig.scheduler);
}

/// R7: what an expired offer was charged is refunded, and the next is charged in turn.
#[test]
fn r7_an_expired_offer_is_refunded_up_to_the_burst() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::rate(IO, 1).burst(10));
    let mut rig = Rig::new(config);
    let held = take(&rig.scheduler, gpu(10));
    let slow = queued(&rig.scheduler, gpu(10).io(8u64));
    drop(held);
    assert_eq!(free(&rig.scheduler, IO), 2);
    let mut next = queued(&rig.scheduler, gpu(1).io(9u64));
    rig.pass(EXPIRY);
    let lease = granted(&mut next);
    assert_eq!(free(&rig.scheduler, IO), 1, "8 came back and 9 were charged");
    drop((slow, lease));
    assert_untouched(&rig.scheduler);
}

/// Accepting and expiring are rivals; exactly one of them wins, whatever the timing.
#[test]
fn r5_accepting_and_expiring_at_the_same_moment_grant_the_units_once() {
    let taken_up = AtomicUsize::new(0);
    let expired: u64 = (0..500)
        .map(|_| {
            let mut rig = Rig::loans(10, 10);
            let held = take(&rig.scheduler, gpu(10));
            let mut slow = Box::pin(rig.scheduler.reserve(gpu(10)));
            assert!(slow.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let mut rival = queued(&rig.scheduler, gpu(10));
            drop(held);
            rig.jump(EXPIRY);
            let start = Barrier::new(2);
            let lease = thread::scope(|scope| {
                let owner = scope.spawn(|| {
                    start.wait();
                    slow.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                });
                start.wait();
                rig.run();
                owner.join().unwrap()
            });
            let stats = rig.scheduler.stats();
            assert_eq!(stats.budget(GPU).unwrap().granted, 10);
            match lease {
                Poll::Ready(lease) => {
                    taken_up.fetch_add(1, Ordering::Relaxed);
                    assert_waits(&mut rival);
                    drop(lease.unwrap());
                }
                Poll::Pending => assert_eq!(stats.expired_offers, 1),
            }
            drop(granted(&mut rival));
            drop(slow);
            assert_untouched(&rig.scheduler);
            stats.expired_offers
        })
        .sum();
    assert_eq!(taken_up.into_inner() as u64 + expired, 500);
}

/// With the scheduler's own task and tokio's clock, as a service has it.
#[tokio::test(start_paused = true)]
async fn r5_the_scheduler_task_expires_offers_by_itself() {
    let scheduler = Scheduler::builder().gpu(10u64).offer_expiry(7 * MS).spawn().unwrap();
    let held = scheduler.reserve(gpu(10)).await.unwrap();
    let asleep = queued(&scheduler, gpu(10));
    let started = tokio::time::Instant::now();
    let next = tokio::spawn(scheduler.reserve(gpu(10)));
    tokio::task::yield_now().await;
    drop(held);
    drop(next.await.unwrap().unwrap());
    assert_eq!(started.elapsed(), 7 * MS);
    drop(asleep);
    assert_untouched(&scheduler);
}

/// An offer expires only when an active waiter could use its units; what one waiter needs, one offer has.
#[test]
fn r5_no_more_offers_expire_than_the_waiters_can_use() {
    let mut rig = Rig::loans(8, 10);
    let held = take(&rig.scheduler, gpu(8));
    let mut slow = [queued(&rig.scheduler, gpu(4)), queued(&rig.scheduler, gpu(4))];
    let mut next = queued(&rig.scheduler, gpu(4));
    drop(held);
    rig.pass(EXPIRY);
    let _lease = granted(&mut next);
    assert_eq!(rig.scheduler.stats().expired_offers, 1);
    let kept = slow.each_mut().map(|slow| slow.poll().is_ready());
    assert!(kept[0] != kept[1], "one of them keeps its grant: {kept:?}");
}

/// See `Config::max_waiters`: what counts are those that wait actively.
#[test]
fn neither_an_offer_nor_a_waiter_whose_offer_expired_takes_a_place_in_a_full_queue() {
    let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_max_waiters(1));
    let held = take(&rig.scheduler, gpu(10));
    let mut slow = queued(&rig.scheduler, gpu(10));
    drop(held);
    // Offered: the place is free again.
    let mut next = queued(&rig.scheduler, gpu(10));
    rig.pass(EXPIRY);
    let lease = granted(&mut next);
    // Expired and not polled since: so it is still.
    let third = queued(&rig.scheduler, gpu(10));
    // It comes back though the queue is full; a newcomer has to wait until both have gone.
    assert!(slow.poll().is_pending());
    assert_eq!(rig.scheduler.stats().waiting, 2);
    let shed = || matches!(block_on(rig.scheduler.reserve(gpu(1))), Err(ReserveError::Shed { limit: 1, .. }));
    assert!(shed());
    drop(third);
    assert!(shed());
    drop(slow);
    drop(queued(&rig.scheduler, gpu(1)));
    drop(lease);
    assert_untouched(&rig.scheduler);
}

#[test]
fn r5_the_dormant_are_counted_apart_from_those_that_wait_until_they_are_polled_or_end() {
    let count = |rig: &Rig| (rig.scheduler.stats().dormant, rig.scheduler.stats().waiting);
    let mut rig = Rig::loans(10, 10);
    let (mut polled, lease) = make_dormant(&mut rig, gpu(4));
    assert_eq!(count(&rig), (1, 0));
    let text = rig.scheduler.snapshot(10).to_string();
    assert!(text.contains("0 waiting, 1 dormant") && text.contains("first of 1 that wait or are dormant"), "{text}");
    assert!(polled.poll().is_pending());
    assert_eq!(count(&rig), (0, 1));
    drop((polled, lease));
    let (given_up, lease) = make_dormant(&mut rig, gpu(4));
    assert_eq!(count(&rig), (1, 0));
    drop(given_up);
    assert_eq!(count(&rig), (0, 0));
    drop(lease);
    let (mut ended, lease) = make_dormant(&mut rig, gpu(4));
    rig.scheduler.close();
    assert_eq!(count(&rig), (0, 0));
    assert!(matches!(outcome(&mut ended), Err(ReserveError::Closed { .. })));
    drop(lease);
    assert_untouched(&rig.scheduler);
}
