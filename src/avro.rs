//! The Avro that gimbal publishes: flat records of primitive, logical, enum, fixed and array types, nullable or not.

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
