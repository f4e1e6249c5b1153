//! Copies through staging, with a device that is done with a chunk when the test says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio_test::task;

use super::*;

const DEVICE: SpaceId = SpaceId { tier: Tier::Gpu, index: 0 };
const LOST: SpaceError = SpaceError::Zero { space: DEVICE };

/// Memory of a device, and how many chunks it may still copy.
struct Device {
    memory: Mutex<Vec<u8>>,
    may_land: AtomicUsize,
    moved: Notify,
    /// The most that were ever under way at a time.
    most: AtomicUsize,
}

/// One copy. What it copies it copies when it lands, as late as a device may.
struct Copying<'a> {
    device: &'a Device,
    to_device: bool,
    queue: VecDeque<(Range<usize>, Staged)>,
    /// Refuses the chunk that begins here.
    breaks_at: Option<usize>,
}

impl Device {
    fn new(bytes: usize) -> Self {
        let (memory, may_land) = (Mutex::new(vec![0; bytes]), AtomicUsize::new(usize::MAX >> 1));
        Device { memory, may_land, moved: Notify::new(), most: AtomicUsize::new(0) }
    }

    fn copying(&self, to_device: bool) -> Copying<'_> {
        Copying { device: self, to_device, queue: VecDeque::new(), breaks_at: None }
    }

    /// Lets so many more chunks land, and no others.
    fn let_land(&self, chunks: usize) {
        self.may_land.store(chunks, Ordering::Relaxed);
        self.moved.notify_waiters();
    }
}

impl Copying<'_> {
    fn pop(&mut self) -> Option<Staged> {
        let may = |left: usize| left.checked_sub(1);
        self.device.may_land.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may).ok()?;
        let (range, mut staged) = self.queue.pop_front()?;
        let (memory, length) = (&mut lock(&self.device.memory)[range.clone()], range.len());
        match self.to_device {
            true => memory.copy_from_slice(&staged.memory[..length]),
            false => staged.memory[..length].copy_from_slice(memory),
        }
        Some(staged)
    }
}

impl Link for Copying<'_> {
    fn take_off(&mut self, range: Range<usize>, staged: Staged) -> Result<(), SpaceError> {
        if self.breaks_at == Some(range.start) {
            return Err(LOST);
        }
        assert!(self.queue.back().is_none_or(|(last, _)| last.end == range.start), "in order, without a hole");
        self.queue.push_back((range, staged));
        self.device.most.fetch_max(self.queue.len(), Ordering::Relaxed);
        Ok(())
    }

    fn under_way(&self) -> usize {
        self.queue.len()
    }

    async fn land(&mut self) -> Result<Staged, SpaceError> {
        loop {
            let moved = self.device.moved.notified();
            if let Some(staged) = self.pop() {
                return Ok(staged);
            }
            moved.await;
        }
    }

    fn landed(&mut self) -> Option<Result<Staged, SpaceError>> {
        self.pop().map(Ok)
    }
}

fn staging(threads: usize) -> Staging {
    Staging::new(DEVICE, HeapSource::new(), threads)
}

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

impl Staging {
    fn assert_at_rest(&self, threads: usize) {
        use crate::memory::Space;
        assert_eq!((self.places.available_permits(), self.helpers.available_permits()), (CHUNKS, threads - 1));
        assert_eq!(self.space.used(), 0);
    }
}

#[tokio::test]
async fn every_byte_is_copied_there_and_back_whatever_the_length_and_however_many_threads_help() {
    for threads in [1, 8] {
        let staging = staging(threads);
        for length in [0, 1, CHUNK, CHUNK + 1, LARGE - 1, LARGE + 12_345] {
            let (device, bytes) = (Device::new(length), numbered(length));
            staging.copy(&mut device.copying(true), Slice::ToDevice(&bytes)).await.expect("copied");
            assert!(*lock(&device.memory) == bytes, "{length} to the device with {threads} threads");
            let mut back = vec![0; length];
            staging.copy(&mut device.copying(false), Slice::ToHost(&mut back)).await.expect("copied");
            assert!(back == bytes, "{length} to the host with {threads} threads");
            staging.assert_at_rest(threads);
        }
    }
}

#[tokio::test]
async fn whoever_allows_any_number_of_threads_gets_as_many_as_there_are_pieces_for() {
    let (staging, device, bytes) = (staging(usize::MAX), Device::new(LARGE), numbered(LARGE));
    staging.copy(&mut device.copying(true), Slice::ToDevice(&bytes)).await.expect("copied");
    assert!(*lock(&device.memory) == bytes);
    staging.assert_at_rest(Semaphore::MAX_PERMITS + 1);
}

#[test]
fn no_more_is_under_way_than_may_be_and_a_small_copy_has_less() {
    for (length, most) in [(LARGE - 1, DEPTH), (20 * CHUNK, LARGE_DEPTH)] {
        let (staging, device, bytes) = (staging(2), Device::new(length), numbered(length));
        device.let_land(0);
        let mut link = device.copying(true);
        let mut copy = task::spawn(staging.copy(&mut link, Slice::ToDevice(&bytes)));
        assert!(copy.poll().is_pending());
        assert_eq!(device.most.load(Ordering::Relaxed), most);
        assert_eq!(staging.places.available_permits(), CHUNKS - most);
        device.let_land(usize::MAX >> 1);
        assert!(matches!(copy.poll(), std::task::Poll::Ready(Ok(()))));
        assert_eq!(device.most.load(Ordering::Relaxed), most);
    }
}

#[tokio::test]
async fn a_copy_that_is_given_up_at_any_chunk_touches_its_slice_no_more_and_gives_all_back() {
    let threads = 4;
    let (staging, length) = (staging(threads), LARGE);
    for (chunks, to_device) in (0..8).zip([true, false].into_iter().cycle()) {
        let device = Device::new(length);
        device.let_land(chunks);
        let mut bytes = vec![7; length];
        let mut link = device.copying(to_device);
        let slice = if to_device { Slice::ToDevice(&bytes) } else { Slice::ToHost(&mut bytes) };
        let mut copy = Box::pin(staging.copy(&mut link, slice));
        assert!(futures::poll!(copy.as_mut()).is_pending());
        drop(copy);
        // The slice is the caller's again.
        bytes.fill(9);
        drop(link);
        staging.assert_at_rest(threads);
        let landed = lock(&device.memory).iter().filter(|&&byte| byte == 7).count();
        assert_eq!(landed, if to_device { chunks * CHUNK } else { 0 });
        assert!(bytes.iter().all(|&byte| byte == 9));
    }
}

#[tokio::test]
async fn a_device_that_fails_in_the_middle_ends_the_copy_and_nothing_is_kept() {
    let (staging, length) = (staging(4), LARGE);
    for chunk in 0..8 {
        let (device, bytes) = (Device::new(length), numbered(length));
        let mut link = device.copying(true);
        link.breaks_at = Some(chunk * CHUNK);
        assert_eq!(staging.copy(&mut link, Slice::ToDevice(&bytes)).await, Err(LOST));
        drop(link);
        staging.assert_at_rest(4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_copies_at_once_share_memory_and_helpers_and_all_end() {
    let staging = Arc::new(staging(3));
    let copies = (0..6_usize).map(|number| {
        let staging = Arc::clone(&staging);
        tokio::spawn(async move {
            let length = LARGE - 3 * CHUNK + number * CHUNK + number;
            let (device, bytes) = (Device::new(length), numbered(length));
            staging.copy(&mut device.copying(true), Slice::ToDevice(&bytes)).await.expect("copied");
            let mut back = vec![0; length];
            staging.copy(&mut device.copying(false), Slice::ToHost(&mut back)).await.expect("copied");
            assert!(back == bytes);
        })
    });
    for copy in copies.collect::<Vec<_>>() {
        copy.await.expect("no panic");
    }
    staging.assert_at_rest(3);
}

#[cfg(feature = "cuda")]
#[tokio::test(start_paused = true)]
async fn memory_that_a_failed_device_keeps_is_missed_and_nobody_waits_for_it() {
    use crate::memory::Keep;
    let (staging, device) = (staging(1), Device::new(1));
    for _ in 0..CHUNKS {
        staging.next(0, DEPTH).await.expect("memory").expect("a place").abandon();
    }
    let mut link = device.copying(true);
    let copy = staging.copy(&mut link, Slice::ToDevice(&[1]));
    let copied = tokio::time::timeout(std::time::Duration::from_secs(3_600), copy).await;
    assert!(matches!(copied, Ok(Err(SpaceError::OutOfMemory { .. }))), "{copied:?}");
}
