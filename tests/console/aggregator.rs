//! What tokio-console's own server makes of a scheduler: in one process, over a pipe, without the terminal.
//!
//! `console-subscriber` wants a `--cfg`, without which this compiles to nothing: this one, or `tokio_unstable`.
//!
//! ```text
//! export RUSTFLAGS="--cfg console_without_tokio_unstable"
//! cargo test --features console,test-util --test console_aggregator
//! ```
#![cfg(any(tokio_unstable, console_without_tokio_unstable))]

#[path = "../common/mod.rs"]
mod common;
mod server;

#[cfg(tokio_unstable)]
use bursar::memory::{HostSpace, SimulatedDevice, Space, Stream};
#[cfg(tokio_unstable)]
use bursar::tasks::Job;
use bursar::tasks::Task;
use bursar::{Amounts, Config, GIB, Priority, Request, Scheduler};
#[cfg(tokio_unstable)]
use bursar::{SpaceId, Tier};
use common::{HOST, three_loans};
use server::{Console, Model};

const GPU_ROW: &str = "Budget<gpu0.memory>";
const HOST_ROW: &str = "Budget<host0.memory>";

fn scheduler(config: Config) -> Scheduler {
    Scheduler::builder().config(config).spawn().expect("a good configuration")
}

fn shows(model: &Model, row: &str, name: &str, value: &str) -> bool {
    model.resource(row).is_some_and(|row| row.attributes.get(name).is_some_and(|found| found == value))
}

#[test]
fn the_console_shows_budgets_waits_and_tasks() {
    Console::watch(|mut console| async move {
        let scheduler = scheduler(three_loans());
        let lease = scheduler.reserve(Request::new().host(10)).await.unwrap();
        let waiting = scheduler.clone();
        let task = server::spawn("a worker", async move {
            let request = Request::new().host(4).gpu(1).priority(Priority::High).label("chat");
            waiting.reserve(request).await.map(drop)
        });
        let listed = |model: &Model| {
            shows(model, HOST_ROW, "in_use", "10 B")
                && shows(model, HOST_ROW, "waiting", "1")
                && shows(model, HOST_ROW, "listed", "1")
                && model.ops_of(HOST_ROW).iter().any(|op| op.task.is_some() && op.attributes.len() == 4)
                // Between a wake and the poll after it nobody has a waker.
                && model.tasks.values().any(|task| task.name == "bursar scheduler" && !task.is_lost())
        };
        let model = console.until("the wait", listed).await;
        let ops = model.ops_of(HOST_ROW);
        let op = ops[0];
        assert_eq!((ops.len(), op.source.as_str()), (1, "Scheduler::reserve"));
        let attribute = |name: &str| op.attributes[name].as_str();
        assert_eq!((attribute("amount"), attribute("priority"), attribute("label")), ("4 B", "HIGH", "chat"));
        assert_eq!(op.task.and_then(|task| model.task_name(task)), Some("a worker"));
        assert!(model.resource(HOST_ROW).unwrap().location.ends_with("console/aggregator.rs"));
        assert!(model.resources.values().all(|row| row.parent.is_none() || !row.is_budget()));
        drop(lease);
        console.ends("the worker", task).await.unwrap().unwrap();
        let over = |model: &Model| {
            shows(model, HOST_ROW, "waiting", "0") && model.ops_of(HOST_ROW).iter().all(|op| op.dropped)
        };
        console.until("the end of the wait", over).await;
        console.ends("the scheduler", scheduler.shutdown()).await.unwrap();
        console.until("the end", |model| model.resources.values().all(|row| row.dropped || !row.is_budget())).await;
    });
}

#[test]
fn a_million_reservations_are_shown_exactly_and_fill_neither_queue_nor_memory() {
    Console::watch(|mut console| async move {
        let scheduler = scheduler(three_loans().with(bursar::Budget::loan(bursar::BudgetId::COMPUTE, 2 * GIB)));
        console.until("the budgets", |model| shows(model, GPU_ROW, "in_use", "0 B")).await;
        let mut held = Vec::new();
        for number in 0..1_000_000u64 {
            let lease = scheduler.reserve(Request::new().compute(number % 1_000 + 1)).await.unwrap();
            if number % 100_000 == 7 {
                held.push(lease);
            }
        }
        let sum = held.iter().map(|lease| lease.get(bursar::BudgetId::COMPUTE)).sum::<u64>().to_string();
        let model = console.until("the sum", |model| shows(model, "Budget<compute>", "in_use", &sum)).await;
        assert_eq!((model.ops_of("Budget<compute>").len(), model.lost), (0, 0));
        drop(held);
        console.until("nothing", |model| shows(model, "Budget<compute>", "in_use", "0")).await;
    });
}

#[test]
fn waits_by_the_thousand_are_counted_exactly_and_listed_in_part() {
    Console::watch(|mut console| async move {
        let scheduler = scheduler(three_loans());
        let held = scheduler.reserve(Request::new().host(10)).await.unwrap();
        let wait = |number: u64| {
            let scheduler = scheduler.clone();
            server::spawn(
                "a waiter",
                async move { scheduler.reserve(Request::new().host(1 + number % 3)).await.map(drop) },
            )
        };
        let waits: Vec<_> = (0..20_000).map(wait).collect();
        let model = console.until("all are counted", |model| shows(model, HOST_ROW, "waiting", "20000")).await;
        assert_eq!(model.lost, 0);
        // The sum is brought up to date at the tick after that in which they are listed.
        let listed = |model: &Model| model.resource(HOST_ROW).unwrap().attributes["listed"].parse::<u64>().unwrap();
        let some = |model: &Model| model.ops_of(HOST_ROW).len() >= 64 && listed(model) >= 64;
        let model = console.until("some are listed", some).await;
        assert!(listed(&model) <= 2_048, "{}", listed(&model));
        drop(held);
        let all = async {
            for wait in waits {
                wait.await.unwrap().unwrap();
            }
        };
        console.ends("the waiters", all).await;
        let over = |model: &Model| shows(model, HOST_ROW, "waiting", "0") && shows(model, HOST_ROW, "listed", "0");
        let model = console.until("nobody waits", over).await;
        // The stock of listings, and one a tick for an hour.
        let ops = model.ops_of(HOST_ROW).len();
        assert!(ops < 4_096 + 7_200 && model.lost == 0, "{ops} ops, {} lost", model.lost);
        console.until("nothing is held", |model| shows(model, HOST_ROW, "in_use", "0 B")).await;
    });
}

/// With and without `tokio_unstable`, and with it not twice.
#[test]
fn a_submitted_task_is_listed_once_by_its_name_with_its_wait() {
    Console::watch(|mut console| async move {
        let scheduler = scheduler(three_loans());
        let hog = scheduler.reserve(Request::new().host(10)).await.unwrap();
        let train = scheduler.submit(Task::new("train", Request::new().host(4), |_| async {}));
        // Between a wake and the poll after it nobody has a waker.
        let listed = |model: &Model| {
            model.ops_of(HOST_ROW).iter().any(|op| op.task.is_some())
                && model.tasks.values().any(|task| task.name == "train" && !task.is_lost())
        };
        let model = console.until("the wait", listed).await;
        let op = model.ops_of(HOST_ROW)[0].task.and_then(|task| model.task_name(task));
        assert_eq!(op, Some("train"));
        assert_eq!(model.tasks.values().filter(|task| task.name == "train").count(), 1, "{model:#?}");
        drop(hog);
        console.ends("the task", train).await.unwrap();
        console.ends("the scheduler", scheduler.shutdown()).await.unwrap();
    });
}

/// With `tokio_unstable` tokio shows its own mutexes, semaphores and channels, those inside of this crate too.
#[cfg(tokio_unstable)]
#[test]
fn memory_and_jobs_bring_no_resources_of_tokios_own() {
    Console::watch(|mut console| async move {
        let scheduler = scheduler(three_loans());
        console.until("the budgets", |model| shows(model, GPU_ROW, "in_use", "0 B")).await;
        let device = SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, 1024);
        let host = HostSpace::new(SpaceId { tier: Tier::Host, index: 0 }, 1 << 20);
        for space in [&device as &dyn Space, &host] {
            let block = space.allocate(16).await.unwrap();
            space.write(Stream(3), block, 0, &[7; 16]).await.unwrap();
            space.free(block).await.unwrap();
        }
        let kind = scheduler.dispatcher("captions").spawn::<(), ()>().unwrap();
        let worker = kind.worker("first").register(Done);
        kind.submit(Job::new("a caption", (), Request::new().host(1))).await.unwrap();
        // What was made before this is seen before it.
        let fence = Scheduler::builder().compute(7).spawn().unwrap();
        let model = console.until("the fence", |model| model.resource("Budget<compute>").is_some()).await;
        // Timers aside. Where something was made may be said to be here, because this asked for it.
        let ours =
            model.resources.values().filter(|row| ["src/", "tests/"].iter().any(|at| row.location.starts_with(at)));
        let locks = ours.filter(|row| !row.is_budget() && row.name != "Sleep" && row.name != "Interval");
        assert_eq!(locks.map(|row| (&row.name, &row.location)).collect::<Vec<_>>(), []);
        drop((worker, fence));
    });
}

#[cfg(tokio_unstable)]
struct Done;

#[cfg(tokio_unstable)]
#[async_trait::async_trait]
impl bursar::tasks::Handler<(), ()> for Done {
    async fn handle(&self, _: bursar::tasks::TaskContext, (): &()) -> Result<(), bursar::tasks::BoxError> {
        Ok(())
    }
}

#[test]
fn a_wait_outside_a_task_is_counted_and_has_no_task() {
    Console::watch(|mut console| async move {
        let scheduler = scheduler(three_loans());
        let held = scheduler.reserve(Request::new().host(10)).await.unwrap();
        let waiting = scheduler.clone();
        let thread = console.thread(move || common::block_on(waiting.reserve(Request::new().host(1))).map(drop));
        let seen = |model: &Model| !model.ops_of(HOST_ROW).is_empty() && shows(model, HOST_ROW, "listed", "1");
        let model = console.until("the wait", seen).await;
        assert_eq!(model.ops_of(HOST_ROW)[0].task, None);
        drop(held);
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn schedulers_made_by_many_threads_at_once_are_all_shown() {
    Console::watch(|mut console| async move {
        let make = |number: u64| {
            let runtime = tokio::runtime::Handle::current();
            console.thread(move || {
                let _inside = runtime.enter();
                scheduler(three_loans().with(bursar::Budget::loan(bursar::BudgetId::COMPUTE, number + 1)))
            })
        };
        let threads: Vec<_> = (0..4).map(make).collect();
        let schedulers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        let all = |model: &Model| model.resources.values().filter(|row| row.is_budget()).count() == 16;
        console.until("four times four budgets", all).await;
        let named = |model: &Model| model.tasks.values().filter(|task| task.name == "bursar scheduler").count() == 4;
        console.until("four tasks", named).await;
        drop(schedulers);
    });
}

#[test]
fn growth_that_waits_is_shown() {
    Console::watch(|mut console| async move {
        let scheduler = scheduler(three_loans());
        let held = scheduler.reserve(Request::new().host(8)).await.unwrap();
        let mut lease = scheduler.reserve(Request::new().host(2)).await.unwrap();
        let task = server::spawn("a holder", async move { lease.grow(&Amounts::of(HOST, 5)).await });
        let seen = |model: &Model| model.ops_of(HOST_ROW).iter().any(|op| op.source == "Lease::grow");
        console.until("the growth", seen).await;
        drop(held);
        console.ends("the growth", task).await.unwrap().unwrap();
    });
}
