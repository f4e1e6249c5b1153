//! One word a waiter, where an offer is laid down and taken up without any lock.
//!
//! The engine writes `OFFERED` under its lock; the owner of the reservation takes it up with one compare-and-swap, and
//! the engine can take it back with one, so exactly one of the two wins (R5). The words lie in chunks of doubling size
//! that are never moved, so that an owner finds its word without a lock while the board grows.

use std::sync::OnceLock;

use crate::rt::sync::{AtomicU32, Ordering};

/// The state is in the low two bits; above them lies the place of the bundle that is offered.
const STATE: u32 = 3;
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
    Accepted {
        /// The place of the bundle.
        place: u32,
    },
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
    pub fn offer(&self, slot: u32, place: u32) {
        self.word(slot, |word| word.store(OFFERED | place << 2, Ordering::Release));
    }

    /// Takes an offer back; gives the place of the bundle. `None` when the owner was faster.
    pub fn retract(&self, slot: u32) -> Option<u32> {
        self.word(slot, |word| swap_offer(word, WAITING).ok())
    }

    /// Throws an offer away, for an owner that does not want it. `None` when it had been taken up.
    pub fn discard(&self, slot: u32) -> Option<u32> {
        self.word(slot, |word| swap_offer(word, ACCEPTED).ok())
    }

    /// Tells the owner that the wait is over.
    pub fn end(&self, slot: u32) {
        self.word(slot, |word| word.store(ENDED, Ordering::Release));
    }

    /// Whether the owner took the offer up.
    pub fn accepted(&self, slot: u32) -> bool {
        self.word(slot, |word| word.load(Ordering::Acquire) & STATE == ACCEPTED)
    }

    /// What is posted for the owner; takes an offer up at once.
    #[inline]
    pub fn look(&self, slot: u32) -> Posted {
        self.word(slot, |word| match swap_offer(word, ACCEPTED) {
            Ok(place) => Posted::Accepted { place },
            Err(ENDED) => Posted::Ended,
            Err(_) => Posted::Nothing,
        })
    }

    /// The place of the bundle of an offer that lies there, which stays where it is.
    #[cfg(any(feature = "test-util", bursar_loom))]
    pub fn lies_at(&self, slot: u32) -> Option<u32> {
        let word = self.word(slot, |word| word.load(Ordering::Acquire));
        (word & STATE == OFFERED).then_some(word >> 2)
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

/// Replaces an offer by another state; gives its place, or what was there instead: a state without a place. Only the
/// engine writes offers, and it does so while nobody else may; so between the load and the swap an offer can only go,
/// not change.
#[inline]
fn swap_offer(word: &AtomicU32, to: u32) -> Result<u32, u32> {
    let seen = word.load(Ordering::Acquire);
    if seen & STATE != OFFERED {
        return Err(seen);
    }
    word.compare_exchange(seen, to, Ordering::AcqRel, Ordering::Acquire).map(|_| seen >> 2)
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
            board.offer(slot, 7);
            assert_eq!(board.retract(slot), Some(7));
            assert_eq!(board.look(slot), Posted::Nothing);
            board.offer(slot, 1 << 29);
            assert_eq!(board.look(slot), Posted::Accepted { place: 1 << 29 });
            assert_eq!(board.retract(slot), None);
            assert!(board.accepted(slot));
        }
    }
}
