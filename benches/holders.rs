//! What a turn at the desk costs while holders wait: who goes before whom, and whether they wait for each other, is
//! found out anew each time.
//!
//! `cargo bench -p bursar-benches --bench holders`.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bursar::{Activity, Budget, BudgetId, Config, Lease, Request, Reservation, Scheduler};
use cpu_time::ThreadTime;

use bursar_benches::{Options, Subject, Table, interleave, nanos_each};

const CROWDS: [u64; 3] = [10, 100, 1_000];

/// How the holders wait.
#[derive(Clone, Copy)]
enum Shape {
    /// For what somebody holds who waits for nothing.
    Star,
    /// Each goes on after those that ask for less, so that all can, one after the other.
    Chain,
    /// For each other: a deadlock, before anybody is told.
    Ring,
}

const SHAPES: [(&str, Shape); 3] = [
    ("they wait for one who goes on", Shape::Star),
    ("each waits for those before it", Shape::Chain),
    ("they wait for each other", Shape::Ring),
];

/// Holders that wait, and a budget that nobody wants.
struct Holders {
    scheduler: Scheduler,
    /// Kept, or they would neither hold nor wait.
    _leases: Vec<Lease>,
    _waiting: Vec<Pin<Box<Reservation>>>,
}

impl Holders {
    /// So many. Has to be made in a runtime.
    fn new(count: u64, shape: Shape) -> Self {
        let budgets = [(BudgetId::GPU, count + 1), (BudgetId::HOST, count), (BudgetId::DISK, 1)];
        let config = Config::new().with_budgets(budgets.map(|(id, units)| Budget::loan(id, units)));
        let config = config.with_verdict_after(Duration::from_secs(3_600));
        let scheduler = Scheduler::builder().config(config).spawn().expect("a good configuration");
        let take = |request: Request| scheduler.try_reserve(request).expect("free");
        let activities: Vec<_> = (0..count).map(|_| Activity::new("holder")).collect();
        let mut leases: Vec<_> = activities.iter().map(|each| take(Request::new().gpu(1u64).activity(each))).collect();
        let asks = |at: u64| match shape {
            Shape::Star => Request::new().host(1u64),
            Shape::Chain => Request::new().gpu(count + 1 - at),
            Shape::Ring => Request::new().gpu(2u64),
        };
        match shape {
            Shape::Star => leases.push(take(Request::new().host(count))),
            Shape::Chain => leases.push(take(Request::new().gpu(1u64))),
            Shape::Ring => leases.push(take(Request::new().gpu(1u64).activity(&activities[0]))),
        }
        let waiting = (0..count).zip(&activities).map(|(at, each)| wait(&scheduler, asks(at).activity(each)));
        let waiting = waiting.collect();
        Holders { scheduler, _leases: leases, _waiting: waiting }
    }

    /// A turn that concerns none of them.
    fn turn(&self) {
        self.scheduler.set_capacity(BudgetId::DISK, 1).expect("as before");
    }
}

fn wait(scheduler: &Scheduler, request: Request) -> Pin<Box<Reservation>> {
    let mut reservation = Box::pin(scheduler.reserve(request));
    assert!(reservation.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    reservation
}

fn main() {
    let Some(options) = Options::from_args() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let (rounds, turns) = (options.pick(11, 3), options.pick(100, 10));
    for (title, shape) in SHAPES {
        let subject = |count: u64| {
            let holders = Holders::new(count, shape);
            Subject::new(count.to_string(), move || {
                let start = ThreadTime::now();
                (0..turns).for_each(|_| holders.turn());
                nanos_each(start.elapsed(), turns)
            })
        };
        let found = interleave(CROWDS.map(subject).into(), rounds);
        println!("\na turn while holders wait: {title}\n");
        let mut table = Table::new(["holders", "us"]);
        for name in found.names() {
            table.row([name.to_owned(), format!("{:.1}", found.median(name, |&ns| ns) / 1_000.0)]);
        }
        table.print();
    }
}
