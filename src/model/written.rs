//! How what serde does not know by itself is written.

use std::panic::Location;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::amounts::Amounts;
use super::error::CloseReason;

pub(super) fn text<S: Serializer>(name: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name)
}

pub(super) fn option<S: Serializer>(name: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    name.as_deref().serialize(serializer)
}

pub(super) fn reason<S: Serializer>(reason: &Option<CloseReason>, serializer: S) -> Result<S::Ok, S::Error> {
    match reason {
        Some(reason) => serializer.collect_str(reason),
        None => serializer.serialize_none(),
    }
}

/// From budgets, as they are written in configurations, to units.
pub(super) fn amounts<S: Serializer>(amounts: &Amounts, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(amounts.iter().map(|(id, units)| (id.to_string(), units)))
}

/// The file and line of a place in the code.
pub(super) fn place<S: Serializer>(
    place: &Option<&'static Location<'static>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    place.map(|place| format!("{}:{}", place.file(), place.line())).serialize(serializer)
}
