//! Budget words: exact accounting of loans and rates, and the board on which offers are laid down.
//!
//! # How the words are kept
//!
//! TABLE
mod board;
mod books;
mod rate;

pub use board::{Board, Posted};
pub use books::{Books, Taken};
pub use rate::Bucket;
