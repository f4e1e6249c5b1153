//! Tasks that are told to give back what they hold.

use bursar::tasks::{Task, TaskError, TaskState};
use bursar::{Budget, Config, Priority};

use super::*;

/// Counts to five, saves every step, and waits before each.
fn counting(diary: &Diary) -> Task<u32> {
    let diary = diary.clone();
    Task::new("count", gpu(10), move |context| {
        let diary = diary.clone();
        async move {
            let from = context.saved::<u32>().unwrap_or(0);
            diary.note(format!("from {from}"));
            for step in from..5 {
                tokio::time::sleep(10 * MS).await;
                context.save(step + 1);
            }
            context.attempt()
        }
    })
    .preemptible()
}

#[tokio::test(start_paused = true)]
async fn a_preempted_task_gives_everything_back_and_goes_on_from_what_it_saved() {
    let scheduler = with_gpu(10);
    let diary = Diary::default();
    let task = scheduler.submit(counting(&diary).priority(Priority::Idle));
    tokio::time::sleep(25 * MS).await;
    let mut urgent = queued(&scheduler, gpu(10).priority(Priority::Critical));
    assert!(task.preempt());
    settle().await;
    let lease = granted(&mut urgent);
    assert_eq!((task.state(), task.explain().preemptions), (TaskState::Queued, 1));
    drop(lease);
    assert_eq!(task.await.unwrap(), 2);
    assert_eq!(diary.read(), ["from 0", "from 2"]);
    assert_eq!(scheduler.task_stats().preemptions, 1);
    assert_accounted(&scheduler);
}

/// Its place is its own, not the first: who came before it and lacked something else goes first after all.
#[tokio::test(start_paused = true)]
async fn a_preempted_task_comes_back_behind_who_came_before_it() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 1));
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let only_host = take(&scheduler, host(1));
    tokio::time::sleep(MS).await;
    let mut older = queued(&scheduler, gpu(10).host(1u64));
    tokio::time::sleep(MS).await;
    let task = scheduler.submit(counting(&Diary::default()));
    settle().await;
    let mut urgent = queued(&scheduler, gpu(10).priority(Priority::Critical));
    settle().await;
    let urgent = granted(&mut urgent);
    drop((only_host, urgent));
    drop(granted(&mut older));
    assert_eq!(task.await.unwrap(), 2);
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_preemptible_or_does_not_run_is_never_cut() {
    let scheduler = with_gpu(10);
    let firm = scheduler.submit(Task::new("firm", gpu(10), |_context| tokio::time::sleep(10 * MS)));
    let waiting = scheduler.submit(counting(&Diary::default()));
    settle().await;
    assert!(!firm.preempt() && !waiting.preempt());
    firm.await.unwrap();
    assert_eq!(waiting.await.unwrap(), 1);
    assert_eq!(scheduler.task_stats().preemptions, 0);
}

/// P27: the number of preemptions is bounded, and the last is an error that says so.
#[tokio::test(start_paused = true)]
async fn p27_a_task_is_preempted_as_often_as_it_allows_and_then_says_so() {
    let scheduler = with_gpu(10);
    let task = scheduler.submit(endless("victim", gpu(10)).preemptible().preemptions(2));
    for _ in 0..3 {
        settle().await;
        assert!(task.preempt());
    }
    assert!(matches!(task.await, Err(TaskError::PreemptedTooOften { times: 3, .. })));
    assert_eq!((scheduler.task_stats().preemptions, scheduler.task_stats().preempted_too_often), (3, 1));
    assert_accounted(&scheduler);
}

/// P27: a task that was preempted is not shed for it, however full the queue is.
#[tokio::test(start_paused = true)]
async fn p27_a_preempted_task_that_finds_the_queue_full_is_not_shed() {
    let config = Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 1));
    let config = config.with_bypass_limit(0).with_max_waiters(1);
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let task = scheduler.submit(counting(&Diary::default()));
    settle().await;
    let host = take(&scheduler, host(1));
    // It has the only place in the queue, and everything below it has to wait behind it.
    let mut both = queued(&scheduler, gpu(10).host(1).priority(Priority::High));
    assert!(task.preempt());
    settle().await;
    // It was let in before: it waits at once, as the second of one.
    assert_eq!((task.state(), scheduler.stats().waiting), (TaskState::Queued, 2));
    let shed = scheduler.submit(endless("shed", gpu(1))).await.unwrap_err();
    assert!(matches!(shed, TaskError::Shed { .. }));
    drop(host);
    drop(granted(&mut both));
    assert_eq!(task.await.unwrap(), 2);
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_preemptible_at_checkpoints_goes_on_until_it_comes_to_one() {
    let scheduler = with_gpu(10);
    let task = Task::new("steps", gpu(10), |context| async move {
        if context.attempt() == 1 {
            tokio::time::sleep(10 * MS).await;
            context.checkpoint().await;
            unreachable!("it is halted");
        }
        context.attempt()
    });
    let task = scheduler.submit(task.preemptible_at_checkpoints());
    settle().await;
    assert!(task.preempt());
    tokio::time::sleep(9 * MS).await;
    assert_eq!(task.explain().preemptions, 0);
    assert_eq!(task.await.unwrap(), 2);
    assert_accounted(&scheduler);
}

/// The scheduler asks for it, nobody else: the critical one is served in the same turn, the task is queued again where
/// it was, and its work goes on from what it saved.
#[tokio::test(start_paused = true)]
async fn c8_a_critical_request_cuts_an_idle_task_that_comes_back_to_its_place_and_goes_on() {
    let scheduler = with_gpu(10);
    let diary = Diary::default();
    let task = scheduler.submit(counting(&diary).priority(Priority::Idle));
    tokio::time::sleep(25 * MS).await;
    let mut between = queued(&scheduler, gpu(10).priority(Priority::Idle));
    let mut urgent = queued(&scheduler, gpu(10).priority(Priority::Critical));
    settle().await;
    let lease = granted(&mut urgent);
    assert_eq!((task.state(), task.explain().preemptions), (TaskState::Queued, 1));
    drop(lease);
    settle().await;
    // It has the place it had, before the one that came while it ran.
    assert_eq!(task.state(), TaskState::Running);
    assert_eq!(task.await.unwrap(), 2);
    assert_eq!(diary.read(), ["from 0", "from 2"]);
    drop(granted(&mut between));
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn p27_a_task_that_was_preempted_as_often_as_it_allows_is_asked_no_more() {
    let scheduler = with_gpu(10);
    let task = scheduler.submit(counting(&Diary::default()).priority(Priority::Idle).preemptions(1));
    settle().await;
    let mut urgent = queued(&scheduler, gpu(10).priority(Priority::Critical));
    settle().await;
    drop(granted(&mut urgent));
    settle().await;
    let mut again = queued(&scheduler, gpu(10).priority(Priority::Critical));
    settle().await;
    assert_eq!(task.state(), TaskState::Running);
    assert_eq!(task.await.unwrap(), 2);
    drop(granted(&mut again));
    assert_eq!(scheduler.task_stats().preemptions, 1);
    assert_accounted(&scheduler);
}

/// It has a reason and a grace, and brings its work to where it can be left.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_asked_learns_for_whom_and_uses_its_time() {
    let scheduler = with_gpu(10);
    let task = Task::new("asked", gpu(10), |context| async move {
        if let Some(by) = context.saved::<Priority>() {
            return (by, context.attempt());
        }
        let asked = context.revoked().await;
        assert_eq!(asked.grace, Config::new().grace);
        tokio::time::sleep(20 * MS).await;
        context.save(asked.by);
        context.checkpoint().await;
        unreachable!("it is halted")
    });
    let task = scheduler.submit(task.priority(Priority::Idle).preemptible_at_checkpoints());
    settle().await;
    let mut urgent = queued(&scheduler, gpu(1).priority(Priority::High));
    tokio::time::sleep(10 * MS).await;
    assert_waits(&mut urgent);
    tokio::time::sleep(15 * MS).await;
    drop(granted(&mut urgent));
    assert_eq!(task.await.unwrap(), (Priority::High, 2));
    assert_accounted(&scheduler);
}

/// P44: a pool that has room for one. Equals never take turns at each other, and the one that had to give way does not
/// preempt back: one preemption in all, and each runs once it is its turn.
#[tokio::test(start_paused = true)]
async fn p44_in_a_tiny_pool_nobody_preempts_back_and_equals_do_not_preempt() {
    let scheduler = with_gpu(10);
    let diaries = [Diary::default(), Diary::default(), Diary::default()];
    let submit = |at: usize, level| scheduler.submit(counting(&diaries[at]).priority(level));
    let low = submit(0, Priority::Low);
    let equal = submit(1, Priority::Low);
    tokio::time::sleep(25 * MS).await;
    assert_eq!((scheduler.task_stats().preemptions, equal.state()), (0, TaskState::Queued));
    let high = submit(2, Priority::High);
    assert_eq!((high.await.unwrap(), low.await.unwrap(), equal.await.unwrap()), (1, 2, 1));
    assert_eq!(scheduler.task_stats().preemptions, 1);
    assert_eq!(diaries.map(|diary| diary.read()), [vec!["from 0", "from 2"], vec!["from 0"], vec!["from 0"]]);
    assert_accounted(&scheduler);
}

/// P27: many at once give way to one large request. They come back in the order they had, none is shed, and what they
/// had done is not done again.
#[tokio::test(start_paused = true)]
async fn p27_after_many_were_preempted_at_once_they_all_come_back_in_order_and_go_on() {
    let scheduler = with_gpu(100);
    let diary = Diary::default();
    let tasks: Vec<_> = (0..10).map(|_| scheduler.submit(counting(&diary).priority(Priority::Low))).collect();
    tokio::time::sleep(25 * MS).await;
    let late = scheduler.submit(counting(&Diary::default()).priority(Priority::Low));
    let all =
        scheduler.submit(Task::new("all", gpu(100), |_context| tokio::time::sleep(5 * MS)).priority(Priority::High));
    all.await.unwrap();
    settle().await;
    assert_eq!((scheduler.task_stats().preemptions, late.state()), (10, TaskState::Queued));
    for task in tasks {
        assert_eq!(task.await.unwrap(), 2);
    }
    assert_eq!(diary.read(), [["from 0"; 10], ["from 2"; 10]].concat());
    assert_eq!(late.await.unwrap(), 1);
    assert_accounted(&scheduler);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_was_preempted_by_hand_comes_back_to_its_place() {
    let scheduler = with_gpu(10);
    let task = scheduler.submit(counting(&Diary::default()));
    tokio::time::sleep(15 * MS).await;
    let (mut later, mut last) = (queued(&scheduler, gpu(10)), queued(&scheduler, gpu(10)));
    assert!(task.preempt());
    settle().await;
    // Whoever waits gets what it gave back; then it is its turn again.
    drop(granted(&mut later));
    settle().await;
    assert_eq!((task.state(), task.explain().preemptions), (TaskState::Running, 1));
    assert_waits(&mut last);
    assert_eq!(task.await.unwrap(), 2);
    drop(granted(&mut last));
    assert_accounted(&scheduler);
}

/// The smallest set is the part alone; the task that has it is told, and gives everything back.
#[tokio::test(start_paused = true)]
async fn a_task_is_preempted_when_a_part_is_asked_for_that_it_split_off() {
    let scheduler = with_gpu(10);
    let task = Task::new("splits", gpu(10), |mut context| async move {
        let part = context.lease_mut().split(&bundle(&[(GPU, 4)])).expect("it holds ten");
        let smaller = context.lease_mut().split(&bundle(&[(GPU, 1)])).expect("it holds six");
        if context.attempt() == 1 {
            future::pending::<()>().await;
        }
        (part.get(GPU), smaller.get(GPU), context.lease().get(GPU))
    });
    let task = scheduler.submit(task.priority(Priority::Idle).preemptible());
    settle().await;
    let mut urgent = queued(&scheduler, gpu(1).priority(Priority::Critical));
    assert_eq!(scheduler.stats().level(Priority::Idle).revoked, 1, "one of the three leases");
    settle().await;
    let lease = granted(&mut urgent);
    assert_eq!((task.explain().preemptions, free(&scheduler, GPU)), (1, 9));
    drop(lease);
    assert_eq!(task.await.unwrap(), (4, 1, 5));
    assert_accounted(&scheduler);
}

/// A part that somebody else has does not end with the future of the task; who has it is asked as well.
#[tokio::test(start_paused = true)]
async fn a_part_that_was_given_away_is_asked_for_itself_too() {
    let scheduler = with_gpu(10);
    let task = Task::new("gives", gpu(10), |mut context| async move {
        if context.attempt() == 1 {
            let part = context.lease_mut().split(&bundle(&[(GPU, 4)])).expect("it holds ten");
            tokio::spawn(async move {
                let revocation = part.revoked().await;
                assert_eq!(revocation.by, Priority::Critical);
            });
            future::pending::<()>().await;
        }
    });
    let task = scheduler.submit(task.priority(Priority::Idle).preemptible());
    settle().await;
    let mut urgent = queued(&scheduler, gpu(10).priority(Priority::Critical));
    settle().await;
    drop(granted(&mut urgent));
    task.await.unwrap();
    assert_accounted(&scheduler);
}
