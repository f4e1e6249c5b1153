//! How many ask for how much: who asks for the least is found without looking at them.

use std::collections::BTreeMap;

/// Numbers, each as often as it was added. The least lies apart, as most are equal: those that come and go while no
/// other is there touch no tree and allocate nothing.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    least: u64,
    /// How often the least was added; zero if there is none.
    count: u32,
    /// Those above the least.
    more: BTreeMap<u64, u32>,
}

impl Sizes {
    #[inline]
    pub(super) fn add(&mut self, units: u64) {
        if self.count > 0 && units != self.least {
            return self.add_another(units);
        }
        self.least = units;
        self.count += 1;
    }

    fn add_another(&mut self, units: u64) {
        if units > self.least {
            *self.more.entry(units).or_default() += 1;
        } else {
            self.more.insert(self.least, self.count);
            (self.least, self.count) = (units, 1);
        }
    }

    /// Takes one that was added.
    #[inline]
    pub(super) fn take(&mut self, units: u64) {
        if self.count == 0 || units != self.least {
            return self.take_another(units);
        }
        self.count -= 1;
        if self.count == 0
            && let Some((least, count)) = self.more.pop_first()
        {
            (self.least, self.count) = (least, count);
        }
    }

    fn take_another(&mut self, units: u64) {
        if let Some(count) = self.more.get_mut(&units) {
            *count -= 1;
            if *count == 0 {
                self.more.remove(&units);
            }
        }
    }

    /// The least, if there is any.
    #[inline]
    pub(super) fn least(&self) -> Option<u64> {
        (self.count > 0).then_some(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_those_that_were_added_and_not_taken_is_known() {
        let (mut sizes, mut all) = (Sizes::default(), Vec::new());
        let mut seed = 1_u64;
        for step in 0..10_000 {
            // Knuth's generator: MMIX.
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let adds = (seed >> 40) % 100 < if step / 500 % 2 == 0 { 60 } else { 40 };
            if adds {
                all.push((seed >> 50) % 5);
                sizes.add((seed >> 50) % 5);
            } else if !all.is_empty() {
                sizes.take(all.swap_remove((seed >> 33) as usize % all.len()));
            }
            assert_eq!(sizes.least(), all.iter().min().copied(), "{all:?}");
        }
    }
}
