//! What the README says that a program can check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The names of environment variables in a text.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    words.filter(|word| word.starts_with("BURSAR_")).collect()
}

#[test]
fn every_variable_that_the_readme_names_is_read_by_the_simulation() {
    let readme = read("README.md");
    let sources = fs::read_dir(root().join("tests/sim")).unwrap().map(|entry| entry.unwrap().path());
    let sources = sources.filter(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs"));
    let code: String = sources.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(variables(&readme).len() >= 2, "{:?}", variables(&readme));
    for variable in variables(&readme) {
        // As a string of its own, not in a comment.
        assert!(code.contains(&format!("\"{variable}\"")), "{variable} is in the README, and nobody reads it");
    }
}

/// What is said under a target: levels, and names of spans.
type Said = BTreeMap<String, BTreeSet<String>>;

/// The names between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What a table of targets says: `target` | levels | text in which there may be a span `name`.
fn listed(text: &str) -> Said {
    let mut said = Said::new();
    for row in text.lines().filter_map(|line| line.trim_start_matches("//! ").strip_prefix("| `bursar::")) {
        let cells: Vec<&str> = row.split('|').collect();
        let targets = format!("`bursar::{}", cells[0]);
        let levels = cells[1].split(',').map(|level| level.trim().to_owned());
        let spans = cells[2].split("span ").skip(1).filter_map(|after| after.strip_prefix('`')?.split('`').next());
        let row: BTreeSet<String> = levels.chain(spans.map(|name| format!("span {name}"))).collect();
        for target in quoted(&targets) {
            said.entry(target.to_owned()).or_default().extend(row.iter().cloned());
        }
    }
    said
}

/// All Rust files below a folder, but for what the console and the program say, which is another matter.
fn library(folder: &Path, texts: &mut Vec<String>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() && !path.ends_with("observe/console") && !path.ends_with("src/bin") {
            library(&path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            texts.push(fs::read_to_string(&path).unwrap());
        }
    }
}

/// What the code says: the macros of `tracing`, each with its target first.
fn written() -> Said {
    let mut texts = Vec::new();
    library(&root().join("src"), &mut texts);
    let mut said = Said::new();
    let macros = ["error", "warn", "info", "debug", "trace"];
    for text in &texts {
        for call in text.split("tracing::").skip(1) {
            let Some((name, after)) = call.split_once("!(") else { continue };
            let (level, span) = name.strip_suffix("_span").map_or((name, false), |level| (level, true));
            if !macros.contains(&level) {
                continue;
            }
            let target = after.trim_start().strip_prefix("target: \"");
            let target = target.unwrap_or_else(|| panic!("no target that stays: {name}!({:.80}", after));
            let strings: Vec<&str> = target.split('"').step_by(2).take(2).collect();
            let row = said.entry(strings[0].to_owned()).or_default();
            row.insert(level.to_owned());
            if span {
                row.insert(format!("span {}", strings[1]));
            }
        }
    }
    said
}

#[test]
fn every_target_is_in_the_tables_with_its_levels_and_spans_and_nothing_else_is() {
    let written = written();
    assert!(written.len() >= 15, "{written:#?}");
    for path in ["README.md", "src/scheduler/trace.rs"] {
        assert_eq!(listed(&read(path)), written, "{path} on the left, the code on the right");
    }
}

#[test]
fn nothing_is_said_at_the_level_of_info() {
    assert!(written().values().flatten().all(|level| level != "info"));
}
