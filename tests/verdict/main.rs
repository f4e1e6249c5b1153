//! Holders that wait for each other (C7): one is told to roll back or to split, and nobody else is.
//!
//! `BURSAR_SIM_FACTOR=20` lets the stress run twenty times as long, `BURSAR_SIM_SEED=17` with that seed only.

#[path = "../common/mod.rs"]
mod common;
mod deadlock;
mod implied;
mod quiet;
mod stress;

use bursar::{Activity, Amounts, BudgetId, Config, Growth, Lease, Request, ReserveError, Scheduler};
use common::*;
use tokio_test::task::{self, Spawn};

fn rig() -> Rig {
    Rig::new(three_loans())
}

/// An activity with a lease.
#[track_caller]
fn holder(scheduler: &Scheduler, name: &str, holds: Request) -> (Activity, Lease) {
    let activity = Activity::new(name);
    let lease = take(scheduler, holds.activity(&activity).label(name.to_owned()));
    (activity, lease)
}

#[track_caller]
fn growing(lease: &mut Lease, units: u64) -> Spawn<Growth<'_>> {
    let mut growth = task::spawn(lease.grow(&Amounts::of(GPU, units)));
    assert!(growth.poll().is_pending());
    growth
}

#[track_caller]
fn told(waiting: &mut Waiting) -> ReserveError {
    outcome(waiting).expect_err("a verdict")
}

#[track_caller]
fn assert_rolled_back(error: &ReserveError) {
    assert!(matches!(error, ReserveError::RolledBack { .. }), "{error}");
}

#[track_caller]
fn assert_split(error: &ReserveError) {
    assert!(matches!(error, ReserveError::Split { .. }), "{error}");
}

/// Lets so many milliseconds pass one by one.
fn step(rig: &mut Rig, times: u32) {
    (0..times).for_each(|_| rig.pass(MS));
}

/// Verdicts so far, to roll back and to split.
fn verdicts(scheduler: &Scheduler) -> (u64, u64) {
    let levels = scheduler.stats().levels;
    levels.iter().fold((0, 0), |(back, split), level| (back + level.rolled_back, split + level.split))
}
