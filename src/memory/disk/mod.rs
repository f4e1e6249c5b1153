//! Memory on a disk: a file for every block, in a folder with a budget.

mod file;
mod folder;
mod space;

pub use space::{DiskBlock, DiskConfig, DiskSpace, Durability};
