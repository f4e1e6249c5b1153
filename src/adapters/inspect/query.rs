//! What a reader asks for behind the question mark.

use std::time::Duration;

use thiserror::Error;

/// How much is shown, and how often.
#[derive(Debug, PartialEq)]
pub(super) struct Query {
    /// Waits, holders, modules and sections that are shown at most.
    pub limit: usize,
    /// From one event to the next.
    pub every: Duration,
}

/// A figure that cannot be used.
#[derive(Debug, PartialEq, Error)]
#[error("`{name}` is `{value}`; it must be a whole number from {least} to {most}")]
pub(super) struct BadQuery {
    name: &'static str,
    value: String,
    least: u64,
    most: u64,
}

impl Query {
    /// The part of an address behind the question mark. What is not known here is meant for somebody else.
    pub(super) fn read(text: Option<&str>) -> Result<Query, BadQuery> {
        let pairs: Vec<(&str, &str)> =
            text.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        let figure = |name: &'static str, usual: u64, least: u64, most: u64| {
            let Some(&(_, value)) = pairs.iter().rev().find(|(known, _)| *known == name) else { return Ok(usual) };
            let number = value.parse().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| BadQuery { name, value: value.chars().take(40).collect(), least, most })
        };
        Ok(Query {
            limit: figure("limit", 20, 0, 200)? as usize,
            every: Duration::from_millis(figure("every_ms", 1_000, 100, 60_000)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_usual_and_what_cannot_be_is_refused_by_name() {
        let usual = Query { limit: 20, every: Duration::from_secs(1) };
        assert_eq!(Query::read(None), Ok(usual));
        let asked = Query::read(Some("token=x&limit=3&limit=0&every_ms=100&flag"));
        assert_eq!(asked, Ok(Query { limit: 0, every: Duration::from_millis(100) }));
        for bad in ["limit=201", "limit=-1", "limit=", "limit=1e2", "every_ms=99", "every_ms=60001"] {
            let (name, value) = bad.split_once('=').unwrap();
            let refused = Query::read(Some(bad)).unwrap_err();
            assert_eq!((refused.name, refused.value.as_str()), (name, value));
        }
        let long = format!("limit={}", "9".repeat(1_000));
        assert_eq!(Query::read(Some(&long)).unwrap_err().value.len(), 40);
    }
}
