//! A folder of one's own among those of other processes, and what dead ones left.
//!
//! Every process makes a folder of its own under the root, with a file `alive` in it that it keeps locked (`flock`).
//! The system gives the lock back when the process ends, however it ends; so who gets the lock of another's `alive`
//! knows that its owner is dead, whatever process has the number now and whether the machine was restarted. Folders are
//! made and cleared away under a lock of the root, so that a folder without a locked file is never one that is just
//! being made.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "bursar-";
const ALIVE: &str = "alive";
const ROOT_LOCK: &str = "bursar.lock";

/// A folder of this process, removed with all that is in it when it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    path: PathBuf,
    /// Locked for as long as it is open.
    _alive: File,
}

impl Folder {
    /// Makes a folder under `root`, which is made too if need be, after removing those of dead processes. Says how many
    /// these were. Waits while another process does the same.
    pub(super) fn open(root: &Path) -> io::Result<(Self, usize)> {
        fs::create_dir_all(root)?;
        let _turn = turn(root)?;
        let removed = remove_dead(root)?;
        let (path, alive) = make(root)?;
        Ok((Folder { root: root.to_owned(), path, _alive: alive }, removed))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Without the turn another could find it half gone, take it for that of a dead process, and make one of its
        // name, which this would remove. If there is no turn to be had, the root is gone, and with it what others could
        // make.
        let _turn = turn(&self.root);
        if let Err(error) = remove(&self.path) {
            // The next process that opens the root does it.
            tracing::warn!(
                target: "bursar::memory",
                path = %self.path.display(), %error, "a folder of blocks could not be removed"
            );
        }
    }
}

/// The lock of a root, until it is dropped. Waits while another has it.
fn turn(root: &Path) -> io::Result<File> {
    let turn = File::create(root.join(ROOT_LOCK))?;
    turn.lock()?;
    Ok(turn)
}

fn make(root: &Path) -> io::Result<(PathBuf, File)> {
    for number in 0.. {
        let path = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => {
                let alive = File::create(path.join(ALIVE))?;
                alive.lock()?;
                return Ok((path, alive));
            }
            // Another space of this process.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn remove_dead(root: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if ours && entry.path().is_dir() && is_dead(&entry.path())? {
            remove(&entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whoever owns the root may have removed it already.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn is_dead(folder: &Path) -> io::Result<bool> {
    let alive = match File::open(folder.join(ALIVE)) {
        Ok(alive) => alive,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    match alive.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// It has its turn, so nobody sees it half gone. That it does not go before is what fails without the lock, if not
    /// every time.
    #[test]
    fn a_folder_goes_when_nobody_makes_or_clears_away_folders_in_its_root() {
        let root = std::env::temp_dir().join(format!("bursar-folder-{}", std::process::id()));
        for _ in 0..20 {
            let (folder, _) = Folder::open(&root).expect("a folder");
            let path = folder.path().to_owned();
            let others = turn(&root).expect("nobody else has it");
            let (begins, begun) = channel();
            let goes = std::thread::spawn(move || {
                begins.send(()).expect("somebody waits for it");
                drop(folder);
            });
            begun.recv().expect("it begins");
            (0..100).for_each(|_| std::thread::yield_now());
            assert!(path.join(ALIVE).exists());
            drop(others);
            goes.join().expect("no panic");
            assert!(!path.exists());
        }
        fs::remove_dir_all(&root).expect("it is there");
    }
}
