//! Memory inside leases: accounts, ids, copies, and what known managers of memory got wrong.
//!
//! Scenarios 1 to 28 of the notes about another manager are in `scenarios` (1 to 11, 13 to 23, on every space),
//! `upstream` (8 to 12, 23, 24: what is asked of a space, and what becomes of a refusal) and `stress` (25 to 28). Its
//! bugs 1 to 13, 15, 17, 20 and 21 are in `known_bugs`; 10, 11, 14, 16, 19 and 21 in that of `tests/memory`. Bug 18 is
//! of batches, which are not there yet. Spaces that fail at any call, and futures that are dropped at any await point,
//! are in `attacks`; blocks that are freed under a copy that goes on in `in_flight`.

mod attacks;
mod backends;
mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod copies;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "cuda")]
#[path = "../common/gate.rs"]
mod gate;
mod ids;
#[cfg(unix)]
mod in_flight;
mod known_bugs;
mod paper;
mod pool_notes;
mod sampling;
mod scenarios;
mod stress;
mod upstream;
