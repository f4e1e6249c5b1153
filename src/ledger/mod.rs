//! Budget words: exact accounting of loans and rates, and the board on which offers are laid down.
//!
//! # How the words are kept
//!
//! TABLE
mod account;
mod board;
mod books;
mod held;
mod rate;

pub use board::{Board, Posted};
pub use books::Books;
pub use held::Held;
#[cfg(any(feature = "test-util", bursar_loom))]
pub use rate::Bucket;
