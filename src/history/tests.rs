//! Samples, visibility and versions, one behaviour a test.

use super::*;
use crate::lsn::Lsn;
use crate::table::{ColumnImage, ColumnKind, SourceType};

pub(crate) fn column(attnum: i16, name: &str) -> ColumnImage {
    ColumnImage {
        attnum,
        kind: ColumnKind::Ordinary,
        name: name.to_owned(),
        type_oid: 25,
        typmod: -1,
        type_name: "text".to_owned(),
        source_type: SourceType::Text,
        not_null: attnum == 1,
    }
}

pub(crate) fn image(columns: Vec<ColumnImage>) -> TableImage {
    TableImage {
        relation: RelationId(7),
        name: QualifiedName { namespace: "public".to_owned(), name: "t".to_owned() },
        partitioned: false,
        carried_by_leaves: None,
        replica_identity: ReplicaIdentity::Default,
        columns,
        keys: Vec::new(),
    }
}

/// A table whose columns have these names; `-` in front: dropped, `+`: generated.
fn table(names: &[&str]) -> TableImage {
    let columns = (1..).zip(names).map(|(attnum, name)| match name.strip_prefix('-') {
        Some(name) => ColumnImage { kind: ColumnKind::Dropped, ..column(attnum, name) },
        None => column(attnum, name),
    });
    image(columns.collect())
}

pub(super) fn listing(image: &TableImage) -> Listing {
    let version = TableVersion::of_image(image);
    let listed = version.columns.into_iter().map(|column| ListedColumn {
        name: column.name,
        type_oid: column.type_oid,
        typmod: column.typmod,
        identity: column.identity,
    });
    Listing {
        relation: version.relation,
        name: version.name,
        replica_identity: version.replica_identity,
        columns: listed.collect(),
    }
}

fn sample(names: &[&str], snapshot: &str) -> Sample {
    Sample { image: table(names), snapshot: snapshot.parse().unwrap() }
}

fn history(samples: &[(&[&str], &str)]) -> History {
    let mut history = History::default();
    for (names, snapshot) in samples {
        history.observe(sample(names, snapshot));
    }
    history
}

fn attnums(version: &TableVersion) -> Vec<Option<i16>> {
    version.columns.iter().map(|column| column.attnum).collect()
}

fn at(lsn: u64) -> Position {
    Position { epoch: 0, commit_lsn: Lsn(lsn), ordinal: 0 }
}

#[test]
fn a_table_without_a_sample_that_sees_the_transaction_needs_one() {
    let listing = listing(&table(&["id", "b"]));
    assert_eq!(History::default().resolve(&listing, 10), Resolution::NeedSample);
    let history = history(&[(&["id", "b"], "10:10:")]);
    assert_eq!(history.resolve(&listing, 10), Resolution::NeedSample);
}

#[test]
fn a_sample_read_after_delivery_that_does_not_see_the_transaction_is_not_the_newer_image() {
    // Transaction 12 dropped `b` and added `d`; it is stalled on a standby, so 12 is running in the second snapshot.
    let mut history = history(&[(&["id", "b", "c"], "10:10:"), (&["id", "b", "c"], "12:14:12")]);
    let sent = listing(&table(&["id", "-b", "c", "d"]));
    assert_eq!(history.resolve(&sent, 12), Resolution::NeedSample, "`c` would pass for `b`");
    history.observe(sample(&["id", "-b", "c", "d"], "14:14:"));
    match history.resolve(&sent, 12) {
        Resolution::Unknown { version, candidates } => {
            assert_eq!(
                attnums(&version),
                [Some(1), None, None],
                "a drop and an add in one window cannot be told apart"
            );
            let second = &candidates[0];
            assert_eq!((second.attnum, second.name.as_str(), second.maybe_unlisted), (2, "b", true));
            assert_eq!(second.places, [(1, "c".to_owned())]);
        }
        other => panic!("{other:?}"),
    }
    // The next transaction lies between two equal images.
    history.observe(sample(&["id", "-b", "c", "d"], "20:20:"));
    match history.resolve(&sent, 15) {
        Resolution::Version(version, Certainty::Exact) => assert_eq!(attnums(&version), [Some(1), Some(3), Some(4)]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn equal_images_around_the_transaction_are_exact_whatever_the_names() {
    let history = history(&[(&["id", "b", "c"], "10:10:"), (&["id", "b2", "c"], "20:20:")]);
    let mut sent = listing(&table(&["id", "c", "b"]));
    sent.columns[1].type_oid = 1043;
    let Resolution::Version(version, Certainty::Exact) = history.resolve(&sent, 15) else { panic!("not exact") };
    assert_eq!(attnums(&version), [Some(1), Some(2), Some(3)]);
    let column = &version.columns[1];
    assert_eq!((column.name.as_str(), column.type_oid, &column.source_type), ("c", 1043, &None));
    assert_eq!(version.columns[2].source_type, Some(SourceType::Text));
    assert!(version.columns[0].not_null);
}

#[test]
fn a_column_added_in_the_window_is_inferred() {
    let history = history(&[(&["id", "b"], "10:10:"), (&["id", "b", "c"], "20:20:")]);
    let Resolution::Version(version, Certainty::Inferred) = history.resolve(&listing(&table(&["id", "b"])), 15) else {
        panic!("before the change")
    };
    assert_eq!(attnums(&version), [Some(1), Some(2)]);
    let after = history.resolve(&listing(&table(&["id", "b", "c"])), 15);
    assert!(matches!(after, Resolution::Version(version, Certainty::Inferred) if version.columns[2].attnum == Some(3)));
}

#[test]
fn the_images_nearest_to_the_transaction_are_used() {
    let history = history(&[
        (&["id"], "10:10:"),
        (&["id", "b"], "20:20:"),
        (&["id", "b", "c"], "30:30:"),
        (&["id", "b", "c", "d"], "40:40:"),
    ]);
    for (xid, names, certainty) in
        [(5, 1, Certainty::Inferred), (15, 1, Certainty::Inferred), (25, 3, Certainty::Inferred)]
    {
        let names = &["id", "b", "c", "d"][..names];
        let found = history.resolve(&listing(&table(names)), xid);
        assert!(matches!(&found, Resolution::Version(_, c) if *c == certainty), "{xid}: {found:?}");
    }
    let far = history.resolve(&listing(&table(&["id", "b", "c", "d"])), 15);
    assert!(
        matches!(far, Resolution::Contradiction(Contradiction::Length { listed: 4, least: 1, most: 2 })),
        "{far:?}"
    );
}

#[test]
fn a_transaction_that_every_sample_sees_is_resolved_from_the_time_before_the_table() {
    let whole = history(&[(&["id", "b"], "20:20:")]);
    let found = whole.resolve(&listing(&table(&["id", "b"])), 15);
    assert!(matches!(found, Resolution::Version(_, Certainty::Inferred)), "{found:?}");
    let dropped = history(&[(&["id", "-b", "c"], "20:20:")]);
    let found = dropped.resolve(&listing(&table(&["id", "-b", "c"])), 15);
    assert!(matches!(found, Resolution::Unknown { .. }), "{found:?}");
}

#[test]
fn an_old_sample_is_no_reference_for_short_ids() {
    let then = 1u64 << 32;
    let mut history = history(&[(&["id", "b"], &format!("{then}:{then}:"))]);
    // Three thousand million transactions later the table is the same; the stream is near.
    let now = then + 3_000_000_000;
    history.observe_unchanged(RelationId(7), format!("{now}:{now}:").parse().unwrap());
    let listing = listing(&table(&["id", "b"]));
    assert!(matches!(history.resolve(&listing, (now - 5) as u32), Resolution::Version(_, Certainty::Exact)));
    assert_eq!(history.resolve(&listing, (now + 5) as u32), Resolution::NeedSample);
}

#[test]
fn a_sample_that_lacks_what_an_earlier_one_saw_is_left_out() {
    let mut history = history(&[(&["id", "b"], "20:20:")]);
    assert_eq!(history.observe(sample(&["id"], "15:20:15")), Observed::Stale);
    assert_eq!(history.observe(sample(&["id"], "15:15:")), Observed::Stale);
    assert_eq!(history.observe(sample(&["id", "b"], "20:22:20")), Observed::Unchanged);
    assert_eq!(history.observe(sample(&["id", "b", "c"], "23:23:")), Observed::Changed);
    assert_eq!(history.newest(RelationId(7)).unwrap().1.to_string(), "23:23:");
}

#[test]
fn a_snapshot_with_running_ids_past_the_others_xmax_still_covers_it() {
    // As the snapshot of a new slot: ids that it takes for running lie beyond the next ordinary snapshot's xmax.
    let mut history = history(&[(&["id"], "20:23:20,21,22")]);
    assert_eq!(history.observe(sample(&["id"], "20:20:")), Observed::Unchanged);
    assert_eq!(history.observe(sample(&["id"], "19:20:19")), Observed::Stale);
}

#[test]
fn a_dropped_table_is_gone_once_no_sample_can_come() {
    let mut history = history(&[(&["id"], "10:10:")]);
    let listing = listing(&table(&["id"]));
    history.observe_gone(RelationId(7), "30:30:".parse().unwrap());
    assert_eq!(history.resolve(&listing, 20), Resolution::Gone);
    assert!(matches!(history.resolve(&listing, 5), Resolution::Version(..)), "what a sample saw stays resolvable");
    assert_eq!(history.resolve(&listing, 40), Resolution::NeedSample);
    history.observe_gone(RelationId(7), "50:50:".parse().unwrap());
    assert_eq!(history.resolve(&listing, 40), Resolution::Gone);
}

#[test]
fn pruning_keeps_the_older_image_of_every_transaction_to_come() {
    let all: &[(&[&str], &str)] = &[(&["id"], "10:10:"), (&["id", "b"], "20:24:20,22"), (&["id", "b", "c"], "30:30:")];
    for (oldest, kept) in [(5, 3), (10, 3), (19, 3), (20, 3), (24, 2), (29, 2), (30, 1), (99, 1)] {
        let mut history = history(all);
        history.prune(oldest);
        assert_eq!(history.tables[&RelationId(7)].samples.len(), kept, "oldest {oldest}");
    }
}

#[test]
fn samples_and_versions_are_bounded() {
    let mut history = History::default();
    for round in 0..SAMPLES_MAX as u64 * 2 {
        let renamed = table(&["id", &format!("b{round}")]);
        history.append(at(round), TableVersion::of_image(&renamed));
        let snapshot = format!("{0}:{0}:", round + 10).parse().unwrap();
        assert_eq!(history.observe(Sample { image: renamed, snapshot }), Observed::Changed);
    }
    let table = &history.tables[&RelationId(7)];
    assert_eq!((table.samples.len(), table.versions.len()), (SAMPLES_MAX, VERSIONS_MAX));
    assert_eq!(
        table.samples.values().next().unwrap().first.xmin,
        10,
        "the oldest is the older image of old transactions"
    );
}

#[test]
fn a_version_rules_from_its_position_until_the_next() {
    let mut history = History::default();
    let version = |names: &[&str]| TableVersion::of_image(&table(names));
    assert!(history.append(at(10), version(&["id"])));
    assert!(!history.append(at(15), version(&["id"])), "a Relation that says nothing new");
    assert!(history.append(at(20), version(&["id", "b"])));
    let names = |lsn| history.version_at(RelationId(7), at(lsn)).map(|version| version.columns.len());
    assert_eq!([9, 10, 19, 20, 99].map(names), [None, Some(1), Some(1), Some(2), Some(2)]);

    // After a crash the stream comes again from 12.
    assert!(history.append(at(18), version(&["id", "b"])));
    assert_eq!(history.versions(RelationId(7)).map(|(position, _)| position).collect::<Vec<_>>(), [at(10), at(18)]);
}

#[test]
fn the_checkpoint_gives_back_the_history_entry_by_entry() {
    let mut history = history(&[(&["id"], "10:10:"), (&["id", "b"], "20:24:22")]);
    history.append(at(10), TableVersion::of_image(&table(&["id"])));
    history.observe_gone(RelationId(7), "30:30:".parse().unwrap());
    let mut restored = History::default();
    let changes = history.take_changes().unwrap();
    let keys: Vec<&str> = changes.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        ["table/7/sample/0", "table/7/sample/1", "table/7/version/0000-000000000000000A-00000000", "table/7/gone"]
    );
    for (key, json) in &changes {
        restored.restore(key, json.as_ref().unwrap().as_bytes()).unwrap();
    }
    assert_eq!(restored, history);
    assert!(history.take_changes().unwrap().is_empty());

    history.prune(20);
    history.append(at(10), TableVersion::of_image(&table(&["id", "b"])));
    let changes = history.take_changes().unwrap();
    assert_eq!(changes.len(), 1, "the version was replaced, and no sample may go yet: {changes:?}");
    history.prune(25);
    assert_eq!(history.take_changes().unwrap(), [("table/7/sample/0".to_owned(), None)]);
}

#[test]
fn the_json_of_a_sample_is_stable() {
    let mut history = history(&[(&["id"], "10:12:11")]);
    let (_, json) = history.take_changes().unwrap().remove(0);
    let expected = r#"{"image":{"relation":7,"name":{"namespace":"public","name":"t"},"partitioned":false,"replica_identity":"default","columns":[{"attnum":1,"kind":"ordinary","name":"id","type_oid":25,"typmod":-1,"type_name":"text","source_type":"text","not_null":true}],"keys":[]},"first":"10:12:11","latest":"10:12:11"}"#;
    assert_eq!(json.unwrap(), expected);
}

#[test]
fn entries_that_are_not_ours_are_refused() {
    let mut history = History::default();
    for key in ["table/x/gone", "table/7/sample/x", "table/7/version/1", "table/7/other", "table/7", "contract/a/1"] {
        let error = history.restore(key, b"{}").unwrap_err();
        assert!(error.diagnosis().contains(&format!("`{key}`")), "{error}");
    }
    assert!(history.restore("table/7/sample/0", b"{}").is_err());
}
