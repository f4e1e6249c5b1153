//! Budget words: exact accounting of loans and rates, and the board on which offers are laid down.
//!
//! # How the words are kept
//!
//! Plain integers under one short lock whose unlock is a plain store (`rt::Short`). Measured beside the other ways,
//! bare take and give without the library around them, in nanoseconds a pair, on two cores of a Xeon (Sapphire Rapids
//! class, virtual), with `cargo bench -p bursar-benches --bench ledger`; "t" are threads, "mixed" alternates one and
//! four budgets:
//!
//! | take and give | one, 1 t | four, 1 t | mixed, 1 t | one, 2 t | four, 2 t | mixed, 2 t |
//! |---|---:|---:|---:|---:|---:|---:|
//! | one compare-and-swap word a budget | 15.5 | 41.7 | 27.6 | 38.5 | 200.7 | 126.5 |
//! | one lock, `parking_lot::Mutex` | 27.2 | 29.0 | 27.3 | 76.5 | 75.3 | 83.4 |
//! | one lock, `std::sync::Mutex` | 25.5 | 28.0 | 26.2 | 184.7 | 156.6 | 174.5 |
//! | **one lock, spinning with back-off** | **15.0** | **18.1** | **16.2** | **29.8** | **35.2** | **24.6** |
//! | one lock, plain spinning | 15.5 | 20.8 | 17.4 | 138.0 | 143.3 | 138.7 |
//! | one wide word, 4 × 31 bits | 26.9 | 34.3 | 29.5 | 79.0 | 97.4 | 84.0 |
//!
//! Under one lock a bundle is atomic without a protocol, amounts keep all their bits, and exact peaks, counts of leases
//! and of grants cost an addition each instead of a locked instruction. The price is that two threads that hammer one
//! scheduler take turns; the long pauses of the back-off let each do a run of operations, so they lose little.
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
