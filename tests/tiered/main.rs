//! Memory inside leases: accounts, ids, copies, and what known managers of memory got wrong.

mod backends;
mod blocks;
mod copies;
#[cfg(feature = "cuda")]
mod cuda;
mod ids;
mod known_bugs;
mod paper;
mod pool_notes;
mod scenarios;
mod stress;
mod upstream;
