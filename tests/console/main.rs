//! What tokio-console is shown of a scheduler.
//!
//! These tests look at the spans and events themselves, so they need no `--cfg`. With `--cfg tokio_unstable` or
//! `--cfg console_without_tokio_unstable`, without which `console-subscriber` refuses to start, `aggregator` looks at
//! what the console's own server makes of them.

mod budgets;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod recorder;
#[cfg(not(tokio_unstable))]
mod task;
mod waits;

use std::time::Duration;

use bursar::{Budget, Config, GIB};
use common::*;
use recorder::Recorder;

/// How often the books are looked at; and one more, because timers end on whole milliseconds.
const TICK: Duration = Duration::from_millis(501);

fn config() -> Config {
    Config::new().with(Budget::loan(GPU, 40 * GIB)).with(Budget::loan(HOST, 10))
}

/// A scheduler that `recorder` has heard of.
fn watched(config: Config) -> (Recorder, Rig) {
    let recorder = Recorder::default();
    let rig = recorder.listen(|| Rig::new(config));
    (recorder, rig)
}

/// Lets ticks pass, and has those polled who are woken.
fn ticks(recorder: &Recorder, rig: &mut Rig, count: u32, waiting: &mut [Waiting]) {
    recorder.listen(|| {
        for _ in 0..count {
            rig.pass(TICK);
            waiting.iter_mut().filter(|wait| wait.is_woken()).for_each(|wait| assert!(wait.poll().is_pending()));
        }
    });
}
