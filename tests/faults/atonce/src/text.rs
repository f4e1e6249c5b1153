//! The sources with the mutants in them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

/// What happens to a stretch of source.
#[derive(Debug, Default)]
pub struct Node {
    /// Written before it, for each mutant.
    pub before: Vec<(u32, String)>,
    /// Written in its place, for each mutant that is alive.
    pub instead: Vec<(u32, String)>,
    /// The name of a field whose value is named like it, so that the name alone stood for both.
    pub field: Option<String>,
    /// Those in it that the compiler may refuse at any place of it.
    pub within: Vec<u32>,
}

impl Node {
    pub fn join(&mut self, other: Node) {
        self.before.extend(other.before);
        self.instead.extend(other.instead);
        self.within.extend(other.within);
        self.field = self.field.take().or(other.field);
    }
}

/// Where a mutant stands in what was written; the smallest that an error lies in says whose it is.
#[derive(Debug)]
pub struct Region {
    pub bytes: Range<usize>,
    pub mutants: Vec<u32>,
}

/// The text, and where in it which mutant is.
pub fn write(source: &str, nodes: &BTreeMap<(usize, usize), Node>) -> (String, Vec<Region>) {
    // By beginning; of those that begin together what is written between two, then the longest, so that each contains
    // those after it that end before it does.
    let mut order: Vec<Place<'_>> = nodes.iter().map(|(&(from, to), node)| (from..to, node)).collect();
    order.sort_by_key(|(range, _)| (range.start, !range.is_empty(), Reverse(range.end)));
    let mut writer = Writer { source, text: String::new(), regions: Vec::new() };
    writer.stretch(0..source.len(), &order);
    (writer.text, writer.regions)
}

type Place<'a> = (Range<usize>, &'a Node);

struct Writer<'a> {
    source: &'a str,
    text: String,
    regions: Vec<Region>,
}

impl Writer<'_> {
    fn stretch(&mut self, stretch: Range<usize>, mut nodes: &[Place<'_>]) {
        let mut at = stretch.start;
        while let Some(((range, node), rest)) = nodes.split_first() {
            self.text.push_str(&self.source[at..range.start]);
            let inner = rest.iter().take_while(|(other, _)| other.end <= range.end).count();
            self.node(range.clone(), node, &rest[..inner]);
            at = range.end;
            nodes = &rest[inner..];
        }
        self.text.push_str(&self.source[at..stretch.end]);
    }

    fn node(&mut self, range: Range<usize>, node: &Node, inner: &[Place<'_>]) {
        let begin = self.text.len();
        if let Some(field) = &node.field {
            self.text.push_str(&format!("{field}: "));
        }
        for (number, before) in &node.before {
            self.mutant(*number, before);
        }
        if node.instead.is_empty() {
            self.stretch(range, inner);
        } else {
            self.text.push('(');
            for (number, instead) in &node.instead {
                self.mutant(*number, &format!("if crate::mutant({number}) {{ {instead} }} else "));
            }
            self.text.push_str("{ ");
            self.stretch(range, inner);
            self.text.push_str(" })");
        }
        let own = node.before.iter().chain(&node.instead).map(|&(number, _)| number);
        let mutants = own.chain(node.within.iter().copied()).collect();
        self.regions.push(Region { bytes: begin..self.text.len(), mutants });
    }

    fn mutant(&mut self, number: u32, text: &str) {
        let begin = self.text.len();
        self.text.push_str(text);
        self.regions.push(Region { bytes: begin..self.text.len(), mutants: vec![number] });
    }
}
