//! A snapshot as it is sent: no longer than asked, and with what a person reads.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::model::Snapshot;

/// The longest name or label that is sent, in characters.
const TEXT: usize = 200;
/// Figures of a section that are sent at most.
const FIGURES: usize = 64;

#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    /// Why each of those that wait does, in their order.
    explained: Vec<String>,
    /// How many modules there are, and how many sections.
    registered: usize,
    published: usize,
}

/// A snapshot of at most `limit` waits and holders; at most as many modules and sections are sent.
pub(super) fn json(mut snapshot: Snapshot, limit: usize) -> Result<String, serde_json::Error> {
    let (registered, published) = (snapshot.modules.len(), snapshot.sections.len());
    snapshot.modules.truncate(limit);
    snapshot.sections.truncate(limit);
    snapshot.sections.iter_mut().for_each(|section| section.figures.truncate(FIGURES));
    shorten_names(&mut snapshot);
    let explained = snapshot.waiting.iter().map(ToString::to_string).collect();
    serde_json::to_string(&View { snapshot: &snapshot, explained, registered, published })
}

/// Cuts what callers have named, which may be as long as they like.
fn shorten_names(snapshot: &mut Snapshot) {
    snapshot.stats.budgets.iter_mut().for_each(|budget| shorten_shared(&mut budget.name));
    for waiting in &mut snapshot.waiting {
        waiting.label.iter_mut().for_each(shorten);
        for blocker in &mut waiting.blockers {
            shorten(&mut blocker.name);
            blocker.holders.iter_mut().for_each(|held| shorten(&mut held.label));
        }
    }
    for holder in &mut snapshot.holders {
        if let Some(short) = short(&holder.label) {
            holder.label = Cow::Owned(short);
        }
        holder.module.iter_mut().for_each(shorten_shared);
    }
    snapshot.modules.iter_mut().for_each(|module| shorten(&mut module.name));
    for section in &mut snapshot.sections {
        shorten_shared(&mut section.name);
        for figure in &mut section.figures {
            if let Some(short) = short(&figure.name) {
                figure.name = Cow::Owned(short);
            }
        }
    }
}

fn shorten(text: &mut String) {
    if let Some(short) = short(text) {
        *text = short;
    }
}

fn shorten_shared(text: &mut Arc<str>) {
    if let Some(short) = short(text) {
        *text = short.into();
    }
}

/// The beginning of a text that is too long.
fn short(text: &str) -> Option<String> {
    let (end, _) = text.char_indices().nth(TEXT)?;
    Some(format!("{}…", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_only_if_it_is_too_long() {
        assert_eq!(short(&"é".repeat(TEXT)), None);
        assert_eq!(short(&"é".repeat(TEXT + 1)), Some("é".repeat(TEXT) + "…"));
    }
}
