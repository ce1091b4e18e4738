//! The schema type that a source type drafts as.

use crate::avro::{BaseType, FieldType};
use crate::table::SourceType;

/// A type, and what its reader and its author should know.
pub(super) struct DraftType {
    pub base: BaseType,
    /// For the field's doc: what a reader who ignores logical types would miss.
    pub doc: Option<&'static str>,
    /// For the contract's author; `{type}` stands for the column's type.
    pub remark: Option<&'static str>,
}

impl DraftType {
    fn plain(base: BaseType) -> DraftType {
        DraftType { base, doc: None, remark: None }
    }

    fn with_doc(base: BaseType, doc: &'static str) -> DraftType {
        DraftType { base, doc: Some(doc), remark: None }
    }
}

/// Digits behind the point of money where nobody asked the server, as in most locales.
const MONEY_SCALE: u32 = 2;

/// The drafted type, the same for every column of this source type.
pub(super) fn draft(source: &SourceType) -> DraftType {
    match source {
        SourceType::Bool => DraftType::plain(BaseType::Boolean),
        SourceType::Int2 | SourceType::Int4 | SourceType::Int8 | SourceType::Oid => DraftType::plain(BaseType::Long),
        SourceType::Float4 => DraftType::plain(BaseType::Float),
        SourceType::Float8 => DraftType::plain(BaseType::Double),
        SourceType::Numeric { precision, scale } => numeric(*precision, *scale),
        SourceType::Money => DraftType {
            base: BaseType::Decimal { precision: 19, scale: MONEY_SCALE },
            doc: None,
            remark: Some("money: the scale must be the digits of the server's lc_monetary"),
        },
        SourceType::Text | SourceType::Varchar | SourceType::Char | SourceType::Name | SourceType::Citext => {
            DraftType::plain(BaseType::String)
        }
        SourceType::Bytea => DraftType::plain(BaseType::Bytes),
        SourceType::Date => DraftType::with_doc(BaseType::Date, "days since 1970-01-01"),
        SourceType::Time => DraftType::with_doc(BaseType::TimeMicros, "microseconds since midnight"),
        SourceType::Timetz | SourceType::Interval => DraftType::with_doc(BaseType::String, "as text, in ISO 8601"),
        SourceType::Timestamp => DraftType {
            base: BaseType::LocalTimestampMicros,
            doc: Some("date and time without zone, as microseconds since 1970-01-01 00:00:00 on the same clock"),
            remark: Some(
                "has no time zone; if its clock is known, write `timestamp-micros` in the schema and `timezone:` here",
            ),
        },
        SourceType::Timestamptz => {
            DraftType::with_doc(BaseType::TimestampMicros, "microseconds since 1970-01-01 00:00:00 UTC")
        }
        SourceType::Uuid => DraftType::plain(BaseType::UuidString),
        SourceType::Json | SourceType::Jsonb => DraftType::with_doc(BaseType::String, "JSON text"),
        SourceType::Enum { .. } => DraftType::plain(BaseType::String),
        SourceType::Array(items) if has_commas(items) => {
            let items = draft(items);
            DraftType {
                base: BaseType::Array(Box::new(FieldType::nullable(items.base))),
                doc: items.doc,
                remark: items.remark,
            }
        }
        SourceType::Array(_) | SourceType::Other { .. } => DraftType {
            base: BaseType::String,
            doc: Some("as PostgreSQL prints it"),
            remark: Some("{type} is published as PostgreSQL's text"),
        },
    }
}

/// Whether items are set apart by commas in the array's text; boxes, which hold commas themselves, are by semicolons.
fn has_commas(items: &SourceType) -> bool {
    match items {
        SourceType::Other { name } => {
            let name = name.rsplit('.').next().unwrap_or(name);
            !["box", "geometry", "geography"].iter().any(|other| name.starts_with(other))
        }
        SourceType::Array(_) => false,
        _ => true,
    }
}

fn numeric(precision: Option<u16>, scale: Option<i16>) -> DraftType {
    let fits = precision.zip(scale).and_then(|(precision, scale)| {
        let (precision, scale) = (u32::from(precision), u32::try_from(scale).ok()?);
        (scale <= precision).then_some(BaseType::Decimal { precision, scale })
    });
    match fits {
        Some(base) => DraftType::plain(base),
        None => DraftType::with_doc(BaseType::String, "a decimal number as text, without limit of digits"),
    }
}
