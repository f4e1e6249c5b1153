//! Seams to the outside: locks, atomics and the clock. The only place that knows whether it runs under a model checker.

mod clock;
mod short;
pub(crate) mod sync;

pub(crate) use clock::{Clock, Here};
pub(crate) use short::Short;
