//! The exact text of every error (C6): each names the budget, the label, what was asked and what was free, and says
//! what to do.

mod common;

use std::error::Error;
use std::time::Duration;

use bursar::{
    Amounts, Budget, BudgetId, Bytes, CapacityError, CloseReason, Config, GIB, LeaseError, MIB, Priority, Request,
    ReserveError, Scheduler, Share, SpaceId, Tier, TryReserveError,
};
use common::*;

/// Three labelled holders and one without a label on 10 GiB of GPU memory; I/O at 100 MiB/s; 8 compute slots.
fn busy() -> (Rig, Vec<bursar::Lease>) {
    busy_with(Config::new())
}

fn busy_with(config: Config) -> (Rig, Vec<bursar::Lease>) {
    let config = config
        .with(Budget::loan(GPU, 10 * GIB))
        .with(Budget::loan(BudgetId::COMPUTE, 8))
        .with(Budget::loan(BudgetId::ATTENTION, 1_000_000))
        .with(Budget::rate(IO, 100 * MIB));
    let rig = Rig::new(config);
    let holders = [("chat", 4 * GIB), ("embed", 3 * GIB), ("cache", GIB)];
    let leases = holders.iter().map(|&(label, bytes)| take(&rig.scheduler, gpu(bytes).label(label)));
    let leases = leases.chain([take(&rig.scheduler, gpu(GIB / 2))]).collect();
    (rig, leases)
}

/// What a reservation fails with at its first poll.
#[track_caller]
fn refused(scheduler: &Scheduler, request: Request) -> ReserveError {
    block_on(scheduler.reserve(request)).unwrap_err()
}

/// What C6 wants of every shortage.
#[track_caller]
fn assert_names(error: &dyn Error, parts: &[&str]) {
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} should be in: {text}");
}

#[test]
fn c6_never_fits() {
    let (rig, _leases) = busy();
    let error = refused(&rig.scheduler, gpu(11 * GIB).label("big"));
    assert_eq!(
        error.to_string(),
        "can never be granted: `big`: asked 11.0 GiB of budget gpu0.memory, 1.5 GiB free of 10.0 GiB, 0 waiting; held \
         by `chat` 4.0 GiB, `embed` 3.0 GiB, `cache` 1.0 GiB; ask for less or raise the capacity"
    );
    assert!(error.is_permanent());
    let attempt = rig.scheduler.try_reserve(gpu(11 * GIB).label("big")).unwrap_err();
    assert_eq!(attempt.to_string(), error.to_string());
}

#[test]
fn c6_not_now() {
    let (rig, _leases) = busy();
    let attempt = rig.scheduler.try_reserve(gpu(2 * GIB).compute(1).label("chat 7")).unwrap_err();
    assert_eq!(
        attempt.to_string(),
        "not now: `chat 7`: asked 2.0 GiB of budget gpu0.memory, 1.5 GiB free of 10.0 GiB, 0 waiting; held by `chat` \
         4.0 GiB, `embed` 3.0 GiB, `cache` 1.0 GiB; await `reserve` to queue for it"
    );
}

#[test]
fn c6_not_now_because_of_the_claim_of_somebody_ahead() {
    let (rig, _leases) = busy_with(Config { bypass_limit: 0, ..Config::new() });
    let _ahead = queued(&rig.scheduler, gpu(2 * GIB));
    let attempt = rig.scheduler.try_reserve(gpu(GIB)).unwrap_err();
    let TryReserveError::NotNow(short) = &attempt else { panic!("{attempt}") };
    assert_eq!((short.asked, short.free, short.waiting, &short.label), (GIB, 3 * GIB / 2, 1, &None));
    assert_names(&attempt, &["asked 1.0 GiB", "1.5 GiB free", "1 waiting"]);
}

#[test]
fn c6_late() {
    let (mut rig, _leases) = busy();
    let mut late = queued(&rig.scheduler, gpu(2 * GIB).label("chat 8").deadline(1_500 * MS));
    rig.pass(1_500 * MS);
    let error = outcome(&mut late).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not granted within 1500.000 ms: `chat 8`: asked 2.0 GiB of budget gpu0.memory, 1.5 GiB free of 10.0 GiB, 0 \
         waiting; held by `chat` 4.0 GiB, `embed` 3.0 GiB, `cache` 1.0 GiB; allow more time or a higher priority"
    );
    assert!(!error.is_permanent());
}

#[test]
fn c6_late_at_once() {
    let (rig, _leases) = busy();
    let error = refused(&rig.scheduler, Request::new().compute(8).gpu(2 * GIB).deadline(Duration::ZERO));
    assert_names(&error, &["not granted within 0.000 ms", "asked 2.0 GiB of budget gpu0.memory", "1.5 GiB free"]);
}

#[test]
fn c6_shed() {
    let rig = Rig::new(Config::new().with(Budget::loan(BudgetId::COMPUTE, 8)).with_max_waiters(1));
    let _held = take(&rig.scheduler, Request::new().compute(6).label("batch"));
    let _waits = queued(&rig.scheduler, Request::new().compute(3));
    let error = refused(&rig.scheduler, Request::new().compute(4).label("one more"));
    assert_eq!(
        error.to_string(),
        "shed: the queue is full, `max_waiters` lets 1 reservations wait: `one more`: asked 4 of budget compute, 2 \
         free of 8, 1 waiting; held by `batch` 6; retry later"
    );
    assert!(!error.is_permanent());
}

/// Waiters whose offers expired come back into the queue, full or not, so more may wait than the limit.
#[test]
fn c6_shed_names_the_limit_also_while_more_than_that_wait() {
    let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_max_waiters(2));
    let held = take(&rig.scheduler, gpu(10));
    let (mut slow, mut rival) = (queued(&rig.scheduler, gpu(10)), queued(&rig.scheduler, gpu(10)));
    drop(held);
    rig.pass(100 * MS);
    let _lease = granted(&mut rival);
    let _others = [queued(&rig.scheduler, gpu(1)), queued(&rig.scheduler, gpu(1))];
    assert!(slow.poll().is_pending());
    assert_eq!(rig.scheduler.stats().waiting, 3);
    let error = refused(&rig.scheduler, gpu(1));
    assert!(matches!(&error, ReserveError::Shed { limit: 2, shortage } if shortage.waiting == 3), "{error:?}");
    assert_names(&error, &["`max_waiters` lets 2 reservations wait", "3 waiting"]);
}

#[test]
fn c6_closed() {
    for (reason, text) in [
        (CloseReason::Closed, "the scheduler grants nothing any more: it was closed"),
        (
            CloseReason::DriverGone,
            "the scheduler grants nothing any more: its task ended (runtime dropped, task aborted, or driver dropped)",
        ),
        (CloseReason::HandlesGone, "the scheduler grants nothing any more: every handle was dropped"),
    ] {
        assert_eq!(CapacityError::Closed(reason).to_string(), text);
    }
    let (rig, _leases) = busy();
    rig.scheduler.close();
    let error = refused(&rig.scheduler, gpu(2 * GIB).label("chat 9"));
    assert!(error.to_string().starts_with("the scheduler grants nothing any more: it was closed; `chat 9`: asked"));
    assert!(error.is_permanent());
}

#[test]
fn c6_amounts_are_written_in_the_unit_of_their_budget() {
    let (rig, _leases) = busy();
    let _half = take(&rig.scheduler, Request::new().attention(0.6).io(50 * MIB));
    let attempt = |request: Request| rig.scheduler.try_reserve(request).unwrap_err().to_string();
    assert!(
        attempt(Request::new().attention(0.5)).contains("asked 50 % of budget attention, 40 % free of 100 %"),
        "{}",
        attempt(Request::new().attention(0.5))
    );
    assert!(attempt(io(80 * MIB)).contains("asked 80.0 MiB of budget io, 50.0 MiB free of 100.0 MiB"));
    assert!(attempt(Request::new().compute(9)).contains("asked 9 of budget compute, 8 free of 8"));
}

#[test]
fn c6_a_malformed_request() {
    let (rig, _leases) = busy();
    let most = i64::MAX as u64;
    let space = SpaceId { tier: Tier::Gpu, index: 40 };
    let cases = [
        (Request::new(), "the request asks for nothing; name at least one amount"),
        (gpu(0), "the request asks for 0 of budget gpu0; leave the budget out or ask for at least 1"),
        (
            gpu(most).gpu(5u64),
            "the amounts of budget gpu0 overflow: with another 5 they are more than 9223372036854775807",
        ),
        (Request::new().attention(f64::NAN), "budget attention: `NaN` is not a number"),
        (Request::new().attention(-0.25), "budget attention: `-0.25` is negative; an amount is zero or more"),
        (
            Request::new().attention(1.5),
            "budget attention: a share of `1.5` is more than the whole; shares lie between 0 and 1",
        ),
        (
            Request::new().attention(0.000_000_1),
            "the request asks for 0 of budget attention; leave the budget out or ask for at least 1",
        ),
        (
            Request::new().space(space, 1u64),
            "there is no gpu40: a scheduler has at most 16 GPUs, 8 host nodes and 4 disks",
        ),
        (
            gpu(1).disk(1u64),
            "this scheduler has no budget disk0; it has gpu0 (gpu0.memory), compute (compute), attention (attention), \
             io (io)",
        ),
    ];
    for (request, text) in cases {
        let error = refused(&rig.scheduler, request.clone());
        assert_eq!(error.to_string(), text);
        assert!(matches!(&error, ReserveError::Invalid(_)) && error.is_permanent());
        assert_eq!(rig.scheduler.try_reserve(request).unwrap_err().to_string(), text);
    }
    assert_eq!(rig.scheduler.stats().leases, 4, "the rest is untouched");
}

/// What a caller that tries again in a loop needs to know.
#[test]
fn an_error_is_permanent_exactly_if_trying_again_later_cannot_help() {
    let (mut rig, leases) = busy();
    let reserved = |request: Request| refused(&rig.scheduler, request).is_permanent();
    let attempted = |request: Request| rig.scheduler.try_reserve(request).unwrap_err().is_permanent();
    let now = Duration::ZERO;
    for (what, permanent) in [
        (gpu(0), true),
        (Request::new().disk(1u64), true),
        (gpu(11 * GIB).deadline(now), true),
        (io(101 * MIB).deadline(now), true),
        (gpu(2 * GIB).deadline(now), false),
    ] {
        assert_eq!((reserved(what.clone()), attempted(what.clone())), (permanent, permanent), "{what:?}");
    }
    // What was not permanent: the same request is granted once others have gone.
    drop(leases);
    drop(take(&rig.scheduler, gpu(2 * GIB)));
    // What was: it is not, whoever goes, until somebody changes the capacity.
    assert!(attempted(gpu(11 * GIB)));
    rig.scheduler.set_capacity(GPU, 11 * GIB).unwrap();
    drop(take(&rig.scheduler, gpu(11 * GIB)));
    let held = take(&rig.scheduler, gpu(11 * GIB));
    let (mut late, mut closed) = (queued(&rig.scheduler, gpu(1).deadline(MS)), queued(&rig.scheduler, gpu(1)));
    rig.pass(MS);
    assert!(!outcome(&mut late).unwrap_err().is_permanent());
    rig.scheduler.close();
    assert!(outcome(&mut closed).unwrap_err().is_permanent());
    drop(held);
    let reserved = refused(&rig.scheduler, gpu(1)).is_permanent();
    assert!(reserved && rig.scheduler.try_reserve(gpu(1)).unwrap_err().is_permanent());
}

#[test]
fn c6_a_lease_that_holds_less() {
    let (rig, _leases) = busy();
    let mut lease = take(&rig.scheduler, Request::new().compute(3));
    let error: LeaseError = lease.split(&Amounts::of(BudgetId::COMPUTE, 4)).unwrap_err();
    assert_eq!(error.to_string(), "the lease holds 3 of budget compute, not 4");
    let other = Rig::loans(10, 10);
    let error = lease.merge(take(&other.scheduler, gpu(1))).unwrap_err();
    assert_eq!(error.to_string(), "leases of different schedulers cannot be merged; the lease is in the error");
}

#[test]
fn c6_a_change_of_capacity() {
    let (rig, _leases) = busy();
    let text = |result: Result<(), CapacityError>| result.unwrap_err().to_string();
    assert_eq!(
        text(rig.scheduler.set_capacity(BudgetId::DISK, 1)),
        "this scheduler has no budget disk0; it has gpu0 (gpu0.memory), compute (compute), attention (attention), \
         io (io)"
    );
    assert_eq!(
        text(rig.scheduler.set_capacity(GPU, u64::MAX)),
        "budget gpu0: capacity of 18446744073709551615 is more than 2^63 - 1"
    );
    assert_eq!(text(rig.scheduler.set_capacity(IO, 5)), "budget io is a rate; use `set_rate`");
    assert_eq!(text(rig.scheduler.set_rate(GPU, 5, 5)), "budget gpu0 is a loan; use `set_capacity`");
    assert_eq!(text(rig.scheduler.set_rate(IO, 0, 5)), "budget io: a rate or burst of 0 would never grant anything");
}

#[test]
fn numbers_that_are_no_amounts() {
    let bytes = |text: &str| text.parse::<Bytes>().unwrap_err().to_string();
    assert_eq!(
        bytes("many"),
        "`many` has the wrong unit; write bytes with B, KiB to TiB or KB to TB, shares with %, others without"
    );
    assert_eq!(bytes(""), "`` is not a number");
    assert_eq!(bytes("1.5.5 GiB"), "`1.5.5 GiB` is not a number");
    assert_eq!(bytes("-1 GiB"), "`-1 GiB` is negative; an amount is zero or more");
    assert_eq!(
        bytes("9 XiB"),
        "`9 XiB` has the wrong unit; write bytes with B, KiB to TiB or KB to TB, shares with %, others without"
    );
    assert_eq!(bytes("9000000 TiB"), "`9000000 TiB` is more than 2^63 - 1 units");
    assert_eq!(
        Share::from_millionths(1_000_001).unwrap_err().to_string(),
        "a share of `1000001 millionths` is more than the whole; shares lie between 0 and 1"
    );
}

#[test]
fn the_source_of_a_malformed_amount_can_be_reached() {
    let error = Request::new().attention(f64::INFINITY).check().unwrap_err();
    let source = error.source().expect("an amount error");
    assert_eq!(source.to_string(), "`inf` is more than 2^63 - 1 units");
}

/// C6: the limiting budget is the one that it waited for until the deadline, not what happens to be short afterwards.
#[test]
fn c6_late_names_the_budget_that_it_waited_for_even_if_that_came_free_before_the_poll() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, host(10));
    let mut late = queued(&rig.scheduler, gpu(1).host(6u64).deadline(10 * MS));
    rig.pass(10 * MS);
    drop(held);
    let error = outcome(&mut late).unwrap_err();
    assert_names(&error, &["asked 6 B of budget host0.memory", "0 B free of 10 B"]);
}

#[test]
fn c6_late_names_the_budget_where_somebody_ahead_had_a_claim() {
    let mut rig = Rig::strict(10, 10);
    let _held = take(&rig.scheduler, host(5));
    let _ahead = queued(&rig.scheduler, host(6).priority(Priority::High));
    let mut late = queued(&rig.scheduler, gpu(1).host(2u64).deadline(10 * MS));
    rig.pass(10 * MS);
    let error = outcome(&mut late).unwrap_err();
    assert_names(&error, &["asked 2 B of budget host0.memory", "5 B free of 10 B", "1 waiting"]);
}

/// C6: how long it waited counts from its first poll, also if an offer to it expired in between.
#[test]
fn c6_late_tells_the_whole_wait_of_a_waiter_whose_offer_expired() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut slow = queued(&rig.scheduler, gpu(10).deadline(1_000 * MS));
    let mut rival = queued(&rig.scheduler, gpu(10));
    drop(held);
    rig.pass(100 * MS);
    let _lease = granted(&mut rival);
    assert!(slow.poll().is_pending());
    rig.pass(900 * MS);
    assert_names(&outcome(&mut slow).unwrap_err(), &["not granted within 1000.000 ms"]);
}

/// C6 wants of "closed" what it wants of the others: asked, the budget, the label.
#[test]
fn c6_closed_names_the_label_and_what_was_asked() {
    let (rig, _leases) = busy();
    let mut waiting = queued(&rig.scheduler, gpu(2 * GIB).label("chat 9"));
    rig.scheduler.close();
    let parts = ["chat 9", "asked 2.0 GiB of budget gpu0.memory"];
    assert_names(&outcome(&mut waiting).unwrap_err(), &parts);
    assert_names(&refused(&rig.scheduler, gpu(2 * GIB).label("chat 9")), &parts);
    assert_names(&rig.scheduler.try_reserve(gpu(2 * GIB).label("chat 9")).unwrap_err(), &parts);
}
