//! What the facade was told before, which it does not remember itself.

use std::collections::BTreeMap;

use metrics::{Key, Label, counter, gauge};

/// Counters of parts that are gone are remembered until there are so many: one that comes back under its name is then
/// not counted twice.
const MOST_GONE: usize = 1_024;

/// How far counters were handed on that are not the scheduler's own, and which gauges may fall away.
#[derive(Debug, Default)]
pub(super) struct HandedOn {
    counters: BTreeMap<Key, Count>,
    /// Set in this publication, or in the one before.
    gauges: BTreeMap<Key, u64>,
    /// The number of this publication.
    round: u64,
}

#[derive(Debug, Default)]
struct Count {
    value: u64,
    round: u64,
}

impl HandedOn {
    /// Hands on how much a counter has risen. One that has fallen was replaced and begins anew.
    pub(super) fn count(&mut self, name: String, labels: Vec<Label>, now: u64) {
        let before = self.note(&name, &labels, now);
        counter!(name, labels).increment(if now < before { now } else { now - before });
    }

    /// The same for one that may fall and rise again, of which only what is more than ever before is handed on.
    pub(super) fn count_most(&mut self, name: String, labels: Vec<Label>, now: u64) {
        let before = self.note(&name, &labels, now);
        if now < before {
            self.note(&name, &labels, before);
        }
        counter!(name, labels).increment(now.saturating_sub(before));
    }

    /// Sets a gauge that has to fall to zero when it is set no more.
    pub(super) fn set(&mut self, name: String, labels: Vec<Label>, value: f64) {
        self.gauges.insert(Key::from((name.clone(), labels.clone())), self.round);
        gauge!(name, labels).set(value);
    }

    /// Ends a publication: sets the gauges that were in the last one and are not in this one to zero, once, and forgets
    /// counters that are gone if they are too many.
    pub(super) fn end_round(&mut self) {
        let round = self.round;
        self.gauges.retain(|key, set| {
            let here = *set == round;
            if !here {
                gauge!(key.name().to_owned(), key.labels().cloned().collect::<Vec<_>>()).set(0.0);
            }
            here
        });
        let gone = self.counters.values().filter(|count| count.round < round).count();
        if gone > MOST_GONE {
            self.counters.retain(|_, count| count.round == round);
        }
        self.round += 1;
    }

    /// What the counter was before.
    fn note(&mut self, name: &str, labels: &[Label], now: u64) -> u64 {
        let key = Key::from((name.to_owned(), labels.to_vec()));
        let count = self.counters.entry(key).or_default();
        count.round = self.round;
        std::mem::replace(&mut count.value, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_are_gone_are_remembered_up_to_a_bound() {
        let mut handed = HandedOn::default();
        for part in 0..3 * MOST_GONE as u64 {
            handed.count(format!("part_{part}"), Vec::new(), 7);
            handed.count("lasting".into(), Vec::new(), part);
            handed.end_round();
            assert!(handed.counters.len() <= MOST_GONE + 2, "{}", handed.counters.len());
        }
        let lasting = Key::from(("lasting".to_owned(), Vec::new()));
        assert_eq!(handed.counters[&lasting].value, 3 * MOST_GONE as u64 - 1);
    }
}
