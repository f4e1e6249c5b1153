//! Time as nanoseconds on tokio's clock, so that paused time drives everything, or on a hand of the test's own.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Handle, TryCurrentError};
use tokio::time::Instant;

use super::sync::{AtomicU64, Ordering};

/// How far before the first reading time zero lies. Readings of a runtime whose clock was paused before that
/// moment must not be clamped to zero.
const HEADROOM: Duration = Duration::from_secs(86_400);

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(|| {
        let now = std::time::Instant::now();
        Instant::from_std(now.checked_sub(HEADROOM).unwrap_or(now))
    })
}

fn nanos(instant: Instant) -> u64 {
    // 584 years fit.
    u64::try_from(instant.saturating_duration_since(origin()).as_nanos()).unwrap_or(u64::MAX)
}

/// The runtime that a thread is in. Asked for before a lock is taken.
#[derive(Debug)]
pub(crate) struct Here(Result<Handle, TryCurrentError>);

impl Here {
    pub(crate) fn new() -> Self {
        Here(Handle::try_current())
    }
}

/// Where a scheduler reads the time.
#[derive(Debug)]
pub(crate) enum Clock {
    /// Tokio's clock.
    Tokio,
    /// Moved by hand: simulations and models.
    #[cfg_attr(not(any(bursar_loom, feature = "test-util")), expect(dead_code))]
    Manual(AtomicU64),
}

impl Clock {
    /// The time, in nanoseconds, by the clock of `runtime`: a thread outside it, or in another, may see another clock
    /// when one of them is paused, so it enters the runtime first.
    pub(crate) fn now(&self, runtime: Option<&Handle>, here: &Here) -> u64 {
        match self {
            Clock::Manual(now) => now.load(Ordering::Relaxed),
            Clock::Tokio => nanos(match (runtime, &here.0) {
                (None, _) => Instant::now(),
                (Some(own), Ok(current)) if own.id() == current.id() => Instant::now(),
                // The thread is ending and cannot enter anything any more. The engine keeps the last time it saw.
                (_, Err(gone)) if gone.is_thread_local_destroyed() => return 0,
                (Some(own), _) => {
                    let _context = own.enter();
                    Instant::now()
                }
            }),
        }
    }

    /// The instant of a reading, for timers.
    pub(crate) fn instant(at: u64) -> Option<Instant> {
        origin().checked_add(Duration::from_nanos(at))
    }
}
