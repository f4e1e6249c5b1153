//! What only blocks in files do: budgets and disks that are fuller, damage, and what dead processes leave.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bursar::memory::{DiskConfig, DiskSpace, Durability, Space, SpaceError, Stream};
use bursar::{KIB, MIB, SpaceId, Tier};

const DISK0: SpaceId = SpaceId { tier: Tier::Disk, index: 0 };
const S: Stream = Stream(0);

/// A folder that is gone after the test.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Root(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("memory-{}-{number}", std::process::id())))
    }

    fn config(&self, budget: u64) -> DiskConfig {
        DiskConfig::new(&self.0, budget)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A space for tests that only look at it as a space. All of them share a root, and leave nothing in it.
pub async fn open(budget: u64) -> DiskSpace {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("memory-spaces");
    DiskSpace::open(DISK0, DiskConfig::new(root, budget)).await.unwrap()
}

/// The files of blocks.
fn files(disk: &DiskSpace) -> Vec<PathBuf> {
    let all = fs::read_dir(disk.folder()).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| !path.ends_with("alive")).collect()
}

/// Polls on this thread, which is in no runtime.
fn outside<T>(future: impl Future<Output = T>) -> T {
    let mut future = tokio_test::task::spawn(future);
    loop {
        match future.poll() {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

#[test]
fn a_disk_is_used_outside_of_a_runtime_as_inside() {
    let root = Root::new();
    let disk = outside(DiskSpace::open(DISK0, root.config(MIB))).unwrap();
    let block = outside(disk.allocate(100 * KIB)).unwrap();
    outside(disk.write(S, block, 7, &[3; 70_000])).unwrap();
    let mut back = vec![0; 70_000];
    outside(disk.read(S, block, 7, &mut back)).unwrap();
    assert!(back.iter().all(|&byte| byte == 3));
    outside(disk.free(block)).unwrap();
    assert_eq!((files(&disk).len(), disk.used()), (0, 0));
}

#[tokio::test]
async fn damage_is_found_when_it_is_read_and_what_is_sound_can_be_read_all_the_same() {
    let root = Root::new();
    let disk = DiskSpace::open(DISK0, root.config(MIB).sync(Durability::EveryWrite)).await.unwrap();
    let block = disk.allocate(200 * KIB).await.unwrap();
    disk.write(S, block, 0, &vec![6; 200 << 10]).await.unwrap();
    let path = files(&disk).pop().unwrap();
    // One byte of the second chunk.
    std::os::unix::fs::FileExt::write_at(&File::options().write(true).open(&path).unwrap(), &[7], 4_096 + 70_000)
        .unwrap();
    let damaged = SpaceError::Corrupt { block, offset: 64 * KIB, length: 64 * KIB };
    let mut byte = [0];
    assert_eq!(disk.read(S, block, 65 * KIB, &mut byte).await, Err(damaged.clone()));
    // Not signed over by a write into the same chunk.
    assert_eq!(disk.write(S, block, 65 * KIB, &[1]).await, Err(damaged.clone()));
    assert!(
        damaged
            .to_string()
            .ends_with("the 65536 bytes from 65536 on are not what was written; write them again, or free it")
    );
    disk.read(S, block, 0, &mut byte).await.unwrap();
    disk.write(S, block, 64 * KIB, &vec![8; 64 << 10]).await.unwrap();
    disk.read(S, block, 70_000, &mut byte).await.unwrap();
    assert_eq!(byte, [8]);
    // A file that somebody cut off.
    File::options().write(true).open(&path).unwrap().set_len(5_000).unwrap();
    let cut = disk.read(S, block, 64 * KIB, &mut byte).await;
    assert_eq!(cut, Err(SpaceError::Short { block, expected: 64 * KIB, done: 0 }));
    disk.free(block).await.unwrap();
    assert_eq!(disk.used(), 0);
}

#[tokio::test]
async fn a_disk_that_has_less_than_the_budget_says_so_and_nothing_is_charged() {
    let root = Root::new();
    // As if all but some of it had to stay free.
    let disk = DiskSpace::open(DISK0, root.config(u64::MAX).leave(u64::MAX)).await.unwrap();
    assert_eq!(disk.allocate(MIB).await, Err(SpaceError::DiskFull { space: DISK0, asked: MIB, free: 0 }));
    assert_eq!((disk.used(), files(&disk).len()), (0, 0));
    let whole = DiskSpace::open(DISK0, root.config(u64::MAX)).await.unwrap();
    assert!(matches!(whole.allocate(1 << 60).await, Err(SpaceError::DiskFull { asked, .. }) if asked == 1 << 60));
    assert_eq!((whole.used(), files(&whole).len()), (0, 0));
}

#[tokio::test]
async fn a_disk_that_others_fill_has_no_more_than_its_files_and_what_they_leave() {
    let root = Root::new();
    let disk = DiskSpace::open(DISK0, root.config(MIB)).await.unwrap();
    assert_eq!(disk.probe(), Ok(MIB));
    let full = DiskSpace::open(DISK0, root.config(MIB).leave(u64::MAX)).await.unwrap();
    assert_eq!(full.probe(), Ok(0));
}

#[tokio::test]
async fn the_files_of_a_dead_process_are_removed_and_those_of_living_ones_are_not() {
    let root = Root::new();
    let living = DiskSpace::open(DISK0, root.config(MIB)).await.unwrap();
    let block = living.allocate(KIB).await.unwrap();
    living.write(S, block, 0, &[4; 1_024]).await.unwrap();
    // A process that died with two blocks, one that died before it had locked anything, and a folder of somebody else.
    let (dead, unborn, other) = (root.0.join("bursar-999999-0"), root.0.join("bursar-1-0"), root.0.join("somebody"));
    [&dead, &unborn, &other].iter().for_each(|folder| fs::create_dir(folder).unwrap());
    ["alive", "0", "1"].iter().for_each(|name| drop(File::create(dead.join(name)).unwrap()));
    let next = DiskSpace::open(DISK0, root.config(MIB)).await.unwrap();
    assert_eq!((next.left_over(), dead.exists(), unborn.exists(), other.exists()), (2, false, false, true));
    let mut back = [0; 1_024];
    living.read(S, block, 0, &mut back).await.unwrap();
    assert_eq!(back, [4; 1_024]);
    assert_ne!(living.folder(), next.folder());
    let folder = living.folder().to_owned();
    drop(living);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_block_is_a_file_until_it_is_dropped() {
    let root = Root::new();
    let disk = DiskSpace::open(DISK0, root.config(MIB)).await.unwrap();
    let block = disk.allocate_block(MIB).await.unwrap();
    assert_eq!((block.len(), block.space(), files(&disk).len(), disk.used()), (MIB, DISK0, 1, MIB));
    let id = disk.into_id(block).unwrap();
    let block = disk.take(id).unwrap();
    assert_eq!(disk.free(id).await, Err(SpaceError::StaleBlock { block: id }));
    drop(block);
    assert_eq!((files(&disk).len(), disk.used()), (0, 0));
}

#[tokio::test]
async fn an_allocation_that_is_given_up_leaves_neither_file_nor_charge() {
    let root = Root::new();
    let disk = DiskSpace::open(DISK0, root.config(MIB)).await.unwrap();
    for _ in 0..20 {
        let mut given_up = Box::pin(disk.allocate(MIB));
        if let Poll::Ready(block) = futures::poll!(given_up.as_mut()) {
            disk.free(block.unwrap()).await.unwrap();
        }
        drop(given_up);
        // It may still be under way; then there is no room for another.
        while disk.used() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(files(&disk).len(), 0);
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_an_error_that_names_the_call() {
    let root = Root::new();
    fs::create_dir_all(&root.0).unwrap();
    File::create(root.0.join("file")).unwrap();
    let config = DiskConfig::new(root.0.join("file").join("below"), MIB);
    let failed = DiskSpace::open(DISK0, config).await.unwrap_err();
    assert!(failed.to_string().starts_with("disk0: opening the folder failed: "), "{failed}");
}
