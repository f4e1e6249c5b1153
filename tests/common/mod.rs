//! What the tests of the shell share: a scheduler whose runtime and driver are moved by hand, and a way to wait on a
//! bare thread.
#![allow(dead_code, reason = "every test file uses a part of it")]

pub mod log;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bursar::{Amounts, Budget, BudgetId, Config, Driver, Lease, Request, Reservation, ReserveError, Scheduler};
use tokio::runtime::Runtime;
use tokio_test::task::{self, Spawn};

pub const GPU: BudgetId = BudgetId::GPU;
pub const HOST: BudgetId = BudgetId::HOST;
pub const DISK: BudgetId = BudgetId::DISK;
pub const IO: BudgetId = BudgetId::IO;

pub const MS: Duration = Duration::from_millis(1);

/// Ten units each of GPU and host memory and of disk.
pub fn three_loans() -> Config {
    [GPU, HOST, DISK].into_iter().fold(Config::new(), |all, id| all.with(Budget::loan(id, 10)))
}

/// A reservation that is polled by hand.
pub type Waiting = Spawn<Reservation>;

pub fn gpu(units: u64) -> Request {
    Request::new().gpu(units)
}

pub fn host(units: u64) -> Request {
    Request::new().host(units)
}

pub fn disk(units: u64) -> Request {
    Request::new().disk(units)
}

pub fn io(units: u64) -> Request {
    Request::new().io(units)
}

pub fn bundle(amounts: &[(BudgetId, u64)]) -> Amounts {
    let mut bundle = Amounts::new();
    amounts.iter().for_each(|&(id, units)| assert!(bundle.add(id, units)));
    bundle
}

pub fn ask(amounts: &[(BudgetId, u64)]) -> Request {
    amounts.iter().fold(Request::new(), |request, &(id, units)| request.amount(id, units))
}

/// Polls a new reservation once; it has to wait.
#[track_caller]
pub fn queued(scheduler: &Scheduler, request: Request) -> Waiting {
    let mut waiting = task::spawn(scheduler.reserve(request));
    match waiting.poll() {
        Poll::Pending => {}
        Poll::Ready(result) => panic!("did not wait: {result:?}"),
    }
    assert!(waiting.is_waiting());
    waiting
}

/// What a reservation ended with, after it was woken.
#[track_caller]
pub fn outcome(waiting: &mut Waiting) -> Result<Lease, ReserveError> {
    assert!(waiting.is_woken(), "it was not woken");
    match waiting.poll() {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("woken for nothing"),
    }
}

/// The lease of a reservation that was woken for it.
#[track_caller]
pub fn granted(waiting: &mut Waiting) -> Lease {
    outcome(waiting).expect("granted")
}

/// A reservation that nobody has woken and that has nothing if it is polled all the same.
#[track_caller]
pub fn assert_waits(waiting: &mut Waiting) {
    assert!(!waiting.is_woken(), "it was woken");
    assert!(waiting.poll().is_pending(), "it ended without being woken");
}

#[track_caller]
pub fn take(scheduler: &Scheduler, request: Request) -> Lease {
    scheduler.try_reserve(request).expect("free")
}

#[track_caller]
pub fn free(scheduler: &Scheduler, id: BudgetId) -> u64 {
    scheduler.stats().budget(id).expect("configured").free
}

/// What a section of the snapshot shows under a name; `None` if there is no such section.
pub fn shown(scheduler: &Scheduler, section: &str) -> Option<BTreeMap<String, u64>> {
    let sections = scheduler.snapshot(0).sections;
    let section = sections.into_iter().find(|known| &*known.name == section)?;
    Some(section.figures.into_iter().map(|figure| (figure.name.into_owned(), figure.value)).collect())
}

/// Nothing waits, nothing is held, the books balance to the unit.
#[track_caller]
pub fn assert_untouched(scheduler: &Scheduler) {
    scheduler.verify().expect("the books balance");
    let stats = scheduler.stats();
    assert_eq!((stats.waiting, stats.offered, stats.leases - stats.forgotten), (0, 0, 0), "{stats}");
    for budget in stats.budgets.iter().filter(|budget| !budget.rate) {
        assert_eq!((budget.free, budget.granted, budget.deficit), (budget.capacity, 0, 0), "{}", budget.name);
        assert_eq!((budget.offered, budget.waiting), (0, 0), "{}", budget.name);
    }
}

/// A scheduler on a runtime with paused time. Nothing runs and no time passes unless the test says so, and nothing
/// is polled on a cooperative budget.
pub struct Rig {
    pub scheduler: Scheduler,
    pub driver: Spawn<Driver>,
    pub runtime: Runtime,
}

impl Rig {
    pub fn new(config: Config) -> Self {
        let runtime = paused();
        let (scheduler, driver) = {
            let _inside = runtime.enter();
            Scheduler::builder().config(config).build().expect("a good configuration")
        };
        let mut rig = Rig { scheduler, driver: task::spawn(driver), runtime };
        rig.poll_driver();
        rig
    }

    /// Loans of GPU and host memory.
    pub fn loans(gpu: u64, host: u64) -> Self {
        Rig::new(Config::new().with(Budget::loan(GPU, gpu)).with(Budget::loan(HOST, host)))
    }

    /// The same, in strict head-of-line order: nobody is ever passed.
    pub fn strict(gpu: u64, host: u64) -> Self {
        let budgets = Config::new().with(Budget::loan(GPU, gpu)).with(Budget::loan(HOST, host));
        Rig::new(Config { bypass_limit: 0, ..budgets })
    }

    /// Lets time pass in one jump, then runs the driver for as long as something wakes it.
    pub fn pass(&mut self, time: Duration) {
        self.jump(time);
        self.run();
    }

    /// Lets time pass without running the driver.
    pub fn jump(&self, time: Duration) {
        self.runtime.block_on(tokio::time::advance(time));
    }

    /// Runs the driver for as long as something wakes it, and counts how often it had to run.
    pub fn run(&mut self) -> u32 {
        let mut turns = 0;
        while self.driver.is_woken() {
            turns += 1;
            assert!(turns < 10_000, "the driver spins");
            if self.poll_driver() {
                break;
            }
        }
        turns
    }

    /// Polls the driver once. Says whether it has finished.
    pub fn poll_driver(&mut self) -> bool {
        let _inside = self.runtime.enter();
        self.driver.poll().is_ready()
    }
}

pub fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on a thread outside every runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Numbers that look random and are the same every time (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// What is done with a waker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Clone,
    Wake,
    Drop,
}

type OnUse = Rc<dyn Fn(Use)>;

thread_local! {
    static ON_USE: RefCell<Option<OnUse>> = const { RefCell::new(None) };
}

/// A waker whose every use on this thread runs `code`, until another one is made here. Such code may do what a caller's
/// waker may do: panic, or call the scheduler.
pub fn waker_with(code: impl Fn(Use) + 'static) -> Waker {
    fn used(how: Use) {
        // A thread that is ending has no code left to run.
        let code = ON_USE.try_with(|code| code.borrow().clone()).ok().flatten();
        if let Some(code) = code {
            code(how);
        }
    }
    static TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            used(Use::Clone);
            RawWaker::new(data, &TABLE)
        },
        |_| used(Use::Wake),
        |_| used(Use::Wake),
        |_| used(Use::Drop),
    );
    ON_USE.set(Some(Rc::new(code)));
    // SAFETY: the functions of the table do not touch the data, and what they touch is the thread's own.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) }
}

/// From now on wakers of [`waker_with`] do nothing on this thread.
pub fn hush_wakers() {
    ON_USE.set(None);
}
