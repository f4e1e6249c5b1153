//! Atomics and the mutex, from `std` or, under `--cfg bursar_loom`, from loom.

#[cfg(bursar_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[cfg(not(bursar_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[cfg(bursar_loom)]
use loom::sync as imp;
#[cfg(not(bursar_loom))]
use std::sync as imp;

/// A mutex that ignores poisoning: no code of a caller runs under it, and the books are checked by `verify`.
#[derive(Debug)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

pub(crate) type Guard<'a, T> = imp::MutexGuard<'a, T>;

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(imp::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}
