//! The engine does what the reference model does: the same grants, offers, refusals and verdicts with the same figures, in the
//! same order, and the same units free, after every event of random traces.

use bursar::{BudgetId, Priority};
use fastrand::Rng;

use crate::event::{Arrival, Event, Refused, Seen, View, Why};
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
}

impl Pair {
    fn new(profile: &Profile) -> Pair {
        Pair { world: World::new(&profile.config, START), model: Model::new(&profile.config, START) }
    }

    /// Does the same to both, and tells what is seen. An error tells how they differ.
    fn step(&mut self, event: &Event) -> Result<Vec<Seen>, String> {
        let Pair { world, model } = self;
        let (engine, expected) = (guarded(|| Ok(in_order(world.apply(event))))?, in_order(model.apply(event)));
        if engine != expected {
            return Err(format!("seen\n  engine: {engine:?}\n  model:  {expected:?}"));
        }
        let (left, expected) = (guarded(|| world.view())?, model.view());
        if left != expected {
            return Err(format!("left\n{}", beside(&left, &expected)));
        }
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
    let rest = |view: &View| format!("{:?}", View { shelves: Vec::new(), ..view.clone() });
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
            trace.push(if last { Event::Close } else { profile.event(&mut rng, &pair.world, trace.len() as u32) });
            match pair.step(&trace[trace.len() - 1]) {
                Ok(seen) => seen.iter().filter_map(case).for_each(|case| tally.count(case)),
                Err(how) => report(profile, seed, trace, &how),
            }
        }
    }
    tally.demand(least);
}

fn case(seen: &Seen) -> Option<Case> {
    Some(match seen {
        Seen::Waits(_) => Case::Blocked,
        Seen::Offered { .. } => Case::Offered,
        Seen::Accepted(_) => Case::Accepted,
        Seen::Expired(_) => Case::Expired,
        Seen::Regained(_) => Case::Regained,
        Seen::Ended { why: Why::Late, .. } => Case::Late,
        Seen::Ended { why: Why::NeverFits, .. } => Case::NeverFits,
        Seen::Ended { why: Why::Closed, .. } => Case::EndedByClose,
        Seen::Refused(_, Refused::Full(..)) => Case::Full,
        Seen::Refused(_, Refused::NotNow(_)) => Case::NotNow,
        Seen::LookAhead => Case::LookAhead,
        _ => return None,
    })
}

fn report(profile: &Profile, seed: u64, trace: Vec<Event>, how: &str) -> ! {
    let first = format!("{}: seed {seed}, step {}: {how}\n{}", profile.name, trace.len() - 1, tail(&trace));
    let least = shrink(trace, |events| replay(profile, events).map(|(step, ..)| step));
    let (step, how, pair) = replay(profile, &least).expect("a trace is only cut down while it fails");
    let Pair { world, model } = pair;
    panic!(
        "{first}\nThe least trace that fails, at its step {step}: {how}\n{}\nThe model:\n{}\nThe engine:\n{}",
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
    compare(&Profile::one_budget(), 30_000, USUAL);
}

#[test]
fn four_budgets() {
    let least = [(Case::Late, 200), (Case::NeverFits, 300), (Case::EndedByClose, 50), (Case::Regained, 20)];
    compare(&Profile::four_budgets(), 30_000, &least);
}

#[test]
fn eight_budgets_with_rates() {
    compare(&Profile::eight_with_rates(), 30_000, USUAL);
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
        let arrival = Arrival { id, asks: vec![(budget, units)], level, deadline: None, wait: true, past: true };
        step(Event::Submit(arrival))
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
    assert_eq!(pair.model.view().offers, WAITERS as usize);
}
