//! The five levels of urgency.

use std::fmt;

/// How urgent a request is. Lower values go first.
///
/// Inside one level, requests are ordered by deadline and then by arrival.
///
/// ```
/// use bursar::Priority;
///
/// assert!(Priority::Critical < Priority::Idle);
/// assert_eq!(Priority::default(), Priority::Normal);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[repr(u8)]
pub enum Priority {
    /// Must be served before everything else: control paths, health checks, aborts.
    Critical = 0,
    /// A person is waiting.
    High = 1,
    /// The usual case.
    #[default]
    Normal = 2,
    /// Work that may take its time.
    Low = 3,
    /// Work that may wait for ever while anything else wants to run.
    Idle = 4,
}

impl Priority {
    /// Number of levels.
    pub const COUNT: usize = 5;

    /// All levels, most urgent first.
    pub const ALL: [Priority; Self::COUNT] =
        [Priority::Critical, Priority::High, Priority::Normal, Priority::Low, Priority::Idle];

    /// Position in [`Priority::ALL`].
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The conventional upper-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Priority::Critical => "CRITICAL",
            Priority::High => "HIGH",
            Priority::Normal => "NORMAL",
            Priority::Low => "LOW",
            Priority::Idle => "IDLE",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
