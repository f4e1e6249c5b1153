//! Counts, in unit tests, how often a waiter, a claim or a lease is looked at: what a call costs, without a clock.

#[cfg(test)]
std::thread_local! {
    static TAKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// One more was looked at.
#[inline(always)]
pub(super) fn step() {
    #[cfg(test)]
    TAKEN.with(|taken| taken.set(taken.get() + 1));
}

/// How many were looked at on this thread.
#[cfg(test)]
pub(super) fn taken() -> u64 {
    TAKEN.with(std::cell::Cell::get)
}
