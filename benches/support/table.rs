//! Aligned tables, and the list of goals at the end.

/// A table: the first column is text, the others are figures.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Table { rows: vec![header.map(String::from).to_vec()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    pub fn print(&self) {
        let columns = self.rows[0].len();
        let width = |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
                if at == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }

    /// The same as Markdown, for module docs.
    pub fn print_markdown(&self, prefix: &str) {
        for (at, row) in self.rows.iter().enumerate() {
            println!("{prefix}| {} |", row.join(" | "));
            if at == 0 {
                println!("{prefix}|---{}|", "|---:".repeat(row.len() - 1));
            }
        }
    }
}

/// What a figure has to reach.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most the first; the second is a stretch.
    AtMost(f64, Option<f64>),
    /// At least this.
    AtLeast(f64),
}

impl Goal {
    fn text(self) -> String {
        match self {
            Goal::AtMost(most, None) => format!("<= {most}"),
            Goal::AtMost(most, Some(stretch)) => format!("<= {most} (stretch {stretch})"),
            Goal::AtLeast(least) => format!(">= {least}"),
        }
    }

    fn judge(self, measured: f64) -> &'static str {
        match self {
            Goal::AtMost(_, Some(stretch)) if measured <= stretch => "met, stretch too",
            Goal::AtMost(most, _) if measured <= most => "met",
            Goal::AtLeast(least) if measured >= least => "met",
            _ => "MISSED",
        }
    }
}

/// All goals of a run.
#[derive(Default)]
pub struct Goals {
    found: Vec<(String, f64, Goal)>,
}

impl Goals {
    pub fn check(&mut self, what: impl Into<String>, measured: f64, goal: Goal) {
        self.found.push((what.into(), measured, goal));
    }

    pub fn print(&self) {
        if self.found.is_empty() {
            return;
        }
        println!("\n# Goals\n");
        let mut table = Table::new(["what", "measured", "goal", ""]);
        for (what, measured, goal) in &self.found {
            let digits = if *measured < 10.0 { 3 } else { 1 };
            table.row([what.clone(), format!("{measured:.digits$}"), goal.text(), goal.judge(*measured).into()]);
        }
        table.print();
    }
}
