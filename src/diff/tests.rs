//! Each change, its verdict, and what the error says.

use super::*;
use crate::error::{Code, Kind};
use crate::lsn::Lsn;
use crate::table::{ColumnImage, ColumnKind, RelationId};

fn column(attnum: i16, name: &str, type_oid: u32, type_name: &str, source_type: SourceType) -> ColumnImage {
    ColumnImage {
        attnum,
        kind: ColumnKind::Ordinary,
        name: name.to_owned(),
        type_oid,
        typmod: -1,
        type_name: type_name.to_owned(),
        source_type,
        not_null: attnum == 1,
    }
}

fn label(oid: u32, label: &str) -> EnumLabel {
    EnumLabel { oid, label: label.to_owned() }
}

fn primary_key() -> UniqueKey {
    UniqueKey { name: "orders_pkey".to_owned(), attnums: vec![1], primary: true, replica_identity: false }
}

fn orders() -> TableImage {
    let labels = vec![label(901, "new"), label(902, "paid")];
    TableImage {
        relation: RelationId(7),
        name: QualifiedName { namespace: "shop".to_owned(), name: "orders".to_owned() },
        partitioned: false,
        carried_by_leaves: None,
        replica_identity: ReplicaIdentity::Default,
        columns: vec![
            column(1, "id", 20, "bigint", SourceType::Int8),
            column(2, "amount", 23, "integer", SourceType::Int4),
            column(3, "status", 900, "public.status", SourceType::Array(Box::new(SourceType::Enum { labels }))),
            ColumnImage { typmod: 14, ..column(4, "code", 1043, "character varying(10)", SourceType::Varchar) },
        ],
        keys: vec![primary_key()],
    }
}

fn changed(change: impl FnOnce(&mut TableImage)) -> Vec<SchemaChange> {
    let mut newer = orders();
    change(&mut newer);
    between_images(&orders(), &newer)
}

/// The single change, its verdict for a contract on all four columns with key `id`, and for one that binds only the key.
fn judged(change: impl FnOnce(&mut TableImage)) -> (SchemaChange, Verdict, Verdict) {
    let changes = changed(change);
    assert_eq!(changes.len(), 1, "{changes:?}");
    let change = changes.into_iter().next().unwrap();
    let (all, unbound) = (verdict(&change, &[1, 2, 3, 4], &[1]), verdict(&change, &[1], &[1]));
    (change, all, unbound)
}

fn message(change: &SchemaChange, verdict: Verdict) -> String {
    let error = verdict.check(change, &orders().name, "orders v3", Lsn(0x01A2_B3C8)).unwrap_err();
    assert_eq!(error.kind(), Kind::Definite);
    assert!(error.hint_text().is_some());
    error.diagnosis().to_owned()
}

#[test]
fn nothing_changed_is_no_change() {
    assert_eq!(changed(|_| {}), []);
}

#[test]
fn a_rename_follows() {
    let (change, bound, unbound) = judged(|t| t.columns[1].name = "total".to_owned());
    assert_eq!(change, SchemaChange::ColumnRenamed { attnum: 2, from: "amount".to_owned(), to: "total".to_owned() });
    assert_eq!((bound, unbound), (Verdict::Followed, Verdict::Unaffected));
    assert!(bound.check(&change, &orders().name, "orders v3", Lsn(1)).is_ok());
}

#[test]
fn two_columns_that_swap_names_are_two_renames() {
    let changes = changed(|t| {
        t.columns[1].name = "code".to_owned();
        t.columns[3].name = "amount".to_owned();
    });
    assert!(matches!(
        changes[..],
        [SchemaChange::ColumnRenamed { attnum: 2, .. }, SchemaChange::ColumnRenamed { attnum: 4, .. }]
    ));
}

#[test]
fn an_added_column_leaves_every_contract_alone() {
    let (change, bound, _) = judged(|t| t.columns.push(column(5, "note", 25, "text", SourceType::Text)));
    assert!(matches!(change, SchemaChange::ColumnAdded { attnum: 5, .. }));
    assert_eq!(bound, Verdict::Unaffected);
}

#[test]
fn a_dropped_column_breaks_only_who_reads_it() {
    let (change, bound, unbound) = judged(|t| t.columns[1].kind = ColumnKind::Dropped);
    assert_eq!((bound, unbound), (Verdict::Broken(Code::ColumnDropped), Verdict::Unaffected));
    let expected =
        "column `amount` of type `integer` was dropped from `shop.orders` (contract `orders v3` reads it) at 0/1A2B3C8";
    assert_eq!(message(&change, bound), expected);
}

#[test]
fn a_dropped_column_whose_name_is_used_again_is_broken_and_not_a_retype() {
    let changes = changed(|t| {
        t.columns[1].kind = ColumnKind::Dropped;
        t.columns.push(column(5, "amount", 23, "integer", SourceType::Int4));
    });
    let verdicts: Vec<Verdict> = changes.iter().map(|change| verdict(change, &[1, 2], &[1])).collect();
    assert_eq!(verdicts, [Verdict::Broken(Code::ColumnDropped), Verdict::Unaffected]);
}

#[test]
fn a_retyped_column_breaks_only_who_reads_it() {
    let (change, bound, unbound) = judged(|t| {
        t.columns[1] = column(2, "amount", 25, "text", SourceType::Text);
    });
    assert_eq!((bound, unbound), (Verdict::Followed, Verdict::Unaffected));
    let expected = "column `amount` of `shop.orders` changed type from `integer` to `text`";
    assert_eq!(describe(&change, &orders().name), expected);
}

#[test]
fn another_modifier_is_followed_by_whoever_reads_it() {
    let (change, bound, unbound) = judged(|t| {
        t.columns[3].typmod = 24;
        t.columns[3].type_name = "character varying(20)".to_owned();
    });
    assert!(matches!(change, SchemaChange::TypmodChanged { attnum: 4, .. }));
    assert_eq!((bound, unbound), (Verdict::Followed, Verdict::Unaffected));
    assert!(describe(&change, &orders().name).contains("from `character varying(10)` to `character varying(20)`"));
}

#[test]
fn nullability_breaks_a_key_and_nothing_else() {
    let (_, bound, _) = judged(|t| t.columns[1].not_null = true);
    assert_eq!(bound, Verdict::Followed);
    let (change, bound, _) = judged(|t| t.columns[0].not_null = false);
    assert_eq!(bound, Verdict::Broken(Code::KeyLost));
    assert!(message(&change, bound).contains("column `id` of `shop.orders` is no longer NOT NULL"));
}

#[test]
fn enum_labels_are_compared_by_oid_also_inside_arrays() {
    let set = |labels: Vec<EnumLabel>| {
        judged(move |t| t.columns[2].source_type = SourceType::Array(Box::new(SourceType::Enum { labels })))
    };
    let (change, bound, _) = set(vec![label(903, "draft"), label(901, "new"), label(902, "paid")]);
    assert!(matches!(&change, SchemaChange::LabelsChanged { added, .. } if *added == ["draft"]));
    assert_eq!(bound, Verdict::Followed);

    let (change, bound, unbound) = set(vec![label(901, "open"), label(902, "paid")]);
    assert_eq!((bound, unbound), (Verdict::Broken(Code::ColumnRetyped), Verdict::Unaffected));
    assert!(
        message(&change, bound).contains("the labels of column `status` of `shop.orders` changed: `new` became `open`")
    );

    let (_, bound, _) = set(vec![label(902, "paid")]);
    assert_eq!(bound, Verdict::Broken(Code::ColumnRetyped));
}

#[test]
fn a_renamed_table_or_namespace_follows() {
    for (namespace, name) in [("shop", "orders2"), ("old", "orders")] {
        let name = QualifiedName { namespace: namespace.to_owned(), name: name.to_owned() };
        let (change, bound, _) = judged(|t| t.name = name.clone());
        assert_eq!(change, SchemaChange::TableRenamed { from: orders().name, to: name });
        assert_eq!(bound, Verdict::Followed);
    }
}

#[test]
fn a_replica_identity_must_cover_the_key() {
    let (_, bound, _) = judged(|t| t.replica_identity = ReplicaIdentity::Full);
    assert_eq!(bound, Verdict::Followed);
    let (change, bound, _) = judged(|t| t.replica_identity = ReplicaIdentity::Nothing);
    assert_eq!(bound, Verdict::Broken(Code::ReplicaIdentityLost));
    let expected = "the replica identity of `shop.orders` changed from DEFAULT to NOTHING and now has none \
                    (contract `orders v3` needs its key in every old row) at 0/1A2B3C8";
    assert_eq!(message(&change, bound), expected);
    assert_eq!(verdict(&change, &[1], &[]), Verdict::Unaffected, "append-only without a key");

    let index = UniqueKey { name: "u".to_owned(), attnums: vec![2], primary: false, replica_identity: true };
    let changes = changed(|t| {
        t.replica_identity = ReplicaIdentity::Index;
        t.keys.push(index);
    });
    let SchemaChange::ReplicaIdentityChanged { columns, .. } = &changes[0] else { panic!("{changes:?}") };
    assert_eq!(columns[..], [(2, "amount".to_owned())]);
    assert_eq!(verdict(&changes[0], &[1, 2], &[1]), Verdict::Broken(Code::ReplicaIdentityLost));
    assert_eq!(verdict(&changes[0], &[1, 2], &[2]), Verdict::Followed);
}

#[test]
fn a_primary_key_on_other_columns_is_seen_by_the_streams_key_flags() {
    let older = TableVersion::of_image(&orders());
    let mut newer = older.clone();
    newer.columns[0].identity = false;
    newer.columns[1].identity = true;
    let changes = between(&older, &newer, &[]);
    assert_eq!(changes.len(), 1);
    assert_eq!(verdict(&changes[0], &[1, 2], &[1]), Verdict::Broken(Code::ReplicaIdentityLost));
}

#[test]
fn a_column_added_under_identity_full_does_not_change_the_identity() {
    let mut older = orders();
    older.replica_identity = ReplicaIdentity::Full;
    let mut newer = older.clone();
    newer.columns.push(column(5, "note", 25, "text", SourceType::Text));
    let changes = between_images(&older, &newer);
    assert!(matches!(changes[..], [SchemaChange::ColumnAdded { attnum: 5, .. }]), "{changes:?}");
}

#[test]
fn a_key_needs_a_unique_index_within_its_columns() {
    let wider = UniqueKey { name: "wide".to_owned(), attnums: vec![1, 2], primary: false, replica_identity: false };
    let key_change = |keys: Vec<UniqueKey>| {
        changed(|t| t.keys = keys).into_iter().find(|change| matches!(change, SchemaChange::KeyChanged { .. }))
    };
    let change = key_change(vec![wider.clone()]).unwrap();
    assert_eq!(verdict(&change, &[1, 2], &[1]), Verdict::Broken(Code::KeyLost));
    assert_eq!(verdict(&change, &[1, 2], &[2, 1]), Verdict::Followed);
    assert!(message(&change, Verdict::Broken(Code::KeyLost)).contains("changed from `orders_pkey` to `wide`"));
    let change = key_change(vec![primary_key(), wider]).unwrap();
    assert_eq!(verdict(&change, &[1], &[1]), Verdict::Followed);
    let renamed = UniqueKey { name: "pk".to_owned(), ..primary_key() };
    assert_eq!(key_change(vec![renamed]), None, "an index's name says nothing");
}

#[test]
fn a_column_that_cannot_be_told_breaks_who_reads_it_and_is_not_called_dropped() {
    let older = TableVersion::of_image(&orders());
    let mut newer = older.clone();
    newer.columns.remove(1);
    newer.columns[1].attnum = None;
    newer.columns[2].attnum = None;
    let candidate = |attnum: i16, name: &str| Candidate {
        attnum,
        name: name.to_owned(),
        places: vec![(1, "status".to_owned()), (2, "code".to_owned())],
        maybe_unlisted: true,
    };
    let uncertain = [candidate(2, "amount"), candidate(3, "status"), candidate(4, "code")];
    let changes = between(&older, &newer, &uncertain);
    assert_eq!(changes.len(), 3);
    let verdicts: Vec<Verdict> = changes.iter().map(|change| verdict(change, &[1, 2], &[1])).collect();
    assert_eq!(verdicts, [Verdict::Broken(Code::IdentityUnknown), Verdict::Unaffected, Verdict::Unaffected]);
    let expected = "column `amount` of `shop.orders` (attribute 2) cannot be told for certain: the stream now lists \
                    `id`, `status`, `code`, and it may be `status` or `code` or gone (contract `orders v3` reads it) at 0/1A2B3C8";
    assert_eq!(message(&changes[0], verdicts[0]), expected);
}
