//! Leases that said they can end early are asked to, so that a higher level can go on (C8, R8, R13).

mod common;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bursar::{Activity, Amounts, Budget, Config, Lease, Order, Priority, Request, Revocation};
use common::{GPU, HOST, MS, Rig, assert_untouched, assert_waits, gpu, granted, queued, take};
use tokio_test::task;

fn idle(units: u64) -> Request {
    gpu(units).priority(Priority::Idle).preemptible()
}

fn critical(units: u64) -> Request {
    gpu(units).priority(Priority::Critical)
}

/// Whether a lease was asked to end, as its owner would find out.
#[track_caller]
fn asked(lease: &Lease) -> Option<Revocation> {
    match task::spawn(lease.revoked()).poll() {
        Poll::Ready(revocation) => Some(revocation),
        Poll::Pending => None,
    }
}

#[test]
fn c8_a_critical_request_is_served_as_soon_as_the_hog_that_it_asked_to_end_has_ended() {
    let rig = Rig::loans(10, 10);
    let hog = take(&rig.scheduler, idle(10));
    let mut revoked = task::spawn(hog.revoked());
    assert!(revoked.poll().is_pending());
    let mut urgent = queued(&rig.scheduler, critical(4));
    assert!(revoked.is_woken());
    let Poll::Ready(revocation) = revoked.poll() else { panic!("it was asked") };
    assert_eq!((revocation.by, revocation.grace), (Priority::Critical, 100 * MS));
    drop(revoked);
    assert_waits(&mut urgent);
    drop(hog);
    drop(granted(&mut urgent));
    let stats = rig.scheduler.stats();
    assert_eq!((stats.level(Priority::Idle).revoked, stats.level(Priority::Idle).overdue), (1, 0));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c8_equals_and_the_more_urgent_are_never_asked_nor_is_who_did_not_say_so() {
    let rig = Rig::loans(10, 10);
    let equal = take(&rig.scheduler, critical(3).preemptible());
    let plain = take(&rig.scheduler, gpu(3).priority(Priority::Idle));
    let above = take(&rig.scheduler, gpu(4).priority(Priority::High).preemptible());
    let waiting = queued(&rig.scheduler, gpu(3).priority(Priority::High));
    let urgent = queued(&rig.scheduler, critical(7));
    for lease in [&equal, &plain, &above] {
        assert_eq!(asked(lease), None);
    }
    drop((waiting, urgent));
    assert_eq!(rig.scheduler.stats().levels.iter().map(|level| level.revoked).sum::<u64>(), 0);
}

#[test]
fn c8_only_as_many_are_asked_as_it_takes_the_least_urgent_and_youngest_first() {
    let rig = Rig::loans(10, 10);
    let low = take(&rig.scheduler, gpu(2).priority(Priority::Low).preemptible());
    let old = take(&rig.scheduler, idle(4));
    let young = take(&rig.scheduler, idle(4));
    let mut first = queued(&rig.scheduler, critical(4));
    assert_eq!([asked(&low), asked(&old), asked(&young)].map(|asked| asked.is_some()), [false, false, true]);
    // One set at a time: others are asked once the first is served.
    let mut second = queued(&rig.scheduler, critical(4));
    assert_eq!([asked(&low), asked(&old)].map(|asked| asked.is_some()), [false, false]);
    drop(young);
    assert_eq!([asked(&low), asked(&old)].map(|asked| asked.is_some()), [false, true]);
    drop(granted(&mut first));
    drop(granted(&mut second));
    drop((low, old));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r13_what_comes_back_is_kept_for_whom_it_was_asked_and_only_a_higher_level_may_take_it() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10)));
    let hogs = [take(&rig.scheduler, idle(5)), take(&rig.scheduler, idle(5))];
    let mut high = queued(&rig.scheduler, gpu(10).priority(Priority::High).deadline(Duration::from_secs(9)));
    assert!(hogs.iter().all(|hog| asked(hog).is_some()));
    let [one, other] = hogs;
    drop(one);
    // Five are free, and it waits for ten.
    assert!(rig.scheduler.try_reserve(gpu(5)).is_err());
    let equal = gpu(5).priority(Priority::High).deadline(MS);
    assert!(rig.scheduler.try_reserve(equal.clone()).is_err());
    let mut sooner = queued(&rig.scheduler, equal);
    assert_waits(&mut sooner);
    let above = take(&rig.scheduler, critical(5));
    drop(above);
    drop(other);
    drop(granted(&mut high));
    drop(granted(&mut sooner));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c8_who_does_not_end_within_the_grace_is_reported_and_others_are_asked() {
    let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_grace(20 * MS));
    let kind = take(&rig.scheduler, idle(5));
    let stubborn = take(&rig.scheduler, idle(5));
    let mut urgent = queued(&rig.scheduler, critical(5));
    rig.run();
    assert_eq!([&kind, &stubborn].map(|lease| asked(lease).is_some()), [false, true]);
    rig.pass(19 * MS);
    assert_eq!(asked(&stubborn).map(|revocation| revocation.grace), Some(MS));
    assert!(asked(&kind).is_none());
    rig.pass(MS);
    assert!(asked(&kind).is_some());
    let idle = *rig.scheduler.stats().level(Priority::Idle);
    assert_eq!((idle.revoked, idle.overdue), (2, 1));
    // It is still valid, and holds what it held.
    assert_eq!(stubborn.get(GPU), 5);
    drop(kind);
    drop(granted(&mut urgent));
    drop(stubborn);
    assert_untouched(&rig.scheduler);
}

#[test]
fn r8_a_level_that_was_reached_by_waiting_asks_nobody_to_end() {
    let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_aging_step(10 * MS));
    let hog = take(&rig.scheduler, gpu(10).priority(Priority::Low).preemptible());
    let mut low = queued(&rig.scheduler, gpu(1).priority(Priority::Low));
    for _ in 0..5 {
        rig.pass(10 * MS);
    }
    assert_waits(&mut low);
    assert!(asked(&hog).is_none());
    let _normal = queued(&rig.scheduler, gpu(1));
    assert!(asked(&hog).is_some());
}

#[test]
fn r9_a_minimum_that_was_lent_is_asked_back_from_who_has_more_than_its_own() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").minimum(GPU, 4).register().unwrap();
    let speech = rig.scheduler.module("speech").minimum(GPU, 3).register().unwrap();
    let inside = take(&rig.scheduler, gpu(3).of(&speech).preemptible());
    let borrower = take(&rig.scheduler, gpu(7).preemptible());
    let mut own = queued(&rig.scheduler, gpu(4).of(&vision).priority(Priority::Low));
    assert_eq!([&inside, &borrower].map(|lease| asked(lease).is_some()), [false, true]);
    drop(borrower);
    drop(granted(&mut own));
    drop(inside);
    assert_untouched(&rig.scheduler);
}

#[test]
fn who_was_asked_goes_before_those_that_came_in_between_when_it_comes_again() {
    let rig = Rig::loans(10, 10);
    let victim = take(&rig.scheduler, gpu(10).priority(Priority::Low).preemptible());
    rig.jump(5 * MS);
    let mut between = queued(&rig.scheduler, gpu(10).priority(Priority::Low));
    let mut urgent = queued(&rig.scheduler, critical(10));
    let revocation = asked(&victim).expect("it was asked");
    let mut again = queued(&rig.scheduler, gpu(10).priority(Priority::Low).seniority(revocation.seniority));
    drop(victim);
    drop(granted(&mut urgent));
    assert_waits(&mut between);
    drop(granted(&mut again));
    drop(granted(&mut between));
}

#[test]
fn a_part_that_is_split_off_is_asked_as_the_whole_is() {
    let rig = Rig::loans(10, 10);
    let mut hog = take(&rig.scheduler, idle(10));
    let before = hog.split(&Amounts::of(GPU, 4)).unwrap();
    let mut urgent = queued(&rig.scheduler, critical(10));
    assert!(asked(&hog).is_some() && asked(&before).is_some());
    let after = hog.split(&Amounts::of(GPU, 1)).unwrap();
    assert!(asked(&after).is_some());
    hog.merge(after).unwrap();
    assert!(asked(&hog).is_some());
    drop((hog, before));
    drop(granted(&mut urgent));
    assert_untouched(&rig.scheduler);
}

#[test]
fn whom_it_was_for_may_give_up_and_the_next_who_needs_it_gets_what_comes_back() {
    let rig = Rig::loans(10, 10);
    let hog = take(&rig.scheduler, idle(10));
    let other = take(&rig.scheduler, Request::new().host(10u64).priority(Priority::Idle).preemptible());
    let urgent = queued(&rig.scheduler, critical(10));
    assert!(asked(&hog).is_some() && asked(&other).is_none());
    drop(urgent);
    let _next = queued(&rig.scheduler, Request::new().host(1u64).priority(Priority::High));
    assert!(asked(&other).is_some());
    let mut again = queued(&rig.scheduler, critical(1));
    drop(hog);
    drop(granted(&mut again));
}

#[test]
fn an_offer_that_nobody_polled_yet_can_be_asked_for_too() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut batch = queued(&rig.scheduler, idle(10));
    drop(held);
    let mut urgent = queued(&rig.scheduler, critical(1));
    let lease = granted(&mut batch);
    assert!(asked(&lease).is_some());
    drop(lease);
    drop(granted(&mut urgent));
    assert_untouched(&rig.scheduler);
}

#[test]
fn under_every_order_a_hog_gives_way() {
    for order in [Order::Deadline, Order::Shares, Order::ResponseRatio] {
        let rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_order(order));
        let hog = take(&rig.scheduler, idle(10));
        let mut urgent = queued(&rig.scheduler, critical(4));
        assert!(asked(&hog).is_some(), "{order:?}");
        drop(hog);
        drop(granted(&mut urgent));
        assert_untouched(&rig.scheduler);
    }
}

#[test]
fn a_victim_that_panics_gives_everything_back() {
    let rig = Rig::loans(10, 10);
    let hog = take(&rig.scheduler, idle(10));
    let mut urgent = queued(&rig.scheduler, critical(10));
    let worker = std::thread::spawn(move || {
        let _hog = hog;
        panic!("a worker of the caller's that panics");
    });
    assert!(worker.join().is_err());
    drop(granted(&mut urgent));
    assert_untouched(&rig.scheduler);
}

/// Requests of all levels, half of them preemptible, seeded; nine in ten of those that are asked end. Whatever happens
/// the books balance, and nothing is left in the end.
#[test]
fn a_storm_of_preemptions_ends_with_nothing_lost() {
    for seed in 0..5 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 20)).with(Budget::loan(HOST, 20)).with_grace(MS));
        let (mut waiting, mut held) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            match random.u8(..4) {
                0 | 1 => {
                    let request = gpu(random.u64(1..8)).host(random.u64(1..8));
                    let request = request.priority(Priority::ALL[random.usize(..5)]);
                    let request = if random.bool() { request.preemptible() } else { request };
                    waiting.push(task::spawn(rig.scheduler.reserve(request)));
                }
                2 => rig.pass(Duration::from_micros(random.u64(..700))),
                _ if !held.is_empty() => drop(held.swap_remove(random.usize(..held.len()))),
                _ => {}
            }
            waiting.retain_mut(|waiting: &mut task::Spawn<bursar::Reservation>| match waiting.poll() {
                Poll::Ready(lease) => {
                    held.push(lease.expect("it fits"));
                    false
                }
                Poll::Pending => true,
            });
            // Whoever was asked ends, nine times in ten.
            held.retain(|lease| asked(lease).is_none() || random.u8(..10) == 0);
            rig.run();
            rig.scheduler.verify().unwrap();
        }
        drop((waiting, held));
        assert!(rig.scheduler.stats().levels.iter().any(|level| level.revoked > 0), "seed {seed}");
        assert_untouched(&rig.scheduler);
    }
}

/// A review found this: each request that came and went asked for one lease more.
#[test]
fn c8_requests_that_come_and_go_do_not_ask_for_more_than_they_need_together() {
    let mut rig = Rig::loans(10, 10);
    let hogs: Vec<_> = (0..10).map(|_| take(&rig.scheduler, idle(1))).collect();
    for _ in 0..5 {
        let urgent = queued(&rig.scheduler, critical(1).deadline(5 * MS));
        rig.run();
        rig.pass(5 * MS);
        drop(urgent);
    }
    assert_eq!(hogs.iter().filter(|hog| asked(hog).is_some()).count(), 1);
}

#[test]
fn r13_what_comes_back_is_kept_for_the_way_it_was_asked_for() {
    let rig = Rig::loans(10, 10);
    let others = take(&rig.scheduler, Request::new().host(1u64));
    let hogs = [take(&rig.scheduler, idle(4)), take(&rig.scheduler, idle(4))];
    let either = critical(8).or(Request::new().host(10u64));
    let mut urgent = queued(&rig.scheduler, either);
    assert!(hogs.iter().all(|hog| asked(hog).is_some()));
    let [one, other] = hogs;
    drop(one);
    assert!(rig.scheduler.try_reserve(gpu(5)).is_err());
    drop(other);
    drop(granted(&mut urgent));
    drop(others);
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_lease_that_was_forgotten_is_not_asked() {
    let rig = Rig::loans(10, 10);
    let old = take(&rig.scheduler, idle(5));
    take(&rig.scheduler, idle(5)).forget();
    let _urgent = queued(&rig.scheduler, critical(5));
    assert!(asked(&old).is_some());
}

#[test]
fn r9_a_minimum_asks_back_and_stays_behind_what_is_critical() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").minimum(GPU, 4).register().unwrap();
    let borrower = take(&rig.scheduler, gpu(10).preemptible());
    let mut own = queued(&rig.scheduler, gpu(4).of(&vision).priority(Priority::Low));
    assert!(asked(&borrower).is_some());
    let mut urgent = queued(&rig.scheduler, critical(10));
    drop(borrower);
    drop(granted(&mut urgent));
    drop(granted(&mut own));
    assert_untouched(&rig.scheduler);
}

/// The reference model found this, and what follows.
#[test]
fn c3_work_that_is_taken_up_again_goes_by_its_deadline_if_it_has_one() {
    let rig = Rig::loans(10, 10);
    let victim = take(&rig.scheduler, Request::new().host(10u64).priority(Priority::Idle).preemptible());
    let urgent = queued(&rig.scheduler, Request::new().host(1u64).priority(Priority::Critical));
    let seniority = asked(&victim).expect("it was asked").seniority;
    rig.jump(100 * MS);
    let held = take(&rig.scheduler, gpu(10));
    let mut later = queued(&rig.scheduler, gpu(10).deadline(60 * MS).seniority(seniority));
    let mut sooner = queued(&rig.scheduler, gpu(10).deadline(50 * MS));
    drop(held);
    drop(granted(&mut sooner));
    drop(granted(&mut later));
    drop((victim, urgent));
}

#[test]
fn c8_a_part_that_is_split_off_is_as_old_as_the_whole() {
    let rig = Rig::loans(10, 10);
    let mut old = take(&rig.scheduler, idle(6));
    let young = take(&rig.scheduler, idle(4));
    let part = old.split(&Amounts::of(GPU, 2)).unwrap();
    let _first = queued(&rig.scheduler, critical(1));
    assert_eq!([&old, &part, &young].map(|lease| asked(lease).is_some()), [false, false, true]);
    drop(young);
    let _second = queued(&rig.scheduler, critical(4));
    assert_eq!([&old, &part].map(|lease| asked(lease).is_some()), [false, true]);
}

#[test]
fn r9_what_is_asked_back_of_a_module_leaves_it_its_minimum() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").minimum(GPU, 4).register().unwrap();
    let speech = rig.scheduler.module("speech").minimum(GPU, 3).register().unwrap();
    let [old, young] = [0, 1].map(|_| take(&rig.scheduler, gpu(2).of(&speech).preemptible()));
    let [_stays, goes] = [4, 2].map(|units| take(&rig.scheduler, gpu(units)));
    let mut own = queued(&rig.scheduler, gpu(4).of(&vision));
    // One unit of speech's four is lent, and the younger of its leases has it.
    assert!(asked(&old).is_none() && asked(&young).is_none(), "two more would not do");
    drop(goes);
    assert!(asked(&old).is_none() && asked(&young).is_some());
    drop(young);
    drop(granted(&mut own));
}

#[test]
fn r9_a_lease_inside_a_minimum_is_not_asked_because_its_module_has_more_of_something_else() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").minimum(GPU, 4).minimum(HOST, 4).register().unwrap();
    let speech = rig.scheduler.module("speech").minimum(GPU, 3).register().unwrap();
    let inside = take(&rig.scheduler, gpu(3).of(&speech).preemptible());
    let beyond = take(&rig.scheduler, Request::new().host(10u64).of(&speech).preemptible());
    let _others = take(&rig.scheduler, gpu(6));
    let _own = queued(&rig.scheduler, gpu(4).host(4u64).of(&vision));
    assert!(asked(&inside).is_none() && asked(&beyond).is_none(), "the one is not lent, and the other not enough");
}

#[test]
fn r9_a_minimum_asks_nothing_back_of_what_is_critical() {
    let rig = Rig::loans(10, 10);
    let vision = rig.scheduler.module("vision").minimum(GPU, 4).register().unwrap();
    let speech = rig.scheduler.module("speech").minimum(GPU, 4).register().unwrap();
    let inside = take(&rig.scheduler, gpu(4).of(&speech).preemptible());
    let urgent = take(&rig.scheduler, critical(6).preemptible());
    let mut own = queued(&rig.scheduler, gpu(4).of(&vision));
    assert_eq!([&inside, &urgent].map(|lease| asked(lease).is_some()), [false, false]);
    drop(urgent);
    drop(granted(&mut own));
}

#[test]
fn c8_nobody_is_asked_to_end_for_what_itself_waits_for() {
    let rig = Rig::loans(10, 10);
    let query = Activity::new("query");
    let own = take(&rig.scheduler, idle(6).activity(&query));
    let others = take(&rig.scheduler, gpu(4));
    let mut more = queued(&rig.scheduler, gpu(4).priority(Priority::Low).activity(&query));
    assert!(asked(&own).is_none());
    drop(others);
    drop(granted(&mut more));
}

#[test]
fn r8_a_level_that_is_inherited_from_who_reached_it_by_waiting_asks_nobody_to_end() {
    let mut rig = Rig::new(common::three_loans().with_aging_step(10 * MS));
    let query = Activity::new("query");
    let low = |request: Request| request.priority(Priority::Low);
    let _held = take(&rig.scheduler, low(gpu(10)).activity(&query));
    let hog = take(&rig.scheduler, Request::new().host(10u64).preemptible());
    let _rises = queued(&rig.scheduler, low(gpu(1)));
    rig.jump(5 * MS);
    let _inherits = queued(&rig.scheduler, low(Request::new().host(1u64)).activity(&query));
    for _ in 0..5 {
        rig.pass(10 * MS);
    }
    assert!(asked(&hog).is_none());
    // What is inherited from a request of a higher level counts.
    let _high = queued(&rig.scheduler, gpu(1).priority(Priority::High));
    assert_eq!(asked(&hog).map(|revocation| revocation.by), Some(Priority::High));
}

#[test]
fn c8_who_is_asked_because_a_lease_changed_hands_has_the_whole_grace() {
    let rig = Rig::loans(10, 10);
    let mut old = take(&rig.scheduler, idle(5));
    let young = take(&rig.scheduler, idle(5));
    let _urgent = queued(&rig.scheduler, critical(5));
    assert!(asked(&young).is_some() && asked(&old).is_none());
    rig.jump(60 * MS);
    old.merge(young).unwrap();
    assert_eq!(asked(&old).map(|revocation| revocation.grace), Some(100 * MS));
}

#[test]
fn who_gives_up_waiting_for_a_revocation_leaves_no_waker_behind() {
    struct Silent;
    impl Wake for Silent {
        fn wake(self: Arc<Self>) {}
    }
    let rig = Rig::loans(10, 10);
    let hog = take(&rig.scheduler, idle(10));
    let [first, second] = [0, 1].map(|_| Arc::new(Silent));
    let mut revoked = Box::pin(hog.revoked());
    let mut poll = |with: &Arc<Silent>| {
        let waker = Waker::from(Arc::clone(with));
        assert!(revoked.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    };
    poll(&first);
    assert_eq!(Arc::strong_count(&first), 2);
    poll(&second);
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 2));
    drop(revoked);
    assert_eq!(Arc::strong_count(&second), 1);
}

/// P24: who waits is served by level and arrival, and who holds gives way in exactly the opposite order.
#[test]
fn p24_who_would_be_served_last_is_the_first_that_gives_way() {
    let rig = Rig::loans(6, 10);
    let held = take(&rig.scheduler, gpu(6));
    let levels = [Priority::Low, Priority::High, Priority::Idle, Priority::Normal, Priority::Idle, Priority::High];
    let mut waiting: Vec<_> =
        levels.iter().map(|&level| queued(&rig.scheduler, gpu(1).priority(level).preemptible())).collect();
    drop(held);
    let mut leases: Vec<_> = waiting.iter_mut().map(granted).map(Some).collect();
    let served = [1, 5, 3, 0, 2, 4];
    let mut gave_way = Vec::new();
    let mut urgent = Vec::new();
    for _ in 0..6 {
        let mut next = queued(&rig.scheduler, critical(1));
        let at = (0..6).find(|&at| leases[at].as_ref().is_some_and(|lease| asked(lease).is_some())).expect("somebody");
        gave_way.push(at);
        leases[at] = None;
        urgent.push(granted(&mut next));
    }
    gave_way.reverse();
    assert_eq!(gave_way, served);
}

/// P43: five are lacking. The youngest is looked at first and has two; once the old one with five is needed as well,
/// the young one is not.
#[test]
fn p43_one_victim_is_asked_where_one_is_enough() {
    let rig = Rig::loans(10, 10);
    let large = take(&rig.scheduler, idle(5));
    let small = take(&rig.scheduler, idle(2));
    let mut urgent = queued(&rig.scheduler, critical(8));
    assert_eq!((asked(&large).is_some(), asked(&small).is_some()), (true, false));
    drop(large);
    drop(granted(&mut urgent));
    assert_eq!(rig.scheduler.stats().level(Priority::Idle).revoked, 1);
    drop(small);
    assert_untouched(&rig.scheduler);
}

/// P43: the release after which a critical waiter can be helped by a victim also makes room for somebody of no urgency,
/// who would be asked to end in the turn in which it is granted.
#[test]
fn p43_nobody_is_granted_what_it_would_be_asked_for_in_the_same_turn() {
    let rig = Rig::loans(10, 10);
    let hog = take(&rig.scheduler, idle(5));
    let firm = take(&rig.scheduler, gpu(5));
    let mut urgent = queued(&rig.scheduler, critical(10));
    assert!(asked(&hog).is_none(), "without the firm one it would be in vain");
    let mut small = queued(&rig.scheduler, idle(2));
    drop(firm);
    assert!(asked(&hog).is_some() && !small.is_woken());
    assert_eq!(rig.scheduler.stats().level(Priority::Idle).revoked, 1);
    assert_waits(&mut small);
    drop(hog);
    assert!(!small.is_woken());
    drop(granted(&mut urgent));
    drop(granted(&mut small));
    assert_untouched(&rig.scheduler);
}
