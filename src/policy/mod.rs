//! Pure decisions over plain values. No clock, no lock, no I/O: what they need is an argument.

mod rank;

pub use rank::Rank;
