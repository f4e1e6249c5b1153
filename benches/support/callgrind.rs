//! Instructions, counted by callgrind.
//!
//! The program runs itself under valgrind, twice for every name of a list, with few and with many operations; the
//! difference is what the operations cost, without the start. Instructions that lock a cache line are counted as
//! executed: their addresses are looked up in what `objdump` says of the program. Those inside libc do not show.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Table;
use crate::peers::{Peer, Visit};

const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

/// Prints a table for each list of names, which the program knows what to do with as [`child_args`](crate::child_args).
pub fn print(lists: &[(&str, Vec<&'static str>)]) {
    if !there("valgrind") {
        println!("valgrind is not installed: no instructions counted");
        return;
    }
    let locked = locked_addresses().unwrap_or_default();
    for (title, list) in lists {
        println!("\n{title}\n");
        let mut table = Table::new(["", "instructions", "locked"]);
        for &name in list {
            let [few, many] = [FEW, MANY].map(|ops| count(name, ops, &locked).expect("valgrind runs this program"));
            let each = |few: u64, many: u64| format!("{:.1}", (many - few) as f64 / (MANY - FEW) as f64);
            let locks = if locked.is_empty() { "-".into() } else { each(few.locked, many.locked) };
            table.row([name.into(), each(few.all, many.all), locks]);
        }
        table.print();
    }
}

/// The names of a list of peers.
pub fn names(list: fn(&mut Names)) -> Vec<&'static str> {
    let mut names = Names(Vec::new());
    list(&mut names);
    names.0
}

/// Takes the names of peers down.
pub struct Names(Vec<&'static str>);

impl Visit for Names {
    fn visit<P: Peer>(&mut self, name: &'static str, _: fn(u64) -> P) {
        self.0.push(name);
    }
}

fn there(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// What callgrind counted in one process.
struct Counted {
    all: u64,
    locked: u64,
}

fn count(peer: &str, ops: u64, locked: &HashSet<u64>) -> io::Result<Counted> {
    let program = std::env::current_exe()?;
    let profile = std::env::temp_dir().join(format!("bursar-callgrind.{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", profile.display()));
    let status = valgrind.arg(&program).args(["--child", peer, &ops.to_string()]).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("valgrind: {status}")));
    }
    let text = std::fs::read_to_string(&profile)?;
    std::fs::remove_file(&profile)?;
    Ok(parse(&text, &program, locked))
}

/// Reads a profile: `ob=` names the object that the lines below are of; each is an address, a source line and a count;
/// the line after `calls=` is the cost of the callee, which is counted where it belongs.
fn parse(profile: &str, program: &Path, locked: &HashSet<u64>) -> Counted {
    let (mut counted, mut ours, mut is_call) = (Counted { all: 0, locked: 0 }, false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            ours = Path::new(object) == program;
        }
        if line.starts_with("calls=") {
            is_call = true;
            continue;
        }
        let Some(rest) = line.strip_prefix("0x") else { continue };
        if std::mem::take(&mut is_call) {
            continue;
        }
        let mut fields = rest.split(' ');
        let address = fields.next().and_then(|address| u64::from_str_radix(address, 16).ok());
        let instructions: u64 = fields.nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        counted.all += instructions;
        if ours && address.is_some_and(|address| locked.contains(&address)) {
            counted.locked += instructions;
        }
    }
    counted
}

/// Where this program has instructions that lock a cache line: those with the prefix, and every exchange with memory.
fn locked_addresses() -> io::Result<HashSet<u64>> {
    let program = std::env::current_exe()?;
    let listing = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(program).output()?;
    let locks = |code: &str| code.starts_with("lock") || (code.starts_with("xchg") && code.contains('('));
    let text = String::from_utf8_lossy(&listing.stdout);
    let lines = text.lines().filter_map(|line| line.split_once(":\t"));
    Ok(lines
        .filter(|(_, code)| locks(code.trim_start()))
        .filter_map(|(address, _)| u64::from_str_radix(address.trim(), 16).ok())
        .collect())
}
