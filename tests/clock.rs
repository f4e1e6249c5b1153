//! One clock, fixed when the scheduler is made, whatever thread or task brings an event (R14).

mod common;

use std::task::Poll;
use std::thread;
use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Lease, Priority, Request, Scheduler};
use common::*;
use tokio_test::task;

const HOUR: Duration = Duration::from_secs(3_600);

/// Under paused time no nanosecond passes, while on the clock of the machine many do: whoever reads that one by mistake
/// finds a deadline of one nanosecond long past.
fn release_in_paused_time(release: impl FnOnce(Lease)) {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(10).deadline(Duration::from_nanos(1)));
    release(held);
    drop(granted(&mut waiting));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r14_a_drop_on_a_foreign_thread_uses_the_clock_of_the_scheduler() {
    release_in_paused_time(|held| thread::spawn(move || drop(held)).join().unwrap());
}

#[test]
fn r14_a_drop_inside_the_block_on_of_another_runtime_uses_the_clock_of_the_scheduler() {
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    release_in_paused_time(|held| other.block_on(async { drop(held) }));
}

#[test]
fn r14_time_that_only_the_runtime_saw_counts_on_a_foreign_thread_too() {
    let rig = Rig::loans(10, 10);
    let held = take(&rig.scheduler, gpu(10));
    let mut waiting = queued(&rig.scheduler, gpu(10).priority(Priority::High));
    rig.jump(HOUR);
    thread::spawn(move || drop(held)).join().unwrap();
    drop(granted(&mut waiting));
    let waits = rig.scheduler.stats().budget(GPU).unwrap().waits[Priority::High.index()];
    let hour = u64::try_from(HOUR.as_nanos()).unwrap();
    assert_eq!(waits.count, 1);
    assert!(waits.max >= hour - hour / 100 && waits.max <= hour + hour / 100, "{waits:?}");
}

/// R14: loan-only fast paths read no clock, so they work where no clock can be read.
#[test]
fn r14_a_scheduler_made_without_a_runtime_lends_and_waits_on_bare_threads() {
    let (scheduler, driver) = Scheduler::builder().gpu(10u64).build().unwrap();
    let held = take(&scheduler, gpu(10));
    let waiter = thread::spawn({
        let scheduler = scheduler.clone();
        move || block_on(scheduler.reserve(gpu(10))).map(|lease| lease.get(GPU))
    });
    drop(held);
    assert_eq!(waiter.join().unwrap().unwrap(), 10);
    assert_untouched(&scheduler);
    drop(driver);
}

/// Nothing is due, so nothing wakes: not for time that passes, not for work that never waits.
#[test]
fn an_idle_scheduler_never_wakes_its_task() {
    let mut rig = Rig::new(Config::new().with(Budget::loan(GPU, 10)).with(Budget::rate(IO, 10)));
    for _ in 0..50 {
        drop(take(&rig.scheduler, gpu(1).io(1u64)));
        rig.jump(HOUR);
        assert_eq!(rig.run(), 0);
    }
}

#[test]
fn a_wait_that_is_over_leaves_at_most_one_stale_alarm() {
    let mut rig = Rig::loans(10, 10);
    for _ in 0..10 {
        let held = take(&rig.scheduler, gpu(10));
        let mut waiting = queued(&rig.scheduler, gpu(10).deadline(HOUR));
        rig.run();
        drop(held);
        drop(granted(&mut waiting));
    }
    let mut alarms = 0;
    for _ in 0..100 {
        rig.jump(HOUR);
        alarms += rig.run();
    }
    assert!(alarms <= 1, "{alarms} alarms after everything is over");
}

/// C14: the same calls at the same times give the same grants, in the same order, every time.
#[test]
fn c14_the_same_events_give_the_same_grants() {
    for seed in 0..5 {
        let (first, second) = (log_of_grants(seed, false), log_of_grants(seed, false));
        assert!(first.len() > 100);
        assert_eq!(first, second, "seed {seed}");
    }
}

/// R14: forcing every request through the engine gives the same grants as letting those that fit pass it by.
#[test]
fn r14_the_way_past_the_engine_grants_what_the_engine_would_grant() {
    for seed in 0..20 {
        assert_eq!(log_of_grants(seed, false), log_of_grants(seed, true), "seed {seed}");
    }
}

/// Random requests, polls, releases, cancels and time; returns who was granted at which step. `watched`: somebody of
/// the lowest rank waits for every budget all the time, which closes the way past the engine for everybody.
fn log_of_grants(seed: u64, watched: bool) -> Vec<(usize, usize)> {
    let budgets = [Budget::loan(GPU, 20), Budget::loan(HOST, 20), Budget::rate(IO, 200).burst(20)];
    let never = Budget::loan(BudgetId::DISK, 2);
    let config = Config::new().with_budgets(budgets.into_iter().chain([never]));
    let mut rig = Rig::new(config);
    let _full = take(&rig.scheduler, Request::new().disk(1u64));
    let watcher = gpu(20).host(20u64).io(20u64).disk(2u64).priority(Priority::Idle);
    let _watcher = watched.then(|| queued(&rig.scheduler, watcher));
    let mut dice = Dice(seed);
    let (mut waiting, mut leases, mut log) = (Vec::<(usize, Waiting)>::new(), Vec::new(), Vec::new());
    for step in 0..600 {
        match dice.below(5) {
            0 | 1 => {
                let part = |dice: &mut Dice| 1 + dice.below(12);
                let level = Priority::ALL[dice.below(4) as usize];
                let request = match dice.below(4) {
                    0 => gpu(part(&mut dice)),
                    1 => host(part(&mut dice)),
                    2 => gpu(part(&mut dice)).host(part(&mut dice)),
                    _ => gpu(part(&mut dice)).io(part(&mut dice)),
                };
                let limit = (dice.below(3) == 0).then(|| (1 + dice.below(200) as u32) * MS);
                let request = limit.map_or(request.clone(), |limit| request.deadline(limit)).priority(level);
                let mut reservation = task::spawn(rig.scheduler.reserve(request));
                match reservation.poll() {
                    Poll::Ready(lease) => {
                        log.push((step, step));
                        leases.extend(lease);
                    }
                    Poll::Pending => waiting.push((step, reservation)),
                }
            }
            2 if !leases.is_empty() => drop(leases.swap_remove(dice.below(leases.len() as u64) as usize)),
            3 if !waiting.is_empty() => drop(waiting.swap_remove(dice.below(waiting.len() as u64) as usize)),
            _ => rig.pass(dice.below(30) as u32 * MS),
        }
        waiting.retain_mut(|(made, reservation)| {
            let ended = reservation.is_woken().then(|| outcome(reservation));
            if let Some(Ok(lease)) = ended {
                log.push((step, *made));
                leases.push(lease);
                return false;
            }
            ended.is_none()
        });
        rig.scheduler.verify().unwrap();
    }
    log
}

/// Runs `work` in a task of a runtime that is not the scheduler's and whose clock is not paused.
fn in_a_task_of_another_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(other.spawn(async { work() })).unwrap()
}

#[test]
fn r14_a_drop_in_a_task_of_another_runtime_uses_the_clock_of_the_scheduler() {
    release_in_paused_time(|held| in_a_task_of_another_runtime(move || drop(held)));
}

#[test]
fn r14_a_rate_is_metered_by_the_clock_of_the_scheduler_in_a_task_of_another_runtime() {
    // A unit a nanosecond: by the clock of the machine the next one is there at once, in paused time it never is.
    let rig = Rig::new(Config::new().with(Budget::rate(IO, 1_000_000_000).burst(1)));
    drop(take(&rig.scheduler, io(1)));
    let scheduler = rig.scheduler.clone();
    let second = in_a_task_of_another_runtime(move || scheduler.try_reserve(io(1)).map(drop));
    assert!(second.is_err(), "granted by the clock of another runtime");
}
