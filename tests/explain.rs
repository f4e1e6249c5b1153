//! Every wait can be explained (C13): as data for every state and everything that may block, and in a sentence.

mod common;

use std::time::Duration;

use bursar::{
    Blocker, Budget, BudgetId, Cause, Config, Ending, Explanation, GIB, Lease, MIB, Next, Priority, Request, WaitState,
};
use common::*;
use tokio_test::task;

/// Forty gigabytes of GPU memory and a rate of 100 MiB a second, with aging.
fn service() -> Rig {
    let config = Config::new()
        .with(Budget::loan(GPU, 40 * GIB))
        .with(Budget::loan(HOST, 64 * GIB))
        .with(Budget::rate(IO, 100 * MIB).max_debt(100 * MIB))
        .with_aging_step(2_000 * MS);
    Rig::new(config)
}

fn gib(units: u64) -> Request {
    gpu(units * GIB)
}

#[track_caller]
fn only(why: &Explanation) -> &Blocker {
    assert_eq!(why.blockers.len(), 1, "{why}");
    &why.blockers[0]
}

/// Cause, what is asked, free, claimed by higher ranks and missing of the only budget that blocks.
#[track_caller]
fn figures(why: &Explanation) -> (Cause, [u64; 4]) {
    let only = only(why);
    (only.cause, [only.asked, only.free, only.claimed, only.missing])
}

#[test]
fn c13_a_wait_behind_a_labelled_and_an_unlabelled_lease_in_a_sentence() {
    let mut rig = service();
    let _train = take(&rig.scheduler, gib(30).label("train"));
    let _other = take(&rig.scheduler, gib(6));
    let chat = queued(&rig.scheduler, gib(8).label("chat").deadline(3_500 * MS));
    rig.pass(1_300 * MS);
    assert_eq!(
        chat.explain().to_string(),
        "`chat` has waited 1.3 s at NORMAL for 8.0 GiB of gpu0.memory: 4.0 GiB of 40.0 GiB are free (held: `train` \
         30.0 GiB, 6.0 GiB without a label), 4.0 GiB more have to come back, nobody is ahead of it; it may be passed \
         16 times; it rises to HIGH in 700 ms; it ends late in 2.2 s."
    );
}

#[test]
fn c13_a_wait_for_any_of_two_in_a_sentence() {
    let rig = service();
    let _spent = take(&rig.scheduler, io(90 * MIB));
    let _train = take(&rig.scheduler, gib(40).label("train"));
    let request = gib(2).or(host(GIB).io(50 * MIB)).priority(Priority::High);
    let waiting = queued(&rig.scheduler, request);
    rig.jump(100 * MS);
    assert_eq!(
        waiting.explain().to_string(),
        "A reservation without a label has waited 100 ms at HIGH for the first of these to be had: (1) 2.0 GiB of \
         gpu0.memory: 0 B of 40.0 GiB are free (held: `train` 40.0 GiB), 2.0 GiB more have to come back, nobody is \
         ahead of it; (2) 50.0 MiB of io: 20.0 MiB of 100.0 MiB are there, there is enough in 300 ms, nobody is ahead \
         of it; it may be passed 16 times."
    );
}

#[test]
fn c13_a_wait_behind_a_claim_in_a_sentence() {
    let rig = service();
    let _train = take(&rig.scheduler, gib(30).label("train"));
    let large = queued(&rig.scheduler, gib(36).label("large"));
    let passing: Vec<Lease> = (0..3).map(|_| take(&rig.scheduler, gib(1))).collect();
    drop(passing);
    rig.jump(100 * MS);
    let over = large.explain().to_string();
    assert!(over.contains("; it was passed 3 times, and its time for that is over"), "{over}");
    let small = queued(&rig.scheduler, gib(1).label("small"));
    assert_eq!(
        small.explain().to_string(),
        "`small` has waited less than 0.1 ms at NORMAL for 1.0 GiB of gpu0.memory: 10.0 GiB of 40.0 GiB are free \
         (held: `train` 30.0 GiB), 36.0 GiB are kept for others that may not be passed any more, 27.0 GiB more have to \
         come back, one is ahead of it and asks 36.0 GiB; it may be passed 16 times; it rises to HIGH in 2.0 s."
    );
    assert_eq!(figures(&small.explain()), (Cause::Claimed, [GIB, 10 * GIB, 36 * GIB, 27 * GIB]));
    assert_eq!(
        large.explain().to_string(),
        "`large` has waited 100 ms at NORMAL for 36.0 GiB of gpu0.memory: 10.0 GiB of 40.0 GiB are free (held: `train` \
         30.0 GiB), 26.0 GiB more have to come back, nobody is ahead of it; it was passed 3 times and keeps what it \
         needs from lower ranks now; it rises to HIGH in 1.9 s."
    );
}

#[test]
fn c13_what_is_free_to_the_unit_is_claimed_and_not_short() {
    let rig = Rig::strict(10, 10);
    let _held = take(&rig.scheduler, gpu(6));
    let _large = queued(&rig.scheduler, gpu(8));
    assert_eq!(figures(&queued(&rig.scheduler, gpu(4)).explain()), (Cause::Claimed, [4, 4, 8, 8]));
    assert_eq!(figures(&queued(&rig.scheduler, gpu(5)).explain()), (Cause::Short, [5, 4, 8, 9]));
}

#[test]
fn c13_all_that_there_is_is_not_too_large() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(4));
    assert_eq!(figures(&queued(&rig.scheduler, gpu(10)).explain()), (Cause::Short, [10, 6, 0, 4]));
}

#[test]
fn c13_how_often_it_may_yet_be_passed_and_from_the_first_time_on_for_how_long() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_bypass_limit(3).with_bypass_time(80 * MS));
    let _held = take(&rig.scheduler, gpu(6));
    let large = queued(&rig.scheduler, gpu(8));
    assert_eq!(large.explain().bypass_limit, 3);
    assert_eq!(large.explain().next, [Next::Passed { times: 3, within: None }]);
    drop(take(&rig.scheduler, gpu(1)));
    rig.jump(30 * MS);
    assert_eq!(large.explain().next, [Next::Passed { times: 2, within: Some(50 * MS) }]);
}

#[test]
fn c13_a_deadline_in_a_hundred_years_is_none() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let year = Duration::from_secs(365 * 86_400);
    let ends = |request| {
        let next = queued(&rig.scheduler, request).explain().next;
        next.iter().any(|next| matches!(next, Next::EndsLate { .. }))
    };
    assert!(ends(gpu(1).deadline(70 * year)));
    assert!(!ends(gpu(1).deadline(100 * year)));
}

#[test]
fn c13_what_was_not_polled_says_what_it_would_meet() {
    let rig = service();
    let unpolled = |request: Request| rig.scheduler.reserve(request).explain();
    let served = unpolled(gib(1).label("early"));
    assert_eq!(
        (served.state, served.arrival, &*served.next),
        (WaitState::Unpolled, None, &[Next::Served { alternative: 0 }][..])
    );
    let text = "`early` was not polled yet, so it asks for nothing; polled now, it would be granted at once.";
    assert_eq!(served.to_string(), text);
    let _train = take(&rig.scheduler, gib(38));
    assert_eq!(figures(&unpolled(gib(3))), (Cause::Short, [3 * GIB, 2 * GIB, 0, GIB]));
    assert!(unpolled(gib(3)).next.is_empty());
    // Less would do, and at once unless it is patient.
    let elastic = || gpu(4 * GIB).down_to(GPU, GIB);
    assert_eq!(unpolled(elastic()).next, [Next::Served { alternative: 0 }]);
    assert!(unpolled(elastic().patience(MS)).next.is_empty());
    // The second alternative would do.
    assert_eq!(unpolled(gib(3).or(host(1))).next, [Next::Served { alternative: 1 }]);
    let refused = [
        (Request::new(), "asks for nothing"),
        (gib(41), "more than there is; 41.0 GiB of gpu0.memory: it has 40.0 GiB in all"),
        (Request::new().compute(1), "no budget compute"),
        (gib(3).deadline(Duration::ZERO), "its deadline is now"),
    ];
    for (request, why) in refused {
        let found = unpolled(request);
        assert!(matches!(found.next[..], [Next::Refused { .. }]), "{found}");
        assert!(found.to_string().contains(why), "{found}");
    }
    assert_eq!(rig.scheduler.stats().waiting, 0);
    rig.scheduler.close();
    assert!(unpolled(gib(1)).to_string().contains("grants nothing any more"));
    let orphan = rig.scheduler.reserve(gib(1));
    drop(rig);
    assert!(matches!(orphan.explain().next[..], [Next::Refused { .. }]));
}

#[test]
fn c13_a_full_queue_would_refuse() {
    let rig = Rig::new(Config::new().with(Budget::loan(GPU, 1)).with_max_waiters(1));
    let _held = take(&rig.scheduler, gpu(1));
    let _first = queued(&rig.scheduler, gpu(1));
    let found = rig.scheduler.reserve(gpu(1)).explain();
    assert!(found.to_string().contains("1 wait already"), "{found}");
}

#[test]
fn c13_every_state_from_the_queue_to_the_lease() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(4).label("a"));
    assert_eq!((waiting.explain().state, waiting.explain().arrival), (WaitState::Waiting, Some(1)));
    drop(held);
    let ready = waiting.explain();
    assert_eq!((ready.state, ready.blockers.len()), (WaitState::Granted, 0));
    assert_eq!(ready.next, [Next::PassesOn { within: 100 * MS }]);
    // What it was granted is somebody's by now, though of nobody's lease.
    let mut other = queued(&rig.scheduler, gpu(9));
    assert_eq!((only(&other.explain()).offered, only(&other.explain()).unlabelled), (4, 0));
    rig.pass(150 * MS);
    let dormant = waiting.explain();
    assert_eq!((dormant.state, dormant.expiries), (WaitState::Dormant, 1));
    assert_eq!((figures(&dormant), only(&dormant).in_line), ((Cause::Short, [4, 1, 0, 3]), false));
    assert!(dormant.to_string().contains("was not polled when it was granted, and the grant passed on; polled now"));
    let lease = granted(&mut other);
    assert_eq!(other.explain().state, WaitState::Done);
    assert!(other.explain().to_string().ends_with("has given its result."));
    assert!(waiting.poll().is_pending());
    assert_eq!(waiting.explain().state, WaitState::Waiting);
    drop(lease);
}

#[test]
fn c13_every_end_of_a_wait() {
    let mut rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10).host(10));
    let late = queued(&rig.scheduler, gpu(1).deadline(20 * MS));
    rig.pass(30 * MS);
    assert_eq!(late.explain().state, WaitState::Ended(Ending::Late));
    assert_eq!(late.explain().waited, 30 * MS);
    let large = queued(&rig.scheduler, gpu(8));
    let closed = queued(&rig.scheduler, gpu(2));
    rig.scheduler.set_capacity(GPU, 5).unwrap();
    assert_eq!(large.explain().state, WaitState::Ended(Ending::NeverFits));
    rig.scheduler.close();
    assert_eq!(closed.explain().state, WaitState::Ended(Ending::Closed));
    for ended in [&late, &large, &closed] {
        assert!(ended.explain().to_string().contains("the error lies ready"), "{}", ended.explain());
    }
}

#[test]
fn c13_a_deficit_after_a_shrink_and_a_rate_in_debt() {
    let rig = service();
    let _held = take(&rig.scheduler, gib(30).label("train"));
    let waiting = queued(&rig.scheduler, gib(12));
    rig.scheduler.set_capacity(GPU, 20 * GIB).unwrap();
    let why = waiting.explain();
    assert_eq!(figures(&why), (Cause::Overdrawn, [12 * GIB, 0, 0, 22 * GIB]));
    assert_eq!((only(&why).deficit, only(&why).capacity), (10 * GIB, 20 * GIB));
    assert!(why.to_string().contains("it was shrunk to 20.0 GiB and is 10.0 GiB overdrawn"), "{why}");
    let _spent = take(&rig.scheduler, io(150 * MIB));
    let writes = queued(&rig.scheduler, io(10 * MIB));
    let why = writes.explain();
    assert_eq!(figures(&why), (Cause::Refilling, [10 * MIB, 0, 0, 60 * MIB]));
    assert_eq!((only(&why).deficit, only(&why).ready_in), (50 * MIB, Some(600 * MS)));
    assert!(why.to_string().contains("it is 50.0 MiB in debt, there is enough in 600 ms"), "{why}");
}

#[test]
fn c13_a_bundle_names_all_that_it_lacks_and_rates_last() {
    let rig = service();
    let _held = take(&rig.scheduler, gib(40).host(60 * GIB).io(100 * MIB));
    let waiting = queued(&rig.scheduler, gib(1).host(5 * GIB).io(MIB));
    let blockers = waiting.explain().blockers;
    let found: Vec<_> = blockers.iter().map(|blocker| (blocker.budget, blocker.in_line)).collect();
    assert_eq!(found, [(GPU, true), (HOST, false)]);
}

#[test]
fn c13_patience_a_raise_and_an_alternative_that_is_too_large() {
    let mut rig = service();
    let _held = take(&rig.scheduler, gib(40));
    let elastic = gib(8).down_to(GPU, GIB).patience(500 * MS).priority(Priority::Low);
    let waiting = queued(&rig.scheduler, elastic.or(host(70 * GIB)));
    let why = waiting.explain();
    assert!(why.next.contains(&Next::TakesLess { within: 500 * MS }), "{why}");
    assert_eq!((why.blockers[1].cause, why.blockers[1].in_line), (Cause::TooLarge, false));
    rig.pass(2_100 * MS);
    let why = waiting.explain();
    assert_eq!((why.base, why.level), (Priority::Low, Priority::Normal));
    assert!(why.to_string().contains("at NORMAL (risen from LOW)"), "{why}");
    assert!(why.to_string().contains("(1) at least 1.0 GiB (8.0 GiB wanted) of gpu0.memory"), "{why}");
    assert!(why.next.contains(&Next::Rises { to: Priority::High, within: 1_900 * MS }), "{why}");
}

#[test]
fn c13_only_who_is_elastic_and_still_patient_will_take_less() {
    let mut rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10).host(10));
    let takes_less = |waiting: &Waiting| {
        let next = waiting.explain().next;
        next.into_iter().find(|next| matches!(next, Next::TakesLess { .. }))
    };
    let elastic = queued(&rig.scheduler, gpu(8).down_to(GPU, 2).patience(500 * MS));
    let rigid = queued(&rig.scheduler, gpu(8).or(host(8)).patience(500 * MS));
    assert_eq!(takes_less(&elastic), Some(Next::TakesLess { within: 500 * MS }));
    assert_eq!(takes_less(&rigid), None);
    rig.pass(500 * MS);
    assert_eq!((takes_less(&elastic), takes_less(&rigid)), (None, None));
}

#[test]
fn c13_a_dormant_one_still_ends_late_and_is_passed_by_nobody() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let waiting = queued(&rig.scheduler, gpu(10).deadline(1_000 * MS));
    drop(held);
    let mut other = queued(&rig.scheduler, gpu(10));
    assert_eq!(waiting.explain().next, [Next::PassesOn { within: 100 * MS }], "a grant is in time");
    rig.pass(200 * MS);
    let _lease = granted(&mut other);
    assert_eq!(waiting.explain().state, WaitState::Dormant);
    assert_eq!(waiting.explain().next, [Next::EndsLate { within: 800 * MS }]);
}

#[test]
fn c13_those_ahead_are_counted_exactly_up_to_a_thousand() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let mut crowd = Vec::new();
    let mut ahead = |upto: usize| {
        crowd.extend((crowd.len()..upto).map(|_| queued(&rig.scheduler, gpu(2).or(gpu(1)))));
        only(&rig.scheduler.reserve(gpu(1)).explain()).ahead
    };
    for (upto, count, more) in [(0, 0, false), (3, 3, false), (1_000, 1_000, false), (1_001, 1_000, true)] {
        let found = ahead(upto);
        // The second alternative of a waiter stands in the same line and is not another waiter.
        assert_eq!((found.count, found.more, found.asked), (count, more, 2 * count));
    }
    let late = queued(&rig.scheduler, gpu(1)).explain();
    assert!(late.to_string().contains("more than 1000 are ahead of it"), "{late}");
    // Those of lower rank are not ahead, and those with an earlier deadline are.
    let urgent = queued(&rig.scheduler, gpu(1).priority(Priority::High));
    assert_eq!(only(&urgent.explain()).ahead.count, 0);
    let due = queued(&rig.scheduler, gpu(1).deadline(10 * MS));
    assert_eq!((only(&due.explain()).ahead.count, only(&due.explain()).ahead.asked), (1, 1));
}

#[test]
fn c13_who_stands_ahead_by_another_than_its_first_alternative_is_counted() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10).host(10u64));
    let _ahead = queued(&rig.scheduler, host(4).or(gpu(3)).or(gpu(2)));
    let ahead = only(&rig.scheduler.reserve(gpu(1)).explain()).ahead;
    assert_eq!((ahead.count, ahead.asked), (1, 3));
}

/// The slot is that of one whose owner never asked how it had ended.
#[test]
fn c13_a_wait_has_lasted_as_long_as_it_has_whoever_waited_in_its_slot_before() {
    let mut rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10));
    let late = queued(&rig.scheduler, gpu(1).deadline(10 * MS));
    rig.pass(10 * MS);
    drop(late);
    let next = queued(&rig.scheduler, gpu(1));
    rig.pass(25 * MS);
    assert_eq!(next.explain().waited, 25 * MS);
}

#[test]
fn c13_holders_are_the_largest_three_and_the_rest_in_sums() {
    let rig = Rig::loans(100, 10);
    let labelled = [("a", 5), ("b", 30), ("c", 20), ("d", 10), ("e", 1)];
    let _held: Vec<Lease> = labelled.map(|(label, units)| take(&rig.scheduler, gpu(units).label(label))).into();
    let _plain = take(&rig.scheduler, gpu(7));
    let why = queued(&rig.scheduler, gpu(50)).explain();
    let holders: Vec<_> = only(&why).holders.iter().map(|holder| (&*holder.label, holder.units)).collect();
    assert_eq!(holders, [("b", 30), ("c", 20), ("d", 10)]);
    assert_eq!((only(&why).other_holders, only(&why).unlabelled), (6, 7));
    assert!(
        why.to_string()
            .contains("(held: `b` 30 B, `c` 20 B, `d` 10 B, 6 B by others with a label, 7 B without a label)")
    );
}

#[test]
fn c13_everything_that_waits_in_order_of_rank_and_with_labels() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut stale = queued(&rig.scheduler, gpu(10).label("stale"));
    drop(held);
    let other = queued(&rig.scheduler, gpu(10).priority(Priority::Idle).label(String::from("idle")));
    rig.pass(200 * MS);
    assert_eq!(stale.explain().state, WaitState::Dormant);
    assert_eq!(other.explain().state, WaitState::Granted);
    let waiting: Vec<_> = [Priority::Low, Priority::Critical, Priority::Normal]
        .map(|level| queued(&rig.scheduler, gpu(1).priority(level).label(level.name())))
        .into();
    let labels = |limit| -> Vec<String> {
        rig.scheduler.explain_all(limit).into_iter().map(|why| why.label.unwrap_or("-".into())).collect()
    };
    assert_eq!(labels(9), ["CRITICAL", "stale", "NORMAL", "LOW"]);
    assert_eq!(labels(2), ["CRITICAL", "stale"]);
    assert!(labels(0).is_empty());
    // A slot that is used again has the label of its new waiter, or none.
    drop(waiting);
    let _plain: Vec<_> = (0..3).map(|_| queued(&rig.scheduler, gpu(1))).collect();
    assert_eq!(labels(9), ["stale", "-", "-", "-"]);
    assert!(stale.poll().is_pending());
    for why in rig.scheduler.explain_all(9) {
        assert_eq!((why.state, only(&why).name.as_str()), (WaitState::Waiting, "gpu0.memory"));
        assert_eq!(only(&why).offered, 10);
    }
}

/// Whatever happened before: explaining changes nothing, does not panic, and says of everything that waits for loans
/// what blocks it.
#[test]
fn c13_explaining_changes_nothing_in_any_state() {
    let mut states = [0; 5];
    for seed in 0..12 {
        let budgets = [Budget::loan(GPU, 50), Budget::loan(HOST, 50), Budget::rate(IO, 100).burst(50)];
        let config = Config::new().with_budgets(budgets).with_aging_step(150 * MS).with_bypass_limit(seed as u32 % 4);
        let mut rig = Rig::new(config);
        let mut dice = Dice(seed);
        let (mut waiting, mut leases) = (Vec::<Waiting>::new(), Vec::<Lease>::new());
        for _ in 0..250 {
            random_step(&mut rig, &mut dice, &mut waiting, &mut leases);
            let before = rig.scheduler.stats();
            let all = rig.scheduler.explain_all(100);
            let each: Vec<_> = waiting.iter().map(|waiting| waiting.explain()).collect();
            assert_eq!(rig.scheduler.stats(), before);
            rig.scheduler.verify().unwrap();
            for why in each.iter().chain(&all) {
                assert!(why.to_string().ends_with('.') && !why.to_string().contains("  "), "{why}");
                states[state(why)] += 1;
                let served = why.next.iter().any(|next| matches!(next, Next::Served { .. }));
                assert!(why.state != WaitState::Waiting || served || !why.blockers.is_empty(), "{why:?}");
                assert!(why.blockers.iter().all(|each| each.missing > 0 || each.cause == Cause::TooLarge), "{why:?}");
            }
            let ranks: Vec<_> = all.iter().map(|why| why.level).collect();
            assert!(ranks.is_sorted(), "{ranks:?}");
        }
    }
    assert!(states.iter().all(|&seen| seen > 20), "{states:?}");
}

fn state(why: &Explanation) -> usize {
    match why.state {
        WaitState::Unpolled => 0,
        WaitState::Waiting => 1,
        WaitState::Granted => 2,
        WaitState::Dormant => 3,
        _ => 4,
    }
}

fn random_step(rig: &mut Rig, dice: &mut Dice, waiting: &mut Vec<Waiting>, leases: &mut Vec<Lease>) {
    let pick = |dice: &mut Dice, len: usize| dice.below(len.max(1) as u64) as usize;
    match dice.below(9) {
        0..3 if waiting.len() < 8 => {
            let [mut first, mut second] = [gpu(1 + dice.below(30)).host(1 + dice.below(30)), host(1 + dice.below(60))];
            if dice.below(3) == 0 {
                first = first.down_to(GPU, 1).patience(dice.below(100) as u32 * MS);
                second = second.io(1 + dice.below(40));
            }
            let request = if dice.below(2) == 0 { first.or(second) } else { first };
            let request = request.priority(Priority::ALL[dice.below(5) as usize]);
            waiting.push(task::spawn(rig.scheduler.reserve(request.deadline((1 + dice.below(900) as u32) * MS))));
        }
        3 | 4 if !leases.is_empty() => drop(leases.swap_remove(pick(dice, leases.len()))),
        5 if !waiting.is_empty() => drop(waiting.swap_remove(pick(dice, waiting.len()))),
        6 => rig.scheduler.set_capacity([GPU, HOST][dice.below(2) as usize], 20 + dice.below(40)).unwrap(),
        7 => rig.pass(dice.below(400) as u32 * MS),
        _ => {}
    }
    waiting.retain_mut(|reservation| {
        if dice.below(3) > 0 {
            return true;
        }
        match reservation.poll() {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(result) => {
                leases.extend(result.ok());
                false
            }
        }
    });
}

/// P61: there is one authority. What an explanation says that a request would meet is what it meets in the next moment,
/// whatever waits, is held or has shrunk; but for whom it would pass, and who may refuse that only when it is tried.
#[test]
fn p61_what_is_said_to_fit_is_granted_and_what_is_not_is_not() {
    let mut met = [0; 3];
    for seed in 0..12 {
        let budgets = [Budget::loan(GPU, 50), Budget::loan(HOST, 50), Budget::rate(IO, 100).burst(50)];
        let patient = Config::new().with_bypass_limit(u32::MAX).with_bypass_time(Duration::from_secs(3_600));
        let mut rig = Rig::new(patient.with_budgets(budgets));
        let mut dice = Dice(seed);
        let (mut waiting, mut leases) = (Vec::<Waiting>::new(), Vec::<Lease>::new());
        for _ in 0..150 {
            random_step(&mut rig, &mut dice, &mut waiting, &mut leases);
            let urgent = Priority::ALL[dice.below(5) as usize];
            let request = || gpu(1 + seed).host(1u64).or(host(2 + seed)).priority(urgent);
            let said = rig.scheduler.reserve(request()).explain();
            let tried = rig.scheduler.try_reserve(request());
            let served = said.next.iter().any(|next| matches!(next, Next::Served { .. }));
            let refused = said.next.iter().any(|next| matches!(next, Next::Refused { .. }));
            assert_eq!(served, tried.is_ok(), "seed {seed}: {said}, and {tried:?}");
            assert_eq!(
                refused,
                matches!(tried, Err(bursar::TryReserveError::NeverFits(_))),
                "seed {seed}: {said}, and {tried:?}"
            );
            met[usize::from(refused) + 2 * usize::from(served)] += 1;
        }
    }
    assert!(met[0] > 150 && met[2] > 800, "{met:?}");
}

#[cfg(feature = "serde")]
#[test]
fn c13_an_explanation_can_be_written_as_data() {
    let rig = Rig::loans(10, 10);
    let _held = take(&rig.scheduler, gpu(10).label("train"));
    let why = queued(&rig.scheduler, gpu(1).deadline(MS)).explain();
    let text = toml::to_string(&why).unwrap();
    assert!(text.contains("state = \"waiting\"") && text.contains("label = \"train\""), "{text}");
    assert_eq!(why.blockers[0].budget, BudgetId::GPU);
}
