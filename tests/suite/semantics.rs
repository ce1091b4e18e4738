//! What becomes of each kind of change: one server, one pipeline, a table a case.

use std::time::Duration;

use serde_json::Value as Json;

use crate::crash::project::{End, Project, Sink, live};
use crate::lab::{Options, Postgres, Sql};

const DEADLINE: Duration = Duration::from_secs(60);

/// A table, what is done to it after its snapshot, and the records of that: `op key value`, `!` behind the last of a
/// transaction.
struct Case {
    table: &'static str,
    before: &'static str,
    work: &'static str,
    log: bool,
    records: &'static [&'static str],
}

const fn case(table: &'static str, before: &'static str, work: &'static str, records: &'static [&'static str]) -> Case {
    Case { table, before, work, log: false, records }
}

const CASES: &[Case] = &[
    case(
        "moved",
        "create table moved (id int primary key, n int); insert into moved values (1, 1), (2, 2), (3, 3)",
        "update moved set id = 10 where id = 1;
         begin; update moved set id = 20 where id = 2; update moved set id = 2 where id = 20; commit;
         update moved set id = id + 100, n = 0 where id = 3",
        &["d 1 -", "u 10 10,1 !", "d 2 -", "u 20 20,2", "d 20 -", "u 2 2,2 !", "d 3 -", "u 103 103,0 !"],
    ),
    case(
        "identity_full",
        "create table identity_full (id int primary key, n int, t text); alter table identity_full replica identity full;
         alter table identity_full alter t set storage external; insert into identity_full values (1, 1, repeat('x', 3000))",
        "update identity_full set n = 2; update identity_full set id = 2; delete from identity_full",
        &["u 1 1,2,<3000> !", "d 1 -", "u 2 2,2,<3000> !", "d 2 - !"],
    ),
    case(
        "identity_index",
        "create table identity_index (id int primary key, code text not null unique, n int);
         alter table identity_index replica identity using index identity_index_code_key;
         insert into identity_index values (1, 'a', 1), (2, 'b', 2)",
        "update identity_index set n = 3 where id = 1; update identity_index set code = 'c' where id = 1;
         delete from identity_index where id = 2",
        &["u a 1,a,3 !", "d a -", "u c 1,c,3 !", "d b - !"],
    ),
    case(
        "parts",
        "create table parts (id int, at int, n int, primary key (id, at)) partition by range (at);
         create table parts_1 partition of parts for values from (0) to (10);
         create table parts_2 (n int, at int not null, id int not null, primary key (id, at));
         alter table parts attach partition parts_2 for values from (10) to (20);
         insert into parts values (1, 1, 1), (2, 11, 2)",
        "update parts set n = 5; update parts set at = 12 where id = 1; delete from parts where id = 2;
         insert into parts_2(id, at, n) values (3, 13, 3)",
        &["u 1,1 1,1,5", "u 2,11 2,11,5 !", "d 1,1 -", "c 1,12 1,12,5 !", "d 2,11 - !", "c 3,13 3,13,3 !"],
    ),
    case(
        "copied",
        "create table copied (id int primary key, n int)",
        "copy copied from program 'seq 1 4 | sed ''s/$/\t7/''';
         merge into copied c using (values (1, 8), (9, 9)) v(id, n) on c.id = v.id
             when matched then update set n = v.n when not matched then insert values (v.id, v.n);
         merge into copied c using (values (2)) v(id) on c.id = v.id when matched then delete",
        &["c 1 1,7", "c 2 2,7", "c 3 3,7", "c 4 4,7 !", "u 1 1,8", "c 9 9,9 !", "d 2 - !"],
    ),
    case(
        "undone",
        "create table undone (id int primary key, n int)",
        "begin; insert into undone values (1, 1); savepoint a; insert into undone values (2, 2); update undone set n = 9;
             rollback to a; insert into undone values (3, 3); savepoint b; delete from undone where id = 1; release b; commit;
         begin; insert into undone values (7, 7); rollback",
        &["c 1 1,1", "c 3 3,3", "d 1 - !"],
    ),
    // One transaction over two tables: the last record of all is the last.
    case(
        "first_of_two",
        "create table first_of_two (id int primary key, n int)",
        "begin; insert into first_of_two values (1, 1); insert into second_of_two values (1, 1);
             insert into first_of_two values (2, 2); insert into second_of_two values (2, 2); commit",
        &["c 1 1,1", "c 2 2,2"],
    ),
    case(
        "second_of_two",
        "create table second_of_two (id int primary key, n int)",
        "",
        &["c 1 1,1", "c 2 2,2 !"],
    ),
    case(
        "appended",
        "create table appended (what text, n int)",
        "insert into appended values ('a', 1), ('a', 1); update appended set n = 2; delete from appended",
        &["c - a,1", "c - a,1 !"],
    ),
    // The row is told as it was, by a delete too.
    Case {
        log: true,
        ..case(
            "logged",
            "create table logged (id int primary key, t text); alter table logged replica identity full;
             alter table logged alter t set storage external",
            "insert into logged values (1, repeat('y', 3000)); update logged set id = 2; delete from logged",
            &["c 1 1,<3000> !", "d 1 1,<3000>", "u 2 2,<3000> !", "d 2 2,<3000> !"],
        )
    },
    case(
        "Sel ect\"é",
        "create table \"Sel ect\"\"é\" (\"Or der\" int primary key, \"select\" text, \"Ünï.\"\"code$\" int,
             \"a2345678901234567890123456789012345678901234567890123456789é12\" int)",
        "insert into \"Sel ect\"\"é\" values (1, 'x', 2, 3); update \"Sel ect\"\"é\" set \"select\" = 'y'",
        &["c 1 1,x,2,3 !", "u 1 1,y,2,3 !"],
    ),
    case(
        "widened",
        "create table widened (id bigint primary key, n int, t varchar(4)); insert into widened values (1, 1, 'a')",
        "alter table widened alter n type bigint; insert into widened values (2, 2, 'b');
         alter table widened alter t type varchar(20); insert into widened values (3, 3, 'longer')",
        &["c 2 2,2,b !", "c 3 3,3,longer !"],
    ),
];

fn text(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::String(text) if text.len() > 100 => format!("<{}>", text.len()),
        Json::String(text) => text.clone(),
        Json::Object(fields) => fields.values().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn line(record: &Json) -> String {
    let last = if record["last"] == true { " !" } else { "" };
    format!("{} {} {}{last}", text(&record["op"]), text(&record["key"]), text(&record["value"]))
}

/// The records behind the snapshot, in the order of their positions, which rise.
fn streamed(project: &Project, contract: &str) -> Vec<Json> {
    let records = project.tail(&project.topic(contract), &[]);
    let positions: Vec<&str> = records.iter().filter_map(|record| record["pos"].as_str()).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{contract}: {positions:?}");
    records.into_iter().filter(|record| record["op"] != "r").collect()
}

fn server() -> Postgres {
    Postgres::start(Options::default())
}

fn project(server: &Postgres, name: &str, ddl: &str) -> (Project, Sql) {
    let database = server.fresh_database(name);
    database.run(ddl);
    let sql = Sql::connect(database.url());
    let project = Project::new(name, database.url(), Sink::Files);
    project.seal();
    (project, sql)
}

fn edit(project: &Project, path: &str, from: &str, to: &str) {
    let path = project.path(path);
    let text = std::fs::read_to_string(&path).expect("a file of the project");
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).expect("the folder is writable");
}

/// The contract that `init` drafts for a table.
fn contract(table: &str) -> String {
    table.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[test]
fn every_kind_of_change_becomes_the_records_that_it_is() {
    let server = server();
    let ddl: Vec<&str> = CASES.iter().map(|case| case.before).collect();
    let (project, sql) = project(&server, "semantics", &ddl.join(";\n"));
    let tables: Vec<&str> = CASES.iter().map(|case| case.table).collect();
    project.add(&tables);
    for case in CASES.iter().filter(|case| case.log) {
        edit(&project, &format!("contracts/{}.yaml", contract(case.table)), "kind: state", "kind: log");
    }
    project.start(&["--once"], None).finish(DEADLINE);
    // One by one: several in one message are one transaction.
    let statements =
        CASES.iter().flat_map(|case| case.work.split(';')).filter(|statement| !statement.trim().is_empty());
    statements.for_each(|statement| sql.run(statement));
    project.start(&["--once"], None).finish(DEADLINE);
    let mut wrong = Vec::new();
    for case in CASES {
        let records = streamed(&project, &contract(case.table));
        let lines: Vec<String> = records.iter().map(line).collect();
        if lines != case.records {
            wrong.push(format!("{}: {lines:#?}\nnot {:#?}", case.table, case.records));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the stream does not carry is read from the table: one query for many rows, and `reread` says so.
#[test]
fn unchanged_large_values_are_read_again_and_the_topic_is_level() {
    const ROWS: usize = 5_000;
    let server = server();
    let (project, sql) = project(
        &server,
        "toast",
        "create table notes (id int primary key, n int, body text, more text);
         alter table notes alter body set storage external, alter more set storage external;
         insert into notes select g, 0, repeat(g || ' ', 800), null from generate_series(1, 5000) g",
    );
    project.add(&["notes"]);
    let mut daemon = project.start(&[], None);
    daemon.until("the snapshot is complete", DEADLINE, live);
    let begin = std::time::Instant::now();
    sql.run(
        "update notes set n = 1;
         -- Rows that are gone or have moved when they are read, and values that change before they are left alone.
         begin; update notes set n = 2 where id <= 300; delete from notes where id <= 100;
             update notes set id = -id where id between 101 and 200; update notes set n = 3 where id = -150; commit;
         begin; update notes set body = repeat('new ' || id, 900) where id between 201 and 400;
             update notes set n = 4 where id between 201 and 400; commit;
         update notes set n = 5 where id between 201 and 210; update notes set more = repeat('m', 5000) where id = 300;
         update notes set n = 6 where id = 300; insert into notes values (9999, 9, 'end', null)",
    );
    let rereads = |status: &Json| status["contracts"][0]["reread_records"].as_u64().unwrap_or(0) as usize;
    let end = sql.text("select pg_current_wal_flush_lsn()");
    let superseded = |status: &Json| status["contracts"][0]["superseded"].as_u64().unwrap_or(0) as usize;
    // The counts of a status may be a moment older than its position.
    let status = daemon.until("everything is published and counted", DEADLINE, |status| {
        let done = status["done_lsn"].as_str().unwrap_or("0/0");
        let published = sql.text(&format!("select '{done}'::pg_lsn >= '{end}'::pg_lsn")) == "t";
        published && rereads(status) + superseded(status) >= ROWS
    });
    println!("{ROWS} updates in {:?}", begin.elapsed());
    assert!(daemon.get("/metrics").expect("metrics").contains("gimbal_reread_records_total{"), "{status}");
    daemon.kill();

    let mut folded = std::collections::BTreeMap::new();
    let records = project.tail(&project.topic("notes"), &[]);
    for record in &records {
        let id = record["key"]["id"].as_i64().expect("a key");
        match &record["value"] {
            Json::Null => drop(folded.remove(&id)),
            value => drop(folded.insert(id, value.clone())),
        }
    }
    let rows = sql.rows("select id, json_build_object('id', id, 'n', n, 'body', body, 'more', more)::text from notes");
    assert_eq!(rows.len(), folded.len());
    for row in rows {
        let (id, row) = (row[0].as_ref().expect("an id"), row[1].as_ref().expect("a row"));
        let row: Json = serde_json::from_str(row).expect("JSON");
        assert!(folded[&id.parse::<i64>().expect("a number")] == row, "row {id} is another one in the topic");
    }
    let named = |record: &&Json| record["reread"] == serde_json::json!(["body"]);
    assert!(records.iter().filter(named).count() >= ROWS - 300, "records name the field");
    let streamed = records.iter().filter(|record| record["op"] == "c" || record["value"]["n"] == 6);
    let plain: Vec<&Json> = streamed.filter(|record| record["op"] == "c").collect();
    assert!(plain.iter().all(|record| record["reread"] == serde_json::json!([])), "{plain:?}");
}

#[test]
fn retypes_follow_exactly_or_checked_and_refused_ones_park() {
    let server = server();
    let (project, sql) = project(
        &server,
        "retyped",
        "create table exact (id int primary key, n int); create table checked (id int primary key, n int);
         create table refused (id int primary key, n int);
         insert into exact values (1, 1); insert into checked values (1, 1); insert into refused values (1, 1)",
    );
    project.add(&["exact", "checked", "refused"]);
    edit(&project, "schemas/checked/1.0.avsc", r#"["null", "long"]"#, r#"["null", "int"]"#);
    let mut daemon = project.start(&[], None);
    daemon.until("the snapshots are complete", DEADLINE, live);
    sql.run("alter table exact alter n type bigint; insert into exact values (2, 3000000000)");
    sql.run("alter table checked alter n type bigint; insert into checked values (2, 2), (3, 3000000000)");
    sql.run("alter table refused alter n type bool using n = 1; insert into refused values (2, true)");
    let contract = |status: &Json, name: &str| {
        let all = status["contracts"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["contract"] == name).unwrap_or_default()
    };
    let status = daemon.until("all retypes are seen", DEADLINE, |status| {
        contract(status, "checked")["dead_keys"] == 1 && contract(status, "refused")["parked_records"] == 1
    });
    let verdict = |table: &str| {
        let entries = status["timeline"].as_array().cloned().unwrap_or_default();
        let entry = entries.into_iter().find(|entry| entry["table"] == format!("public.{table}"));
        entry.map(|entry| text(&entry["verdict"])).unwrap_or_default()
    };
    assert_eq!((contract(&status, "exact")["state"].as_str(), verdict("exact").as_str()), (Some("live"), "followed"));
    assert_eq!(
        (contract(&status, "checked")["state"].as_str(), verdict("checked").as_str()),
        (Some("live"), "at_risk")
    );
    let refused = contract(&status, "refused");
    assert_eq!((refused["state"].as_str(), verdict("refused").as_str()), (Some("parked"), "broken"), "{refused}");
    assert_eq!(refused["reason"]["code"], "E0202", "{refused}");
    daemon.signal("TERM");
    daemon.finish(DEADLINE);
    let lines = |table: &str| streamed(&project, table).iter().map(line).collect::<Vec<_>>();
    assert_eq!(lines("exact"), ["c 2 2,3000000000 !"]);
    assert_eq!(lines("checked"), ["c 2 2,2"]);
}

/// A change is logged with its leaf's own replica identity: without the key, a changed key would leave its old row behind.
#[test]
fn a_leaf_whose_old_rows_lack_the_key_parks_its_contract_and_is_refused_at_the_start() {
    let server = server();
    let (project, sql) = project(
        &server,
        "leaves",
        "create table orders (id int primary key, code int not null, n int) partition by range (id);
         create table orders_a partition of orders for values from (0) to (100);
         create table orders_b (n int, code int not null, id int not null);
         alter table orders attach partition orders_b for values from (100) to (200);
         create unique index orders_b_code on orders_b (code);
         create table other (id int primary key, n int);
         insert into orders select g, g, 0 from generate_series(1, 180) g; insert into other values (1, 1)",
    );
    project.add(&["orders", "other"]);
    let mut daemon = project.start(&[], None);
    daemon.until("the snapshots are complete", DEADLINE, live);
    // Another order of columns is no trouble, and what has the key is none either.
    sql.run("alter table orders_a replica identity full; update orders set n = 1");
    sql.run("alter table orders_b replica identity using index orders_b_code");
    let parked = |status: &Json| status["contracts"][0]["state"] == "parked";
    let status = daemon.until("the contract is parked", DEADLINE, parked);
    let reason = &status["contracts"][0]["reason"];
    assert_eq!((&status["contracts"][0]["contract"], &reason["code"]), (&"orders".into(), &"E0206".into()), "{status}");
    assert!(reason["message"].as_str().is_some_and(|message| message.contains("column `id`")), "{status}");
    sql.run("update orders set id = 190 where id = 150; update other set n = 2");
    daemon.until("the other contract goes on", DEADLINE, |status| status["contracts"][1]["records"] == 2);
    daemon.kill();
    assert_eq!(streamed(&project, "orders").iter().filter(|record| record["key"]["id"] == 190).count(), 0);

    // One that begins is refused.
    sql.run(
        "create table late (id int primary key, code int not null) partition by range (id);
             create table late_a partition of late for values from (0) to (100);
             create unique index late_a_code on late_a (code);
             alter table late_a replica identity using index late_a_code",
    );
    project.add(&["late"]);
    let mut daemon = project.start(&[], None);
    assert_eq!(daemon.wait(DEADLINE), End::Exit(1), "{}", daemon.log());
    assert!(
        daemon.log().contains("error[E0206]") && daemon.log().contains("a partition of `public.late`"),
        "{}",
        daemon.log()
    );
}
