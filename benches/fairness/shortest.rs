//! Smallest first: of those that wait the smallest that fits. Keeps the budget as busy as it can be, and starves large
//! requests.

use std::collections::{BTreeMap, BTreeSet};

use crate::simulation::{CAPACITY, Job, Policy};

/// The policy.
#[derive(Default)]
pub struct SmallestFirst {
    waiting: BTreeSet<(u64, u32)>,
    running: BTreeMap<u32, u64>,
    in_use: u64,
}

impl Policy for SmallestFirst {
    fn arrive(&mut self, _: u64, id: u32, job: &Job) -> Option<u64> {
        self.waiting.insert((job.units, id));
        None
    }

    fn end(&mut self, _: u64, id: u32) {
        self.in_use -= self.running.remove(&id).expect("it was started");
    }

    fn started(&mut self) -> Vec<u32> {
        let mut started = Vec::new();
        while let Some(&(units, id)) = self.waiting.first().filter(|(units, _)| self.in_use + units <= CAPACITY) {
            self.waiting.remove(&(units, id));
            self.running.insert(id, units);
            self.in_use += units;
            started.push(id);
        }
        started
    }
}
