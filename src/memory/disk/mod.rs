//! Memory on a disk: a file for every block, in a folder with a budget.
//!
//! # The page cache
//!
//! Files are read and written through the page cache. Around it (`O_DIRECT`), 64 MiB on ext4 on a virtual disk, medians
//! of nine interleaved rounds in GB/s, of three runs on a busy machine (`benches/disk/direct`):
//!
//! | | page cache | `O_DIRECT`, 64 KiB at once | 1 MiB at once | 16 MiB at once |
//! |---|---:|---:|---:|---:|
//! | write and `fdatasync` | 1.26; 1.12; 1.19 | 0.45; 0.37; 0.67 | 1.05; 0.95; 1.40 | 1.54; 1.33; 1.49 |
//! | read what is not cached | 0.76; 1.32; 1.39 | | 0.86; 0.72; 0.81 | 1.05; 0.85; 0.94 |
//! | write only | 1.87; 3.40; 2.69 | | | |
//! | read what is cached | 4.43; 6.88; 5.08 | | | |
//!
//! It pays, by a fifth, for writes of which 16 MiB are moved at once; of a mebibyte it is as likely to lose. This space
//! moves a mebibyte at once, so that a copy that is given up ends soon and takes little memory, and in chunks of 64
//! KiB, as each has a checksum. There it would lose, and it would lose the cache, from which what was spilled a moment
//! ago comes back four times as fast.
//!
//! io_uring keeps several such pieces under way without a thread for each. But copies here are in the order of their
//! stream, one piece at a time, and several streams have several threads. It is also switched off in many containers,
//! so that the way through threads would be needed beside it.

mod file;
mod folder;
mod space;

pub use space::{DiskBlock, DiskConfig, DiskSpace, Durability};
