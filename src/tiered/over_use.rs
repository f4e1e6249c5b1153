//! What to do when a lease is to allocate more than it reserved.

/// What happens when an allocation would take a lease above what it reserved of a space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OverUse {
    /// It is refused.
    #[default]
    Fail,
    /// What is missing is charged beside the lease, as for an allocation without one, and comes back as soon as the
    /// lease allocates less again.
    Ignore,
    /// The lease grows by 1.25 times what is missing, or else by just that, if it can at once
    /// ([`try_grow`](crate::Lease::try_grow)). It keeps what it grew by.
    Grow,
}

impl OverUse {
    /// By how much to grow for want of `short`, the best first.
    pub(super) fn growth(short: u64) -> [u64; 2] {
        [short.saturating_add(short.div_ceil(4)), short]
    }
}
