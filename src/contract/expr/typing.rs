//! An expression and its columns' types → a tree that can be worked out for every row, or the part that cannot.

use std::ops::Range;

use super::super::values;
use super::{Expr, ExprError, Kind, Node, Operator};
use crate::avro::BaseType;
use crate::pairs::source_type_name;
use crate::table::SourceType;

/// An expression that can be worked out.
#[derive(Clone, Debug)]
pub struct TypedExpr {
    /// What to work out.
    pub root: Typed,
    /// The type of what comes out, as of a column.
    pub result: SourceType,
}

/// A part of it. Columns are indexes into [`Expr::columns`].
#[derive(Clone, Debug)]
pub enum Typed {
    /// A column; a boolean one is read as such.
    Column {
        index: usize,
        boolean: bool,
    },
    /// A text as PostgreSQL prints values of its type.
    Literal(Box<[u8]>),
    Bool(bool),
    Null,
    Compare {
        operator: Operator,
        by: Compare,
        left: Box<Typed>,
        right: Box<Typed>,
    },
    IsNull {
        of: Box<Typed>,
        negated: bool,
    },
    Not(Box<Typed>),
    And(Box<Typed>, Box<Typed>),
    Or(Box<Typed>, Box<Typed>),
    /// Both as text; true for one that is char(n), whose padding does not count.
    Concat {
        parts: Vec<(Typed, bool)>,
    },
    Coalesce(Vec<Typed>),
    Case {
        whens: Vec<(Typed, Typed)>,
        otherwise: Box<Typed>,
    },
    /// char(n) where a text is wanted.
    Unpadded(Box<Typed>),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// By their value; NaN is above everything, and equal to itself.
    Numbers,
    /// Byte by byte, as under COLLATE "C".
    Bytes,
    /// The same without blanks at the end.
    Padded,
    Booleans,
}

/// A part with its type; none for a literal that takes the type of its neighbours.
type Found = (Typed, Option<SourceType>);

impl Expr {
    /// Types it. `types` are those of [`Expr::columns`].
    pub fn typed(&self, types: &[SourceType]) -> Result<TypedExpr, ExprError> {
        let (root, result) = Typing { types }.node(&self.root)?;
        Ok(TypedExpr { root, result: result.unwrap_or(SourceType::Text) })
    }
}

struct Typing<'a> {
    types: &'a [SourceType],
}

fn fail<T>(span: &Range<usize>, message: String, hint: &str) -> Result<T, ExprError> {
    Err(ExprError { message, hint: Some(hint.to_owned()), span: span.clone() })
}

fn name(ty: &Option<SourceType>) -> String {
    ty.as_ref().map_or("text".to_owned(), source_type_name)
}

const fn any_numeric() -> SourceType {
    SourceType::Numeric { precision: None, scale: None }
}

impl Typing<'_> {
    fn node(&self, node: &Node) -> Result<Found, ExprError> {
        Ok(match &node.kind {
            Kind::Column(index) => {
                let source = self.types.get(*index).cloned();
                (Typed::Column { index: *index, boolean: source == Some(SourceType::Bool) }, source)
            }
            Kind::Text(text) => (Typed::Literal(text.as_bytes().into()), None),
            Kind::Number(number) => (literal_number(number), Some(number_type(number))),
            Kind::Bool(value) => (Typed::Bool(*value), Some(SourceType::Bool)),
            Kind::Null => (Typed::Null, None),
            Kind::Compare(operator, left, right) => (self.compare(*operator, left, right)?, Some(SourceType::Bool)),
            Kind::IsNull { of, negated } => {
                let (of, _) = self.node(of)?;
                (Typed::IsNull { of: Box::new(of), negated: *negated }, Some(SourceType::Bool))
            }
            Kind::Not(of) => (Typed::Not(self.boolean(of)?), Some(SourceType::Bool)),
            Kind::And(left, right) => (Typed::And(self.boolean(left)?, self.boolean(right)?), Some(SourceType::Bool)),
            Kind::Or(left, right) => (Typed::Or(self.boolean(left)?, self.boolean(right)?), Some(SourceType::Bool)),
            Kind::Concat(left, right) => (self.concat(left, right)?, Some(SourceType::Text)),
            Kind::Coalesce(list) => {
                let (list, ty) = self.alike(&list.iter().collect::<Vec<_>>())?;
                (Typed::Coalesce(list), ty)
            }
            Kind::Case { whens, otherwise } => self.case(whens, otherwise.as_deref())?,
        })
    }

    fn boolean(&self, node: &Node) -> Result<Box<Typed>, ExprError> {
        match self.node(node)? {
            (typed, Some(SourceType::Bool)) | (typed @ Typed::Null, None) => Ok(Box::new(typed)),
            (_, ty) => {
                fail(&node.span, format!("this is `{}`, not true or false", name(&ty)), "compare it with something")
            }
        }
    }

    fn compare(&self, operator: Operator, left: &Node, right: &Node) -> Result<Typed, ExprError> {
        let span = left.span.start.min(right.span.start)..right.span.end.max(left.span.end);
        let ((left_typed, left_type), (right_typed, right_type)) = (self.node(left)?, self.node(right)?);
        let by = match (&left_type, &right_type) {
            (Some(a), Some(b)) if is_number(a) && is_number(b) => Compare::Numbers,
            (Some(SourceType::Char), Some(SourceType::Char) | None) | (None, Some(SourceType::Char)) => Compare::Padded,
            (Some(a), Some(b)) if is_text(a) && is_text(b) => Compare::Bytes,
            (None, None) => Compare::Bytes,
            (Some(a), Some(b)) if a == b => comparable(a, operator, &span)?,
            (Some(a), None) => self.literal_beside(a, operator, right, &span)?,
            (None, Some(b)) => self.literal_beside(b, operator, left, &span)?,
            (a, b) => {
                let message = format!("`{}` and `{}` cannot be compared", name(a), name(b));
                return fail(&span, message, "compare values of one kind: numbers, texts, or one type");
            }
        };
        // A char(n) beside a text is one without its padding.
        let unpad = |typed, ty: &Option<SourceType>| match (by, ty) {
            (Compare::Bytes, Some(SourceType::Char)) => Typed::Unpadded(Box::new(typed)),
            _ => typed,
        };
        let (left, right) = (unpad(left_typed, &left_type), unpad(right_typed, &right_type));
        Ok(Typed::Compare { operator, by, left: Box::new(left), right: Box::new(right) })
    }

    /// Compares a value with a literal in quotes, which must be of its type.
    fn literal_beside(
        &self,
        ty: &SourceType,
        operator: Operator,
        literal: &Node,
        span: &Range<usize>,
    ) -> Result<Compare, ExprError> {
        if is_text(ty) {
            return Ok(Compare::Bytes);
        }
        if matches!(literal.kind, Kind::Null) {
            return Ok(Compare::Bytes);
        }
        literal_of(ty, literal)?;
        comparable(ty, operator, span)
    }

    fn concat(&self, left: &Node, right: &Node) -> Result<Typed, ExprError> {
        let mut parts = Vec::new();
        let mut texts = 0;
        for node in [left, right] {
            let (typed, ty) = self.node(node)?;
            texts += usize::from(ty.as_ref().is_none_or(is_text));
            if let Some(ty) = ty.as_ref().filter(|ty| !joins(ty)) {
                let message = format!("`||` does not join `{}`", source_type_name(ty));
                return fail(
                    &node.span,
                    message,
                    "it joins text, numbers, booleans, uuid, enums, dates and timestamps",
                );
            }
            match typed {
                Typed::Concat { parts: inner } => parts.extend(inner),
                typed => parts.push((typed, ty == Some(SourceType::Char))),
            }
        }
        if texts == 0 {
            let message = "`||` needs a text on one side".to_owned();
            return fail(&(left.span.start..right.span.end), message, "put `'' ||` before it");
        }
        Ok(Typed::Concat { parts })
    }

    fn case(&self, whens: &[(Node, Node)], otherwise: Option<&Node>) -> Result<Found, ExprError> {
        let conditions =
            whens.iter().map(|(when, _)| self.boolean(when)).collect::<Result<Vec<Box<Typed>>, ExprError>>()?;
        let values: Vec<&Node> = whens.iter().map(|(_, then)| then).chain(otherwise).collect();
        let (mut values, ty) = self.alike(&values)?;
        let otherwise = if otherwise.is_some() { values.pop().unwrap_or(Typed::Null) } else { Typed::Null };
        let whens = conditions.into_iter().map(|when| *when).zip(values).collect();
        Ok((Typed::Case { whens, otherwise: Box::new(otherwise) }, ty))
    }

    /// Values of which one is chosen: they must be of one type.
    fn alike(&self, nodes: &[&Node]) -> Result<(Vec<Typed>, Option<SourceType>), ExprError> {
        let found = nodes.iter().map(|node| self.node(node)).collect::<Result<Vec<Found>, ExprError>>()?;
        let mut common: Option<SourceType> = None;
        for ((_, ty), node) in found.iter().zip(nodes) {
            common = match (common, ty) {
                (None, ty) => ty.clone(),
                (common, None) => common,
                (Some(a), Some(b)) => match both(&a, b) {
                    Some(ty) => Some(ty),
                    None => {
                        let message = format!(
                            "this is `{}`, and what stands before is `{}`",
                            source_type_name(b),
                            source_type_name(&a)
                        );
                        return fail(&node.span, message, "all results must be of one kind");
                    }
                },
            };
        }
        let typed = found.into_iter().zip(nodes).map(|((typed, ty), node)| {
            match (&ty, &common) {
                (None, Some(common)) if !is_text(common) => literal_of(common, node)?,
                _ => {}
            }
            let unpads = ty == Some(SourceType::Char) && common != ty;
            Ok(if unpads { Typed::Unpadded(Box::new(typed)) } else { typed })
        });
        Ok((typed.collect::<Result<Vec<Typed>, ExprError>>()?, common))
    }
}

/// How two values of a type are compared, if their texts can tell.
fn comparable(ty: &SourceType, operator: Operator, span: &Range<usize>) -> Result<Compare, ExprError> {
    let equality = matches!(operator, Operator::Equal | Operator::NotEqual);
    match ty {
        SourceType::Bool => Ok(Compare::Booleans),
        SourceType::Uuid => Ok(Compare::Bytes),
        SourceType::Bytea | SourceType::Date | SourceType::Time | SourceType::Enum { .. } if equality => {
            Ok(Compare::Bytes)
        }
        SourceType::Timestamp | SourceType::Timestamptz if equality => Ok(Compare::Bytes),
        _ => {
            let how = if equality { "compared" } else { "ordered" };
            let message = format!("`{}` cannot be {how} in an expression", source_type_name(ty));
            fail(span, message, "publish the column, and let the reader decide")
        }
    }
}

/// Whether a literal in quotes is a value of the type, spelled as PostgreSQL prints it.
fn literal_of(ty: &SourceType, node: &Node) -> Result<(), ExprError> {
    let text = match &node.kind {
        Kind::Text(text) => text,
        Kind::Null => return Ok(()),
        _ => return fail(&node.span, "this has no type of its own".to_owned(), "name a column, or write a literal"),
    };
    let base = match ty {
        SourceType::Enum { labels } => {
            if labels.iter().any(|label| label.label == *text) {
                return Ok(());
            }
            let known: Vec<&str> = labels.iter().map(|label| label.label.as_str()).collect();
            return fail(
                &node.span,
                format!("the enum has no label `{text}`"),
                &format!("its labels: {}", known.join(", ")),
            );
        }
        SourceType::Date => BaseType::Date,
        SourceType::Time => BaseType::TimeMicros,
        SourceType::Timestamp => BaseType::LocalTimestampMicros,
        SourceType::Timestamptz => BaseType::TimestampMicros,
        SourceType::Uuid => BaseType::UuidString,
        SourceType::Bytea => BaseType::Bytes,
        _ if is_number(ty) => {
            return fail(
                &node.span,
                format!("this is a text beside `{}`", source_type_name(ty)),
                "write the number without quotes",
            );
        }
        _ => {
            let message = format!("a literal of `{}` cannot be written in an expression", source_type_name(ty));
            return fail(&node.span, message, "use columns of that type alone");
        }
    };
    match values::check_text(text, &base) {
        Ok(()) => Ok(()),
        Err(why) => fail(
            &node.span,
            format!("this is no `{}`: {why}", source_type_name(ty)),
            "spell it as PostgreSQL prints it",
        ),
    }
}

/// The type of a value that is one or the other.
fn both(a: &SourceType, b: &SourceType) -> Option<SourceType> {
    let int = |ty: &SourceType| matches!(ty, SourceType::Int2 | SourceType::Int4 | SourceType::Int8);
    match (a, b) {
        _ if a == b => Some(a.clone()),
        _ if int(a) && int(b) => {
            let eight = *a == SourceType::Int8 || *b == SourceType::Int8;
            Some(if eight { SourceType::Int8 } else { SourceType::Int4 })
        }
        _ if is_number(a) && is_number(b) => Some(any_numeric()),
        _ if is_text(a) && is_text(b) => Some(SourceType::Text),
        _ => None,
    }
}

fn is_number(ty: &SourceType) -> bool {
    matches!(ty, SourceType::Int2 | SourceType::Int4 | SourceType::Int8 | SourceType::Oid | SourceType::Numeric { .. })
}

fn is_text(ty: &SourceType) -> bool {
    matches!(ty, SourceType::Text | SourceType::Varchar | SourceType::Char | SourceType::Name)
}

/// Whether `||` casts it to the text that is known here.
fn joins(ty: &SourceType) -> bool {
    let moment = matches!(ty, SourceType::Date | SourceType::Time | SourceType::Timestamp | SourceType::Timestamptz);
    let float = matches!(ty, SourceType::Float4 | SourceType::Float8);
    let word = matches!(ty, SourceType::Bool | SourceType::Uuid | SourceType::Enum { .. });
    is_text(ty) || is_number(ty) || moment || float || word
}

/// PostgreSQL's type of a number as it is written.
fn number_type(number: &str) -> SourceType {
    match number.parse::<i64>() {
        Ok(value) if i32::try_from(value).is_ok() => SourceType::Int4,
        Ok(_) => SourceType::Int8,
        Err(_) => any_numeric(),
    }
}

/// Minus zero is zero.
fn literal_number(number: &str) -> Typed {
    let zero = number.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
    let text = if zero { number.trim_start_matches('-') } else { number };
    Typed::Literal(text.as_bytes().into())
}
