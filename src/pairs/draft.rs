//! The schema type that `init` drafts for a column: made to last (see CONTRACTS, "Pairs").

use crate::avro::{BaseType, FieldType};
use crate::table::SourceType;

use super::{MONEY_PRECISION, MONEY_SCALE};

/// A drafted type, without nullability: that is the author's promise, not the column's.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The type.
    pub base: BaseType,
    /// What the author should know, one sentence.
    pub note: Option<String>,
}

/// The draft of a source type. Its pair is exact for every source type.
pub fn draft_type(source: &SourceType) -> Draft {
    let plain = |base| Draft { base, note: None };
    let noted = |base, note: &str| Draft { base, note: Some(note.to_owned()) };
    match source {
        SourceType::Bool => plain(BaseType::Boolean),
        SourceType::Int2 | SourceType::Int4 | SourceType::Int8 | SourceType::Oid => plain(BaseType::Long),
        SourceType::Float4 => plain(BaseType::Float),
        SourceType::Float8 => plain(BaseType::Double),
        SourceType::Numeric { precision, scale } => numeric(*precision, *scale),
        SourceType::Money => noted(
            BaseType::Decimal { precision: MONEY_PRECISION, scale: MONEY_SCALE },
            "money is read with two fraction digits; a server whose lc_monetary prints otherwise is refused per value",
        ),
        SourceType::Text | SourceType::Varchar | SourceType::Char | SourceType::Name | SourceType::Citext => {
            plain(BaseType::String)
        }
        SourceType::Bytea => plain(BaseType::Bytes),
        SourceType::Date => plain(BaseType::Date),
        SourceType::Time => plain(BaseType::TimeMicros),
        SourceType::Timetz | SourceType::Interval => noted(BaseType::String, "published as its ISO 8601 text"),
        SourceType::Timestamp => plain(BaseType::LocalTimestampMicros),
        SourceType::Timestamptz => plain(BaseType::TimestampMicros),
        SourceType::Uuid => plain(BaseType::UuidString),
        SourceType::Json | SourceType::Jsonb => noted(BaseType::String, "published as its JSON text"),
        SourceType::Enum { .. } => plain(BaseType::String),
        SourceType::Array(item) if is_comma_separated(item) => {
            let Draft { base, note } = draft_type(item);
            Draft { base: BaseType::Array(Box::new(FieldType { null_branch: Some(0), base })), note }
        }
        SourceType::Array(_) | SourceType::Other { .. } => {
            noted(BaseType::String, "published as PostgreSQL's text of the value")
        }
    }
}

fn numeric(precision: Option<u16>, scale: Option<i16>) -> Draft {
    let base = match (precision, scale.and_then(|scale| u32::try_from(scale).ok())) {
        (Some(precision), Some(scale)) if scale <= u32::from(precision) => {
            BaseType::Decimal { precision: u32::from(precision), scale }
        }
        _ => {
            let note = "numeric without a plain precision and scale is published as its text";
            return Draft { base: BaseType::String, note: Some(note.to_owned()) };
        }
    };
    Draft { base, note: None }
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
