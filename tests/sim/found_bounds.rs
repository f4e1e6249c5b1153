//! What random traces with bounded activities have found, each as a small scenario that shows it.

use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Priority, Tag};

use crate::ask::{Ask, Asks};
use crate::driven::Driven;
use crate::event::{Arrival, Event, Grant, Refused, Seen, Why};
use crate::world::World;

const START: u64 = 1_000_000_000;
const GPU: BudgetId = BudgetId::GPU;
const HOST: BudgetId = BudgetId::HOST;
const DISK: BudgetId = BudgetId::DISK;
const IO: BudgetId = BudgetId::IO;

/// Ten of each loan.
fn world() -> World {
    let loans = [GPU, HOST, DISK].map(|id| Budget::loan(id, 10));
    let config = loans.into_iter().fold(Config::new(), Config::with);
    World::new(&config.with(Budget::rate(IO, 10)), START)
}

fn asks(id: u32, wants: &Asks) -> Arrival {
    Arrival { past: false, ..Arrival::plain(id, Ask::plain(wants), Priority::Normal) }
}

/// Of an activity that said how much it will ever hold.
fn of(activity: u64, most: &Asks, arrival: Arrival) -> Event {
    let tag = Tag { activity, ..Tag::NOBODY };
    Event::Submit(Arrival { tag, most: Some(most.clone()), ..arrival })
}

fn granted(world: &mut World, event: Event) -> Grant {
    match &world.apply(&event)[..] {
        [Seen::Granted(_, grant)] => grant.clone(),
        seen => panic!("{event:?}: {seen:?}"),
    }
}

fn waits(world: &mut World, event: Event) {
    assert!(matches!(world.apply(&event)[..], [Seen::Waits(_)]), "{event:?}");
}

fn ends(seen: &[Seen]) -> Vec<(u32, Why)> {
    let end = |seen: &Seen| if let Seen::Ended { id, why, .. } = seen { Some((*id, *why)) } else { None };
    seen.iter().filter_map(end).collect()
}

/// A lease that holds nothing of a loan may grow as any other, and is the activity's all the same.
#[test]
fn c7_growth_of_an_empty_lease_keeps_to_the_bound() {
    let mut world = world();
    granted(&mut world, of(1, &vec![(GPU, 4)], asks(0, &vec![(IO, 1)])));
    let more = |id, units| Event::Grow { of: 0, more: Arrival { grows: true, ..asks(id, &vec![(GPU, units)]) } };
    let seen = world.apply(&more(1, 5));
    assert!(matches!(seen[..], [Seen::Refused(1, Refused::NeverFits(short))] if short.limit == 4), "{seen:?}");
    granted(&mut world, more(2, 4));
}

/// What one of them leaves of the bound is too little for the other.
#[test]
fn c7_two_requests_of_one_activity_get_no_more_together_than_it_said() {
    let (mut world, most) = (world(), vec![(GPU, 8)]);
    granted(&mut world, Event::Submit(asks(0, &vec![(GPU, 10)])));
    waits(&mut world, of(1, &most, asks(1, &vec![(GPU, 5)])));
    waits(&mut world, of(1, &most, asks(2, &vec![(GPU, 5)])));
    let seen = world.apply(&Event::Release { id: 0, late: false });
    assert!(matches!(seen[..], [Seen::Offered { id: 1, .. }]), "{seen:?}");
    world.apply(&Event::Poll(1));
    // It waits for what it holds itself.
    assert_eq!(ends(&world.apply(&Event::Sleep(1_000_000_000))), [(2, Why::Split)]);
}

#[test]
fn c7_an_elastic_request_gets_no_more_than_is_left_of_the_bound() {
    let (mut world, most) = (world(), vec![(GPU, 8)]);
    granted(&mut world, of(1, &most, asks(0, &vec![(GPU, 4)])));
    let mut elastic = asks(1, &vec![(GPU, 6)]);
    elastic.ask.alternatives[0].floors = vec![(GPU, 2)];
    assert_eq!(granted(&mut world, of(1, &most, elastic)).loans, [(GPU, 3)]);
}

/// What comes back of an overdrawn loan makes up for what is overdrawn before anybody can have it.
#[test]
fn c7_what_comes_back_of_an_overdrawn_loan_is_not_there_yet() {
    let mut world = world();
    granted(&mut world, of(1, &vec![(GPU, 4)], asks(0, &vec![(GPU, 4)])));
    granted(&mut world, of(2, &vec![(GPU, 4), (HOST, 10)], asks(1, &vec![(GPU, 4)])));
    world.apply(&Event::Capacity(GPU, 4));
    // With that, the third could end only after the second, and the second only after the third.
    waits(&mut world, of(3, &vec![(GPU, 4), (HOST, 2)], asks(2, &vec![(HOST, 2)])));
}

/// Rates come back with time, however unsafe it is to lend.
#[test]
fn c7_safety_keeps_nobody_from_a_rate() {
    let (mut world, most) = (world(), vec![(GPU, 6)]);
    granted(&mut world, of(1, &most, asks(0, &vec![(GPU, 4)])));
    granted(&mut world, of(2, &most, asks(1, &vec![(GPU, 4)])));
    world.apply(&Event::Capacity(GPU, 8));
    granted(&mut world, of(1, &most, asks(2, &vec![(IO, 3)])));
}

/// One waits for units, one for those of the first, and one for safety because of the others: none of them goes on
/// unless somebody is told to.
#[test]
fn c7_who_waits_for_safety_is_part_of_a_deadlock_with_others() {
    let mut world = world();
    let (bounded, other) = (vec![(GPU, 8), (HOST, 10)], vec![(GPU, 8), (DISK, 10)]);
    granted(&mut world, of(1, &bounded, asks(0, &vec![(GPU, 4)])));
    granted(&mut world, of(2, &other, asks(1, &vec![(DISK, 10)])));
    let unbounded = |arrival| Event::Submit(Arrival { tag: Tag { activity: 3, ..Tag::NOBODY }, ..arrival });
    granted(&mut world, unbounded(asks(2, &vec![(HOST, 10)])));
    waits(&mut world, of(1, &bounded, asks(3, &vec![(HOST, 5)])));
    waits(&mut world, unbounded(asks(4, &vec![(DISK, 5)])));
    waits(&mut world, of(2, &other, asks(5, &vec![(GPU, 4)])));
    assert_eq!(ends(&world.apply(&Event::Sleep(50_000_000))).first(), Some(&(5, Why::RollBack)));
}

/// What another activity was granted meanwhile makes it no matter of safety any more, and is what is missing.
#[test]
fn r10_whom_safety_keeps_no_more_stands_where_units_are_missing() {
    let mut world = world();
    let (first, second) = (vec![(GPU, 6), (HOST, 10)], vec![(GPU, 9), (HOST, 10)]);
    granted(&mut world, of(1, &first, asks(0, &vec![(GPU, 3), (HOST, 5)])));
    waits(&mut world, of(2, &second, asks(1, &vec![(GPU, 3), (HOST, 1)])));
    granted(&mut world, of(1, &first, asks(2, &vec![(HOST, 5)])));
    let standing = world.view().expect("the books are sound").standing;
    assert_eq!(standing[0].filed, [(0, HOST)], "{standing:?}");
    assert_eq!(standing[0].passes, 1, "a later request was granted what it asks for");
}

/// One lacks host memory; the other only safety keeps, until the first claims that. A third passes both at once.
#[test]
fn r4_of_two_that_may_be_passed_no_more_the_first_in_rank_claims_first() {
    let loans = [GPU, HOST].map(|id| Budget::loan(id, 10));
    let mut world = World::new(&loans.into_iter().fold(Config::new().with_bypass_limit(1), Config::with), START);
    granted(&mut world, of(1, &vec![(GPU, 8)], asks(0, &vec![(GPU, 4)])));
    granted(&mut world, Event::Submit(asks(1, &vec![(HOST, 6)])));
    waits(&mut world, Event::Submit(asks(2, &vec![(HOST, 5)])));
    waits(&mut world, of(2, &vec![(GPU, 8), (HOST, 3)], asks(3, &vec![(GPU, 4), (HOST, 3)])));
    granted(&mut world, Event::Submit(asks(4, &vec![(GPU, 1), (HOST, 1)])));
    let standing = world.view().expect("the books are sound").standing;
    let claims: Vec<_> = standing.iter().map(|each| (each.id, each.claims.clone())).collect();
    assert_eq!(claims, [(2, vec![(HOST, 5)]), (3, vec![(GPU, 4), (HOST, 3)])]);
}

/// A claim keeps one that would not be safe either, until its owner depends on what that one holds: from then on only
/// safety keeps it, and it keeps nobody from anything.
#[test]
fn r9_who_comes_to_be_kept_by_nothing_but_safety_claims_nothing() {
    let loans = [GPU, HOST, DISK].map(|id| Budget::loan(id, 10));
    let mut world = World::new(&loans.into_iter().fold(Config::new().with_bypass_limit(0), Config::with), START);
    let (first, second) = (vec![(GPU, 8), (HOST, 6), (DISK, 10)], vec![(GPU, 10), (DISK, 6)]);
    let unbounded = |arrival| Event::Submit(Arrival { tag: Tag { activity: 3, ..Tag::NOBODY }, ..arrival });
    granted(&mut world, of(1, &first, asks(0, &vec![(HOST, 3)])));
    granted(&mut world, of(2, &second, asks(1, &vec![(DISK, 3)])));
    granted(&mut world, unbounded(asks(2, &vec![(DISK, 1)])));
    granted(&mut world, Event::Submit(asks(3, &vec![(HOST, 7)])));
    waits(&mut world, Event::Submit(asks(4, &vec![(DISK, 8)])));
    waits(&mut world, of(1, &first, asks(5, &vec![(GPU, 2), (DISK, 2)])));
    let claims = |world: &mut World| {
        let standing = world.view().expect("the books are sound").standing;
        standing.into_iter().find(|each| each.id == 5).map(|each| each.claims)
    };
    assert_eq!(claims(&mut world), Some(vec![(GPU, 2), (DISK, 2)]));
    waits(&mut world, unbounded(asks(6, &vec![(HOST, 1)])));
    assert_eq!(claims(&mut world), Some(vec![]));
    granted(&mut world, Event::Submit(asks(7, &vec![(GPU, 9)])));
}

/// A claimant waits for what an activity has whose growth is safe only after another has ended.
#[test]
fn r3_a_claim_does_not_bind_who_has_to_end_before_it_is_safe() {
    let loans = [GPU, HOST, DISK].map(|id| Budget::loan(id, 10));
    let mut world = World::new(&loans.into_iter().fold(Config::new().with_bypass_limit(0), Config::with), START);
    let (first, second) = (vec![(GPU, 10), (DISK, 10)], vec![(GPU, 8), (HOST, 10), (DISK, 5)]);
    granted(&mut world, of(1, &first, asks(0, &vec![(GPU, 2)])));
    granted(&mut world, of(2, &second, asks(1, &vec![(DISK, 5)])));
    waits(&mut world, of(1, &first, asks(2, &vec![(GPU, 2)])));
    let large = Arrival { level: Priority::High, ..asks(3, &vec![(GPU, 9), (HOST, 10)]) };
    waits(&mut world, Event::Submit(large));
    waits(&mut world, Event::Submit(asks(4, &vec![(HOST, 1)])));
    granted(&mut world, of(2, &second, asks(5, &vec![(HOST, 3)])));
}

/// The first in rank waits for the end of an activity that holds nothing of what it asks for.
fn assert_goes_first(holds: Option<u64>) {
    let mut world = world();
    let (first, second) = (vec![(GPU, 10), (DISK, 10)], vec![(GPU, 8), (HOST, 10), (DISK, 5)]);
    granted(&mut world, Event::Submit(asks(0, &vec![(HOST, 10)])));
    granted(&mut world, of(2, &second, asks(1, &vec![(DISK, 5)])));
    if let Some(units) = holds {
        granted(&mut world, of(1, &first, asks(2, &vec![(GPU, units)])));
    }
    waits(&mut world, Event::Submit(asks(3, &vec![(HOST, 5)])));
    waits(&mut world, of(2, &second, asks(4, &vec![(HOST, 10)])));
    waits(&mut world, of(1, &first, Arrival { level: Priority::High, ..asks(5, &vec![(GPU, 4)]) }));
    let seen = world.apply(&Event::Release { id: 0, late: false });
    assert!(matches!(seen[..], [Seen::Offered { id: 4, .. }]), "{seen:?}");
}

#[test]
fn p25_who_has_to_end_before_it_is_safe_inherits_the_rank() {
    assert_goes_first(Some(1));
}

#[test]
fn p25_who_has_to_end_before_another_may_begin_inherits_the_rank() {
    assert_goes_first(None);
}

/// The first has more of a loan than there will be, so it needs no more and can end; the second can then, too.
#[test]
fn c7_who_takes_in_what_overdraws_a_loan_lets_others_go_on() {
    let mut world = world();
    granted(&mut world, of(1, &vec![(GPU, 6)], asks(0, &vec![(GPU, 2)])));
    granted(&mut world, Event::Submit(asks(1, &vec![(GPU, 4)])));
    granted(&mut world, of(2, &vec![(GPU, 4)], asks(2, &vec![(GPU, 2)])));
    world.apply(&Event::Capacity(GPU, 5));
    waits(&mut world, of(3, &vec![(GPU, 4), (HOST, 1)], asks(3, &vec![(HOST, 1)])));
    let seen = world.apply(&Event::Merge { id: 0, other: 1 });
    assert!(matches!(seen[..], [Seen::Offered { id: 3, .. }]), "{seen:?}");
}

/// It was asked with a lower level than that of whoever begins, and has risen to it since.
#[test]
fn r4_who_has_risen_and_is_kept_by_safety_is_passed_by_whom_it_goes_before_now() {
    let loans = [GPU, HOST].map(|id| Budget::loan(id, 10));
    let config = Config::new().with_aging_step(Duration::from_millis(100));
    let mut world = World::new(&loans.into_iter().fold(config, Config::with), START);
    granted(&mut world, of(1, &vec![(GPU, 8)], asks(0, &vec![(GPU, 4)])));
    let low = Arrival { level: Priority::Low, ..asks(1, &vec![(GPU, 4)]) };
    waits(&mut world, of(2, &vec![(GPU, 8)], low));
    world.apply(&Event::Sleep(150_000_000));
    granted(&mut world, of(3, &vec![(GPU, 1), (HOST, 1)], asks(2, &vec![(HOST, 1)])));
    let standing = world.view().expect("the books are sound").standing;
    assert_eq!(standing[0].passes, 1, "{standing:?}");
}
