//! What happened, as figures. One sink takes every effect of the engine; it never decides anything.
//!
//! The sink lies below the scheduler, which feeds it under its lock: recording is a few plain increments. Grants that
//! did not wait never come here; the books count them.

mod console;
mod sink;
mod tasks;
mod times;
mod usage;

pub(crate) use console::{Asking, Console, Figures, Sampler, TaskRow, spawn};
pub(crate) use sink::Sink;
pub(crate) use tasks::{Running, TaskCounters, TaskEnd};
pub(crate) use times::{Times, summary};
pub(crate) use usage::Gauge;
