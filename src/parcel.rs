//! A parcel: a row event that could not be published, as it stands in a parked or dead-letter topic.
//!
//! Everything that tells where it belongs and why it is there is plain; the row itself is sealed, because nobody can say
//! which of its texts is personal. The plain text of the sealed part is read again by `tail --unseal`, and by whatever
//! takes parked rows back:
//!
//! ```text
//!  format (1) │ columns: count, then attnum, name, type oid, type name of each │ old row │ new row
//!  a row: 0 = absent, or 1 │ a cell of each column: 0 = null, 1 = unchanged, 2 = text: length and bytes
//! ```
//!
//! Numbers are Avro's longs, texts Avro's bytes. The column number is 0 where it was not certain.

use crate::error::Result;
use crate::position::Position;
use crate::projection::encode::{bytes, frame, long};
use crate::row::{Datum, Row};
use crate::seal::Sealer;
use crate::table::TableVersion;

/// The frozen schema of a parcel.
pub const SCHEMA: &str = concat!(
    r#"{"type":"record","name":"Parcel","namespace":"gimbal","doc":"A change that could not be published.","fields":["#,
    r#"{"name":"contract","type":"string"},"#,
    r#"{"name":"version","type":"int","doc":"The contract's major."},"#,
    r#"{"name":"pos","type":"string","doc":"Where the record would stand in the contract's topic."},"#,
    r#"{"name":"op","type":"string","doc":"c, u, d, r as in the contract's topic; t for a TRUNCATE, without row."},"#,
    r#"{"name":"ts","type":{"type":"long","logicalType":"timestamp-micros"},"doc":"Commit time."},"#,
    r#"{"name":"reason","type":"string","doc":"A reason such as nan, or an error code such as E0201."},"#,
    r#"{"name":"field","type":["null","string"],"doc":"The schema field, where it is about one.","default":null},"#,
    r#"{"name":"masked_key","type":["null","string"],"doc":"Equal for equal keys; null without a key.","default":null},"#,
    r#"{"name":"table_version","type":"string","doc":"The table's oid and the position from which it looked so."},"#,
    r#"{"name":"sealed","type":"bytes","doc":"The row; `gimbal tail TOPIC --unseal` shows it."}]}"#
);

/// The suffix of the topic of a parked contract's changes.
pub const PARKED_SUFFIX: &str = ".parked";

/// The suffix of the topic of dead letters.
pub const DEAD_SUFFIX: &str = ".dead";

/// The `op` of a TRUNCATE.
pub const TRUNCATE: &str = "t";

const FORMAT: u8 = 1;

/// A row event to be set aside.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// The contract's name.
    pub contract: &'a str,
    /// Its major.
    pub major: u32,
    /// Of the record.
    pub position: Position,
    /// c, u, d, r or [`TRUNCATE`].
    pub op: &'a str,
    /// Commit time, microseconds since 1970.
    pub timestamp: i64,
    /// A dead letter's reason, or the code for which the contract is parked.
    pub reason: &'a str,
    /// The schema field, where it is about one.
    pub field: Option<&'a str>,
    /// See [`crate::seal::SealKey::mask`].
    pub masked_key: Option<&'a str>,
    /// How the cells are laid out.
    pub table: &'a TableVersion,
    /// From where on the table looked so.
    pub table_since: Position,
    /// The row as it was, where the change carries it.
    pub old: Option<Row<'a>>,
    /// The row as it is.
    pub new: Option<Row<'a>>,
}

impl Parcel<'_> {
    /// Appends the framed record, with the row sealed.
    pub fn encode(&self, schema_id: u32, sealer: &mut Sealer, out: &mut Vec<u8>) -> Result<()> {
        let sealed = sealer.seal(self.contract, self.major, self.position, &self.plain())?;
        out.extend_from_slice(&frame(schema_id));
        bytes(self.contract.as_bytes(), out);
        long(i64::from(self.major), out);
        bytes(self.position.to_string().as_bytes(), out);
        bytes(self.op.as_bytes(), out);
        long(self.timestamp, out);
        bytes(self.reason.as_bytes(), out);
        optional(self.field, out);
        optional(self.masked_key, out);
        bytes(format!("{}@{}", self.table.relation, self.table_since).as_bytes(), out);
        bytes(&sealed, out);
        Ok(())
    }

    fn plain(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        let columns = &self.table.columns;
        long(columns.len() as i64, &mut out);
        for column in columns {
            long(i64::from(column.attnum.unwrap_or(0)), &mut out);
            bytes(column.name.as_bytes(), &mut out);
            long(i64::from(column.type_oid), &mut out);
            bytes(column.type_name.as_bytes(), &mut out);
        }
        for row in [self.old, self.new] {
            let Some(row) = row else {
                out.push(0);
                continue;
            };
            out.push(1);
            for place in 0..columns.len() {
                match row.get(place) {
                    Datum::Null => out.push(0),
                    Datum::Unchanged => out.push(1),
                    Datum::Text(text) => {
                        out.push(2);
                        bytes(text, &mut out);
                    }
                }
            }
        }
        out
    }
}

fn optional(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None => long(0, out),
        Some(text) => {
            long(1, out);
            bytes(text.as_bytes(), out);
        }
    }
}

/// A column of an opened parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The attribute number, where it was certain.
    pub attnum: Option<i16>,
    /// Its name.
    pub name: String,
    /// Its type's oid.
    pub type_oid: u32,
    /// Its type's name.
    pub type_name: String,
}

/// A column's value in an opened parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// See [`Datum::Unchanged`].
    Unchanged,
    /// PostgreSQL's output text.
    Text(Vec<u8>),
}

/// The row of a parcel, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// In the order of the stream.
    pub columns: Vec<Column>,
    /// The row as it was; one value a column.
    pub old: Option<Vec<Value>>,
    /// The row as it is; one value a column.
    pub new: Option<Vec<Value>>,
}

impl Contents {
    /// Reads the plain text of a parcel's sealed part; nothing if it is none.
    pub fn read(plain: &[u8]) -> Option<Contents> {
        let mut rest = Rest(plain);
        if rest.byte()? != FORMAT {
            return None;
        }
        let count = rest.size()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            let attnum = i16::try_from(rest.long()?).ok()?;
            let name = String::from_utf8(rest.bytes()?.to_vec()).ok()?;
            let type_oid = u32::try_from(rest.long()?).ok()?;
            let type_name = String::from_utf8(rest.bytes()?.to_vec()).ok()?;
            columns.push(Column { attnum: Some(attnum).filter(|attnum| *attnum > 0), name, type_oid, type_name });
        }
        let (old, new) = (rest.row(count)?, rest.row(count)?);
        rest.0.is_empty().then_some(Contents { columns, old, new })
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn long(&mut self) -> Option<i64> {
        let mut bits = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            bits |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        None
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.long()?).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.size()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn row(&mut self, columns: usize) -> Option<Option<Vec<Value>>> {
        match self.byte()? {
            0 => Some(None),
            1 => (0..columns).map(|_| self.value()).collect::<Option<Vec<Value>>>().map(Some),
            _ => None,
        }
    }

    fn value(&mut self) -> Option<Value> {
        Some(match self.byte()? {
            0 => Value::Null,
            1 => Value::Unchanged,
            2 => Value::Text(self.bytes()?.to_vec()),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value as Avro;

    use super::*;
    use crate::lsn::Lsn;
    use crate::row::Cell;
    use crate::seal::{Context, NONCE_BYTES, SealKey};
    use crate::table::{QualifiedName, RelationId, ReplicaIdentity, VersionColumn};

    fn table() -> TableVersion {
        let column = |attnum: Option<i16>, name: &str| VersionColumn {
            attnum,
            name: name.to_owned(),
            type_oid: 25,
            typmod: -1,
            type_name: "text".to_owned(),
            source_type: None,
            not_null: false,
            identity: false,
        };
        TableVersion {
            relation: RelationId(16_400),
            name: QualifiedName { namespace: "public".into(), name: "t".into() },
            replica_identity: ReplicaIdentity::Default,
            columns: vec![column(Some(1), "id"), column(None, "odd \"name\""), column(Some(4), "body")],
        }
    }

    fn text(start: u32, len: u32) -> Cell {
        Cell::Text { start, len }
    }

    #[test]
    fn a_parcel_is_a_record_of_its_schema_and_its_row_opens() {
        let schema = apache_avro::Schema::parse_str(SCHEMA).unwrap();
        let key = SealKey::parse(&"0a".repeat(32)).unwrap();
        let mut sealer = Sealer::new(key, "shop", Box::new(|| Ok([7; NONCE_BYTES])));
        let position = Position { epoch: 0, commit_lsn: Lsn(32), ordinal: 1 };
        let (buffer, table) = (b"1canary", table());
        let (old, new) = ([text(0, 1), Cell::Null, Cell::Null], [text(0, 1), Cell::Unchanged, text(1, 6)]);
        let parcel = Parcel {
            contract: "orders",
            major: 2,
            position,
            op: "u",
            timestamp: 5,
            reason: "nan",
            field: Some("total"),
            masked_key: None,
            table: &table,
            table_since: Position { ordinal: 0, ..position },
            old: Some(Row { buffer, cells: &old }),
            new: Some(Row { buffer, cells: &new }),
        };
        let mut out = Vec::new();
        parcel.encode(9, &mut sealer, &mut out).unwrap();
        assert_eq!(out[..5], [0, 0, 0, 0, 9]);
        assert!(!out.windows(6).any(|window| window == b"canary"));
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
        let decoded = reader.read_value(&mut &out[5..]).unwrap();
        let Avro::Record(fields) = decoded else { panic!() };
        assert_eq!(fields[2].1, Avro::String("0000-0000000000000020-00000001".into()));
        assert_eq!(fields[5].1, Avro::String("nan".into()));
        assert_eq!(fields[7].1, Avro::Union(0, Box::new(Avro::Null)));
        assert_eq!(fields[8].1, Avro::String("16400@0000-0000000000000020-00000000".into()));
        let Avro::Bytes(sealed) = &fields[9].1 else { panic!() };
        let context = Context { pipeline: "shop", contract: "orders", major: 2, position };
        let contents = Contents::read(&sealer.key().open(&context, sealed).unwrap()).unwrap();
        assert_eq!(contents.columns[1].attnum, None);
        assert_eq!((contents.columns[1].name.as_str(), contents.columns[2].attnum), ("odd \"name\"", Some(4)));
        let text = |text: &[u8]| Value::Text(text.to_vec());
        assert_eq!(contents.old, Some(vec![text(b"1"), Value::Null, Value::Null]));
        assert_eq!(contents.new, Some(vec![text(b"1"), Value::Unchanged, text(b"canary")]));
    }

    #[test]
    fn what_is_no_parcel_is_not_read() {
        let huge = [1, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
        for bytes in [&b""[..], &[2], &[1], &[1, 2], &[1, 0, 0], &[1, 0, 0, 0, 0], &[1, 0, 2, 0], &huge] {
            assert_eq!(Contents::read(bytes), None, "{bytes:?}");
        }
        assert!(Contents::read(&[1, 0, 0, 0]).is_some_and(|empty| empty.new.is_none()));
    }
}
