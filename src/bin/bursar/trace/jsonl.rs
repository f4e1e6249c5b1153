//! Traces as one JSON object a line.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Arrival, Fault, Found};

/// The fields that a line must have, in the order of [`Arrival`].
pub const NAMES: [&str; 3] = ["timestamp", "input_length", "output_length"];
/// A field that it may have: the blocks of a prompt, for prefix caches.
const BLOCKS: &str = "hash_ids";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    timestamp: u64,
    input_length: u32,
    output_length: u32,
    #[serde(rename = "hash_ids")]
    _hash_ids: Option<IgnoredAny>,
}

/// Checks the names in the first line; those it has if they are not understood. A line that is no object at all passes:
/// reading it says what is wrong with it, and where.
pub fn check_names(first: &str) -> Result<(), Vec<String>> {
    let Ok(object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(first) else { return Ok(()) };
    let known = |name: &String| name == BLOCKS || NAMES.contains(&name.as_str());
    if NAMES.iter().all(|&name| object.contains_key(name)) && object.keys().all(known) {
        Ok(())
    } else {
        Err(object.keys().cloned().collect())
    }
}

/// Reads a line.
pub fn read(text: &str) -> Result<Arrival, Found> {
    let line: Line = serde_json::from_str(text).map_err(|error| place(text, &error))?;
    Ok(Arrival { at: Duration::from_millis(line.timestamp), prompt: line.input_length, output: line.output_length })
}

/// A JSON error says itself where it is, in bytes of what is one line to it.
fn place(text: &str, error: &serde_json::Error) -> Found {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message).to_owned();
    let before = text.bytes().take(error.column().saturating_sub(1)).filter(|byte| byte & 0xC0 != 0x80).count();
    (before + 1, Fault::Json { message })
}
