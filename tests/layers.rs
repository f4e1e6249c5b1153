//! The layers of the crate, held by reading its sources: who may import whom, which words the pure layers may not know,
//! and how large a file, a function and a line may be. Uses nothing but the standard library, and shows on bad snippets
//! that it can fail.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the library and what it may import of the crate. A module that is not listed fails.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("rt", &[]),
    ("memory", &["model"]),
    ("ledger", &["model", "rt"]),
    ("policy", &["model"]),
    ("engine", &["model", "policy", "ledger"]),
    ("observe", &["model", "engine"]),
    ("pressure", &["model", "memory"]),
    ("adapters", &["model", "scheduler"]),
    ("tiered", &["model", "memory", "scheduler"]),
    ("tasks", &["model", "policy", "observe", "scheduler"]),
    ("scheduler", &["model", "rt", "ledger", "policy", "engine", "observe"]),
];

/// Modules that take time and chance as arguments and do nothing but compute.
const PURE: &[&str] = &["engine", "policy"];
const IMPURE_WORDS: &[&[&str]] = &[
    &["async"],
    &["await"],
    &["tokio"],
    &["Mutex"],
    &["RwLock"],
    &["SystemTime"],
    &["rand"],
    // Their order changes from run to run.
    &["HashMap"],
    &["HashSet"],
    &["Instant", "now"],
    &["std", "fs"],
    &["std", "io"],
    &["std", "net"],
];

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;
const LINE_WIDTH: usize = 120;

/// A Rust file of the project.
struct Source {
    /// Relative to the root of the package, with forward slashes.
    path: String,
    text: String,
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(root).expect("inside the package");
                let relative = relative.to_string_lossy().replace('\\', "/");
                found.push(Source { path: relative, text: fs::read_to_string(&path).expect("readable") });
            }
        }
    }
    assert!(!found.is_empty());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The code of a file without comments, strings and characters, line for line.
fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end > at {
            let lines = chars[at..end].iter().filter(|&&c| c == '\n');
            code.push(' ');
            code.extend(lines);
            at = end;
        } else {
            code.push(chars[at]);
            at += 1;
        }
    }
    code
}

/// Where the comment, string or character that begins at `at` ends; `at` itself if none does.
fn skip(chars: &[char], at: usize) -> usize {
    let is = |at: usize, c: char| chars.get(at) == Some(&c);
    let after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if is(at + 1, '/') => (at..chars.len()).find(|&end| chars[end] == '\n').unwrap_or(chars.len()),
        '/' if is(at + 1, '*') => skip_block_comment(chars, at),
        '"' => skip_quoted(chars, at + 1, '"'),
        'b' if !after_word && is(at + 1, '"') => skip_quoted(chars, at + 2, '"'),
        'r' | 'b' if !after_word => skip_raw_string(chars, at),
        // 'a' and '\n' are characters, 'a is a lifetime.
        '\'' if is(at + 1, '\\') || is(at + 2, '\'') => skip_quoted(chars, at + 1, '\''),
        _ => at,
    }
}

fn skip_quoted(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn skip_block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn skip_raw_string(chars: &[char], start: usize) -> usize {
    let mut at = start + usize::from(chars[start] == 'b');
    if chars.get(at) != Some(&'r') {
        return start;
    }
    at += 1;
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    at += hashes;
    if chars.get(at) != Some(&'"') {
        return start;
    }
    let closes =
        |end: usize| chars[end] == '"' && chars[end + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    (at + 1..chars.len()).find(|&end| closes(end)).map_or(chars.len(), |end| end + 1 + hashes)
}

/// A word, `::`, or any other sign, with its line.
#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut chars = line.char_indices().peekable();
        while let Some((start, c)) = chars.next() {
            let mut end = start + c.len_utf8();
            if c.is_alphanumeric() || c == '_' {
                while let Some((at, c)) = chars.next_if(|(_, c)| c.is_alphanumeric() || *c == '_') {
                    end = at + c.len_utf8();
                }
            } else if c == ':' && chars.next_if(|(_, c)| *c == ':').is_some() {
                end += 1;
            }
            if !c.is_whitespace() {
                tokens.push(Token { text: line[start..end].to_owned(), line: number + 1 });
            }
        }
    }
    tokens
}

/// The module that a file of the library is, as a path from the root.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    if inner == "lib" { Vec::new() } else { inner.split('/').map(str::to_owned).collect() }
}

/// The modules at the root of the crate that a file names by `crate::` or `super::`, in `use` or in a path, with the
/// line.
fn imports(module: &[String], code: &str) -> BTreeSet<(String, usize)> {
    let tokens = tokens(code);
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    // Modules written inside the file, and the depth of braces at which each ends.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut found) = (0, BTreeSet::new());
    for at in 0..tokens.len() {
        match text(at) {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.retain(|&(_, ends)| ends <= depth);
            }
            "mod" if text(at + 2) == "{" => inline.push((text(at + 1).to_owned(), depth + 1)),
            "crate" if text(at + 1) == "::" => found.extend(first_names(&tokens, at + 2)),
            "super" if text(at + 1) == "::" && (at < 2 || text(at - 2) != "super") => {
                let supers = (0..).take_while(|step| text(at + 2 * step) == "super").count();
                let names = first_names(&tokens, at + 2 * supers);
                // With fewer it stays below the file's own module at the root, unless a group climbs on.
                let climbs = |(name, _): &(String, usize)| supers == module.len() + inline.len() || name == "super";
                found.extend(names.into_iter().filter(climbs));
            }
            _ => {}
        }
    }
    found
}

/// The first names of a path or of a group of paths: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn first_names(tokens: &[Token], at: usize) -> Vec<(String, usize)> {
    let Some(first) = tokens.get(at) else { return Vec::new() };
    if first.text != "{" {
        return vec![(first.text.clone(), first.line)];
    }
    let (mut depth, mut names, mut starts) = (1, Vec::new(), true);
    for token in &tokens[at + 1..] {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => {
                starts = true;
                continue;
            }
            name if starts && depth == 1 => names.push((name.to_owned(), token.line)),
            _ => {}
        }
        starts = false;
        if depth == 0 {
            break;
        }
    }
    names
}

/// What a file of `src/` does against the table.
fn faults_of_layers(source: &Source) -> Vec<String> {
    let code = code_only(&source.text);
    let module = module_of(&source.path);
    let at = |line: usize| format!("{}:{line}", source.path);
    match module.first().map(String::as_str) {
        // It names the modules and re-exports them.
        None => Vec::new(),
        Some("bin") => faults_of_the_program(source, &code),
        Some(top) => {
            let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == top) else {
                return vec![format!("{}: module `{top}` is not in the table of layers", source.path)];
            };
            let foreign = imports(&module, &code).into_iter().filter(|(name, _)| name != top);
            let bad = foreign.filter(|(name, _)| !allowed.contains(&name.as_str()));
            bad.map(|(name, line)| format!("{}: `{top}` imports `{name}`", at(line))).collect()
        }
    }
}

/// The program stands on the public crate alone; `crate::` in it is the program itself.
fn faults_of_the_program(source: &Source, code: &str) -> Vec<String> {
    let hidden = words_in(code, &[&["bursar", "::", "internals"]]);
    hidden.map(|(line, _)| format!("{}:{line}: the program uses what is not public", source.path)).collect()
}

/// Where these sequences of words occur in code.
fn words_in(code: &str, sequences: &[&[&str]]) -> impl Iterator<Item = (usize, String)> {
    let tokens: Vec<Token> = tokens(code);
    let sequences: Vec<Vec<String>> =
        sequences.iter().map(|words| words.iter().map(|&word| word.to_owned()).collect()).collect();
    (0..tokens.len()).flat_map(move |at| {
        let begins = |words: &Vec<String>| {
            let found = tokens[at..].iter().map(|token| &token.text);
            words.len() <= tokens.len() - at && words.iter().zip(found).all(|(a, b)| a == b)
        };
        let hits: Vec<_> = sequences.iter().filter(|words| begins(words)).map(|words| words.concat()).collect();
        let line = tokens[at].line;
        hits.into_iter().map(move |words| (line, words))
    })
}

fn faults_of_words(source: &Source) -> Vec<String> {
    let code = code_only(&source.text);
    let module = module_of(&source.path);
    let top = module.first().map_or("", String::as_str);
    let mut faults = Vec::new();
    let mut report = |sequences: &[&[&str]], why: &str| {
        let hits = words_in(&code, sequences).map(|(line, words)| format!("{}:{line}: `{words}` {why}", source.path));
        faults.extend(hits);
    };
    if PURE.contains(&top) {
        let paths: Vec<Vec<&str>> = IMPURE_WORDS.iter().map(|words| with_colons(words)).collect();
        report(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>(), "has no place in a layer that only computes");
    }
    if top != "memory" {
        report(&[&["unsafe"]], "outside memory/");
    }
    report(&[&["#", "[", "path"], &["include", "!"]], "would pull in a file behind the back of this test");
    faults
}

fn with_colons<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let mut path: Vec<&str> = words.iter().flat_map(|&word| [word, "::"]).collect();
    path.pop();
    path
}

/// Lines of code and of comments; documentation and empty lines do not count.
fn counted_lines(text: &str) -> usize {
    let counts = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("///") && !line.starts_with("//!")
    };
    text.lines().filter(counts).count()
}

/// The functions of a file: name, first line, number of lines to the closing brace.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let tokens = tokens(code);
    let is_name = |token: &&Token| token.text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        // `fn(u64) -> u64` is a type.
        let Some(name) = tokens.get(at + 1).filter(is_name) else { continue };
        let mut depth = 0;
        for end in &tokens[at + 1..] {
            match end.text.as_str() {
                ";" if depth == 0 => break,
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 && end.text == "}" {
                found.push((name.text.clone(), token.line, end.line - token.line + 1));
                break;
            }
        }
    }
    found
}

fn faults_of_size(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = counted_lines(&source.text);
    if lines > FILE_LINES {
        faults.push(format!("{}: {lines} lines of code and comments, {FILE_LINES} at most", source.path));
    }
    for (name, line, length) in functions(&code_only(&source.text)) {
        if length > FUNCTION_LINES {
            faults.push(format!("{}:{line}: `{name}` has {length} lines, {FUNCTION_LINES} at most", source.path));
        }
    }
    faults
}

fn faults_of_width(source: &Source) -> Vec<String> {
    let wide = source.text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE_WIDTH);
    wide.map(|(at, line)| format!("{}:{}: {} characters wide", source.path, at + 1, line.chars().count())).collect()
}

#[track_caller]
fn assert_faultless(folders: &[&str], faults: fn(&Source) -> Vec<String>) {
    let found: Vec<String> = sources(folders).iter().flat_map(faults).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn imports_flow_downwards_only() {
    assert_faultless(&["src"], faults_of_layers);
}

#[test]
fn pure_layers_know_no_clock_lock_chance_or_io_and_nothing_is_unsafe_outside_memory() {
    assert_faultless(&["src"], faults_of_words);
}

#[test]
fn files_and_functions_stay_small() {
    assert_faultless(&["src", "tests", "benches", "examples"], faults_of_size);
}

#[test]
fn lines_fit_on_a_page() {
    assert_faultless(&["src", "tests", "benches", "examples"], faults_of_width);
}

/// The test itself: each scanner is shown what it has to find, and what it has to let pass.
mod the_scanner {
    use super::*;

    fn faults(scan: fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        scan(&Source { path: path.into(), text: text.into() })
    }

    #[track_caller]
    fn imported(path: &str, text: &str) -> Vec<String> {
        faults(faults_of_layers, path, text)
            .iter()
            .map(|fault| fault.split('`').nth(3).unwrap_or("").to_owned())
            .collect()
    }

    #[test]
    fn finds_an_edge_that_is_not_in_the_table_however_it_is_written() {
        let bad = [
            "use crate::scheduler::Core;",
            "use crate::{model::{Amounts, Request}, scheduler::Core};",
            "use crate::{\n    model::Amounts,\n    scheduler,\n};",
            "use super::super::scheduler::Core;",
            "use super::super::{model::Amounts, scheduler::{Core, Lease}};",
            "macro_rules! m { () => { $crate::scheduler::Core } }",
            "fn f() { let x: crate::scheduler::Core = crate :: scheduler :: make(); }",
            "mod inner { mod deeper { use super::super::super::super::scheduler::Core; } }",
            "pub(in crate::scheduler) fn f() {}",
            "/* a comment */ use /* another */ crate::scheduler::Core;",
            "fn f<'a>(x: &'a str) { crate::scheduler::wake('\"', x) }",
        ];
        for text in bad {
            assert!(imported("src/engine/queue.rs", text).iter().all(|name| name == "scheduler"), "{text}");
            assert!(!imported("src/engine/queue.rs", text).is_empty(), "not found: {text}");
        }
    }

    #[test]
    fn lets_pass_what_is_in_the_table_or_no_import_at_all() {
        let good = [
            "use crate::model::Amounts; use crate::{ledger::Books, policy::Rank};",
            "use super::queue::Queue; use super::{Engine, Turn}; use self::queue::State;",
            "use super::super::engine::Queue;",
            "mod tests { use super::*; use super::super::Engine; }",
            "// use crate::scheduler::Core;",
            "/// See [`crate::scheduler::Core`].\nfn f() {}",
            "/* use crate::scheduler::Core; /* nested */ use crate::scheduler::Core; */",
            "const S: &str = \"crate::scheduler::Core\"; const R: &str = r#\"\" crate::scheduler\"#;",
            "const E: &str = \"\\\"crate::scheduler\"; const C: char = '\\'';",
            "pub(crate) fn f() {} use std::collections::BTreeMap;",
        ];
        for text in good {
            assert_eq!(imported("src/engine/queue.rs", text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn names_the_line_and_knows_the_module_of_a_file() {
        let text = "//! Text.\n\nuse crate::{\n    model::Amounts,\n    engine::Engine,\n};\n";
        assert_eq!(
            faults(faults_of_layers, "src/ledger/books.rs", text),
            ["src/ledger/books.rs:5: `ledger` imports `engine`"]
        );
        assert_eq!(imported("src/model/mod.rs", "use super::rt::Clock;"), ["rt"]);
        assert_eq!(imported("src/model/mod.rs", "use super::*;"), ["*"]);
        assert_eq!(imported("src/model/amount.rs", "use super::{error::Error, super::rt::Clock};"), ["super"]);
        assert_eq!(imported("src/rt/short.rs", "mod imp { use super::super::super::model::Bytes; }"), ["model"]);
        assert_eq!(imported("src/lib.rs", "pub use crate::scheduler::Scheduler;"), Vec::<String>::new());
    }

    #[test]
    fn finds_a_module_that_nobody_has_listed() {
        let unlisted = faults(faults_of_layers, "src/helpers/mod.rs", "");
        assert_eq!(unlisted, ["src/helpers/mod.rs: module `helpers` is not in the table of layers"]);
        assert_eq!(faults(faults_of_layers, "src/utils.rs", "").len(), 1);
    }

    #[test]
    fn keeps_the_program_on_the_public_crate() {
        let path = "src/bin/bursar/main.rs";
        assert_eq!(
            faults(faults_of_layers, path, "use crate::trace::Row; use bursar::Scheduler;"),
            Vec::<String>::new()
        );
        assert_eq!(faults(faults_of_layers, path, "use bursar::internals::Books;").len(), 1);
        assert_eq!(faults(faults_of_words, path, "#[path = \"../../engine/mod.rs\"] mod engine;").len(), 1);
    }

    #[test]
    fn finds_every_word_that_a_pure_layer_may_not_know() {
        let bad = [
            "async fn f() {}",
            "fn f() { g().await; }",
            "use tokio::time::Instant;",
            "use std::sync::Mutex;",
            "struct S { lock: RwLock<u8> }",
            "let now = std::time::SystemTime::UNIX_EPOCH;",
            "let seed = rand::random();",
            "let order: HashMap<u8, u8>;",
            "let order: HashSet<u8>;",
            "let now = Instant::now();",
            "use std::fs::File;",
            "fn f(_: std::io::Error) {}",
            "use std::net::IpAddr;",
            "unsafe { f() }",
        ];
        for text in bad {
            assert_eq!(faults(faults_of_words, "src/policy/rank.rs", text).len(), 1, "{text}");
        }
        let good = "// async\nfn random() { let asynchronous = \"tokio\"; Instant { now }; std::fmt::write }";
        assert_eq!(faults(faults_of_words, "src/engine/mod.rs", good), Vec::<String>::new());
        assert_eq!(
            faults(faults_of_words, "src/scheduler/mod.rs", bad[..13].join("\n").as_str()),
            Vec::<String>::new()
        );
        assert_eq!(faults(faults_of_words, "src/scheduler/mod.rs", "unsafe impl Send for X {}").len(), 1);
        assert_eq!(faults(faults_of_words, "src/memory/cuda.rs", "unsafe { f() }"), Vec::<String>::new());
    }

    #[test]
    fn counts_code_and_comments_but_no_documentation() {
        let text = "//! Module.\n\n/// Item.\nfn f() {\n    // why\n    g()\n}\n";
        assert_eq!(counted_lines(text), 4);
        let file = |lines: usize| "// why\n".repeat(lines) + &"/// text\n".repeat(1_000);
        assert_eq!(faults(faults_of_size, "src/engine/mod.rs", &file(500)), Vec::<String>::new());
        assert_eq!(faults(faults_of_size, "src/engine/mod.rs", &file(501)).len(), 1);
    }

    #[test]
    fn measures_functions_from_their_first_to_their_last_line() {
        let body = |lines: usize| {
            format!("impl X {{\n    fn long(&self) -> [u8; 2] {{\n{}    }}\n}}\n", "        g(\"}\");\n".repeat(lines))
        };
        assert_eq!(functions(&code_only(&body(3))), [("long".to_owned(), 2, 5)]);
        assert_eq!(faults(faults_of_size, "tests/any.rs", &body(68)), Vec::<String>::new());
        assert_eq!(faults(faults_of_size, "tests/any.rs", &body(69)).len(), 1);
        let others = "trait T { fn declared(&self); }\ntype F = fn(u8) -> u8;\nfn short() {}";
        assert_eq!(functions(others), [("short".to_owned(), 3, 1)]);
    }

    #[test]
    fn measures_lines_in_characters() {
        assert_eq!(faults(faults_of_width, "src/x.rs", &"ä".repeat(120)), Vec::<String>::new());
        assert_eq!(faults(faults_of_width, "src/x.rs", &"a".repeat(121)), ["src/x.rs:1: 121 characters wide"]);
    }
}
