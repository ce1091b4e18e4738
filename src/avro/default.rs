//! Whether a JSON value is a legal default of a field, as Avro demands: it must fit the first branch of a union.

use serde_json::Value;

use super::{BaseType, FieldType};

/// Why the value cannot be a default of the type; none if it can.
pub(super) fn misfit(ty: &FieldType, value: &Value) -> Option<String> {
    if ty.null_branch == Some(0) {
        return (!value.is_null()).then(|| "it must be null".to_owned());
    }
    base_misfit(&ty.base, value)
}

fn base_misfit(base: &BaseType, value: &Value) -> Option<String> {
    let wanted = |what: &str| Some(format!("it must be {what}"));
    match base {
        BaseType::Boolean if !value.is_boolean() => wanted("true or false"),
        BaseType::Int | BaseType::Date if value.as_i64().is_none_or(|n| i32::try_from(n).is_err()) => {
            wanted("a whole number of 32 bits")
        }
        BaseType::Long
        | BaseType::TimeMicros
        | BaseType::TimestampMillis
        | BaseType::TimestampMicros
        | BaseType::LocalTimestampMicros
            if value.as_i64().is_none() =>
        {
            wanted("a whole number of 64 bits")
        }
        BaseType::Float | BaseType::Double if !value.is_number() => wanted("a number"),
        BaseType::String | BaseType::UuidString if !value.is_string() => wanted("a text"),
        BaseType::Bytes | BaseType::Decimal { .. } if byte_count(value).is_none() => {
            wanted("a text whose characters stand for bytes, \\u0000 to \\u00ff")
        }
        BaseType::UuidFixed if byte_count(value) != Some(16) => wanted("a text of 16 characters that stand for bytes"),
        BaseType::Fixed { size, .. } if byte_count(value) != Some(*size) => {
            wanted(&format!("a text of {size} characters that stand for bytes"))
        }
        BaseType::Enum { symbols, .. } if !value.as_str().is_some_and(|text| symbols.iter().any(|s| s == text)) => {
            wanted("one of the symbols")
        }
        BaseType::Array(items) => match value.as_array() {
            Some(list) => {
                list.iter().find_map(|item| misfit(items, item)).map(|reason| format!("in an item, {reason}"))
            }
            None => wanted("a list"),
        },
        _ => None,
    }
}

/// How many bytes a JSON text stands for in Avro, where each character is one byte.
fn byte_count(value: &Value) -> Option<usize> {
    let text = value.as_str()?;
    text.chars().all(|c| u32::from(c) <= 0xff).then(|| text.chars().count())
}
