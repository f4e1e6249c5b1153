//! Copies that the device is doing: what they read and write is kept until they are done, whoever waits for them.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::mem::{forget, replace};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cudarc::driver::result::DriverError;
use tokio::sync::mpsc;

use super::source::DeviceEvent;
use crate::memory::host::{HostBlock, Lent};
use crate::memory::joint::Joint;
use crate::memory::offload;
use crate::memory::staged::Staged;

/// How long it is looked for what is expected soon.
const SOON: Duration = Duration::from_micros(100);

/// A point of a stream.
pub(super) trait Point: Debug + Send + 'static {
    /// Waits until the stream has passed it. Blocks.
    fn synchronize(&self) -> Result<(), DriverError>;
}

/// What must not go before a copy is done.
pub(crate) trait Keep: Send + 'static {
    /// The device failed, and may still be at it, as far as anybody knows: gives up what others wait for, and keeps the
    /// memory for ever.
    fn abandon(self);
}

/// A copy that is queued on a stream, and what must not go before it is done.
#[derive(Debug)]
pub(super) struct Flight<K: Keep, P: Point = DeviceEvent> {
    /// Recorded behind the copy.
    point: P,
    /// Taken when it is done.
    keeps: Option<K>,
}

/// The copies of one task, oldest first. A thread that may block waits for them, and goes when none is left: so it does
/// whether the task waits, has dropped this, or has forgotten it.
#[derive(Debug)]
pub(super) struct Flights<K: Keep, P: Point = DeviceEvent> {
    queue: Arc<Queue<K, P>>,
    done: mpsc::UnboundedSender<Result<K, DriverError>>,
    landed: mpsc::UnboundedReceiver<Result<K, DriverError>>,
    under_way: usize,
}

/// Copies that nobody has waited for, and whether somebody is at it.
type Queue<K, P> = Mutex<(VecDeque<Flight<K, P>>, bool)>;

/// Waits for all there are as it is dropped: on a thread that may block, or, where a runtime has none any more, on
/// whatever thread hears of that.
struct Lander<K: Keep, P: Point> {
    queue: Arc<Queue<K, P>>,
    done: mpsc::UnboundedSender<Result<K, DriverError>>,
}

impl<T: Send + Sync + 'static> Keep for Arc<Joint<T>> {
    fn abandon(self) {
        Joint::abandon(self);
    }
}

impl Keep for Arc<HostBlock> {
    fn abandon(self) {
        forget(self);
    }
}

impl Keep for Arc<Lent> {
    fn abandon(self) {
        Lent::abandon(&self);
    }
}

impl Keep for Staged {
    /// Others wait for its place. They get other memory for it, or are told that there is none.
    fn abandon(self) {
        forget(self.memory);
    }
}

impl<A: Keep, B: Keep> Keep for (A, B) {
    fn abandon(self) {
        self.0.abandon();
        self.1.abandon();
    }
}

impl<K: Keep, P: Point> Flight<K, P> {
    pub(super) fn new(point: P, keeps: K) -> Self {
        Flight { point, keeps: Some(keeps) }
    }

    /// Waits, and blocks meanwhile. After an error nobody can tell when the device is done.
    fn land(&mut self) -> Option<Result<K, DriverError>> {
        let keeps = self.keeps.take()?;
        match self.point.synchronize() {
            Ok(()) => Some(Ok(keeps)),
            Err(error) => {
                keeps.abandon();
                Some(Err(error))
            }
        }
    }
}

impl<K: Keep, P: Point> Drop for Flight<K, P> {
    /// Waits if nobody has.
    fn drop(&mut self) {
        drop(self.land());
    }
}

impl<K: Keep, P: Point> Drop for Lander<K, P> {
    fn drop(&mut self) {
        while let Some(mut flight) = self.next() {
            // An error here is that nobody wants to know.
            let _ = flight.land().map(|result| self.done.send(result));
        }
    }
}

impl<K: Keep, P: Point> Lander<K, P> {
    /// The oldest; if there is none, the next that comes has to call for a thread.
    fn next(&self) -> Option<Flight<K, P>> {
        let (flights, manned) = &mut *lock(&self.queue);
        let next = flights.pop_front();
        *manned = next.is_some();
        next
    }
}

impl<K: Keep, P: Point> Flights<K, P> {
    pub(super) fn new() -> Self {
        let (done, landed) = mpsc::unbounded_channel();
        Flights { queue: Arc::default(), done, landed, under_way: 0 }
    }

    /// How many were not waited for yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn add(&mut self, flight: Flight<K, P>) {
        self.under_way += 1;
        if !self.push(flight) {
            let lander = self.lander();
            // Where there is no thread to be had it is dropped here, so this thread waits.
            offload::detach(|| drop(lander));
        }
    }

    fn lander(&self) -> Lander<K, P> {
        Lander { queue: Arc::clone(&self.queue), done: self.done.clone() }
    }

    /// Whether somebody is at it already.
    fn push(&self, flight: Flight<K, P>) -> bool {
        let (flights, manned) = &mut *lock(&self.queue);
        flights.push_back(flight);
        replace(manned, true)
    }

    /// Waits for the oldest. `None` if there is none.
    pub(super) async fn land(&mut self) -> Option<Result<K, DriverError>> {
        if self.under_way == 0 {
            return None;
        }
        let landed = self.landed.recv().await;
        self.under_way -= 1;
        landed
    }

    /// The same, for one that is expected soon: looks for a while, and lets others of its thread run in between. To be
    /// woken takes some 50 us.
    pub(super) async fn land_soon(&mut self) -> Option<Result<K, DriverError>> {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if let Some(landed) = self.landed() {
                return Some(landed);
            }
            tokio::task::yield_now().await;
        }
        self.land().await
    }

    /// The oldest, if the device is done with it and the thread has noticed.
    pub(super) fn landed(&mut self) -> Option<Result<K, DriverError>> {
        let landed = self.landed.try_recv().ok()?;
        self.under_way -= 1;
        Some(landed)
    }
}

/// What runs under this lock is a push or a pop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
    use std::time::Duration;

    use cudarc::driver::sys::CUresult;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// Passed when the other end is gone; broken when it says so.
    #[derive(Debug)]
    struct Gate(Mutex<Receiver<()>>);

    impl Point for Gate {
        fn synchronize(&self) -> Result<(), DriverError> {
            match lock(&self.0).recv() {
                Ok(()) => Err(DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS)),
                Err(_) => Ok(()),
            }
        }
    }

    impl Keep for i32 {
        fn abandon(self) {}
    }

    impl Keep for Arc<()> {
        fn abandon(self) {
            forget(self);
        }
    }

    fn gate() -> (Sender<()>, Gate) {
        let (open, shut) = channel();
        (open, Gate(Mutex::new(shut)))
    }

    fn runtime() -> Runtime {
        Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime")
    }

    /// A runtime ends when all of its threads have.
    fn ends(runtime: Runtime) -> bool {
        let (alive, ended) = channel::<()>();
        std::thread::spawn(move || {
            let _alive = alive;
            drop(runtime);
        });
        ended.recv_timeout(Duration::from_secs(300)) == Err(RecvTimeoutError::Disconnected)
    }

    #[test]
    fn copies_land_in_their_order_and_each_gives_back_what_it_kept() {
        runtime().block_on(async {
            let mut flights = Flights::new();
            let mut open = Vec::new();
            for number in 0..4 {
                let (sender, gate) = gate();
                open.push(sender);
                flights.add(Flight::new(gate, number));
            }
            assert_eq!((flights.under_way(), flights.landed().is_none()), (4, true));
            drop(open.split_off(2));
            assert!(flights.landed().is_none(), "the first is still under way");
            drop(open);
            for number in 0..4 {
                assert_eq!(flights.land().await, Some(Ok(number)));
            }
            assert_eq!((flights.under_way(), flights.land().await), (0, None));
            // And so do later ones, on whatever thread.
            let (sender, gate) = gate();
            drop(sender);
            flights.add(Flight::new(gate, 5));
            assert_eq!(flights.land().await, Some(Ok(5)));
        });
    }

    #[test]
    fn what_a_copy_keeps_is_kept_until_it_is_done_and_no_thread_stays_dropped_or_forgotten() {
        for forgotten in [false, true] {
            let (runtime, kept) = (runtime(), Arc::new(()));
            let (open, shut) = gate();
            {
                let _inside = runtime.enter();
                let mut flights = Flights::new();
                flights.add(Flight::new(shut, Arc::clone(&kept)));
                if forgotten {
                    forget(flights);
                }
            }
            assert_eq!(Arc::strong_count(&kept), 2);
            drop(open);
            assert!(ends(runtime), "a thread waits for ever");
            // What nobody takes out of a forgotten channel is never dropped; what goes through it is no thread.
            assert_eq!(Arc::strong_count(&kept), if forgotten { 2 } else { 1 });
        }
    }

    #[test]
    fn what_a_device_may_still_be_at_after_an_error_is_never_given_back() {
        let kept = Arc::new(());
        runtime().block_on(async {
            let mut flights = Flights::new();
            let (open, shut) = gate();
            flights.add(Flight::new(shut, Arc::clone(&kept)));
            open.send(()).expect("somebody waits");
            assert!(matches!(flights.land().await, Some(Err(_))));
        });
        assert_eq!(Arc::strong_count(&kept), 2);
    }

    #[test]
    fn outside_of_a_runtime_a_thread_of_its_own_waits_and_whoever_adds_a_copy_does_not() {
        let mut flights = Flights::new();
        for number in 0..2 {
            let (open, shut) = gate();
            flights.add(Flight::new(shut, number));
            assert!(flights.landed().is_none(), "it is under way");
            drop(open);
            let landed = loop {
                match flights.landed() {
                    Some(landed) => break landed,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(landed, Ok(number));
        }
    }

    #[test]
    fn what_comes_after_a_block_that_is_freed_in_flight_comes_when_it_has_landed_or_when_the_device_fails() {
        for fails in [false, true] {
            let (memory, charge) = (Arc::new(()), Arc::new(()));
            let block = Joint::new(Arc::clone(&memory));
            runtime().block_on(async {
                let mut flights = Flights::new();
                let (open, shut) = gate();
                flights.add(Flight::new(shut, Arc::clone(&block)));
                block.freed(&mut || Box::new(Arc::clone(&charge)));
                drop(block);
                assert_eq!((Arc::strong_count(&memory), Arc::strong_count(&charge)), (2, 2));
                if fails {
                    open.send(()).expect("somebody waits");
                }
                drop(open);
                assert_eq!(flights.land().await.map(|landed| landed.is_err()), Some(fails));
            });
            // A device that failed may be at the memory for ever.
            assert_eq!((Arc::strong_count(&memory), Arc::strong_count(&charge)), (1 + usize::from(fails), 1));
        }
    }

    #[test]
    fn a_runtime_without_threads_to_give_is_waited_in_and_nothing_is_lost() {
        let runtime = runtime();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _inside = handle.enter();
        let (open, shut) = gate();
        drop(open);
        let mut flights = Flights::new();
        flights.add(Flight::new(shut, 7));
        assert_eq!(flights.landed(), Some(Ok(7)));
    }
}
