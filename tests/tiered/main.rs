//! Memory inside leases: accounts, ids, copies, and what known managers of memory got wrong.

mod backends;
mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod copies;
mod ids;
mod known_bugs;
mod paper;
mod pool_notes;
mod scenarios;
mod stress;
mod upstream;
