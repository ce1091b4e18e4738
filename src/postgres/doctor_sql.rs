//! The statements of `gimbal doctor`. They only read, and need no right beyond the daemon's own.

use crate::postgres::catalog::{IMAGE_SQL, LEAVES_SQL};
use crate::postgres::statements::Statement;

/// The server, and the role that asks: in recovery, `wal_level`, slots and senders with their limits,
/// `max_slot_wal_keep_size` in MB (−1: unlimited), encoding, data folder where the role may know it, REPLICATION,
/// superuser, `pg_read_all_stats`, seconds until an idle slot is lost (PostgreSQL 18 and newer).
pub const SERVER: &str = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('wal_level'), \
     pg_catalog.current_setting('max_replication_slots')::pg_catalog.int8, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots), \
     pg_catalog.current_setting('max_wal_senders')::pg_catalog.int8, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication), \
     (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'), \
     pg_catalog.current_setting('server_encoding'), \
     (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'data_directory'), \
     r.rolreplication, r.rolsuper, pg_catalog.pg_has_role(r.oid, 'pg_read_all_stats', 'USAGE'), \
     (SELECT setting::pg_catalog.int8 FROM pg_catalog.pg_settings WHERE name = 'idle_replication_slot_timeout') \
     FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// The server's clock, in microseconds since 1970.
pub const CLOCK: &str = "SELECT (EXTRACT(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8";

/// The slot, who reads it, and what it keeps.
pub const SLOT: &str = "SELECT s.active_pid, s.wal_status, s.safe_wal_size, s.plugin::pg_catalog.text, \
     s.database::pg_catalog.text, a.application_name, \
     pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_flush_lsn(), s.restart_lsn)::pg_catalog.int8 \
     FROM pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid \
     WHERE s.slot_name = $1";

/// The publications and how they publish.
pub const PUBLICATIONS: &str = "SELECT p.pubname::pg_catalog.text, p.puballtables, p.pubviaroot, p.pubinsert, \
     p.pubupdate, p.pubdelete, p.pubtruncate, \
     coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols' <> 'n', false) FROM pg_catalog.pg_publication p WHERE p.pubname = ANY ($1)";

/// The tables that publications name, and whether with a row filter or a column list.
pub const PUBLICATION_TABLES: &str = "SELECT p.pubname::pg_catalog.text, n.nspname::pg_catalog.text, \
     c.relname::pg_catalog.text, pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL, \
     pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL FROM pg_catalog.pg_publication p \
     JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = ANY ($1)";

/// Namespaces that publications publish as a whole: of their tables, some are named nowhere.
pub const PUBLISHED_NAMESPACES: &str = "SELECT DISTINCT t.pubname::pg_catalog.text, t.schemaname::pg_catalog.text \
     FROM pg_catalog.pg_publication_tables t JOIN pg_catalog.pg_publication p ON p.pubname = t.pubname \
     WHERE p.pubname = ANY ($1) AND NOT p.puballtables AND p.pubviaroot AND NOT EXISTS ( \
     SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_class c ON c.oid = r.prrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE r.prpubid = p.oid AND n.nspname = t.schemaname AND c.relname = t.tablename)";

/// What the role may do with tables, and whether row security filters them for it.
pub const TABLE_RIGHTS: &str = "SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
     pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
     pg_catalog.row_security_active(c.oid) FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1)";

/// All of them, for `install --print`.
pub const ALL: &[Statement] = &[
    Statement { purpose: "doctor: the server and the role", text: SERVER },
    Statement { purpose: "doctor: the server's clock", text: CLOCK },
    Statement { purpose: "doctor: the slot and who reads it", text: SLOT },
    Statement { purpose: "doctor: the publications", text: PUBLICATIONS },
    Statement { purpose: "doctor: their tables", text: PUBLICATION_TABLES },
    Statement { purpose: "doctor: namespaces that they publish as a whole", text: PUBLISHED_NAMESPACES },
    Statement { purpose: "doctor: the contracted tables' catalog", text: IMAGE_SQL },
    Statement { purpose: "doctor: their partitions", text: LEAVES_SQL },
    Statement { purpose: "doctor: the role's rights, and row security", text: TABLE_RIGHTS },
    Statement { purpose: "doctor: a login for replication", text: "IDENTIFY_SYSTEM" },
];
