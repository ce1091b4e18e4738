//! The catalog statements against a real PostgreSQL: what images hold, and what their snapshots prove.

use std::time::{Duration, Instant};

use gimbal::history::{Certainty, History, ListedColumn, Listing, Observed, Resolution};
use gimbal::identity::{self, Place};
use gimbal::lsn::Snapshot;
use gimbal::postgres::catalog::{self, CatalogRead};
use gimbal::table::{ColumnKind, QualifiedName, RelationId, ReplicaIdentity, SourceType, TableImage};

mod server;

use server::{Database, Server};

use crate::lab::Options;

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(30);

fn name(namespace: &str, name: &str) -> QualifiedName {
    QualifiedName { namespace: namespace.to_owned(), name: name.to_owned() }
}

async fn read(database: &Database, table: &QualifiedName) -> CatalogRead {
    let parameter = catalog::tables_by_name(std::slice::from_ref(table));
    catalog::parse_images(&database.rows(&catalog::with_parameter(catalog::IMAGE_SQL, &parameter)).await).unwrap()
}

async fn image(database: &Database, table: &str) -> TableImage {
    let mut images = read(database, &name("public", table)).await.images;
    assert_eq!(images.len(), 1, "`{table}`");
    images.remove(0)
}

/// Kind and name of each attribute number: `id +generated -`.
fn shape(image: &TableImage) -> String {
    let word = |column: &gimbal::table::ColumnImage| match column.kind {
        ColumnKind::Ordinary => column.name.clone(),
        ColumnKind::Generated => format!("+{}", column.name),
        ColumnKind::Dropped => format!("-{}", column.name),
    };
    image.columns.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn an_image_holds_every_attribute_number_through_all_column_ddl() {
    let db = Server::shared().database("columns").await;
    db.run("create table t (id int primary key, b text, c int, g int generated always as (c * 2) stored)").await;
    assert_eq!(shape(&image(&db, "t").await), "id b c +g");
    for (ddl, expected) in [
        ("alter table t add column d numeric(8,2) not null default 0", "id b c +g d"),
        ("alter table t drop column b", "id - c +g d"),
        ("alter table t add column b text", "id - c +g d b"),
        ("alter table t rename column c to c2", "id - c2 +g d b"),
        ("alter table t alter column g drop expression", "id - c2 g d b"),
        ("alter table t alter column d type text, alter column d drop not null", "id - c2 g d b"),
        ("alter table t drop column d, drop column b", "id - c2 g - -"),
    ] {
        db.run(ddl).await;
        assert_eq!(shape(&image(&db, "t").await), expected, "{ddl}");
    }
    let image = image(&db, "t").await;
    let c2 = image.column("c2").unwrap();
    assert_eq!((c2.attnum, c2.type_oid, c2.typmod, c2.type_name.as_str(), c2.not_null), (3, 23, -1, "integer", false));
    assert!(image.column("id").unwrap().not_null);
    let dropped = image.attnum(5).unwrap();
    assert_eq!((dropped.type_oid, dropped.not_null), (0, false), "nothing of a dropped column is left");
}

/// Both are new in PostgreSQL 18; older servers refuse them.
#[tokio::test]
async fn virtual_columns_are_generated_and_an_unproved_not_null_does_not_count() {
    let db = Server::shared().database("eighteen").await;
    db.run("create table t (id int primary key, u int unique)").await;
    if db.try_run("alter table t add column v int generated always as (1) virtual").await {
        assert_eq!(shape(&image(&db, "t").await), "id u +v");
        db.run("insert into t values (1, null); alter table t add constraint proof not null u not valid").await;
        let before = image(&db, "t").await;
        assert_eq!((before.column("u").unwrap().not_null, before.keys.len()), (false, 1));
        db.run("update t set u = 1; alter table t validate constraint proof").await;
        let after = image(&db, "t").await;
        assert_eq!((after.column("u").unwrap().not_null, after.keys.len()), (true, 2));
    }
}

#[tokio::test]
async fn types_are_resolved_through_domains_and_arrays() {
    let db = Server::shared().database("types").await;
    db.run(
        "create type mood as enum ('sad', 'happy'); alter type mood add value 'calm' before 'happy';
         create domain price as numeric(10,2) not null; create domain tag as varchar(20); create domain tags as tag[];
         create domain bargain as price check (value < 10); create type point3 as (x int, y int, z int);
         create table t (mood mood, moods mood[], price price, bargain bargain, tags tags, prices price[], n5 numeric(5,1)[],
             free numeric, v varchar(7), c char(3), b bytea, p point3, r int4range, vector int2vector, one \"char\",
             at timestamptz(3), money money)",
    )
    .await;
    db.run("set search_path = ''").await;
    let image = image(&db, "t").await;
    let of = |column: &str| image.column(column).unwrap().source_type.clone();
    let SourceType::Enum { labels } = of("mood") else { panic!("{:?}", of("mood")) };
    assert_eq!(labels.iter().map(|label| label.label.as_str()).collect::<Vec<_>>(), ["sad", "calm", "happy"]);
    let oids = db.rows("select oid::text from pg_enum order by enumsortorder").await;
    let labelled: Vec<_> = labels.iter().map(|label| vec![Some(label.oid.to_string())]).collect();
    assert_eq!(labelled, oids);

    let array = |item: SourceType| SourceType::Array(Box::new(item));
    let numeric = |precision, scale| SourceType::Numeric { precision: Some(precision), scale: Some(scale) };
    let other = |name: &str| SourceType::Other { name: name.to_owned() };
    for (column, expected) in [
        ("moods", array(SourceType::Enum { labels })),
        ("price", numeric(10, 2)),
        ("bargain", numeric(10, 2)),
        ("tags", array(SourceType::Varchar)),
        ("prices", array(numeric(10, 2))),
        ("n5", array(numeric(5, 1))),
        ("free", SourceType::Numeric { precision: None, scale: None }),
        ("v", SourceType::Varchar),
        ("c", SourceType::Char),
        ("b", SourceType::Bytea),
        ("p", other("public.point3")),
        ("r", other("int4range")),
        ("vector", other("int2vector")),
        ("one", other("\"char\"")),
        ("at", SourceType::Timestamptz),
        ("money", SourceType::Money),
    ] {
        assert_eq!(of(column), expected, "{column}");
    }
    let bargain = image.column("bargain").unwrap();
    let own = db.rows("select oid::text from pg_type where typname = 'bargain'").await;
    assert_eq!(own, [[Some(bargain.type_oid.to_string())]], "the column's own type, not its base");
    assert_eq!((bargain.type_name.as_str(), bargain.not_null), ("public.bargain", false));
    assert_eq!(image.column("v").unwrap().type_name, "character varying(7)");
}

#[tokio::test]
async fn only_indexes_that_identify_rows_are_keys() {
    let db = Server::shared().database("keys").await;
    db.run(
        "create table t (id int, a int not null, b int not null, n int, s text not null, primary key (b, a));
         create unique index t_plain on t (s) include (n);
         create unique index t_nullable on t (a, n);
         create unique index t_partial on t (a) where n > 0;
         create unique index t_expression on t ((a + 1));
         create index t_not_unique on t (a);
         alter table t add constraint t_deferrable unique (a) deferrable",
    )
    .await;
    let keys = |image: &TableImage| {
        let key = |key: &gimbal::table::UniqueKey| (key.name.clone(), key.attnums.clone(), key.primary);
        image.keys.iter().map(key).collect::<Vec<_>>()
    };
    let before = image(&db, "t").await;
    assert_eq!(keys(&before), [("t_pkey".to_owned(), vec![3, 2], true), ("t_plain".to_owned(), vec![5], false)]);
    assert_eq!((before.replica_identity, before.identity()), (ReplicaIdentity::Default, vec![3, 2]));
    for (ddl, identity, columns) in [
        ("using index t_plain", ReplicaIdentity::Index, &[5][..]),
        ("full", ReplicaIdentity::Full, &[1, 2, 3, 4, 5]),
        ("nothing", ReplicaIdentity::Nothing, &[]),
    ] {
        db.run(&format!("alter table t replica identity {ddl}")).await;
        let image = image(&db, "t").await;
        assert_eq!((image.replica_identity, &image.identity()[..]), (identity, columns), "{ddl}");
    }
    db.run("alter table t alter column s drop not null").await;
    assert_eq!(keys(&image(&db, "t").await).len(), 1, "a nullable column identifies nothing");

    if db.try_run("create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)").await {
        db.run("create table folded (s text collate blind primary key)").await;
        assert_eq!(keys(&image(&db, "folded").await), [], "two texts would be one key");
    }
}

#[tokio::test]
async fn quoted_names_are_found_over_both_protocols_whatever_the_search_path() {
    let db = Server::shared().database("names").await;
    let odd = name(r#"Sch"ema\"#, "it's\n\"öd\\d\" $1");
    let (schema, table) = (catalog::quote_identifier(&odd.namespace), catalog::quote_identifier(&odd.name));
    let column = catalog::quote_identifier("col'\"\\\n $1");
    db.run(&format!("create schema {schema}; create table {schema}.{table} ({column} int)")).await;
    db.run("create table pg_class (a int); create table a_name_of_sixty_three_bytes_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa (a int); create view v as select 1").await;

    db.run("set search_path = public, pg_catalog").await;
    let found = read(&db, &odd).await;
    assert_eq!(found.images[0].name, odd);
    assert_eq!(found.images[0].columns[0].name, "col'\"\\\n $1");
    let parameter = catalog::tables_by_name(std::slice::from_ref(&odd));
    let prepared = catalog::parse_images(&db.prepared_rows(catalog::IMAGE_SQL, &parameter).await).unwrap();
    assert_eq!(prepared.images, found.images);
    let replicated = db.replication_rows(&catalog::with_parameter(catalog::IMAGE_SQL, &parameter));
    assert_eq!(catalog::parse_images(&replicated).unwrap().images, found.images);
    let by_oid = catalog::tables_by_oid(&[found.images[0].relation, RelationId(u32::MAX)]);
    let by_oid = db.rows(&catalog::with_parameter(catalog::IMAGE_SQL, &by_oid)).await;
    assert_eq!(catalog::parse_images(&by_oid).unwrap().images, found.images);

    assert_eq!(shape(&image(&db, "pg_class").await), "a", "the user's own `pg_class` hides nothing");
    for absent in ["none", "v", "a_name_of_sixty_three_bytes_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"] {
        let found = read(&db, &name("public", absent)).await;
        assert!(found.images.is_empty(), "{absent}");
    }
}

#[tokio::test]
async fn an_uncommitted_change_is_in_no_image_and_its_transaction_not_in_the_snapshot() {
    let db = Server::shared().database("uncommitted").await;
    db.run("create table t (id int primary key, b text)").await;
    let writer = db.connect().await;
    writer.run("begin; alter table t add column d text").await;
    let xid: u64 = writer.value("select pg_current_xact_id()::text").await.parse().unwrap();
    let before = read(&db, &name("public", "t")).await;
    assert_eq!((shape(&before.images[0]).as_str(), before.snapshot.sees(xid)), ("id b", false));
    writer.run("commit").await;
    let after = read(&db, &name("public", "t")).await;
    assert_eq!((shape(&after.images[0]).as_str(), after.snapshot.sees(xid)), ("id b d", true));
    assert!(before.insert_lsn < after.insert_lsn);

    // A statement reads everything under its own snapshot, an older one in a repeatable read transaction.
    let old = db.connect().await;
    old.run("begin isolation level repeatable read; select 1").await;
    writer.run("alter table t drop column b").await;
    let read_old = read(&old, &name("public", "t")).await;
    assert_eq!(shape(&read_old.images[0]), "id b d");
    assert_eq!(shape(&image(&db, "t").await), "id - d");
}

#[tokio::test]
async fn partitioned_tables_have_leaves_and_plain_tables_are_their_own() {
    let db = Server::shared().database("leaves").await;
    db.run(
        "create table root (id int not null, at date not null, primary key (id, at)) partition by range (at);
         create table \"Old\" partition of root for values from (minvalue) to ('2020-01-01');
         create table mid partition of root for values from ('2020-01-01') to ('2030-01-01') partition by list (id);
         create table mid_1 partition of mid for values in (1);
         create table mid_2 partition of mid for values in (2);
         create table plain (id int); create table child () inherits (plain);
         insert into root values (1, '2021-01-01'), (7, '1999-01-01')",
    )
    .await;
    db.run(
        "create foreign data wrapper w; create server far foreign data wrapper w;
         create table elsewhere (id int not null, at date not null) partition by range (at);
         create table here partition of elsewhere for values from ('2000-01-01') to ('2001-01-01');
         create foreign table far_away partition of elsewhere for values from ('2040-01-01') to ('2050-01-01') server far",
    )
    .await;
    let root = image(&db, "root").await;
    assert!(root.partitioned && !image(&db, "mid_1").await.partitioned);
    assert_eq!(root.identity(), [1, 2]);
    let leaves = async |table: &str| {
        let oid = image(&db, table).await.relation.to_string();
        catalog::parse_leaves(&db.rows(&catalog::with_parameter(catalog::LEAVES_SQL, &oid)).await).unwrap()
    };
    let described = async |table: &str| {
        let leaf = |leaf: catalog::Leaf| (leaf.name.to_string(), leaf.blocks);
        leaves(table).await.into_iter().map(leaf).collect::<Vec<_>>()
    };
    let row = |name: &str, blocks| (format!("public.{name}"), blocks);
    assert_eq!(described("root").await, [row("Old", 1), row("mid_1", 1), row("mid_2", 0)]);
    assert_eq!(described("plain").await, [row("plain", 0)]);
    assert_eq!(described("mid_2").await, [row("mid_2", 0)]);
    assert_eq!(described("elsewhere").await, [row("here", 0)]);

    let before = leaves("mid_1").await.remove(0);
    db.run("truncate mid_1; insert into root select 1, date '2021-01-01' + n from generate_series(1, 1000) n").await;
    let after = leaves("mid_1").await.remove(0);
    assert_eq!(before.relation, after.relation);
    assert!(before.filenode != after.filenode && after.blocks > 1);
    db.run("alter table root detach partition \"Old\"").await;
    assert_eq!(described("root").await.len(), 2);
}

#[tokio::test]
async fn the_probe_moves_with_everything_that_an_image_holds_and_with_nothing_else() {
    let db = Server::shared().database("probe").await;
    db.run(
        "create type mood as enum ('sad'); create domain d as text; create table other (id int primary key);
         create table t (id int primary key, m mood, d d, b text not null, c int, g int generated always as (1) stored);
         create unique index t_b on t (b); create publication p for table other",
    )
    .await;
    let (t, other) = (image(&db, "t").await.relation, image(&db, "other").await.relation);
    let probe = catalog::with_parameter(catalog::CHANGED_SQL, &catalog::tables_by_oid(&[t, other, RelationId(1)]));
    let probe = async || catalog::parse_fingerprints(&db.rows(&probe).await).unwrap();
    let mut before = probe().await;
    assert_eq!(before.tables.len(), 2, "a table that does not exist has no fingerprint");
    for (sql, moves) in [
        ("insert into t values (1, 'sad', 'd', 'b', 1)", false),
        ("update t set b = 'c'", false),
        ("analyze t", false),
        ("vacuum (freeze) t", false),
        ("vacuum (freeze) pg_catalog.pg_attribute", false),
        ("create table unrelated (id int)", false),
        ("begin; alter table t add column z int; rollback", false),
        ("alter table t add column x int", true),
        ("alter table t rename column x to y", true),
        ("alter table t drop column y", true),
        ("alter table t alter column c type bigint", true),
        ("alter table t alter column c set not null", true),
        ("alter table t alter column g drop expression", true),
        ("alter type mood add value 'happy'", true),
        ("alter type mood rename value 'happy' to 'glad'", true),
        ("alter domain d rename to e", true),
        ("alter index t_b rename to t_b2", true),
        ("alter table t replica identity using index t_b2", true),
        ("create unique index t_b3 on t (b)", true),
        ("alter table t replica identity using index t_b3", true),
        ("drop index t_b2", true),
        ("create unique index t_c on t (c)", true),
        ("alter table t rename to t2", true),
        ("alter schema public rename to elsewhere", true),
        ("alter schema elsewhere rename to public", true),
    ] {
        db.run(sql).await;
        let after = probe().await;
        assert_eq!(after.tables[&t] != before.tables[&t], moves, "{sql}");
        before = after;
    }
    let unmoved = before.tables[&other].clone();
    db.run("alter table t2 add column w int").await;
    assert_eq!(probe().await.tables[&other], unmoved, "another table's columns are another table's affair");
    if db.try_run("alter table t2 add constraint proof not null w not valid").await {
        let before = probe().await.tables[&t].clone();
        db.run("update t2 set w = 1").await;
        assert_eq!(probe().await.tables[&t], before, "rows are not the catalog");
        db.run("alter table t2 validate constraint proof").await;
        assert_ne!(probe().await.tables[&t], before, "validated");
    }
    db.run("drop table t2").await;
    assert!(!probe().await.tables.contains_key(&t));
}

#[tokio::test]
async fn images_follow_renames_by_oid_and_names_find_the_table_of_the_day() {
    let db = Server::shared().database("renames").await;
    db.run("create table t (id int primary key); create table u (id int, x int)").await;
    let first = image(&db, "t").await;
    db.run("alter table t rename to old; alter table u rename to t").await;
    let by_oid = catalog::with_parameter(catalog::IMAGE_SQL, &catalog::tables_by_oid(&[first.relation]));
    let by_oid = catalog::parse_images(&db.rows(&by_oid).await).unwrap().images.remove(0);
    assert_eq!((by_oid.relation, by_oid.name), (first.relation, name("public", "old")));
    assert_ne!(image(&db, "t").await.relation, first.relation);
}

/// A Relation message and its transaction, from the slot through SQL.
async fn relations(db: &Database, slot: &str) -> Vec<(u32, Listing)> {
    let sql = format!(
        "select xid::text, encode(data, 'hex') from pg_logical_slot_peek_binary_changes('{slot}', null, null, \
         'proto_version', '1', 'publication_names', 'p')"
    );
    let message = |row: &Vec<Option<String>>| {
        let [Some(xid), Some(hex)] = row.as_slice() else { panic!("{row:?}") };
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        (bytes[0] == b'R').then(|| (xid.parse().unwrap(), server::relation(&bytes)))
    };
    db.rows(&sql).await.iter().filter_map(message).collect()
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.columns.iter().map(|column: &ListedColumn| column.name.as_str()).collect()
}

/// The stream is ahead of every catalog read while a commit waits for a synchronous standby.
#[tokio::test]
async fn a_catalog_read_after_delivery_can_be_older_than_the_stream_and_the_xid_test_says_so() {
    let server = Server::start(Options::default().set("synchronous_standby_names", "nobody"));
    let db = server.database("stale").await;
    db.run("create table t (id int primary key, b text, c text); create publication p for table t").await;
    db.run("select pg_create_logical_replication_slot('s', 'pgoutput')").await;
    let table = name("public", "t");
    let mut history = History::default();
    let observe = async |history: &mut History| -> (Observed, Snapshot) {
        let read = read(&db, &table).await;
        let observed = history.observe(read.samples().next().unwrap());
        (observed, read.snapshot)
    };
    observe(&mut history).await;

    let writer = db.connect().await;
    writer.run("set synchronous_commit = on").await;
    let stalled = tokio::spawn(async move {
        writer.run("begin; alter table t drop column b; alter table t add column d text; insert into t values (2, 'C', 'D'); commit").await;
    });
    let deadline = Instant::now() + DEADLINE;
    let (xid, sent) = loop {
        if let Some(found) = relations(&db, "s").await.pop() {
            break found;
        }
        assert!(Instant::now() < deadline, "the stalled transaction never came");
    };
    assert_eq!(names(&sent), ["id", "c", "d"]);
    let stale = image(&db, "t").await;
    assert_eq!(shape(&stale), "id b c", "the commit did not stall");
    let kinds: Vec<ColumnKind> = stale.columns.iter().map(|column| column.kind).collect();
    let fooled = identity::places(&kinds, &kinds, sent.columns.len()).unwrap();
    assert_eq!(fooled.place(2), Place::Certain(1), "who trusts this read takes `c` for `b`");

    let (observed, snapshot) = observe(&mut history).await;
    assert_eq!((observed, snapshot.sees_short(xid)), (Observed::Unchanged, false));
    assert_eq!(history.resolve(&sent, xid), Resolution::NeedSample);

    db.run("alter system set synchronous_standby_names = ''").await;
    db.run("select pg_reload_conf()").await;
    tokio::time::timeout(DEADLINE, stalled).await.unwrap().unwrap();
    let (observed, snapshot) = observe(&mut history).await;
    assert_eq!((observed, snapshot.sees_short(xid)), (Observed::Changed, true));
    let Resolution::Unknown { version, .. } = history.resolve(&sent, xid) else {
        panic!("a drop and an add in one window")
    };
    assert_eq!(version.columns.iter().map(|column| column.attnum).collect::<Vec<_>>(), [Some(1), None, None]);

    // The next transaction lies between two equal images.
    db.run("insert into t values (3, 'C', 'D')").await;
    observe(&mut history).await;
    let (xid, sent) = relations(&db, "s").await.pop().unwrap();
    match history.resolve(&sent, xid) {
        Resolution::NeedSample => panic!("its commit is over"),
        Resolution::Version(version, Certainty::Exact) => {
            assert_eq!(
                version.columns.iter().map(|column| column.attnum).collect::<Vec<_>>(),
                [Some(1), Some(3), Some(4)]
            );
            assert_eq!(version.columns[1].source_type, Some(SourceType::Text));
            assert!(version.columns[0].identity && !version.columns[1].identity);
        }
        other => panic!("{other:?}"),
    }
}
