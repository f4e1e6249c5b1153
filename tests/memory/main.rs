//! Memory: what every space must do, and what pools, streams and single kinds of spaces do.

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
