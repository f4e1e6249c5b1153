//! Who gives way: a smallest set of leases whose end gives a higher rank what it lacks (C8).
//!
//! Taken from the least urgent and youngest on until enough comes together, passing over those that hold nothing of
//! what is still missing; then each that is not needed after all is spared, the most urgent and oldest first. So nobody
//! is in the set without whom it would be enough, and what is lost is of low rank and little age. Kubernetes' scheduler
//! chooses pods to preempt the same way ("reprieve").

use crate::model::{Amounts, BudgetId, Priority};

/// A lease that may be asked to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    /// The level it was granted at.
    pub level: Priority,
    /// Grants are numbered: the larger, the younger, and the less is lost. Parts of one grant have the same, and are
    /// taken in the order in which they are given.
    pub granted: u64,
    /// What comes back when it ends.
    pub amounts: &'a Amounts,
}

/// Chooses among `candidates` who has to end so that `lacks` comes back, by their positions. `None` when all of them
/// together are not enough, or nothing lacks.
pub(crate) fn choose(lacks: &[(BudgetId, u64)], candidates: &[Candidate<'_>]) -> Option<Vec<usize>> {
    if lacks.is_empty() {
        return None;
    }
    let helps = |&at: &usize| lacks.iter().any(|&(id, _)| candidates[at].amounts.get(id) > 0);
    let mut order: Vec<usize> = (0..candidates.len()).filter(helps).collect();
    order.sort_by_key(|&at| std::cmp::Reverse((candidates[at].level, candidates[at].granted)));

    let mut missing: Vec<(BudgetId, i128)> = lacks.iter().map(|&(id, units)| (id, i128::from(units))).collect();
    let mut chosen = Vec::new();
    for at in order {
        if missing.iter().all(|&(_, units)| units <= 0) {
            break;
        }
        // One that holds nothing of what is still missing would end in vain.
        if missing.iter().any(|&(id, units)| units > 0 && candidates[at].amounts.get(id) > 0) {
            count(&mut missing, candidates[at].amounts, -1);
            chosen.push(at);
        }
    }
    if missing.iter().any(|&(_, units)| units > 0) {
        return None;
    }
    for at in chosen.clone().into_iter().rev() {
        count(&mut missing, candidates[at].amounts, 1);
        if missing.iter().all(|&(_, units)| units <= 0) {
            chosen.retain(|&other| other != at);
        } else {
            count(&mut missing, candidates[at].amounts, -1);
        }
    }
    Some(chosen)
}

fn count(missing: &mut [(BudgetId, i128)], amounts: &Amounts, sign: i128) {
    missing.iter_mut().for_each(|(id, units)| *units += sign * i128::from(amounts.get(*id)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const GPU: BudgetId = BudgetId::GPU;
    const HOST: BudgetId = BudgetId::HOST;

    fn chosen(lacks: &[(BudgetId, u64)], all: &[(Priority, &[(BudgetId, u64)])]) -> Option<Vec<usize>> {
        let bundle = |amounts: &[(BudgetId, u64)]| {
            let mut bundle = Amounts::new();
            amounts.iter().for_each(|&(id, units)| assert!(bundle.add(id, units)));
            bundle
        };
        let bundles: Vec<_> = all.iter().map(|(level, amounts)| (*level, bundle(amounts))).collect();
        let candidate = |(granted, (level, amounts))| Candidate { level, granted, amounts };
        let candidates: Vec<_> =
            (0u64..).zip(bundles.iter().map(|(level, amounts)| (*level, amounts))).map(candidate).collect();
        choose(lacks, &candidates)
    }

    #[test]
    fn the_least_urgent_and_youngest_give_way() {
        let all: &[(Priority, &[(BudgetId, u64)])] =
            &[(Priority::Low, &[(GPU, 4)]), (Priority::Idle, &[(GPU, 4)]), (Priority::Idle, &[(GPU, 4)])];
        assert_eq!(chosen(&[(GPU, 4)], all), Some(vec![2]));
        assert_eq!(chosen(&[(GPU, 5)], all), Some(vec![2, 1]));
        assert_eq!(chosen(&[(GPU, 12)], all), Some(vec![2, 1, 0]));
        assert_eq!(chosen(&[(GPU, 13)], all), None);
        assert_eq!(chosen(&[], all), None);
    }

    #[test]
    fn whoever_is_not_needed_after_all_is_spared() {
        let all: &[(Priority, &[(BudgetId, u64)])] =
            &[(Priority::Low, &[(GPU, 9)]), (Priority::Idle, &[(GPU, 1)]), (Priority::Idle, &[(HOST, 9)])];
        assert_eq!(chosen(&[(GPU, 9)], all), Some(vec![0]));
    }

    #[test]
    fn one_that_has_of_both_spares_two() {
        let both: &[(Priority, &[(BudgetId, u64)])] =
            &[(Priority::Idle, &[(GPU, 3)]), (Priority::Idle, &[(HOST, 3)]), (Priority::Idle, &[(GPU, 3), (HOST, 3)])];
        assert_eq!(chosen(&[(GPU, 3), (HOST, 3)], both), Some(vec![2]));
    }

    /// The same every time.
    fn cases() -> ProptestConfig {
        ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn what_is_chosen_is_enough_and_nobody_could_be_spared(
            lacks in proptest::collection::btree_map(0usize..3, 1u64..20, 1..3),
            all in proptest::collection::vec((0usize..5, proptest::array::uniform3(0u64..9)), 0..9),
        ) {
            let ids = [GPU, HOST, BudgetId::DISK];
            let lacks: Vec<_> = lacks.into_iter().map(|(at, units)| (ids[at], units)).collect();
            let bundles: Vec<_> = all.iter().map(|(level, units)| {
                let held: Vec<_> = ids.into_iter().zip(*units).filter(|&(_, units)| units > 0).collect();
                (Priority::ALL[*level], held)
            }).collect();
            let views: Vec<_> = bundles.iter().map(|(level, held)| (*level, held.as_slice())).collect();
            let sum = |id, without: Option<usize>, of: &[usize]| -> u64 {
                of.iter().filter(|&&at| Some(at) != without)
                    .flat_map(|&at| &bundles[at].1).filter(|held| held.0 == id).map(|held| held.1).sum()
            };
            let enough = |without, of: &[usize]| lacks.iter().all(|&(id, units)| sum(id, without, of) >= units);
            let everybody: Vec<usize> = (0..bundles.len()).collect();
            match chosen(&lacks, &views) {
                None => prop_assert!(!enough(None, &everybody)),
                Some(chosen) => {
                    prop_assert!(enough(None, &chosen));
                    for &at in &chosen {
                        prop_assert!(!enough(Some(at), &chosen), "{} is not needed", at);
                    }
                }
            }
        }
    }
}
