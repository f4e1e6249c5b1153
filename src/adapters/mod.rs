//! Adapters to other libraries, each a leaf behind its feature.

#[cfg(feature = "inspect")]
pub mod inspect;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
