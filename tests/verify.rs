//! The books balance, at every step and to the unit (C1, R6, P57).

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use bursar::{Budget, Config, Lease, LevelStats, Priority, Scheduler};
use common::*;
use tokio_test::task;

/// R6 for loans, as anybody can check it from outside.
#[track_caller]
fn assert_identity(scheduler: &Scheduler, leases: &[Lease]) {
    scheduler.verify().unwrap();
    let stats = scheduler.stats();
    for budget in stats.budgets.iter().filter(|budget| !budget.rate) {
        assert_eq!(budget.free + budget.granted, budget.capacity + budget.deficit, "{stats}");
        assert!(budget.deficit == 0 || budget.free == 0, "{stats}");
        let leased: u64 = leases.iter().map(|lease| lease.get(budget.id)).sum();
        assert_eq!(budget.granted, leased + budget.offered, "{stats}");
        assert!(budget.peak >= budget.granted, "{stats}");
    }
    assert_eq!(stats.leases, leases.len() as u64);
}

#[test]
fn c1_r6_p57_the_books_balance_after_every_step_of_any_sequence() {
    let mut covered = [0; 3];
    for seed in 0..12 {
        let budgets = [Budget::loan(GPU, 50), Budget::loan(HOST, 50), Budget::rate(IO, 100).burst(50)];
        let mut rig = Rig::new(Config::new().with_budgets(budgets));
        let mut dice = Dice(seed);
        let (mut waiting, mut leases) = (Vec::<Waiting>::new(), Vec::<Lease>::new());
        for _ in 0..300 {
            random_step(&mut rig, &mut dice, &mut waiting, &mut leases);
            assert_identity(&rig.scheduler, &leases);
        }
        let stats = rig.scheduler.stats();
        let sum = |count: fn(&LevelStats) -> u64| stats.levels.iter().map(count).sum::<u64>();
        covered[0] += sum(|level| level.waited);
        covered[1] += sum(|level| level.cancelled);
        covered[2] += stats.expired_offers;
        drop((waiting, leases));
        assert_untouched(&rig.scheduler);
    }
    let [waited, cancelled, expired] = covered;
    assert!(waited > 200 && cancelled > 100 && expired > 30, "waited, cancelled, expired: {covered:?}");
}

fn random_step(rig: &mut Rig, dice: &mut Dice, waiting: &mut Vec<Waiting>, leases: &mut Vec<Lease>) {
    let some = |dice: &mut Dice| 1 + dice.below(30);
    let pick = |dice: &mut Dice, len: usize| dice.below(len.max(1) as u64) as usize;
    match dice.below(10) {
        0..3 if waiting.len() < 8 => {
            let request = gpu(some(dice)).host(some(dice)).priority(Priority::ALL[dice.below(5) as usize]);
            let request = if dice.below(3) == 0 { request.io(some(dice)) } else { request };
            waiting.push(task::spawn(rig.scheduler.reserve(request)));
        }
        3 | 4 if !leases.is_empty() => drop(leases.swap_remove(pick(dice, leases.len()))),
        5 if !waiting.is_empty() => drop(waiting.swap_remove(pick(dice, waiting.len()))),
        6 if !leases.is_empty() => {
            let at = pick(dice, leases.len());
            let part = leases[at].split(&bundle(&[(GPU, 3), (HOST, 1)]));
            leases.extend(part);
        }
        7 => rig.scheduler.set_capacity(GPU, 30 + dice.below(40)).unwrap(),
        8 => rig.pass(dice.below(400) as u32 * MS),
        _ => {}
    }
    // Some are polled, some are left to expire.
    waiting.retain_mut(|reservation| {
        if dice.below(3) > 0 {
            return true;
        }
        match reservation.poll() {
            Poll::Pending => true,
            Poll::Ready(result) => {
                leases.extend(result.ok());
                false
            }
        }
    });
}

/// P57, RROS P1: also a snapshot taken while others change everything is consistent.
#[test]
fn p57_every_snapshot_balances_while_threads_reserve_and_release() {
    let rig = Rig::loans(20, 20);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3 {
            let (scheduler, done) = (&rig.scheduler, &done);
            scope.spawn(move || {
                let mut dice = Dice(seed);
                while !done.load(Ordering::Relaxed) {
                    drop(block_on(scheduler.reserve(gpu(1 + dice.below(12)).host(1 + dice.below(12)))).unwrap());
                }
            });
        }
        // Not before the threads have begun.
        while rig.scheduler.stats().grants() == 0 {
            thread::yield_now();
        }
        let snapshots: Vec<_> = (0..500).map(|_| (rig.scheduler.stats(), rig.scheduler.verify())).collect();
        done.store(true, Ordering::Relaxed);
        for (stats, verified) in snapshots {
            verified.unwrap();
            assert!(stats.budgets.iter().all(|budget| budget.free + budget.granted == budget.capacity), "{stats}");
        }
    });
    assert!(rig.scheduler.stats().grants() > 0);
    assert_untouched(&rig.scheduler);
}

#[test]
fn the_counters_of_a_level_tell_what_became_of_every_request() {
    let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with_max_waiters(2));
    let at = |units: u64| gpu(units).priority(Priority::High);
    let held = take(&rig.scheduler, at(10));
    let mut waited = queued(&rig.scheduler, at(1));
    let mut late = queued(&rig.scheduler, at(1).deadline(MS));
    assert!(block_on(rig.scheduler.reserve(at(1))).is_err());
    rig.pass(MS);
    assert!(outcome(&mut late).is_err());
    drop(queued(&rig.scheduler, at(1)));
    assert!(rig.scheduler.try_reserve(at(1)).is_err());
    assert!(block_on(rig.scheduler.reserve(at(11))).is_err());
    drop(held);
    drop(granted(&mut waited));
    let stats = rig.scheduler.stats();
    let level = *stats.level(Priority::High);
    assert_eq!((level.immediate, level.waited, level.late, level.cancelled), (1, 1, 1, 1));
    assert_eq!((level.never_fits, level.shed, level.not_now), (1, 1, 1));
    assert_eq!(stats.grants(), 2);
    let idle = stats.level(Priority::Idle);
    assert_eq!(*idle, LevelStats::default());
}

#[test]
fn the_peak_is_the_most_that_was_ever_granted_at_once() {
    let rig = Rig::loans(10, 10);
    drop((take(&rig.scheduler, gpu(5)), take(&rig.scheduler, gpu(3))));
    let _small = take(&rig.scheduler, gpu(2).host(1u64));
    let stats = rig.scheduler.stats();
    assert_eq!([GPU, HOST].map(|id| stats.budget(id).unwrap().peak), [8, 1]);
}

#[test]
fn the_waits_are_counted_at_the_budget_that_was_short() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, host(10));
    let mut waiting = queued(&rig.scheduler, gpu(1).host(1u64).priority(Priority::Low));
    rig.jump(20 * MS);
    drop(held);
    drop(granted(&mut waiting));
    rig.run();
    let stats = rig.scheduler.stats();
    let waits = |id| stats.budget(id).unwrap().waits[Priority::Low.index()];
    assert_eq!((waits(GPU).count, waits(HOST).count), (0, 1));
    // Quantiles are exact within 1 %.
    for nanos in [waits(HOST).p50, waits(HOST).p99, waits(HOST).p999, waits(HOST).max] {
        assert!((19_800_000..=20_200_000).contains(&nanos), "{nanos}");
    }
}

#[test]
fn the_scheduler_task_wakes_for_a_check_of_the_books_exactly_as_often_as_configured() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with_verify_every(50 * MS);
    let mut rig = Rig::new(config);
    for _ in 0..20 {
        rig.jump(49 * MS);
        assert_eq!(rig.run(), 0);
        rig.jump(MS);
        assert_eq!(rig.run(), 1);
    }
}

/// What `verify` is worth: a flag that nobody set is found.
#[cfg(feature = "test-util")]
#[test]
fn r1_a_flag_without_a_waiter_is_a_defect_that_verify_names() {
    use bursar::internals::{Books, Engine};
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    let (engine, mut books) = (Engine::new(&config), Books::new());
    books.open(&config.budgets, 0);
    engine.verify(books.shut()).unwrap();
    books.set_shut(1 << HOST.index(), true);
    let (budget, found) = engine.verify(books.shut()).unwrap_err();
    assert_eq!(budget, HOST);
    assert!(found.contains("0 waiters counted"), "{found}");
}

/// Every grant is counted, also that of a waiter who is polled after its offer expired.
#[test]
fn grants_are_the_leases_that_were_taken_up_and_the_offers_that_expired() {
    let mut rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let (mut slow, mut rival) = (queued(&rig.scheduler, gpu(10)), queued(&rig.scheduler, gpu(10)));
    drop(held);
    rig.pass(100 * MS);
    drop(granted(&mut rival));
    assert!(matches!(slow.poll(), Poll::Ready(Ok(_))));
    let (stats, taken_up) = (rig.scheduler.stats(), 3);
    assert_eq!(stats.expired_offers, 1);
    assert_eq!(stats.grants(), taken_up + stats.expired_offers, "{stats}");
}

/// A lease that ends on another thread puts its units back before its turn at the desk. Whoever has a turn in between
/// finds units that nobody has been told of yet, and nothing wrong with that.
#[cfg(feature = "test-util")]
#[test]
fn r1_a_release_that_is_on_its_way_to_the_engine_is_no_defect() {
    use bursar::internals::{Asked, Board, Books, Engine, Settled, Submitted, Turn};
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10));
    let (mut engine, mut books, board) = (Engine::new(&config), Books::new(), Board::default());
    books.open(&config.budgets, 0);
    let (all, other) = (gpu(10), host(1));
    let mut step = |books: &mut Books, event: &dyn Fn(&mut Engine, &mut Turn<'_>)| {
        let mut turn = Turn { books, board: &board, now: 0 };
        event(&mut engine, &mut turn);
        assert_eq!(engine.settle(&mut turn), Settled::Done);
    };
    let held = books.take(all.amounts(), Priority::Normal);
    step(&mut books, &|engine, turn| {
        assert!(matches!(engine.submit(turn, Asked::of(&all)), Submitted::Waiting(0)));
    });
    let flagged = books.give(held).expect("somebody waits");
    step(&mut books, &|engine, turn| {
        assert!(matches!(engine.submit(turn, Asked::of(&other)), Submitted::Granted(_)));
    });
    step(&mut books, &|engine, turn| engine.released(turn, flagged));
    assert_eq!(books.free(GPU), 0, "it was granted");
}
