//! Which mutants the compiler refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::text::Region;

#[derive(Deserialize)]
struct Line {
    message: Option<Message>,
}

#[derive(Deserialize)]
struct Message {
    level: String,
    rendered: Option<String>,
    spans: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    file_name: PathBuf,
    byte_start: usize,
    byte_end: usize,
}

/// The mutants in which the errors lie. Fails if an error lies in none.
pub fn broken(
    check: &[String],
    tree: &Path,
    regions: &BTreeMap<PathBuf, Vec<Region>>,
) -> Result<BTreeSet<u32>, Box<dyn Error>> {
    let (program, arguments) = check.split_first().ok_or("which command checks it?")?;
    let ran = Command::new(program).args(arguments).current_dir(tree).output()?;
    let mut broken = BTreeSet::new();
    for line in String::from_utf8(ran.stdout)?.lines() {
        let Ok(Line { message: Some(message) }) = serde_json::from_str(line) else { continue };
        if message.level != "error" || message.spans.is_empty() {
            continue;
        }
        // The error may be told of a part that is as it was, because of one that is not.
        let smallest = |span: &Span| {
            let within = |region: &&Region| {
                !region.mutants.is_empty() && region.bytes.start <= span.byte_start && span.byte_end <= region.bytes.end
            };
            let of_file = regions.get(&span.file_name)?;
            of_file.iter().filter(within).min_by_key(|region| region.bytes.len())
        };
        let found = message.spans.iter().filter_map(smallest).min_by_key(|region| region.bytes.len());
        let rendered = message.rendered.unwrap_or_default();
        broken.extend(&found.ok_or_else(|| format!("an error that is in no mutant: {rendered}"))?.mutants);
    }
    if broken.is_empty() && !ran.status.success() {
        return Err(String::from_utf8_lossy(&ran.stderr).into());
    }
    Ok(broken)
}
