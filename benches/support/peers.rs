//! The peers and bursar behind one face: acquire, hold, release by drop.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bursar::{Budget, BudgetId, Lease, Priority, Request, Scheduler};
use futures_intrusive::sync::{Semaphore as Intrusive, SemaphoreReleaser};
use priority_semaphore::{Permit, PrioritySemaphore};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// What one operation asks for.
#[derive(Clone, Copy)]
pub struct Ask {
    pub units: u32,
    pub level: Priority,
}

impl Ask {
    pub const ONE: Ask = Ask { units: 1, level: Priority::Normal };
}

/// A limiter under test.
pub trait Peer: Send + Sync + 'static {
    type Guard<'a>: Send;
    fn acquire(&self, ask: Ask) -> impl Future<Output = Self::Guard<'_>> + Send;
}

/// Something to be done with every peer of a list.
pub trait Visit {
    /// `open` makes a peer with some capacity, inside a runtime.
    fn visit<P: Peer>(&mut self, name: &'static str, open: fn(u64) -> P);
}

pub const TOKIO: &str = "tokio acquire_many";
pub const TOKIO_OWNED: &str = "tokio acquire_many_owned";
pub const PRIORITY: &str = "priority-semaphore";
pub const INTRUSIVE: &str = "futures-intrusive, fair";
pub const BURSAR: &str = "bursar reserve";
pub const BURSAR_CLONED: &str = "bursar reserve, cloned request";
pub const TOKIO_4: &str = "4 x tokio acquire_many";
pub const TOKIO_OWNED_4: &str = "4 x tokio acquire_many_owned";
pub const PRIORITY_4: &str = "4 x priority-semaphore";
pub const INTRUSIVE_4: &str = "4 x futures-intrusive, fair";
pub const MUTEX_NOTIFY: &str = "Mutex<[u64; 4]> + Notify";
pub const BURSAR_4: &str = "bursar reserve of four";
pub const BURSAR_CLONED_4: &str = "bursar reserve of four, cloned request";

/// Everything that limits one budget.
pub fn one_budget(visit: &mut impl Visit) {
    visit.visit(TOKIO, Tokio::<1>::open);
    visit.visit(TOKIO_OWNED, TokioOwned::<1>::open);
    visit.visit("tokio try_acquire_many", TokioTry::open);
    visit.visit(PRIORITY, Prioritised::<1>::open);
    visit.visit(INTRUSIVE, Intrusives::<1>::open);
    visit.visit(BURSAR, Bursar::open);
    visit.visit(BURSAR_CLONED, BursarCloned::one);
    visit.visit("bursar try_reserve", BursarTry::open);
}

/// Everything that limits four budgets at once, or one after the other.
pub fn four_budgets(visit: &mut impl Visit) {
    visit.visit(TOKIO_4, Tokio::<4>::open);
    visit.visit(TOKIO_OWNED_4, TokioOwned::<4>::open);
    visit.visit(PRIORITY_4, Prioritised::<4>::open);
    visit.visit(INTRUSIVE_4, Intrusives::<4>::open);
    visit.visit(MUTEX_NOTIFY, MutexNotify::open);
    visit.visit(BURSAR_4, BursarBundle::open);
    visit.visit(BURSAR_CLONED_4, BursarCloned::four);
}

/// What a peer answered, which is a grant as long as nobody closes it.
fn granted<T, E: std::fmt::Debug>(answer: Result<T, E>) -> T {
    answer.expect("no peer is closed or exhausted while it is measured")
}

/// Chained tokio semaphores, borrowed permits.
pub struct Tokio<const N: usize>([Semaphore; N]);

impl<const N: usize> Tokio<N> {
    pub fn open(capacity: u64) -> Self {
        Tokio(std::array::from_fn(|_| Semaphore::new(capacity as usize)))
    }
}

impl Peer for Tokio<1> {
    type Guard<'a> = SemaphorePermit<'a>;
    async fn acquire(&self, ask: Ask) -> SemaphorePermit<'_> {
        granted(self.0[0].acquire_many(ask.units).await)
    }
}

impl Peer for Tokio<4> {
    type Guard<'a> = [SemaphorePermit<'a>; 4];
    async fn acquire(&self, ask: Ask) -> Self::Guard<'_> {
        let [a, b, c, d] = &self.0;
        let a = granted(a.acquire_many(ask.units).await);
        let b = granted(b.acquire_many(ask.units).await);
        let c = granted(c.acquire_many(ask.units).await);
        [a, b, c, granted(d.acquire_many(ask.units).await)]
    }
}

/// Chained tokio semaphores, owned permits.
pub struct TokioOwned<const N: usize>([Arc<Semaphore>; N]);

impl<const N: usize> TokioOwned<N> {
    pub fn open(capacity: u64) -> Self {
        TokioOwned(std::array::from_fn(|_| Arc::new(Semaphore::new(capacity as usize))))
    }
}

impl Peer for TokioOwned<1> {
    type Guard<'a> = OwnedSemaphorePermit;
    async fn acquire(&self, ask: Ask) -> OwnedSemaphorePermit {
        granted(Arc::clone(&self.0[0]).acquire_many_owned(ask.units).await)
    }
}

impl Peer for TokioOwned<4> {
    type Guard<'a> = [OwnedSemaphorePermit; 4];
    async fn acquire(&self, ask: Ask) -> Self::Guard<'_> {
        let [a, b, c, d] = &self.0;
        let a = granted(Arc::clone(a).acquire_many_owned(ask.units).await);
        let b = granted(Arc::clone(b).acquire_many_owned(ask.units).await);
        let c = granted(Arc::clone(c).acquire_many_owned(ask.units).await);
        [a, b, c, granted(Arc::clone(d).acquire_many_owned(ask.units).await)]
    }
}

/// Tokio's attempt that does not wait.
pub struct TokioTry(Semaphore);

impl TokioTry {
    pub fn open(capacity: u64) -> Self {
        TokioTry(Semaphore::new(capacity as usize))
    }
}

impl Peer for TokioTry {
    type Guard<'a> = SemaphorePermit<'a>;
    async fn acquire(&self, ask: Ask) -> SemaphorePermit<'_> {
        granted(self.0.try_acquire_many(ask.units))
    }
}

/// Chained priority-semaphores. It has no weights: an operation takes one permit.
pub struct Prioritised<const N: usize>([Arc<PrioritySemaphore>; N]);

impl<const N: usize> Prioritised<N> {
    pub fn open(capacity: u64) -> Self {
        Prioritised(std::array::from_fn(|_| Arc::new(PrioritySemaphore::new(capacity as usize))))
    }
}

/// Larger is more urgent there.
pub fn inverted(level: Priority) -> i32 {
    -(level.index() as i32)
}

impl Peer for Prioritised<1> {
    type Guard<'a> = Permit;
    async fn acquire(&self, ask: Ask) -> Permit {
        granted(self.0[0].acquire(inverted(ask.level)).await)
    }
}

impl Peer for Prioritised<4> {
    type Guard<'a> = [Permit; 4];
    async fn acquire(&self, ask: Ask) -> Self::Guard<'_> {
        let [a, b, c, d] = &self.0;
        let level = inverted(ask.level);
        let a = granted(a.acquire(level).await);
        let b = granted(b.acquire(level).await);
        let c = granted(c.acquire(level).await);
        [a, b, c, granted(d.acquire(level).await)]
    }
}

/// Chained semaphores of futures-intrusive, in their fair form.
pub struct Intrusives<const N: usize>([Intrusive; N]);

impl<const N: usize> Intrusives<N> {
    pub fn open(capacity: u64) -> Self {
        Intrusives(std::array::from_fn(|_| Intrusive::new(true, capacity as usize)))
    }
}

impl Peer for Intrusives<1> {
    type Guard<'a> = SemaphoreReleaser<'a>;
    async fn acquire(&self, ask: Ask) -> SemaphoreReleaser<'_> {
        self.0[0].acquire(ask.units as usize).await
    }
}

impl Peer for Intrusives<4> {
    type Guard<'a> = [SemaphoreReleaser<'a>; 4];
    async fn acquire(&self, ask: Ask) -> Self::Guard<'_> {
        let [a, b, c, d] = &self.0;
        let units = ask.units as usize;
        [a.acquire(units).await, b.acquire(units).await, c.acquire(units).await, d.acquire(units).await]
    }
}

/// The usual way to take a bundle at once by hand: counters under a mutex, and everybody looks again at every release.
pub struct MutexNotify {
    free: parking_lot::Mutex<[u64; 4]>,
    changed: Notify,
}

pub struct Counted<'a> {
    of: &'a MutexNotify,
    units: u64,
}

impl MutexNotify {
    pub fn open(capacity: u64) -> Self {
        MutexNotify { free: parking_lot::Mutex::new([capacity; 4]), changed: Notify::new() }
    }

    fn take(&self, units: u64) -> bool {
        let mut free = self.free.lock();
        let fits = free.iter().all(|free| *free >= units);
        if fits {
            free.iter_mut().for_each(|free| *free -= units);
        }
        fits
    }
}

impl Peer for MutexNotify {
    type Guard<'a> = Counted<'a>;
    async fn acquire(&self, ask: Ask) -> Counted<'_> {
        let units = u64::from(ask.units);
        if !self.take(units) {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if self.take(units) {
                    break;
                }
                changed.await;
            }
        }
        Counted { of: self, units }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.of.free.lock().iter_mut().for_each(|free| *free += self.units);
        self.of.changed.notify_waiters();
    }
}

/// A scheduler with four loans of the same size.
pub fn scheduler(capacity: u64) -> Scheduler {
    let builder = Scheduler::builder().gpu(capacity).host(capacity).compute(capacity);
    granted(builder.budget(Budget::loan(BudgetId::DISK, capacity)).spawn())
}

/// bursar, one budget; the request is made for every operation.
pub struct Bursar(Scheduler);

impl Bursar {
    pub fn open(capacity: u64) -> Self {
        Bursar(scheduler(capacity))
    }
}

impl Peer for Bursar {
    type Guard<'a> = Lease;
    async fn acquire(&self, ask: Ask) -> Lease {
        granted(self.0.reserve(Request::new().gpu(u64::from(ask.units)).priority(ask.level)).await)
    }
}

/// bursar, four budgets at once; the request is made for every operation.
pub struct BursarBundle(Scheduler);

impl BursarBundle {
    pub fn open(capacity: u64) -> Self {
        BursarBundle(scheduler(capacity))
    }
}

impl Peer for BursarBundle {
    type Guard<'a> = Lease;
    async fn acquire(&self, ask: Ask) -> Lease {
        let units = u64::from(ask.units);
        let request = Request::new().gpu(units).host(units).disk(units).compute(units);
        granted(self.0.reserve(request.priority(ask.level)).await)
    }
}

/// bursar with a request that was made once and is cloned for every operation.
pub struct BursarCloned {
    scheduler: Scheduler,
    request: Request,
}

impl BursarCloned {
    pub fn one(capacity: u64) -> Self {
        BursarCloned { scheduler: scheduler(capacity), request: Request::new().gpu(1u64) }
    }

    pub fn four(capacity: u64) -> Self {
        let request = Request::new().gpu(1u64).host(1u64).disk(1u64).compute(1);
        BursarCloned { scheduler: scheduler(capacity), request }
    }
}

impl Peer for BursarCloned {
    type Guard<'a> = Lease;
    async fn acquire(&self, _: Ask) -> Lease {
        granted(self.scheduler.reserve(self.request.clone()).await)
    }
}

/// bursar's attempt that does not wait.
pub struct BursarTry(Scheduler);

impl BursarTry {
    pub fn open(capacity: u64) -> Self {
        BursarTry(scheduler(capacity))
    }
}

impl Peer for BursarTry {
    type Guard<'a> = Lease;
    async fn acquire(&self, ask: Ask) -> Lease {
        granted(self.0.try_reserve(Request::new().gpu(u64::from(ask.units)).priority(ask.level)))
    }
}
