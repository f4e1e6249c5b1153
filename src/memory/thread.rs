//! Small numbers for threads: the least that no living thread has. They choose a cache or a part of a table, so that
//! threads rarely meet there; two threads with one number are right all the same.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};

const NONE: usize = usize::MAX;

thread_local! {
    // Without a destructor, so that reading it is one load and also works while the thread ends.
    static NUMBER: Cell<usize> = const { Cell::new(NONE) };
    static HELD: Held = Held(assign());
}

struct Numbers {
    /// How many were ever given out at the same time.
    next: usize,
    back: BinaryHeap<Reverse<usize>>,
}

static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { next: 0, back: BinaryHeap::new() });

/// A thread's number, given back when the thread ends.
struct Held(usize);

impl Drop for Held {
    fn drop(&mut self) {
        // What is freed after this, by destructors of other thread-locals, goes by a number that may be another's too.
        numbers().back.push(Reverse(self.0));
    }
}

fn numbers() -> MutexGuard<'static, Numbers> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn assign() -> usize {
    let mut numbers = numbers();
    if let Some(Reverse(number)) = numbers.back.pop() {
        return number;
    }
    numbers.next += 1;
    numbers.next - 1
}

/// The number of the thread that asks.
#[inline]
pub(super) fn number() -> usize {
    match NUMBER.get() {
        NONE => first(),
        number => number,
    }
}

#[cold]
fn first() -> usize {
    let number = HELD.try_with(|held| held.0).unwrap_or(0);
    NUMBER.set(number);
    number
}

/// How many parts a table should have so that as many threads as there are cores rarely meet: a power of two.
pub(super) fn parts() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (2 * cores).next_power_of_two().clamp(4, 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn living_threads_have_different_numbers_and_a_number_is_used_again() {
        let own = number();
        let other = std::thread::spawn(number).join().expect("no panic");
        assert_ne!(own, other);
        assert_eq!(number(), own);
        let most = (0..100).map(|_| std::thread::spawn(number).join().expect("no panic")).max();
        // Other tests of this program have threads too, but not so many.
        assert!(most < Some(90), "{most:?}");
    }
}
