//! Traces as comma-separated values with a header.

use std::time::Duration;

use super::{Arrival, Fault, Found};

/// The columns, in the order of [`Arrival`].
pub const NAMES: [&str; 3] = ["arrived_at", "num_prefill_tokens", "num_decode_tokens"];

/// Where the header has each of [`NAMES`].
#[derive(Debug)]
pub struct Columns([usize; 3]);

impl Columns {
    /// Reads a header; the names it has if they are not exactly [`NAMES`], in whatever order.
    pub fn of(header: &str) -> Result<Columns, Vec<String>> {
        let found: Vec<&str> = header.split(',').map(str::trim).collect();
        let at = NAMES.map(|name| found.iter().position(|&other| other == name));
        match at {
            [Some(at), Some(prompt), Some(output)] if found.len() == NAMES.len() => Ok(Columns([at, prompt, output])),
            _ => Err(found.into_iter().map(str::to_owned).collect()),
        }
    }

    /// Reads a line below the header.
    pub fn read(&self, line: &str) -> Result<Arrival, Found> {
        let fields: Vec<Field<'_>> = fields(line);
        if fields.len() != NAMES.len() {
            let fault = Fault::FieldCount { found: fields.len(), expected: NAMES.len() };
            // The first that is too much, or the end of a line that is too short.
            let column = fields.get(NAMES.len()).map_or(line.chars().count() + 1, |field| field.column);
            return Err((column, fault));
        }
        let [at, prompt, output] = self.0.map(|at| &fields[at]);
        let seconds = || at.text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Arrival {
            at: seconds().ok_or_else(|| at.fault(NAMES[0], "a number of seconds, zero or more"))?,
            prompt: prompt.text.parse().map_err(|_| prompt.fault(NAMES[1], TOKENS))?,
            output: output.text.parse().map_err(|_| output.fault(NAMES[2], TOKENS))?,
        })
    }
}

const TOKENS: &str = "a whole number of tokens below 2^32";

struct Field<'a> {
    text: &'a str,
    column: usize,
}

impl Field<'_> {
    fn fault(&self, name: &'static str, must: &'static str) -> Found {
        (self.column, Fault::Field { name, text: self.text.to_owned(), must })
    }
}

/// The fields of a line without the spaces around them, and the column each begins in.
fn fields(line: &str) -> Vec<Field<'_>> {
    let mut next = 1;
    line.split(',')
        .map(|raw| {
            let spaces = raw.chars().take_while(|c| c.is_whitespace()).count();
            let column = next + spaces;
            next += raw.chars().count() + 1;
            Field { text: raw.trim(), column }
        })
        .collect()
}
