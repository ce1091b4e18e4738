//! Which types can be a topic's key, and fed by what.

use super::{Pair, classify, refusal};
use crate::avro::FieldType;
use crate::contract::FeedOptions;
use crate::table::SourceType;

/// Whether the type's equality is the equality of its text, so that one key in SQL is one key in a topic.
pub fn is_key_type(source: &SourceType) -> bool {
    match source {
        SourceType::Bool
        | SourceType::Int2
        | SourceType::Int4
        | SourceType::Int8
        | SourceType::Oid
        | SourceType::Text
        | SourceType::Varchar
        | SourceType::Char
        | SourceType::Name
        | SourceType::Bytea
        | SourceType::Date
        | SourceType::Timestamp
        | SourceType::Timestamptz
        | SourceType::Uuid
        | SourceType::Enum { .. } => true,
        // 1.0 and 1.00 are one numeric, 'A' and 'a' one citext, 24 hours and a day one interval, 0 and -0 one float.
        SourceType::Numeric { .. }
        | SourceType::Money
        | SourceType::Citext
        | SourceType::Float4
        | SourceType::Float8
        | SourceType::Interval
        | SourceType::Time
        | SourceType::Timetz
        | SourceType::Json
        | SourceType::Jsonb
        | SourceType::Array(_)
        | SourceType::Other { .. } => false,
    }
}

/// The matrix for a key field: only exact pairs of types whose equality is the equality of their text.
///
/// Whether the column is NOT NULL, unique and of a deterministic collation is for the caller to see.
pub fn classify_key(source: &SourceType, field: &FieldType, options: &FeedOptions) -> Pair {
    if *options != FeedOptions::default() {
        return refusal::refused("a key field is a plain column", "leave nothing but `from` in its entry");
    }
    if field.null_branch.is_some() {
        return refusal::refused("a key field must not be nullable", "key fields have no `null` in their type");
    }
    if !is_key_type(source) {
        return refusal::refused(
            "values that are equal in SQL would have several texts, and be several keys",
            "use a key of integers, text, uuid, date or timestamps",
        );
    }
    match classify(source, field, options) {
        Pair::Exact => Pair::Exact,
        Pair::Checked => refusal::refused(
            "not every value fits, and a key takes exact pairs only",
            "use the type that `init` drafts",
        ),
        refused => refused,
    }
}
