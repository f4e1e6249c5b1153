//! Who holds and waits as one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A query, a task, a session: something whose leases and reservations belong together, because it gives nothing back
/// while it waits for more.
///
/// A scheduler that knows this can tell when everybody who could free what is awaited is waiting itself, and then tells
/// one of them to [roll back](crate::ReserveError::RolledBack) or to [split](crate::ReserveError::Split) instead of
/// leaving all of them parked for ever. Leases without an activity are taken to end by themselves; one that
/// [grows](crate::Lease::grow) becomes an activity of its own, and what is [split](crate::Lease::split) off it is not
/// part of that.
///
/// ```
/// use bursar::{Activity, Request};
///
/// let query = Activity::new("query 17");
/// let request = Request::new().gpu(1_000u64).activity(&query);
/// # let _ = request;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Activity {
    id: u64,
    name: Arc<str>,
}

/// Set in the numbers of activities that nobody has declared.
pub(crate) const UNDECLARED: u64 = 1 << 63;

/// Set in the numbers of activities where only the scope of a task says that something belongs to them.
pub(crate) const IMPLIED: u64 = 1 << 62;

impl Activity {
    /// Another one. The name is for errors and reports.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Activity { id: Activity::next_id(), name: name.into() }
    }

    /// Numbers never come twice in a process; zero is none.
    fn next_id() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number of an activity that nobody has declared: that of one lease, see [`Tag::is_declared`].
    pub(crate) fn undeclared_id() -> u64 {
        Self::next_id() | UNDECLARED
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Activity").field(&self.name).finish()
    }
}
