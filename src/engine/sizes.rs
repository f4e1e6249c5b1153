//! How many ask for how much: who asks for the least is found without looking at them.

use std::collections::BTreeMap;

/// Numbers, each as often as it was added.
#[derive(Debug, Default)]
pub(super) struct Sizes(BTreeMap<u64, u32>);

impl Sizes {
    pub(super) fn add(&mut self, units: u64) {
        *self.0.entry(units).or_default() += 1;
    }

    /// Takes one that was added.
    pub(super) fn take(&mut self, units: u64) {
        if let Some(count) = self.0.get_mut(&units) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&units);
            }
        }
    }

    /// The least, if there is any.
    pub(super) fn least(&self) -> Option<u64> {
        self.0.first_key_value().map(|(&units, _)| units)
    }
}
