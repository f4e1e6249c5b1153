//! A snapshot as lines of text: what is always there first, then as much of the lists as there is room for.

use bursar::Priority;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use crate::text::{table, thousands, time};

use super::address::Address;
use super::view::{Budget, Figure, Holder, View, amount};

/// The widest label that is shown in a table.
const LABEL: usize = 32;
/// Columns of the lists, within which a sentence can be read.
const SENTENCE: usize = 120;

/// What was seen last, and what went wrong since.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub view: Option<View>,
    pub error: Option<String>,
}

/// What is drawn in a terminal of this size.
pub fn screen(address: &Address, seen: &Seen, area: Rect) -> Paragraph<'static> {
    let columns = usize::from(area.width);
    let mut heading = heading(address, seen);
    heading.push_span("  q quits".dim());
    let mut lines = vec![heading];
    lines.extend(seen.error.as_ref().map(|error| Line::raw(error.clone()).red()));
    if let Some(view) = &seen.view {
        lines.extend(always(view, columns));
        let room = usize::from(area.height).saturating_sub(lines.len());
        lines.extend(fitted(lists(view, columns), room));
    }
    Paragraph::new(lines)
}

/// All of it as plain text. What cannot be printed is left out, as it is on a terminal.
pub fn text(address: &Address, view: &View, columns: u16) -> String {
    let seen = Seen { view: Some(view.clone()), error: None };
    let mut lines = vec![heading(address, &seen)];
    lines.extend(always(view, columns.into()));
    lines.extend(lists(view, columns.into()).into_iter().flatten());
    let area = Rect::new(0, 0, columns, u16::try_from(lines.len()).unwrap_or(u16::MAX));
    let mut buffer = Buffer::empty(area);
    Paragraph::new(lines).render(area, &mut buffer);
    let rows = buffer.content.chunks(usize::from(columns.max(1)));
    let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

/// Where this is, and how it is there.
fn heading(address: &Address, seen: &Seen) -> Line<'static> {
    let closed = seen.view.as_ref().and_then(|view| view.stats.closed.as_ref());
    let status = match (&seen.error, closed, &seen.view) {
        (Some(_), _, None) => "no answer".red(),
        (Some(_), _, Some(_)) => "no answer, what follows is old".red(),
        (None, Some(reason), _) => format!("closed: {reason}").red(),
        (None, None, Some(_)) => "open".green(),
        (None, None, None) => "connecting".into(),
    };
    Line::from(vec!["bursar ".bold(), Span::raw(address.to_string()), "  ".into(), status])
}

/// Sums, budgets and levels.
fn always(view: &View, columns: usize) -> Vec<Line<'static>> {
    let stats = &view.stats;
    let alerts = match stats.alerts {
        0 => String::new(),
        alerts => format!(", {} alerts: see its log", thousands(alerts)),
    };
    let sums = [stats.waiting, stats.leases, stats.grants()].map(thousands);
    let dormant = match stats.dormant {
        0 => String::new(),
        dormant => format!(", {} dormant", thousands(dormant)),
    };
    let sums = format!("{} waiting{dormant}, {} leases, {} grants since the start{alerts}", sums[0], sums[1], sums[2]);
    let mut lines = vec![Line::raw(sums), Line::default()];
    lines.extend(budgets(&stats.budgets, columns));
    lines.push(Line::default());
    lines.extend(levels(view));
    lines
}

fn budgets(budgets: &[Budget], columns: usize) -> Vec<Line<'static>> {
    let wide = if columns >= 100 { 20 } else { 8 };
    let mut rows = vec![row(["budget", "", "use", "in use", "of", "wanted by", "p99 wait", "mean"])];
    for budget in budgets {
        let (now, whole) = (budget.now(), budget.whole());
        // Of nothing, whatever is in use is all.
        let share = (u128::from(now) * 100).checked_div(u128::from(whole)).unwrap_or(u128::from(now) * 100);
        let share = share.min(100) as usize;
        let filled = (share * wide / 100).max(usize::from(now > 0));
        let p99 = budget.waits.iter().map(|waits| waits.p99).max().unwrap_or(0);
        rows.push(row([
            &short(&budget.name),
            &("█".repeat(filled) + &"░".repeat(wide - filled)),
            &format!("{share} %"),
            &budget.show(now),
            &budget.show(whole),
            &thousands(budget.waiting),
            &if p99 > 0 { time(p99) } else { "–".to_owned() },
            &budget.show(budget.usage.mean),
        ]));
    }
    let text = table(2, &rows);
    let width = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let room = columns.saturating_sub(width + 2);
    let lines = text.lines().enumerate().map(|(at, line)| {
        let Some(budget) = at.checked_sub(1).and_then(|at| budgets.get(at)) else {
            let name = if room >= 12 { "last samples" } else { "" };
            return Line::raw(format!("{line:<width$}  {name}")).dim();
        };
        match budget.deficit {
            0 => painted(&format!("{line:<width$}  {}", sparkline(budget, room))),
            owed => Line::raw(format!("{line:<width$}  {} overdrawn", budget.show(owed))).red(),
        }
    });
    lines.collect()
}

/// The last samples of its use, one a column, below the whole of it.
fn sparkline(budget: &Budget, room: usize) -> String {
    let recent = &budget.usage.recent;
    let top = u128::from(recent.iter().copied().fold(budget.whole().max(1), u64::max));
    let last = &recent[recent.len().saturating_sub(room)..];
    last.iter().map(|&use_| ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][(u128::from(use_) * 7 / top) as usize]).collect()
}

/// A line whose bars have a colour.
fn painted(line: &str) -> Line<'static> {
    let is_block = |c: char| ('▁'..='▓').contains(&c);
    let mut spans: Vec<Span<'static>> = Vec::new();
    for part in line.chars().collect::<Vec<_>>().chunk_by(|&a, &b| is_block(a) == is_block(b)) {
        let style = if is_block(part[0]) { Style::new().fg(Color::Cyan) } else { Style::new() };
        spans.push(Span::styled(part.iter().collect::<String>(), style));
    }
    Line::from(spans)
}

fn levels(view: &View) -> Vec<Line<'static>> {
    let stats = &view.stats;
    let names = [
        "level",
        "waiting",
        "at once",
        "after a wait",
        "p99 wait",
        "given up",
        "exhausted",
        "refused",
        "made to yield",
    ];
    let mut rows = vec![row(names)];
    for (at, (priority, level)) in Priority::ALL.iter().zip(&stats.levels).enumerate() {
        let p99 = stats.budgets.iter().map(|budget| budget.waits[at].p99).max().unwrap_or(0);
        rows.push(row([
            priority.name(),
            &thousands(stats.waiting_at[at]),
            &thousands(level.immediate),
            &thousands(level.waited),
            &if level.waited > 0 { time(p99) } else { "–".to_owned() },
            &thousands(level.cancelled),
            &thousands(level.late + level.shed + level.not_now),
            &thousands(level.never_fits + level.malformed + level.closed),
            &thousands(level.rolled_back + level.split),
        ]));
    }
    below_dim_names(&table(1, &rows))
}

/// What there may be much of, each under a heading of its own.
fn lists(view: &View, columns: usize) -> Vec<Vec<Line<'static>>> {
    let columns = columns.min(SENTENCE);
    let mut lists = Vec::new();
    let waiting = view.stats.waiting + view.stats.dormant;
    if waiting > 0 {
        let sentences = view.explained.iter().enumerate();
        let lines = sentences.flat_map(|(at, why)| wrapped(&format!("{:>2}. ", at + 1), why, columns));
        let all = thousands(waiting);
        let title = format!("Waiting now, most urgent first: {} of {all}", view.explained.len());
        lists.push(titled(title, lines));
    }
    if view.labelled > 0 {
        let all = thousands(view.labelled);
        let title = format!("Holders with a label, oldest first: {} of {all}", view.holders.len());
        lists.push(titled(title, holders(view)));
    }
    if !view.modules.is_empty() {
        let mut rows = vec![row(["module", "weight", "waiting", "kept back by its cap"])];
        let modules = view.modules.iter();
        rows.extend(modules.map(|module| {
            let figures = [module.weight.into(), module.waiting, module.parked].map(thousands);
            row([&short(&module.name), &figures[0], &figures[1], &figures[2]])
        }));
        lists.push(titled("Modules".into(), below_dim_names(&table(1, &rows))));
    }
    if !view.sections.is_empty() {
        let lines = view.sections.iter().flat_map(|section| {
            let figures = section.figures.iter().filter(|figure| !figure.is_idle());
            // Spaces at which no line is broken.
            let text = |figure: &Figure| format!("{}\u{a0}{}", figure.name, amount(figure.unit, figure.value));
            let figures = figures.map(|figure| text(figure).replace(['_', ' '], "\u{a0}"));
            wrapped(&format!("{}: ", short(&section.name)), &figures.collect::<Vec<_>>().join(", "), columns)
        });
        lists.push(titled("Other parts of the service".into(), lines));
    }
    lists
}

fn holders(view: &View) -> Vec<Line<'static>> {
    let held = |holder: &Holder| {
        let amounts = view.stats.budgets.iter().filter_map(|budget| Some((budget, *holder.amounts.get(&budget.id)?)));
        let amounts = amounts.map(|(budget, units)| format!("{} {}", amount(budget.unit, units), budget.name));
        amounts.collect::<Vec<_>>().join(", ")
    };
    let mut rows = vec![row(["label", "module", "level", "for", "holds", "made at"])];
    rows.extend(view.holders.iter().map(|holder: &Holder| {
        let age = time(u64::try_from(holder.held_for.as_nanos()).unwrap_or(u64::MAX));
        let forgotten = if holder.forgotten { " (forgotten: never comes back)" } else { "" };
        row([
            &short(&holder.label),
            &short(holder.module.as_deref().unwrap_or("–")),
            holder.priority.name(),
            &age,
            &(held(holder) + forgotten),
            // There is no room for folders.
            &short(holder.made_at.as_deref().and_then(|place| place.rsplit(['/', '\\']).next()).unwrap_or("–")),
        ])
    }));
    below_dim_names(&table(6, &rows))
}

fn row<const COLUMNS: usize>(cells: [&str; COLUMNS]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// The lines of a table whose first is the names of its columns.
fn below_dim_names(table: &str) -> Vec<Line<'static>> {
    let lines = table.lines().map(|line| Line::raw(line.to_owned()));
    lines.enumerate().map(|(at, line)| if at == 0 { line.dim() } else { line }).collect()
}

fn titled(title: String, lines: impl IntoIterator<Item = Line<'static>>) -> Vec<Line<'static>> {
    [Line::default(), Line::raw(title).bold()].into_iter().chain(lines).collect()
}

fn short(name: &str) -> String {
    match name.char_indices().nth(LABEL) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// A text broken between words, under its lead.
fn wrapped(lead: &str, text: &str, columns: usize) -> Vec<Line<'static>> {
    let indent = lead.chars().count().min(8);
    let mut lines = vec![lead.to_owned()];
    let mut empty = true;
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if !empty && lines[last].chars().count() + 1 + word.chars().count() > columns {
            lines.push(" ".repeat(indent));
            empty = true;
        }
        let last = lines.len() - 1;
        if !empty {
            lines[last].push(' ');
        }
        lines[last].push_str(word);
        empty = false;
    }
    lines.into_iter().map(Line::raw).collect()
}

/// As much of each list as there is room for: short ones whole, and what they leave for the long ones.
fn fitted(mut lists: Vec<Vec<Line<'static>>>, room: usize) -> Vec<Line<'static>> {
    let mut shortest_first: Vec<usize> = (0..lists.len()).collect();
    shortest_first.sort_by_key(|&list| lists[list].len());
    let mut left = room;
    for (done, list) in shortest_first.into_iter().enumerate() {
        let share = left / (lists.len() - done);
        let list = &mut lists[list];
        if list.len() > share {
            let hidden = list.len() - share.saturating_sub(1);
            list.truncate(share.saturating_sub(1));
            // A heading with next to nothing below says nothing.
            if share > 4 { list.push(Line::raw(format!("… {hidden} lines more")).dim()) } else { list.clear() }
        }
        left -= list.len();
    }
    lists.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
