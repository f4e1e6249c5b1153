//! Every space that needs no device, with a scheduler whose budget lends a part of it.

#[cfg(unix)]
use std::path::Path;

#[cfg(unix)]
use bursar::memory::{DiskConfig, DiskSpace};
use bursar::memory::{HostSpace, SimulatedDevice, Space};
use bursar::tiered::{Block, LeaseUsage, MemoryLease, OverUse, SpaceUsage, Tiers};
use bursar::{Amounts, Budget, BudgetId, Config, Request, Scheduler, SpaceId, Tier};

/// What the figures of the scenarios are multiplied by, so that blocks of the host's pool are as large as asked.
pub const K: u64 = 16;

pub struct Rig {
    pub scheduler: Scheduler,
    pub tiers: Tiers,
    pub id: SpaceId,
    pub budget: BudgetId,
}

pub const fn space(tier: Tier) -> SpaceId {
    SpaceId { tier, index: 0 }
}

/// A scheduler with one space, of which so much can be reserved.
pub fn rig(space: impl Space + 'static, limit: u64) -> Rig {
    let id = space.id();
    let budget = id.budget().unwrap();
    let config = Config::new().with(Budget::loan(budget, limit));
    let scheduler = Scheduler::builder().config(config).spawn().unwrap();
    let tiers = Tiers::builder().space(space).build(&scheduler).unwrap();
    Rig { scheduler, tiers, id, budget }
}

/// One for every space. Here and below sizes are in units of `K` bytes.
pub async fn rigs(capacity: u64, limit: u64) -> Vec<Rig> {
    let mut rigs = vec![
        rig(SimulatedDevice::new(space(Tier::Gpu), capacity * K), limit * K),
        rig(HostSpace::new(space(Tier::Host), capacity * K), limit * K),
    ];
    #[cfg(unix)]
    rigs.push(rig(disk(capacity * K).await, limit * K));
    rigs
}

/// All of them share a root, and leave nothing in it.
#[cfg(unix)]
pub async fn disk(capacity: u64) -> DiskSpace {
    disk_at("tiered-spaces", capacity).await
}

/// One whose root has a name of its own.
#[cfg(unix)]
pub async fn disk_at(root: &str, capacity: u64) -> DiskSpace {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(root);
    DiskSpace::open(space(Tier::Disk), DiskConfig::new(root, capacity)).await.unwrap()
}

impl Rig {
    pub fn amounts(&self, units: u64) -> Amounts {
        Amounts::of(self.budget, units * K)
    }

    pub fn lease(&self, units: u64, over_use: OverUse) -> MemoryLease {
        let lease = self.scheduler.try_reserve(Request::new().amount(self.budget, units * K)).unwrap();
        self.tiers.attach(lease, over_use).unwrap()
    }

    pub async fn block(&self, lease: &MemoryLease, units: u64) -> Block {
        lease.allocate_in(self.id, units * K).await.unwrap()
    }

    pub fn usage(&self) -> SpaceUsage {
        self.tiers.usage(self.id).unwrap()
    }

    pub fn of(&self, lease: &MemoryLease) -> LeaseUsage {
        lease.usage(self.id)
    }

    /// The total, in units, of which there must be a whole number.
    pub fn total(&self) -> u64 {
        units(self.usage().total)
    }

    /// Nothing is left of anything.
    pub fn assert_untouched(&self) {
        let usage = self.usage();
        assert_eq!((usage.total, usage.reserved, usage.outside), (0, 0, 0), "{}: {usage:?}", self.id);
        assert_eq!((usage.allocated, usage.in_flight, usage.blocks), (0, 0, 0), "{}: {usage:?}", self.id);
        assert!(usage.streams.iter().all(|(_, stream)| stream.allocated == 0));
        assert_eq!(self.tiers.space(self.id).unwrap().used(), 0);
        assert_eq!(self.scheduler.stats().leases, 0);
        self.scheduler.verify().unwrap();
    }
}

pub fn units(bytes: u64) -> u64 {
    assert!(bytes.is_multiple_of(K), "{bytes} bytes are no whole number of units");
    bytes / K
}

/// Frees a block and waits until it is gone, which a file is not at once.
pub async fn gone(block: Block) {
    block.free().await.unwrap();
}
