//! The program as a user runs it: arguments, files, exit status, output.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

use serde_json::Value;

fn bursar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bursar")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

/// A file in a folder that no other test and no other process has. Both are gone after the test.
struct File(PathBuf);

impl File {
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn file(name: &str, text: &str) -> File {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
    File(folder.join(name))
}

/// Reads what else a program says, so that it can always say it.
fn read_on(mut said: BufReader<ChildStderr>) {
    thread::spawn(move || io::copy(&mut said, &mut io::sink()));
}

/// The report of a run that must succeed.
fn report(arguments: &[&str]) -> Value {
    let output = bursar(&[arguments, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The text of a run that must be refused before it begins.
fn refusal(arguments: &[&str]) -> String {
    let output = bursar(arguments);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn sum(figures: &Value, field: &str) -> u64 {
    figures["levels"].as_array().unwrap().iter().map(|level| level[field].as_u64().unwrap()).sum()
}

/// Every request ended in exactly one way, and every one of them is in the figures.
fn assert_accounted(figures: &Value, requests: u64) {
    for level in figures["levels"].as_array().unwrap() {
        let ways = ["served", "late", "refused", "cancelled", "not_started"];
        let ended: u64 = ways.iter().map(|way| level[way].as_u64().unwrap()).sum();
        assert_eq!(level["requests"], ended, "{level}");
        let [p50, p99, p999, max] = ["p50", "p99", "p999", "max"].map(|at| level["wait_ns"][at].as_u64().unwrap());
        assert!(p50 <= p99 && p99 <= p999 && p999 <= max, "{level}");
    }
    assert_eq!(sum(figures, "requests"), requests);
}

#[test]
fn generated_requests_are_all_served_checked_and_accounted_for() {
    let report = report(&["run", "--limit", "300", "--speed", "150", "--seed", "5"]);
    let scheduler = &report["scheduler"];
    assert_eq!((&report["requests"], &report["leased_at_end"]), (&300.into(), &0.into()));
    assert_eq!((&report["seed"], &report["trace"]), (&5.into(), &Value::Null));
    assert_accounted(scheduler, 300);
    assert_eq!(sum(scheduler, "served") + sum(scheduler, "late"), 300);
    assert!(scheduler["moved_bytes"].as_u64().unwrap() > 300 * 8);
    let levels = scheduler["levels"].as_array().unwrap();
    let names: Vec<_> = levels.iter().map(|level| level["priority"].as_str().unwrap()).collect();
    assert_eq!(names, ["CRITICAL", "HIGH", "NORMAL", "LOW", "IDLE"]);
    let gpu = &scheduler["budgets"][0];
    assert_eq!(gpu["name"], "gpu0.memory");
    let [mean, peak, capacity] = ["mean", "peak", "capacity"].map(|figure| gpu[figure].as_u64().unwrap());
    assert!(0 < mean && mean < peak && peak <= capacity, "{gpu}");
    assert_eq!((&report["semaphores"], &report["comparison"]), (&Value::Null, &Value::Null));
}

#[test]
fn the_comparison_runs_the_same_requests_twice() {
    let report = report(&["--limit", "120", "--speed", "200", "--compare"]);
    assert_accounted(&report["scheduler"], 120);
    assert_accounted(&report["semaphores"], 120);
    assert!(report["comparison"].as_str().unwrap().contains("with semaphores"));
}

#[test]
fn a_trace_of_either_kind_is_run_whatever_its_name() {
    let mut csv = String::from("num_decode_tokens,arrived_at,num_prefill_tokens\n");
    let mut json = String::new();
    for number in 0..40 {
        csv += &format!("{},{},{}\n", number % 9, f64::from(number) * 0.01, 100 + number);
        json += &format!("{{\"timestamp\":{},\"input_length\":{},\"output_length\":9}}\n", number * 10, 100 + number);
    }
    for file in [file("either.json", &csv), file("either.csv", &json)] {
        let report = report(&["--trace", file.path(), "--speed", "10"]);
        assert_eq!((&report["trace"], &report["seed"]), (&file.path().into(), &Value::Null));
        assert_accounted(&report["scheduler"], 40);
    }
}

#[test]
fn a_request_that_can_never_fit_is_refused_and_the_others_are_served() {
    let trace = file(
        "too_large.csv",
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,1\n0,10,1\n0,10,1\n0,4000000,1\n0,10,1\n",
    );
    let config = file("small.toml", "[[budget]]\nid = \"gpu0\"\ncapacity = \"1 MiB\"\n");
    let arguments = ["--trace", trace.path(), "--config", config.path(), "--speed", "1000"];
    let report = report(&arguments);
    let scheduler = &report["scheduler"];
    assert_accounted(scheduler, 5);
    assert_eq!((sum(scheduler, "served"), sum(scheduler, "refused")), (4, 1));
    let why = scheduler["first_refusal"].as_str().unwrap();
    assert!(why.contains("can never be granted") && why.contains("gpu0.memory"), "{why}");
}

#[test]
fn the_tables_name_every_priority_budget_and_module() {
    let output = bursar(&["--limit", "60", "--speed", "200", "--compare"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in ["CRITICAL", "chat", "embeddings", "LOW", "refresh", "p99.9", "gpu0.memory", "attention", "60 requests"]
    {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert!(text.contains("0 units leased at the end"), "{text}");
}

#[test]
fn a_broken_line_refuses_the_trace_with_file_line_and_column() {
    let file = file("broken.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.3,many,109\n");
    let path = file.path();
    let expected = format!("bursar: {path}:3:5: num_prefill_tokens is `many`; it must be a whole number of tokens");
    assert!(refusal(&["--trace", path, "--json"]).starts_with(&expected));
    // What lies behind the limit is not read.
    assert_accounted(&report(&["--trace", path, "--limit", "1"])["scheduler"], 1);
}

#[test]
fn files_that_are_not_what_they_should_be_are_refused_with_their_names() {
    let columns = file("columns.csv", "name,cpu\na,1\n");
    let refused = refusal(&["--trace", columns.path()]);
    assert!(refused.contains("columns.csv:1: unknown columns: found name, cpu"), "{refused}");

    let refused = refusal(&["--trace", "no/such/trace.csv"]);
    assert!(refused.starts_with("bursar: no/such/trace.csv: "), "{refused}");

    let negative = file("negative.toml", "[[budget]]\nid = \"gpu0\"\ncapacity = -1\n");
    let refused = refusal(&["--config", negative.path()]);
    assert!(refused.contains("negative.toml: ") && refused.contains("negative"), "{refused}");

    let no_gpu = file("no_gpu.toml", "[[budget]]\nid = \"host0\"\ncapacity = \"1 GiB\"\n");
    let refused = refusal(&["--config", no_gpu.path()]);
    assert!(refused.contains("no_gpu.toml: ") && refused.contains("`gpu0`"), "{refused}");

    assert!(refusal(&["--speed", "nan"]).contains("a speed is a number"));
}

/// Ctrl-C as a terminal sends it.
#[cfg(unix)]
#[test]
fn ctrl_c_finishes_what_runs_and_reports() {
    use rustix::process::{Pid, Signal, kill_process};

    let mut child = Command::new(env!("CARGO_BIN_EXE_bursar"))
        // A minute of arrivals.
        .args(["--limit", "5000", "--speed", "20", "--json"])
        .env("RUST_LOG", "bursar=info")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("running") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it began");
    }
    read_on(log);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["scheduler"]["interrupted"], true);
    assert_accounted(&report["scheduler"], 5_000);
    assert!(sum(&report["scheduler"], "not_started") > 0);
    assert_eq!(report["leased_at_end"], 0);
}

#[cfg(not(all(feature = "console", any(tokio_unstable, console_without_tokio_unstable))))]
#[test]
fn a_program_that_was_not_built_for_tokio_console_says_how_to() {
    let refused = refusal(&["run", "--console", "--limit", "1"]);
    assert!(refused.contains("--cfg tokio_unstable") && refused.contains("--features cli,console"), "{refused}");
}

/// A run that shows its page, until it is dropped.
struct Shown {
    child: Child,
    address: String,
}

impl Shown {
    fn new() -> Shown {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bursar"))
            // Hours of arrivals, with little to do at a time.
            .args(["run", "--limit", "5000", "--speed", "0.1", "--json", "--inspect", "127.0.0.1:0"])
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut line, mut said) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
        said.read_line(&mut line).unwrap();
        read_on(said);
        let address = line.trim().strip_prefix("inspection page: ").expect("the address").to_owned();
        Shown { child, address }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_run_shows_its_page_and_top_reads_it() {
    let shown = Shown::new();
    let output = bursar(&["top", &shown.address, "--once"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with(&format!("bursar {}  open", shown.address)), "{text}");
    for part in ["gpu0.memory", "attention", "/s", "CRITICAL", "IDLE", "grants since the start"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let wrong = bursar(&["top", shown.address.trim_end_matches("bursar"), "--once"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("404"), "{wrong:?}");
    let piped = bursar(&["top", &shown.address]);
    assert_eq!(piped.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("--once"), "{piped:?}");
    // The port is taken.
    let address = shown.address.trim_start_matches("http://").trim_end_matches("/bursar");
    let refused = refusal(&["--inspect", address, "--limit", "1"]);
    assert!(refused.contains(&format!("the page cannot be shown at {address}: ")), "{refused}");

    drop(shown);
    // A port that is taken, so that nobody else gets it, and at which nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = format!("http://{}/bursar", taken.local_addr().unwrap());
    let output = bursar(&["top", &gone, "--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with(&format!("bursar: {gone}: ")), "{output:?}");
    assert!(refusal(&["top", "https://localhost/"]).contains("only http is spoken here"));
}
