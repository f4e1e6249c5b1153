//! The scheduler as a policy: reservations polled by hand, on a clock that only the simulation moves.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Driver, Lease, Request, Reservation, Scheduler};
use tokio::runtime::Runtime;

use crate::simulation::{CAPACITY, HOLD, Job, Policy};

/// What is set differently.
#[derive(Debug, Clone, Copy)]
pub struct Bypass {
    pub name: &'static str,
    pub limit: u32,
    /// In mean holds.
    pub time: f64,
}

impl Bypass {
    pub fn time(self) -> Duration {
        Duration::from_nanos((self.time * HOLD as f64) as u64)
    }
}

/// Strict order of arrival.
pub const STRICT: Bypass = Bypass { name: "strict FIFO", limit: 0, time: 0.0 };
/// What the configuration has if nobody says anything, with a mean hold of 10 ms.
pub const USUAL: Bypass = Bypass { name: "bursar", limit: 16, time: 10.0 };

/// The jobs that were woken.
type Woken = Arc<Mutex<Vec<u32>>>;

struct Bell {
    id: u32,
    woken: Woken,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.woken.lock().expect("nobody panics with it").push(self.id);
    }
}

/// The scheduler.
pub struct Bursar {
    runtime: Runtime,
    now: u64,
    waiting: BTreeMap<u32, (Reservation, Waker)>,
    leases: BTreeMap<u32, Lease>,
    started: Vec<u32>,
    woken: Woken,
    scheduler: Scheduler,
    _driver: Driver,
}

impl Bursar {
    pub fn new(bypass: Bypass) -> Self {
        let config = Config::new()
            .with(Budget::loan(BudgetId::GPU, CAPACITY))
            .with_bypass_limit(bypass.limit)
            .with_bypass_time(bypass.time());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let (scheduler, driver) = {
            let _inside = runtime.enter();
            Scheduler::builder().config(config).build().expect("a plain configuration")
        };
        Bursar {
            runtime,
            now: 0,
            waiting: BTreeMap::new(),
            leases: BTreeMap::new(),
            started: Vec::new(),
            woken: Woken::default(),
            scheduler,
            _driver: driver,
        }
    }

    fn move_to(&mut self, now: u64) {
        if now > self.now {
            self.runtime.block_on(tokio::time::advance(Duration::from_nanos(now - self.now)));
            self.now = now;
        }
    }

    fn poll(&mut self, id: u32) {
        let Some((reservation, waker)) = self.waiting.get_mut(&id) else { return };
        if let Poll::Ready(lease) = Pin::new(reservation).poll(&mut Context::from_waker(waker)) {
            self.waiting.remove(&id);
            self.leases.insert(id, lease.expect("no deadline, and nothing too large"));
            self.started.push(id);
        }
    }
}

impl Policy for Bursar {
    fn arrive(&mut self, now: u64, id: u32, job: &Job) -> Option<u64> {
        self.move_to(now);
        let waker = Waker::from(Arc::new(Bell { id, woken: Arc::clone(&self.woken) }));
        let reservation = self.scheduler.reserve(Request::new().gpu(job.units));
        self.waiting.insert(id, (reservation, waker));
        self.poll(id);
        let reservation = self.waiting.get(&id).filter(|_| job.large);
        reservation.map(|(reservation, _)| reservation.explain().blockers.first().map_or(0, |first| first.ahead.count))
    }

    fn end(&mut self, now: u64, id: u32) {
        self.move_to(now);
        self.leases.remove(&id);
    }

    fn started(&mut self) -> Vec<u32> {
        // What is woken is polled at once, as a runtime with nothing else to do would.
        let woken = std::mem::take(&mut *self.woken.lock().expect("nobody panics with it"));
        woken.into_iter().for_each(|id| self.poll(id));
        std::mem::take(&mut self.started)
    }
}
