//! `expr:` a small, pure, total language over the columns of one row: comparison, `is null`, `and`, `or`, `not`, `||`,
//! `coalesce`, `case`; SQL's words, precedence and null rules.
//!
//! ```text
//!  text ── parse ──▶ Expr ── with the columns' types ──▶ Typed ──▶ projection, once a table version
//! ```
//!
//! Absent on purpose: functions, arithmetic, other tables, time and chance. What PostgreSQL would convert in silence (a
//! text into a number, a locale's order) is refused, so that an expression means the same here and there.

mod lexer;
mod parser;
mod typing;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use typing::{Compare, Typed, TypedExpr};

/// A parsed expression. Two are equal if their texts are.
#[derive(Clone, Debug)]
pub struct Expr {
    text: String,
    root: Node,
    columns: Vec<String>,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.text == other.text
    }
}

/// What is wrong with an expression, and where in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprError {
    /// Lower-case diagnosis.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
    /// Byte range in the expression.
    pub span: Range<usize>,
}

/// A comparison's operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A part of an expression, and where it stands.
#[derive(Clone, Debug)]
struct Node {
    span: Range<usize>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Index into the expression's columns.
    Column(usize),
    Text(String),
    /// As it is written, with its sign.
    Number(String),
    Bool(bool),
    Null,
    Compare(Operator, Box<Node>, Box<Node>),
    IsNull {
        of: Box<Node>,
        negated: bool,
    },
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Concat(Box<Node>, Box<Node>),
    Coalesce(Vec<Node>),
    Case {
        whens: Vec<(Node, Node)>,
        otherwise: Option<Box<Node>>,
    },
}

impl Expr {
    /// Parses an expression.
    pub fn parse(text: &str) -> Result<Expr, ExprError> {
        parser::parse(text)
    }

    /// The columns that it names, each once, in the order of their first mention.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a column is first named.
    pub fn mention(&self, column: usize) -> Range<usize> {
        mention(&self.root, column).unwrap_or(0..self.text.len())
    }

    /// Whether it is never null, given which of its columns are not.
    pub fn never_null(&self, not_null: &dyn Fn(usize) -> bool) -> bool {
        never_null(&self.root, not_null)
    }
}

impl Operator {
    /// Whether it holds for two values in this order.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl Node {
    fn children(&self) -> Vec<&Node> {
        match &self.kind {
            Kind::Column(_) | Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) | Kind::Null => Vec::new(),
            Kind::IsNull { of, .. } | Kind::Not(of) => vec![of],
            Kind::Compare(_, left, right) => vec![left, right],
            Kind::And(left, right) | Kind::Or(left, right) | Kind::Concat(left, right) => vec![left, right],
            Kind::Coalesce(list) => list.iter().collect(),
            Kind::Case { whens, otherwise } => {
                whens.iter().flat_map(|(when, then)| [when, then]).chain(otherwise.as_deref()).collect()
            }
        }
    }
}

fn mention(node: &Node, column: usize) -> Option<Range<usize>> {
    match node.kind {
        Kind::Column(index) if index == column => Some(node.span.clone()),
        _ => node.children().into_iter().find_map(|child| mention(child, column)),
    }
}

fn never_null(node: &Node, not_null: &dyn Fn(usize) -> bool) -> bool {
    match &node.kind {
        Kind::Column(index) => not_null(*index),
        Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) | Kind::IsNull { .. } => true,
        Kind::Null => false,
        Kind::Coalesce(list) => list.iter().any(|one| never_null(one, not_null)),
        Kind::Case { whens, otherwise } => {
            let otherwise = otherwise.as_ref().is_some_and(|otherwise| never_null(otherwise, not_null));
            otherwise && whens.iter().all(|(_, then)| never_null(then, not_null))
        }
        _ => node.children().into_iter().all(|child| never_null(child, not_null)),
    }
}
