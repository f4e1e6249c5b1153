//! Puts all mutants of a list into one program.
//!
//! `cargo mutants --list --json` says what would be broken where. cargo-mutants itself builds the library once for each
//! of them, which is most of its time. This program writes all of them into the sources, so that the variable `MUTANT`
//! chooses the one that is alive and the library is built once:
//!
//! ```text
//! a < b            (if crate::mutant(17) { a <= b } else { a < b })
//! fn f() { body }  fn f() { if crate::mutant(18) { return Default::default(); } body }
//! ```
//!
//! Usage: `atonce TREE LIST.json … -- CHECK`. `TREE` is a copy of the package that may be written to; `CHECK` is the
//! command that builds it and prints what the compiler says as JSON. What does not build is left out and tried again
//! without. The mutants that are in come out as lines `number name`, the others with `-` as number.

mod compiler;
mod sites;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Deserialize;

use sites::Sites;
use text::{Node, Region};

/// What is appended to the library: the number of the mutant that is alive, read once.
const CHOICE: &str = r#"
#[doc(hidden)]
pub(crate) fn mutant(number: u32) -> bool {
    static ALIVE: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0));
    *ALIVE == number
}
"#;

#[derive(Debug, Deserialize)]
struct Mutant {
    name: String,
    file: PathBuf,
    genre: String,
    replacement: String,
    span: Span,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Span {
    start: Position,
    end: Position,
}

/// Both count from one; columns are characters.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (before, check) = match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => return Err("usage: atonce TREE LIST.json … -- CHECK".into()),
    };
    let (tree, lists) = before.split_first().ok_or("which tree?")?;
    let tree = Path::new(tree);
    let mut mutants: Vec<Mutant> = Vec::new();
    for list in lists {
        mutants.extend(serde_json::from_str::<Vec<Mutant>>(&fs::read_to_string(list)?)?);
    }
    let sources = read(tree, &mutants)?;
    let lib = tree.join("src/lib.rs");
    fs::write(&lib, fs::read_to_string(&lib)? + CHOICE)?;

    let mut out = BTreeSet::new();
    loop {
        let regions = write(tree, &sources, &mutants, &mut out)?;
        let broken = compiler::broken(check, tree, &regions)?;
        if broken.is_empty() {
            break;
        }
        eprintln!("{} mutants do not build", broken.len());
        out.extend(broken);
    }
    for (number, mutant) in (1..).zip(&mutants) {
        if out.contains(&number) { println!("- {}", mutant.name) } else { println!("{number} {}", mutant.name) }
    }
    Ok(())
}

fn read(tree: &Path, mutants: &[Mutant]) -> Result<BTreeMap<PathBuf, String>, Box<dyn Error>> {
    let files: BTreeSet<&PathBuf> = mutants.iter().map(|mutant| &mutant.file).collect();
    files.into_iter().map(|file| Ok((file.clone(), fs::read_to_string(tree.join(file))?))).collect()
}

/// Writes all files with the mutants that are not `out`. Those for which there is no place go out.
fn write(
    tree: &Path,
    sources: &BTreeMap<PathBuf, String>,
    mutants: &[Mutant],
    out: &mut BTreeSet<u32>,
) -> Result<BTreeMap<PathBuf, Vec<Region>>, Box<dyn Error>> {
    let mut regions = BTreeMap::new();
    for (file, source) in sources {
        let sites = Sites::of(source)?;
        let mut nodes: BTreeMap<(usize, usize), Node> = BTreeMap::new();
        for (number, mutant) in (1..).zip(mutants) {
            if &mutant.file != file || out.contains(&number) {
                continue;
            }
            let places = sites.place(source, number, mutant);
            if places.is_none() {
                out.insert(number);
            }
            for (range, node) in places.unwrap_or_default() {
                nodes.entry((range.start, range.end)).or_default().join(node);
            }
        }
        let (text, noted) = text::write(source, &nodes);
        fs::write(tree.join(file), text)?;
        regions.insert(file.clone(), noted);
    }
    Ok(regions)
}
