//! Time as nanoseconds on tokio's clock, so that paused time drives everything, or on a hand of the test's own.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Handle, TryCurrentError};
use tokio::time::Instant;

use super::sync::{AtomicU64, Ordering};

/// How far before the first reading time zero lies. Readings of a runtime whose clock was paused before that
/// moment must not be clamped to zero.
const HEADROOM: Duration = Duration::from_secs(86_400);

fn origin() -> std::time::Instant {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    *ORIGIN.get_or_init(|| {
        let now = std::time::Instant::now();
        now.checked_sub(HEADROOM).unwrap_or(now)
    })
}

#[inline]
fn nanos(instant: std::time::Instant) -> u64 {
    let since = instant.saturating_duration_since(origin());
    // 584 years fit.
    since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos()))
}

/// Where a scheduler reads the time.
#[derive(Debug)]
pub(crate) enum Clock {
    /// The clock of the operating system, which is tokio's too unless it was built with `test-util`.
    System,
    /// Tokio's clock, which may be paused.
    Tokio,
    /// Moved by hand: simulations and models.
    #[cfg_attr(not(any(bursar_loom, feature = "test-util")), expect(dead_code))]
    Manual(AtomicU64),
}

impl Clock {
    /// Tokio's clock, by the shorter way if there is only one.
    pub(crate) fn of_tokio() -> Self {
        if can_be_paused() { Clock::Tokio } else { Clock::System }
    }

    /// What a thread can find out before it takes a lock: the time if it is the same everywhere, else the runtime that
    /// it is in. The engine sorts readings that come in the wrong order.
    #[inline]
    pub(crate) fn here(&self) -> Here {
        match self {
            Clock::System => Here::Time(nanos(std::time::Instant::now())),
            Clock::Tokio => Here::Runtime(Handle::try_current()),
            Clock::Manual(_) => Here::Unknown,
        }
    }

    /// The time, in nanoseconds, by the clock of `runtime`: a thread outside it, or in another, may see another clock
    /// when one of them is paused, so it enters the runtime first.
    #[inline]
    pub(crate) fn now(&self, runtime: Option<&Handle>, here: &Here) -> u64 {
        match (self, here) {
            (Clock::Manual(now), _) => now.load(Ordering::Relaxed),
            (_, &Here::Time(now)) => now,
            (_, here) => by_tokio(runtime, here),
        }
    }

    /// The instant of a reading, for timers.
    pub(crate) fn instant(at: u64) -> Option<Instant> {
        origin().checked_add(Duration::from_nanos(at)).map(Instant::from_std)
    }
}

/// What a thread knows of the time by itself.
#[derive(Debug)]
pub(crate) enum Here {
    Time(u64),
    Runtime(Result<Handle, TryCurrentError>),
    Unknown,
}

#[inline(never)]
fn by_tokio(runtime: Option<&Handle>, here: &Here) -> u64 {
    let now = match (runtime, here) {
        (None, _) => Instant::now(),
        (Some(own), Here::Runtime(Ok(current))) if own.id() == current.id() => Instant::now(),
        // The thread is ending and cannot enter anything any more. The engine keeps the last time it saw.
        (_, Here::Runtime(Err(gone))) if gone.is_thread_local_destroyed() => return 0,
        (Some(own), _) => {
            let _context = own.enter();
            Instant::now()
        }
    };
    nanos(now.into_std())
}

/// Whether tokio was built with `test-util`, by this crate or any other of the program: then its clock can be paused,
/// and every runtime may have another. If not, there is no need to ask which runtime a thread is in, which costs two
/// counts on a cache line that all workers share.
///
/// Features of a dependency cannot be asked for, but names can: `pause` is tokio's if there is one, else the one below.
fn can_be_paused() -> bool {
    fn is_tokios<T>(_: T) -> bool {
        std::any::type_name::<T>().starts_with("tokio::")
    }
    #[allow(unused_imports, reason = "without `test-util` there is nothing to import that is used")]
    use tokio::time::*;
    is_tokios(pause)
}

/// Stands for tokio's function of this name where there is none.
#[allow(dead_code, reason = "not used with `test-util`")]
fn pause() {}
