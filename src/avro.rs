//! The Avro that gimbal publishes: flat records of primitive, logical, enum, fixed and array types, nullable or not.
//!
//! [`AvroSchema::parse`] reads an `.avsc` text and reports every problem with its JSON pointer;
//! [`RecordSchema::to_json`] writes a schema that gimbal derives itself, such as a key's.

mod default;
mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use parse::{AvroSchema, SchemaProblem, is_legal_name};

use std::fmt;

/// A record schema: the value or the key of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordSchema {
    /// Full name.
    pub name: String,
    /// In schema order.
    pub fields: Vec<Field>,
}

/// One field.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: FieldType,
    /// The default for readers, where the schema has one.
    pub default: Option<serde_json::Value>,
}

/// A field's type: `T`, `["null", T]` or `[T, "null"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldType {
    /// The branch of null in the union, if any: 0 or 1.
    pub null_branch: Option<u8>,
    /// The other branch, or the whole type.
    pub base: BaseType,
}

/// The types that a field can promise.
#[derive(Clone, Debug, PartialEq)]
pub enum BaseType {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// int, logical `date`.
    Date,
    /// long, logical `time-micros`.
    TimeMicros,
    /// long, logical `timestamp-millis`.
    TimestampMillis,
    /// long, logical `timestamp-micros`.
    TimestampMicros,
    /// long, logical `local-timestamp-micros`.
    LocalTimestampMicros,
    /// string, logical `uuid`.
    UuidString,
    /// fixed(16), logical `uuid`.
    UuidFixed,
    /// bytes, logical `decimal`.
    Decimal {
        precision: u32,
        scale: u32,
    },
    Fixed {
        name: String,
        size: usize,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
        default: Option<String>,
    },
    Array(Box<FieldType>),
}

impl RecordSchema {
    /// Parses the text of an `.avsc` file; warnings are dropped, errors are all there.
    pub fn parse(json: &str) -> Result<RecordSchema, Vec<SchemaProblem>> {
        AvroSchema::parse(json).map(|parsed| parsed.record)
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Namespace and simple name.
    pub fn split_name(&self) -> (Option<&str>, &str) {
        match self.name.rsplit_once('.') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, &self.name),
        }
    }
}

impl FieldType {
    /// `T` alone.
    pub fn required(base: BaseType) -> FieldType {
        FieldType { null_branch: None, base }
    }

    /// `["null", T]`.
    pub fn nullable(base: BaseType) -> FieldType {
        FieldType { null_branch: Some(0), base }
    }

    /// Whether null is one of its values.
    pub fn is_nullable(&self) -> bool {
        self.null_branch.is_some()
    }
}

/// The type in a few words, for messages: `long`, `nullable string (uuid)`, `bytes (decimal(12,2))`.
impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nullable() {
            f.write_str("nullable ")?;
        }
        self.base.fmt(f)
    }
}

impl fmt::Display for BaseType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaseType::Boolean => f.write_str("boolean"),
            BaseType::Int => f.write_str("int"),
            BaseType::Long => f.write_str("long"),
            BaseType::Float => f.write_str("float"),
            BaseType::Double => f.write_str("double"),
            BaseType::Bytes => f.write_str("bytes"),
            BaseType::String => f.write_str("string"),
            BaseType::Date => f.write_str("int (date)"),
            BaseType::TimeMicros => f.write_str("long (time-micros)"),
            BaseType::TimestampMillis => f.write_str("long (timestamp-millis)"),
            BaseType::TimestampMicros => f.write_str("long (timestamp-micros)"),
            BaseType::LocalTimestampMicros => f.write_str("long (local-timestamp-micros)"),
            BaseType::UuidString => f.write_str("string (uuid)"),
            BaseType::UuidFixed => f.write_str("fixed(16) (uuid)"),
            BaseType::Decimal { precision, scale } => write!(f, "bytes (decimal({precision},{scale}))"),
            BaseType::Fixed { name, size } => write!(f, "fixed({size}) {name}"),
            BaseType::Enum { name, .. } => write!(f, "enum {name}"),
            BaseType::Array(items) => write!(f, "array of {items}"),
        }
    }
}
