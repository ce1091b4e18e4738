//! The JSON texts of the image statement → [`TableImage`].

use std::collections::BTreeMap;

use serde::Deserialize;

use super::unexpected;
use crate::error::Result;
use crate::table::{
    ColumnImage, ColumnKind, EnumLabel, QualifiedName, RelationId, ReplicaIdentity, SourceType, TableImage, UniqueKey,
};

/// Deepest nesting of domains and arrays that is followed; PostgreSQL itself cannot nest a type into itself.
const TYPE_DEPTH_MAX: usize = 64;

/// Bytes of a varlena header, which `numeric` adds to its modifier.
const VARHDRSZ: i32 = 4;

#[derive(Deserialize)]
struct Table {
    oid: u32,
    namespace: String,
    name: String,
    partitioned: bool,
    replica_identity: char,
    columns: Option<Vec<Column>>,
    keys: Option<Vec<UniqueKey>>,
    carried_by_leaves: Option<Vec<i16>>,
}

#[derive(Deserialize)]
struct Column {
    attnum: i16,
    dropped: bool,
    generated: bool,
    name: String,
    #[serde(rename = "type")]
    type_oid: u32,
    typmod: i32,
    type_name: Option<String>,
    not_null: bool,
}

#[derive(Deserialize)]
struct Type {
    oid: u32,
    kind: char,
    type_name: String,
    name: String,
    /// Of a domain.
    base: Option<u32>,
    base_typmod: i32,
    /// Of an array.
    element: Option<u32>,
    /// Of an enum that has any.
    labels: Option<Vec<EnumLabel>>,
}

/// The types that the columns of all tables need, by oid.
#[derive(Default)]
pub(super) struct Types(BTreeMap<u32, Type>);

impl Types {
    /// Understands the types' JSON.
    pub(super) fn parse(json: &str) -> Result<Types> {
        let types: Vec<Type> =
            serde_json::from_str(json).map_err(|err| unexpected(&format!("types of the catalog image: {err}")))?;
        Ok(Types(types.into_iter().map(|t| (t.oid, t)).collect()))
    }

    /// Understands one table's JSON. Fails on what PostgreSQL never says.
    pub(super) fn image(&self, json: &str) -> Result<TableImage> {
        let table: Table = serde_json::from_str(json).map_err(|err| unexpected(&format!("catalog image: {err}")))?;
        let name = QualifiedName { namespace: table.namespace, name: table.name };
        let mut columns = Vec::new();
        for (column, attnum) in table.columns.into_iter().flatten().zip(1..) {
            if column.attnum != attnum {
                return Err(unexpected(&format!("table `{name}` lacks attribute {attnum}")));
            }
            columns.push(column_image(column, &self.0));
        }
        let not_null = |attnum: &i16| columns.iter().any(|c| c.attnum == *attnum && c.not_null);
        let mut keys: Vec<UniqueKey> = table.keys.into_iter().flatten().collect();
        keys.retain(|key| key.attnums.iter().all(not_null));
        let replica_identity = match table.replica_identity {
            'd' => ReplicaIdentity::Default,
            'f' => ReplicaIdentity::Full,
            'i' => ReplicaIdentity::Index,
            'n' => ReplicaIdentity::Nothing,
            other => return Err(unexpected(&format!("table `{name}` has replica identity `{other}`"))),
        };
        let (relation, partitioned) = (RelationId(table.oid), table.partitioned);
        let carried_by_leaves = table.carried_by_leaves;
        Ok(TableImage { relation, name, partitioned, replica_identity, columns, keys, carried_by_leaves })
    }
}

fn column_image(column: Column, types: &BTreeMap<u32, Type>) -> ColumnImage {
    if column.dropped {
        // What PostgreSQL leaves in a dropped column's row means nothing, and must not make two images differ.
        return ColumnImage {
            attnum: column.attnum,
            kind: ColumnKind::Dropped,
            name: String::new(),
            type_oid: 0,
            typmod: -1,
            type_name: String::new(),
            source_type: SourceType::Other { name: String::new() },
            not_null: false,
        };
    }
    ColumnImage {
        attnum: column.attnum,
        kind: if column.generated { ColumnKind::Generated } else { ColumnKind::Ordinary },
        source_type: source_type(column.type_oid, column.typmod, types, TYPE_DEPTH_MAX),
        name: column.name,
        type_oid: column.type_oid,
        typmod: column.typmod,
        type_name: column.type_name.unwrap_or_default(),
        not_null: column.not_null,
    }
}

fn source_type(oid: u32, typmod: i32, types: &BTreeMap<u32, Type>, depth: usize) -> SourceType {
    if let Some(built_in) = built_in(oid, typmod) {
        return built_in;
    }
    let Some(known) = types.get(&oid) else { return SourceType::Other { name: format!("type {oid}") } };
    let inner = |oid: u32, typmod: i32| source_type(oid, typmod, types, depth.saturating_sub(1));
    match known {
        _ if depth == 0 => SourceType::Other { name: known.type_name.clone() },
        // A domain's columns have no modifier of their own; an array's is its items'.
        Type { base: Some(base), .. } => inner(*base, known.base_typmod),
        Type { element: Some(element), .. } => SourceType::Array(Box::new(inner(*element, typmod))),
        Type { kind: 'e', labels, .. } => SourceType::Enum { labels: labels.clone().unwrap_or_default() },
        Type { kind: 'b', name, .. } if name == "citext" => SourceType::Citext,
        Type { type_name, .. } => SourceType::Other { name: type_name.clone() },
    }
}

/// Types whose oid is the same on every server.
fn built_in(oid: u32, typmod: i32) -> Option<SourceType> {
    Some(match oid {
        16 => SourceType::Bool,
        17 => SourceType::Bytea,
        19 => SourceType::Name,
        20 => SourceType::Int8,
        21 => SourceType::Int2,
        23 => SourceType::Int4,
        25 => SourceType::Text,
        26 => SourceType::Oid,
        114 => SourceType::Json,
        700 => SourceType::Float4,
        701 => SourceType::Float8,
        790 => SourceType::Money,
        1042 => SourceType::Char,
        1043 => SourceType::Varchar,
        1082 => SourceType::Date,
        1083 => SourceType::Time,
        1114 => SourceType::Timestamp,
        1184 => SourceType::Timestamptz,
        1186 => SourceType::Interval,
        1266 => SourceType::Timetz,
        1700 => numeric(typmod),
        2950 => SourceType::Uuid,
        3802 => SourceType::Jsonb,
        _ => return None,
    })
}

/// Precision is in the upper half of the modifier, the scale in its lowest 11 bits, signed since PostgreSQL 15.
fn numeric(typmod: i32) -> SourceType {
    if typmod < VARHDRSZ {
        return SourceType::Numeric { precision: None, scale: None };
    }
    let packed = typmod - VARHDRSZ;
    let scale = ((packed & 0x7FF) ^ 0x400) - 0x400;
    SourceType::Numeric { precision: u16::try_from(packed >> 16).ok(), scale: i16::try_from(scale).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numeric_modifiers_are_taken_apart() {
        let numeric = |typmod| match numeric(typmod) {
            SourceType::Numeric { precision, scale } => (precision, scale),
            other => panic!("{other:?}"),
        };
        assert_eq!(numeric(-1), (None, None));
        assert_eq!(numeric((12 << 16 | 2) + 4), (Some(12), Some(2)));
        assert_eq!(numeric((1000 << 16 | 1000) + 4), (Some(1000), Some(1000)));
        assert_eq!(numeric((3 << 16 | (-2 & 0x7FF)) + 4), (Some(3), Some(-2)));
    }

    #[test]
    fn a_gap_in_the_attribute_numbers_is_refused() {
        let column = r#"{"attnum":2,"dropped":false,"generated":false,"name":"a","type":25,"typmod":-1,"type_name":"text","not_null":false}"#;
        let table = format!(
            r#"{{"oid":1,"namespace":"s","name":"t","partitioned":false,"replica_identity":"d","columns":[{column}],"keys":null}}"#
        );
        assert!(Types::default().image(&table).unwrap_err().diagnosis().contains("table `s.t` lacks attribute 1"));
        assert!(Types::default().image(&table.replace(r#""attnum":2"#, r#""attnum":1"#)).is_ok());
        assert!(
            Types::default().image(&table.replace(r#"[{"attnum"#, r#"null,"x":[{"attnum"#)).unwrap().columns.is_empty()
        );
    }

    #[test]
    fn a_type_that_would_hold_itself_ends() {
        let looped = Type {
            oid: 9,
            kind: 'd',
            type_name: "s.loop".to_owned(),
            name: "loop".to_owned(),
            base: Some(9),
            base_typmod: -1,
            element: None,
            labels: None,
        };
        assert_eq!(source_type(9, -1, &[(9, looped)].into(), 5), SourceType::Other { name: "s.loop".to_owned() });
    }
}
