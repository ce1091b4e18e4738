//! The application: tables with an audit, and writers that change them in every way that a replicator may get wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value as Json, json};
use tokio_postgres::NoTls;

use super::checker::Change;
use crate::lab::Sql;

/// The tables that are published from the start.
pub const TABLES: &[&str] = &["orders", "lines", "notes"];

/// The table that joins them later.
pub const LATE: &str = "visits";

/// Pause between two transactions of a writer.
const PACE: Duration = Duration::from_millis(25);

/// Pages are filled to a fifth, so that few rows make many chunks of a snapshot.
///
/// `orders` and `visits`: one key column, all common types. `lines`: a key of two columns. `notes`: REPLICA IDENTITY
/// FULL and a text that is stored out of line. Every value but `notes.body` is made from the row's version.
const SCHEMA: &str = "
create sequence versions;
create sequence ids start 10000000;
create table orders (id bigint primary key, version bigint not null, amount numeric(12,2), placed timestamptz,
    note text, flag boolean not null, ratio double precision, day date) with (fillfactor = 20);
create table visits (like orders including all) with (fillfactor = 20);
create table lines (order_id bigint, line int, version bigint not null, note text, primary key (order_id, line))
    with (fillfactor = 20);
create table notes (id uuid primary key, version bigint not null, body_version bigint not null, body text not null);
alter table notes alter body set storage external, replica identity full;

create function stamp() returns trigger language plpgsql as $$ begin
    new.version := nextval('versions');
    new.amount := new.version / 100.0;
    new.placed := timestamptz '1970-01-01 00:00:00+00' + new.version * interval '1001 microseconds';
    new.note := case when new.version % 5 > 0 then 'é€😀 ' || new.version end;
    new.flag := new.version % 2 = 0;
    new.ratio := (new.version * 2 + 1) / 16.0::float8;
    new.day := date '1970-01-01' + (new.version % 20000)::int;
    return new;
end $$;
create function stamp_lines() returns trigger language plpgsql as $$ begin
    new.version := nextval('versions');
    new.note := 'line ' || new.version;
    return new;
end $$;
create function stamp_notes() returns trigger language plpgsql as $$ begin
    new.version := nextval('versions');
    if tg_op = 'INSERT' or new.body_version <> old.body_version then
        new.body := repeat(new.body_version || ' ', 400);
    end if;
    return new;
end $$;
create trigger stamp before insert or update on orders for each row execute function stamp();
create trigger stamp before insert or update on visits for each row execute function stamp();
create trigger stamp before insert or update on lines for each row execute function stamp_lines();
create trigger stamp before insert or update on notes for each row execute function stamp_notes();
";

/// The audit: no trigger of it changes anything else, and a rollback takes its rows back.
const AUDIT: &str = "
create table audit (seq bigserial primary key, xid xid8 not null default pg_current_xact_id(), tbl text not null,
    op text not null, old_key text, new_key text, version bigint);
create function audit_id() returns trigger language plpgsql as $$ begin
    insert into audit(tbl, op, old_key, new_key, version)
        values (tg_table_name, lower(left(tg_op, 1)), old.id, new.id, new.version);
    return null;
end $$;
create function audit_lines() returns trigger language plpgsql as $$ begin
    insert into audit(tbl, op, old_key, new_key, version) values (tg_table_name, lower(left(tg_op, 1)),
        old.order_id || ',' || old.line, new.order_id || ',' || new.line, new.version);
    return null;
end $$;
create trigger audit after insert or update or delete on orders for each row execute function audit_id();
create trigger audit after insert or update or delete on visits for each row execute function audit_id();
create trigger audit after insert or update or delete on notes for each row execute function audit_id();
create trigger audit after insert or update or delete on lines for each row execute function audit_lines();
";

/// A row's key as text and the whole row as the reader shows it, by table.
const ROWS: &[(&str, &str, &str)] = &[
    ("orders", "id::text", ORDER_ROW),
    ("visits", "id::text", ORDER_ROW),
    (
        "lines",
        "order_id || ',' || line",
        "json_build_object('order_id', order_id, 'line', line, 'version', version, 'note', note)",
    ),
    (
        "notes",
        "id::text",
        "json_build_object('id', id, 'version', version, 'body_version', body_version, 'body', body)",
    ),
];

const ORDER_ROW: &str = "json_build_object('id', id, 'version', version, 'amount', amount::text, \
    'placed', (extract(epoch from placed) * 1000000)::bigint, 'note', note, 'flag', flag, 'ratio', ratio, \
    'day', day - date '1970-01-01')";

/// The row that a version stands for, in the form of the reader.
pub fn expected(table: &str, value: &Json) -> Json {
    let version = value["version"].as_i64().unwrap_or_default();
    match table {
        "lines" => json!({"order_id": value["order_id"], "line": value["line"], "version": version,
            "note": format!("line {version}")}),
        "notes" => {
            let body = format!("{} ", value["body_version"]).repeat(400);
            json!({"id": value["id"], "version": version, "body_version": value["body_version"], "body": body})
        }
        _ => json!({
            "id": value["id"],
            "version": version,
            "amount": format!("{}.{:02}", version / 100, version % 100),
            "placed": version * 1001,
            "note": (version % 5 > 0).then(|| format!("é€😀 {version}")),
            "flag": version % 2 == 0,
            "ratio": (version * 2 + 1) as f64 / 16.0,
            "day": version % 20000,
        }),
    }
}

/// How many rows are there before the pipeline is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub orders: u64,
    pub notes: u64,
}

/// Makes the tables with rows from before the audit, and the audit.
pub fn create(sql: &Sql, size: Size) {
    sql.run(SCHEMA);
    let Size { orders, notes } = size;
    sql.run(&format!(
        "insert into orders(id) select g from generate_series(1, {orders}) g;
         insert into visits(id) select g from generate_series(1, {orders} / 4) g;
         insert into lines(order_id, line) select g / 2, g % 2 from generate_series(2, {orders}) g;
         insert into notes(id, body_version) select md5(g::text)::uuid, g from generate_series(1, {notes}) g;"
    ));
    for (table, key, _) in ROWS {
        sql.run(&format!("create table base_{table} as select {key} as key, version from {table}"));
    }
    sql.run(AUDIT);
    sql.run("create publication observed for table audit");
    sql.run("select pg_create_logical_replication_slot('observer_' || current_database(), 'pgoutput')");
}

/// Keys and versions from before the audit.
pub fn base(sql: &Sql, table: &str) -> Vec<(String, i64)> {
    let rows = sql.rows(&format!("select key, version from base_{table}"));
    rows.into_iter().map(|row| (text(&row, 0), text(&row, 1).parse().expect("a version"))).collect()
}

/// The rows of a table at rest.
pub fn rows(sql: &Sql, table: &str) -> Vec<(String, Json)> {
    let (_, key, row) = ROWS.iter().find(|(name, ..)| *name == table).expect("a table of the load");
    let rows = sql.rows(&format!("select {key}, {row}::text from {table}"));
    rows.into_iter().map(|row| (text(&row, 0), serde_json::from_str(&text(&row, 1)).expect("JSON"))).collect()
}

/// All committed changes.
///
/// Where each was committed an observer says: a slot of the test's own.
pub fn changes(sql: &Sql) -> Vec<Change> {
    let begins = "select encode(substring(data from 18 for 4), 'hex'), encode(substring(data from 2 for 8), 'hex') \
                  from pg_logical_slot_get_binary_changes('observer_' || current_database(), null, null, 'proto_version', '1', \
                  'publication_names', 'observed') where get_byte(data, 0) = ascii('B')";
    let hex = |text: String| u64::from_str_radix(&text, 16).expect("hexadecimal");
    let commits: HashMap<u64, u64> =
        sql.rows(begins).into_iter().map(|row| (hex(text(&row, 0)), hex(text(&row, 1)))).collect();
    let rows = sql.rows("select xid, tbl, op, old_key, new_key, version from audit order by seq");
    let change = |row: Vec<Option<String>>| Change {
        xid: text(&row, 0).parse().expect("a transaction id"),
        commit_lsn: commits[&(text(&row, 0).parse::<u64>().expect("a transaction id") & 0xFFFF_FFFF)],
        table: text(&row, 1),
        op: text(&row, 2).chars().next().expect("an operation"),
        old_key: text(&row, 3),
        new_key: text(&row, 4),
        version: text(&row, 5).parse().unwrap_or_default(),
    };
    rows.into_iter().map(change).collect()
}

fn text(row: &[Option<String>], column: usize) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

/// Writers that go on until they are stopped.
pub struct Load {
    runtime: tokio::runtime::Runtime,
    stop: Arc<AtomicBool>,
    writers: Vec<tokio::task::JoinHandle<u64>>,
}

impl Load {
    /// Starts this many writers, each with random numbers of its own.
    pub fn start(url: &str, writers: u64, seed: u64, size: Size) -> Load {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime starts");
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..writers)
            .map(|writer| {
                let writer = Writer { rng: Rng::with_seed(seed ^ (writer + 1) << 32), size, stop: stop.clone() };
                runtime.spawn(writer.run(url.to_owned()))
            })
            .collect();
        Load { runtime, stop, writers }
    }

    /// Stops them; gives the number of transactions that were committed.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let writers = self.writers;
        self.runtime.block_on(async {
            let mut committed = 0;
            for writer in writers {
                committed += writer.await.expect("a writer ends by itself");
            }
            committed
        })
    }
}

async fn connect(url: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

struct Writer {
    rng: Rng,
    size: Size,
    stop: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self, url: String) -> u64 {
        let mut client = connect(&url).await.expect("the server lets writers in");
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut committed = 0;
        while !self.stop.load(Ordering::Relaxed) {
            pace.tick().await;
            let (transaction, commits) = self.transaction();
            match client.batch_execute(&transaction).await {
                Ok(()) => committed += u64::from(commits),
                // A deadlock, or a key that is taken: an application's everyday life.
                Err(_) if client.batch_execute("rollback").await.is_ok() => {}
                // The server went away, with or without the commit: the audit will tell.
                Err(_) => match connect(&url).await {
                    Ok(again) => client = again,
                    Err(_) => continue,
                },
            }
        }
        committed
    }

    /// A whole transaction in one message, and whether it is to commit.
    fn transaction(&mut self) -> (String, bool) {
        let statements: Vec<String> = (0..self.rng.usize(1..5)).map(|_| self.statement()).collect();
        let body = statements.join(";\n");
        match self.rng.u32(0..20) {
            0 => (format!("begin; {body}; rollback"), false),
            1 | 2 => {
                let (undone, kept) = (self.statement(), self.statement());
                (format!("begin; {body}; savepoint s; {undone}; rollback to s; {kept}; commit"), true)
            }
            // Open for a while: fences and slot creation meet it.
            3 => (
                format!("begin; {body}; select pg_sleep({}); {}; commit", self.rng.f32() / 4.0, self.statement()),
                true,
            ),
            _ => (format!("begin; {body}; commit"), true),
        }
    }

    fn statement(&mut self) -> String {
        match self.rng.u32(0..12) {
            0 | 1 => self.lines(),
            2 | 3 => self.notes(),
            4 => self.rows(LATE, self.size.orders / 4),
            _ => self.rows("orders", self.size.orders),
        }
    }

    /// A change of `orders` or `visits`.
    fn rows(&mut self, table: &str, rows: u64) -> String {
        // A few hot keys, so that changes of the same key follow each other closely.
        let mut key = || if self.rng.u32(0..4) == 0 { self.rng.u64(1..20) } else { self.rng.u64(1..=rows) };
        let (a, b) = (key(), key());
        match self.rng.u32(0..16) {
            0 | 1 => format!("insert into {table}(id) select nextval('ids') from generate_series(1, 3)"),
            2 => format!("insert into {table}(id) values ({a}) on conflict do nothing"),
            3 => format!("insert into {table}(id) values ({a}), ({b}) on conflict (id) do update set flag = true"),
            4 => format!("delete from {table} where id in ({a}, {b})"),
            5 => format!("delete from {table} where id = {a}; insert into {table}(id) values ({a})"),
            // The key moves: to a new one, to one that may be taken or free again, and there and back.
            6 => format!("update {table} set id = nextval('ids') where id = {a}"),
            7 => format!("update {table} set id = {b} where id = {a}"),
            8 => format!("update {table} set id = -id where id = {a}; update {table} set id = -id where id = -{a}"),
            9 => format!("update {table} set note = '' where id between {a} and {a} + 40"),
            10 => format!("update {table} set note = '' where id = {a}; update {table} set note = '' where id = {a}"),
            _ => format!("update {table} set note = '' where id in ({a}, {b}, {})", a + 1),
        }
    }

    fn lines(&mut self) -> String {
        let order = self.rng.u64(1..=self.size.orders / 2);
        match self.rng.u32(0..6) {
            0 => format!("insert into lines(order_id, line) select {order}, nextval('ids') from generate_series(1, 4)"),
            1 => format!("delete from lines where order_id = {order}"),
            2 => format!("update lines set line = line + 10 where order_id = {order}"),
            3 => format!("update lines set order_id = order_id + 1 where order_id = {order}"),
            _ => format!("update lines set note = '' where order_id between {order} and {order} + 5"),
        }
    }

    fn notes(&mut self) -> String {
        let note = self.rng.u64(1..=self.size.notes);
        let id = format!("md5('{note}')::uuid");
        match self.rng.u32(0..6) {
            0 => format!("insert into notes(id, body_version) values ({id}, {note}) on conflict do nothing"),
            1 => format!("delete from notes where id = {id}"),
            2 => format!("update notes set body_version = body_version + 1 where id = {id}"),
            3 => format!("update notes set id = md5('{}')::uuid where id = {id}", self.rng.u64(1..=self.size.notes)),
            // The body is out of line and stays as it is.
            _ => format!("update notes set version = 0 where id = {id}"),
        }
    }
}
