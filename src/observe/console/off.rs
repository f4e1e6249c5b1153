//! Without the feature `console` there is nobody to be shown anything.

use std::panic::Location;

use super::{Asking, Figures};

/// There is none.
#[derive(Debug)]
pub(crate) enum Wait {}

/// Notes nothing.
#[derive(Debug, Default)]
pub(crate) struct Console {}

impl Console {
    pub(crate) fn is_missed(&self, _: u64) -> bool {
        false
    }

    pub(crate) fn begin(&self, _: u32, _: u64) {}

    pub(crate) fn take(&self, _: u32) -> Option<Wait> {
        None
    }

    pub(crate) fn keep(&self, _: u32, _: Option<Wait>, _: impl FnOnce() -> Asking) {}
}

/// Shows nothing.
#[derive(Debug)]
pub(crate) struct Sampler;

impl Sampler {
    pub(crate) fn new(_: &'static Location<'static>) -> Self {
        Sampler
    }

    pub(crate) fn is_due(&self, _: &Console, _: u64) -> bool {
        false
    }

    pub(crate) fn next(&self) -> u64 {
        u64::MAX
    }

    pub(crate) fn is_open(&self) -> bool {
        false
    }

    pub(crate) fn show(&mut self, _: &Console, _: u64, _: &[Figures]) -> Vec<u32> {
        Vec::new()
    }

    pub(crate) fn close(&mut self, _: &Console, _: impl FnOnce() -> Vec<Figures>) {}
}
