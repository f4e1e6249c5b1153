//! Pure decisions over plain values. No clock, no lock, no I/O: what they need is an argument.

mod aging;
mod backoff;
pub mod balance;
mod dice;
mod placement;
mod rank;
mod response_ratio;
mod shares;
mod victims;

pub(crate) use aging::Aging;
pub(crate) use backoff::pause;
pub(crate) use placement::{SpaceView, spaces_for};
pub use rank::Rank;
pub(crate) use response_ratio::ResponseRatio;
pub(crate) use shares::Shares;
pub(crate) use victims::{Candidate, choose as choose_victims};
