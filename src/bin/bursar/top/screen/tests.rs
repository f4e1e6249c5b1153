use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;

/// A snapshot as a page sends it: five chats wait for a GPU that two others hold.
fn snapshot() -> Value {
    const GIB: u64 = 1 << 30;
    let waits = json!([{ "p99": 0 }, { "p99": 304_000_000 }, { "p99": 0 }, { "p99": 0 }, { "p99": 0 }]);
    let level = json!({ "immediate": 0, "waited": 0, "late": 0, "cancelled": 0, "never_fits": 0, "rolled_back": 0,
        "split": 0, "shed": 0, "not_now": 0, "closed": 0, "malformed": 0 });
    let mut levels = vec![level; 5];
    levels[1] = json!({ "immediate": 8, "waited": 1_400, "late": 1, "cancelled": 2, "never_fits": 3, "rolled_back": 4,
        "split": 5, "shed": 6, "not_now": 7, "closed": 8, "malformed": 9 });
    let why = "`chat` has waited 111 ms at HIGH for 5.0 GiB of gpu0.memory: 1.0 GiB of 40.0 GiB are free (held: \
        `batch` 39.0 GiB), 4.0 GiB more have to come back, nobody is ahead of it.";
    json!({
        "stats": {
            "budgets": [
                { "id": "gpu0", "name": "gpu0.memory", "unit": "bytes", "rate": false, "capacity": 40 * GIB,
                  "granted": 39 * GIB, "deficit": 0, "waiting": 5, "waits": waits, "per_second": 0,
                  "usage": { "mean": 20 * GIB, "recent": [0, 20 * GIB, 40 * GIB] } },
                { "id": "io", "name": "io", "unit": "bytes", "rate": true, "capacity": GIB,
                  "granted": 900 * GIB, "deficit": 0, "waiting": 0, "waits": waits, "per_second": GIB,
                  "usage": { "mean": GIB / 2, "recent": [GIB, GIB / 4] } },
                { "id": "attention", "name": "attention", "unit": "share", "rate": false, "capacity": 1_000_000,
                  "granted": 14_416, "deficit": 0, "waiting": 0, "waits": waits, "per_second": 0,
                  "usage": { "mean": 0, "recent": [] } },
            ],
            "levels": levels, "waiting": 5, "dormant": 1, "waiting_at": [0, 5, 0, 0, 0], "leases": 2, "alerts": 0,
            "closed": null,
        },
        "explained": [why, why, why, why, why],
        "holders": [
            { "label": "batch", "module": "vision", "priority": "low", "amounts": { "gpu0": 39 * GIB },
              "forgotten": false, "made_at": "src/jobs/batch.rs:17", "held_for": { "secs": 61, "nanos": 500_000_000 } },
            { "label": "\u{1b}[2Jloud", "module": null, "priority": "idle",
              "amounts": { "attention": 14_416, "gpu0": GIB }, "forgotten": true,
              "held_for": { "secs": 7_200, "nanos": 0 } },
        ],
        "labelled": 2,
        "modules": [{ "name": "vision", "weight": 3, "waiting": 0, "parked": 1 }],
        "sections": [{ "name": "pool", "figures": [
            { "name": "cache_hits", "kind": "counter", "value": 7, "unit": "count" },
            { "name": "never", "kind": "counter", "value": 0, "unit": "count" },
            { "name": "cached", "kind": "gauge", "value": 0, "unit": "bytes" },
        ] }],
    })
}

fn view() -> View {
    serde_json::from_value(snapshot()).unwrap()
}

fn address() -> Address {
    "http://127.0.0.1:9500/bursar".parse().unwrap()
}

/// What a terminal of this size shows.
fn drawn(seen: &Seen, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| frame.render_widget(screen(&address(), seen, frame.area()), frame.area())).unwrap();
    let cells = &terminal.backend().buffer().content;
    let rows = cells.chunks(columns.into()).map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned()).collect()
}

#[test]
fn a_terminal_shows_budgets_levels_waits_and_holders() {
    let shown = drawn(&Seen { view: Some(view()), error: None }, 120, 40);
    assert_eq!(shown[0], "bursar http://127.0.0.1:9500/bursar  open  q quits");
    assert_eq!(shown[1], "5 waiting, 1 dormant, 2 leases, 1,408 grants since the start");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let bar = |filled: usize| "█".repeat(filled) + &"░".repeat(20 - filled);
    let gpu = format!("gpu0.memory {} 97 % 39.0 GiB 40.0 GiB 5 304.0 ms 20.0 GiB ▁▄█", bar(19));
    assert_eq!(words(&shown[4]), gpu);
    let io = format!("io {} 25 % 256.0 MiB/s 1.0 GiB/s 0 304.0 ms 512.0 MiB/s █▂", bar(5));
    assert_eq!(words(&shown[5]), io);
    let attention = format!("attention {} 1 % 1.4 % 100.0 % 0 304.0 ms 0.0 %", bar(1));
    assert_eq!(words(&shown[6]), attention);
    assert_eq!(words(&shown[10]), "HIGH 5 8 1,400 304.0 ms 2 14 20 9");
    let at = |text: &str| shown.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("Waiting now, most urgent first: 5 of 6") < at(" 1. `chat` has waited 111 ms"));
    assert!(shown[at(" 1. `chat`") + 1].starts_with("    "), "the sentence goes on below");
    assert_eq!(words(&shown[at("batch   ")]), "batch vision LOW 61.5 s 39.0 GiB gpu0.memory batch.rs:17");
    assert!(
        shown[at("loud")].ends_with("2.0 h   1.0 GiB gpu0.memory, 1.4 % attention (forgotten: never comes back)  –"),
        "{}",
        shown[at("loud")]
    );
    assert_eq!(words(&shown[at("pool: ")]), "pool: cache hits 7, cached 0 B");
}

#[test]
fn a_small_terminal_keeps_budgets_and_levels_and_shows_a_part_of_each_list() {
    let shown = drawn(&Seen { view: Some(view()), error: None }, 80, 24);
    assert!(shown[3].starts_with("budget") && shown[12].starts_with("LOW"), "{shown:#?}");
    for part in ["Waiting now", "Holders with a label", "lines more"] {
        assert!(shown.iter().any(|line| line.contains(part)), "no {part} in {shown:#?}");
    }
    let tiny = drawn(&Seen { view: Some(view()), error: None }, 20, 3);
    assert_eq!(tiny[1], "5 waiting, 1 dormant");
}

#[test]
fn what_went_wrong_is_said_above_what_was_seen_last() {
    let error = Some("connection refused".to_owned());
    let shown = drawn(&Seen { view: None, error: error.clone() }, 120, 5);
    assert_eq!(shown[0], "bursar http://127.0.0.1:9500/bursar  no answer  q quits");
    assert_eq!(shown[1..], ["connection refused", "", "", ""]);
    let shown = drawn(&Seen { view: Some(view()), error }, 120, 5);
    assert!(shown[0].contains("no answer, what follows is old"), "{}", shown[0]);
    assert_eq!((shown[1].as_str(), &shown[2][..9]), ("connection refused", "5 waiting"));
    let mut closed = view();
    closed.stats.closed = Some("shut down".into());
    assert!(drawn(&Seen { view: Some(closed), error: None }, 120, 5)[0].contains("closed: shut down"));
}

#[test]
fn as_text_all_of_it_is_there_and_no_control_character() {
    let text = text(&address(), &view(), 100);
    assert_eq!(text.matches("`chat` has waited").count(), 5);
    assert!(text.contains("loud") && text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_budget_that_was_shrunk_below_its_use_says_by_how_much() {
    let mut shrunk = snapshot();
    shrunk["stats"]["budgets"][0]["deficit"] = json!(3u64 << 30);
    shrunk["stats"]["budgets"][0]["capacity"] = json!(0);
    let shrunk: View = serde_json::from_value(shrunk).unwrap();
    let shown = drawn(&Seen { view: Some(shrunk), error: None }, 120, 24);
    assert!(shown[4].contains("100 %") && shown[4].ends_with("3.0 GiB overdrawn"), "{}", shown[4]);
}
