//! How long to pause before another attempt: exponential, with jitter from a seed.
//!
//! M. Brooker, "Exponential Backoff and Jitter", AWS, 2015: of the variants there this is *equal jitter*, half of the
//! pause fixed and half by chance, so that a pause is never nothing and those that failed together come back apart.

use std::time::Duration;

use super::dice::Dice;

/// The pause after the attempt of this number, counted from one: `base` doubled with every attempt, at most `cap`, of
/// which between one half and the whole is taken. The same arguments give the same pause on every machine.
pub(crate) fn pause(base: Duration, cap: Duration, attempt: u32, seed: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let whole = base.saturating_mul(1 << doublings).min(cap);
    let whole = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let half = whole / 2;
    let chance = Dice::new(seed ^ u64::from(attempt)).below(whole - half + 1);
    Duration::from_nanos(half + chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pause_lies_in_the_upper_half_of_a_doubling_that_is_capped() {
        for (attempt, whole) in [(1, 10), (2, 20), (3, 40), (4, 50), (60, 50)] {
            for seed in 0..100 {
                let pause = pause(10 * MS, 50 * MS, attempt, seed);
                assert!((whole * MS / 2..=whole * MS).contains(&pause), "{attempt}: {pause:?}");
            }
        }
        assert_eq!(pause(Duration::MAX, Duration::MAX, 2, 7), pause(Duration::MAX, Duration::MAX, 2, 7));
    }

    #[test]
    fn a_seed_fixes_the_pause_and_seeds_differ() {
        let pauses: Vec<_> = (0..50).map(|seed| pause(MS, 50 * MS, 3, seed)).collect();
        assert_eq!(pauses, (0..50).map(|seed| pause(MS, 50 * MS, 3, seed)).collect::<Vec<_>>());
        let mut different = pauses.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), pauses.len(), "of half a million, fifty meet once in four hundred times");
        let later: Vec<_> = (0..50).map(|seed| pause(MS, 4 * MS, 4, seed)).collect();
        assert!(pauses.iter().zip(later).all(|(pause, later)| *pause != later), "every attempt has its own chance");
    }

    #[test]
    fn every_pause_from_the_half_to_the_whole_comes() {
        let of = |nanos: u64, seed| pause(Duration::from_nanos(nanos), Duration::MAX, 1, seed).as_nanos() as u64;
        let mut seen: Vec<_> = (0..100).map(|seed| of(6, seed)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [3, 4, 5, 6]);
        let last_tenth = (0..1_000).filter(|&seed| of(2_000_000, seed) > 1_900_000).count();
        assert!((70..130).contains(&last_tenth), "{last_tenth} of 1,000");
    }
}
