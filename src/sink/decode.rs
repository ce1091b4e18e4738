//! Decodes envelope records by a plan compiled once per file, into the values of `apache_avro`.
//!
//! `apache_avro`'s own decoder resolves names for every record and takes a string that ends early for a null; this one
//! does neither. It knows the types that gimbal publishes and refuses others when the plan is compiled.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::schema::{InnerDecimalSchema, Name, RecordSchema, Schema, UuidSchema};
use apache_avro::types::Value;
use apache_avro::{Decimal, Uuid};

use crate::batch::Op;
use crate::error::{Code, Error, Result};
use crate::position::Position;
use crate::sink::envelope::ENVELOPE;

/// A type, ready to decode: references are followed, logical types are known.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Date,
    TimeMillis,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    LocalTimestampMillis,
    LocalTimestampMicros,
    /// uuid as text.
    UuidString,
    /// uuid as fixed(16).
    UuidFixed,
    /// Scale, and the size if it is a fixed.
    Decimal {
        scale: usize,
        fixed: Option<usize>,
    },
    Fixed(usize),
    Enum(Arc<[String]>),
    Array(Box<Node>),
    Union(Vec<Node>),
    Record(Vec<(String, Node)>),
}

/// The plan for the records of one file.
#[derive(Debug)]
pub struct EnvelopePlan {
    /// The `key` field's type: null, or a union of null and the key.
    pub key: Node,
    /// The `value` field's type: a union of null and the value.
    pub value: Node,
}

/// One decoded envelope, without its plan.
#[derive(Debug)]
pub struct Decoded {
    pub key: Option<Value>,
    pub value: Option<Value>,
    pub op: Op,
    pub position: Position,
    pub timestamp: i64,
    pub last: bool,
    pub reread: Vec<String>,
}

impl EnvelopePlan {
    /// Compiles the schema in a file's header. `None` if it is not an envelope of known types.
    pub fn compile(schema: &str) -> Option<EnvelopePlan> {
        let Schema::Record(envelope) = Schema::parse_str(schema).ok()? else { return None };
        let names: Vec<&str> = envelope.fields.iter().map(|field| field.name.as_str()).collect();
        if envelope.name.name() != ENVELOPE || names != ["key", "value", "op", "pos", "ts", "last", "reread"] {
            return None;
        }
        let mut compiler = Compiler::default();
        let mut fields = compiler.record(&envelope, None)?.into_iter().map(|(_, node)| node);
        Some(EnvelopePlan { key: fields.next()?, value: fields.next()? })
    }

    /// The Avro body of the next record's key, and whether the record is a tombstone; moves `bytes` past it. `None` if the
    /// bytes are not such a record; the inner `None` if it has no key.
    pub fn decode_key<'a>(&self, bytes: &mut &'a [u8]) -> Option<(Option<&'a [u8]>, bool)> {
        let (record, mut rest) = (*bytes, *bytes);
        let key = optional(&self.key, &mut rest)?;
        // In front of the key stands the branch of its union, one byte.
        let body = record.get(1..record.len() - rest.len()).filter(|_| key.is_some());
        let decoded = self.decode(bytes)?;
        Some((body, decoded.value.is_none()))
    }

    /// Decodes the next record and moves `bytes` past it. `None` if the bytes are not such a record.
    pub fn decode(&self, bytes: &mut &[u8]) -> Option<Decoded> {
        Some(Decoded {
            key: optional(&self.key, bytes)?,
            value: optional(&self.value, bytes)?,
            op: match read_long(bytes)? {
                0 => Op::Create,
                1 => Op::Update,
                2 => Op::Delete,
                3 => Op::Read,
                _ => return None,
            },
            position: std::str::from_utf8(read_bytes(bytes)?).ok()?.parse().ok()?,
            timestamp: read_long(bytes)?,
            last: read_boolean(bytes)?,
            reread: read_array(bytes, read_string)?,
        })
    }
}

/// What stands in a union of null and something; a bare null is always absent.
fn optional(node: &Node, bytes: &mut &[u8]) -> Option<Option<Value>> {
    match node.decode(bytes)? {
        Value::Null => Some(None),
        Value::Union(_, inner) if *inner == Value::Null => Some(None),
        Value::Union(_, inner) => Some(Some(*inner)),
        _ => None,
    }
}

#[derive(Default)]
struct Compiler {
    /// Finished definitions. A type that contains itself finds none, and is refused.
    named: HashMap<String, Node>,
}

impl Compiler {
    fn record(&mut self, record: &RecordSchema, outer: Option<&str>) -> Option<Vec<(String, Node)>> {
        let full_name = record.name.fullname(outer);
        let namespace = full_name.rsplit_once('.').map(|(namespace, _)| namespace);
        record.fields.iter().map(|field| Some((field.name.clone(), self.node(&field.schema, namespace)?))).collect()
    }

    fn define(&mut self, name: &Name, outer: Option<&str>, node: Node) -> Node {
        self.named.insert(name.fullname(outer), node.clone());
        node
    }

    fn node(&mut self, schema: &Schema, namespace: Option<&str>) -> Option<Node> {
        Some(match schema {
            Schema::Null => Node::Null,
            Schema::Boolean => Node::Boolean,
            Schema::Int => Node::Int,
            Schema::Long => Node::Long,
            Schema::Float => Node::Float,
            Schema::Double => Node::Double,
            Schema::Bytes => Node::Bytes,
            Schema::String => Node::String,
            Schema::Date => Node::Date,
            Schema::TimeMillis => Node::TimeMillis,
            Schema::TimeMicros => Node::TimeMicros,
            Schema::TimestampMillis => Node::TimestampMillis,
            Schema::TimestampMicros => Node::TimestampMicros,
            Schema::LocalTimestampMillis => Node::LocalTimestampMillis,
            Schema::LocalTimestampMicros => Node::LocalTimestampMicros,
            Schema::Uuid(UuidSchema::String) => Node::UuidString,
            Schema::Uuid(UuidSchema::Fixed(fixed)) => self.define(&fixed.name, namespace, Node::UuidFixed),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => Node::Decimal { scale: decimal.scale, fixed: None },
                InnerDecimalSchema::Fixed(fixed) => {
                    let node = Node::Decimal { scale: decimal.scale, fixed: Some(fixed.size) };
                    self.define(&fixed.name, namespace, node)
                }
            },
            Schema::Fixed(fixed) => self.define(&fixed.name, namespace, Node::Fixed(fixed.size)),
            Schema::Enum(symbols) => {
                self.define(&symbols.name, namespace, Node::Enum(symbols.symbols.as_slice().into()))
            }
            Schema::Array(array) => Node::Array(Box::new(self.node(&array.items, namespace)?)),
            Schema::Union(union) => {
                Node::Union(union.variants().iter().map(|b| self.node(b, namespace)).collect::<Option<_>>()?)
            }
            Schema::Record(record) => {
                let fields = self.record(record, namespace)?;
                self.define(&record.name, namespace, Node::Record(fields))
            }
            Schema::Ref { name } => self.named.get(&name.fullname(namespace))?.clone(),
            _ => return None,
        })
    }
}

impl Node {
    /// The plan of any published schema. `None` if it uses what gimbal does not publish.
    pub fn compile(schema: &str) -> Option<Node> {
        Compiler::default().node(&Schema::parse_str(schema).ok()?, None)
    }

    /// Of a union of null and another type: the other; anything else is itself.
    pub fn present(&self) -> &Node {
        match self {
            Node::Union(branches) => branches.iter().find(|branch| **branch != Node::Null).unwrap_or(self),
            _ => self,
        }
    }

    /// Decodes one value and moves `bytes` past it. `None` if the bytes are not of this type.
    pub fn decode(&self, bytes: &mut &[u8]) -> Option<Value> {
        Some(match self {
            Node::Null => Value::Null,
            Node::Boolean => Value::Boolean(read_boolean(bytes)?),
            Node::Int => Value::Int(read_int(bytes)?),
            Node::Long => Value::Long(read_long(bytes)?),
            Node::Float => Value::Float(f32::from_le_bytes(take(bytes, 4)?.try_into().ok()?)),
            Node::Double => Value::Double(f64::from_le_bytes(take(bytes, 8)?.try_into().ok()?)),
            Node::Bytes => Value::Bytes(read_bytes(bytes)?.to_vec()),
            Node::String => Value::String(read_string(bytes)?),
            Node::Date => Value::Date(read_int(bytes)?),
            Node::TimeMillis => Value::TimeMillis(read_int(bytes)?),
            Node::TimeMicros => Value::TimeMicros(read_long(bytes)?),
            Node::TimestampMillis => Value::TimestampMillis(read_long(bytes)?),
            Node::TimestampMicros => Value::TimestampMicros(read_long(bytes)?),
            Node::LocalTimestampMillis => Value::LocalTimestampMillis(read_long(bytes)?),
            Node::LocalTimestampMicros => Value::LocalTimestampMicros(read_long(bytes)?),
            Node::UuidString => Value::Uuid(Uuid::try_parse_ascii(read_bytes(bytes)?).ok()?),
            Node::UuidFixed => Value::Uuid(Uuid::from_slice(take(bytes, 16)?).ok()?),
            Node::Decimal { fixed: None, .. } => Value::Decimal(Decimal::from(read_bytes(bytes)?)),
            Node::Decimal { fixed: Some(size), .. } => Value::Decimal(Decimal::from(take(bytes, *size)?)),
            Node::Fixed(size) => Value::Fixed(*size, take(bytes, *size)?.to_vec()),
            Node::Enum(symbols) => {
                let index = read_int(bytes)?;
                Value::Enum(index as u32, symbols.get(usize::try_from(index).ok()?)?.clone())
            }
            Node::Array(item) => Value::Array(read_array(bytes, |bytes| item.decode(bytes))?),
            Node::Union(branches) => {
                let index = read_long(bytes)?;
                let branch = branches.get(usize::try_from(index).ok()?)?;
                Value::Union(index as u32, Box::new(branch.decode(bytes)?))
            }
            Node::Record(fields) => {
                let mut values = Vec::with_capacity(fields.len());
                for (name, node) in fields {
                    values.push((name.clone(), node.decode(bytes)?));
                }
                Value::Record(values)
            }
        })
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

/// Reads a variable-length zig-zag long of at most ten bytes.
pub fn read_long(bytes: &mut &[u8]) -> Option<i64> {
    let mut z = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte has room for one bit.
        if i == 9 && *byte > 1 {
            return None;
        }
        z |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            *bytes = bytes.get(i + 1..)?;
            return Some((z >> 1) as i64 ^ -((z & 1) as i64));
        }
    }
    None
}

fn read_int(bytes: &mut &[u8]) -> Option<i32> {
    read_long(bytes)?.try_into().ok()
}

fn read_boolean(bytes: &mut &[u8]) -> Option<bool> {
    match take(bytes, 1)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// Reads a length and that many bytes.
pub fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = read_long(bytes)?;
    take(bytes, usize::try_from(len).ok()?)
}

fn read_string(bytes: &mut &[u8]) -> Option<String> {
    Some(std::str::from_utf8(read_bytes(bytes)?).ok()?.to_owned())
}

/// Reads an array's blocks, those with a byte length included.
fn read_array<'a, T>(bytes: &mut &'a [u8], mut item: impl FnMut(&mut &'a [u8]) -> Option<T>) -> Option<Vec<T>> {
    let mut items = Vec::new();
    loop {
        let mut count = read_long(bytes)?;
        if count == 0 {
            return Some(items);
        }
        if count < 0 {
            read_long(bytes)?;
            count = count.checked_neg()?;
        }
        let count = usize::try_from(count).ok()?;
        // No published item takes no byte, so a count beyond the bytes is damage, not a reason to allocate.
        if count > bytes.len() {
            return None;
        }
        items.reserve(count);
        for _ in 0..count {
            items.push(item(bytes)?);
        }
    }
}

/// What a file's header holds.
#[derive(Debug)]
pub struct Header {
    /// The schema's JSON.
    pub schema: String,
    /// The sync marker.
    pub sync: [u8; 16],
    /// Length of the header in bytes.
    pub len: usize,
}

/// Reads a header. `None` if the bytes do not begin with a whole one.
pub fn read_header(bytes: &[u8]) -> Result<Option<Header>> {
    let Some(mut rest) = bytes.strip_prefix(crate::sink::ocf::MAGIC) else { return Ok(None) };
    let Some(entries) = read_array(&mut rest, |rest| Some((read_bytes(rest)?, read_bytes(rest)?))) else {
        return Ok(None);
    };
    let entry = |name: &[u8]| entries.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    match entry(b"avro.codec") {
        None | Some(b"null") => {}
        Some(codec) => {
            let codec = String::from_utf8_lossy(codec).escape_debug().to_string();
            return Err(Error::definite(
                Code::SinkDamaged,
                format!("a file has codec `{codec}`, gimbal writes `null`"),
            ));
        }
    }
    let schema = entry(b"avro.schema").and_then(|schema| std::str::from_utf8(schema).ok());
    let (Some(schema), Some(sync)) = (schema, take(&mut rest, 16).and_then(|sync| sync.try_into().ok())) else {
        return Ok(None);
    };
    Ok(Some(Header { schema: schema.to_owned(), sync, len: bytes.len() - rest.len() }))
}
