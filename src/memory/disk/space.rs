//! A folder on a disk as a space.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::file::{BlockFile, FileError, HEADER};
use super::folder::Folder;
use crate::memory::blocks::{BlockId, Blocks};
use crate::memory::error::SpaceError;
use crate::memory::joint::Joint;
use crate::memory::offload::blocking;
use crate::memory::turns::{Turn, Turns, check_range};
use crate::memory::{BlockSize, Remains, Space, Stream};
use crate::model::SpaceId;

/// What is written or read in one go on a thread that may block.
const PIECE: usize = 1 << 20;

/// When what is written must have reached the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the system likes. Blocks do not outlive their process, so a crash loses nothing that this could save.
    #[default]
    Never,
    /// Before a write is done, so that the page cache cannot hide that the disk fails or is slow.
    EveryWrite,
}

/// A folder and a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    root: PathBuf,
    budget: u64,
    leave: u64,
    sync: Durability,
}

impl DiskConfig {
    /// Files under `root`, of so many bytes together. A file has a page of 4 KiB more, which the budget does not count.
    pub fn new(root: impl Into<PathBuf>, budget: u64) -> Self {
        DiskConfig { root: root.into(), budget, leave: 0, sync: Durability::default() }
    }

    /// How many bytes must stay free on the disk whatever the budget says; none unless this is called.
    #[must_use]
    pub fn leave(mut self, bytes: u64) -> Self {
        self.leave = bytes;
        self
    }

    /// When what is written must have reached the disk.
    #[must_use]
    pub fn sync(mut self, sync: Durability) -> Self {
        self.sync = sync;
        self
    }
}

/// Blocks in files, with checksums. They end with the process: what a dead one left is removed by the next that opens
/// the same folder.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bursar::memory::{DiskConfig, DiskSpace, Space, Stream};
/// use bursar::{MIB, SpaceId, Tier};
///
/// let root = std::env::temp_dir().join(format!("bursar-doc-{}", std::process::id()));
/// let disk = DiskSpace::open(SpaceId { tier: Tier::Disk, index: 0 }, DiskConfig::new(&root, 64 * MIB)).await?;
/// let block = disk.allocate(MIB).await?;
/// disk.write(Stream(0), block, 100, b"spilled").await?;
/// let mut back = [0; 7];
/// disk.read(Stream(0), block, 100, &mut back).await?;
/// assert_eq!(&back, b"spilled");
/// # drop(disk);
/// # std::fs::remove_dir_all(root)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct DiskSpace {
    shared: Arc<Shared>,
    blocks: Blocks<Arc<Joint<DiskBlock>>>,
    turns: Turns,
}

#[derive(Debug)]
struct Shared {
    id: SpaceId,
    folder: Folder,
    left_over: usize,
    config: DiskConfig,
    used: AtomicU64,
    next: AtomicU64,
}

/// Bytes in a file. Dropping it removes the file.
pub struct DiskBlock {
    file: BlockFile<File>,
    path: PathBuf,
    charge: Charge,
}

/// A part of the budget, given back when it is dropped.
#[derive(Debug)]
struct Charge {
    shared: Arc<Shared>,
    bytes: u64,
}

impl DiskSpace {
    /// Opens a folder, which is made if need be, and removes what dead processes left in it.
    ///
    /// # Errors
    /// [`SpaceError::Io`].
    pub async fn open(id: SpaceId, config: DiskConfig) -> Result<Self, SpaceError> {
        let root = config.root.clone();
        let opened =
            blocking(id, move || Folder::open(&root).map_err(|error| io_error(id, "opening the folder", &error)));
        let (folder, left_over) = opened.await?;
        let counters = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Shared { id, folder, left_over, config, used: counters.0, next: counters.1 };
        Ok(DiskSpace { shared: Arc::new(shared), blocks: Blocks::new(id), turns: Turns::new() })
    }

    /// Allocates a block that is owned. Its place on the disk is taken now, so that writing cannot find the disk full,
    /// where the file system can do that.
    ///
    /// # Errors
    /// As [`allocate`](Space::allocate), [`SpaceError::DiskFull`] when the disk has less than the budget, and
    /// [`SpaceError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves no file behind.
    pub async fn allocate_block(&self, bytes: u64) -> Result<DiskBlock, SpaceError> {
        let charge = Charge::take(&self.shared, bytes)?;
        blocking(self.id(), move || DiskBlock::create(charge)).await
    }

    /// Gives a block up for an id of it.
    ///
    /// # Errors
    /// [`SpaceError::TooManyIds`].
    pub fn into_id(&self, block: DiskBlock) -> Result<BlockId, SpaceError> {
        self.blocks.insert(Joint::new(block)).ok_or(SpaceError::TooManyIds { space: self.id() })
    }

    /// Takes the block of an id, which is stale from then on.
    ///
    /// # Errors
    /// As [`free`](Space::free), and [`SpaceError::Busy`] while it is being copied to or from.
    pub fn take(&self, id: BlockId) -> Result<DiskBlock, SpaceError> {
        // Nobody can have found it since.
        self.blocks.remove_if(id, Joint::is_alone)?.into_inner().ok_or(SpaceError::Busy { block: id })
    }

    /// Where the files are: a folder of this space's own under the root.
    pub fn folder(&self) -> &Path {
        self.shared.folder.path()
    }

    /// How many folders of dead processes were removed when this was opened.
    pub fn left_over(&self) -> usize {
        self.shared.left_over
    }

    /// One piece of a copy, on a thread that may block. The turn goes with it, so that the next copy of the stream
    /// comes after it even if nobody waits for it any more.
    async fn piece<T: Send + 'static>(
        &self,
        id: BlockId,
        turn: Turn,
        copy: impl FnOnce(&BlockFile<File>, Durability) -> Result<T, FileError> + Send + 'static,
    ) -> Result<(Turn, T), SpaceError> {
        let (block, sync) = (self.blocks.get(id)?, self.shared.config.sync);
        let space = self.id();
        let done = move || match copy(&block.file, sync) {
            Ok(done) => Ok((turn, done)),
            Err(error) => Err(block.explain(id, error)),
        };
        blocking(space, done).await
    }

    fn check(&self, id: BlockId, offset: u64, length: usize) -> Result<u64, SpaceError> {
        let size = self.blocks.with(id, |block| block.len())?;
        check_range(id, size, offset, length).map(|start| start as u64)
    }
}

#[async_trait]
impl Space for DiskSpace {
    fn id(&self) -> SpaceId {
        self.shared.id
    }

    fn capacity(&self) -> u64 {
        self.shared.config.budget
    }

    fn used(&self) -> u64 {
        self.shared.used.load(Ordering::Acquire)
    }

    /// What is in files and what the disk has free beside what must stay free.
    fn probe(&self) -> Result<u64, SpaceError> {
        let folder = self.shared.folder.path();
        let room = room(folder).map_err(|error| io_error(self.id(), "asking for free space", &error))?;
        let free = room.saturating_sub(self.shared.config.leave);
        Ok(self.capacity().min(self.used().saturating_add(free)))
    }

    async fn allocate(&self, bytes: u64) -> Result<BlockId, SpaceError> {
        self.into_id(self.allocate_block(bytes).await?)
    }

    fn size(&self, block: BlockId) -> Result<BlockSize, SpaceError> {
        self.blocks.with(block, |block| BlockSize { len: block.len(), capacity: block.len() })
    }

    fn release(&self, block: BlockId) -> Result<Option<Remains>, SpaceError> {
        self.release_then(block, &mut || Box::new(()))
    }

    /// What is left is to remove the file. A piece that is being copied keeps it until it is done, also for a copy that
    /// nobody waits for any more.
    fn release_then(&self, block: BlockId, then: &mut dyn FnMut() -> Remains) -> Result<Option<Remains>, SpaceError> {
        let block = self.blocks.remove(block)?;
        block.freed(then);
        Ok(Some(Box::new(block)))
    }

    async fn write(&self, stream: Stream, block: BlockId, offset: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, bytes.len())?;
        let mut turn = self.turns.take(stream).await;
        for (number, piece) in bytes.chunks(PIECE).enumerate() {
            let (piece, at) = (piece.to_vec(), start + (number * PIECE) as u64);
            let write = move |file: &BlockFile<File>, sync| file.write(at, &piece, sync == Durability::EveryWrite);
            (turn, ()) = self.piece(block, turn, write).await?;
        }
        Ok(())
    }

    async fn read(&self, stream: Stream, block: BlockId, offset: u64, into: &mut [u8]) -> Result<(), SpaceError> {
        let start = self.check(block, offset, into.len())?;
        let mut turn = self.turns.take(stream).await;
        for (number, piece) in into.chunks_mut(PIECE).enumerate() {
            let (mut bytes, at) = (vec![0; piece.len()], start + (number * PIECE) as u64);
            let read = move |file: &BlockFile<File>, _| file.read(at, &mut bytes).map(|()| bytes);
            let bytes;
            (turn, bytes) = self.piece(block, turn, read).await?;
            piece.copy_from_slice(&bytes);
        }
        Ok(())
    }
}

impl Charge {
    /// Takes a part of the budget, all of it or nothing.
    fn take(shared: &Arc<Shared>, bytes: u64) -> Result<Charge, SpaceError> {
        let (space, budget) = (shared.id, shared.config.budget);
        if bytes == 0 {
            return Err(SpaceError::Zero { space });
        }
        let take = |used: u64| used.checked_add(bytes).filter(|&used| used <= budget);
        let taken = shared.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, take);
        let refuse =
            |used| SpaceError::OutOfMemory { space, asked: bytes, free: budget - used, largest_free: None, pending: 0 };
        taken.map_err(refuse)?;
        Ok(Charge { shared: Arc::clone(shared), bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl DiskBlock {
    fn create(charge: Charge) -> Result<Self, SpaceError> {
        let shared = &charge.shared;
        let (id, bytes) = (shared.id, charge.bytes);
        let room = room(shared.folder.path()).map_err(|error| io_error(id, "asking for free space", &error))?;
        let free = room.saturating_sub(shared.config.leave);
        let full = SpaceError::DiskFull { space: id, asked: bytes, free };
        if bytes.saturating_add(HEADER) > free {
            return Err(full);
        }
        let path = shared.folder.path().join(shared.next.fetch_add(1, Ordering::Relaxed).to_string());
        let failed = |error: FileError| {
            // Whatever is there of it goes. If it cannot, the folder does later.
            let _ = fs::remove_file(&path);
            match error {
                FileError::Full => full.clone(),
                FileError::Io(error) => io_error(id, "making a file", &error),
                other => io_error(id, "making a file", &io::Error::other(format!("{other:?}"))),
            }
        };
        let create = || -> Result<BlockFile<File>, FileError> {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
            reserve(&file, bytes.saturating_add(HEADER))?;
            BlockFile::create(file, bytes)
        };
        let file = create().map_err(failed)?;
        Ok(DiskBlock { file, path, charge })
    }

    /// How many bytes it has.
    #[allow(clippy::len_without_is_empty, reason = "there is no empty block")]
    pub fn len(&self) -> u64 {
        self.file.size()
    }

    /// The space it is in.
    pub fn space(&self) -> SpaceId {
        self.charge.shared.id
    }

    fn explain(&self, block: BlockId, error: FileError) -> SpaceError {
        let space = self.space();
        match error {
            FileError::Full => {
                let free = room(&self.path).unwrap_or(0).saturating_sub(self.charge.shared.config.leave);
                SpaceError::DiskFull { space, asked: self.len(), free }
            }
            FileError::Short { expected, done } => SpaceError::Short { block, expected, done },
            FileError::Corrupt { offset, length } => SpaceError::Corrupt { block, offset, length },
            FileError::Io(error) => io_error(space, "copying", &error),
        }
    }
}

impl Drop for DiskBlock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(
                target: "bursar::memory",
                path = %self.path.display(), %error, "the file of a block could not be removed"
            );
        }
    }
}

impl std::fmt::Debug for DiskBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiskBlock").field("path", &self.path).field("len", &self.len()).finish()
    }
}

/// Free bytes of the disk that a path is on.
fn room(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Takes the place on the disk, or, where that cannot be done, only says how long the file is.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => file.set_len(bytes),
        reserved => Ok(reserved?),
    }
}

fn io_error(space: SpaceId, call: &'static str, error: &io::Error) -> SpaceError {
    SpaceError::Io { space, call, reason: error.to_string() }
}
