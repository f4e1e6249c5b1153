//! What is asked for: alternatives in order of preference, amounts that may shrink, and the ladder by which they do.

use bursar::BudgetId;

/// How much of each of several budgets, ascending by budget.
pub type Asks = Vec<(BudgetId, u64)>;

/// How much of `asks` is of one budget.
pub fn units_of(asks: &[(BudgetId, u64)], id: BudgetId) -> u64 {
    asks.iter().find(|(asked, _)| *asked == id).map_or(0, |(_, units)| *units)
}

/// What of `by` a lease of `held` can part with.
pub fn part_of(held: &Asks, by: &Asks) -> Asks {
    let least = |&(id, units): &(BudgetId, u64)| (id, units.min(units_of(held, id)));
    by.iter().map(least).filter(|(_, units)| *units > 0).collect()
}

/// What is left of `held` without `part`.
pub fn rest_of(held: &Asks, part: &Asks) -> Asks {
    let less = |&(id, units): &(BudgetId, u64)| (id, units - units_of(part, id));
    held.iter().map(less).filter(|(_, units)| *units > 0).collect()
}

/// What two leases hold together.
pub fn sum_of(one: &Asks, other: &Asks) -> Asks {
    let mut sum: Asks = one.iter().map(|&(id, units)| (id, units + units_of(other, id))).collect();
    sum.extend(other.iter().filter(|(id, _)| units_of(one, *id) == 0));
    sum.sort();
    sum
}

/// One bundle that would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    pub wants: Asks,
    /// Of the amounts that may shrink: how far.
    pub floors: Asks,
}

impl Alternative {
    /// The least of each amount with which it can be granted.
    pub fn least(&self) -> Asks {
        self.wants.iter().map(|&(id, want)| (id, self.floor(id).unwrap_or(want))).collect()
    }

    pub fn floor(&self, id: BudgetId) -> Option<u64> {
        self.floors.iter().find(|(elastic, _)| *elastic == id).map(|(_, floor)| *floor)
    }

    /// The wants, then ever smaller, until every elastic amount is at its floor; at most 64 rungs.
    fn rungs(&self, factor: u32) -> Vec<Asks> {
        let mut rungs = vec![self.wants.clone()];
        let floors = self.least();
        loop {
            let last = &rungs[rungs.len() - 1];
            if *last == floors {
                return rungs;
            }
            let shrunk = |&(id, units): &(BudgetId, u64)| match self.floor(id) {
                Some(floor) => (id, floor.max((u128::from(units) * u128::from(factor) / 1_000_000) as u64)),
                None => (id, units),
            };
            let next = last.iter().map(shrunk).collect();
            rungs.push(if rungs.len() == 63 { floors.clone() } else { next });
        }
    }
}

/// All that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub alternatives: Vec<Alternative>,
    /// Millionths that are left of an elastic amount from rung to rung.
    pub factor: u32,
    /// How long only the whole amounts are asked for, in nanoseconds.
    pub patience: u64,
    /// The name of a module: m0, m1, ...
    pub module: Option<u8>,
}

impl Ask {
    /// One bundle, exactly.
    pub fn plain(wants: &Asks) -> Ask {
        let only = Alternative { wants: wants.clone(), floors: Vec::new() };
        Ask { alternatives: vec![only], factor: 500_000, patience: 0, module: None }
    }

    /// Whether more than one bundle would do.
    pub fn is_flexible(&self) -> bool {
        self.alternatives.len() > 1 || self.is_elastic()
    }

    pub fn is_elastic(&self) -> bool {
        self.alternatives.iter().any(|alternative| !alternative.floors.is_empty())
    }

    /// The rungs of each alternative.
    pub fn ladders(&self) -> Vec<Vec<Asks>> {
        self.alternatives.iter().map(|alternative| alternative.rungs(self.factor)).collect()
    }

    pub fn names(&self, id: BudgetId) -> bool {
        self.alternatives.iter().any(|alternative| units_of(&alternative.wants, id) > 0)
    }

    /// Every budget of every alternative.
    pub fn budgets(&self) -> impl Iterator<Item = BudgetId> {
        self.alternatives.iter().flat_map(|alternative| &alternative.wants).map(|(id, _)| *id)
    }
}

#[test]
fn a_ladder_ends_where_every_elastic_amount_is_at_its_floor() {
    let (gpu, host) = (BudgetId::GPU, BudgetId::HOST);
    let both = Alternative { wants: vec![(gpu, 9), (host, 5)], floors: vec![(gpu, 2)] };
    let rungs = both.rungs(500_000);
    let of_gpu: Vec<_> = rungs.iter().map(|rung| units_of(rung, gpu)).collect();
    assert_eq!(of_gpu, [9, 4, 2]);
    assert!(rungs.iter().all(|rung| units_of(rung, host) == 5), "what is not elastic stays");
    let slow = Alternative { wants: vec![(gpu, 1 << 40)], floors: vec![(gpu, 1)] };
    let rungs = slow.rungs(999_999);
    assert_eq!((rungs.len(), &rungs[63]), (64, &vec![(gpu, 1)]), "the last of 64 rungs is all floors");
    assert_eq!(Alternative { wants: vec![(gpu, 9)], floors: Vec::new() }.rungs(500_000).len(), 1);
}
