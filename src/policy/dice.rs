//! Chance from a seed: splitmix64.
//!
//! G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

/// Numbers that a seed fixes, the same on every platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// A number below `limit`, which counts as one if it is zero: the high half of a product, without division.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(limit.max(1));
        // Below `limit`.
        (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first three of the published generator for this seed.
    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut dice = Dice::new(1_234_567);
        let numbers = [dice.next(), dice.next(), dice.next()];
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_number_is_below_its_limit_and_every_number_comes() {
        let mut dice = Dice::new(3);
        let mut seen = [0u32; 5];
        (0..1_000).for_each(|_| seen[dice.below(5) as usize] += 1);
        assert!(seen.iter().all(|&times| times > 100), "{seen:?}");
        assert_eq!((dice.below(1), dice.below(0)), (0, 0));
    }
}
