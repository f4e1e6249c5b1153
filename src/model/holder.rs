//! Who holds something, for those who ask.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::amounts::Amounts;
use super::priority::Priority;

/// A labelled lease that is out, or was forgotten.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Holder {
    /// Its label.
    pub label: Cow<'static, str>,
    /// Its module, if the request named one.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::written::option"))]
    pub module: Option<Arc<str>>,
    /// Its level.
    pub priority: Priority,
    /// What it holds.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::written::amounts"))]
    pub amounts: Amounts,
    /// Whether the lease was forgotten, so that nothing of it will ever come back.
    pub forgotten: bool,
    /// Where in the code its request got its label.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::written::place"))]
    pub made_at: Option<&'static Location<'static>>,
    /// How long it was held when this was asked. A part that was split off is as old as what it was split from.
    pub held_for: Duration,
    /// Smaller is older.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) number: u64,
    /// When it was granted.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) since: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.label)?;
        self.module.as_ref().map_or(Ok(()), |module| write!(f, " of {module}"))?;
        write!(f, " ({}), for {:?}", self.priority, self.held_for)?;
        self.made_at.map_or(Ok(()), |place| write!(f, ", made at {}:{}", place.file(), place.line()))?;
        if self.forgotten { f.write_str(", forgotten: it never comes back") } else { Ok(()) }
    }
}
