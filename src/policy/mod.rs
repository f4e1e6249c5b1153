//! Pure decisions over plain values. No clock, no lock, no I/O: what they need is an argument.

mod rank;
mod shares;

pub use rank::Rank;
pub(crate) use shares::Shares;
