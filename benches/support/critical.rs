//! An urgent request on a budget that very many with time to spare wait for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bursar::{Lease, Priority, Request, Reservation, Scheduler};

/// A budget of one unit that is held, and a crowd that waits for it.
pub struct Crowd {
    scheduler: Scheduler,
    held: Option<Lease>,
    /// Kept, or they would not wait.
    _idle: Vec<Pin<Box<Reservation>>>,
}

impl Crowd {
    /// A crowd of so many. Has to be made in a runtime.
    pub fn new(waiters: usize) -> Self {
        let scheduler = Scheduler::builder().gpu(1u64).spawn().expect("a plain configuration");
        let held = scheduler.try_reserve(Request::new().gpu(1u64)).expect("nobody has it");
        let idle = (0..waiters).map(|_| wait(&scheduler, Priority::Idle)).collect();
        Crowd { scheduler, held: Some(held), _idle: idle }
    }

    /// A CRITICAL request that has to wait, the release that serves it, and its taking up.
    pub fn pass(&mut self) {
        let mut critical = wait(&self.scheduler, Priority::Critical);
        self.held = None;
        let Poll::Ready(lease) = poll(&mut critical) else { panic!("it is not served first") };
        self.held = Some(lease.expect("no deadline"));
    }
}

fn poll(reservation: &mut Pin<Box<Reservation>>) -> Poll<<Reservation as Future>::Output> {
    reservation.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn wait(scheduler: &Scheduler, level: Priority) -> Pin<Box<Reservation>> {
    let mut reservation = Box::pin(scheduler.reserve(Request::new().gpu(1u64).priority(level)));
    assert!(poll(&mut reservation).is_pending());
    reservation
}
