//! Adapters to other libraries, each a leaf behind its feature.

#[cfg(feature = "metrics")]
pub(crate) mod metrics;
