//! Figures and tables for people.

/// A whole number with commas between its thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds as milliseconds: three digits or more.
pub fn ms(nanos: u64) -> String {
    let tenths = (nanos + 50_000) / 100_000;
    match nanos {
        0..1_000_000 => format!("{:.2}", nanos as f64 / 1e6),
        _ => format!("{}.{}", thousands(tenths / 10), tenths % 10),
    }
}

/// Nanoseconds in the unit that reads best.
pub fn time(nanos: u64) -> String {
    let seconds = nanos as f64 / 1e9;
    match nanos {
        0..1_000_000 => format!("{:.1} µs", seconds * 1e6),
        1_000_000..1_000_000_000 => format!("{:.1} ms", seconds * 1e3),
        1_000_000_000..120_000_000_000 => format!("{seconds:.1} s"),
        120_000_000_000..7_200_000_000_000 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

/// Rows of cells below each other: the first `left` columns are words, the others figures.
pub fn table(left: usize, rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, &width))| if at < left { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let written = [0, 999, 1_000, 1_234_567].map(thousands);
        assert_eq!(written, ["0", "999", "1,000", "1,234,567"]);
        let written = [0, 4_000, 1_000_000, 12_345_678, 1_999_960_000].map(ms);
        assert_eq!(written, ["0.00", "0.00", "1.0", "12.3", "2,000.0"]);
    }

    #[test]
    fn a_time_has_the_unit_that_reads_best() {
        let written = [700, 1_200_000, 34_560_000_000, 600_000_000_000, 9_000_000_000_000].map(time);
        assert_eq!(written, ["0.7 µs", "1.2 ms", "34.6 s", "10 min", "2.5 h"]);
    }

    #[test]
    fn words_stand_left_and_figures_right() {
        let rows = [["a", "long", "1"], ["abc", "b", "1,000"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(2, &rows), "a    long      1\nabc  b     1,000\n");
    }
}
