//! What random traces have found, each as the smallest scenario that shows it.

use std::time::Duration;

use bursar::internals::Bucket;
use bursar::{Budget, BudgetId, Config, Priority, Request, Scheduler, TryReserveError};

use crate::ask::{Ask, Asks};
use crate::driven::Driven;
use crate::event::{Arrival, Event, Figures, Grant, Refused, Seen, Why};
use crate::world::World;

const START: u64 = 1_000_000_000;
const EXPIRY: u64 = 100_000_000;

fn arrival(id: u32, asks: &Asks) -> Arrival {
    Arrival::plain(id, Ask::plain(asks), Priority::Normal)
}

/// An offer is made, the capacity shrinks below it, somebody else waits, the offer expires: its owner can never be
/// served, and must neither wait for ever nor be in the way of others (C6, P22).
#[test]
fn p22_a_waiter_whose_offer_expires_after_a_shrink_ends_at_once() {
    let (gpu, host) = (BudgetId::GPU, BudgetId::HOST);
    let config = Config::new().with(Budget::loan(gpu, 10)).with(Budget::loan(host, 10));
    let mut world = World::new(&config, START);
    world.apply(&Event::Submit(arrival(0, &vec![(gpu, 10)])));
    world.apply(&Event::Submit(arrival(1, &vec![(gpu, 8), (host, 8)])));
    world.apply(&Event::Release { id: 0, late: false });
    world.apply(&Event::Capacity(gpu, 5));
    world.apply(&Event::Submit(arrival(2, &vec![(host, 5)])));
    let seen = world.apply(&Event::Sleep(EXPIRY));
    let ended = Seen::Ended { id: 1, level: Priority::Normal, why: Why::NeverFits };
    let polled = world.apply(&Event::Poll(1));
    assert!(seen.contains(&ended) || polled.iter().any(|seen| matches!(seen, Seen::Collected { .. })), "{polled:?}");
    let grant = Grant { alternative: 0, rung: 0, loans: vec![(gpu, 5)] };
    // It claims nothing: what fits is granted although nothing it could ever use has come back.
    assert_eq!(world.apply(&Event::Submit(arrival(3, &vec![(gpu, 5)]))), [Seen::Granted(3, grant)]);
}

/// More than a rate can ever give is refused (R7, P22), also while nobody waits and the bucket is full.
#[tokio::test(start_paused = true)]
async fn p22_an_oversized_rate_request_fails_at_once() {
    let scheduler = Scheduler::builder().io(100u64).spawn().unwrap();
    let task = tokio::spawn(async move {
        let tried = scheduler.try_reserve(Request::new().io(1_000_000u64));
        assert!(matches!(tried, Err(TryReserveError::NeverFits(_))), "{tried:?}");
        let small = tokio::time::timeout(Duration::from_secs(2), scheduler.reserve(Request::new().io(1u64)));
        assert!(small.await.is_ok(), "nobody's debt is in the way");
    });
    task.await.unwrap();
}

/// A bucket that is full, by a refund or by a smaller burst, holds no part of a unit beside (R6: exact).
#[test]
fn r6_a_full_bucket_keeps_no_part_of_a_unit() {
    let half_a_second = 500_000_000;
    let mut refunded = Bucket::new(1, 2, 0, 0);
    refunded.charge(1);
    refunded.refill(half_a_second);
    refunded.refund(1);
    let mut shrunk = Bucket::new(1, 3, 0, 0);
    shrunk.charge(1);
    shrunk.refill(half_a_second);
    shrunk.set(1, 2, half_a_second);
    for mut bucket in [refunded, shrunk] {
        assert_eq!(bucket.free(), 2);
        bucket.charge(2);
        assert_eq!(bucket.ready_at(1, 0), half_a_second + 1_000_000_000, "{bucket:?}");
    }
}

/// A debt of nearly all that can be counted is not forgiven by a larger burst.
#[test]
fn r6_a_larger_burst_does_not_forgive_a_vast_debt() {
    let largest = i64::MAX as u64;
    let mut bucket = Bucket::new(1, 1, largest - 1, 0);
    bucket.charge(largest);
    bucket.set(1, largest / 4, 0);
    assert_eq!(bucket.free(), 0);
    bucket.verify().unwrap();
}

/// A refusal shows what the rate has now, not what it had when somebody last looked (C6).
#[test]
fn c6_never_fits_shows_what_a_rate_has_now() {
    let io = BudgetId::IO;
    let mut world = World::new(&Config::new().with(Budget::rate(io, 10)), START);
    world.apply(&Event::Submit(arrival(0, &vec![(io, 10)])));
    world.apply(&Event::Stall(500_000_000));
    let over = Arrival { past: false, ..arrival(1, &vec![(io, 11)]) };
    let short = Figures { budget: io, asked: 11, free: 5, limit: 10, waiting: 0 };
    assert_eq!(world.apply(&Event::Submit(over)), [Seen::Refused(1, Refused::NeverFits(short))]);
}

/// What has come in at a rate since the driver looked is for those in line, whoever comes by before it looks again: a
/// newcomer, or one of lower rank whose loan comes back (C3).
#[test]
fn c3_nobody_takes_from_a_rate_what_a_waiter_of_higher_rank_can_use_by_now() {
    let (io, gpu) = (BudgetId::IO, BudgetId::GPU);
    let config = Config::new().with(Budget::rate(io, 10)).with(Budget::loan(gpu, 1));
    let events = [
        (Event::Submit(arrival(3, &vec![(io, 10)])), Some(Seen::Waits(3))),
        (Event::Release { id: 0, late: false }, None),
    ];
    for (event, answer) in events {
        let mut world = World::new(&config, START);
        world.apply(&Event::Submit(arrival(0, &vec![(io, 10), (gpu, 1)])));
        assert_eq!(world.apply(&Event::Submit(arrival(1, &vec![(io, 10)]))), [Seen::Waits(1)]);
        assert_eq!(world.apply(&Event::Submit(arrival(2, &vec![(io, 10), (gpu, 1)]))), [Seen::Waits(2)]);
        world.apply(&Event::Stall(1_000_000_000));
        let seen = world.apply(&event);
        let offered = seen.iter().filter(|seen| matches!(seen, Seen::Offered { id: 1, .. })).count();
        let others = seen.iter().filter(|seen| !matches!(seen, Seen::Offered { id: 1, .. })).cloned();
        assert_eq!((offered, others.collect()), (1, Vec::from_iter(answer)), "after {event:?}");
    }
}
