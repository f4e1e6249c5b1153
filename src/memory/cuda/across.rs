//! Copies from a block of a device to another one there, or on another device, past the memory of the host.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cudarc::driver::{CudaContext, sys};

use super::block::DeviceBlock;
use super::copy::Way;
use super::current::bind;
use super::direct::Direct;
use super::space::CudaSpace;
use crate::memory::joint::Joint;
use crate::memory::{BlockId, SpaceError, Stream, offload};

/// The contexts that a device was told to reach. They may go: to be kept they would take memory of their devices.
#[derive(Debug, Default)]
pub(super) struct Reached(Mutex<Vec<Weak<CudaContext>>>);

impl CudaSpace {
    /// Begins to copy from a block of this device, or of another one.
    ///
    /// The driver copies between any two. It does so from memory to memory where one device can reach the other, and
    /// else, chunk by chunk of its own, through the host.
    pub(crate) async fn copy_from<'a>(
        &'a self,
        stream: Stream,
        block: BlockId,
        offset: u64,
        (space, from, at): (&'a CudaSpace, BlockId, u64),
        length: usize,
    ) -> Result<Direct<'a, Arc<Joint<DeviceBlock>>>, SpaceError> {
        let at = space.check(from, at, length)?;
        let other = space.block(from)?;
        let (address, own) = (other.address() + at, other.stream());
        let way = self.way_from(space).await;
        #[allow(unsafe_code)]
        // SAFETY: who has a share of a block keeps it. Writes to it are queued on its stream, before or after the copy.
        let direct = unsafe { self.direct(way, stream, block, offset, address, length, other).await? };
        self.follow(stream, space, own)?;
        Ok(direct.followed_by(space, own))
    }

    async fn way_from(&self, space: &CudaSpace) -> Way {
        if space.context().cu_ctx() == self.context().cu_ctx() {
            return Way::Within;
        }
        let (own, other) = (Arc::clone(self.context()), Arc::clone(space.context()));
        if !self.reached().has(&other) {
            let both = (Arc::clone(&own), Arc::clone(&other));
            // It takes milliseconds. Without it copies go the longer way.
            let reach = move || {
                reach(&both.0, &both.1);
                reach(&both.1, &both.0);
                Ok(())
            };
            let _ = offload::blocking(self.pool().space(), reach).await;
            self.reached().add(&other);
        }
        Way::Across(other)
    }
}

impl Reached {
    fn has(&self, context: &Arc<CudaContext>) -> bool {
        self.contexts().iter().any(|other| other.as_ptr() == Arc::as_ptr(context))
    }

    fn add(&self, context: &Arc<CudaContext>) {
        let mut contexts = self.contexts();
        contexts.retain(|other| other.strong_count() > 0);
        contexts.push(Arc::downgrade(context));
    }

    fn contexts(&self) -> MutexGuard<'_, Vec<Weak<CudaContext>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a context reach the memory of another, if its device can; it may do so already.
#[allow(unsafe_code)]
fn reach(context: &CudaContext, other: &CudaContext) {
    // SAFETY: both contexts live as long as the references. No memory is touched.
    let _ = bind(context).and_then(|_current| unsafe { sys::cuCtxEnablePeerAccess(other.cu_ctx(), 0) }.result());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{CudaConfig, CudaError, Space};
    use crate::model::{MIB, SpaceId, Tier};

    /// Not by way of the host, which is what else a copy does when the driver refuses.
    #[tokio::test]
    async fn a_device_copies_from_another_by_itself() {
        for ordinals in [[0, 1], [1, 0]] {
            let open = |index: usize| {
                let id = SpaceId { tier: Tier::Gpu, index: index as u8 };
                CudaSpace::open(id, CudaConfig::new(ordinals[index]).limit(64 * MIB))
            };
            let (one, other) = match (open(0), open(1)) {
                (Ok(one), Ok(other)) => (one, other),
                (Err(reason @ (CudaError::NoDriver { .. } | CudaError::NoDevice { .. })), _)
                | (_, Err(reason @ (CudaError::NoDriver { .. } | CudaError::NoDevice { .. }))) => {
                    return println!("skipped: {reason}");
                }
                failed => panic!("{failed:?}"),
            };
            let bytes: Vec<u8> = (0..40 * MIB).map(|at| (at * 31 + at / 4_093) as u8).collect();
            let from = one.allocate(40 * MIB).await.expect("room");
            let to = other.allocate(40 * MIB).await.expect("room");
            one.write(Stream(3), from, 0, &bytes).await.expect("it is there");
            let copying = other.copy_from(Stream(5), to, 0, (&one, from, 0), bytes.len()).await;
            copying.expect("both are there").all().await.expect("the driver does it");
            let mut back = vec![0; bytes.len()];
            other.read(Stream(7), to, 0, &mut back).await.expect("it is there");
            assert!(back == bytes, "devices {ordinals:?}");
        }
    }
}
