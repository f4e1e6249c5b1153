//! How much is tried, from which seeds, and how a failing trace is cut down to what matters.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::event::Event;

/// Times the usual number of events: the variable `BURSAR_SIM_FACTOR`, or 1.
fn factor() -> u64 {
    number("BURSAR_SIM_FACTOR").unwrap_or(1).max(1)
}

/// Seeds that each test tries, until it had `events` events: the one in the variable `BURSAR_SIM_SEED`, or 1, 2, 3 …;
/// of these the share that `BURSAR_SIM_SHARE` names.
pub fn seeds(events: u64, per_trace: u64) -> impl Iterator<Item = u64> {
    let (share, of) = share();
    let (first, last) = match single_seed() {
        Some(seed) => (seed, seed),
        None => (share, (events * factor()).div_ceil(per_trace)),
    };
    (first..=last).step_by(of)
}

/// `3/16`: the third, the nineteenth and so on, so that sixteen processes share the work.
fn share() -> (u64, usize) {
    let Ok(text) = std::env::var("BURSAR_SIM_SHARE") else { return (1, 1) };
    let parts = text.split_once('/').and_then(|(share, of)| Some((share.parse().ok()?, of.parse().ok()?)));
    let share = parts.filter(|&(share, of)| 1 <= share && share <= of as u64);
    share.unwrap_or_else(|| panic!("BURSAR_SIM_SHARE is `{text}`, which is no share such as `3/16`"))
}

/// The only seed to try, if there is one.
pub fn single_seed() -> Option<u64> {
    number("BURSAR_SIM_SEED")
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is `{text}`, which is no whole number")))
}

/// Runs one step; a panic of the code under test becomes an error like any other difference.
pub fn guarded<R>(step: impl FnOnce() -> Result<R, String>) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// Leaves out of a failing trace what can be left out: first halves, then ever smaller pieces, while it still `fails`.
pub fn shrink(mut events: Vec<Event>, fails: impl Fn(&[Event]) -> Option<usize>) -> Vec<Event> {
    hush_panics();
    REPLAYING.set(true);
    let mut piece = events.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < events.len() {
            let mut fewer = events.clone();
            fewer.drain(at..(at + piece).min(events.len()));
            match fails(&fewer) {
                Some(step) => {
                    fewer.truncate(step + 1);
                    events = fewer;
                }
                None => at += piece,
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    REPLAYING.set(false);
    events
}

/// The last of a trace, one event a line.
pub fn tail(events: &[Event]) -> String {
    const SHOWN: usize = 30;
    let left_out = events.len().saturating_sub(SHOWN);
    let lines = events.iter().enumerate().skip(left_out).map(|(step, event)| format!("  {step}: {event:?}\n"));
    format!("  ({left_out} events before)\n{}", lines.collect::<String>())
}

thread_local! {
    /// Whether this thread replays a trace that is known to fail.
    static REPLAYING: Cell<bool> = const { Cell::new(false) };
}

/// Many replays of a failing trace may panic; only what the test says at its end is of use.
fn hush_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !REPLAYING.get() {
                loud(info);
            }
        }));
    });
}
