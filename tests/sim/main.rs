//! The engine against a reference model, and against oracles of its contracts, on random traces.
//!
//! The equalities play more than a million events; a hundred million are
//!
//! ```text
//! BURSAR_SIM_FACTOR=100 cargo test --release --all-features --test sim equal
//! ```
//!
//! * `BURSAR_SIM_FACTOR=50` tries fifty times as much, of everything.
//! * `BURSAR_SIM_SHARE=3/16` tries the third of sixteen equal shares of that, for sixteen processes. What must happen
//!   often must in each share: of a hundred times as much, in sixteen; thirty are too small for that.
//! * `BURSAR_SIM_SEED=17` tries that seed only: what a failure prints.

mod alone;
mod ask;
mod crowd;
mod driven;
mod equal;
mod event;
mod found;
mod found_bounds;
mod found_holders;
mod found_preempt;
mod model;
mod oracle;
mod profile;
mod simulation;
mod stock;
mod tally;
mod trace;
mod world;
