#![doc = include_str!("../README.md")]
// Allowed block by block in `memory`, which deals with drivers and raw memory; `tests/layers.rs` holds that.
#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]
#![warn(missing_docs, missing_debug_implementations)]
// The engine and what it stands on are public to simulations and models, and to nobody else.
#![cfg_attr(feature = "test-util", warn(unreachable_pub))]

mod adapters;
#[doc = include_str!("coming_from_rros.md")]
pub mod coming_from_rros {}
mod engine;
mod ledger;
pub mod memory;
mod model;
mod observe;
mod policy;
mod pressure;
mod rt;
mod scheduler;
pub mod tasks;
pub mod tiered;

#[cfg(feature = "inspect")]
pub use adapters::inspect;
#[cfg(feature = "metrics")]
pub use adapters::metrics::MetricsExporter;
pub use model::*;
pub use scheduler::{
    Builder, Driver, ExternalWait, Growth, Lease, MergeError, Module, ModuleBuilder, Period, Reservation, Revoked,
    Scheduler, WeakScheduler,
};

/// The engine, the books and a hand-driven clock, for simulations and models. Not covered by semver.
#[cfg(any(feature = "test-util", bursar_loom))]
#[doc(hidden)]
pub mod internals {
    pub use crate::engine::*;
    pub use crate::ledger::{Board, Books, Bucket, Held, Posted};
    pub use crate::policy::Rank;
    pub use crate::scheduler::HandClock;
}
