//! Pinned blocks that a device copies from or to by itself.

use std::sync::atomic::{AtomicBool, Ordering};

use super::memory::Use;
use super::space::HostSpace;
use crate::memory::turns::Turn;
use crate::memory::{BlockId, SpaceError, Stream};

/// A range of a pinned block, which nobody else uses until this is dropped.
#[derive(Debug)]
pub(crate) struct Lent {
    memory: Use,
    address: u64,
    length: usize,
    /// A device writes it; if not, it reads it.
    written: bool,
    abandoned: AtomicBool,
    _turn: Turn,
}

impl Lent {
    pub(in crate::memory) fn address(&self) -> u64 {
        self.address
    }

    pub(in crate::memory) fn len(&self) -> usize {
        self.length
    }

    /// For a device that writes it.
    pub(in crate::memory) fn for_writing(mut self) -> Self {
        self.written = true;
        self
    }

    /// The device failed, and may still be at it. When this drops the memory stays for ever, but nobody waits for it:
    /// what a device only read is as it was, and what it wrote is refused from then on.
    pub(in crate::memory) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.abandoned.load(Ordering::Acquire) {
            self.memory.abandon(self.written);
        }
    }
}

impl HostSpace {
    /// Lends a range, in the order of a stream. `None` if its memory is not pinned.
    ///
    /// # Errors
    /// As [`read`](crate::memory::Space::read).
    pub(crate) async fn lend(
        &self,
        stream: Stream,
        id: BlockId,
        offset: u64,
        length: usize,
    ) -> Result<Option<Lent>, SpaceError> {
        if !self.pool().source().is_pinned() {
            return Ok(None);
        }
        let start = self.check(id, offset, length)?;
        let turn = self.turn(stream).await;
        let memory = self.use_of(id).await?;
        let address = memory.with(id, |block| block.address())? + start as u64;
        let abandoned = AtomicBool::new(false);
        Ok(Some(Lent { memory, address, length, written: false, abandoned, _turn: turn }))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::time::timeout;
    use tokio_test::task;

    use super::*;
    use crate::memory::{HeapSource, PagePin, PoolConfig, SourceError, Space};
    use crate::model::{MIB, SpaceId, Tier};

    #[derive(Debug)]
    struct Pretended;

    impl PagePin for Pretended {
        fn pin(&self, _: u64, _: u64) -> Result<Box<dyn Send + Sync + Debug>, SourceError> {
            Ok(Box::new(()))
        }
    }

    /// Two blocks, of which the first was lent on stream 3 and is full of ones.
    async fn lent() -> (HostSpace, [BlockId; 2], Lent) {
        let source = HeapSource::pinned(Arc::new(Pretended));
        let host = HostSpace::with(SpaceId { tier: Tier::Host, index: 0 }, source, MIB, PoolConfig::host(MIB));
        let blocks = [host.allocate(8_192).await.expect("room"), host.allocate(8_192).await.expect("room")];
        host.write(Stream(3), blocks[0], 0, &[1; 8_192]).await.expect("it is there");
        let lent = host.lend(Stream(3), blocks[0], 4_096, 4_096).await.expect("it is there").expect("pinned");
        (host, blocks, lent)
    }

    /// On the stream of the copy.
    async fn read(host: &HostSpace, block: BlockId) -> Result<Vec<u8>, SpaceError> {
        let mut into = vec![0; 8_192];
        let read = timeout(Duration::from_secs(3_600), host.read(Stream(3), block, 0, &mut into)).await;
        read.expect("nobody waits for ever").map(|()| into)
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_failed_device_only_read_is_as_it_was_and_is_never_given_back() {
        let (host, [block, other], lent) = lent().await;
        lent.abandon();
        drop(lent);
        assert_eq!((read(&host, block).await, read(&host, other).await.is_ok()), (Ok(vec![1; 8_192]), true));
        assert!(matches!(host.take(block), Err(SpaceError::Busy { .. })));
        host.free(block).await.expect("once");
        assert_eq!(host.used(), 2 * 8_192);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_failed_device_may_still_write_is_refused_and_the_stream_goes_on() {
        let (host, [block, other], lent) = lent().await;
        let lent = lent.for_writing();
        lent.abandon();
        drop(lent);
        assert_eq!(read(&host, block).await, Err(SpaceError::Busy { block }));
        assert_eq!(host.write(Stream(3), block, 0, &[2; 1]).await, Err(SpaceError::Busy { block }));
        assert!(matches!(host.lend(Stream(3), block, 0, 1).await, Err(SpaceError::Busy { .. })));
        assert!(read(&host, other).await.is_ok());
        host.free(block).await.expect("once");
        assert_eq!(host.used(), 2 * 8_192);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_device_gives_back_is_used_again() {
        let (host, [block, _], lent) = lent().await;
        drop(lent.for_writing());
        assert_eq!(read(&host, block).await, Ok(vec![1; 8_192]));
        host.free(block).await.expect("once");
        assert_eq!(host.used(), 8_192);
    }

    #[tokio::test]
    async fn who_waits_for_a_block_that_is_lent_gets_it_whoever_gives_up_before_or_comes_later() {
        for comes_later in [false, true] {
            let (host, [block, _], lent) = lent().await;
            let [mut first, mut second, mut third] = [[0; 8]; 3];
            let mut first = task::spawn(host.read(Stream(4), block, 0, &mut first));
            let mut second = task::spawn(host.read(Stream(5), block, 0, &mut second));
            assert!(first.poll().is_pending() && second.poll().is_pending());
            drop(lent);
            assert_eq!((first.is_woken(), second.is_woken()), (true, false));
            if comes_later {
                let read = task::spawn(host.read(Stream(6), block, 0, &mut third)).poll();
                assert_eq!(read, Poll::Ready(Ok(())), "nobody has it");
            }
            drop(first);
            assert!(second.is_woken());
            assert_eq!(second.poll(), Poll::Ready(Ok(())));
        }
    }
}
