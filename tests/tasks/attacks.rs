//! Tasks that misbehave, and ends in every state: whatever happens, every task is accounted for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use bursar::tasks::{BoxError, Retry, Task, TaskError, TaskHandle, TaskState};
use bursar::{CloseReason, Lease, Priority, ReserveError};
use tokio_test::task;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_ends_its_task_with_what_the_panic_said() {
    let scheduler = with_gpu(1);
    let broken = |_context| -> future::Ready<()> { panic!("no future") };
    let error = scheduler.submit(Task::new("broken", gpu(1), broken)).await.unwrap_err();
    assert!(matches!(&error, TaskError::Panicked { message, .. } if message == "no future"), "{error}");
    assert_accounted(&scheduler);
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_that_panics_while_it_is_dropped_loses_neither_its_lease_nor_its_result() {
    let scheduler = with_gpu(1);
    let armed = || {
        Task::new("bomb", gpu(1), |context| {
            let bomb = Bomb;
            async move {
                context.cancelled().await;
                drop(bomb);
            }
        })
    };
    let overdue = scheduler.submit(armed().complete_by(MS)).await.unwrap_err();
    assert!(matches!(overdue, TaskError::Overdue { .. }), "{overdue}");
    let preempted = scheduler.submit(armed().preemptible());
    settle().await;
    preempted.preempt();
    assert!(matches!(preempted.await, Err(TaskError::Panicked { message, .. }) if message == "dropped"));
    let aborted = scheduler.submit(armed());
    settle().await;
    aborted.abort();
    assert!(matches!(aborted.await, Err(TaskError::Panicked { message, .. }) if message == "dropped"));
    assert_accounted(&scheduler);
    let stats = scheduler.task_stats();
    assert_eq!((stats.overdue, stats.panicked, stats.cancelled), (1, 2, 0), "as the handles say: {stats}");
}

#[tokio::test(start_paused = true)]
async fn work_or_an_error_that_panics_while_it_is_dropped_loses_no_result() {
    let scheduler = with_gpu(1);
    let bomb = Bomb;
    let done = Task::new("bomb", gpu(1), move |_| {
        let _held = &bomb;
        async { 7 }
    });
    assert_eq!(scheduler.submit(done).await.unwrap(), 7);
    let fails_once = Task::fallible("armed", gpu(1), |context| async move {
        if context.attempt() == 1 { Err(BoxError::from(Armed)) } else { Ok(8) }
    });
    assert_eq!(scheduler.submit(fails_once.retry(Retry::new(2))).await.unwrap(), 8);
    assert_eq!(scheduler.task_stats().done, 2);
    assert_accounted(&scheduler);
}

/// An error that panics when it is dropped.
#[derive(Debug, thiserror::Error)]
#[error("it fails")]
struct Armed;

impl Drop for Armed {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

/// The task whose work has it.
static ASKED: Mutex<Option<TaskHandle<u32>>> = Mutex::new(None);

struct Nosy;

impl Clone for Nosy {
    fn clone(&self) -> Self {
        let asked = ASKED.lock().unwrap();
        assert_eq!(asked.as_ref().map(|task| task.explain().attempts), Some(2));
        Nosy
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_task_saved_may_ask_for_the_task_while_it_is_cloned() {
    let scheduler = with_gpu(1);
    let task = Task::new("nosy", gpu(1), |context| async move {
        if context.saved::<Nosy>().is_none() {
            context.save(Nosy);
            future::pending::<()>().await;
        }
        context.attempt()
    });
    *ASKED.lock().unwrap() = Some(scheduler.submit(task.preemptible()));
    settle().await;
    assert!(ASKED.lock().unwrap().as_ref().is_some_and(TaskHandle::preempt));
    settle().await;
    let task = ASKED.lock().unwrap().take().unwrap();
    assert_eq!(task.await.unwrap(), 2);
    assert_accounted(&scheduler);
}

/// What never yields cannot be stopped from outside; it harms nobody else and is counted when it ends.
#[test]
fn a_future_that_never_yields_is_not_cut_and_ends_as_it_likes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let scheduler = with_gpu(2);
        let stop = Arc::new(AtomicBool::new(false));
        let (spins, began) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        let spinning = scheduler.submit(
            Task::new("spins", gpu(1), move |_context| {
                let (stop, spins) = (Arc::clone(&stopped), spins.clone());
                async move {
                    let _ = spins.send(());
                    while !stop.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    "as it likes"
                }
            })
            .complete_by(MS)
            .preemptible(),
        );
        began.recv().unwrap();
        assert!(spinning.preempt());
        assert_eq!(scheduler.submit(Task::new("other", gpu(1), |_context| async { 1 })).await.unwrap(), 1);
        assert_eq!(scheduler.task_stats().running, 1);
        stop.store(true, Ordering::Release);
        assert_eq!(spinning.await.unwrap(), "as it likes");
        assert_accounted(&scheduler);
    });
}

/// One unit, and a task that is brought into some state.
struct Abort {
    scheduler: Scheduler,
    held: Option<Lease>,
}

impl Abort {
    fn new(held: bool) -> Self {
        let scheduler = with_gpu(1);
        let held = held.then(|| take(&scheduler, gpu(1)));
        Abort { scheduler, held }
    }

    /// Aborts a task in the state in which it is. It has ended once, everything that it had is back, and whoever waits
    /// behind it is served at once.
    async fn ends(self, task: TaskHandle<()>, state: TaskState, counted_running: u64) {
        let Abort { scheduler, held } = self;
        assert_eq!((task.state(), scheduler.task_stats().running), (state, counted_running));
        let mut behind = task::spawn(scheduler.reserve(gpu(1).priority(Priority::Idle)));
        assert!(state == TaskState::Pausing || behind.poll().is_pending());
        task.abort();
        let running = counted_running > 0;
        let ended = task.await;
        assert!(matches!(ended, Err(TaskError::Cancelled { running: ran, .. }) if ran == running), "{ended:?}");
        drop(held);
        let std::task::Poll::Ready(lease) = behind.poll() else { panic!("something is still held") };
        drop((lease.unwrap(), behind));
        let stats = scheduler.task_stats();
        assert_eq!((stats.submitted, stats.cancelled), (1, 1), "{stats}");
        assert_accounted(&scheduler);
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_task_that_was_granted_at_once_and_has_not_been_polled() {
    let fresh = Abort::new(false);
    let task = fresh.scheduler.submit(endless("fresh", gpu(1)));
    assert_eq!(free(&fresh.scheduler, GPU), 0);
    fresh.ends(task, TaskState::Queued, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_task_that_waits() {
    let full = Abort::new(true);
    let task = full.scheduler.submit(endless("queued", gpu(1)));
    settle().await;
    assert_eq!(full.scheduler.stats().waiting, 1);
    full.ends(task, TaskState::Queued, 0).await;
}

/// Its units lie ready, and it has not taken them up.
#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_task_whose_grant_it_has_not_seen() {
    let mut full = Abort::new(true);
    let task = full.scheduler.submit(endless("offered", gpu(1)));
    settle().await;
    drop(full.held.take());
    let stats = full.scheduler.stats();
    assert_eq!((stats.offered, free(&full.scheduler, GPU)), (1, 0));
    full.ends(task, TaskState::Queued, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_task_that_runs() {
    let busy = Abort::new(false);
    let task = busy.scheduler.submit(endless("running", gpu(1)));
    settle().await;
    busy.ends(task, TaskState::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_task_that_stands_at_a_checkpoint_where_it_is_to_be_preempted() {
    let busy = Abort::new(false);
    let task = Task::new("halted", gpu(1), |context| async move {
        tokio::time::sleep(MS).await;
        context.checkpoint().await;
    });
    let task = busy.scheduler.submit(task.preemptible_at_checkpoints());
    settle().await;
    assert!(task.preempt());
    busy.ends(task, TaskState::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_task_that_was_preempted_and_waits_again() {
    let mut busy = Abort::new(false);
    let task = busy.scheduler.submit(endless("preempted", gpu(1)).preemptible());
    settle().await;
    let mut urgent = queued(&busy.scheduler, gpu(1).priority(Priority::Critical));
    settle().await;
    busy.held = Some(granted(&mut urgent));
    assert_eq!(busy.scheduler.task_stats().preemptions, 1);
    busy.ends(task, TaskState::Queued, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_task_that_pauses_before_another_attempt() {
    let idle = Abort::new(false);
    let failing = Task::fallible("pausing", gpu(1), |_context| async { Err::<(), _>(BoxError::from("no")) });
    let task = idle.scheduler.submit(failing.retry(Retry::new(2).backoff(MS, MS)));
    settle().await;
    assert_eq!((idle.scheduler.task_stats().retries, free(&idle.scheduler, GPU)), (1, 1));
    idle.ends(task, TaskState::Pausing, 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_abort_of_a_task_that_has_ended_changes_nothing() {
    let scheduler = with_gpu(1);
    let mut done = scheduler.submit(Task::new("done", gpu(1), |_context| async { 3 }));
    settle().await;
    assert_eq!(done.state(), TaskState::Ended);
    done.abort();
    assert_eq!((&mut done).await.unwrap(), 3);
    // Polled once more, it stays pending.
    assert!(futures::poll!(&mut done).is_pending());
    done.abort();
    let stats = scheduler.task_stats();
    assert_eq!((stats.submitted, stats.done, stats.cancelled), (1, 1, 0));
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_with_ten_thousand_queued_tasks_accounts_for_every_one() {
    let scheduler = with_gpu(10);
    let handles: Vec<_> = (0..10_000u64)
        .map(|number| {
            let level = Priority::ALL[number as usize % Priority::COUNT];
            let task = Task::new("one of many", gpu(1 + number % 10), |_context| tokio::time::sleep(MS));
            scheduler.submit(task.priority(level))
        })
        .collect();
    tokio::time::sleep(50 * MS).await;
    scheduler.shutdown().await.unwrap();
    let (mut done, mut closed) = (0, 0);
    for handle in handles {
        match handle.await {
            Ok(()) => done += 1,
            Err(TaskError::Refused { error: ReserveError::Closed { reason: CloseReason::Closed, .. }, .. }) => {
                closed += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let stats = scheduler.task_stats();
    assert_eq!((done, closed), (stats.done, stats.refused));
    assert!(done > 50 && done + closed == 10_000, "{stats}");
    assert_accounted(&scheduler);
}

#[test]
fn a_runtime_that_ends_takes_its_tasks_with_it_and_says_so() {
    let runtime = paused();
    let (scheduler, handles) = runtime.block_on(async {
        let scheduler = with_gpu(1);
        let handles: Vec<_> = (0..3).map(|_| scheduler.submit(endless("left", gpu(1)))).collect();
        settle().await;
        (scheduler, handles)
    });
    drop(runtime);
    for handle in handles {
        assert!(matches!(block_on(handle), Err(TaskError::Cancelled { .. })));
    }
    assert_eq!(scheduler.task_stats().cancelled, 3);
    assert_accounted(&scheduler);
}

/// RROS P3: theirs loses tasks. Here every one is in exactly one place after every step, whatever it does and whatever
/// is done to it, and every handle is told how it ended.
#[tokio::test(start_paused = true)]
async fn rros_p3_no_task_is_ever_neither_run_nor_queued_nor_cancelled_nor_reported() {
    for seed in 0..5 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let scheduler = with_gpu(20);
        let mut handles = Vec::new();
        for number in 0..200u64 {
            let (kind, millis) = (dice.u8(..5), dice.u64(..20));
            let mut task = Task::fallible("any", gpu(dice.u64(1..=22)), move |context| async move {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                context.checkpoint().await;
                match kind {
                    0 => Err(BoxError::from("it fails")),
                    1 => panic!("it panics"),
                    _ => Ok(number),
                }
            });
            task = task.priority(Priority::ALL[dice.usize(..5)]);
            task = if dice.bool() { task.preemptible().preemptions(dice.u32(..3)) } else { task };
            task = if dice.bool() { task.deadline(Duration::from_millis(dice.u64(1..100))) } else { task };
            task = if dice.bool() { task.complete_by(Duration::from_millis(dice.u64(1..200))) } else { task };
            handles.push(scheduler.submit(if dice.bool() { task.retry(Retry::new(2).seed(number)) } else { task }));
            let any = &handles[dice.usize(..handles.len())];
            match dice.u8(..10) {
                0 => any.cancel(),
                1 => any.abort(),
                2 => _ = any.preempt(),
                3 => _ = any.raise(Priority::ALL[dice.usize(..5)]),
                _ => tokio::time::sleep(Duration::from_millis(dice.u64(..3))).await,
            }
            let stats = scheduler.task_stats();
            assert_eq!(stats.submitted, stats.live + stats.ended(), "seed {seed}: {stats}");
            assert_eq!(stats.submitted, number + 1);
        }
        let results = futures::future::join_all(handles).await;
        let stats = scheduler.task_stats();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count() as u64, stats.done, "seed {seed}");
        assert!(results.iter().flatten().all(|number| *number < 200));
        assert!([stats.done, stats.cancelled, stats.late, stats.refused].iter().all(|&count| count > 0), "{stats}");
        assert_eq!(stats.ended(), 200, "seed {seed}: {stats}");
        assert_accounted(&scheduler);
    }
}

/// Attack: on several threads, with room for a few in memory and in the queue, tasks are raised, preempted by hand and
/// by the scheduler, cancelled and aborted while they are granted, run, give way and end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_on_several_threads_have_one_end_each_and_the_figures_say_which() {
    let scheduler = Scheduler::builder().gpu(8u64).max_waiters(24).spawn().unwrap();
    let mut dice = fastrand::Rng::with_seed(17);
    let mut handles = Vec::new();
    for number in 0..2_000u64 {
        let turns = dice.u64(..6);
        let task = Task::new("any", gpu(dice.u64(1..=6)), move |context| async move {
            for _ in 0..turns {
                tokio::task::yield_now().await;
                context.checkpoint().await;
            }
            number
        });
        let task = task.priority(Priority::ALL[dice.usize(..5)]).preemptions(u32::MAX);
        handles.push(scheduler.submit(match dice.u8(..3) {
            0 => task,
            1 => task.preemptible(),
            _ => task.preemptible_at_checkpoints(),
        }));
        let any = &handles[number as usize - dice.usize(..=number.min(20) as usize)];
        match dice.u8(..8) {
            0 => any.cancel(),
            1 => any.abort(),
            2 | 3 => _ = any.preempt(),
            4 | 5 => _ = any.raise(Priority::ALL[dice.usize(..5)]),
            _ => tokio::task::yield_now().await,
        }
    }
    let ends = futures::future::join_all(handles).await;
    let count =
        |kind: fn(&TaskError) -> bool| ends.iter().flat_map(|end| end.as_ref().err()).filter(|&e| kind(e)).count();
    let cancelled = count(|error| matches!(error, TaskError::Cancelled { .. })) as u64;
    let shed = count(|error| matches!(error, TaskError::Shed { .. })) as u64;
    let done: Vec<u64> = ends.iter().flatten().copied().collect();
    assert!(done.is_sorted() && done.iter().all(|number| *number < 2_000));
    let stats = scheduler.task_stats();
    assert_eq!((stats.done, stats.cancelled, stats.shed), (done.len() as u64, cancelled, shed), "{stats}");
    assert_eq!(stats.done + stats.cancelled + stats.shed, 2_000, "{stats}");
    assert!(stats.preemptions > 0 && stats.cancelled > 0, "{stats}");
    assert_accounted(&scheduler);
}
