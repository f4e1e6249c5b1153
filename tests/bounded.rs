//! Activities that say beforehand how much they will ever hold: among them no deadlock comes about (C7).

mod common;

use std::time::Duration;

use bursar::{Activity, Amounts, Budget, Config, Lease, Priority, Request, ReserveError};
use common::{GPU, HOST, MS, Rig, assert_untouched, assert_waits, bundle, gpu, granted, queued, take};
use tokio_test::task;

fn bounded(name: &'static str, most: &[(bursar::BudgetId, u64)]) -> Activity {
    Activity::new(name).at_most(bundle(most))
}

#[test]
fn c7_what_could_lead_to_a_deadlock_waits_although_there_is_enough() {
    let mut rig = Rig::loans(10, 10);
    let (one, other) = (bounded("one", &[(GPU, 8)]), bounded("other", &[(GPU, 8)]));
    let mut first = take(&rig.scheduler, gpu(4).activity(&one));
    // Four more would leave two, and both could ask for four.
    let mut second = queued(&rig.scheduler, gpu(4).activity(&other));
    let why = second.explain();
    assert_eq!(why.blockers[0].cause, bursar::Cause::Unsafe);
    assert!(why.to_string().contains("may need it to end"), "{why}");
    // Two would not: the first can end with what is left.
    let small = take(&rig.scheduler, gpu(2).activity(&other));
    first.try_grow(&Amounts::of(GPU, 4)).unwrap();
    rig.pass(100 * MS);
    assert_waits(&mut second);
    drop(first);
    drop(granted(&mut second));
    drop(small);
    assert_untouched(&rig.scheduler);
}

#[test]
fn c7_the_same_without_bounds_deadlocks_and_takes_a_verdict() {
    let mut rig = Rig::loans(10, 10);
    let (one, other) = (Activity::new("one"), Activity::new("other"));
    let mut holders = [take(&rig.scheduler, gpu(4).activity(&one)), take(&rig.scheduler, gpu(4).activity(&other))];
    let [first, second] = &mut holders;
    let more = Amounts::of(GPU, 4);
    let (mut first, mut second) = (task::spawn(first.grow(&more)), task::spawn(second.grow(&more)));
    assert!(first.poll().is_pending() && second.poll().is_pending());
    rig.run();
    rig.pass(100 * MS);
    let told = |polled: std::task::Poll<Result<(), ReserveError>>| matches!(polled, std::task::Poll::Ready(Err(_)));
    assert!(told(first.poll()) != told(second.poll()));
}

#[test]
fn who_asks_for_more_than_it_said_is_refused() {
    let rig = Rig::loans(10, 10);
    let query = bounded("query", &[(GPU, 4)]);
    let mut lease = take(&rig.scheduler, gpu(3).activity(&query));
    assert!(lease.try_grow(&Amounts::of(GPU, 2)).is_err());
    assert!(lease.try_grow(&Amounts::of(HOST, 1)).is_err());
    let error = task::spawn(rig.scheduler.reserve(gpu(2).activity(&query))).poll();
    assert!(matches!(error, std::task::Poll::Ready(Err(ReserveError::NeverFits(_)))), "{error:?}");
    lease.try_grow(&Amounts::of(GPU, 1)).unwrap();
    drop(lease);
    // It holds nothing, so it may begin anew.
    drop(take(&rig.scheduler, gpu(4).activity(&query)));
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_new_capacity_makes_safe_what_was_not() {
    let rig = Rig::loans(10, 10);
    let (one, other) = (bounded("one", &[(GPU, 8)]), bounded("other", &[(GPU, 8)]));
    let first = take(&rig.scheduler, gpu(4).activity(&one));
    let mut second = queued(&rig.scheduler, gpu(4).activity(&other));
    rig.scheduler.set_capacity(GPU, 12).unwrap();
    drop(granted(&mut second));
    drop(first);
}

#[test]
fn a_wait_for_safety_can_be_given_up_and_blocks_nobody() {
    let rig = Rig::loans(10, 10);
    let (one, other) = (bounded("one", &[(GPU, 8)]), bounded("other", &[(GPU, 8)]));
    let first = take(&rig.scheduler, gpu(4).activity(&one));
    let second = queued(&rig.scheduler, gpu(4).activity(&other));
    for _ in 0..40 {
        // However often it is passed, it claims nothing.
        drop(take(&rig.scheduler, gpu(6)));
    }
    drop((first, second));
    assert_untouched(&rig.scheduler);
}

/// Seeded crowds of bounded activities that grow step by step to their maxima over two budgets, in whatever order: all
/// of them end, and nobody is ever told to roll back.
#[test]
fn c7_among_bounded_activities_nobody_ever_needs_a_verdict() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 12)).with(Budget::loan(HOST, 12)));
        let mut done = 0;
        let mut running: Vec<(Activity, [u64; 2], Vec<Lease>)> = Vec::new();
        let mut waiting: Vec<(usize, [u64; 2], common::Waiting)> = Vec::new();
        let most: Vec<[u64; 2]> = (0..6).map(|_| [random.u64(1..12), random.u64(1..12)]).collect();
        for (at, &[gpu, host]) in most.iter().enumerate() {
            let name = format!("activity {at}");
            let activity = Activity::new(name).at_most(bundle(&[(GPU, gpu), (HOST, host)]));
            running.push((activity, [gpu, host], Vec::new()));
        }
        for _ in 0..3_000 {
            let at = random.usize(..running.len());
            let asks_already = waiting.iter().any(|(who, ..)| *who == at);
            let (activity, rest, held) = &mut running[at];
            if *rest == [0, 0] && !asks_already && !held.is_empty() {
                held.clear();
                done += 1;
            } else if *rest != [0, 0] && !asks_already {
                let step = [random.u64(0..=rest[0]), random.u64(0..=rest[1])];
                if step != [0, 0] {
                    let request = [(GPU, step[0]), (HOST, step[1])].into_iter().filter(|&(_, units)| units > 0);
                    let request = request.fold(Request::new(), |all, (id, units)| all.amount(id, units));
                    *rest = [rest[0] - step[0], rest[1] - step[1]];
                    waiting.push((at, step, task::spawn(rig.scheduler.reserve(request.activity(activity)))));
                }
            }
            waiting.retain_mut(|(who, _, waiting)| match waiting.poll() {
                std::task::Poll::Ready(lease) => {
                    running[*who].2.push(lease.unwrap_or_else(|error| panic!("seed {seed}: {error}")));
                    false
                }
                std::task::Poll::Pending => true,
            });
            rig.pass(MS);
            rig.scheduler.verify().unwrap();
            if done == running.len() {
                break;
            }
        }
        assert_eq!((done, waiting.len()), (6, 0), "seed {seed}: they wait for ever\n{}", rig.scheduler.snapshot(9));
        assert_untouched(&rig.scheduler);
    }
}

#[test]
fn an_elastic_request_takes_as_much_as_is_safe() {
    let rig = Rig::loans(10, 10);
    let (one, other) = (bounded("one", &[(GPU, 8)]), bounded("other", &[(GPU, 8)]));
    let first = take(&rig.scheduler, gpu(4).activity(&one));
    // Six would not be safe, three would not, and a floor of two is.
    let part = take(&rig.scheduler, gpu(6).down_to(GPU, 2).activity(&other));
    assert_eq!(part.get(GPU), 2);
    drop((first, part));
    let first = take(&rig.scheduler, gpu(5).activity(&one));
    let mut second = queued(&rig.scheduler, gpu(8).down_to(GPU, 3).activity(&other));
    drop(first);
    assert_eq!(granted(&mut second).get(GPU), 8);
    assert_untouched(&rig.scheduler);
}

#[test]
fn who_waits_for_safety_does_not_stand_at_a_rate_and_keeps_no_task_awake() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::rate(common::IO, 1_000).burst(100));
    let mut rig = Rig::new(config);
    let (one, other) = (bounded("one", &[(GPU, 8)]), bounded("other", &[(GPU, 8)]));
    let first = take(&rig.scheduler, gpu(4).activity(&one));
    drop(take(&rig.scheduler, common::io(100)));
    let mut second = queued(&rig.scheduler, gpu(4).io(50u64).activity(&other));
    rig.run();
    rig.pass(60 * MS);
    rig.jump(100 * MS);
    assert!(rig.run() <= 1, "the scheduler task spins");
    assert_waits(&mut second);
    drop(first);
    drop(granted(&mut second));
}

/// A review found this: a claim that was hard before its offer expired came back although only safety kept its owner,
/// and kept another bounded activity from what it needed to end.
#[test]
fn a_claim_that_comes_back_from_an_expired_offer_does_not_bind_while_only_safety_keeps_its_owner() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 4)).with_bypass_limit(0);
    let mut rig = Rig::new(config);
    let most = [(GPU, 8), (HOST, 4)];
    let (one, other) = (bounded("one", &most), bounded("other", &most));
    let hold = take(&rig.scheduler, gpu(10));
    let high = gpu(4).activity(&one).priority(bursar::Priority::High);
    let mut slow = queued(&rig.scheduler, high);
    let mut between = queued(&rig.scheduler, gpu(10));
    drop(hold);
    rig.run();
    rig.pass(Duration::from_secs(1));
    let all = granted(&mut between);
    let first = take(&rig.scheduler, Request::new().host(4u64).activity(&other));
    drop(all);
    assert!(slow.poll().is_pending());
    let rest = take(&rig.scheduler, gpu(8).activity(&other));
    drop((first, rest));
    drop(granted(&mut slow));
    assert_untouched(&rig.scheduler);
}

/// Who said nothing beforehand, and whoever asks for what it has always been free to have, is not held to it.
#[test]
fn a_bound_is_forgotten_with_the_last_lease_and_the_last_reservation_of_its_activity() {
    let rig = Rig::loans(10, 10);
    let query = Activity::new("query");
    let bounded = query.clone().at_most(Amounts::of(GPU, 4));
    drop(take(&rig.scheduler, gpu(4).activity(&bounded)));
    drop(take(&rig.scheduler, gpu(10).activity(&query)));
    let held = take(&rig.scheduler, gpu(10));
    drop(queued(&rig.scheduler, gpu(4).activity(&bounded)));
    drop(held);
    drop(take(&rig.scheduler, gpu(10).activity(&query)));
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_bound_is_forgotten_also_while_there_is_a_lease_that_the_scope_of_a_task_implies() {
    let rig = Rig::loans(10, 10);
    let query = Activity::new("query");
    let said = take(&rig.scheduler, gpu(4).activity(&query.clone().at_most(Amounts::of(GPU, 4))));
    let implied = tokio_test::block_on(query.scope(async { take(&rig.scheduler, gpu(1)) }));
    drop(said);
    drop(take(&rig.scheduler, gpu(9).activity(&query)));
    drop(implied);
    assert_untouched(&rig.scheduler);
}

/// Not what it should do; but nobody waits for ever because of it.
#[test]
fn c5_an_activity_that_says_less_than_before_lets_those_go_on_whom_that_makes_safe() {
    let rig = Rig::loans(10, 10);
    let (one, other) = (bounded("one", &[(GPU, 8)]), bounded("other", &[(GPU, 8)]));
    let first = take(&rig.scheduler, gpu(4).activity(&one));
    let mut second = queued(&rig.scheduler, gpu(4).activity(&other));
    assert_waits(&mut second);
    let more = take(&rig.scheduler, gpu(1).activity(&one.at_most(Amounts::of(GPU, 5))));
    drop(granted(&mut second));
    drop((first, more));
    assert_untouched(&rig.scheduler);
}

#[test]
fn a_bound_is_known_as_long_as_there_is_a_lease_of_its_activity_also_one_from_before_it() {
    let rig = Rig::loans(10, 10);
    let query = Activity::new("query");
    let before = take(&rig.scheduler, gpu(1).activity(&query));
    let first = take(&rig.scheduler, gpu(3).activity(&query.clone().at_most(Amounts::of(GPU, 8))));
    let mut second = queued(&rig.scheduler, gpu(4).activity(&bounded("other", &[(GPU, 8)])));
    drop(before);
    assert_waits(&mut second);
    drop(first);
    drop(granted(&mut second));
    assert_untouched(&rig.scheduler);
}

/// A state that is not safe stays so whatever is granted: nobody new goes in before somebody has come out.
#[test]
fn c7_where_a_shrink_has_left_it_unsafe_no_bounded_activity_is_granted_anything() {
    let rig = Rig::loans(8, 4);
    let [one, other] = ["one", "other"].map(|name| bounded(name, &[(GPU, 5)]));
    let third = bounded("third", &[(HOST, 2)]);
    let [first, second] = [&one, &other].map(|activity| take(&rig.scheduler, gpu(3).activity(activity)));
    rig.scheduler.set_capacity(GPU, 6).unwrap();
    let mut outside = queued(&rig.scheduler, Request::new().host(2u64).activity(&third));
    assert_eq!(outside.explain().blockers[0].cause, bursar::Cause::Unsafe);
    drop(first);
    drop((granted(&mut outside), second));
    assert_untouched(&rig.scheduler);
}

#[test]
fn activities_that_gave_up_leave_no_bound_behind_and_one_beyond_the_capacity_stops_nobody() {
    let rig = Rig::loans(10, 10);
    let hold = take(&rig.scheduler, gpu(10));
    let huge = bounded("huge", &[(GPU, 20)]);
    drop(queued(&rig.scheduler, gpu(1).activity(&huge)));
    let _waits = queued(&rig.scheduler, gpu(2).activity(&huge));
    drop(hold);
    let other = bounded("other", &[(GPU, 4)]);
    drop(take(&rig.scheduler, gpu(4).activity(&other)));
}

/// Bounded activities that take over from each other: the next begins before the last has ended. How many got in beside
/// whoever waits, of 10,000; and the last of them.
fn relay(
    rig: &mut Rig,
    first: Lease,
    next: &Request,
    most: &[(bursar::BudgetId, u64)],
    every: Duration,
) -> (usize, Lease) {
    let mut running = first;
    for passes in 0..10_000 {
        rig.pass(every);
        let runner = Activity::new(format!("runner {passes}")).at_most(bundle(most));
        match rig.scheduler.try_reserve(next.clone().activity(&runner)) {
            Ok(lease) => running = lease,
            Err(_) => return (passes, running),
        }
    }
    (10_000, running)
}

/// Whichever of them runs, it would take more than is left beside it and the one that waits: each could lock the other
/// out. Beside each other they are safe.
#[test]
fn c3_r4_no_more_than_so_many_new_bounded_activities_pass_whom_safety_keeps() {
    for limit in [0, 1, 16] {
        let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_bypass_limit(limit));
        let runner = bounded("first runner", &[(GPU, 8)]);
        let first = take(&rig.scheduler, gpu(2).activity(&runner));
        let mut kept = queued(&rig.scheduler, gpu(4).activity(&bounded("kept", &[(GPU, 10)])));
        let (passes, last) = relay(&mut rig, first, &gpu(2), &[(GPU, 8)], Duration::ZERO);
        assert_eq!(passes, limit as usize);
        assert_waits(&mut kept);
        drop(last);
        drop(granted(&mut kept));
        assert_untouched(&rig.scheduler);
    }
}

/// Who is kept waits for a GPU and may want all of the host memory; what begins takes nothing but that, and stands in
/// no line of the other.
#[test]
fn c3_r4_who_begins_with_another_budget_passes_as_well() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    let mut rig = Rig::new(config.with_bypass_limit(3));
    let (most, next) = ([(GPU, 8), (HOST, 2)], Request::new().host(2u64));
    let first = take(&rig.scheduler, next.clone().activity(&bounded("first runner", &most)));
    let mut kept = queued(&rig.scheduler, gpu(4).activity(&bounded("kept", &[(GPU, 10), (HOST, 10)])));
    let (passes, last) = relay(&mut rig, first, &next, &most, Duration::ZERO);
    assert_eq!(passes, 3);
    drop(last);
    drop(granted(&mut kept));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c3_r4_new_bounded_activities_pass_whom_safety_keeps_for_so_long_and_no_longer() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with_bypass_limit(1_000).with_bypass_time(50 * MS);
    let mut rig = Rig::new(config);
    let first = take(&rig.scheduler, gpu(2).activity(&bounded("first runner", &[(GPU, 8)])));
    let mut kept = queued(&rig.scheduler, gpu(4).activity(&bounded("kept", &[(GPU, 10)])));
    let (passes, last) = relay(&mut rig, first, &gpu(2), &[(GPU, 8)], 10 * MS);
    assert_eq!(passes, 5, "one at once, and four in the 50 ms from then on");
    drop(last);
    drop(granted(&mut kept));
    assert_untouched(&rig.scheduler);
}

/// Ten of each loan, somebody who holds two, and somebody whom safety keeps and nobody may pass.
fn nobody_may_pass() -> (Rig, Lease, common::Waiting) {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    let rig = Rig::new(config.with_bypass_limit(0));
    let runner = take(&rig.scheduler, gpu(2).activity(&bounded("runner", &[(GPU, 8)])));
    let kept = queued(&rig.scheduler, gpu(4).activity(&bounded("kept", &[(GPU, 10)])));
    (rig, runner, kept)
}

#[test]
fn r2_r3_who_keeps_new_activities_out_keeps_nobody_else_from_anything() {
    let (rig, mut runner, mut kept) = nobody_may_pass();
    let asks = |request: Request, name, most: &[_]| rig.scheduler.try_reserve(request.activity(&bounded(name, most)));
    assert!(asks(gpu(1), "new", &[(GPU, 8)]).is_err());
    let host = Request::new().host(1u64);
    assert!(asks(host.clone(), "may want both", &[(GPU, 1), (HOST, 8)]).is_err());
    drop(asks(host, "has nothing to do with it", &[(HOST, 8)]).unwrap());
    drop(asks(gpu(1).priority(Priority::High), "ranks before it", &[(GPU, 8)]).unwrap());
    drop(rig.scheduler.try_reserve(gpu(8)).unwrap());
    runner.try_grow(&Amounts::of(GPU, 6)).unwrap();
    drop(runner);
    drop(granted(&mut kept));
    assert_untouched(&rig.scheduler);
}

/// Two are kept apart as long as nobody who holds something may come to want of both.
#[test]
fn r2_whom_somebody_links_to_it_is_kept_out_while_that_one_holds_something() {
    let (rig, runner, kept) = nobody_may_pass();
    let link = bounded("link", &[(GPU, 1), (HOST, 1)]);
    let high = |request: Request| request.priority(Priority::High).activity(&link);
    let held = take(&rig.scheduler, high(Request::new().host(1u64)));
    let mut new = queued(&rig.scheduler, Request::new().host(1u64).activity(&bounded("new", &[(HOST, 8)])));
    drop(held);
    drop(granted(&mut new));
    drop((runner, kept));
    assert_untouched(&rig.scheduler);
}

/// Rates keep nobody from ending, and who holds what both may want is none who may want the other loan.
#[test]
fn r2_neither_a_rate_nor_a_holder_of_other_loans_links_anybody_to_it() {
    let config = [GPU, HOST].into_iter().fold(Config::new(), |all, id| all.with(Budget::loan(id, 10)));
    let rig = Rig::new(config.with(Budget::rate(common::IO, 1_000)).with_bypass_limit(0));
    let runner = take(&rig.scheduler, gpu(2).activity(&bounded("runner", &[(GPU, 8)])));
    let kept = queued(&rig.scheduler, gpu(4).activity(&bounded("kept", &[(GPU, 10), (common::IO, 100)])));
    let begins = |name, most: &[_]| take(&rig.scheduler, Request::new().host(1u64).activity(&bounded(name, most)));
    let same_rate = begins("wants the same rate", &[(HOST, 8), (common::IO, 100)]);
    drop(begins("shares the host memory with that", &[(HOST, 8)]));
    drop((same_rate, runner, kept));
    assert_untouched(&rig.scheduler);
}

/// C5, R9: who is parked at the cap of its module stands in no line, and lets in whom it kept out.
#[test]
fn c5_whom_somebody_keeps_out_is_let_in_when_that_one_comes_to_be_kept_by_its_cap() {
    let mut rig = Rig::strict(10, 10);
    let vision = rig.scheduler.module("vision").cap(GPU, 4).register().unwrap();
    let runner = take(&rig.scheduler, gpu(2).activity(&bounded("runner", &[(GPU, 8)])));
    let mut kept = queued(&rig.scheduler, gpu(4).of(&vision).activity(&bounded("kept", &[(GPU, 10)])));
    let mut new = queued(&rig.scheduler, gpu(1).activity(&bounded("new", &[(GPU, 8)])));
    assert_eq!(new.explain().blockers[0].cause, bursar::Cause::KeptOut);
    let own = take(&rig.scheduler, gpu(1).of(&vision));
    drop(granted(&mut new));
    assert_waits(&mut kept);
    drop((own, runner));
    rig.run();
    drop(granted(&mut kept));
    assert_untouched(&rig.scheduler);
}

#[test]
fn c5_c13_who_is_kept_out_is_told_so_and_let_in_when_the_other_gives_up() {
    let (rig, runner, kept) = nobody_may_pass();
    let mut new = queued(&rig.scheduler, gpu(1).activity(&bounded("new", &[(GPU, 8)])));
    let (why, whose) = (new.explain(), kept.explain());
    assert_eq!(why.blockers[0].cause, bursar::Cause::KeptOut);
    assert!(why.to_string().contains("no bounded activity begins before another is served"), "{why}");
    assert!(whose.hard && whose.to_string().contains("it lets no bounded activity of lower rank begin"), "{whose}");
    assert!(!whose.to_string().contains("may be passed"), "{whose}");
    drop(kept);
    drop(granted(&mut new));
    drop(runner);
    assert_untouched(&rig.scheduler);
}

fn low_lease(units: u64) -> Request {
    gpu(units).priority(Priority::Idle).preemptible()
}

fn is_asked(lease: &Lease) -> bool {
    task::spawn(lease.revoked()).poll().is_ready()
}

/// Two bounded activities that could each ask for everything: the lower one gives way like any other lease.
#[test]
fn c8_a_bounded_activity_asks_the_one_by_which_it_is_not_safe() {
    for units in [4, 6] {
        let rig = Rig::loans(10, 10);
        let (low, high) = (bounded("low", &[(GPU, 10)]), bounded("high", &[(GPU, 10)]));
        let hog = take(&rig.scheduler, low_lease(6).activity(&low));
        let mut urgent = queued(&rig.scheduler, gpu(units).priority(Priority::Critical).activity(&high));
        assert!(is_asked(&hog), "four are there, but not both could end then; six are not even there");
        drop(hog);
        drop(granted(&mut urgent));
        assert_untouched(&rig.scheduler);
    }
}

/// What is lacking is to be had of the youngest, but only the end of the bounded one makes it safe, and is enough.
#[test]
fn c8_who_is_not_needed_once_it_is_safe_is_spared() {
    let rig = Rig::loans(10, 10);
    let (low, high) = (bounded("low", &[(GPU, 10)]), bounded("high", &[(GPU, 10)]));
    let unsafe_one = take(&rig.scheduler, low_lease(6).activity(&low));
    let plain = take(&rig.scheduler, low_lease(4));
    let mut urgent = queued(&rig.scheduler, gpu(4).priority(Priority::Critical).activity(&high));
    assert_eq!((is_asked(&unsafe_one), is_asked(&plain)), (true, false));
    drop(unsafe_one);
    drop(granted(&mut urgent));
    drop(plain);
    assert_untouched(&rig.scheduler);
}

/// Someone waits for what an activity has whose growth is not safe before another ends, which holds nothing of that.
#[test]
fn r3_a_claim_binds_nobody_for_whom_safety_has_to_wait() {
    let config = [GPU, HOST, common::DISK].into_iter().fold(Config::new(), |all, id| all.with(Budget::loan(id, 10)));
    let mut rig = Rig::new(config.with_bypass_limit(0));
    let one = bounded("one", &[(GPU, 10), (common::DISK, 10)]);
    let other = bounded("other", &[(GPU, 8), (HOST, 10), (common::DISK, 5)]);
    let first = take(&rig.scheduler, gpu(2).activity(&one));
    let mut second = take(&rig.scheduler, Request::new().disk(5u64).activity(&other));
    let mut unsafe_one = queued(&rig.scheduler, gpu(2).activity(&one));
    let mut large = queued(&rig.scheduler, gpu(9).host(10u64).priority(Priority::High));
    rig.pass(Duration::from_secs(1));
    second.try_grow(&Amounts::of(HOST, 3)).unwrap();
    drop(second);
    drop((granted(&mut unsafe_one), first));
    drop(granted(&mut large));
    assert_untouched(&rig.scheduler);
}
