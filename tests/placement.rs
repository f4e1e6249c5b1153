//! Placements, awaited: what is reserved lies in the best space that can have it (R10).

mod common;

use bursar::{
    Budget, BudgetId, Config, ConfigError, Lease, Placement, PlacementError, Priority, Request, RequestError, SpaceId,
    Tier, Topology,
};
use common::*;

const GPU0: SpaceId = SpaceId { tier: Tier::Gpu, index: 0 };
const GPU1: SpaceId = SpaceId { tier: Tier::Gpu, index: 1 };
const HOST0: SpaceId = SpaceId { tier: Tier::Host, index: 0 };
const DISK0: SpaceId = SpaceId { tier: Tier::Disk, index: 0 };

/// Two GPUs, the host and a disk; compute slots and a rate, which are no memory.
fn config() -> Config {
    Config::new()
        .with(Budget::loan(BudgetId::DISK, 1_000))
        .with(Budget::loan(BudgetId::gpu(1).unwrap(), 20))
        .with(Budget::loan(GPU, 10))
        .with(Budget::loan(HOST, 100))
        .with(Budget::loan(BudgetId::COMPUTE, 4))
        .with(Budget::rate(IO, 100))
}

fn place(rig: &Rig, bytes: u64, placement: Placement) -> Request {
    rig.scheduler.place(bytes, &placement).expect("a space qualifies")
}

/// The one budget that a lease holds something of, and how much.
#[track_caller]
fn whereabouts(lease: &Lease) -> (String, u64) {
    let all: Vec<_> = lease.amounts().iter().map(|(id, units)| (id.to_string(), units)).collect();
    assert_eq!(all.len(), 1);
    all.into_iter().next().unwrap()
}

#[track_caller]
fn taken(rig: &Rig, bytes: u64, placement: Placement) -> (String, u64, Lease) {
    let lease = take(&rig.scheduler, place(rig, bytes, placement));
    let (space, units) = whereabouts(&lease);
    (space, units, lease)
}

#[test]
fn r10_preferred_falls_through_the_tier_and_then_downwards() {
    let rig = Rig::new(config());
    let found: Vec<_> = (0..6).map(|_| taken(&rig, 10, Placement::Preferred(GPU1))).collect();
    let spaces: Vec<_> = found.iter().map(|(space, ..)| space.as_str()).collect();
    assert_eq!(spaces, ["gpu1", "gpu1", "gpu0", "host0", "host0", "host0"]);
    // What fits in no GPU goes to the host at once.
    assert_eq!(taken(&rig, 50, Placement::Preferred(GPU0)).0, "host0");
    assert_eq!(taken(&rig, 500, Placement::Preferred(GPU0)).0, "disk0");
    drop(found);
    assert_untouched(&rig.scheduler);
}

#[test]
fn r10_a_placement_waits_for_all_of_its_spaces_and_takes_the_first() {
    let rig = Rig::new(config());
    let (first, second) = (taken(&rig, 10, Placement::Specific(GPU0)).2, taken(&rig, 20, Placement::Specific(GPU1)).2);
    let mut any = queued(&rig.scheduler, place(&rig, 8, Placement::AnyIn(Tier::Gpu)).priority(Priority::High));
    let mut only = queued(&rig.scheduler, place(&rig, 8, Placement::Specific(GPU0)));
    drop(second);
    assert_eq!(whereabouts(&granted(&mut any)), ("gpu1".into(), 8));
    assert_waits(&mut only);
    drop(first);
    assert_eq!(whereabouts(&granted(&mut only)), ("gpu0".into(), 8));
    drop((any, only));
    assert_untouched(&rig.scheduler);
}

#[test]
fn r10_least_loaded_looks_at_what_is_in_use_now() {
    let rig = Rig::new(config());
    let least = || Placement::LeastLoaded(Tier::Gpu);
    // Nothing is in use anywhere: the lower index.
    let (space, _, _a) = taken(&rig, 4, least());
    assert_eq!(space, "gpu0");
    let (space, _, _b) = taken(&rig, 4, least());
    assert_eq!(space, "gpu1");
    // Two fifths against one.
    let (space, _, _c) = taken(&rig, 4, least());
    assert_eq!(space, "gpu1");
    // Two fifths each.
    assert_eq!(taken(&rig, 4, least()).0, "gpu0");
}

#[test]
fn r10_down_up_near_and_ordered() {
    let topology = Topology::new().with(HOST0, GPU1, 1).with(HOST0, GPU0, 2);
    let rig = Rig::new(config().with_topology(topology));
    assert_eq!(taken(&rig, 5, Placement::DowngradeFrom(GPU1)).0, "host0");
    assert_eq!(taken(&rig, 500, Placement::DowngradeFrom(GPU1)).0, "disk0");
    assert_eq!(taken(&rig, 5, Placement::UpgradeFrom(DISK0)).0, "host0");
    assert_eq!(taken(&rig, 5, Placement::UpgradeFrom(HOST0)).0, "gpu1");
    assert_eq!(taken(&rig, 5, Placement::Nearest { to: HOST0, tier: Tier::Gpu }).0, "gpu1");
    assert_eq!(taken(&rig, 5, Placement::Ordered(vec![Tier::Disk, Tier::Gpu])).0, "disk0");
}

#[test]
fn r10_a_request_names_eight_spaces_at_most() {
    let budgets = (0..12).map(|at| Budget::loan(BudgetId::gpu(at).unwrap(), 10));
    let rig = Rig::new(Config::new().with_budgets(budgets));
    let leases: Vec<_> = (0..8).map(|_| taken(&rig, 10, Placement::AnyIn(Tier::Gpu))).collect();
    assert_eq!(leases[7].0, "gpu7");
    let mut waiting = queued(&rig.scheduler, place(&rig, 10, Placement::AnyIn(Tier::Gpu)));
    assert_eq!(waiting.explain().alternatives, 8);
    drop(leases);
    assert_eq!(whereabouts(&granted(&mut waiting)).0, "gpu0");
}

#[test]
fn r10_no_space_qualifies() {
    let rig = Rig::new(config());
    let refused = |bytes: u64, placement: Placement| rig.scheduler.place(bytes, &placement).unwrap_err();
    let known = "gpu0, gpu1, host0, disk0".to_owned();
    let host1 = SpaceId { tier: Tier::Host, index: 1 };
    assert_eq!(refused(1, Placement::Specific(host1)), PlacementError::NoSpace { known });
    assert_eq!(refused(1, Placement::DowngradeFrom(DISK0)), PlacementError::NoTier);
    let too_large = refused(21, Placement::AnyIn(Tier::Gpu));
    assert_eq!(too_large, PlacementError::TooLarge { bytes: 21, space: GPU1, capacity: 20 });
    assert_eq!(too_large.to_string(), "21 bytes fit in no space that the placement allows; the largest, gpu1, has 20");
    let zero = refused(0, Placement::AnyIn(Tier::Gpu));
    assert_eq!(zero, PlacementError::Invalid(RequestError::Zero { budget: GPU }));
}

#[test]
fn a_topology_names_spaces_that_can_exist() {
    let nowhere = SpaceId { tier: Tier::Disk, index: 9 };
    let found = config().with_topology(Topology::new().with(GPU0, nowhere, 1)).check();
    assert!(matches!(found, Err(ConfigError::Setting { setting: "topology", value: 9, .. })), "{found:?}");
}

#[cfg(feature = "serde")]
#[test]
fn a_topology_is_written_as_distances() {
    let text =
        "[[budget]]\nid = \"gpu0\"\ncapacity = 1\n\n[[distance]]\nfrom = \"gpu0\"\nto = \"host0\"\ndistance = 3\n";
    let read = Config::from_toml(text).unwrap();
    assert_eq!(read.topology, Topology::new().with(GPU0, HOST0, 3));
    assert_eq!(Config::from_toml(&read.to_toml().unwrap()), Ok(read));
    assert!(Config::from_toml(&text.replace("host0", "io")).is_err());
}
