//! Source types as messages call them.

use crate::table::SourceType;

/// A source type in a message, as PostgreSQL's catalog calls it.
pub fn source_type_name(source: &SourceType) -> String {
    let fixed = match source {
        SourceType::Bool => "bool",
        SourceType::Int2 => "int2",
        SourceType::Int4 => "int4",
        SourceType::Int8 => "int8",
        SourceType::Oid => "oid",
        SourceType::Float4 => "float4",
        SourceType::Float8 => "float8",
        SourceType::Numeric { precision: Some(precision), scale } => {
            return format!("numeric({precision},{})", scale.unwrap_or(0));
        }
        SourceType::Numeric { precision: None, .. } => "numeric",
        SourceType::Money => "money",
        SourceType::Text => "text",
        SourceType::Varchar => "varchar",
        SourceType::Char => "char(n)",
        SourceType::Name => "name",
        SourceType::Citext => "citext",
        SourceType::Bytea => "bytea",
        SourceType::Date => "date",
        SourceType::Time => "time",
        SourceType::Timetz => "timetz",
        SourceType::Interval => "interval",
        SourceType::Timestamp => "timestamp",
        SourceType::Timestamptz => "timestamptz",
        SourceType::Uuid => "uuid",
        SourceType::Json => "json",
        SourceType::Jsonb => "jsonb",
        SourceType::Enum { .. } => "enum",
        SourceType::Array(item) => return format!("{}[]", source_type_name(item)),
        SourceType::Other { name } => name,
    };
    fixed.to_owned()
}

/// `a`, `b`, `c`, cut where it gets long.
pub(super) fn list(names: &[String]) -> String {
    const SHOWN_MAX: usize = 12;
    let mut text = names.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_MAX {
        text.push_str(", …");
    }
    text
}
