//! Memory: what every space must do, and what pools, streams and single kinds of spaces do.
//!
//! Of the scenarios of the notes about a pool of GPU blocks, 1 to 4, 6 to 13, 22, 24 and 26 are in `pool`, 5 in
//! `streams`, 10, 19 and 27 in `spaces` for every space, 23 and 27 with threads in `stress`; 14, 20 and those that
//! leases decide are in `tests/tiered`. Left out are 15, 16, 18, 21 and 28 to 30: degradation, transactions, a clearing
//! that spares nobody, strategies and mirrors are not there yet.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(unix)]
mod disk;
mod hand;
mod host;
mod known_bugs;
mod pool;
mod spaces;
mod streams;
mod stress;
