//! The checker finds what it is there for: each kind of damage, planted into records that were good.

use serde_json::{Value as Json, json};

use super::checker::{Change, Record, Table, Truth, Wrong, check};

fn row(key: i64, version: i64) -> Json {
    json!({"id": key, "version": version, "amount": format!("{}.00", version)})
}

fn expected(_table: &str, value: &Json) -> Json {
    row(value["id"].as_i64().unwrap(), value["version"].as_i64().unwrap())
}

fn change(xid: u64, op: char, old: i64, new: i64, version: i64) -> Change {
    Change {
        xid,
        commit_lsn: xid << 4,
        table: "t".into(),
        op,
        old_key: old.to_string(),
        new_key: new.to_string(),
        version,
    }
}

fn record(lsn: u64, ordinal: u32, op: char, key: i64, version: Option<i64>, last: bool) -> Record {
    Record {
        topic: "p.t.v1".into(),
        partition: 0,
        key: key.to_string(),
        value: version.map(|version| row(key, version)),
        op,
        pos: format!("0000-{lsn:016X}-{ordinal:08X}"),
        ts: lsn as i64,
        last,
    }
}

/// Rows 1 to 3 from before; transaction 9 before the activation, 10 to 13 after it.
fn truth() -> Truth {
    let table = Table {
        topic: "p.t.v1".into(),
        begun: 0x90,
        base: [("1", 1), ("2", 2), ("3", 3)].map(|(key, version)| (key.to_owned(), version)).into(),
        rows: [(1, 11), (4, 12), (5, 16), (6, 15)].map(|(key, version)| (key.to_string(), row(key, version))).into(),
    };
    Truth {
        tables: [("t".to_owned(), table)].into(),
        changes: vec![
            change(9, 'u', 2, 2, 10),
            change(10, 'u', 1, 1, 11),
            change(10, 'u', 3, 4, 12),
            change(11, 'i', 5, 5, 13),
            change(11, 'd', 2, 2, 0),
            change(12, 'u', 5, 5, 14),
            change(12, 'i', 6, 6, 15),
            change(13, 'u', 5, 5, 16),
        ],
        expected: Some(expected),
    }
}

fn records() -> Vec<Record> {
    vec![
        record(0xA0, 1, 'u', 1, Some(11), false),
        record(0xA0, 2, 'd', 3, None, false),
        record(0xA0, 3, 'u', 4, Some(12), true),
        // The snapshot: 1 repeats what was streamed, 2 was changed before the activation.
        record(0xA0, 4, 'r', 1, Some(11), false),
        record(0xA0, 5, 'r', 2, Some(10), false),
        record(0xB0, 0, 'c', 5, Some(13), false),
        record(0xB0, 1, 'd', 2, None, true),
        record(0xC0, 1, 'u', 5, Some(14), false),
        record(0xC0, 2, 'c', 6, Some(15), true),
        record(0xD0, 1, 'u', 5, Some(16), true),
    ]
}

/// What the checker finds in records that `damage` was done to.
fn found(damage: impl FnOnce(&mut Vec<Record>)) -> Vec<Wrong> {
    let mut records = records();
    damage(&mut records);
    let mut wrong: Vec<Wrong> = check(&records, &truth()).into_iter().map(|complaint| complaint.wrong).collect();
    wrong.sort_unstable();
    wrong.dedup();
    wrong
}

#[test]
fn good_records_pass() {
    let complaints = check(&records(), &truth());
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_loss_is_found() {
    for lost in [0, 1, 2, 5, 6, 7, 8, 9] {
        assert!(found(|r| drop(r.remove(lost))).contains(&Wrong::Lost), "record {lost}");
    }
}

#[test]
fn a_lost_snapshot_row_is_found_where_nothing_else_shows_the_row() {
    let mut truth = truth();
    truth.changes.truncate(4);
    let table = truth.tables.get_mut("t").unwrap();
    table.rows = [(1, 11), (2, 10), (4, 12), (5, 13)].map(|(key, version)| (key.to_string(), row(key, version))).into();
    let mut records = records();
    records.truncate(6);
    records[5].last = true;
    assert!(check(&records, &truth).is_empty());
    records.remove(4);
    assert_eq!(check(&records, &truth)[0].wrong, Wrong::Fold);
}

#[test]
fn a_duplicate_is_found_at_its_own_position_and_at_another() {
    for twice in [0, 1, 5, 6, 9] {
        let again = |r: &mut Vec<Record>| r.insert(twice + 1, r[twice].clone());
        assert!(found(again).contains(&Wrong::Twice), "record {twice}");
        let elsewhere = |r: &mut Vec<Record>| {
            again(r);
            r[twice + 1].pos = "0000-00000000000000F0-00000000".into();
        };
        assert!(found(elsewhere).contains(&Wrong::Twice), "record {twice}");
    }
}

#[test]
fn a_snapshot_row_twice_and_a_change_that_a_snapshot_row_showed_are_found() {
    let twice = |r: &mut Vec<Record>| r.insert(5, record(0xA0, 6, 'r', 2, Some(10), false));
    assert_eq!(found(twice), [Wrong::Twice]);
    // The snapshot must not show what the stream is yet to bring.
    let early = |r: &mut Vec<Record>| r.insert(5, record(0xA0, 6, 'r', 6, Some(15), false));
    assert_eq!(found(early), [Wrong::Twice]);
}

#[test]
fn another_order_is_found_in_delivery_and_in_positions() {
    // As delivered: the older position comes later.
    assert!(found(|r| r.swap(7, 9)).contains(&Wrong::Order));
    // By position: the two changes have changed places, and all positions rise.
    let exchanged = |r: &mut Vec<Record>| {
        (r[7].value, r[9].value) = (r[9].value.clone(), r[7].value.clone());
    };
    assert!(found(exchanged).contains(&Wrong::Order));
    assert!(found(|r| r[9].partition = 1).contains(&Wrong::Order));
}

#[test]
fn an_older_version_after_a_newer_one_is_found() {
    let stale = |r: &mut Vec<Record>| r.insert(4, record(0xA0, 6, 'r', 1, Some(1), false));
    assert!(found(stale).contains(&Wrong::Stale));
    let risen = |r: &mut Vec<Record>| r.insert(7, record(0xB0, 2, 'r', 2, Some(10), false));
    assert!(found(risen).contains(&Wrong::Stale));
}

#[test]
fn a_wrong_value_is_found() {
    let field = |r: &mut Vec<Record>| r[5].value.as_mut().unwrap()["amount"] = "13.01".into();
    assert_eq!(found(field), [Wrong::Value]);
    let of_another_row = |r: &mut Vec<Record>| (r[5].value, r[8].value) = (r[8].value.clone(), r[5].value.clone());
    assert!(found(of_another_row).contains(&Wrong::Value));
    let never = |r: &mut Vec<Record>| r.insert(3, record(0xA0, 9, 'r', 1, Some(77), false));
    assert!(found(never).contains(&Wrong::Value));
    assert!(found(|r| r[9].value = None).contains(&Wrong::Value));
}

#[test]
fn a_final_value_that_is_not_the_tables_is_found() {
    let mut truth = truth();
    truth.tables.get_mut("t").unwrap().rows.insert("6".into(), row(6, 99));
    assert_eq!(check(&records(), &truth)[0].wrong, Wrong::Fold);
    truth.tables.get_mut("t").unwrap().rows.remove("6");
    assert_eq!(check(&records(), &truth)[0].wrong, Wrong::Fold);
}

#[test]
fn last_on_another_record_on_two_or_on_none_is_found() {
    assert_eq!(found(|r| r[2].last = false), [Wrong::Last]);
    assert_eq!(found(|r| r[0].last = true), [Wrong::Last]);
    assert_eq!(found(|r| (r[0].last, r[2].last) = (true, false)), [Wrong::Last]);
    assert_eq!(found(|r| r[3].last = true), [Wrong::Last]);
}

#[test]
fn a_record_in_another_transaction_or_at_another_ordinal_is_found() {
    assert_eq!(found(|r| r[8].pos = "0000-00000000000000C0-00000003".into()), [Wrong::Position]);
    let split = |r: &mut Vec<Record>| {
        r[8] = record(0xC1, 2, 'c', 6, Some(15), true);
        r[7].last = true;
    };
    assert_eq!(found(split), [Wrong::Position]);
    assert!(found(|r| r[0].pos = "short".into()).contains(&Wrong::Position));
}

#[test]
fn changes_from_before_the_activation_do_not_count_as_lost_nor_may_they_be_streamed() {
    let early = |r: &mut Vec<Record>| r.insert(0, record(0x90, 1, 'u', 2, Some(10), true));
    assert!(found(early).contains(&Wrong::Value));
}
