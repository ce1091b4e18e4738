//! The schema type that `init` drafts for a column: made to last (see `docs/contracts.md`, "Pairs").

use crate::avro::{BaseType, FieldType};
use crate::table::SourceType;

use super::axes::{Form, Kind};
use super::matrix::{MATRIX, Note};
use super::{MONEY_PRECISION, MONEY_SCALE};

/// A drafted type, without nullability: that is the author's promise, not the column's.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The type.
    pub base: BaseType,
    /// For the field's doc: what a reader who ignores logical types would miss.
    pub doc: Option<&'static str>,
    /// For the contract's author; `{type}` stands for the column's type.
    pub remark: Option<&'static str>,
}

/// The draft of a source type: the first of its pairs that is made for drafts. Its pair is exact for every source type.
pub fn draft_type(source: &SourceType) -> Draft {
    let kind = Kind::of(source);
    let drafted = MATRIX.iter().filter(|entry| entry.from.contains(&kind)).filter_map(|entry| {
        let note = entry.draft?;
        Some(of_form(entry.to, source)?.noted(note))
    });
    let mut drafted = drafted;
    drafted.next().unwrap_or(Draft { base: BaseType::String, doc: None, remark: None })
}

impl Draft {
    /// What the items of an array say stands for the array.
    fn noted(self, note: Note) -> Draft {
        Draft { doc: self.doc.or(note.doc), remark: self.remark.or(note.remark), ..self }
    }
}

fn of_form(form: Form, source: &SourceType) -> Option<Draft> {
    let plain = |base| Draft { base, doc: None, remark: None };
    match (form, source) {
        (Form::Decimal, SourceType::Money) => {
            Some(plain(BaseType::Decimal { precision: MONEY_PRECISION, scale: MONEY_SCALE }))
        }
        (Form::Decimal, _) => plain_decimal(source).map(plain),
        (Form::Array, SourceType::Array(item)) if is_comma_separated(item) => {
            let Draft { base, doc, remark } = draft_type(item);
            Some(Draft { base: BaseType::Array(Box::new(FieldType::nullable(base))), doc, remark })
        }
        _ => form.plain().map(plain),
    }
}

/// The decimal of the same precision and scale, for `numeric(p,s)` with 0 ≤ s ≤ p.
pub(super) fn plain_decimal(source: &SourceType) -> Option<BaseType> {
    let SourceType::Numeric { precision: Some(precision), scale: Some(scale) } = source else { return None };
    let (precision, scale) = (u32::from(*precision), u32::try_from(*scale).ok()?);
    (scale <= precision).then_some(BaseType::Decimal { precision, scale })
}

/// Whether the array's text separates its items by commas.
///
/// A type says so in `pg_type.typdelim`, which a source type does not carry: the catalog reader gives arrays of another
/// delimiter as [`SourceType::Other`]. The well-known ones are refused here too, since a wrong delimiter would make
/// several items one, in silence.
pub(super) fn is_comma_separated(item: &SourceType) -> bool {
    match item {
        SourceType::Other { name } => {
            let name = name.rsplit('.').next().unwrap_or(name);
            !["box", "geometry", "geography"].iter().any(|other| name.starts_with(other))
        }
        SourceType::Array(_) => false,
        _ => true,
    }
}
