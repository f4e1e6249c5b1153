//! The engine does what the reference model does: the same grants, offers, refusals and verdicts with the same figures,
//! in the same order, and the same units free, after every event of random traces.

use bursar::{BudgetId, Order, Priority};
use fastrand::Rng;

use crate::ask::Ask;
use crate::crowd::Crowd;
use crate::driven::Driven;
use crate::event::{Arrival, Event, Seen, Standing, View};
use crate::model::Model;
use crate::profile::Profile;
use crate::tally::{Case, Tally};
use crate::trace::{guarded, seeds, shrink, tail};
use crate::world::World;

/// Where the clocks of all traces start.
const START: u64 = 1_000_000_000;

/// Events of a trace; the last of some traces close the scheduler.
const LENGTH: u64 = 1_000;

/// The engine and the model side by side.
struct Pair {
    world: World,
    model: Model,
    crowd: Crowd,
    tally: Tally,
    order: Vec<u32>,
    standing: Vec<Standing>,
    inherited: u64,
}

impl Pair {
    fn new(profile: &Profile) -> Pair {
        Pair {
            world: World::new(&profile.config, START),
            model: Model::new(&profile.config, START),
            crowd: Crowd::new(START),
            tally: Tally::default(),
            order: Vec::new(),
            standing: Vec::new(),
            inherited: 0,
        }
    }

    /// Does the same to both, and tells what is seen. An error tells how they differ.
    fn step(&mut self, event: &Event) -> Result<Vec<Seen>, String> {
        let Pair { world, model, crowd, tally, order, standing, inherited } = self;
        let (engine, expected) = (guarded(|| Ok(in_order(world.apply(event))))?, in_order(model.apply(event)));
        if engine != expected {
            return Err(format!("seen\n  engine: {engine:?}\n  model:  {expected:?}"));
        }
        model.check().map_err(|broken| format!("the model is wrong in itself: {broken}"))?;
        let (left, expected) = (guarded(|| world.view())?, model.look());
        if left != expected {
            return Err(format!("left\n{}", beside(&left, &expected)));
        }
        crowd.note(event, &engine);
        engine.iter().for_each(|seen| tally.see(seen));
        let alerts = engine.iter().filter(|seen| matches!(seen, Seen::Alert { .. })).count();
        tally.count_times(Case::Alerted, alerts as u64);
        tally.compare_turns(order, standing, &engine);
        tally.compare(standing, &left.standing);
        tally.count_times(Case::Unsafe, model.kept_for_safety() as u64);
        tally.compare_asked(&engine, &left);
        (*order, *standing) = (left.order, left.standing);
        tally.count_times(Case::Inherited, left.inherited - *inherited);
        *inherited = left.inherited;
        Ok(engine)
    }
}

/// Ends and expiries of one moment come in no particular order.
fn in_order(mut seen: Vec<Seen>) -> Vec<Seen> {
    let key = |seen: &Seen| match seen {
        Seen::Expired(id) => Some((*id, 0)),
        Seen::Ended { id, .. } => Some((*id, 1)),
        _ => None,
    };
    for moment in seen.chunk_by_mut(|a, b| key(a).is_some() && key(b).is_some()) {
        moment.sort_by_key(key);
    }
    seen
}

fn beside(engine: &View, model: &View) -> String {
    let shelves = engine.shelves.iter().zip(&model.shelves).filter(|(engine, model)| engine != model);
    let shelves = shelves.map(|(engine, model)| format!("  engine: {engine:?}\n  model:  {model:?}\n"));
    let rest = |view: &View| format!("{:?}", View { shelves: Vec::new(), standing: Vec::new(), ..view.clone() });
    let only = |these: &View, others: &View| {
        let only = these.standing.iter().filter(|standing| !others.standing.contains(standing));
        only.map(|standing| format!("    {standing:?}\n")).collect::<String>()
    };
    let shelves = shelves.chain([format!("  engine:\n{}  model:\n{}", only(engine, model), only(model, engine))]);
    format!("{}  engine: {}\n  model:  {}", shelves.collect::<String>(), rest(engine), rest(model))
}

/// Plays a whole trace; where it first differs, and how.
fn replay(profile: &Profile, events: &[Event]) -> Option<(usize, String, Pair)> {
    let mut pair = Pair::new(profile);
    for (step, event) in events.iter().enumerate() {
        if let Err(how) = pair.step(event) {
            return Some((step, how, pair));
        }
    }
    None
}

/// Plays random traces of one kind, `events` events in all, and demands what must have happened.
fn compare(profile: &Profile, events: u64, least: &[(Case, u64)]) {
    let mut tally = Tally::default();
    for seed in seeds(events, LENGTH) {
        let mut rng = Rng::with_seed(seed);
        let mut pair = Pair::new(profile);
        let mut trace = Vec::new();
        for step in 0..LENGTH {
            let last = step == LENGTH * 9 / 10 && seed.is_multiple_of(3);
            trace.push(if last { Event::Close } else { profile.event(&mut rng, &pair.crowd, trace.len() as u32) });
            if let Err(how) = pair.step(&trace[trace.len() - 1]) {
                report(profile, seed, trace, &how);
            }
        }
        tally.add(&pair.tally);
    }
    tally.demand(least);
}

fn report(profile: &Profile, seed: u64, trace: Vec<Event>, how: &str) -> ! {
    let first = format!("{}: seed {seed}, step {}: {how}\n{}", profile.name, trace.len() - 1, tail(&trace));
    // Cutting it down may take long.
    eprintln!("{first}");
    let least = shrink(trace, |events| replay(profile, events).map(|(step, ..)| step));
    let (step, how, pair) = replay(profile, &least).expect("a trace is only cut down while it fails");
    let Pair { world, model, .. } = pair;
    panic!(
        "The least trace that fails, at its step {step}: {how}\n{}\nThe model:\n{}\nThe engine:\n{}",
        tail(&least),
        model.describe(),
        world.describe(),
    );
}

/// What happens in traces of every kind.
const USUAL: &[(Case, u64)] =
    &[(Case::Blocked, 500), (Case::Offered, 300), (Case::Accepted, 200), (Case::Expired, 20), (Case::NotNow, 50)];

#[test]
fn one_budget() {
    compare(&Profile::one_budget(), 40_000, USUAL);
}

#[test]
fn four_budgets() {
    let least = [(Case::Late, 200), (Case::NeverFits, 300), (Case::EndedByClose, 50), (Case::Regained, 20)];
    compare(&Profile::four_budgets(), 40_000, &least);
}

#[test]
fn eight_budgets_with_rates() {
    compare(&Profile::eight_with_rates(), 40_000, USUAL);
}

#[test]
fn bundles_of_a_dozen_budgets() {
    compare(&Profile::wide_bundles(), 15_000, USUAL);
}

#[test]
fn a_look_ahead_of_one() {
    compare(&Profile::look_ahead(1, "look-ahead of 1"), 20_000, &[(Case::LookAhead, 500), (Case::Offered, 500)]);
}

#[test]
fn a_look_ahead_of_two() {
    compare(&Profile::look_ahead(2, "look-ahead of 2"), 20_000, &[(Case::LookAhead, 100), (Case::Offered, 500)]);
}

#[test]
fn many_of_equal_rank() {
    compare(&Profile::equal_ranks(), 10_000, &[(Case::Offered, 300), (Case::Expired, 50)]);
}

#[test]
fn tight_capacities_and_few_waiters() {
    compare(&Profile::tight(), 20_000, &[(Case::Full, 500), (Case::Late, 100), (Case::Regained, 20)]);
}

#[test]
fn offers_that_expire_at_once() {
    compare(&Profile::short_offers(), 20_000, &[(Case::Expired, 1_000), (Case::Regained, 200)]);
}

#[test]
fn clock_readings_that_come_late() {
    compare(&Profile::old_readings(), 15_000, USUAL);
}

#[test]
fn figures_near_the_largest() {
    compare(&Profile::vast(), 10_000, &[(Case::Offered, 200), (Case::Accepted, 200)]);
}

#[test]
fn bypass_limits_from_none_to_two() {
    compare(&Profile::passed(0, "strict"), 45_000, &[(Case::Hardened, 500)]);
    compare(&Profile::passed(1, "passed once"), 45_000, &[(Case::Passed, 500), (Case::Hardened, 500)]);
    compare(&Profile::passed(2, "passed twice"), 45_000, &[(Case::Passed, 500), (Case::Hardened, 500)]);
}

#[test]
fn alternatives_and_elastic_amounts() {
    let least = [(Case::Elastic, 500), (Case::SecondChoice, 500), (Case::Moved, 500), (Case::Refitted, 100)];
    compare(&Profile::flexible(), 85_000, &least);
}

#[test]
fn levels_that_rise() {
    compare(&Profile::aging(), 80_000, &[(Case::Aged, 500), (Case::Regained, 20), (Case::Late, 200)]);
}

#[test]
fn modules_with_shares() {
    compare(&Profile::shares(), 80_000, &[(Case::Aged, 100), (Case::Hardened, 500)]);
}

#[test]
fn the_highest_response_ratio_first() {
    let least = [(Case::OutOfTurn, 100), (Case::Aged, 40), (Case::Hardened, 100), (Case::Late, 200)];
    compare(&Profile::ratio(64, 16, "ratios"), 40_000, &least);
    compare(&Profile::ratio(64, 1, "ratios, passed once"), 20_000, &[(Case::OutOfTurn, 60), (Case::Hardened, 500)]);
    compare(&Profile::ratio(3, 4, "ratios of three"), 20_000, &[(Case::OutOfTurn, 40), (Case::LookAhead, 200)]);
}

#[test]
fn modules_with_quotas() {
    compare(&Profile::quotas(), 60_000, &[(Case::Parked, 500), (Case::Refitted, 500)]);
    let mut short = Profile::quotas().bypass(0, 200);
    short.config.look_ahead = 2;
    compare(
        &Profile { name: "quotas, look-ahead of 2", ..short },
        20_000,
        &[(Case::Parked, 150), (Case::LookAhead, 50)],
    );
}

#[test]
fn leases_that_grow() {
    compare(&Profile::growth(), 60_000, &[(Case::Inherited, 1_000), (Case::Hardened, 700)]);
}

#[test]
fn holders_that_wait_for_each_other() {
    let least = [(Case::RolledBack, 50), (Case::ToldToSplit, 80), (Case::Inherited, 2_000), (Case::Expired, 1_000)];
    compare(&Profile::deadlocks(), 60_000, &least);
}

#[test]
fn activities_that_say_how_much_they_will_hold() {
    let least = [(Case::Unsafe, 3_000), (Case::Inherited, 500), (Case::Hardened, 300), (Case::RolledBack, 10)];
    compare(&Profile::bounds(), 20_000, &least);
}

#[test]
fn scopes_that_wait_for_each_other() {
    let least = [(Case::Alerted, 120), (Case::RolledBack, 15), (Case::Inherited, 500)];
    compare(&Profile::scopes(), 30_000, &least);
}

#[test]
fn leases_that_are_asked_to_end() {
    let least = [(Case::Revoked, 1_000), (Case::Overdue, 100), (Case::Hardened, 1_000), (Case::Expired, 100)];
    compare(&Profile::preemption(), 40_000, &least);
    let least = [(Case::Revoked, 1_000), (Case::AskedBack, 25), (Case::Overdue, 250), (Case::Inherited, 1_000)];
    compare(&Profile::preemption_of_holders(), 40_000, &least);
}

#[test]
fn everything_together() {
    let least = [
        (Case::Revoked, 300),
        (Case::Parked, 400),
        (Case::Critical, 500),
        (Case::Inherited, 1_000),
        (Case::RolledBack, 30),
        (Case::ToldToSplit, 60),
        (Case::Unsafe, 2_000),
        (Case::Alerted, 30),
    ];
    compare(&Profile::everything(Order::Deadline), 40_000, &least);
    compare(&Profile::everything(Order::Shares), 40_000, &least);
    // More than the other orders come to, in which a turn may go through the lines more than once.
    let by_ratio = [&least[..], &[(Case::OutOfTurn, 20)]].concat();
    compare(&Profile::everything(Order::ResponseRatio), 40_000, &by_ratio);
}

#[test]
fn short_turns_and_few_bypasses() {
    let least = [(Case::LookAhead, 500), (Case::Hardened, 500)];
    compare(&Profile::look_ahead(2, "look-ahead of 2").bypass(1, 50), 40_000, &least);
}

/// A turn that grants more than a few pauses, so that others come at the books; nothing is lost by that.
#[test]
fn p09_one_release_serves_hundreds_in_order_of_rank() {
    const WAITERS: u32 = 300;
    let profile = Profile::equal_ranks();
    let mut rng = Rng::with_seed(9);
    let mut pair = Pair::new(&profile);
    let budget = BudgetId::GPU;
    let mut step = |event| pair.step(&event).unwrap_or_else(|how| panic!("{how}"));
    let mut submit = |id, units, level| {
        let ask = Ask::plain(&vec![(budget, units)]);
        step(Event::Submit(Arrival::plain(id, ask, level)))
    };
    submit(0, 120, Priority::Normal);
    for id in 1..=WAITERS {
        let level = Priority::ALL[rng.usize(..Priority::COUNT)];
        assert_eq!(submit(id, 1, level), [Seen::Waits(id)]);
    }
    step(Event::Capacity(budget, 10_000));
    let offered = step(Event::Sleep(0));
    assert!(offered.is_empty(), "all were offered by the turn of the capacity");
    assert!(pair.world.breaths >= u64::from(WAITERS) / 64, "{} pauses", pair.world.breaths);
    assert_eq!(pair.model.look().offers, WAITERS as usize);
}
