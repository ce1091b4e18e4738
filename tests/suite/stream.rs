//! The replication stream, against a real server.

use std::time::{Duration, Instant};

use gimbal::error::{Code, Error, Kind};
use gimbal::lsn::Lsn;
use gimbal::pgoutput::{self, Message};
use gimbal::postgres::connection::Connection;
use gimbal::postgres::stream::{Frame, Stream, StreamEvent, StreamHandle, StreamLimits};
use gimbal::row::{Datum, Row};

use crate::connection::start_with_tls;
use crate::pg::{Postgres, shell, wait_until};

/// A database with a table, a publication and a slot, all named alike.
fn prepare(server: &Postgres, name: &str, columns: &str) -> String {
    let database = server.database(name);
    server.psql(
        &database,
        &format!(
            "CREATE TABLE t ({columns}); CREATE PUBLICATION {name} FOR TABLE t;
             SELECT 1 FROM pg_create_logical_replication_slot('{name}', 'pgoutput')"
        ),
    );
    database
}

fn spawn(server: &Postgres, name: &str) -> StreamHandle {
    Stream::spawn(server.connect(name), name, &[name]).expect("a stream")
}

/// Takes events until `take` says that it has enough. Returns the error that ended the stream, if one did.
fn read_until(handle: &StreamHandle, mut take: impl FnMut(Frame<'_>) -> bool) -> Option<Error> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match handle.events.recv_deadline(deadline).expect("an event in time") {
            StreamEvent::Ended(error) => return Some(error),
            StreamEvent::Frames(buffer) => {
                let mut enough = false;
                for frame in buffer.frames() {
                    enough |= take(frame);
                }
                handle.recycle(buffer);
                if enough {
                    return None;
                }
            }
        }
    }
}

fn texts(message: &[u8], tuple: &pgoutput::Tuple<'_>) -> String {
    let mut cells = Vec::new();
    tuple.cells(&mut cells);
    let row = Row { buffer: message, cells: &cells };
    let text = |place| match row.get(place) {
        Datum::Null => "null".to_string(),
        Datum::Unchanged => "unchanged".to_string(),
        Datum::Text(text) => String::from_utf8_lossy(text).into_owned(),
    };
    (0..cells.len()).map(text).collect::<Vec<_>>().join("|")
}

fn old_texts(message: &[u8], old: &pgoutput::OldTuple<'_>) -> String {
    let kind = if matches!(old, pgoutput::OldTuple::Full(_)) { "full" } else { "key" };
    format!("{kind} {}", texts(message, &old.tuple()))
}

/// One line per message, without what differs from run to run.
fn describe(message: &[u8]) -> String {
    match pgoutput::decode(message).expect("a message of pgoutput") {
        Message::Begin(_) => "begin".to_string(),
        Message::Commit(_) => "commit".to_string(),
        Message::Origin(origin) => format!("origin {}", origin.name),
        Message::Relation(relation) => {
            let columns: Vec<_> = relation
                .columns()
                .map(|c| format!("{}{}:{}", c.name, if c.key { "*" } else { "" }, c.type_oid))
                .collect();
            format!(
                "relation {}.{} {:?} {}",
                relation.namespace,
                relation.name,
                relation.replica_identity,
                columns.join(" ")
            )
        }
        Message::Type(named) => format!("type {}.{}", named.namespace, named.name),
        Message::Insert { new, .. } => format!("insert {}", texts(message, &new)),
        Message::Update { old, new, .. } => {
            let old = old.map_or("nothing".to_string(), |old| old_texts(message, &old));
            format!("update {old} to {}", texts(message, &new))
        }
        Message::Delete { old, .. } => format!("delete {}", old_texts(message, &old)),
        Message::Truncate(truncate) => format!("truncate {} cascade={}", truncate.relations().len(), truncate.cascade),
        Message::Logical(logical) => {
            format!("logical {} {}", logical.prefix, String::from_utf8_lossy(logical.content))
        }
    }
}

#[test]
fn the_stream_delivers_every_kind_of_message_as_the_server_meant_it() {
    let server = Postgres::shared();
    let database = prepare(server, "kinds", "id int PRIMARY KEY, v text, big text");
    let handle = spawn(server, "kinds");
    server.psql(
        &database,
        "ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
         INSERT INTO t VALUES (1, 'ä', repeat('x', 3000)), (2, NULL, '');
         UPDATE t SET v = 'b' WHERE id = 1;
         UPDATE t SET id = 3 WHERE id = 2;
         DELETE FROM t WHERE id = 3;
         ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE TYPE mood AS ENUM ('calm'); ALTER TABLE t ADD m mood;
         BEGIN; DELETE FROM t WHERE id = 1; TRUNCATE t CASCADE; COMMIT;
         SELECT 1 FROM pg_logical_emit_message(true, 'gimbal', 'end')",
    );
    let mut seen = Vec::new();
    let ended = read_until(&handle, |frame| {
        if let Frame::Data { message, .. } = frame {
            seen.push(describe(message).replace(&"x".repeat(3000), "<3000 x>"));
        }
        seen.last().is_some_and(|last| last == "commit") && seen.iter().any(|line| line == "logical gimbal end")
    });
    assert!(ended.is_none(), "{ended:?}");
    // A relation may be described again without having changed.
    let mut described = std::collections::HashSet::new();
    seen.retain(|line| match line.split(' ').next() {
        Some("begin" | "commit") => false,
        Some("relation" | "type") => described.insert(line.clone()),
        _ => true,
    });
    assert_eq!(
        seen,
        [
            "relation public.t Default id*:23 v:25 big:25".to_string(),
            "insert 1|ä|<3000 x>".to_string(),
            "insert 2|null|".to_string(),
            "update nothing to 1|b|unchanged".to_string(),
            "update key 2|null|null to 3|null|".to_string(),
            "delete key 3|null|null".to_string(),
            "type public.mood".to_string(),
            format!(
                "relation public.t Full id*:23 v*:25 big*:25 m*:{}",
                server.psql(&database, "SELECT 'mood'::regtype::oid")
            ),
            "delete full 1|b|<3000 x>|null".to_string(),
            "truncate 1 cascade=true".to_string(),
            "logical gimbal end".to_string(),
        ]
    );
    handle.stop().expect("a clean end");
}

#[test]
fn positions_rise_and_a_confirmed_one_reaches_the_slot() {
    let server = Postgres::shared();
    let database = prepare(server, "confirming", "id int PRIMARY KEY");
    let confirmed = || {
        server.psql(&database, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'confirming'")
    };
    let start = confirmed();
    let handle = spawn(server, "confirming");
    let commits = |wanted: usize| {
        let mut ends = Vec::new();
        let mut begin = Lsn(0);
        let ended = read_until(&handle, |frame| {
            if let Frame::Data { message, .. } = frame {
                match pgoutput::decode(message).expect("a message") {
                    Message::Begin(seen) => begin = seen.commit_lsn,
                    Message::Commit(seen) => {
                        assert_eq!(seen.commit_lsn, begin, "Begin and Commit name the same record");
                        assert!(seen.end_lsn > seen.commit_lsn);
                        ends.push(seen.end_lsn);
                    }
                    _ => {}
                }
            }
            ends.len() == wanted
        });
        assert!(ended.is_none() && ends.is_sorted(), "{ended:?} {ends:?}");
        ends
    };
    server.psql(&database, "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)");
    let ends = commits(2);
    let replied = || {
        server.psql(&database, "SELECT coalesce(max(reply_time)::text, '') FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE slot_name = 'confirming'")
    };
    let before = replied();
    wait_until("a status update by the timer", || replied() > before);
    assert_eq!(confirmed(), start, "nothing is confirmed by reading alone");
    handle.confirm(ends[0]);
    wait_until("the position in the slot", || confirmed() == ends[0].to_string());

    server.psql(&database, "INSERT INTO t VALUES (3)");
    let last = commits(1)[0];
    handle.confirm(last);
    handle.stop().expect("a clean end");
    assert_eq!(confirmed(), last.to_string(), "stop confirms what was confirmed just before");
    assert_eq!(server.psql(&database, "SELECT active FROM pg_replication_slots WHERE slot_name = 'confirming'"), "f");
}

#[test]
fn stop_confirms_in_the_middle_of_a_large_transaction() {
    let server = Postgres::shared();
    let database = prepare(server, "amid", "id int PRIMARY KEY, v text");
    let handle = spawn(server, "amid");
    server.psql(
        &database,
        "INSERT INTO t VALUES (0); INSERT INTO t SELECT i, repeat('v', 2000) FROM generate_series(1, 30000) i",
    );
    let (mut first, mut rows) = (Lsn(0), 0);
    let ended = read_until(&handle, |frame| {
        let Frame::Data { message, .. } = frame else { return false };
        match pgoutput::decode(message).expect("a message") {
            Message::Commit(commit) => first = commit.end_lsn,
            Message::Insert { .. } => rows += 1,
            _ => {}
        }
        rows > 1000
    });
    assert!(ended.is_none() && first > Lsn(0), "{ended:?}");
    handle.confirm(first);
    handle.stop().expect("a clean end");
    let confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'amid'";
    assert_eq!(server.psql(&database, confirmed), first.to_string());
}

#[test]
fn a_second_stream_from_the_slot_is_refused_and_the_first_goes_on() {
    let server = Postgres::shared();
    let database = prepare(server, "held", "id int PRIMARY KEY");
    let first = spawn(server, "held");
    let error = Stream::spawn(server.connect("held"), "held", &["held"]).err().expect("refused");
    assert_eq!((error.code(), error.kind()), (Code::SlotHeld, Kind::Transient), "{error}");
    server.psql(&database, "INSERT INTO t VALUES (1)");
    let mut seen = false;
    read_until(&first, |frame| {
        seen |= matches!(frame, Frame::Data { message, .. } if message.first() == Some(&b'I'));
        seen
    });
    first.stop().expect("a clean end");
    spawn(server, "held").stop().expect("free again");
}

#[test]
fn a_missing_slot_and_a_missing_publication_are_told_apart() {
    let server = Postgres::shared();
    let database = prepare(server, "missing", "id int PRIMARY KEY");
    let error = Stream::spawn(server.connect("missing"), "nowhere", &["missing"]).err().expect("refused");
    assert_eq!((error.code(), error.kind()), (Code::SlotLost, Kind::Definite), "{error}");

    let handle = Stream::spawn(server.connect("missing"), "missing", &["nobody's \"publication\""]).expect("a stream");
    server.psql(&database, "INSERT INTO t VALUES (1)");
    let error = read_until(&handle, |_| false).expect("an end");
    assert_eq!((error.code(), error.kind()), (Code::PublicationInvalid, Kind::Definite), "{error}");
    handle.stop().expect_err("it had ended before");
}

#[test]
fn a_killed_connection_ends_the_stream_with_a_transient_error() {
    let server = Postgres::shared();
    prepare(server, "killed", "id int PRIMARY KEY");
    let handle = spawn(server, "killed");
    server.psql(
        "postgres",
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'killed'",
    );
    let error = read_until(&handle, |_| false).expect("an end");
    assert_eq!((error.code(), error.kind()), (Code::SourceUnreachable, Kind::Transient), "{error}");
}

#[test]
fn the_status_goes_on_while_nobody_takes_what_was_read() {
    let server = Postgres::shared();
    let database = prepare(server, "stalled", "id int PRIMARY KEY, v text");
    let mut connection = server.connect("stalled");
    connection.simple_query("SET wal_sender_timeout = '2s'").expect("set");
    let handle = Stream::spawn(connection, "stalled", &["stalled"]).expect("a stream");
    // More than every buffer between the server and the test can hold.
    let rows = 60_000;
    server.psql(&database, &format!("INSERT INTO t SELECT i, repeat('v', 1000) FROM generate_series(1, {rows}) i"));
    wait_until("a full channel", || handle.events.is_full());
    let alive = |seconds: u32| {
        let ask = format!(
            "SELECT count(*) FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid
             WHERE slot_name = 'stalled' AND reply_time > backend_start + interval '{seconds} s'"
        );
        server.psql(&database, &ask) == "1"
    };
    // Three times the server's patience.
    wait_until("updates for six seconds", || alive(6));
    handle.confirm(Lsn(1));
    let mut count = 0;
    let ended = read_until(&handle, |frame| {
        if let Frame::Data { message, .. } = frame {
            count += u32::from(message.first() == Some(&b'I'));
        }
        count == rows
    });
    assert!(ended.is_none(), "{ended:?}");
    handle.stop().expect("a clean end");
}

#[test]
fn an_idle_server_is_kept_and_a_frozen_one_is_given_up() {
    let server = Postgres::shared();
    let database = prepare(server, "frozen", "id int PRIMARY KEY");
    let limits = StreamLimits { silence_max: Duration::from_secs(2), ..StreamLimits::default() };
    let handle = Stream::spawn_within(server.connect("frozen"), "frozen", &["frozen"], limits).expect("a stream");
    let walsender =
        "FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE slot_name = 'frozen'";
    // Nothing happens in the database for longer than the stream would stand silence.
    wait_until("an idle stream that lives", || {
        server.psql(&database, &format!("SELECT count(*) {walsender} AND reply_time > backend_start + interval '4 s'"))
            == "1"
    });
    let pid = server.psql(&database, &format!("SELECT r.pid {walsender}"));
    shell(&format!("kill -STOP {pid}"));
    let error = read_until(&handle, |_| false);
    shell(&format!("kill -CONT {pid}"));
    let error = error.expect("an end");
    assert_eq!((error.code(), error.kind()), (Code::SourceUnreachable, Kind::Transient), "{error}");
    assert!(error.diagnosis().contains("silent"), "{error}");
}

#[test]
fn a_large_value_passes_and_one_over_the_bound_is_refused() {
    let server = Postgres::shared();
    let database = prepare(server, "large", "id int PRIMARY KEY, v text");
    server.psql(&database, "INSERT INTO t VALUES (1, repeat('0123456789', 2 << 20)), (2, 'small')");
    let handle = spawn(server, "large");
    let mut lengths = Vec::new();
    let ended = read_until(&handle, |frame| {
        if let Frame::Data { message, .. } = frame
            && let Ok(Message::Insert { new, .. }) = pgoutput::decode(message)
        {
            let text = texts(message, &new);
            assert!(!text.starts_with('1') || text.get(2..).is_some_and(|v| v.bytes().step_by(10).all(|b| b == b'0')));
            lengths.push(text.len());
        }
        lengths.len() == 2
    });
    assert!(ended.is_none(), "{ended:?}");
    assert_eq!(lengths, [2 + (20 << 20), 7]);
    handle.stop().expect("a clean end");

    let limits = StreamLimits { message_bytes_max: 1 << 20, ..StreamLimits::default() };
    let handle = Stream::spawn_within(server.connect("large"), "large", &["large"], limits).expect("a stream");
    let error = read_until(&handle, |_| false).expect("an end");
    assert_eq!((error.code(), error.kind()), (Code::MessageTooLarge, Kind::Definite), "{error}");
}

#[test]
fn the_stream_under_tls_loses_nothing_to_a_slow_reader() {
    let server = start_with_tls();
    let database = prepare(&server, "encrypted", "id int PRIMARY KEY, v text");
    let query = format!("?sslmode=verify-full&sslrootcert={}", server.folder.join("ca.crt").display());
    let url = server.url_to("localhost", "postgres", &database, &query);
    let connection = Connection::connect(&url, None).expect("a connection");
    let handle = Stream::spawn(connection, "encrypted", &["encrypted"]).expect("a stream");
    let rows = 50_000_u64;
    server.psql(&database, &format!("INSERT INTO t SELECT i, repeat('v', i % 700) FROM generate_series(1, {rows}) i"));
    let mut next = 1;
    let ended = read_until(&handle, |frame| {
        if let Frame::Data { message, .. } = frame
            && let Ok(Message::Insert { new, .. }) = pgoutput::decode(message)
        {
            let text = texts(message, &new);
            let expected = format!("{next}|");
            assert!(
                text.starts_with(&expected) && text.len() as u64 == expected.len() as u64 + next % 700,
                "row {next}"
            );
            next += 1;
        }
        next > rows
    });
    assert!(ended.is_none(), "{ended:?}");
    handle.stop().expect("a clean end");
}
