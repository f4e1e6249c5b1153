//! The scheduler task with nothing due: it should sleep.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bursar::{Driver, Request, Scheduler};

use crate::uncontended::runtime;
use bursar_benches::{Goal, Goals, Options};

const LEASES: usize = 100;

pub fn run(options: &Options, goals: &mut Goals) {
    let time = options.pick(Duration::from_secs(2), Duration::from_millis(200));
    let polls = runtime().block_on(polls_in(time));
    println!("\n{LEASES} leases out, nobody waiting, {time:?}: the driver was polled {polls} times");
    goals.check("polls of the driver of an idle scheduler", polls as f64, Goal::AtMost(1.0, None));
}

async fn polls_in(time: Duration) -> u64 {
    let built = Scheduler::builder().gpu(1u64 << 20).io(1u64 << 20).build();
    let (scheduler, driver) = built.expect("a plain configuration");
    let polls = Arc::new(AtomicU64::new(0));
    let driver = tokio::spawn(Counted { driver, polls: Arc::clone(&polls) });
    let mut leases = Vec::new();
    for _ in 0..LEASES {
        leases.push(scheduler.reserve(Request::new().gpu(1u64).io(1u64)).await.expect("nothing is short"));
    }
    tokio::time::sleep(time).await;
    let polled = polls.load(Ordering::Relaxed);
    drop((leases, scheduler));
    driver.await.expect("the driver does not panic");
    polled
}

/// The driver, with its polls counted.
struct Counted {
    driver: Driver,
    polls: Arc<AtomicU64>,
}

impl Future for Counted {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.driver).poll(cx)
    }
}
