//! Works an expression out for a row. Nothing is allocated but for long joined texts.

use std::cmp::Ordering;

use crate::contract::expr::{Compare, Typed};
use crate::row::{Datum, Row};

use super::number::Number;
use super::reason::Reason;
use super::scratch::Scratch;
use super::text;

/// An expression with the places of its columns.
#[derive(Debug)]
pub struct Formula {
    /// What to work out.
    pub root: Typed,
    /// By the index that the expression has for a column.
    pub places: Box<[usize]>,
}

/// What came out.
#[derive(Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Text(&'a [u8]),
    Made(Scratch),
}

impl Value<'_> {
    /// As PostgreSQL prints it; none for null.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Null => None,
            Value::Bool(true) => Some(b"t"),
            Value::Bool(false) => Some(b"f"),
            Value::Text(text) => Some(text),
            Value::Made(text) => Some(text.bytes()),
        }
    }

    /// As `||` and a cast to text have it: booleans are words.
    fn word(&self) -> Option<&[u8]> {
        match self {
            Value::Bool(true) => Some(b"true"),
            Value::Bool(false) => Some(b"false"),
            other => other.text(),
        }
    }
}

impl Formula {
    /// The value for a row. Errors: a value that the stream does not carry, where the result needs it.
    pub fn value<'a>(&'a self, row: Row<'a>) -> Result<Value<'a>, Reason> {
        self.part(&self.root, row)
    }

    fn part<'a>(&'a self, part: &'a Typed, row: Row<'a>) -> Result<Value<'a>, Reason> {
        Ok(match part {
            Typed::Column { index, boolean } => match self.datum(*index, row) {
                Datum::Null => Value::Null,
                Datum::Unchanged => return Err(Reason::Unchanged),
                Datum::Text(text) if *boolean => Value::Bool(text == b"t"),
                Datum::Text(text) => Value::Text(text),
            },
            Typed::Literal(text) => Value::Text(text),
            Typed::Bool(value) => Value::Bool(*value),
            Typed::Null => Value::Null,
            Typed::IsNull { of, negated } => Value::Bool(self.is_null(of, row)? != *negated),
            Typed::Not(of) => truth(self.truth(of, row)?.map(|value| !value)),
            Typed::And(left, right) => truth(match self.truth(left, row)? {
                Some(false) => Some(false),
                left => match (left, self.truth(right, row)?) {
                    (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                },
            }),
            Typed::Or(left, right) => truth(match self.truth(left, row)? {
                Some(true) => Some(true),
                left => match (left, self.truth(right, row)?) {
                    (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
            }),
            Typed::Compare { operator, by, left, right } => {
                let (left, right) = (self.part(left, row)?, self.part(right, row)?);
                match (left.text(), right.text()) {
                    (Some(left), Some(right)) => Value::Bool(operator.holds(order(*by, left, right)?)),
                    _ => Value::Null,
                }
            }
            Typed::Concat { parts } => {
                let mut made = Scratch::new();
                for (part, padded) in parts {
                    let value = self.part(part, row)?;
                    let Some(word) = value.word() else { return Ok(Value::Null) };
                    made.extend(if *padded { text::unpadded(word) } else { word });
                }
                Value::Made(made)
            }
            Typed::Coalesce(list) => {
                for one in list {
                    match self.part(one, row)? {
                        Value::Null => {}
                        value => return Ok(value),
                    }
                }
                Value::Null
            }
            Typed::Case { whens, otherwise } => {
                for (when, then) in whens {
                    if self.truth(when, row)? == Some(true) {
                        return self.part(then, row);
                    }
                }
                self.part(otherwise, row)?
            }
            Typed::Unpadded(of) => match self.part(of, row)? {
                Value::Text(text) => Value::Text(text::unpadded(text)),
                other => other,
            },
        })
    }

    fn datum<'a>(&self, index: usize, row: Row<'a>) -> Datum<'a> {
        self.places.get(index).map_or(Datum::Unchanged, |place| row.get(*place))
    }

    /// A value that was stored out of line and did not change is not known, but it is not null.
    fn is_null(&self, of: &Typed, row: Row<'_>) -> Result<bool, Reason> {
        if let Typed::Column { index, .. } = of {
            return Ok(matches!(self.datum(*index, row), Datum::Null));
        }
        Ok(matches!(self.part(of, row)?, Value::Null))
    }

    fn truth(&self, part: &Typed, row: Row<'_>) -> Result<Option<bool>, Reason> {
        Ok(match self.part(part, row)? {
            Value::Bool(value) => Some(value),
            _ => None,
        })
    }
}

fn truth<'a>(value: Option<bool>) -> Value<'a> {
    value.map_or(Value::Null, Value::Bool)
}

fn order(by: Compare, left: &[u8], right: &[u8]) -> Result<Ordering, Reason> {
    Ok(match by {
        // `f` is before `t`.
        Compare::Bytes | Compare::Booleans => left.cmp(right),
        Compare::Padded => text::unpadded(left).cmp(text::unpadded(right)),
        Compare::Numbers => {
            let (left_rank, right_rank) = (rank(left), rank(right));
            match left_rank.cmp(&right_rank) {
                Ordering::Equal if left_rank == FINITE => Number::parse(left)?.compare(&Number::parse(right)?),
                other => other,
            }
        }
    })
}

const FINITE: u8 = 1;

/// PostgreSQL's order of numerics that are none.
fn rank(number: &[u8]) -> u8 {
    match number {
        b"-Infinity" => 0,
        b"Infinity" => 2,
        b"NaN" => 3,
        _ => FINITE,
    }
}
