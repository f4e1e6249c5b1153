//! Copies that the device is doing: what they read and write is kept until they are done, whoever waits for them.

use std::mem::forget;
use std::sync::mpsc;

use cudarc::driver::result::DriverError;
use tokio::sync::mpsc as channel;

use super::source::DeviceEvent;

/// A copy that is queued on a stream, and what must not go before it is done.
#[derive(Debug)]
pub(super) struct Flight<K> {
    /// Recorded behind the copy.
    event: DeviceEvent,
    /// Taken when it is done.
    keeps: Option<K>,
}

/// The copies of one task, oldest first. One thread that may block waits for all of them; if the task does not care any
/// more it waits all the same, and lets go of what they kept.
#[derive(Debug)]
pub(super) struct Flights<K> {
    queue: mpsc::Sender<Flight<K>>,
    landed: channel::UnboundedReceiver<Result<K, DriverError>>,
    /// What the thread needs, until there is something to wait for.
    idle: Option<Lander<K>>,
    under_way: usize,
}

/// Waits for what comes through one channel, and tells the other.
#[derive(Debug)]
struct Lander<K> {
    queued: mpsc::Receiver<Flight<K>>,
    done: channel::UnboundedSender<Result<K, DriverError>>,
}

impl<K> Flight<K> {
    pub(super) fn new(event: DeviceEvent, keeps: K) -> Self {
        Flight { event, keeps: Some(keeps) }
    }

    /// Waits, and blocks meanwhile. After an error the device may still be at it, as far as anybody knows: what the
    /// copy keeps is kept for ever.
    fn land(&mut self) -> Option<Result<K, DriverError>> {
        let keeps = self.keeps.take()?;
        match self.event.synchronize() {
            Ok(()) => Some(Ok(keeps)),
            Err(error) => {
                forget(keeps);
                Some(Err(error))
            }
        }
    }
}

impl<K> Drop for Flight<K> {
    /// Waits if nobody has, as when a runtime is shut down before it has a thread for that.
    fn drop(&mut self) {
        drop(self.land());
    }
}

impl<K> Lander<K> {
    fn run(self) {
        for mut flight in self.queued {
            // An error here is that nobody wants to know.
            let _ = flight.land().map(|result| self.done.send(result));
        }
    }
}

impl<K: Send + 'static> Flights<K> {
    pub(super) fn new() -> Self {
        let (queue, queued) = mpsc::channel();
        let (done, landed) = channel::unbounded_channel();
        Flights { queue, landed, idle: Some(Lander { queued, done }), under_way: 0 }
    }

    /// How many were not waited for yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Called in a runtime.
    pub(super) fn add(&mut self, flight: Flight<K>) {
        self.under_way += 1;
        // If its thread is gone the flight comes back, and waits as it is dropped.
        drop(self.queue.send(flight));
        if let Some(lander) = self.idle.take() {
            tokio::task::spawn_blocking(|| lander.run());
        }
    }

    /// Waits for the oldest. `None` if there is none, or if the runtime shuts down.
    pub(super) async fn land(&mut self) -> Option<Result<K, DriverError>> {
        if self.under_way == 0 {
            return None;
        }
        self.under_way -= 1;
        self.landed.recv().await
    }

    /// The oldest, if the device is done with it and the thread has noticed.
    pub(super) fn landed(&mut self) -> Option<Result<K, DriverError>> {
        let landed = self.landed.try_recv().ok()?;
        self.under_way -= 1;
        Some(landed)
    }
}
