//! Where in a file a mutant can be put.

use std::collections::BTreeMap;
use std::ops::Range;

use proc_macro2::LineColumn;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::text::Node;
use crate::{Mutant, Position};

/// What can be changed, by where cargo-mutants says it begins: an operator, a body, a guard, an arm, a field.
#[derive(Default)]
pub struct Sites {
    lines: Vec<usize>,
    operators: BTreeMap<usize, Range<usize>>,
    /// A function, by its first statement.
    bodies: BTreeMap<usize, Range<usize>>,
    guards: BTreeMap<usize, Range<usize>>,
    arms: BTreeMap<usize, Arm>,
    fields: BTreeMap<usize, Field>,
}

/// An arm of a match.
struct Arm {
    pattern: Range<usize>,
    guard: Option<Range<usize>>,
    of: Range<usize>,
}

/// A field of a literal that takes the others from elsewhere.
struct Field {
    name: String,
    /// The name stands for the value too.
    shorthand: bool,
    value: Range<usize>,
    others: Range<usize>,
}

impl Sites {
    pub fn of(source: &str) -> syn::Result<Self> {
        let lines = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut finder = Finder { source, sites: Sites { lines, ..Sites::default() } };
        finder.visit_file(&syn::parse_file(source)?);
        Ok(finder.sites)
    }

    /// The stretch that a mutant changes, and how; and a larger one in which the compiler may find fault with it.
    pub fn place(&self, source: &str, number: u32, mutant: &Mutant) -> Option<Vec<(Range<usize>, Node)>> {
        let begin = self.at(source, mutant.span.start);
        let end = self.at(source, mutant.span.end);
        let replacement = &mutant.replacement;
        let instead = |range: &Range<usize>, text: String| {
            (range.clone(), Node { instead: vec![(number, text)], ..Node::default() })
        };
        let between = |at, text| (at..at, Node { before: vec![(number, text)], ..Node::default() });
        let within = |range: &Range<usize>| (range.clone(), Node { within: vec![number], ..Node::default() });
        let place = match mutant.genre.as_str() {
            "FnValue" => {
                let function = self.bodies.get(&begin)?;
                let text = format!("if crate::mutant({number}) {{ return {replacement}; }} ");
                vec![between(begin, text), within(function)]
            }
            "BinaryOperator" | "UnaryOperator" => {
                let range = self.operators.get(&begin)?;
                let text = format!("{}{replacement}{}", &source[range.start..begin], &source[end..range.end]);
                vec![instead(range, text)]
            }
            "MatchArmGuard" => vec![instead(self.guards.get(&begin)?, replacement.clone())],
            "MatchArm" => match self.arms.get(&begin)? {
                Arm { guard: Some(guard), of, .. } => vec![instead(guard, "false".into()), within(of)],
                Arm { guard: None, pattern, of } => {
                    vec![between(pattern.end, format!(" if !crate::mutant({number}) ")), within(of)]
                }
            },
            "StructField" => {
                let Field { name, shorthand, value, others } = self.fields.get(&begin)?;
                let (range, node) = instead(value, format!("({}).{name}", &source[others.clone()]));
                vec![(range, Node { field: shorthand.then(|| name.clone()), ..node })]
            }
            _ => return None,
        };
        Some(place)
    }

    fn at(&self, source: &str, position: Position) -> usize {
        self.byte(source, position.line, position.column - 1)
    }

    /// Lines count from one, columns are characters from zero.
    fn byte(&self, source: &str, line: usize, column: usize) -> usize {
        let begin = self.lines[line - 1];
        source[begin..].char_indices().nth(column).map_or(source.len(), |(at, _)| begin + at)
    }
}

struct Finder<'a> {
    source: &'a str,
    sites: Sites,
}

impl Finder<'_> {
    fn range(&self, of: &impl Spanned) -> Range<usize> {
        let span = of.span();
        self.at(span.start())..self.at(span.end())
    }

    fn at(&self, place: LineColumn) -> usize {
        self.sites.byte(self.source, place.line, place.column)
    }

    fn body(&mut self, of: &impl Spanned, block: &syn::Block) {
        if let Some(first) = block.stmts.first() {
            self.sites.bodies.insert(self.range(first).start, self.range(of));
        }
    }
}

/// Whether an operand of `&&` is a `let`: such a chain cannot be put in parentheses.
fn has_let(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if function.sig.constness.is_none() {
            self.body(function, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if function.sig.constness.is_none() {
            self.body(function, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.body(function, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if !has_let(&binary.left) && !has_let(&binary.right) {
            let at = self.range(&binary.op).start;
            self.sites.operators.insert(at, self.range(binary));
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let at = self.range(&unary.op).start;
        self.sites.operators.insert(at, self.range(unary));
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, choice: &'ast syn::ExprMatch) {
        for arm in &choice.arms {
            let guard = arm.guard.as_ref().map(|(_, guard)| self.range(guard));
            if let Some(guard) = &guard {
                self.sites.guards.insert(guard.start, guard.clone());
            }
            let at = self.range(arm).start;
            self.sites.arms.insert(at, Arm { pattern: self.range(&arm.pat), guard, of: self.range(choice) });
        }
        visit::visit_expr_match(self, choice);
    }

    fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
        if let Some(rest) = &literal.rest {
            for field in &literal.fields {
                let at = self.range(field).start;
                let site = Field {
                    name: self.source[self.range(&field.member)].to_owned(),
                    shorthand: field.colon_token.is_none(),
                    value: self.range(&field.expr),
                    others: self.range(rest),
                };
                self.sites.fields.insert(at, site);
            }
        }
        visit::visit_expr_struct(self, literal);
    }
}
