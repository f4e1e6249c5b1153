//! Where in the code a labelled request was made.

use std::panic::Location;
use std::sync::OnceLock;

/// Places that are told apart; whatever more a program has are not known. A power of two.
const PLACES: usize = 1 << 12;

/// The places that were met, found by their address. They are static, and never go.
static MET: [OnceLock<&'static Location<'static>>; PLACES] = [const { OnceLock::new() }; PLACES];

/// A place in the code, as a number of twelve bits above zero; zero is unknown. A request has no room for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Origin(u16);

impl Origin {
    /// The number of a place: the first free one from where its address hashes to. No lock, and no allocation.
    pub(super) fn of(place: &'static Location<'static>) -> Self {
        let address = std::ptr::from_ref(place).addr();
        // Fibonacci hashing (Knuth, TAOCP 6.4): the low bits of addresses are alike.
        let hash = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52;
        for step in 0..PLACES {
            let at = (hash as usize + step) % PLACES;
            // Zero is for those that are unknown.
            if at != 0 && std::ptr::eq(*MET[at].get_or_init(|| place), place) {
                return Origin(at as u16);
            }
        }
        Origin(0)
    }

    /// As the upper bits of a word.
    pub(super) fn bits(self) -> u64 {
        u64::from(self.0) << Self::SHIFT
    }

    pub(super) fn from_bits(word: u64) -> Self {
        Origin((word >> Self::SHIFT) as u16)
    }

    /// Where the bits begin.
    pub(super) const SHIFT: u32 = 48;

    /// The place, if it is known.
    pub(super) fn place(self) -> Option<&'static Location<'static>> {
        MET.get(usize::from(self.0)).filter(|_| self.0 != 0)?.get().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_by_its_number() {
        let (one, other) = (Location::caller(), {
            #[track_caller]
            fn here() -> &'static Location<'static> {
                Location::caller()
            }
            here()
        });
        assert_eq!(Origin::of(one), Origin::of(one));
        assert_ne!(Origin::of(one), Origin::of(other));
        let word = Origin::of(other).bits() | 7;
        assert_eq!(Origin::from_bits(word).place(), Some(other));
        assert_eq!(Origin::default().place(), None);
    }
}
