//! In which order spaces are asked for memory.

use std::cmp::Ordering;

use crate::model::{Placement, PlacementError, SpaceId, Tier, Topology};

/// A space, as it is at the moment of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpaceView {
    pub space: SpaceId,
    pub free: u64,
    pub capacity: u64,
}

/// The tiers, the fastest first.
const TIERS: [Tier; 3] = [Tier::Gpu, Tier::Host, Tier::Disk];

/// The spaces that a placement allows and that are large enough, in the order in which they are to be asked.
///
/// # Errors
/// None qualifies.
pub(crate) fn spaces_for(
    placement: &Placement,
    bytes: u64,
    spaces: &[SpaceView],
    topology: &Topology,
) -> Result<Vec<SpaceId>, PlacementError> {
    let mut all = spaces.to_vec();
    all.sort_by_key(|view| view.space);
    let groups = allowed(placement, &all, topology)?;
    let Some(largest) = groups.iter().flatten().max_by_key(|view| view.capacity) else {
        let known: Vec<_> = all.iter().map(|view| view.space.to_string()).collect();
        return Err(PlacementError::NoSpace { known: if known.is_empty() { "none".into() } else { known.join(", ") } });
    };
    let (space, capacity) = (largest.space, largest.capacity);
    let large_enough = |group: Vec<SpaceView>| -> Vec<SpaceId> {
        group.into_iter().filter(|view| view.capacity >= bytes).map(|view| view.space).collect()
    };
    // Only one tier is moved to, so that nothing is moved further than it has to be.
    let only_first = matches!(placement, Placement::DowngradeFrom(_) | Placement::UpgradeFrom(_));
    let groups = groups.into_iter().map(large_enough).filter(|group| !group.is_empty());
    let chosen: Vec<_> = groups.take(if only_first { 1 } else { usize::MAX }).flatten().collect();
    if chosen.is_empty() { Err(PlacementError::TooLarge { bytes, space, capacity }) } else { Ok(chosen) }
}

/// The spaces that a placement allows, whatever their size, tier by tier.
fn allowed(
    placement: &Placement,
    all: &[SpaceView],
    topology: &Topology,
) -> Result<Vec<Vec<SpaceView>>, PlacementError> {
    let of = |tier: Tier| -> Vec<SpaceView> { all.iter().filter(|view| view.space.tier == tier).copied().collect() };
    let near = |to: SpaceId, tier: Tier| {
        let mut found = of(tier);
        found.sort_by_key(|view| (topology.distance(to, view.space), view.space));
        found
    };
    let below = |tier: Tier| TIERS.into_iter().filter(move |&other| other > tier);
    let groups = match placement {
        Placement::AnyIn(tier) => vec![of(*tier)],
        Placement::Preferred(space) => {
            let mut first = of(space.tier);
            first.sort_by_key(|view| (view.space != *space, view.space));
            std::iter::once(first).chain(below(space.tier).map(of)).collect()
        }
        Placement::Specific(space) => vec![all.iter().filter(|view| view.space == *space).copied().collect()],
        Placement::Ordered(tiers) => {
            let first = |at: &usize| !tiers[..*at].contains(&tiers[*at]);
            (0..tiers.len()).filter(first).map(|at| of(tiers[at])).collect()
        }
        Placement::LeastLoaded(tier) => {
            let mut found = of(*tier);
            found.sort_by(by_load);
            vec![found]
        }
        Placement::Nearest { to, tier } => vec![near(*to, *tier)],
        Placement::DowngradeFrom(space) => below(space.tier).map(|tier| near(*space, tier)).collect(),
        Placement::UpgradeFrom(space) => {
            let above = TIERS.into_iter().rev().filter(|&tier| tier < space.tier);
            above.map(|tier| near(*space, tier)).collect()
        }
    };
    if groups.is_empty() { Err(PlacementError::NoTier) } else { Ok(groups) }
}

/// The smaller part in use goes first; a space that shrank to nothing is full.
fn by_load(a: &SpaceView, b: &SpaceView) -> Ordering {
    let free = |view: &SpaceView, whole: &SpaceView| u128::from(view.free) * u128::from(whole.capacity);
    let empty = |view: &SpaceView| view.capacity == 0;
    let by_share = || free(b, a).cmp(&free(a, b));
    empty(a).cmp(&empty(b)).then_with(by_share).then_with(|| a.space.cmp(&b.space))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(name: &str) -> SpaceId {
        let (tier, index) = name.split_at(1);
        let tier = match tier {
            "g" => Tier::Gpu,
            "h" => Tier::Host,
            _ => Tier::Disk,
        };
        SpaceId { tier, index: index.parse().unwrap() }
    }

    /// Three GPUs, two host nodes, a disk: name, free and capacity, in no order.
    fn machine() -> Vec<SpaceView> {
        let all = [("h1", 50, 50), ("g2", 5, 20), ("g0", 2, 10), ("d0", 900, 1_000), ("g1", 5, 10), ("h0", 10, 50)];
        all.map(|(name, free, capacity)| SpaceView { space: space(name), free, capacity }).into()
    }

    fn order(placement: Placement, bytes: u64, topology: &Topology) -> Result<String, PlacementError> {
        let found = spaces_for(&placement, bytes, &machine(), topology)?;
        let short = |space: SpaceId| format!("{}{}", &space.to_string()[..1], space.index);
        Ok(found.into_iter().map(short).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn r10_every_placement_has_its_order() {
        use Placement::*;
        let table = [
            (AnyIn(Tier::Gpu), 1, "g0 g1 g2"),
            (AnyIn(Tier::Gpu), 11, "g2"),
            (Preferred(space("g1")), 1, "g1 g0 g2 h0 h1 d0"),
            (Preferred(space("g1")), 15, "g2 h0 h1 d0"),
            (Preferred(space("g9")), 1, "g0 g1 g2 h0 h1 d0"),
            (Preferred(space("h1")), 1, "h1 h0 d0"),
            (Specific(space("h1")), 1, "h1"),
            (Ordered(vec![Tier::Disk, Tier::Gpu, Tier::Disk]), 1, "d0 g0 g1 g2"),
            // Half of g1 is free, a quarter of g2 and a fifth of g0.
            (LeastLoaded(Tier::Gpu), 1, "g1 g2 g0"),
            (LeastLoaded(Tier::Host), 1, "h1 h0"),
            (Nearest { to: space("g1"), tier: Tier::Host }, 1, "h1 h0"),
            (Nearest { to: space("h1"), tier: Tier::Gpu }, 1, "g1 g0 g2"),
            (DowngradeFrom(space("g1")), 1, "h1 h0"),
            // No host node is large enough, so it goes further down.
            (DowngradeFrom(space("g1")), 60, "d0"),
            (UpgradeFrom(space("d0")), 1, "h0 h1"),
            (UpgradeFrom(space("h1")), 11, "g2"),
        ];
        for (placement, bytes, expected) in table {
            let found = order(placement.clone(), bytes, &Topology::new());
            assert_eq!(found.as_deref(), Ok(expected), "{placement:?} of {bytes}");
        }
    }

    #[test]
    fn r10_a_table_of_distances_goes_before_the_index_and_ties_go_by_index() {
        let topology = Topology::new().with(space("g1"), space("h0"), 3).with(space("h1"), space("g1"), 7);
        assert_eq!(order(Placement::DowngradeFrom(space("g1")), 1, &topology).as_deref(), Ok("h0 h1"));
        let even = topology.with(space("h1"), space("g0"), 7).with(space("h1"), space("g2"), 7);
        let nearest = Placement::Nearest { to: space("h1"), tier: Tier::Gpu };
        assert_eq!(order(nearest, 1, &even).as_deref(), Ok("g0 g1 g2"));
    }

    #[test]
    fn r10_when_no_space_qualifies_the_error_says_why() {
        let none = Topology::new();
        for placement in [Placement::Ordered(vec![]), Placement::DowngradeFrom(space("d0"))] {
            assert_eq!(order(placement, 1, &none), Err(PlacementError::NoTier));
        }
        assert_eq!(order(Placement::UpgradeFrom(space("g0")), 1, &none), Err(PlacementError::NoTier));
        let known = "gpu0, gpu1, gpu2, host0, host1, disk0".to_owned();
        assert_eq!(order(Placement::Specific(space("d1")), 1, &none), Err(PlacementError::NoSpace { known }));
        let too_large = PlacementError::TooLarge { bytes: 21, space: space("g2"), capacity: 20 };
        assert_eq!(order(Placement::AnyIn(Tier::Gpu), 21, &none), Err(too_large));
        let empty = spaces_for(&Placement::AnyIn(Tier::Gpu), 1, &[], &none);
        assert_eq!(empty, Err(PlacementError::NoSpace { known: "none".into() }));
    }

    #[test]
    fn r10_a_space_that_shrank_to_nothing_is_the_last_choice() {
        let view = |name, free, capacity| SpaceView { space: space(name), free, capacity };
        let spaces = [view("g0", 0, 0), view("g1", 0, 8), view("g2", 1, 8)];
        let found = spaces_for(&Placement::LeastLoaded(Tier::Gpu), 0, &spaces, &Topology::new()).unwrap();
        assert_eq!(found, ["g2", "g1", "g0"].map(space));
    }
}
