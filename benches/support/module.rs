//! A module with a quota, for which very many wait.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bursar::{BudgetId, Lease, Module, Request, Reservation, Scheduler};

/// What the quota says.
#[derive(Debug, Clone, Copy)]
pub enum Quota {
    /// The module may have one unit, of many.
    Cap,
    /// One unit is there, which is the minimum of the module.
    Minimum,
}

/// A module that has its one unit, and a crowd that waits for it.
pub struct Waiters {
    module: Module,
    scheduler: Scheduler,
    held: Option<Lease>,
    waiting: VecDeque<Pin<Box<Reservation>>>,
}

impl Waiters {
    /// So many. Has to be made in a runtime.
    pub fn new(quota: Quota, count: usize) -> Self {
        let units = match quota {
            Quota::Cap => 1_000u64,
            Quota::Minimum => 1,
        };
        let scheduler = Scheduler::builder().gpu(units).spawn().expect("a plain configuration");
        let module = scheduler.module("crowded");
        let module = match quota {
            Quota::Cap => module.cap(BudgetId::GPU, 1),
            Quota::Minimum => module.minimum(BudgetId::GPU, 1),
        };
        let module = module.register().expect("it can be kept");
        let held = scheduler.try_reserve(Request::new().gpu(1u64).of(&module)).expect("nobody has it");
        let mut waiters = Waiters { module, scheduler, held: Some(held), waiting: VecDeque::new() };
        (0..count).for_each(|_| waiters.wait());
        waiters
    }

    /// A release, the grant to the first, its taking up, and one who waits in its stead.
    pub fn pass(&mut self) {
        self.held = None;
        let first = self.waiting.pop_front().map(|mut first| poll(&mut first));
        let Some(Poll::Ready(lease)) = first else { panic!("it was not its turn") };
        self.held = Some(lease.expect("no deadline"));
        self.wait();
    }

    fn wait(&mut self) {
        let mut reservation = Box::pin(self.scheduler.reserve(Request::new().gpu(1u64).of(&self.module)));
        assert!(poll(&mut reservation).is_pending());
        self.waiting.push_back(reservation);
    }
}

fn poll(reservation: &mut Pin<Box<Reservation>>) -> Poll<<Reservation as Future>::Output> {
    reservation.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}
