//! Avro object container files: the bytes of a header, of blocks and of envelope records. Pure; no file is touched here.

use crate::batch::Op;
use crate::error::{Code, Error, Result};
use crate::position::Position;

/// The first bytes of every object container file.
pub const MAGIC: &[u8; 4] = b"Obj\x01";

/// Ends the header and every block of one file; chosen at random per file.
pub type SyncMarker = [u8; 16];

/// Appends Avro's variable-length zig-zag form of a long.
pub fn write_long(out: &mut Vec<u8>, n: i64) {
    let mut z = ((n << 1) ^ (n >> 63)) as u64;
    while z >= 0x80 {
        out.push(z as u8 | 0x80);
        z >>= 7;
    }
    out.push(z as u8);
}

/// Appends a length and the bytes: Avro's form of bytes and string.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Appends a file header: the schema's JSON, the codec `null`, the sync marker.
pub fn write_header(out: &mut Vec<u8>, schema: &str, sync: &SyncMarker) {
    out.extend_from_slice(MAGIC);
    write_long(out, 2);
    write_bytes(out, b"avro.schema");
    write_bytes(out, schema.as_bytes());
    write_bytes(out, b"avro.codec");
    write_bytes(out, b"null");
    write_long(out, 0);
    out.extend_from_slice(sync);
}

/// One change as it stands in a file. Key and value are Avro bodies without a frame.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// The outer `None`: the topic has no key at all. The inner: this record has none.
    pub key: Option<Option<&'a [u8]>>,
    /// Absent for a tombstone.
    pub value: Option<&'a [u8]>,
    /// What happened.
    pub op: Op,
    /// Where it stands.
    pub position: Position,
    /// Microseconds since 1970.
    pub timestamp: i64,
    /// Last of its transaction.
    pub last: bool,
    /// Names of the fields that were read again, separated by commas; empty for most records.
    pub reread: &'a [u8],
}

/// Gathers records into a block. Recycled: [`Block::finish`] keeps the memory.
#[derive(Debug, Default)]
pub struct Block {
    body: Vec<u8>,
    count: u64,
}

impl Block {
    /// Appends one record, in the order of the envelope's fields.
    pub fn push(&mut self, record: &Envelope<'_>) {
        let out = &mut self.body;
        if let Some(key) = record.key {
            write_optional(out, key);
        }
        write_optional(out, record.value);
        let symbol = match record.op {
            Op::Create => 0,
            Op::Update => 1,
            Op::Delete => 2,
            Op::Read => 3,
        };
        write_long(out, symbol);
        write_bytes(out, &record.position.text());
        write_long(out, record.timestamp);
        out.push(u8::from(record.last));
        if !record.reread.is_empty() {
            write_long(out, record.reread.split(|byte| *byte == b',').count() as i64);
            record.reread.split(|byte| *byte == b',').for_each(|name| write_bytes(out, name));
        }
        // The end of the array.
        out.push(0);
        self.count += 1;
    }

    /// Bytes gathered so far.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.body.capacity()
    }

    /// True without records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets what was gathered.
    pub fn clear(&mut self) {
        self.body.clear();
        self.count = 0;
    }

    /// Appends the block to `out`, if it has records, and empties it. Returns the number of records.
    pub fn finish(&mut self, out: &mut Vec<u8>, sync: &SyncMarker) -> u64 {
        let count = self.count;
        if count > 0 {
            write_long(out, count as i64);
            write_bytes(out, &self.body);
            out.extend_from_slice(sync);
        }
        self.clear();
        count
    }
}

/// A union of null and something: the branch, then the body.
fn write_optional(out: &mut Vec<u8>, body: Option<&[u8]>) {
    match body {
        None => out.push(0),
        Some(body) => {
            out.push(2);
            out.extend_from_slice(body);
        }
    }
}

/// Splits a Confluent frame: the schema id and the Avro body.
pub fn split_frame(framed: &[u8]) -> Result<(u32, &[u8])> {
    match framed {
        [0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        _ => Err(Error::definite(Code::Internal, "a key or value lacks its frame of zero byte and schema id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::sink::envelope::envelope_schema;
    use apache_avro::types::Value;

    const KEY: &str = r#"{"type":"record","name":"K","fields":[{"name":"id","type":"long"}]}"#;
    const VALUE: &str = r#"{"type":"record","name":"V","fields":[{"name":"t","type":["null","string"]}]}"#;

    #[test]
    fn longs_take_the_shortest_form_that_avro_defines() {
        for (n, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i64::MIN, &{ [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1] }),
        ] {
            let mut out = Vec::new();
            write_long(&mut out, n);
            assert_eq!(out, bytes, "{n}");
        }
    }

    #[test]
    fn the_reference_reader_sees_the_records_as_they_were_given() {
        let sync = [7; 16];
        let mut file = Vec::new();
        write_header(&mut file, &envelope_schema(Some(KEY), VALUE).unwrap(), &sync);
        let mut block = Block::default();
        let position = Position { epoch: 1, commit_lsn: Lsn(0xAB), ordinal: 3 };
        let value = [2, 4, b'h', b'i'];
        for (op, value, last) in [(Op::Create, Some(&value[..]), false), (Op::Delete, None, true)] {
            block.push(&Envelope {
                key: Some(Some(&[84])),
                value,
                op,
                position,
                timestamp: -5,
                last,
                reread: if last { b"note,body" } else { b"" },
            });
            assert_eq!(block.finish(&mut file, &sync), 1);
        }
        assert_eq!(block.finish(&mut file, &sync), 0, "an empty block leaves no bytes");
        let records: Vec<Value> = apache_avro::Reader::new(&file[..]).unwrap().map(|r| r.unwrap()).collect();
        let text = |s: &str| Value::String(s.into());
        let field = |i: usize, name: &str| match &records[i] {
            Value::Record(fields) => fields.iter().find(|(n, _)| n == name).unwrap().1.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(records.len(), 2);
        let key = Value::Record(vec![("id".into(), Value::Long(42))]);
        assert_eq!(field(0, "key"), Value::Union(1, Box::new(key)));
        let value = Value::Record(vec![("t".into(), Value::Union(1, Box::new(text("hi"))))]);
        assert_eq!(field(0, "value"), Value::Union(1, Box::new(value)));
        assert_eq!(field(1, "value"), Value::Union(0, Box::new(Value::Null)));
        assert_eq!((field(0, "op"), field(1, "op")), (Value::Enum(0, "c".into()), Value::Enum(2, "d".into())));
        assert_eq!(field(0, "pos"), text("0001-00000000000000AB-00000003"));
        assert_eq!(field(0, "ts"), Value::TimestampMicros(-5));
        assert_eq!((field(0, "last"), field(1, "last")), (Value::Boolean(false), Value::Boolean(true)));
        assert_eq!(field(0, "reread"), Value::Array(vec![]));
    }

    #[test]
    fn a_frame_is_split_or_refused() {
        assert_eq!(split_frame(&[0, 0, 0, 1, 2, 9]).unwrap(), (258, &[9][..]));
        assert!(split_frame(&[0, 0, 0, 1]).is_err() && split_frame(&[1, 0, 0, 0, 1]).is_err());
    }
}
