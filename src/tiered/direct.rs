//! Copies that a CUDA device does by itself, between its memory and pinned memory of the host, inside its memory, or
//! from that of another device.
//!
//! The device's turn, and the host's turn and block, are held while chunks are queued and land, and not while bandwidth
//! is waited for: others have their streams and blocks meanwhile.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::{ControlFlow, Range};
use std::pin::{Pin, pin};

use futures::future::{Either, select};

use super::copy::Transfer;
use super::error::CopyFault;
use crate::memory::{Direct, Keep, SpaceError, Unqueued, parts};
use crate::model::ReserveError;

/// How many chunks are under way at a time, unless somebody chooses.
const DEPTH: usize = 4;

/// Why a copy broke off, and how many bytes after those that are done may be anything.
type Broken = (CopyFault, u64);

/// Waits for bandwidth.
type Payment<'a> = Pin<Box<dyn Future<Output = Result<(), ReserveError>> + Send + 'a>>;

/// What of a copy was not queued yet.
struct Rest {
    parts: Box<dyn Iterator<Item = Range<usize>> + Send>,
    /// The part before those, if it is paid for.
    paid: Option<Range<usize>>,
}

/// How far a copy came with what it held.
enum Stretch<'a> {
    /// No device can do it. So many bytes are paid for.
    Never(u64),
    /// All of it is done.
    Done,
    /// All before this part is done, and this part is not paid for.
    Unpaid(Range<usize>, Payment<'a>),
}

/// A copy that has what it needs, until it is dropped.
trait Chunks {
    fn queue(&mut self, part: Range<usize>) -> Result<(), Unqueued>;

    /// Waits for the oldest. Who stops waiting has lost nothing.
    fn land(&mut self) -> impl Future<Output = Result<(), SpaceError>> + Send;
}

impl<K: Clone + Keep + Sync> Chunks for Direct<'_, K> {
    fn queue(&mut self, part: Range<usize>) -> Result<(), Unqueued> {
        Direct::queue(self, part)
    }

    fn land(&mut self) -> impl Future<Output = Result<(), SpaceError>> + Send {
        Direct::land(self)
    }
}

impl Transfer<'_> {
    /// Copies if a device can do it by itself. If not, nothing is done, and it says how many bytes are paid for.
    pub(super) async fn directly(&self) -> Result<ControlFlow<(), u64>, Broken> {
        let chunk = self.chunk.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        // What lies in memory is as long as memory can be.
        let mut rest = Rest { parts: Box::new(parts(self.length as usize, chunk)), paid: None };
        loop {
            match self.stretch(&mut rest).await? {
                Stretch::Never(paid) => return Ok(ControlFlow::Continue(paid)),
                Stretch::Done => return Ok(ControlFlow::Break(())),
                Stretch::Unpaid(part, payment) => {
                    payment.await.map_err(|refused| (CopyFault::Bandwidth(refused), 0))?;
                    rest.paid = Some(part);
                }
            }
        }
    }

    /// Takes what it needs, copies until it has to wait for bandwidth, and lets go.
    async fn stretch(&self, rest: &mut Rest) -> Result<Stretch<'_>, Broken> {
        let (from, to) = (self.from.space(), self.to.space());
        let (read, write) = (CopyFault::Read, CopyFault::Write);
        let begin = |fault: fn(SpaceError) -> CopyFault| move |error| (fault(error), 0);
        // The host's turn is always taken before that of a device.
        let length = self.length as usize;
        if let (Some(host), Some(gpu)) = (from.host(), to.cuda()) {
            let (stream, id) = (self.from.stream(), self.from.id());
            let lent = host.lend(stream, id, self.from_offset, length).await.map_err(begin(read))?;
            let Some(lent) = lent else { return Ok(Stretch::Never(0)) };
            let direct = gpu.copy_in(self.to.stream(), self.to.id(), self.to_offset, lent).await;
            return self.drive(direct.map_err(begin(write))?, write, rest).await;
        }
        if let (Some(gpu), Some(host)) = (from.cuda(), to.host()) {
            let (stream, id) = (self.to.stream(), self.to.id());
            let lent = host.lend(stream, id, self.to_offset, length).await.map_err(begin(write))?;
            let Some(lent) = lent else { return Ok(Stretch::Never(0)) };
            let direct = gpu.copy_out(self.from.stream(), self.from.id(), self.from_offset, lent).await;
            return self.drive(direct.map_err(begin(read))?, read, rest).await;
        }
        if let (Some(source), Some(gpu)) = (from.cuda(), to.cuda()) {
            let source = (source, self.from.id(), self.from_offset);
            let is_source = |error: &SpaceError| match error {
                SpaceError::StaleBlock { block } => *block == self.from.id(),
                SpaceError::Lost { space, .. } => *space != self.to.id().space(),
                _ => false,
            };
            let fault = |error| (if is_source(&error) { read(error) } else { write(error) }, 0);
            let direct = gpu.copy_from(self.to.stream(), self.to.id(), self.to_offset, source, length).await;
            return self.drive(direct.map_err(fault)?, write, rest).await;
        }
        Ok(Stretch::Never(0))
    }

    /// Queues chunk by chunk, each paid for, and waits for the oldest while as many are under way as may be. Where the
    /// next is not paid for when all have landed, that is for the caller to wait for.
    async fn drive(
        &self,
        mut direct: impl Chunks,
        fault: fn(SpaceError) -> CopyFault,
        rest: &mut Rest,
    ) -> Result<Stretch<'_>, Broken> {
        let (most, depth) = (self.most_at_once(), self.depth.unwrap_or(DEPTH));
        let mut under_way = VecDeque::new();
        loop {
            let part = match rest.paid.take() {
                Some(paid) => paid,
                None => {
                    let Some(part) = rest.parts.next() else { break };
                    let payment: Payment<'_> = Box::pin(self.pay(part.len() as u64, most));
                    // Polled in this order: what can be paid at once is no reason to look for what has landed.
                    let paid = {
                        let landing = pin!(self.land(&mut direct, &mut under_way, 0, fault));
                        match select(payment, landing).await {
                            Either::Left((paid, _)) => paid,
                            Either::Right((landed, payment)) => {
                                return landed.map(|()| Stretch::Unpaid(part, payment));
                            }
                        }
                    };
                    paid.map_err(|refused| (CopyFault::Bandwidth(refused), under_way.iter().sum()))?;
                    part
                }
            };
            self.land(&mut direct, &mut under_way, depth - 1, fault).await?;
            let bytes = part.len() as u64;
            let first = part.start == 0;
            let queued = direct.queue(part);
            match &queued {
                Err(Unqueued::Refused(_)) if first => return Ok(Stretch::Never(bytes)),
                Err(Unqueued::Refused(_) | Unqueued::Not(_)) => {}
                Err(Unqueued::Begun(_)) | Ok(()) => under_way.push_back(bytes),
            }
            queued.map_err(|error| (fault(error.into()), under_way.iter().sum()))?;
        }
        self.land(&mut direct, &mut under_way, 0, fault).await?;
        Ok(Stretch::Done)
    }

    /// Waits until no more than so many chunks are under way. Who stops waiting has lost nothing.
    async fn land(
        &self,
        direct: &mut impl Chunks,
        under_way: &mut VecDeque<u64>,
        most: usize,
        fault: fn(SpaceError) -> CopyFault,
    ) -> Result<(), Broken> {
        while under_way.len() > most {
            direct.land().await.map_err(|error| (fault(error), under_way.iter().sum()))?;
            self.note(under_way.pop_front().unwrap_or_default());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures::lock::{Mutex, OwnedMutexGuard};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::memory::HostSpace;
    use crate::model::{Budget, BudgetId, Config, MIB, Request, SpaceId, Tier};
    use crate::scheduler::Scheduler;
    use crate::tiered::{Block, Tiers, copy};

    const LENGTH: u64 = 4 * MIB;
    const LOST: SpaceError = SpaceError::Zero { space: SpaceId { tier: Tier::Gpu, index: 0 } };

    /// How a part fails.
    type How = fn(SpaceError) -> Unqueued;

    /// A device that takes so long for each chunk, and what is held for it.
    struct Pretended {
        each: Duration,
        queued: Vec<Range<usize>>,
        /// What becomes of the part with this number.
        fails: Option<(usize, How)>,
        _turn: OwnedMutexGuard<()>,
    }

    impl Pretended {
        fn new(each: Duration, turn: OwnedMutexGuard<()>) -> Self {
            Pretended { each, queued: Vec::new(), fails: None, _turn: turn }
        }
    }

    impl Chunks for Pretended {
        fn queue(&mut self, part: Range<usize>) -> Result<(), Unqueued> {
            if let Some((_, how)) = self.fails.filter(|&(at, _)| at == self.queued.len()) {
                return Err(how(LOST));
            }
            self.queued.push(part);
            Ok(())
        }

        fn land(&mut self) -> impl Future<Output = Result<(), SpaceError>> + Send {
            let landed = sleep(self.each);
            async {
                landed.await;
                Ok(())
            }
        }
    }

    /// A rate of a mebibyte a second, of which one is there, and two blocks.
    async fn blocks() -> (Scheduler, [Block; 2]) {
        let host = SpaceId { tier: Tier::Host, index: 0 };
        let rate = Budget::rate(BudgetId::IO, MIB).burst(MIB);
        let config = Config::new().with(Budget::loan(BudgetId::HOST, 2 * LENGTH)).with(rate);
        let scheduler = Scheduler::builder().config(config).spawn().expect("it is sound");
        let space = HostSpace::new(host, 2 * LENGTH);
        let tiers = Tiers::builder().space(space).build(&scheduler).expect("it has a budget");
        let lease = tiers.reserve(Request::new().host(2 * LENGTH)).await.expect("room");
        let block = async || lease.allocate_in(host, LENGTH).await.expect("room");
        let blocks = [block().await, block().await];
        (scheduler, blocks)
    }

    fn rest() -> Rest {
        Rest { parts: Box::new(parts(LENGTH as usize, Some(MIB as usize))), paid: None }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_held_and_nothing_is_under_way_while_bandwidth_is_waited_for() {
        let (scheduler, [from, mut to]) = blocks().await;
        let transfer = copy(&from, &mut to).charge(BudgetId::IO);
        let (turn, mut rest, begun) = (Arc::new(Mutex::new(())), rest(), Instant::now());
        for stretch in 1.. {
            let held = Arc::clone(&turn).try_lock_owned().expect("nobody holds it");
            let direct = Pretended::new(Duration::from_millis(10), held);
            let stretched = transfer.drive(direct, CopyFault::Write, &mut rest).await;
            assert!(turn.try_lock().is_some());
            assert_eq!(transfer.progress().done(), stretch * MIB);
            match stretched.expect("it goes on") {
                Stretch::Unpaid(part, payment) => {
                    assert_eq!(part.start as u64, stretch * MIB);
                    payment.await.expect("it is open");
                    rest.paid = Some(part);
                }
                Stretch::Done => break,
                Stretch::Never(_) => unreachable!("it began"),
            }
        }
        assert_eq!(transfer.progress().done(), LENGTH);
        let granted = scheduler.stats().budget(BudgetId::IO).map(|budget| budget.granted);
        assert_eq!((granted, begun.elapsed().as_secs()), (Some(LENGTH), 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_paid_for_before_all_has_landed_is_queued_behind_it() {
        let (_scheduler, [from, mut to]) = blocks().await;
        let transfer = copy(&from, &mut to).charge(BudgetId::IO);
        let held = Arc::new(Mutex::new(())).try_lock_owned().expect("nobody holds it");
        let direct = Pretended::new(Duration::from_secs(10), held);
        let stretched = transfer.drive(direct, CopyFault::Write, &mut rest()).await;
        assert!(matches!(stretched, Ok(Stretch::Done)));
        assert_eq!(transfer.progress().done(), LENGTH);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_device_may_be_at_counts_as_unknown_also_the_part_that_could_not_be_queued_whole() {
        let (_scheduler, [from, mut to]) = blocks().await;
        let cases = [(Unqueued::Not as How, 0), (Unqueued::Begun as How, MIB)];
        for ((how, own), at) in cases.into_iter().flat_map(|case| [(case, 0), (case, 2), (case, 3)]) {
            let transfer = copy(&from, &mut to).depth(3);
            let held = Arc::new(Mutex::new(())).try_lock_owned().expect("nobody holds it");
            let direct = Pretended { fails: Some((at, how)), ..Pretended::new(Duration::from_secs(10), held) };
            let broken = transfer.drive(direct, CopyFault::Write, &mut rest()).await.err();
            // The fourth is queued when the first has landed.
            let (before, done) = (at.min(2) as u64 * MIB, (at as u64).saturating_sub(2) * MIB);
            assert_eq!(broken, Some((CopyFault::Write(LOST), before + own)), "part {at}");
            assert_eq!(transfer.progress().done(), done);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_the_driver_refuses_goes_through_memory_and_pays_for_no_byte_twice() {
        let (scheduler, [mut from, mut to]) = blocks().await;
        from.write(0, &[7; LENGTH as usize]).await.expect("it is there");
        let transfer = copy(&from, &mut to).chunk(3 * MIB / 4).charge(BudgetId::IO);
        let held = Arc::new(Mutex::new(())).try_lock_owned().expect("nobody holds it");
        let fails = Some((0, Unqueued::Refused as How));
        let direct = Pretended { fails, ..Pretended::new(Duration::from_secs(10), held) };
        let Ok(Stretch::Never(paid)) = transfer.drive(direct, CopyFault::Write, &mut rest()).await else {
            panic!("it is refused")
        };
        assert_eq!((paid, transfer.pump(paid).await), (MIB, Ok(())));
        let granted = scheduler.stats().budget(BudgetId::IO).map(|budget| budget.granted);
        assert_eq!((granted, transfer.progress().done()), (Some(LENGTH), LENGTH));
        let mut back = vec![0; LENGTH as usize];
        to.read(0, &mut back).await.expect("it is there");
        assert!(back.iter().all(|&byte| byte == 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_payment_says_how_much_may_be_anything() {
        let (scheduler, [from, mut to]) = blocks().await;
        let transfer = copy(&from, &mut to).charge(BudgetId::IO);
        let held = Arc::new(Mutex::new(())).try_lock_owned().expect("nobody holds it");
        let direct = Pretended::new(Duration::from_secs(10), held);
        let mut rest = rest();
        let closing = async {
            sleep(Duration::from_millis(500)).await;
            scheduler.close();
        };
        let (stretched, ()) = tokio::join!(transfer.drive(direct, CopyFault::Write, &mut rest), closing);
        assert!(matches!(stretched, Err((CopyFault::Bandwidth(_), MIB))));
        assert_eq!(transfer.progress().done(), 0);
    }
}
