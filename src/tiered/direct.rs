//! Copies that a CUDA device does by itself, between its memory and pinned memory of the host, or inside its memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::copy::Transfer;
use super::error::CopyFault;
use crate::memory::{Direct, Keep, SpaceError, parts};

/// How many chunks are under way at a time, unless somebody chooses.
const DEPTH: usize = 4;

/// Why a copy broke off, and how many bytes after those that are done may be anything.
type Broken = (CopyFault, u64);

impl Transfer<'_> {
    /// Copies if a device can do it by itself; `false`, and nothing done, if not.
    pub(super) async fn directly(&self) -> Result<bool, Broken> {
        let (from, to) = (self.from.space(), self.to.space());
        let (read, write) = (CopyFault::Read, CopyFault::Write);
        let begin = |fault: fn(SpaceError) -> CopyFault| move |error| (fault(error), 0);
        // What lies in memory is as long as memory can be. The host's turn is always taken before that of a device.
        let length = self.length as usize;
        if let (Some(host), Some(gpu)) = (from.host(), to.cuda()) {
            let (stream, id) = (self.from.stream(), self.from.id());
            let lent = host.lend(stream, id, self.from_offset, length).await.map_err(begin(read))?;
            let Some(lent) = lent else { return Ok(false) };
            let direct = gpu.copy_in(self.to.stream(), self.to.id(), self.to_offset, lent).await;
            self.drive(direct.map_err(begin(write))?, write).await?;
            return Ok(true);
        }
        if let (Some(gpu), Some(host)) = (from.cuda(), to.host()) {
            let (stream, id) = (self.to.stream(), self.to.id());
            let lent = host.lend(stream, id, self.to_offset, length).await.map_err(begin(write))?;
            let Some(lent) = lent else { return Ok(false) };
            let direct = gpu.copy_out(self.from.stream(), self.from.id(), self.from_offset, lent).await;
            self.drive(direct.map_err(begin(read))?, read).await?;
            return Ok(true);
        }
        if let (true, Some(gpu)) = (Arc::ptr_eq(from, to), to.cuda()) {
            let source = (self.from.id(), self.from_offset);
            let is_source = |error: &SpaceError| *error == SpaceError::StaleBlock { block: self.from.id() };
            let fault = |error| (if is_source(&error) { read(error) } else { write(error) }, 0);
            let direct = gpu.copy_within(self.to.stream(), self.to.id(), self.to_offset, source, length).await;
            self.drive(direct.map_err(fault)?, write).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Queues chunk by chunk, each paid for, and waits for the oldest while as many are under way as may be.
    async fn drive<K>(&self, mut direct: Direct<'_, K>, fault: fn(SpaceError) -> CopyFault) -> Result<(), Broken>
    where
        K: Clone + Keep,
    {
        let (most, depth) = (self.most_at_once(), self.depth.unwrap_or(DEPTH));
        let mut under_way = VecDeque::new();
        let unknown = |under_way: &VecDeque<u64>| under_way.iter().sum::<u64>();
        let chunk = self.chunk.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        for part in parts(self.length as usize, chunk) {
            let bytes = part.len() as u64;
            self.pay(bytes, &most).await.map_err(|refused| (CopyFault::Bandwidth(refused), unknown(&under_way)))?;
            if direct.under_way() == depth {
                direct.land().await.map_err(|error| (fault(error), unknown(&under_way)))?;
                self.note(under_way.pop_front().unwrap_or_default());
            }
            direct.queue(part).map_err(|error| (fault(error), unknown(&under_way)))?;
            under_way.push_back(bytes);
        }
        while let Some(&bytes) = under_way.front() {
            direct.land().await.map_err(|error| (fault(error), unknown(&under_way)))?;
            self.note(bytes);
            under_way.pop_front();
        }
        Ok(())
    }
}
