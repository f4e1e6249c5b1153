//! The engine against a reference model, and against oracles of its contracts, on random traces.
//!
//! * `BURSAR_SIM_FACTOR=50` tries fifty times as much.
//! * `BURSAR_SIM_SEED=17` tries that seed only: what a failure prints.

mod alone;
mod ask;
mod crowd;
mod driven;
mod equal;
mod event;
mod found;
mod model;
mod oracle;
mod profile;
mod simulation;
mod stock;
mod tally;
mod trace;
mod world;
