//! The file of a block: a header, and the content in chunks with a checksum each.
//!
//! The checksums lie in memory, where a bad disk does not reach them, and for no longer than the block: it does not
//! outlive its process. A chunk that was written in part, because the disk was full, is torn and cannot be read any
//! more until it is written in whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where the content begins: a page, so that the content is aligned.
pub(super) const HEADER: u64 = 4_096;
/// What has a checksum of its own.
pub(super) const CHUNK: usize = 64 << 10;

const MAGIC: &[u8; 8] = b"bursar\x00\x01";

/// What a file can do.
pub(super) trait Medium: Send + Sync {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize>;
    fn sync(&self) -> io::Result<()>;
}

impl Medium for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, at)
    }

    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Why a file did not do it.
#[derive(Debug)]
pub(super) enum FileError {
    Full,
    /// The medium took or gave less than it has to.
    Short {
        expected: u64,
        done: u64,
    },
    /// What was read is not what was written.
    Corrupt {
        offset: u64,
        length: u64,
    },
    Io(io::Error),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => FileError::Full,
            _ => FileError::Io(error),
        }
    }
}

/// What is known of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// Never written: zeros, or whatever the disk says.
    Fresh,
    Sum(u32),
    Torn,
}

pub(super) struct BlockFile<M> {
    medium: M,
    size: u64,
    chunks: Mutex<Box<[Chunk]>>,
}

impl<M: Medium> BlockFile<M> {
    /// Writes the header.
    pub(super) fn create(medium: M, size: u64) -> Result<Self, FileError> {
        let count = size.div_ceil(CHUNK as u64) as usize;
        let file = BlockFile { medium, size, chunks: Mutex::new(vec![Chunk::Fresh; count].into()) };
        file.put(&header(size), 0)?;
        Ok(file)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    #[cfg(test)]
    fn medium(&self) -> &M {
        &self.medium
    }

    /// Writes a range, which lies in the block.
    pub(super) fn write(&self, offset: u64, bytes: &[u8], sync: bool) -> Result<(), FileError> {
        let mut chunks = self.chunks();
        let mut done = 0;
        while done < bytes.len() {
            let (number, start, end) = self.part(offset + done as u64, bytes.len() - done);
            let part = &bytes[done..done + (end - start)];
            let mut whole = Vec::new();
            let content = if part.len() == self.length(number) {
                part
            } else {
                // Checked before it is changed: a fault is not signed over.
                whole = self.load(number, chunks[number])?;
                whole[start..end].copy_from_slice(part);
                &whole
            };
            chunks[number] = Chunk::Torn;
            self.put(part, HEADER + offset + done as u64)?;
            chunks[number] = Chunk::Sum(crc32fast::hash(content));
            done += part.len();
            drop(whole);
        }
        if sync { Ok(self.medium.sync()?) } else { Ok(()) }
    }

    /// Reads a range, which lies in the block.
    pub(super) fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), FileError> {
        let chunks = self.chunks();
        self.check_header()?;
        let mut done = 0;
        while done < into.len() {
            let (number, start, end) = self.part(offset + done as u64, into.len() - done);
            let content = self.load(number, chunks[number])?;
            into[done..done + (end - start)].copy_from_slice(&content[start..end]);
            done += end - start;
        }
        Ok(())
    }

    /// The chunk that an offset lies in, and the part of it that a range of this length from there on covers.
    fn part(&self, offset: u64, length: usize) -> (usize, usize, usize) {
        let (number, start) = ((offset / CHUNK as u64) as usize, (offset % CHUNK as u64) as usize);
        (number, start, self.length(number).min(start + length))
    }

    /// How long a chunk is: the last one may be short.
    fn length(&self, number: usize) -> usize {
        CHUNK.min((self.size - (number * CHUNK) as u64) as usize)
    }

    fn load(&self, number: usize, chunk: Chunk) -> Result<Vec<u8>, FileError> {
        let (offset, length) = ((number * CHUNK) as u64, self.length(number));
        let corrupt = FileError::Corrupt { offset, length: length as u64 };
        let mut content = vec![0; length];
        if chunk == Chunk::Torn {
            return Err(corrupt);
        }
        self.get(&mut content, HEADER + offset)?;
        match chunk {
            Chunk::Sum(sum) if sum != crc32fast::hash(&content) => Err(corrupt),
            _ => Ok(content),
        }
    }

    fn check_header(&self) -> Result<(), FileError> {
        let mut found = [0; 32];
        self.get(&mut found, 0)?;
        let expected = header(self.size);
        if found == expected { Ok(()) } else { Err(FileError::Corrupt { offset: 0, length: 0 }) }
    }

    fn put(&self, bytes: &[u8], at: u64) -> Result<(), FileError> {
        whole(bytes.len(), |done| self.medium.write_at(&bytes[done..], at + done as u64))
    }

    fn get(&self, into: &mut [u8], at: u64) -> Result<(), FileError> {
        whole(into.len(), |done| self.medium.read_at(&mut into[done..], at + done as u64))
    }

    fn chunks(&self) -> MutexGuard<'_, Box<[Chunk]>> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes on until all is done, and does not take nothing for an answer.
fn whole(length: usize, mut go_on: impl FnMut(usize) -> io::Result<usize>) -> Result<(), FileError> {
    let mut done = 0;
    while done < length {
        match go_on(done) {
            Ok(0) => return Err(FileError::Short { expected: length as u64, done: done as u64 }),
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Magic, size of a chunk, size of the content, and the checksum of these.
fn header(size: u64) -> [u8; 32] {
    let mut header = [0; 32];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&(CHUNK as u64).to_le_bytes());
    header[16..24].copy_from_slice(&size.to_le_bytes());
    let sum = crc32fast::hash(&header[..24]);
    header[24..28].copy_from_slice(&sum.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A file in memory that fails on demand.
    #[derive(Default)]
    struct Faulty {
        bytes: Mutex<Vec<u8>>,
        /// How many more bytes it takes, and how many at a time.
        room: AtomicUsize,
        step: usize,
        synced: AtomicUsize,
        /// What it says when the room is used up.
        silent: bool,
    }

    impl Faulty {
        fn new(room: usize, step: usize) -> Self {
            Faulty { room: AtomicUsize::new(room), step, ..Faulty::default() }
        }
    }

    impl Medium for Faulty {
        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
            let taken = bytes.len().min(self.step).min(self.room.load(Ordering::Relaxed));
            if taken == 0 {
                return if self.silent { Ok(0) } else { Err(io::ErrorKind::StorageFull.into()) };
            }
            self.room.fetch_sub(taken, Ordering::Relaxed);
            let (mut all, at) = (self.bytes.lock().expect("no panic"), at as usize);
            let length = all.len().max(at + taken);
            all.resize(length, 0);
            all[at..at + taken].copy_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
            let all = self.bytes.lock().expect("no panic");
            let rest = all.get(at as usize..).unwrap_or_default();
            let given = into.len().min(self.step).min(rest.len());
            into[..given].copy_from_slice(&rest[..given]);
            Ok(given)
        }

        fn sync(&self) -> io::Result<()> {
            self.synced.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    const SIZE: u64 = 3 * CHUNK as u64 + 100;

    #[test]
    fn a_medium_that_takes_a_little_at_a_time_gets_all_of_it() {
        let file = BlockFile::create(Faulty::new(usize::MAX, 1_000), SIZE).expect("room");
        let content: Vec<u8> = (0..SIZE).map(|n| n as u8).collect();
        file.write(0, &content, true).expect("room");
        file.write(CHUNK as u64 - 5, &[9; 10], false).expect("room");
        let mut back = vec![0; SIZE as usize];
        file.read(0, &mut back).expect("as written");
        assert_eq!(&back[CHUNK - 5..CHUNK + 5], [9; 10]);
        assert_eq!((&back[..CHUNK - 5], &back[CHUNK + 5..]), (&content[..CHUNK - 5], &content[CHUNK + 5..]));
        assert_eq!(file.medium().synced.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_medium_is_told_and_the_chunk_it_tore_is_not_read() {
        let file = BlockFile::create(Faulty::new(32 + 2 * CHUNK + 50, usize::MAX), SIZE).expect("room");
        let failed = file.write(0, &[1; 3 * CHUNK], false);
        assert!(matches!(failed, Err(FileError::Full)), "{failed:?}");
        let mut back = vec![0; 2 * CHUNK];
        file.read(0, &mut back).expect("these were written");
        assert!(back.iter().all(|&byte| byte == 1));
        let torn = file.read(2 * CHUNK as u64 + 7, &mut [0]);
        assert!(matches!(torn, Err(FileError::Corrupt { offset, .. }) if offset == 2 * CHUNK as u64), "{torn:?}");
        // Written in whole it is good again, and only then.
        file.medium().room.store(usize::MAX, Ordering::Relaxed);
        assert!(matches!(file.write(2 * CHUNK as u64, &[2], false), Err(FileError::Corrupt { .. })));
        file.write(2 * CHUNK as u64, &[2; CHUNK], false).expect("room");
        file.read(2 * CHUNK as u64 + 7, &mut [0]).expect("as written");
    }

    #[test]
    fn a_medium_that_takes_nothing_and_says_nothing_is_a_short_write() {
        let medium = Faulty { silent: true, ..Faulty::new(32 + 10, usize::MAX) };
        let file = BlockFile::create(medium, SIZE).expect("room");
        let failed = file.write(0, &[1; 100], false);
        // The chunk cannot be loaded: the medium is shorter than the block.
        assert!(matches!(failed, Err(FileError::Short { .. })), "{failed:?}");
        let failed = file.write(0, &[1; CHUNK], false);
        assert!(
            matches!(failed, Err(FileError::Short { expected, done: 10 }) if expected == CHUNK as u64),
            "{failed:?}"
        );
    }

    #[test]
    fn any_bit_that_changed_is_found_in_content_and_header() {
        let file = BlockFile::create(Faulty::new(usize::MAX, usize::MAX), SIZE).expect("room");
        file.write(0, &vec![7; SIZE as usize], false).expect("room");
        for at in [0, 17, HEADER as usize, HEADER as usize + 2 * CHUNK + 3, (HEADER + SIZE) as usize - 1] {
            file.medium().bytes.lock().expect("no panic")[at] ^= 1;
            let found = file.read(0, &mut vec![0; SIZE as usize]);
            assert!(matches!(found, Err(FileError::Corrupt { .. })), "{at}: {found:?}");
            file.medium().bytes.lock().expect("no panic")[at] ^= 1;
        }
        file.read(0, &mut vec![0; SIZE as usize]).expect("as written");
    }
}
