//! Every statement that gimbal runs on production at run time, in one place, so that `install --print` can list them.
//!
//! `{…}` stands for what is filled in: quoted identifiers, literals and numbers.

use crate::postgres::catalog::{CHANGED_SQL, IMAGE_SQL, LEAVES_SQL};

/// A statement with its purpose.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// When and why it runs.
    pub purpose: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// The heartbeat: one small transaction at each start, every ten seconds and once a snapshot chunk.
pub const HEARTBEAT: &str = "SELECT pg_catalog.pg_logical_emit_message(true, 'gimbal.heartbeat', $1)";

/// The snapshot of this moment.
pub const SNAPSHOT: &str = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text";

/// Begins a chunk's transaction.
pub const CHUNK_BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A chunk's fence: its snapshot, then the log's position.
pub const CHUNK_FENCE: &str =
    "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text";

/// Ends a chunk's transaction.
pub const CHUNK_END: &str = "COMMIT";

/// The leaf's file after the read.
pub const FILENODE: &str = "SELECT pg_catalog.pg_relation_filenode($1::pg_catalog.oid)";

/// The slot, its state and what it was acknowledged.
pub const SLOT: &str = "SELECT confirmed_flush_lsn::pg_catalog.text, active, wal_status, database::pg_catalog.text, \
     plugin::pg_catalog.text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";

/// Which tables a publication holds, and how.
pub const PUBLICATION: &str = "SELECT p.pubname::pg_catalog.text, p.puballtables, p.pubviaroot, p.pubinsert, p.pubupdate, \
     p.pubdelete, p.pubtruncate, r.prrelid, pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL OR \
     pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL, r.oid, \
     coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols' <> 'n', false) FROM pg_catalog.pg_publication p \
     LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid WHERE p.pubname = ANY ($1)";

/// How these tables stand in these publications, gone or not; a table that is gone has no row.
pub const MEMBERSHIP: &str = "SELECT c.oid, n.name, r.oid FROM pg_catalog.pg_class c \
     CROSS JOIN pg_catalog.unnest($2::pg_catalog.text[]) AS n (name) \
     LEFT JOIN pg_catalog.pg_publication p ON p.pubname = n.name LEFT JOIN pg_catalog.pg_publication_rel r \
     ON r.prpubid = p.oid AND r.prrelid = c.oid WHERE c.oid = ANY ($1)";

/// Which table a name means.
pub const TABLE_BY_NAME: &str = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON \
     n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";

/// How much log the server keeps for the slot, and how much room is left.
pub const RETENTION: &str = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), restart_lsn)::pg_catalog.int8, \
     safe_wal_size, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), confirmed_flush_lsn)::pg_catalog.int8 \
     FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";

/// Where the log is flushed to, for `run --once`.
pub const FLUSH_LSN: &str = "SELECT pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text";

/// Who holds the oldest transaction, when a fence waits for long.
pub const BLOCKER: &str = "SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL \
     ORDER BY pg_catalog.age(backend_xid) DESC LIMIT 1";

/// The name of a heap by its oid, without a lock on it.
pub const LEAF_NAME: &str = "SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1 AND c.relkind = 'r'";

/// The read of a chunk. Columns are named by the contract's current columns, the leaf by its name.
pub const CHUNK_COPY: &str =
    "COPY (SELECT ctid, {columns} FROM ONLY {leaf} WHERE ctid >= '{from}' AND ctid < '{to}' LIMIT {limit}) TO STDOUT";

/// Rows by their keys, for values that the stream does not carry.
pub const REREAD: &str = "SELECT {columns} FROM {table} WHERE ({key}) IN ({keys})";

/// Which keys of a topic a table lacks, one index search a key. `OFFSET 0` keeps the planner from reading the whole table
/// for them.
pub const KEYS_MISSING: &str = "SELECT k.n FROM ROWS FROM ({arrays}) WITH ORDINALITY AS k({names}, n) \
     WHERE NOT EXISTS (SELECT FROM {table} t WHERE {equal} OFFSET 0)";

/// The rows of a few keys that somebody named.
pub const KEYS_NAMED: &str = "SELECT {keys}, t.* FROM (VALUES {values}) AS k(n, {names}) LEFT JOIN LATERAL \
     (SELECT true, {columns} FROM {table} t WHERE {equal} LIMIT 1) t ON true ORDER BY k.n";

/// All of them, for `install --print`.
pub const ALL: &[Statement] = &[
    Statement { purpose: "connect: identify the server", text: "IDENTIFY_SYSTEM" },
    Statement { purpose: "connect, after a failover: where timelines were left", text: "TIMELINE_HISTORY {timeline}" },
    Statement {
        purpose: "first start: create the slot, and read the catalog at its point",
        text: "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ; \
               CREATE_REPLICATION_SLOT {slot} LOGICAL pgoutput USE_SNAPSHOT; {catalog image}; COMMIT",
    },
    Statement {
        purpose: "first start that was broken off, or start after `gimbal adopt`: drop the slot again",
        text: "DROP_REPLICATION_SLOT {slot} WAIT",
    },
    Statement {
        purpose: "stream",
        text: "START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names '{publications}', messages 'true')",
    },
    Statement { purpose: "connect, on schema changes and every 10 s: the contracted tables' catalog", text: IMAGE_SQL },
    Statement { purpose: "every second: has the catalog moved", text: CHANGED_SQL },
    Statement { purpose: "snapshot: the heaps of a table", text: LEAVES_SQL },
    Statement { purpose: "connect: look at the slot", text: SLOT },
    Statement { purpose: "connect: look at the publications", text: PUBLICATION },
    Statement { purpose: "every second: are the tables in the publications still", text: MEMBERSHIP },
    Statement { purpose: "connect: find a table by the name in its contract", text: TABLE_BY_NAME },
    Statement { purpose: "connect, every 10 s, and once a snapshot chunk: heartbeat", text: HEARTBEAT },
    Statement { purpose: "every 10 s: log kept for the slot", text: RETENTION },
    Statement { purpose: "run --once: where to stop", text: FLUSH_LSN },
    Statement { purpose: "fences: the snapshot of this moment", text: SNAPSHOT },
    Statement { purpose: "a fence that waits for 60 s: who is in the way", text: BLOCKER },
    Statement { purpose: "snapshot chunk, re-read: begin", text: CHUNK_BEGIN },
    Statement { purpose: "snapshot chunk, re-read: snapshot and position", text: CHUNK_FENCE },
    Statement { purpose: "snapshot chunk: the leaf's name", text: LEAF_NAME },
    Statement { purpose: "snapshot chunk: read", text: CHUNK_COPY },
    Statement { purpose: "snapshot chunk: was the leaf rewritten", text: FILENODE },
    Statement { purpose: "repair: which keys of the topic the table lacks", text: KEYS_MISSING },
    Statement { purpose: "repair --key: the rows of these keys", text: KEYS_NAMED },
    Statement { purpose: "snapshot chunk, re-read: end", text: CHUNK_END },
    Statement { purpose: "an update that leaves a large value alone: the value, by the row's key", text: REREAD },
];
