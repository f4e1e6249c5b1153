//! The lines of a file, with their numbers. A file without line breaks does not fill the memory.

use std::io::{BufRead, Read};

use super::{Fault, Found};

/// The longest line. The published traces have a few thousand bytes a line.
const LONGEST: u64 = 1 << 20;

/// Reads line by line.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Lines { reader, number: 0, buffer: Vec::new() }
    }

    /// The next line without its line break, and its number from 1; `None` at the end.
    pub fn next_line(&mut self) -> std::io::Result<Option<(u64, Result<&str, Found>)>> {
        self.buffer.clear();
        if self.reader.by_ref().take(LONGEST + 1).read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.buffer.len() as u64 > LONGEST {
            return Ok(Some((self.number, Err((1, Fault::TooLong { limit: LONGEST })))));
        }
        let text = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text,
            Err(error) => {
                let good = &self.buffer[..error.valid_up_to()];
                let column = String::from_utf8_lossy(good).chars().count() + 1;
                return Ok(Some((self.number, Err((column, Fault::NotText)))));
            }
        };
        // Some programs begin a file with a byte order mark.
        let text = if self.number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        Ok(Some((self.number, Ok(text.trim_end_matches(['\n', '\r'])))))
    }
}
