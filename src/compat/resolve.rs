//! One direction of Avro's schema resolution, for flat records.

use std::fmt;

use crate::avro::{AvroSchema, BaseType, FieldType};

/// Why a reader cannot take what a writer wrote. Types are given as reader, then writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The reader has a field that the writer lacks, and no default for it.
    NoDefault,
    /// The writer may write a null that the reader has no branch for.
    Null,
    /// The types do not resolve.
    Type(String, String),
    /// The bytes resolve, but mean another thing.
    Meaning(String, String),
    /// A named type, or the record, has another full name.
    Name(String, String),
    /// Symbols that the reader's enum lacks, without a default to stand for them.
    Symbols {
        /// The enum's name.
        name: String,
        /// What it lacks.
        missing: Vec<String>,
    },
    /// Another size of a fixed.
    Size(usize, usize),
    /// Another precision or scale of a decimal.
    Decimal(String, String),
}

impl Reason {
    /// Whether the other reason is this one seen from the other side.
    pub(super) fn mirrors(&self, other: &Reason) -> bool {
        match (self, other) {
            (Reason::Type(a, b), Reason::Type(c, d) | Reason::Meaning(c, d))
            | (Reason::Meaning(a, b), Reason::Type(c, d) | Reason::Meaning(c, d))
            | (Reason::Name(a, b), Reason::Name(c, d))
            | (Reason::Decimal(a, b), Reason::Decimal(c, d)) => a == d && b == c,
            (Reason::Size(a, b), Reason::Size(c, d)) => a == d && b == c,
            _ => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoDefault => f.write_str("only one of the two has it, and it has no default"),
            Reason::Null => f.write_str("one allows null, the other does not"),
            Reason::Type(reader, writer) => write!(f, "`{writer}` cannot be read as `{reader}`"),
            Reason::Meaning(reader, writer) => write!(f, "`{writer}` does not mean the same as `{reader}`"),
            Reason::Name(reader, writer) => write!(f, "`{writer}` and `{reader}` are different names"),
            Reason::Symbols { name, missing } => {
                write!(f, "enum `{name}` lacks `{}` and has no default", missing.join("`, `"))
            }
            Reason::Size(reader, writer) => write!(f, "fixed({writer}) cannot be read as fixed({reader})"),
            Reason::Decimal(reader, writer) => write!(f, "`{writer}` and `{reader}` differ in precision or scale"),
        }
    }
}

/// Why `reader` cannot read what `writer` wrote; empty if it can.
pub(super) fn reads(reader: &AvroSchema, writer: &AvroSchema) -> Vec<(Option<String>, Reason)> {
    let mut found = Vec::new();
    if reader.record.name != writer.record.name {
        found.push((None, Reason::Name(reader.record.name.clone(), writer.record.name.clone())));
    }
    for field in &reader.record.fields {
        // A reader looks for its own name first, then for its aliases; the writer's aliases do not count.
        let aliases = reader.aliases.get(&field.name).into_iter().flatten();
        let written = std::iter::once(&field.name).chain(aliases).find_map(|name| writer.record.field(name));
        let reason = match written {
            Some(written) => type_reads(&field.ty, &written.ty),
            None => field.default.is_none().then_some(Reason::NoDefault),
        };
        found.extend(reason.map(|reason| (Some(field.name.clone()), reason)));
    }
    found
}

fn type_reads(reader: &FieldType, writer: &FieldType) -> Option<Reason> {
    if writer.is_nullable() && !reader.is_nullable() {
        return Some(Reason::Null);
    }
    base_reads(&reader.base, &writer.base)
}

fn base_reads(reader: &BaseType, writer: &BaseType) -> Option<Reason> {
    use BaseType::{Array, Bytes, Decimal, Double, Enum, Fixed, Float, Int, Long, String, UuidString};
    let differ = |reason: fn(std::string::String, std::string::String) -> Reason| {
        Some(reason(reader.to_string(), writer.to_string()))
    };
    match (reader, writer) {
        (Long | Float | Double, Int) | (Float | Double, Long) | (Double, Float) => None,
        (Enum { name, symbols, default }, Enum { name: writer_name, symbols: written, .. }) => {
            if name != writer_name {
                return Some(Reason::Name(name.clone(), writer_name.clone()));
            }
            let missing: Vec<_> = written.iter().filter(|symbol| !symbols.contains(symbol)).cloned().collect();
            (default.is_none() && !missing.is_empty()).then(|| Reason::Symbols { name: name.clone(), missing })
        }
        (Fixed { name, size }, Fixed { name: writer_name, size: written }) => {
            if name != writer_name {
                return Some(Reason::Name(name.clone(), writer_name.clone()));
            }
            (size != written).then_some(Reason::Size(*size, *written))
        }
        (Decimal { .. }, Decimal { .. }) if reader != writer => differ(Reason::Decimal),
        (Array(items), Array(written)) => type_reads(items, written),
        _ if reader == writer => None,
        // Avro lets text and bytes stand for each other, and forgets logical types.
        (Bytes | String | UuidString | Decimal { .. }, Bytes | String | UuidString | Decimal { .. }) => {
            differ(Reason::Meaning)
        }
        _ if physical(reader).is_some_and(|rank| physical(writer).is_some_and(|written| written <= rank)) => {
            differ(Reason::Meaning)
        }
        _ => differ(Reason::Type),
    }
}

/// The place of the physical type in int → long → float → double; none for other types.
fn physical(base: &BaseType) -> Option<u8> {
    Some(match base {
        BaseType::Int | BaseType::Date => 0,
        BaseType::Long
        | BaseType::TimeMicros
        | BaseType::TimestampMillis
        | BaseType::TimestampMicros
        | BaseType::LocalTimestampMicros => 1,
        BaseType::Float => 2,
        BaseType::Double => 3,
        _ => return None,
    })
}
