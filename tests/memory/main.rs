//! Memory: what every space must do, and what pools, streams and single kinds of spaces do.
//!
//! Scenarios of the notes about a pool of GPU blocks have their numbers in the names of tests: 1 to 4, 6 to 13, 22 and
//! 24 to 26 are in `pool`, 5 in `streams`, 2, 10, 19 and 27 in `spaces` for every space, 23 and 27 with threads in
//! `stress`; 1, 12 to 14, 17, 19, 20, 24, 25 and 27, where leases decide them, are in `tests/tiered` (`pool_notes`,
//! `ids`). Left out are 15, 16, 18, 21 and 28 to 30: degradation, transactions, a clearing that spares nobody,
//! strategies and mirrors are not there yet.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(unix)]
mod disk;
#[cfg(feature = "cuda")]
#[path = "../common/gate.rs"]
mod gate;
mod hand;
mod host;
mod known_bugs;
mod pool;
mod spaces;
mod streams;
mod stress;
