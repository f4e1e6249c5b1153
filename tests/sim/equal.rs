//! The engine does what the reference model does: the same grants, offers, refusals and verdicts with the same figures, in the
//! same order, and the same units free, after every event of random traces.

use fastrand::Rng;

use crate::event::{Event, Seen, View};
use crate::model::Model;
use crate::profile::Profile;
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

    /// Does the same to both. An error tells how they differ.
    fn step(&mut self, event: &Event) -> Result<(), String> {
        let Pair { world, model } = self;
        let (engine, expected) = (guarded(|| Ok(in_order(world.apply(event))))?, in_order(model.apply(event)));
        if engine != expected {
            return Err(format!("seen\n  engine: {engine:?}\n  model:  {expected:?}"));
        }
        let (engine, expected) = (guarded(|| world.view())?, model.view());
        if engine != expected {
            return Err(format!("left\n{}", beside(&engine, &expected)));
        }
        Ok(())
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

/// Plays random traces of one kind, `events` events in all.
fn compare(profile: &Profile, events: u64) {
    for seed in seeds(events, LENGTH) {
        let mut rng = Rng::with_seed(seed);
        let mut pair = Pair::new(profile);
        let mut trace = Vec::new();
        for step in 0..LENGTH {
            let last = step == LENGTH * 9 / 10 && seed.is_multiple_of(3);
            trace.push(if last { Event::Close } else { profile.event(&mut rng, &pair.world, trace.len() as u32) });
            if let Err(how) = pair.step(&trace[trace.len() - 1]) {
                report(profile, seed, trace, &how);
            }
        }
    }
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

#[test]
fn one_budget() {
    compare(&Profile::one_budget(), 30_000);
}

#[test]
fn four_budgets() {
    compare(&Profile::four_budgets(), 30_000);
}

#[test]
fn eight_budgets_with_rates() {
    compare(&Profile::eight_with_rates(), 30_000);
}

#[test]
fn bundles_of_a_dozen_budgets() {
    compare(&Profile::wide_bundles(), 15_000);
}

#[test]
fn a_look_ahead_of_one() {
    compare(&Profile::look_ahead(1, "look-ahead of 1"), 20_000);
}

#[test]
fn a_look_ahead_of_two() {
    compare(&Profile::look_ahead(2, "look-ahead of 2"), 20_000);
}

#[test]
fn many_of_equal_rank() {
    compare(&Profile::equal_ranks(), 10_000);
}

#[test]
fn tight_capacities_and_few_waiters() {
    compare(&Profile::tight(), 20_000);
}

#[test]
fn offers_that_expire_at_once() {
    compare(&Profile::short_offers(), 20_000);
}

#[test]
fn clock_readings_that_come_late() {
    compare(&Profile::old_readings(), 15_000);
}
