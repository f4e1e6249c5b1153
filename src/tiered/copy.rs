//! Bytes from one block to another, whatever spaces they are in.

use std::fmt;
use std::future::{Future, IntoFuture};
#[cfg(feature = "cuda")]
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::block::{Block, Held};
use super::error::{CopyError, CopyFault};
use super::figures::{is_spill, note_copied};
use crate::memory::SpaceError;
use crate::model::{BudgetId, MIB, Priority, Request, ReserveError};

/// Copies what is in a block into another one: all of it, unless a [`range`](Transfer::range) is given. Does nothing
/// until it is awaited, and then returns how many bytes were copied.
///
/// It goes chunk by chunk, in order: while one is written the next is read, and no more than
/// [`depth`](Transfer::depth) chunks are held at a time.
///
/// A CUDA device copies by itself, at the speed of its link or memory, between its blocks and those of
/// [pinned](crate::memory::HeapSource::pinned) host memory, from one of its blocks to another, and from those of
/// another CUDA device. If the driver refuses the last, and between any other two blocks, bytes go through memory of
/// the host.
///
/// # Errors
/// [`CopyError`], which says what is in the target.
///
/// # Cancel safety
/// Dropping the future stops it. Then, as after an error, what is in the target is known: the bytes that
/// [`progress`](Transfer::progress) counts are copied, those of one chunk after them are undefined, or of as many as
/// are held if a device copies by itself, and the rest is as it was. A later copy from or to the same block comes after
/// whatever is left of this one, and may go on where it stopped.
pub fn copy<'a, A, B>(from: &'a Block<A>, to: &'a mut Block<B>) -> Transfer<'a> {
    let (from, to) = (from.held(), to.held());
    Transfer {
        from,
        to,
        from_offset: 0,
        to_offset: 0,
        length: from.len(),
        chunk: None,
        depth: None,
        rates: Vec::new(),
        level: from.level().min(to.level()),
        progress: Progress::default(),
    }
}

/// A copy that was not begun: see [`copy`].
#[must_use = "nothing is copied unless it is awaited"]
pub struct Transfer<'a> {
    pub(super) from: &'a Held,
    pub(super) to: &'a Held,
    pub(super) from_offset: u64,
    pub(super) to_offset: u64,
    pub(super) length: u64,
    pub(super) chunk: Option<u64>,
    pub(super) depth: Option<usize>,
    rates: Vec<BudgetId>,
    level: Priority,
    progress: Progress,
}

/// What is copied at once, unless somebody chooses.
const CHUNK: u64 = 4 * MIB;
/// How many of them there are.
const DEPTH: usize = 2;

/// How far a copy is. Clones are of the same copy, and outlive it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// How many bytes are in the target, from the beginning of the range on.
    pub fn done(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl<'a> Transfer<'a> {
    /// Copies so many bytes, from an offset in the source to an offset in the target.
    pub fn range(mut self, from_offset: u64, to_offset: u64, length: u64) -> Self {
        (self.from_offset, self.to_offset, self.length) = (from_offset, to_offset, length);
        self
    }

    /// How many bytes are read and written at once: 4 MiB unless this is called, or 16 MiB where a device copies by
    /// itself, and at least 1.
    pub fn chunk(mut self, bytes: u64) -> Self {
        self.chunk = Some(bytes.max(1));
        self
    }

    /// How many chunks may be held at a time: 2 unless this is called, or 4 where a device copies by itself, and at
    /// least 2.
    pub fn depth(mut self, chunks: usize) -> Self {
        self.depth = Some(chunks.max(2));
        self
    }

    /// Pays for every byte out of a rate of the scheduler, chunk by chunk before it is read, and waits for that when
    /// need be; others have the streams and blocks meanwhile. May be called for several.
    pub fn charge(mut self, rate: BudgetId) -> Self {
        self.rates.push(rate);
        self
    }

    /// The level at which it waits for bandwidth: the more urgent one of the leases of the two blocks unless this is
    /// called.
    pub fn priority(mut self, level: Priority) -> Self {
        self.level = level;
        self
    }

    /// How far it is, to be asked while it runs and after it was dropped.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    async fn run(self) -> Result<u64, CopyError> {
        let span = self.span();
        let copied = match self.check() {
            Ok(()) => self.go().instrument(span.clone()).await,
            Err(fault) => Err((fault, 0)),
        };
        let done = self.progress.done();
        if !span.is_disabled() {
            span.record("copied", done);
            let whole = copied.is_ok();
            span.in_scope(|| tracing::debug!(target: "bursar::spill", copied = done, whole, "copied to a slower tier"));
        }
        copied.map(|()| done).map_err(|(fault, unknown)| CopyError {
            from: self.from.id(),
            to: self.to.id(),
            length: self.length,
            done,
            unknown,
            fault,
        })
    }

    /// By the shortest way there is.
    async fn go(&self) -> Result<(), (CopyFault, u64)> {
        #[cfg(feature = "cuda")]
        let paid = match self.directly().await? {
            ControlFlow::Continue(paid) => paid,
            ControlFlow::Break(()) => return Ok(()),
        };
        #[cfg(not(feature = "cuda"))]
        let paid = 0;
        self.pump(paid).await
    }

    /// The span of a copy to a slower tier, in the one that is current. Any other has none.
    fn span(&self) -> Span {
        let (from, to) = (self.from.entry(), self.to.entry());
        if !is_spill(from, to) {
            return Span::none();
        }
        tracing::debug_span!(
            target: "bursar::spill", "spill",
            from = %from.id, to = %to.id, bytes = self.length, priority = %self.level, copied = Empty
        )
    }

    /// Through memory, both at once: who reads waits for room, who writes for a chunk. So many bytes are paid for.
    pub(super) async fn pump(&self, paid: u64) -> Result<(), (CopyFault, u64)> {
        // No more than there are, so that a caller may allow any number.
        let chunks = usize::try_from(self.length.div_ceil(self.at_once())).unwrap_or(usize::MAX);
        let depth = self.depth.unwrap_or(DEPTH).min(chunks).max(1);
        let (full, mut filled) = mpsc::channel(depth);
        let (empty, emptied) = mpsc::channel(depth);
        for _ in 0..depth {
            // There is room for all of them.
            let _ = empty.try_send(Vec::new());
        }
        let reading = async { self.read(paid, emptied, full).await.map_err(|fault| (fault, self.unknown())) };
        let writing = async {
            while let Some(chunk) = filled.recv().await {
                let at = self.to_offset + self.progress.done();
                let written = self.to.space().write(self.to.stream(), self.to.id(), at, &chunk).await;
                written.map_err(|error| (CopyFault::Write(error), self.unknown()))?;
                self.note(chunk.len() as u64);
                // Nobody takes it once all is read.
                let _ = empty.send(chunk).await;
            }
            Ok(())
        };
        tokio::try_join!(reading, writing).map(|_| ())
    }

    async fn read(
        &self,
        mut paid: u64,
        mut emptied: mpsc::Receiver<Vec<u8>>,
        full: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), CopyFault> {
        let most = self.most_at_once();
        let mut read = 0;
        while read < self.length {
            let length = self.at_once().min(self.length - read);
            // Both ends are held by this copy until the other is done.
            let Some(mut chunk) = emptied.recv().await else { return Ok(()) };
            self.pay(length.saturating_sub(paid), most).await.map_err(CopyFault::Bandwidth)?;
            paid = paid.saturating_sub(length);
            // A chunk lies in memory, and so does what is read into it.
            chunk.resize(length as usize, 0);
            let source = self.from.space();
            let at = self.from_offset + read;
            source.read(self.from.stream(), self.from.id(), at, &mut chunk).await.map_err(CopyFault::Read)?;
            read += length;
            if full.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Pays for so many bytes: all rates together, and no more at once than the smallest can give.
    pub(super) async fn pay(&self, bytes: u64, most: u64) -> Result<(), ReserveError> {
        let mut left = if self.rates.is_empty() { 0 } else { bytes };
        while left > 0 {
            let part = left.min(most);
            let request = self.rates.iter().fold(Request::new(), |request, &rate| request.amount(rate, part));
            // What is paid is spent; such a lease holds nothing.
            drop(self.from.scheduler().reserve(request.priority(self.level)).await?);
            left -= part;
        }
        Ok(())
    }

    /// The smallest burst of the rates.
    pub(super) fn most_at_once(&self) -> u64 {
        if self.rates.is_empty() {
            return u64::MAX;
        }
        let stats = self.from.scheduler().stats();
        let bursts = self.rates.iter().filter_map(|&rate| stats.budget(rate)).map(|budget| budget.capacity);
        bursts.min().unwrap_or(u64::MAX).max(1)
    }

    /// Nothing is copied unless all of it can be.
    fn check(&self) -> Result<(), CopyFault> {
        let out_of_range = |held: &Held, offset: u64| {
            let fits = offset.checked_add(self.length).is_some_and(|end| end <= held.len());
            let (block, size, length) = (held.id(), held.len(), self.length);
            (!fits).then_some(SpaceError::OutOfRange { block, size, offset, length })
        };
        out_of_range(self.from, self.from_offset).map(CopyFault::Read).map_or(Ok(()), Err)?;
        out_of_range(self.to, self.to_offset).map(CopyFault::Write).map_or(Ok(()), Err)
    }

    fn at_once(&self) -> u64 {
        self.chunk.unwrap_or(CHUNK)
    }

    /// So many more bytes are in the target.
    pub(super) fn note(&self, bytes: u64) {
        self.progress.0.fetch_add(bytes, Ordering::Release);
        note_copied(self.from.entry(), self.to.entry(), bytes);
    }

    /// How many bytes after those that are done may be anything.
    fn unknown(&self) -> u64 {
        self.at_once().min(self.length - self.progress.done())
    }
}

impl<'a> IntoFuture for Transfer<'a> {
    type Output = Result<u64, CopyError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Transfer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Transfer");
        shown.field("from", &self.from.id()).field("to", &self.to.id()).field("length", &self.length);
        shown.field("done", &self.progress.done()).finish_non_exhaustive()
    }
}
