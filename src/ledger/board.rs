//! One word a waiter, where an offer is laid down and taken up without any lock.
//!
//! The engine writes `OFFERED` under its lock; the owner of the reservation takes it up with one compare-and-swap, and the
//! engine can take it back with one, so exactly one of the two wins (R5). The words lie in chunks of doubling size that are
//! never moved, so that an owner finds its word without a lock while the board grows.

use std::sync::OnceLock;

use crate::rt::sync::{AtomicU32, Ordering};

const WAITING: u32 = 0;
const OFFERED: u32 = 1;
const ACCEPTED: u32 = 2;
const ENDED: u32 = 3;

/// Words in the first chunk; chunk k has `FIRST << k`.
const FIRST: u32 = 64;
/// Enough for 2^32 words.
const CHUNKS: usize = 26;

/// What a word says to the owner of the reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// Nothing yet.
    Nothing,
    /// An offer; it has just been taken up.
    Accepted,
    /// The wait ended without a grant; the engine knows why.
    Ended,
}

/// The words of all waiters of one engine.
#[derive(Debug, Default)]
pub struct Board {
    chunks: [OnceLock<Box<[AtomicU32]>>; CHUNKS],
}

impl Board {
    /// Makes room for `slot` and clears its word. Only the engine calls this, before the owner knows the slot.
    pub fn open(&self, slot: u32) {
        let (chunk, at) = Self::place(slot);
        let size = FIRST << chunk;
        let words = self.chunks[chunk].get_or_init(|| (0..size).map(|_| AtomicU32::new(WAITING)).collect());
        words[at].store(WAITING, Ordering::Relaxed);
    }

    /// Lays an offer down. What was granted happens before the owner sees it.
    pub fn offer(&self, slot: u32) {
        self.word(slot, |word| word.store(OFFERED, Ordering::Release));
    }

    /// Takes an offer back. `false` when the owner was faster.
    pub fn retract(&self, slot: u32) -> bool {
        self.word(slot, |word| word.compare_exchange(OFFERED, WAITING, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    /// Throws an offer away, for an owner that does not want it. `false` when it had been taken up.
    pub fn discard(&self, slot: u32) -> bool {
        self.word(slot, |word| word.compare_exchange(OFFERED, ACCEPTED, Ordering::AcqRel, Ordering::Acquire).is_ok())
    }

    /// Tells the owner that the wait is over.
    pub fn end(&self, slot: u32) {
        self.word(slot, |word| word.store(ENDED, Ordering::Release));
    }

    /// Whether the owner took the offer up.
    pub fn accepted(&self, slot: u32) -> bool {
        self.word(slot, |word| word.load(Ordering::Acquire) == ACCEPTED)
    }

    /// What is posted for the owner; takes an offer up at once.
    #[inline]
    pub fn look(&self, slot: u32) -> Posted {
        self.word(slot, |word| match word.compare_exchange(OFFERED, ACCEPTED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Posted::Accepted,
            Err(ENDED) => Posted::Ended,
            Err(_) => Posted::Nothing,
        })
    }

    #[inline]
    fn place(slot: u32) -> (usize, usize) {
        let from_first = u64::from(slot) + u64::from(FIRST);
        let chunk = from_first.ilog2() - FIRST.ilog2();
        (chunk as usize, (from_first - (u64::from(FIRST) << chunk)) as usize)
    }

    #[inline]
    fn word<R: Default>(&self, slot: u32, look: impl FnOnce(&AtomicU32) -> R) -> R {
        let (chunk, at) = Self::place(slot);
        // A slot that was never opened has no word; no owner has such a slot.
        self.chunks[chunk].get().and_then(|words| words.get(at)).map(look).unwrap_or_default()
    }
}

#[expect(clippy::derivable_impls, reason = "the default is what an unopened word says, not a choice of the enum")]
impl Default for Posted {
    fn default() -> Self {
        Posted::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_either_taken_up_or_taken_back() {
        let board = Board::default();
        for slot in [0, 63, 64, 191, 192, 1_000_000] {
            board.open(slot);
            assert_eq!(board.look(slot), Posted::Nothing);
            board.offer(slot);
            assert!(board.retract(slot));
            assert_eq!(board.look(slot), Posted::Nothing);
            board.offer(slot);
            assert_eq!(board.look(slot), Posted::Accepted);
            assert!(!board.retract(slot));
            assert!(board.accepted(slot));
        }
    }
}
