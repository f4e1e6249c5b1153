//! What the README says that a program can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The names of environment variables in a text.
fn variables(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    words.filter(|word| word.starts_with("BURSAR_")).collect()
}

#[test]
fn every_variable_that_the_readme_names_is_read_by_the_simulation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let sources = fs::read_dir(root.join("tests/sim")).unwrap().map(|entry| entry.unwrap().path());
    let sources = sources.filter(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs"));
    let code: String = sources.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(variables(&readme).len() >= 2, "{:?}", variables(&readme));
    for variable in variables(&readme) {
        // As a string of its own, not in a comment.
        assert!(code.contains(&format!("\"{variable}\"")), "{variable} is in the README, and nobody reads it");
    }
}
