//! What other processes leave of a device or a disk.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::lock;
use super::shared::{Entry, Shared};
use super::tiers::Tiers;
use crate::memory::{SpaceError, offload};
use crate::model::SpaceId;
use crate::scheduler::Scheduler;

impl Tiers {
    /// Looks once how much of every space others leave, and lets its budget lend that much less: the capacity is the
    /// smaller of what was configured and of what is found ([`Space::probe`](crate::memory::Space::probe)), and what
    /// the budget [does not lend](crate::Budget::reservation_limit) stays as it was. When the others give it back it is
    /// lent again. Returns the spaces that could not be asked, and why; their budgets stay, but that of a space that is
    /// lost lends nothing any more.
    ///
    /// The budget changes as by [`Scheduler::set_capacity`]: leases keep what they have, nothing is granted until
    /// enough has come back, and a request for more than the budget then has ends with an error. A capacity that was
    /// set by hand stays until what is found changes.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each budget as it was or as it is to be.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use bursar::memory::SimulatedDevice;
    /// use bursar::tiered::Tiers;
    /// use bursar::{MIB, Request, Scheduler, SpaceId, Tier};
    ///
    /// let scheduler = Scheduler::builder().gpu(64 * MIB).spawn()?;
    /// let gpu = Arc::new(SimulatedDevice::new(SpaceId { tier: Tier::Gpu, index: 0 }, 64 * MIB));
    /// let tiers = Tiers::builder().shared_space(gpu.clone()).build(&scheduler)?;
    /// gpu.used_by_others(24 * MIB);
    /// assert!(tiers.sample().await.is_empty());
    /// assert!(scheduler.try_reserve(Request::new().gpu(41 * MIB)).is_err());
    /// assert!(scheduler.try_reserve(Request::new().gpu(40 * MIB)).is_ok());
    /// # Ok(()) }
    /// ```
    pub async fn sample(&self) -> Vec<(SpaceId, SpaceError)> {
        sample(Arc::clone(&self.shared)).await
    }

    /// [Samples](Tiers::sample) every so often, beginning at once, until the last handle, lease and block of these
    /// tiers is gone. A future to be spawned; needs tokio's timer. What cannot be asked is a line in the log (target
    /// `bursar::sample`) when that begins.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # fn doc(tiers: bursar::tiered::Tiers) {
    /// tokio::spawn(tiers.keep_sampled(Duration::from_millis(100)));
    /// # }
    /// ```
    pub fn keep_sampled(&self, every: Duration) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::downgrade(&self.shared);
        async move {
            let mut known = Vec::new();
            while let Some(shared) = shared.upgrade() {
                let failed = sample(shared).await;
                for (space, error) in failed.iter().filter(|failed| !known.contains(*failed)) {
                    tracing::warn!(target: "bursar::sample", %space, %error, "what others use of it is not known");
                }
                known = failed;
                tokio::time::sleep(every).await;
            }
        }
    }
}

async fn sample(shared: Arc<Shared>) -> Vec<(SpaceId, SpaceError)> {
    let all: Vec<SpaceId> = shared.entries.iter().map(|entry| entry.id).collect();
    let look = move || {
        let entries = shared.entries.iter();
        entries.filter_map(|entry| Some((entry.id, entry.sample(&shared.scheduler).err()?))).collect()
    };
    // Where there is no thread for it, none of them could be asked.
    offload::run(look).await.unwrap_or_else(|why| all.into_iter().map(|id| (id, why.error(id))).collect())
}

impl Entry {
    fn sample(&self, scheduler: &Scheduler) -> Result<(), SpaceError> {
        // Held to the end, so that the later of two looks is the one that stays.
        let mut lent = lock(&self.lent);
        let probed = self.space.probe();
        let lend = match &probed {
            Ok(found) => self.limit.saturating_sub(self.space.capacity().saturating_sub(*found)),
            Err(SpaceError::Lost { .. }) => 0,
            Err(_) => *lent,
        };
        if *lent != lend && scheduler.set_capacity(self.budget, lend).is_ok() {
            *lent = lend;
        }
        probed.map(drop)
    }
}
