//! Which spaces there are.

use std::sync::Arc;

use super::error::TiersError;
use super::relief::Relief;
use super::shared::{Entry, Shared};
use super::tiers::Tiers;
use crate::memory::{Space, StreamPool};
use crate::model::SpaceId;
use crate::scheduler::Scheduler;

/// Gathers the spaces for a scheduler: see [`Tiers::builder`].
#[derive(Debug, Default)]
#[must_use = "nothing exists before `build`"]
pub struct TiersBuilder {
    spaces: Vec<Arc<dyn Space>>,
    streams: Vec<(SpaceId, StreamPool)>,
    relief: Option<Arc<dyn Relief>>,
}

impl TiersBuilder {
    /// A space. Its budget is that of its id.
    pub fn space(self, space: impl Space + 'static) -> Self {
        self.shared_space(Arc::new(space))
    }

    /// A space that is used elsewhere too. What is allocated in it without these tiers is in no account of theirs.
    pub fn shared_space(mut self, space: Arc<dyn Space>) -> Self {
        self.spaces.push(space);
        self
    }

    /// The streams of a space; 16 unless this is called. A CUDA device has its own
    /// (`CudaSpace::streams`).
    pub fn streams(mut self, space: SpaceId, streams: StreamPool) -> Self {
        self.streams.push((space, streams));
        self
    }

    /// Who makes room when there is too little.
    pub fn relief(mut self, relief: Arc<dyn Relief>) -> Self {
        self.relief = Some(relief);
        self
    }

    /// Brings the spaces together with the budgets of a scheduler. What is built is a handle of the scheduler, as are
    /// its leases and blocks.
    ///
    /// The budgets may be lowered later, but not be raised above what they lend now.
    ///
    /// # Errors
    /// [`TiersError`].
    pub fn build(self, scheduler: &Scheduler) -> Result<Tiers, TiersError> {
        let stats = scheduler.stats();
        let mut entries: Vec<Entry> = Vec::new();
        for space in self.spaces {
            let id = space.id();
            let found = id.budget().and_then(|budget| stats.budget(budget));
            let budget = found.ok_or(TiersError::NoBudget { space: id })?;
            let (limit, capacity) = (budget.capacity, space.capacity());
            if budget.rate {
                return Err(TiersError::Rate { space: id });
            }
            if entries.iter().any(|entry| entry.id == id) {
                return Err(TiersError::Twice { space: id });
            }
            if limit > capacity {
                return Err(TiersError::LimitAboveCapacity { space: id, limit, capacity });
            }
            let streams = self.streams.iter().rev().find(|(space, _)| *space == id).map(|(_, streams)| streams.clone());
            let streams = streams.unwrap_or_else(|| StreamPool::new(StreamPool::DEFAULT));
            entries.push(Entry::new(space, budget.id, limit, streams));
        }
        if entries.is_empty() {
            return Err(TiersError::NoSpaces);
        }
        let (scheduler, relief) = (scheduler.clone(), self.relief);
        Ok(Tiers::new(Shared { scheduler, entries: entries.into(), relief }))
    }
}
