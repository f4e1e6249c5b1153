//! Requests from a file. What format it has is told by its first line, not by its name.
//!
//! * A CSV file with the columns `arrived_at` (seconds), `num_prefill_tokens` and `num_decode_tokens`, in any order:
//!   the public LLM traces of Azure in the form that simulators use.
//! * One JSON object a line, with `timestamp` (milliseconds), `input_length` and `output_length`; `hash_ids`, which the
//!   published Mooncake traces have too, is understood and not used.
//!
//! A file is read as a whole before anything runs, as far as `--limit` goes, and the first line that cannot be read
//! refuses it: figures of a run that left out some of its requests would look like figures of the trace.

mod csv;
mod jsonl;
mod line;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use line::Lines;

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it arrives, from the time zero of the trace.
    pub at: Duration,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens of its answer.
    pub output: u32,
}

/// Why a trace cannot be used.
#[derive(Debug, Error)]
pub enum TraceError {
    #[error("{}: {error}", file.display())]
    Io { file: PathBuf, error: std::io::Error },
    #[error("{}: there is no request in it", file.display())]
    Empty { file: PathBuf },
    #[error(
        "{}:{line}: unknown columns: found {}; understood are {} (CSV) or {} (one JSON object a line)",
        file.display(), found.join(", "), csv::NAMES.join(", "), jsonl::NAMES.join(", ")
    )]
    UnknownColumns { file: PathBuf, line: u64, found: Vec<String> },
    #[error("{}:{line}:{column}: {fault}", file.display())]
    BrokenLine { file: PathBuf, line: u64, column: usize, fault: Fault },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Fault {
    #[error("this is not UTF-8 text")]
    NotText,
    #[error("the line is longer than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("the line has {found} fields, the header has {expected}")]
    FieldCount { found: usize, expected: usize },
    #[error("{name} is `{text}`; it must be {must}")]
    Field { name: &'static str, text: String, must: &'static str },
    #[error("{message}")]
    Json { message: String },
    #[error("the request has no tokens")]
    NoTokens,
    #[error("the request arrives at {at:?}, before the one above it at {before:?}")]
    OutOfOrder { at: Duration, before: Duration },
}

/// A fault and the column it is at, counted in characters from 1.
type Found = (usize, Fault);

/// How the lines of a file are written.
#[derive(Debug)]
enum Format {
    Csv(csv::Columns),
    Jsonl,
}

impl Format {
    /// The format by the first line of a file; the names of the columns if they are not understood.
    fn of(first: &str) -> Result<Format, Vec<String>> {
        if first.trim_start().starts_with('{') {
            jsonl::check_names(first).map(|()| Format::Jsonl)
        } else {
            csv::Columns::of(first).map(Format::Csv)
        }
    }

    fn read(&self, line: &str) -> Result<Arrival, Found> {
        match self {
            Format::Csv(columns) => columns.read(line),
            Format::Jsonl => jsonl::read(line),
        }
    }
}

/// Reads the first `limit` requests of a file.
pub fn read(file: &Path, limit: usize) -> Result<Vec<Arrival>, TraceError> {
    let opened = File::open(file).map_err(|error| TraceError::Io { file: file.into(), error })?;
    read_lines(file, Lines::new(BufReader::new(opened)), limit)
}

fn read_lines<R: std::io::BufRead>(file: &Path, mut lines: Lines<R>, limit: usize) -> Result<Vec<Arrival>, TraceError> {
    let mut arrivals: Vec<Arrival> = Vec::new();
    let mut format = None;
    while arrivals.len() < limit {
        let broken = |line, (column, fault)| TraceError::BrokenLine { file: file.into(), line, column, fault };
        let next = lines.next_line().map_err(|error| TraceError::Io { file: file.into(), error })?;
        let Some((number, text)) = next else { break };
        let text = text.map_err(|found| broken(number, found))?;
        if text.trim().is_empty() {
            continue;
        }
        let format = match &format {
            Some(format) => format,
            None => {
                let unknown = |found| TraceError::UnknownColumns { file: file.into(), line: number, found };
                let told = Format::of(text).map_err(unknown)?;
                let is_header = matches!(told, Format::Csv(_));
                let told = format.insert(told);
                if is_header {
                    continue;
                }
                told
            }
        };
        let arrival = format.read(text).and_then(|arrival| check(arrival, &arrivals));
        arrivals.push(arrival.map_err(|found| broken(number, found))?);
    }
    if arrivals.is_empty() { Err(TraceError::Empty { file: file.into() }) } else { Ok(arrivals) }
}

/// What must hold whatever the format.
fn check(arrival: Arrival, earlier: &[Arrival]) -> Result<Arrival, Found> {
    let before = earlier.last().map_or(Duration::ZERO, |last| last.at);
    if arrival.at < before {
        return Err((1, Fault::OutOfOrder { at: arrival.at, before }));
    }
    if arrival.prompt == 0 && arrival.output == 0 {
        return Err((1, Fault::NoTokens));
    }
    Ok(arrival)
}

#[cfg(test)]
mod tests;
