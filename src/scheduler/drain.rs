//! Waiting for the last lease to end.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::core::Core;
use super::wake::Wakes;

/// Those that wait for the last lease to end.
#[derive(Debug, Default)]
pub(super) struct Drains {
    wakers: BTreeMap<u64, Waker>,
    last: u64,
}

impl Drains {
    /// Wakes all of them; each says so again if it has to go on waiting.
    pub(super) fn wake(&mut self, wakes: &mut Wakes) {
        std::mem::take(&mut self.wakers).into_values().for_each(|waker| wakes.push(waker));
    }
}

/// Ends when no lease is left but those that were forgotten.
///
/// Its scheduler has to be alive as long as this is, so that the core is its own.
pub(super) struct Drain {
    core: &'static Core,
    /// Its number among the drains, once it waits.
    number: Option<u64>,
}

impl Drain {
    pub(super) fn new(core: &'static Core) -> Self {
        Drain { core, number: None }
    }
}

impl Future for Drain {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Cloned before the lock is taken: a clone runs code of whoever made the waker.
        let waker = cx.waker().clone();
        let this = &mut *self;
        this.core.turn(|desk, turn, wakes| {
            if turn.books.leases() == desk.sink.forgotten() {
                wakes.discard(Some(waker));
                return Poll::Ready(());
            }
            let drains = &mut desk.drains;
            let number = *this.number.get_or_insert_with(|| {
                drains.last += 1;
                drains.last
            });
            wakes.discard(drains.wakers.insert(number, waker));
            Poll::Pending
        })
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut wakes = Wakes::default();
            let waker = self.core.desk.lock().drains.wakers.remove(&number);
            wakes.discard(waker);
        }
    }
}
