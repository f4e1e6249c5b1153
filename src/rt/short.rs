//! The short lock: for critical sections that never block or call out. On the fast path they are some ten instructions;
//! a turn of the engine, which holds the desk as well, keeps it for a few hundred, and lets go of it every 64 grants.
//!
//! Its unlock is a plain store, so a lock and unlock cost one locked instruction where a mutex costs two; on the path
//! of a reservation each is a fifth of what is left (`ledger` has the table). A thread that finds it taken spins with
//! growing pauses and then yields to the operating system, so that a holder that lost its processor gets it back. The
//! long pauses also keep two busy threads from passing the cache lines to and fro: each does a run of operations at a
//! time.

#[cfg(not(bursar_loom))]
mod imp {
    use crossbeam_utils::Backoff;
    use spin::mutex::{SpinMutex, SpinMutexGuard};

    #[derive(Debug)]
    pub(crate) struct Short<T>(SpinMutex<T>);

    impl<T> Short<T> {
        pub(crate) const fn new(value: T) -> Self {
            Short(SpinMutex::new(value))
        }

        #[inline]
        pub(crate) fn lock(&self) -> SpinMutexGuard<'_, T> {
            match self.0.try_lock() {
                Some(guard) => guard,
                None => self.lock_contended(),
            }
        }

        #[cold]
        fn lock_contended(&self) -> SpinMutexGuard<'_, T> {
            let backoff = Backoff::new();
            loop {
                backoff.snooze();
                if !self.0.is_locked()
                    && let Some(guard) = self.0.try_lock()
                {
                    return guard;
                }
            }
        }
    }
}

#[cfg(bursar_loom)]
mod imp {
    use loom::sync::{Mutex, MutexGuard};

    /// Under the model checker every interleaving is tried anyway: a mutex stands for the spin lock.
    #[derive(Debug)]
    pub(crate) struct Short<T>(Mutex<T>);

    impl<T> Short<T> {
        pub(crate) fn new(value: T) -> Self {
            Short(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self.0.lock() {
                Ok(guard) => guard,
                Err(poisoned) => poisoned.into_inner(),
            }
        }
    }
}

pub(crate) use imp::Short;
