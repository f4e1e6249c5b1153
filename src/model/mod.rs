//! Plain data: amounts, ids, requests, configuration, errors, and what `stats` shows.
//!
//! Nothing here locks, waits, reads a clock or does I/O.

mod activity;
mod amount;
mod amounts;
mod budget;
mod config;
#[cfg(feature = "serde")]
mod config_file;
mod error;
mod explain;
mod holder;
mod module;
mod order;
mod origin;
mod placement;
mod preemption;
mod priority;
mod request;
mod sentence;
mod snapshot;
mod stats;
mod tasks;
mod terms;
mod usage;
#[cfg(feature = "serde")]
mod written;

pub use activity::Activity;
pub use amount::{Bytes, GIB, KIB, MIB, Share, TIB, Unit};
pub use amounts::Amounts;
pub use budget::{BudgetId, BudgetKind, SpaceId, Tier};
pub(crate) use config::usual;
pub use config::{Budget, Config, Machine, Supply};
pub use error::{
    AmountError, CapacityError, CloseReason, ConfigError, LeaseError, RequestError, ReserveError, Shortage,
    TryReserveError, VerifyError,
};
pub use explain::{Ahead, Blocker, Cause, Ending, Explanation, Holding, Next, WaitState};
pub use holder::Holder;
pub use module::{ModuleError, Quota};
pub use order::Order;
pub use placement::{Distance, Placement, PlacementError, Topology};
pub use preemption::{Revocation, Seniority};
pub use priority::Priority;
pub use request::Request;
pub use snapshot::{Figure, FigureKind, Figures, ModuleShare, ModuleStats, Section, Snapshot};
pub use stats::{BudgetStats, LevelStats, Stats, WaitSummary};
pub use tasks::TaskStats;
pub(crate) use terms::MOST_ALTERNATIVES;
#[doc(hidden)]
pub use terms::{Alternative, Terms};
pub use terms::{Path, Tag};
pub(crate) use usage::SAMPLES;
pub use usage::Usage;
