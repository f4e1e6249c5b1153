//! What the test suite of the RROS resource manager states, in its strict form: exact figures, real contention, zero
//! residue.
//!
//! Numbers 1 to 3, 14 to 18 and 20 are those of its tests, S1, S2, S7, S17 and S18 traces of what it does, P1, P2, P4,
//! P11 and P12 properties that its code does not have. Its tests 4 and 7, its traces S11 to S14 and S20 and its
//! properties P3 and P9 are about tasks and balancing: see `tests/tasks` and `tests/balance.rs`.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bursar::{
    Activity, Budget, BudgetId, Config, Lease, LeaseError, ModuleError, Priority, Request, ReserveError, Scheduler,
    Share, Stats, TryReserveError,
};
use common::*;
use tokio_test::task;

const COMPUTE: BudgetId = BudgetId::COMPUTE;
const MEMORY: BudgetId = BudgetId::HOST;

/// The five kinds of RROS with these capacities of two of them.
fn rros(computational: u64, memory: u64) -> Rig {
    let mut config = Config::rros();
    for budget in &mut config.budgets {
        match budget.id {
            COMPUTE => *budget = Budget::loan(COMPUTE, computational).named("computational"),
            MEMORY => *budget = Budget::loan(MEMORY, memory).named("memory"),
            _ => {}
        }
    }
    Rig::new(config)
}

fn compute(units: u64) -> Request {
    Request::new().compute(units)
}

#[test]
fn the_five_kinds_have_the_default_capacities_of_rros() {
    let rig = Rig::new(Config::rros());
    let kinds: Vec<_> =
        rig.scheduler.stats().budgets.iter().map(|b| (b.name.to_string(), b.capacity, b.rate)).collect();
    let expected =
        [("memory", 1_048_576), ("computational", 100), ("attention", 1_000_000), ("io", 100), ("network", 100)];
    assert_eq!(kinds, expected.map(|(name, capacity)| (name.to_owned(), capacity, false)));
}

#[test]
fn test_1_two_modules_get_exactly_what_they_ask_for() {
    let rig = rros(100, 1_000);
    let one = take(&rig.scheduler, compute(25).module("module1"));
    let two = take(&rig.scheduler, host(300).module("module2").priority(Priority::High));
    assert_eq!((one.get(COMPUTE), two.get(MEMORY)), (25, 300));
    assert_eq!((free(&rig.scheduler, COMPUTE), free(&rig.scheduler, MEMORY)), (75, 700));
    drop((one, two));
    assert_untouched(&rig.scheduler);
}

#[test]
fn test_2_a_release_returns_exactly_what_was_granted_once() {
    let rig = rros(100, 1_000);
    let lease = take(&rig.scheduler, compute(50));
    assert_eq!(free(&rig.scheduler, COMPUTE), 50);
    drop(lease);
    assert_eq!(free(&rig.scheduler, COMPUTE), 100);
    // Their ledger releases what somebody else holds if the name fits, and more than was granted without a word.
    let (mut mine, theirs) = (take(&rig.scheduler, compute(50)), take(&rig.scheduler, compute(30)));
    assert!(mine.shrink(&bundle(&[(COMPUTE, 51)])).is_err());
    assert_eq!((mine.get(COMPUTE), theirs.get(COMPUTE), free(&rig.scheduler, COMPUTE)), (50, 30, 20));
}

/// Whether a lease was asked to end, as its owner would find out.
fn is_asked(lease: &Lease) -> bool {
    task::spawn(lease.revoked()).poll().is_ready()
}

/// Test 3, strictly: theirs gives the critical one the five units that are left, and can preempt nobody. Here it gets
/// all ten: of those that said they can end early the youngest of the lowest level is asked, and nobody else.
#[test]
fn test_3_a_critical_request_gets_all_of_what_it_asks_for_from_those_that_can_end_early() {
    let rig = rros(100, 1_000);
    let low = || compute(5).priority(Priority::Low).preemptible();
    let mut held: Vec<Lease> = (0..19).map(|_| take(&rig.scheduler, low())).collect();
    assert_eq!(free(&rig.scheduler, COMPUTE), 5);
    let mut critical = queued(&rig.scheduler, compute(10).priority(Priority::Critical));
    let asked: Vec<usize> = (0..19).filter(|&at| is_asked(&held[at])).collect();
    assert_eq!(asked, [18], "five of the ten are free");
    assert!(rig.scheduler.try_reserve(compute(5).priority(Priority::Low)).is_err(), "what is free is kept for it");
    drop(held.pop());
    let critical = granted(&mut critical);
    assert_eq!((critical.get(COMPUTE), free(&rig.scheduler, COMPUTE)), (10, 0));
    drop((critical, held));
    assert_untouched(&rig.scheduler);
}

/// Test 14: utilisation as exact integers, a quotient only for people.
#[test]
fn test_14_utilisation_is_exact() {
    let rig = rros(100, 1_000);
    let _held = (take(&rig.scheduler, compute(50)), take(&rig.scheduler, host(300)));
    let stats = rig.scheduler.stats();
    let used = |id| stats.budget(id).map(|budget| (budget.granted, budget.capacity)).unwrap();
    assert_eq!((used(COMPUTE), used(MEMORY)), ((50, 100), (300, 1_000)));
    let share = |(granted, capacity): (u64, u64)| granted as f64 / capacity as f64;
    assert_eq!((share(used(COMPUTE)), share(used(MEMORY))), (0.5, 0.3));
}

/// Test 15, strictly: also a shrink below what is lent, which leaves theirs at -30 available and 1.6 utilisation.
#[test]
fn test_15_a_change_of_capacity_is_exact_and_never_leaves_less_than_nothing() {
    let rig = rros(100, 1_000);
    let lease = take(&rig.scheduler, compute(80));
    rig.scheduler.set_capacity(COMPUTE, 200).unwrap();
    assert_eq!(free(&rig.scheduler, COMPUTE), 120);
    rig.scheduler.set_capacity(COMPUTE, 50).unwrap();
    let mut next = queued(&rig.scheduler, compute(40));
    let figures = |stats: &Stats| stats.budget(COMPUTE).map(|b| (b.free, b.granted, b.deficit)).unwrap();
    assert_eq!(figures(&rig.scheduler.stats()), (0, 80, 30));
    assert_waits(&mut next);
    drop(lease);
    let next = granted(&mut next);
    assert_eq!(figures(&rig.scheduler.stats()), (10, 40, 0));
    drop(next);
    assert_untouched(&rig.scheduler);
}

/// Test 16: theirs resets the books under the holders. Here what is held stays held, and all of it comes back.
#[test]
fn test_16_nothing_but_the_end_of_its_leases_empties_a_scheduler() {
    let rig = rros(100, 1_000);
    let lease = take(&rig.scheduler, compute(50));
    rig.scheduler.close();
    assert_eq!(free(&rig.scheduler, COMPUTE), 50);
    drop(lease);
    assert_eq!(free(&rig.scheduler, COMPUTE), 100);
    assert_untouched(&rig.scheduler);
    let fresh = rros(100, 1_000);
    assert_untouched(&fresh.scheduler);
    assert_eq!(fresh.scheduler.stats().grants(), 0);
}

/// Test 17: time is for benchmarks; what can be asserted is that none of them waits, with no owners and with 10,000.
#[test]
fn test_17_a_hundred_modules_are_granted_without_a_wait_whoever_else_holds_something() {
    for owners in [0, 10_000] {
        let rig = rros(500 + owners, 1_000);
        let _owners: Vec<_> = (0..owners).map(|_| take(&rig.scheduler, compute(1))).collect();
        let modules: Vec<Lease> =
            (0..100).map(|at| take(&rig.scheduler, compute(5).module(format!("module{at}")))).collect();
        assert_eq!(free(&rig.scheduler, COMPUTE), 0);
        let stats = rig.scheduler.stats();
        assert_eq!(stats.level(Priority::Normal).immediate, owners + 100);
        assert!(stats.levels.iter().all(|level| level.waited == 0));
        drop(modules);
        assert_eq!(free(&rig.scheduler, COMPUTE), 500);
    }
}

/// Test 18, strictly: the demand is fifty times the capacity, where theirs asks for half of it.
#[test]
fn test_18_ten_threads_that_ask_for_far_more_than_there_is_never_hold_more_than_there_is() {
    let rig = rros(100, 1_000);
    let (holding, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Barrier::new(10);
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                start.wait();
                let mut leases = Vec::new();
                for _ in 0..100 {
                    leases.push(block_on(rig.scheduler.reserve(compute(5))).unwrap());
                    most.fetch_max(holding.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Two at a time and thread, so that all of them together can fill the capacity without a deadlock.
                    if leases.len() == 2 {
                        holding.fetch_sub(2, Ordering::SeqCst);
                        leases.clear();
                    }
                }
            });
        }
    });
    assert!(most.into_inner() <= 20);
    assert_eq!(rig.scheduler.stats().grants(), 1_000);
    assert_eq!(free(&rig.scheduler, COMPUTE), 100);
    assert_untouched(&rig.scheduler);
}

#[test]
fn test_20_the_metrics_have_the_exact_figures() {
    let rig = rros(100, 1_000);
    let _held = (take(&rig.scheduler, compute(30)), take(&rig.scheduler, host(200)));
    let mut waiting = queued(&rig.scheduler, compute(80));
    let stats = rig.scheduler.stats();
    let figures = |id| stats.budget(id).map(|b| (b.capacity, b.free, b.granted, b.peak, b.waiting)).unwrap();
    assert_eq!(figures(COMPUTE), (100, 70, 30, 30, 1));
    assert_eq!(figures(MEMORY), (1_000, 800, 200, 200, 0));
    assert_eq!((stats.leases, stats.waiting, stats.grants()), (2, 1, 2));
    assert_waits(&mut waiting);
}

/// P1: exact integers, any interleaving, after every operation: 100,000 of them on eight threads.
#[test]
fn p1_available_and_granted_are_the_capacity_after_every_operation() {
    let rig = rros(100, 1_000);
    let start = Arc::new(Barrier::new(8));
    thread::scope(|scope| {
        for seed in 0..8 {
            let (scheduler, start) = (rig.scheduler.clone(), Arc::clone(&start));
            scope.spawn(move || {
                start.wait();
                let mut dice = Dice(seed);
                let mut leases: Vec<Lease> = Vec::new();
                for _ in 0..12_500 {
                    match dice.below(3) {
                        0 => {
                            leases.extend(scheduler.try_reserve(compute(1 + dice.below(30)).host(1 + dice.below(300))))
                        }
                        1 => drop(leases.pop()),
                        _ => leases.iter_mut().take(1).for_each(|lease| {
                            // Refused when it holds less.
                            let _ = lease.shrink(&bundle(&[(COMPUTE, 1 + dice.below(5))]));
                        }),
                    }
                    scheduler.verify().unwrap();
                }
            });
        }
    });
    assert_untouched(&rig.scheduler);
}

/// P2: never more than the capacity; when that shrinks, the excess is a visible drain and nothing is added to it.
#[test]
fn p2_grants_never_exceed_the_capacity_also_while_it_changes() {
    let rig = rros(100, 1_000);
    let mut dice = Dice(2);
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..5_000 {
        let before = rig.scheduler.stats().budget(COMPUTE).unwrap().granted;
        match dice.below(4) {
            0 | 1 => match rig.scheduler.try_reserve(compute(1 + dice.below(40))) {
                Ok(lease) => {
                    let now = rig.scheduler.stats().budget(COMPUTE).unwrap().clone();
                    assert!(now.granted <= now.capacity, "granted {} of {}", now.granted, now.capacity);
                    assert_eq!(now.granted, before + lease.get(COMPUTE));
                    leases.push(lease);
                }
                Err(TryReserveError::NotNow(_) | TryReserveError::NeverFits(_)) => {}
                Err(error) => panic!("{error}"),
            },
            2 if !leases.is_empty() => drop(leases.swap_remove(dice.below(leases.len() as u64) as usize)),
            _ => {
                rig.scheduler.set_capacity(COMPUTE, 20 + dice.below(100)).unwrap();
                let now = rig.scheduler.stats().budget(COMPUTE).unwrap().clone();
                assert_eq!((now.granted, now.deficit), (before, before.saturating_sub(now.capacity)));
            }
        }
    }
    drop(leases);
    assert_untouched(&rig.scheduler);
}

/// P11: theirs hands five equal tasks out as 0, 2, 4, 1, 3.
#[test]
fn p11_equals_leave_in_the_order_they_came() {
    for deadline in [None, Some(1_000 * MS)] {
        let rig = rros(1, 1_000);
        let mut held = take(&rig.scheduler, compute(1));
        let request = deadline.map_or(compute(1), |deadline| compute(1).deadline(deadline));
        let mut waiting: Vec<_> = (0..100).map(|_| queued(&rig.scheduler, request.clone())).collect();
        for next in 0..100 {
            drop(held);
            held = granted(&mut waiting[next]);
            assert!(waiting.iter().all(|waiting| !waiting.is_woken()), "number {next} was not alone");
        }
    }
}

/// S1. Theirs: LOW 10 with 5 left is rejected, CRITICAL 10 gets 5 and a flag, a release of 200 by who has 95 is clamped
/// without a word, one by who has nothing is ignored. Here LOW is told what is free, CRITICAL gets ten or nothing and
/// waits for them, a release of more than is held is an error that changes nothing, and who holds nothing has no lease
/// to release.
#[test]
fn rros_s1_a_grant_is_whole_and_a_release_is_of_what_is_held() {
    let rig = rros(100, 1_000);
    let mut n1 = take(&rig.scheduler, compute(95));
    assert_eq!((n1.get(COMPUTE), free(&rig.scheduler, COMPUTE)), (95, 5));
    let low = rig.scheduler.try_reserve(compute(10).priority(Priority::Low));
    assert!(matches!(low, Err(TryReserveError::NotNow(_))), "{low:?}");
    assert_eq!(rig.scheduler.stats().level(Priority::Low).not_now, 1);
    let mut critical = queued(&rig.scheduler, compute(10).priority(Priority::Critical));
    assert_eq!(free(&rig.scheduler, COMPUTE), 5, "what waits holds nothing");
    let too_much = n1.shrink(&bundle(&[(COMPUTE, 200)]));
    assert_eq!(too_much, Err(LeaseError::HoldsLess { budget: COMPUTE, held: 95, asked: 200 }));
    assert_eq!((n1.get(COMPUTE), free(&rig.scheduler, COMPUTE)), (95, 5));
    drop(n1);
    let critical = granted(&mut critical);
    assert_eq!((critical.get(COMPUTE), free(&rig.scheduler, COMPUTE)), (10, 90));
    drop(critical);
    assert_untouched(&rig.scheduler);
}

/// S1. Theirs: CRITICAL 10 with 5 left gets 5 whether it can work with that or not. Here it is the same for one that
/// says that one unit would do, at once or after its patience, and for nobody else.
#[test]
fn rros_s1_critical_gets_a_part_only_if_it_says_that_one_unit_would_do() {
    let mut rig = rros(100, 1_000);
    let critical = || compute(10).priority(Priority::Critical);
    let elastic = |patience| critical().down_to(COMPUTE, 1).patience(patience);
    let n1 = take(&rig.scheduler, compute(95));
    let mut whole = queued(&rig.scheduler, critical());
    let at_once = take(&rig.scheduler, elastic(Duration::ZERO));
    assert_eq!((at_once.get(COMPUTE), free(&rig.scheduler, COMPUTE)), (5, 0), "all of the rest, as theirs");
    drop(at_once);
    let mut patient = queued(&rig.scheduler, elastic(20 * MS));
    rig.pass(19 * MS);
    assert_waits(&mut patient);
    rig.pass(MS);
    assert_eq!(granted(&mut patient).get(COMPUTE), 5);
    assert_waits(&mut whole);
    drop(n1);
    assert_eq!(granted(&mut whole).get(COMPUTE), 10);
    assert_untouched(&rig.scheduler);
}

/// S2: the same figures, 50, 30 and nothing. Theirs keeps one entry for each name, so that whoever says "a" releases
/// what a holds; here what is granted twice is two leases until their owner merges them.
#[test]
fn rros_s2_what_one_owner_gets_twice_is_one_entry_when_it_says_so() {
    let rig = rros(100, 1_000);
    let entries = || {
        let holders = rig.scheduler.holders(COMPUTE);
        holders.iter().map(|holder| (holder.label.to_string(), holder.amounts.get(COMPUTE))).collect::<Vec<_>>()
    };
    let mut a = take(&rig.scheduler, compute(30).label("a"));
    let second = take(&rig.scheduler, compute(20).label("a"));
    assert_eq!(entries(), [("a".to_owned(), 30), ("a".to_owned(), 20)]);
    a.merge(second).unwrap();
    assert_eq!(entries(), [("a".to_owned(), 50)]);
    a.shrink(&bundle(&[(COMPUTE, 20)])).unwrap();
    assert_eq!((entries(), free(&rig.scheduler, COMPUTE)), (vec![("a".to_owned(), 30)], 70));
    a.shrink(&bundle(&[(COMPUTE, 30)])).unwrap();
    drop(a);
    assert_eq!((entries(), free(&rig.scheduler, COMPUTE)), (vec![], 100));
    assert_untouched(&rig.scheduler);
}

/// S7: theirs averages over grants, 33.33 for 10, 30 and 60 in use, and goes on saying so when nothing is. Here the
/// mean is over time, in whole units: 33 after a second of each, 25 after a second of nothing. The peak is the same 60.
#[test]
fn rros_s7_the_mean_is_over_time_and_the_peak_stays() {
    let rig = rros(100, 1_000);
    let figures = || rig.scheduler.stats().budget(COMPUTE).map(|b| (b.granted, b.usage.mean, b.peak)).unwrap();
    assert_eq!(figures(), (0, 0, 0));
    let mut held = Vec::new();
    for units in [10, 20, 30] {
        held.push(take(&rig.scheduler, compute(units)));
        // A sample as the second begins and one as it ends, so that the line between them is level.
        figures();
        rig.jump(Duration::from_secs(1));
        figures();
    }
    assert_eq!(figures(), (60, 33, 60));
    held.clear();
    assert_eq!(figures(), (0, 33, 60));
    rig.jump(Duration::from_secs(1));
    assert_eq!(figures(), (0, 25, 60));
}

/// S17: theirs replaces the whole configuration by the one key that is named, after which the age of its garbage
/// collection is zero. Here a change names one figure, and every other stays what it was.
#[test]
fn rros_s17_a_change_of_one_figure_leaves_the_others_as_they_were() {
    let rig = Rig::new(Config::rros().with_max_waiters(1));
    let capacities = || rig.scheduler.stats().budgets.iter().map(|b| (b.id, b.capacity, b.free)).collect::<Vec<_>>();
    let mut expected = capacities();
    assert_eq!(expected.len(), 5);
    rig.scheduler.set_capacity(COMPUTE, 200).unwrap();
    let compute_at = expected.iter().position(|(id, ..)| *id == COMPUTE).unwrap();
    expected[compute_at] = (COMPUTE, 200, 200);
    assert_eq!(capacities(), expected);
    // A setting that is no capacity: the queue is as short as before.
    let held = take(&rig.scheduler, compute(200));
    let waiting = queued(&rig.scheduler, compute(1));
    assert!(matches!(block_on(rig.scheduler.reserve(compute(1))), Err(ReserveError::Shed { .. })));
    drop((waiting, held));
    assert_untouched(&rig.scheduler);
}

/// S18: 80 in use of 100, then a capacity of 50. Theirs says -30 available and 1.6 utilisation, and rejects everybody.
/// Here nothing is free, 30 are owed, the use is the whole, and who waits is granted with the unit that makes room.
#[test]
fn rros_s18_a_shrink_below_what_is_in_use_drains_and_grants_again_at_the_unit() {
    let rig = rros(100, 1_000);
    let mut held = take(&rig.scheduler, compute(80));
    rig.scheduler.set_capacity(COMPUTE, 50).unwrap();
    let figures = || {
        let stats = rig.scheduler.stats();
        stats.budget(COMPUTE).map(|b| (b.free, b.granted, b.deficit, b.utilisation())).unwrap()
    };
    assert_eq!(figures(), (0, 80, 30, Share::WHOLE));
    let critical = compute(1).priority(Priority::Critical);
    assert!(matches!(rig.scheduler.try_reserve(critical.clone()), Err(TryReserveError::NotNow(_))));
    let never = rig.scheduler.try_reserve(compute(51));
    assert!(matches!(never, Err(TryReserveError::NeverFits(_))), "{never:?}");
    let mut waiting = queued(&rig.scheduler, critical);
    held.shrink(&bundle(&[(COMPUTE, 30)])).unwrap();
    assert_eq!(figures(), (0, 50, 0, Share::WHOLE));
    assert_waits(&mut waiting);
    held.shrink(&bundle(&[(COMPUTE, 1)])).unwrap();
    drop(granted(&mut waiting));
    assert_eq!((figures().0, figures().1), (1, 49));
    drop(held);
    assert_untouched(&rig.scheduler);
}

/// P4: theirs refuses a critical request whoever holds the units. Here it waits beyond the grace of those that were
/// asked only for units of holders that cannot end early, or are critical themselves.
#[test]
fn p4_a_critical_request_waits_only_for_those_that_cannot_end_early() {
    let (mut served, mut blocked) = (0, 0);
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let rig = rros(100, 1_000);
        let (mut firm, mut soft) = (Vec::new(), Vec::new());
        while free(&rig.scheduler, COMPUTE) > 0 {
            let units = 1 + dice.below(free(&rig.scheduler, COMPUTE).min(30));
            let level = Priority::ALL[dice.below(5) as usize];
            let request = compute(units).priority(level);
            match dice.below(3) {
                0 => firm.push(take(&rig.scheduler, request)),
                _ if level == Priority::Critical => firm.push(take(&rig.scheduler, request.preemptible())),
                _ => soft.push(take(&rig.scheduler, request.preemptible())),
            }
        }
        let asked = 1 + dice.below(100);
        let reclaimable: u64 = soft.iter().map(|lease| lease.get(COMPUTE)).sum();
        let mut critical = queued(&rig.scheduler, compute(asked).priority(Priority::Critical));
        assert!(firm.iter().all(|lease| !is_asked(lease)), "seed {seed}");
        // Whoever is asked ends.
        soft.retain(|lease| !is_asked(lease));
        match critical.poll() {
            Poll::Ready(lease) => {
                assert!(asked <= reclaimable, "seed {seed}");
                assert_eq!(lease.unwrap().get(COMPUTE), asked);
                served += 1;
            }
            Poll::Pending => {
                assert!(asked > reclaimable, "seed {seed}: {asked} of {reclaimable}");
                let kept: u64 = soft.iter().map(|lease| lease.get(COMPUTE)).sum();
                assert_eq!(kept, reclaimable, "seed {seed}: somebody ended in vain");
                blocked += 1;
            }
        }
        drop((critical, firm, soft));
        assert_untouched(&rig.scheduler);
    }
    assert!(served > 100 && blocked > 100, "{served} {blocked}");
}

/// What is done to a scheduler that others use at the same time.
type Call = (&'static str, fn(&Scheduler));

/// A call of every kind that takes `&self`, each of which leaves nothing behind.
const CALLS: [Call; 14] = [
    ("try_reserve", |scheduler| drop(scheduler.try_reserve(compute(3).host(30)))),
    ("reserve", |scheduler| drop(block_on(scheduler.reserve(compute(40).priority(Priority::High))))),
    ("reserve, given up", |scheduler| drop(task::spawn(scheduler.reserve(compute(90))).poll())),
    ("preemptible", |scheduler| drop(scheduler.try_reserve(compute(60).priority(Priority::Idle).preemptible()))),
    ("split and merge", |scheduler| {
        let Ok(mut lease) = scheduler.try_reserve(compute(4).label("split")) else { return };
        let part = lease.split(&bundle(&[(COMPUTE, 1)])).unwrap();
        lease.merge(part).unwrap();
    }),
    ("grow and shrink", |scheduler| {
        let Ok(mut lease) = scheduler.try_reserve(host(5)) else { return };
        let _ = lease.try_grow(&bundle(&[(MEMORY, 5)]));
        lease.shrink(&bundle(&[(MEMORY, 5)])).unwrap();
    }),
    ("set_capacity", |scheduler| {
        for units in [90, 100] {
            scheduler.set_capacity(COMPUTE, units).unwrap();
        }
    }),
    ("module", |scheduler| {
        // A name is one module's at a time: of two who want it at once, one is told so.
        match scheduler.module("vision").cap(COMPUTE, 50).register() {
            Ok(module) => drop(scheduler.try_reserve(compute(5).of(&module))),
            Err(refused) => assert_eq!(refused, ModuleError::DuplicateName { name: "vision".into() }),
        }
    }),
    ("activity", |scheduler| drop(scheduler.try_reserve(compute(5).activity(&Activity::new("step"))))),
    ("stats", |scheduler| assert_eq!(scheduler.stats().budgets.len(), 5)),
    ("holders", |scheduler| drop(scheduler.holders(COMPUTE))),
    ("explain_all", |scheduler| drop(scheduler.explain_all(10))),
    ("snapshot", |scheduler| drop(scheduler.snapshot(10))),
    ("verify", |scheduler| scheduler.verify().unwrap()),
];

/// P12: a sanitiser finds 11 races in theirs. Here every pair of calls runs at once, and afterwards the books balance
/// and nothing is held. That there is no race of memory is the compiler's to say, as nothing outside `memory` is
/// `unsafe` (`tests/layers.rs`); that no order of steps is wrong is shown for the narrow places by loom (`tests/loom`).
#[test]
fn p12_every_pair_of_calls_can_be_made_at_once() {
    for (at, first) in CALLS.iter().enumerate() {
        for second in &CALLS[at..] {
            let rig = rros(100, 1_000);
            let start = Barrier::new(2);
            thread::scope(|scope| {
                for (_, call) in [first, second] {
                    scope.spawn(|| {
                        start.wait();
                        (0..20).for_each(|_| call(&rig.scheduler));
                    });
                }
            });
            let pair = (first.0, second.0);
            assert!(rig.scheduler.verify().is_ok(), "{pair:?}");
            let stats = rig.scheduler.stats();
            assert_eq!((stats.waiting, stats.offered, stats.leases), (0, 0, 0), "{pair:?}");
            assert_eq!(free(&rig.scheduler, COMPUTE), 100, "{pair:?}");
        }
    }
}

/// Every public call of its manager and of its kernel has its line on the page for those who come from there.
#[test]
fn every_call_of_rros_is_on_the_page_that_maps_them() {
    const PAGE: &str = include_str!("../src/coming_from_rros.md");
    let allocation = "allocate_resource release_resource get_available_resources";
    let tasks = "schedule_task execute_next_task get_pending_task_counts";
    let memory = "allocate_memory free_memory run_garbage_collection get_memory_fragmentation";
    let balancing = "set_load_balancing_strategy balance_load adapt_to_load";
    let monitoring = "get_resource_stats get_active_alerts set_alert_threshold get_utilization get_metrics";
    let prediction = "predict_usage update_prediction_model preallocate_predicted";
    let degradation = "enter_degraded_mode exit_degraded_mode is_degraded update_config reset";
    let kernel = "get_resource_manager get_resource_metrics allocate_cognitive_resources release_cognitive_resources";
    let parts = [allocation, tasks, memory, balancing, monitoring, prediction, degradation, kernel];
    let calls: Vec<&str> = parts.into_iter().flat_map(str::split_whitespace).collect();
    assert_eq!(calls.len(), 30);
    for call in calls {
        let rows = PAGE.lines().filter(|line| line.starts_with('|') && line.contains(&format!("`{call}`"))).count();
        assert_eq!(rows, 1, "{call}");
    }
}
