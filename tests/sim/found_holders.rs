//! What random traces with modules and activities have found, each as a small scenario that shows it.

use std::time::Duration;

use bursar::{Budget, BudgetId, Config, Order, Priority, Quota, Tag};

use crate::ask::{Alternative, Ask, Asks};
use crate::driven::Driven;
use crate::event::{Arrival, Event, Seen, Standing, Why};
use crate::world::World;

const START: u64 = 1_000_000_000;
const GPU: BudgetId = BudgetId::GPU;
const HOST: BudgetId = BudgetId::HOST;
const MODULE: u64 = 1;

/// Ten of each.
fn config() -> Config {
    Config::new().with(Budget::loan(GPU, 10)).with(Budget::loan(HOST, 10))
}

fn asks(id: u32, wants: &Asks) -> Arrival {
    Arrival { past: false, ..Arrival::plain(id, Ask::plain(wants), Priority::Normal) }
}

/// Either of two bundles.
fn either(id: u32, first: &Asks, second: &Asks) -> Arrival {
    let mut arrival = asks(id, first);
    arrival.ask.alternatives.push(Alternative { wants: second.clone(), floors: Asks::new() });
    arrival
}

fn of_module(arrival: Arrival) -> Event {
    Event::Submit(Arrival { tag: Tag { module: MODULE, ..Tag::NOBODY }, ..arrival })
}

fn of_activity(arrival: Arrival) -> Event {
    Event::Submit(Arrival { tag: Tag { activity: 1, ..Tag::NOBODY }, ..arrival })
}

fn nobodys(arrival: Arrival) -> Event {
    Event::Submit(arrival)
}

fn release(id: u32) -> Event {
    Event::Release { id, late: false }
}

/// A scheduler with one module.
fn with_module(config: &Config, quotas: &[(BudgetId, u64, u64)]) -> World {
    let quota = |&(id, minimum, cap): &(BudgetId, u64, u64)| (id, Quota { minimum, cap });
    let quotas = quotas.iter().map(quota).collect();
    let mut world = World::new(config, START);
    let seen = world.apply(&Event::Register { number: MODULE, name: 0, weight: 1, quotas });
    assert_eq!(seen, [Seen::Registered(MODULE, Ok(()))]);
    world
}

fn play(world: &mut World, events: impl IntoIterator<Item = Event>) {
    events.into_iter().for_each(|event| drop(world.apply(&event)));
}

fn standing(world: &mut World, id: u32) -> Standing {
    let view = world.view().expect("the books are sound");
    view.standing.into_iter().find(|standing| standing.id == id).expect("it waits")
}

fn is_granted(seen: &[Seen], wanted: u32) -> bool {
    seen.iter().any(|seen| match seen {
        Seen::Granted(id, _) | Seen::Offered { id, .. } => *id == wanted,
        _ => false,
    })
}

/// Whom a cap keeps, a turn has looked at in vain, too.
#[test]
fn r11_those_whom_a_cap_keeps_count_in_the_look_ahead() {
    let mut world = with_module(&Config { look_ahead: 2, ..config() }, &[(GPU, 0, 3)]);
    play(&mut world, [nobodys(asks(0, &vec![(GPU, 10)]))]);
    play(&mut world, (1..=5).map(|id| of_module(asks(id, &vec![(GPU, 3)]))));
    let seen = world.apply(&release(0));
    assert!(is_granted(&seen, 1) && seen.contains(&Seen::LookAhead), "{seen:?}");
}

/// Who leaves a cap as the last that a turn may look at, and turns out to be kept by a claim, stands in the line of
/// that.
#[test]
fn r11_who_leaves_a_cap_at_the_end_of_a_turn_stands_where_something_keeps_it() {
    let short = Config { look_ahead: 1, bypass_time: Duration::from_millis(50), ..config() };
    let mut world = with_module(&short.with(Budget::loan(BudgetId::DISK, 10)), &[(GPU, 0, 3)]);
    play(&mut world, [of_module(asks(0, &vec![(GPU, 3)])), nobodys(asks(1, &vec![(BudgetId::DISK, 10)]))]);
    play(&mut world, [nobodys(asks(2, &vec![(HOST, 7)])), nobodys(asks(3, &vec![(HOST, 5)]))]);
    play(&mut world, [of_module(asks(4, &vec![(GPU, 1), (BudgetId::DISK, 1)]))]);
    play(&mut world, [of_module(asks(5, &vec![(GPU, 1), (HOST, 2)]))]);
    // The large one is passed, and may be passed for so long.
    play(&mut world, [nobodys(asks(6, &vec![(HOST, 1)])), Event::Sleep(50_000_000)]);
    let seen = world.apply(&release(0));
    assert!(seen.contains(&Seen::LookAhead) && !is_granted(&seen, 5), "{seen:?}");
    let seen = world.apply(&release(2));
    assert!(is_granted(&seen, 3) && is_granted(&seen, 5), "there is enough for both: {seen:?}");
}

/// Who comes to be among the first of its module, because its rank is another, is looked at for its minimum.
#[test]
fn r9_who_rises_among_the_first_of_a_module_is_served_from_its_minimum() {
    let mut world = with_module(&Config { look_ahead: 1, ..config() }, &[(GPU, 3, 10)]);
    play(&mut world, (0..2).map(|id| of_module(asks(id, &vec![(GPU, 1)]))));
    play(&mut world, [nobodys(asks(2, &vec![(GPU, 8)])), of_activity(asks(3, &vec![(HOST, 10)]))]);
    let tag = Tag { module: MODULE, activity: 1, ..Tag::NOBODY };
    let holder = Arrival { tag, ..asks(5, &vec![(GPU, 2)]) };
    play(&mut world, [of_module(asks(4, &vec![(GPU, 3)])), Event::Submit(holder), release(1)]);
    assert!(!standing(&mut world, 5).hard, "two are left, but only the first of the two is looked at");
    // Somebody waits for what its activity holds.
    play(&mut world, [nobodys(Arrival { level: Priority::Critical, ..asks(6, &vec![(HOST, 1)]) })]);
    assert!(standing(&mut world, 5).hard, "it is the first, and inside the minimum");
}

/// A dormant waiter with a hard claim asks again, and the cap keeps one of its alternatives: it claims once.
#[test]
fn r2_a_waiter_that_asks_again_beside_its_cap_claims_once() {
    let mut world = with_module(&Config { bypass_limit: 0, ..config() }, &[(HOST, 0, 3)]);
    play(&mut world, [of_module(asks(0, &vec![(HOST, 1)])), nobodys(asks(1, &vec![(GPU, 10)]))]);
    play(&mut world, [of_module(either(2, &vec![(GPU, 10)], &vec![(HOST, 3)])), release(1)]);
    // Its offer expires, because somebody else could use a part of it.
    play(&mut world, [nobodys(asks(3, &vec![(GPU, 1)])), Event::Sleep(200_000_000)]);
    assert_eq!(world.apply(&Event::Poll(2)), [Seen::Waits(2)]);
    assert_eq!(standing(&mut world, 2).claims, [(GPU, 10)]);
    play(&mut world, [Event::Cancel(2)]);
    let seen = world.apply(&nobodys(asks(4, &vec![(GPU, 9)])));
    assert!(is_granted(&seen, 4), "a claim was left behind: {seen:?}");
}

/// Who comes to be served from a minimum still waits for the alternatives that a cap kept until then.
#[test]
fn r10_what_a_cap_keeps_is_not_lost_when_a_minimum_is_found() {
    let mut world = with_module(&config(), &[(HOST, 3, 10), (GPU, 0, 5)]);
    play(&mut world, [of_module(asks(0, &vec![(HOST, 1)])), of_module(asks(1, &vec![(GPU, 1)]))]);
    play(&mut world, [nobodys(asks(2, &vec![(HOST, 9)]))]);
    play(&mut world, [of_module(either(3, &vec![(HOST, 3)], &vec![(GPU, 5)])), release(0)]);
    assert!(standing(&mut world, 3).hard, "it is inside the minimum now");
    let seen = world.apply(&release(1));
    assert!(is_granted(&seen, 3), "{seen:?}");
}

/// Whoever brings an offer about brings the time: it lies for as long as any other.
#[test]
fn r5_an_offer_that_a_merge_brings_about_does_not_expire_at_once() {
    let mut world = with_module(&config(), &[(GPU, 0, 3)]);
    play(&mut world, [of_module(asks(0, &vec![(GPU, 3)])), nobodys(asks(1, &vec![(GPU, 1)]))]);
    play(&mut world, [of_module(asks(2, &vec![(GPU, 2)])), nobodys(asks(3, &vec![(GPU, 9)]))]);
    play(&mut world, [Event::Stall(100_000_000)]);
    let seen = world.apply(&Event::Merge { id: 1, other: 0 });
    assert!(is_granted(&seen, 2), "nothing is the module's any more: {seen:?}");
    let seen = world.apply(&Event::Sleep(99_999_999));
    assert!(!seen.contains(&Seen::Expired(2)), "{seen:?}");
    assert!(world.apply(&Event::Sleep(1)).contains(&Seen::Expired(2)));
}

/// What a minimum has promised is free again when the waiter is gone, also if it would have done with less by then.
#[test]
fn r9_a_promise_to_an_elastic_request_ends_with_it() {
    let mut world = with_module(&config(), &[(GPU, 4, 10)]);
    let mut elastic = asks(1, &vec![(GPU, 4)]);
    elastic.ask.alternatives[0].floors = vec![(GPU, 1)];
    elastic.ask.patience = 10_000_000;
    play(&mut world, [nobodys(asks(0, &vec![(GPU, 10)])), of_module(elastic)]);
    play(&mut world, [Event::Sleep(20_000_000), Event::Cancel(1), of_module(asks(2, &vec![(GPU, 4)]))]);
    assert!(standing(&mut world, 2).hard, "it is wholly inside the minimum");
}

/// The module gave something back while a waiter of it was dormant: it is inside the minimum when it asks again.
#[test]
fn r9_a_dormant_waiter_finds_the_minimum_when_it_asks_again() {
    let mut world = with_module(&config(), &[(GPU, 4, 10)]);
    play(&mut world, [of_module(asks(0, &vec![(GPU, 2)])), nobodys(asks(1, &vec![(GPU, 8)]))]);
    play(&mut world, [of_module(asks(2, &vec![(GPU, 4)])), release(1)]);
    play(&mut world, [nobodys(asks(3, &vec![(GPU, 9)])), Event::Sleep(200_000_000), release(0)]);
    assert_eq!(world.apply(&Event::Poll(2)), [Seen::Waits(2)]);
    let standing = standing(&mut world, 2);
    assert!(standing.hard && standing.level == Priority::Critical, "{standing:?}");
}

/// What was served from a minimum is charged like anything else: the module has its next turn no later for it.
#[test]
fn r9_a_minimum_does_not_cost_a_module_its_share() {
    let mut world = with_module(&Config { order: Order::Shares, ..config() }, &[(GPU, 5, 10)]);
    let named = |mut arrival: Arrival| {
        arrival.ask.module = Some(0);
        of_module(arrival)
    };
    play(&mut world, [named(asks(0, &vec![(GPU, 1)])), nobodys(asks(1, &vec![(GPU, 9)]))]);
    play(&mut world, [nobodys(asks(2, &vec![(GPU, 6)])), named(asks(3, &vec![(GPU, 6)]))]);
    assert_eq!(world.view().expect("sound").order, [3, 2], "a tenth is less than nine");
}

/// Whoever has a rank from somebody is in as much of a hurry as that one, also if nobody looks at that one now.
#[test]
fn r14_a_holder_goes_with_the_ratio_of_whom_it_keeps_wherever_that_one_stands() {
    let mut world = World::new(&Config { order: Order::ResponseRatio, ..config() }, START);
    let critical = |id, wants: &Asks, hold| Arrival { level: Priority::Critical, hold: Some(hold), ..asks(id, wants) };
    play(&mut world, [of_activity(asks(0, &vec![(GPU, 5)])), nobodys(asks(1, &vec![(HOST, 10)]))]);
    play(&mut world, [nobodys(critical(2, &vec![(GPU, 6)], 1_000_000_000))]);
    play(&mut world, [of_activity(Arrival { level: Priority::Low, ..asks(3, &vec![(HOST, 5)]) })]);
    assert_eq!(standing(&mut world, 3).level, Priority::Critical);
    play(&mut world, [nobodys(critical(4, &vec![(HOST, 6)], 1_000_000)), Event::Stall(10_000_000)]);
    let seen = world.apply(&release(1));
    assert!(is_granted(&seen, 4) && !is_granted(&seen, 3), "{seen:?}");
}

/// Who holds nothing any more has nothing that others wait for.
#[test]
fn r8_an_inherited_rank_ends_with_what_was_held() {
    let mut world = World::new(&config(), START);
    play(&mut world, [of_activity(asks(0, &vec![(GPU, 5)])), nobodys(asks(1, &vec![(GPU, 5), (HOST, 10)]))]);
    play(&mut world, [of_activity(Arrival { level: Priority::Low, ..asks(2, &vec![(HOST, 3)]) })]);
    play(&mut world, [nobodys(Arrival { level: Priority::High, ..asks(3, &vec![(GPU, 6)]) })]);
    assert_eq!(standing(&mut world, 2).level, Priority::High);
    play(&mut world, [release(0)]);
    assert_eq!(standing(&mut world, 2).level, Priority::Low);
}

/// Whoever comes to hold something may have what is kept for growth, and is told so.
#[test]
fn r3_who_comes_to_hold_something_is_not_kept_from_the_growth_reserve() {
    let kept = Budget::loan(GPU, 10).growth_reserve(3);
    let mut world = World::new(&Config::new().with(kept).with(Budget::loan(HOST, 10)), START);
    play(&mut world, [nobodys(asks(0, &vec![(GPU, 6)]))]);
    assert_eq!(world.apply(&of_activity(asks(1, &vec![(GPU, 3)]))), [Seen::Waits(1)]);
    let seen = world.apply(&of_activity(asks(2, &vec![(HOST, 1)])));
    assert!(is_granted(&seen, 2) && is_granted(&seen, 1), "{seen:?}");
}

/// The cap of a module that is gone makes nothing impossible.
#[test]
fn r9_what_only_a_cap_made_impossible_is_possible_when_the_module_is_gone() {
    let mut world = with_module(&config(), &[(GPU, 0, 3)]);
    play(&mut world, [nobodys(asks(0, &vec![(HOST, 10)]))]);
    play(&mut world, [of_module(either(1, &vec![(GPU, 5)], &vec![(HOST, 3)]))]);
    let seen = world.apply(&Event::Deregister(MODULE));
    assert!(is_granted(&seen, 1), "{seen:?}");
}

/// A waiter that comes to be kept by its cap claims nothing, although nobody has looked at what blocks it otherwise.
#[test]
fn r9_who_comes_to_be_kept_by_a_cap_claims_nothing() {
    let mut world = with_module(&Config { bypass_limit: 0, ..config() }, &[(GPU, 0, 5)]);
    play(&mut world, [nobodys(asks(0, &vec![(GPU, 5), (HOST, 10)]))]);
    play(&mut world, [of_module(asks(1, &vec![(GPU, 5), (HOST, 5)]))]);
    play(&mut world, [of_module(Arrival { level: Priority::Critical, ..asks(2, &vec![(GPU, 1)]) })]);
    let seen = world.apply(&nobodys(Arrival { level: Priority::Idle, ..asks(3, &vec![(GPU, 4)]) }));
    assert!(is_granted(&seen, 3), "{seen:?}");
}

/// Who puts all that it holds into another lease of its own, here one of bandwidth in a module, has held it all along:
/// it was told a verdict just now, and how often counts.
#[test]
fn c7_what_a_holder_was_told_is_not_forgotten_when_it_merges_its_leases() {
    const MS: u64 = 1_000_000;
    const NET: BudgetId = BudgetId::NETWORK;
    let config = config().with(Budget::rate(NET, 1)).with_verdict_after(Duration::from_millis(10)).with_roll_backs(1);
    let mut world = with_module(&config, &[]);
    let of =
        |activity, module, arrival| Event::Submit(Arrival { tag: Tag { module, activity, ..Tag::NOBODY }, ..arrival });
    play(&mut world, [of(1, 0, asks(0, &vec![(GPU, 10)])), of(2, 0, asks(1, &vec![(HOST, 10)]))]);
    play(&mut world, [of(2, MODULE, asks(2, &vec![(NET, 1)]))]);
    play(&mut world, [of(1, 0, asks(3, &vec![(HOST, 1)])), of(2, 0, asks(4, &vec![(GPU, 1)]))]);
    let told = |id, why| Seen::Ended { id, level: Priority::Normal, why };
    assert!(world.apply(&Event::Sleep(10 * MS)).contains(&told(4, Why::RollBack)));
    play(&mut world, [Event::Merge { id: 2, other: 1 }, of(2, 0, asks(5, &vec![(GPU, 1)]))]);
    let seen = world.apply(&Event::Sleep(20 * MS - 1));
    assert!(!seen.iter().any(|seen| matches!(seen, Seen::Ended { .. })), "it was told a moment ago: {seen:?}");
    assert!(world.apply(&Event::Sleep(1)).contains(&told(5, Why::Split)));
}

/// Why a wait ended says what kept it: the budget of which the module has all that it may have (C6).
#[test]
fn c6_the_end_of_a_wait_names_the_budget_of_the_cap() {
    let mut world = with_module(&config(), &[(HOST, 0, 3)]);
    play(&mut world, [of_module(asks(0, &vec![(HOST, 2)]))]);
    let late = Arrival { deadline: Some(1_000), ..asks(1, &vec![(GPU, 1), (HOST, 2)]) };
    play(&mut world, [of_module(late), Event::Sleep(1_000)]);
    let seen = world.apply(&Event::Poll(1));
    let [Seen::Collected { why: Why::Late, short, .. }] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((short.budget, short.asked), (HOST, 2));
}

/// A holder rises to the very rank that it has inherited. From then on it has that of its own, and what it rises to
/// next shows before anybody is granted anything.
#[test]
fn c4_r8_who_rises_to_the_rank_that_it_inherits_inherits_nothing_any_more() {
    const MS: u64 = 1_000_000;
    const IO: BudgetId = BudgetId::IO;
    let config = config().with(Budget::rate(IO, 5).burst(1)).with_edf_horizon(Duration::from_millis(300));
    let mut world = World::new(&config.with_aging_step(Duration::from_millis(100)), START);
    let with = |level, deadline, arrival| Arrival { level, deadline, ..arrival };
    let low = with(Priority::Low, None, asks(2, &vec![(IO, 1)]));
    play(&mut world, [of_activity(asks(0, &vec![(GPU, 1)])), nobodys(asks(1, &vec![(IO, 1)])), of_activity(low)]);
    // Right behind this one is where the holder comes to when it rises: 300 ms after its 100.
    let first = with(Priority::Normal, Some(350 * MS - 1), asks(3, &vec![(GPU, 10)]));
    play(&mut world, [Event::Sleep(50 * MS), nobodys(first), Event::Sleep(60 * MS)]);
    let before = with(Priority::Normal, Some(280 * MS), asks(4, &vec![(IO, 1)]));
    play(&mut world, [nobodys(before), Event::Stall(90 * MS)]);
    let seen = world.apply(&nobodys(asks(5, &vec![(HOST, 1)])));
    assert!(is_granted(&seen, 2) && !is_granted(&seen, 4), "{seen:?}");
}

/// Its activity holds nothing any more that the first in rank waits for.
#[test]
fn r8_an_inherited_rank_is_gone_with_the_offer_that_it_was_for() {
    let mut world = World::new(&config(), START);
    play(&mut world, [nobodys(asks(0, &vec![(GPU, 9)])), nobodys(asks(1, &vec![(HOST, 10)]))]);
    play(&mut world, [of_activity(asks(2, &vec![(GPU, 1), (HOST, 1)])), release(1)]);
    let at = |level, arrival| Arrival { level, ..arrival };
    play(&mut world, [nobodys(at(Priority::High, asks(3, &vec![(HOST, 10)])))]);
    play(&mut world, [of_activity(at(Priority::Low, asks(4, &vec![(GPU, 1)]))), nobodys(asks(5, &vec![(GPU, 1)]))]);
    let seen = world.apply(&Event::Sleep(1_000_000_000));
    let offered = seen.iter().filter_map(|seen| if let Seen::Offered { id, .. } = seen { Some(*id) } else { None });
    assert_eq!(offered.take(2).collect::<Vec<_>>(), [3, 5], "{seen:?}");
}
