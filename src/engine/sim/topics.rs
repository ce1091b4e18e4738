//! The model's contracts: two fields that every one has, and texts that tell where they come from.

use std::sync::Arc;

use crate::avro::{BaseType, Field, FieldType, RecordSchema};
use crate::contract::{Backfill, ContractKind, ContractVersion, Feed, FeedOptions, FeedSource, VersionStatus};
use crate::daemon::bind::Ids;
use crate::state::{CachedId, ParcelIds};
use crate::table::TableImage;

/// A decoded value: key, version, texts in the order of the contract's columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub key: i64,
    pub version: i64,
    pub texts: Vec<Option<String>>,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Good,
    Dead,
    Parked,
}

/// A contract of the model.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    pub table: usize,
    pub kind: ContractKind,
    /// Attribute numbers of its texts.
    pub columns: Vec<i16>,
    pub backfill: Backfill,
    /// Its texts are numbers: what is none does not fit.
    pub numbers: bool,
    /// Its texts must not be null.
    pub required: bool,
    /// From this session on.
    pub since: usize,
    /// It is taken out again before this one.
    pub until: usize,
    /// The file as somebody wrote it, with the names of that day.
    pub version: Option<Arc<ContractVersion>>,
}

impl Topic {
    /// A state contract with a snapshot, from the first session to the last.
    pub fn new(name: String, table: usize, columns: Vec<i16>) -> Topic {
        let (kind, backfill) = (ContractKind::State, Backfill::Snapshot);
        let (numbers, required) = (false, false);
        Topic { name, table, kind, columns, backfill, numbers, required, since: 0, until: usize::MAX, version: None }
    }

    pub fn active(&self, session: usize) -> bool {
        (self.since..self.until).contains(&session)
    }

    /// Writes the contract's file, against the table as it is now.
    pub fn write(&mut self, image: &TableImage) -> Arc<ContractVersion> {
        let field = |name: String, ty: FieldType| Field { name, ty, default: None };
        let id = field("id".to_owned(), FieldType::required(BaseType::Long));
        let mut fields = vec![id.clone(), field("ver".to_owned(), FieldType::required(BaseType::Long))];
        for attnum in &self.columns {
            let base = if self.numbers { BaseType::Long } else { BaseType::String };
            let ty = if self.required { FieldType::required(base) } else { FieldType::nullable(base) };
            fields.push(field(format!("f{attnum}"), ty));
        }
        let from = |attnum: i16| image.attnum(attnum).map(|column| column.name.clone()).unwrap();
        let feed = |field: &str, attnum: i16| Feed {
            field: field.to_owned(),
            source: FeedSource::Column { from: from(attnum), options: FeedOptions::default() },
        };
        let attnums = [1, 2].into_iter().chain(self.columns.iter().copied());
        let feeds = fields.iter().zip(attnums).map(|(field, attnum)| feed(&field.name, attnum)).collect();
        let record = |fields| Arc::new(RecordSchema { name: "sim.Row".to_owned(), fields });
        let version = Arc::new(ContractVersion {
            contract: self.name.clone(),
            major: 1,
            minor: 0,
            topic: self.name.clone(),
            partitions: 1,
            kind: self.kind,
            append_only: false,
            source: image.name.clone(),
            backfill: self.backfill,
            status: VersionStatus::Active,
            key: vec!["id".to_owned()],
            key_schema: Some(record(vec![id])),
            key_schema_json: None,
            schema: record(fields),
            schema_json: String::new(),
            feeds,
        });
        self.version = Some(version.clone());
        version
    }

    pub fn ids(&self) -> Ids {
        let id = |id| CachedId { id, fingerprint: String::new() };
        let parcels = Some(ParcelIds { parked: id(3), dead: id(4) });
        Ids { key: Some(id(1)), value: id(2), parcels }
    }

    /// What a row is under this contract.
    pub fn project(&self, row: &[Option<String>]) -> Value {
        let cell = |attnum: i16| row.get(attnum as usize - 1).cloned().flatten();
        let number = |attnum| cell(attnum).unwrap().parse().unwrap();
        Value { key: number(1), version: number(2), texts: self.columns.iter().map(|attnum| cell(*attnum)).collect() }
    }

    /// What must become of a record with this row.
    pub fn fate(&self, row: &[Option<String>], unchanged: &[i16]) -> Fate {
        for attnum in &self.columns {
            match row.get(*attnum as usize - 1).cloned().flatten() {
                _ if unchanged.contains(attnum) => return Fate::Dead,
                None if self.required => return Fate::Parked,
                Some(text) if self.numbers && text.parse::<i64>().is_err() => return Fate::Dead,
                _ => {}
            }
        }
        Fate::Good
    }

    /// Decodes a framed value.
    pub fn decode(&self, bytes: &[u8]) -> Value {
        let mut rest = unframe(bytes, 2);
        let (key, version) = (long(&mut rest), long(&mut rest));
        let one = |rest: &mut &[u8]| match self.numbers {
            true => long(rest).to_string(),
            false => text(rest),
        };
        let texts =
            self.columns.iter().map(|_| (self.required || long(&mut rest) == 1).then(|| one(&mut rest))).collect();
        assert!(rest.is_empty());
        Value { key, version, texts }
    }
}

/// Decodes a framed key.
pub fn decode_key(bytes: &[u8]) -> i64 {
    let mut rest = unframe(bytes, 1);
    let key = long(&mut rest);
    assert!(rest.is_empty());
    key
}

pub fn unframe(bytes: &[u8], id: u8) -> &[u8] {
    assert_eq!(bytes[..5], [0, 0, 0, 0, id]);
    &bytes[5..]
}

pub fn long(rest: &mut &[u8]) -> i64 {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
    }
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub fn text(rest: &mut &[u8]) -> String {
    let len = long(rest) as usize;
    let (text, after) = rest.split_at(len);
    *rest = after;
    String::from_utf8(text.to_vec()).unwrap()
}
