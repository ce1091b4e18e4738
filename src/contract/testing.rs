//! Tables for the tests of this module.

use crate::table::{
    ColumnImage, ColumnKind, EnumLabel, QualifiedName, RelationId, ReplicaIdentity, SourceType, TableImage, UniqueKey,
};

/// A table from its columns: name, type as it prints, type, not null.
pub(crate) fn table(name: &str, columns: Vec<(&str, &str, SourceType, bool)>, key: &[&str]) -> TableImage {
    let columns: Vec<ColumnImage> = columns
        .into_iter()
        .zip(1i16..)
        .map(|((name, type_name, source_type, not_null), attnum)| ColumnImage {
            attnum,
            kind: ColumnKind::Ordinary,
            name: name.into(),
            type_oid: 20,
            typmod: -1,
            type_name: type_name.into(),
            source_type,
            not_null,
        })
        .collect();
    let attnums: Vec<i16> =
        key.iter().map(|name| columns.iter().find(|column| column.name == *name).unwrap().attnum).collect();
    let keys = match attnums.is_empty() {
        true => vec![],
        false => vec![UniqueKey { name: format!("{name}_pkey"), attnums, primary: true, replica_identity: false }],
    };
    TableImage {
        relation: RelationId(16_400),
        name: QualifiedName { namespace: "public".into(), name: name.into() },
        partitioned: false,
        carried_by_leaves: None,
        replica_identity: ReplicaIdentity::Default,
        columns,
        keys,
    }
}

/// `public.orders`, with one column of each kind that contracts have trouble with.
pub(crate) fn orders_table() -> TableImage {
    let status = SourceType::Enum {
        labels: [(1, "new"), (2, "paid"), (3, "shipped")]
            .map(|(oid, label)| EnumLabel { oid, label: label.into() })
            .to_vec(),
    };
    let amount = SourceType::Numeric { precision: Some(12), scale: Some(2) };
    let mut image = table(
        "orders",
        vec![
            ("id", "bigint", SourceType::Int8, true),
            ("customer_id", "integer", SourceType::Int4, false),
            ("amount", "numeric(12,2)", amount, true),
            ("status", "order_status", status, true),
            ("created_at", "timestamp without time zone", SourceType::Timestamp, true),
            ("shipping", "jsonb", SourceType::Jsonb, false),
            ("code", "uuid", SourceType::Uuid, true),
            ("total", "numeric(12,2)", SourceType::Numeric { precision: Some(12), scale: Some(2) }, false),
            ("gone", "", SourceType::Text, false),
        ],
        &["id"],
    );
    image.columns[7].kind = ColumnKind::Generated;
    image.columns[8].kind = ColumnKind::Dropped;
    image.keys.push(UniqueKey {
        name: "orders_code_key".into(),
        attnums: vec![7],
        primary: false,
        replica_identity: false,
    });
    image
}
