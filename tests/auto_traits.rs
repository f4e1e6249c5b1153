//! What may cross threads: one line for every public type, and a test that no public type is left out.

use bursar::*;
use futures::future::FusedFuture;
use static_assertions::{assert_impl_all, assert_not_impl_any};

/// All public types, so that adding one without a line here is noticed.
macro_rules! plain {
    ($($type:ty),+ $(,)?) => { $(
        assert_impl_all!($type: Send, Sync, Unpin);
        const _: () = lives_as_long_as_it_likes::<$type>();
    )+ };
}

const fn lives_as_long_as_it_likes<T: 'static>() {}

// The shell.
plain!(Scheduler, WeakScheduler, Builder, Reservation, Lease, Driver, Holder, MergeError, Activity, ExternalWait);
plain!(Growth<'static>, Module, Quota, ModuleError, ModuleBuilder);
assert_impl_all!(Scheduler: Clone, std::fmt::Debug);
assert_impl_all!(WeakScheduler: Clone, std::fmt::Debug);
assert_impl_all!(Reservation: Future<Output = Result<Lease, ReserveError>>, FusedFuture, std::fmt::Debug);
assert_impl_all!(Growth<'static>: Future<Output = Result<(), ReserveError>>, std::fmt::Debug);
assert_impl_all!(Activity: Clone, Eq, std::fmt::Debug);
assert_impl_all!(Driver: Future<Output = ()>, std::fmt::Debug);
assert_impl_all!(Builder: Clone, Default, std::fmt::Debug);
// A wait that could be cloned would end twice.
assert_not_impl_any!(ExternalWait: Clone, Copy, Default);
// A lease that could be cloned would be freed twice.
assert_not_impl_any!(Lease: Clone, Copy, Default);
assert_not_impl_any!(Reservation: Clone, Copy);

// Amounts, names and requests.
plain!(Amounts, Bytes, Share, Unit, BudgetId, BudgetKind, SpaceId, Tier, Priority, Request);
plain!(Path, Tag, Alternative, Terms);
assert_impl_all!(Request: Clone, Default, std::fmt::Debug);
assert_impl_all!(Amounts: Clone, Default, Eq, std::fmt::Debug);
assert_impl_all!(BudgetId: Copy, Ord, std::hash::Hash, std::fmt::Display);
assert_impl_all!(Path: Copy, Eq, Default, std::fmt::Debug);
assert_impl_all!(Order: Copy, Eq, Default, std::fmt::Debug);
assert_impl_all!(Priority: Copy, Ord, std::hash::Hash, std::fmt::Display, Default);

// Being asked to end.
plain!(Revoked<'static>, Revocation, Seniority);
assert_impl_all!(Revoked<'static>: Future<Output = Revocation>, std::fmt::Debug);

// Configuration and figures.
plain!(Config, Order, Budget, Supply, Machine, Stats, BudgetStats, LevelStats, WaitSummary, Usage);
plain!(Snapshot, Section, Figure, FigureKind, ModuleStats, ModuleShare, Period);
assert_impl_all!(dyn Figures: Send, Sync);
#[cfg(feature = "metrics")]
plain!(MetricsExporter);
assert_impl_all!(Config: Clone, Eq, std::fmt::Debug);
assert_impl_all!(Stats: Clone, Eq, std::fmt::Display);

// What is shown.
plain!(Snapshot, Period, Usage, ModuleStats, ModuleShare, Section, Figure, FigureKind, Box<dyn Figures>);
assert_impl_all!(Snapshot: Clone, std::fmt::Display);

// Where memory is taken.
plain!(Placement, Topology, Distance, PlacementError);
assert_impl_all!(PlacementError: std::error::Error, Clone, Eq);

// Modules.
plain!(Module, ModuleBuilder, ModuleError, Quota);
assert_impl_all!(ModuleError: std::error::Error, Clone, Eq);
// A module that could be cloned would be deregistered twice.
assert_not_impl_any!(Module: Clone, Copy, Default);

// Why somebody waits.
plain!(Explanation, Blocker, Ahead, Holding, Next, Cause, WaitState, Ending);
assert_impl_all!(Explanation: Clone, Eq, std::fmt::Display);

// Memory.
plain!(memory::BlockId, memory::SpaceError, memory::Stream, memory::SimulatedDevice, memory::HostSpace);
plain!(memory::HostBlock, memory::HeapSource, memory::HeapSlab, memory::StreamPool, memory::StreamLease);
plain!(memory::Pool<memory::HeapSource>, memory::PoolBlock<memory::HeapSource>, memory::PoolConfig, memory::PoolUsage);
plain!(memory::PoolFigures<memory::HeapSource>);
plain!(memory::SourceError, memory::NumaError);
assert_impl_all!(memory::NumaError: std::error::Error, Clone, Eq);
#[cfg(unix)]
plain!(memory::DiskSpace, memory::DiskBlock, memory::DiskConfig, memory::Durability);
#[cfg(feature = "cuda")]
plain!(
    memory::CudaSpace,
    memory::CudaConfig,
    memory::CudaDevice,
    memory::CudaError,
    memory::CudaPin,
    memory::CudaSource
);
#[cfg(feature = "cuda")]
plain!(
    memory::DeviceBlock,
    memory::DeviceView<'static, f32>,
    memory::DeviceEvent,
    memory::DeviceSlab,
    memory::ViewError
);
#[cfg(feature = "cuda")]
assert_impl_all!(memory::ViewError: std::error::Error, Clone, Eq);
#[cfg(feature = "cuda")]
assert_not_impl_any!(memory::DeviceView<'static>: Clone, Copy, Default);
assert_impl_all!(memory::SpaceError: std::error::Error, Clone, Eq);
// Memory that could be cloned would be freed twice.
assert_not_impl_any!(memory::HostBlock: Clone, Copy, Default);
assert_not_impl_any!(memory::PoolBlock<memory::HeapSource>: Clone, Copy, Default);
assert_not_impl_any!(memory::StreamLease: Clone, Copy, Default);
assert_impl_all!(dyn memory::Space: Send, Sync);

// Memory inside leases.
plain!(
    tiered::Tiers,
    tiered::TiersBuilder,
    tiered::MemoryLease,
    tiered::Block,
    tiered::InFlight,
    tiered::Transfer<'static>
);
plain!(tiered::DeviceBlock, tiered::HostBlock, tiered::DiskBlock, tiered::Anywhere, tiered::Device, tiered::Host);
plain!(tiered::Disk, tiered::Progress, tiered::OverUse, tiered::LeaseUsage, tiered::SpaceUsage, tiered::StreamUsage);
plain!(tiered::AllocateError, tiered::CopyError, tiered::CopyFault, tiered::ForeignLease, tiered::TiersError);
plain!(memory::BlockSize);
assert_impl_all!(tiered::Tiers: Clone, std::fmt::Debug);
assert_impl_all!(tiered::AllocateError: std::error::Error, Clone, Eq);
assert_impl_all!(tiered::CopyError: std::error::Error, Clone, Eq);
assert_impl_all!(tiered::ForeignLease: std::error::Error);
assert_impl_all!(memory::Remains: Send);
assert_impl_all!(dyn tiered::Relief: Send, Sync);
// Memory that could be cloned would be freed twice.
assert_not_impl_any!(tiered::Block: Clone, Copy, Default);
assert_not_impl_any!(tiered::InFlight: Clone, Copy, Default);
assert_not_impl_any!(tiered::MemoryLease: Clone, Copy, Default);

// Errors.
plain!(AmountError, CapacityError, CloseReason, ConfigError, LeaseError, RequestError, ReserveError, Shortage);
plain!(TryReserveError, VerifyError);
assert_impl_all!(ReserveError: std::error::Error, Clone, Eq);
assert_impl_all!(TryReserveError: std::error::Error, Clone, Eq);
assert_impl_all!(RequestError: std::error::Error, Clone, Eq);
assert_impl_all!(LeaseError: std::error::Error, Clone, Eq);
assert_impl_all!(CapacityError: std::error::Error, Clone, Eq);
assert_impl_all!(ConfigError: std::error::Error, Clone, Eq);
assert_impl_all!(VerifyError: std::error::Error, Clone, Eq);
assert_impl_all!(AmountError: std::error::Error, Clone, Eq);
assert_impl_all!(MergeError: std::error::Error);

// Tasks.
use bursar::tasks::*;
plain!(TaskStats, TaskError, TaskState, TaskReport, TaskContext, Progress, Retry);
plain!(TaskHandle<std::cell::Cell<u8>>);
assert_impl_all!(TaskHandle<u8>: Future<Output = Result<u8, TaskError>>, std::fmt::Debug);
plain!(Job<u8>, JobHandle<u8>, Dispatcher<u8, u8>, DispatcherBuilder, DispatcherStats, WorkerStats, OnLeave);
plain!(WorkerBuilder<u8, u8>, WorkerHandle<u8, u8>);
plain!(balance::Balancer, balance::Policy, balance::Worker, balance::Job, balance::State, balance::Service);
assert_impl_all!(JobHandle<u8>: Future<Output = Result<u8, TaskError>>, std::fmt::Debug);
assert_impl_all!(Dispatcher<u8, u8>: Clone, std::fmt::Debug);
// A worker that could be cloned would leave twice.
assert_not_impl_any!(WorkerHandle<u8, u8>: Clone, Copy);
assert_impl_all!(Task<u8>: Send, Unpin, std::fmt::Debug);
assert_impl_all!(TaskError: std::error::Error, Clone);
// Two handles would both want the result, two contexts the lease.
assert_not_impl_any!(TaskHandle<u8>: Clone, Copy);
assert_not_impl_any!(TaskContext: Clone, Copy);

#[test]
fn every_public_type_is_in_the_table() {
    let here = include_str!("auto_traits.rs");
    let lines = here.split("plain!(").skip(1).filter_map(|rest| rest.split(");").next());
    let listed: Vec<&str> = lines.flat_map(words).collect();
    let sources = [
        include_str!("../src/lib.rs"),
        include_str!("../src/model/mod.rs"),
        include_str!("../src/memory/mod.rs"),
        include_str!("../src/tiered/mod.rs"),
    ];
    for source in sources {
        // What the hidden module of simulations and models re-exports is not public.
        let public = source.split("pub mod internals").next().unwrap_or_default();
        for exported in public.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next()) {
            let types = words(exported).filter(|word| word.chars().any(char::is_lowercase));
            // Traits have no line: they are what a type may be, not what it is.
            let traits = ["DeviceElement", "Figures", "InTier", "PagePin", "Relief", "Slab", "Source"];
            for name in types.filter(|word| word.starts_with(char::is_uppercase) && !traits.contains(word)) {
                assert!(listed.contains(&name), "{name} is public and has no line in this table");
            }
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[test]
fn the_futures_of_the_shell_may_be_spawned_on_any_runtime() {
    fn sendable<T: Send + 'static>(_: T) {}
    let (scheduler, driver) = Scheduler::builder().gpu(1u64).build().unwrap();
    sendable(driver);
    sendable(scheduler.reserve(Request::new().gpu(1u64)));
    sendable(async move { scheduler.shutdown().await.map(drop) });
}
