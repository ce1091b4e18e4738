//! The server as a whole: settings, limits, the role, the clock.

use super::facts::{Server, Source};
use super::report::{Finding, Fix};
use crate::error::{Code, Kind};
use crate::postgres::catalog::quote_identifier as quote;

/// `max_slot_wal_keep_size` that is proposed where nothing is known of the disk: hours of a busy shop.
const KEEP_PROPOSED: u64 = 10 << 30;

/// Below this (1 GiB), a daemon that is down for minutes can lose its slot.
const KEEP_SMALL: u64 = 1 << 30;

/// Below this (a day, in seconds), a daemon that is down over night can lose its slot.
const IDLE_SHORT: u64 = 86_400;

/// More than this (5 s) is more than a lost packet or a busy machine.
const CLOCK_OFFSET_MAX: i64 = 5_000_000;

/// All checks of the server.
pub(super) fn check(source: &Source) -> Vec<Finding> {
    let server = &source.server;
    let mut findings = Vec::new();
    findings.extend(standby(server));
    findings.extend(wal_level(server));
    findings.extend(encoding(source));
    findings.extend(keep_size(server));
    findings.extend(slot_idle(server));
    findings.extend(role(source));
    findings.extend(clock(source.clock_offset));
    if server.in_recovery {
        return findings;
    }
    findings.extend(senders(source));
    findings.extend(slots(source));
    findings.extend(replication(source));
    findings
}

fn standby(server: &Server) -> Option<Finding> {
    server.in_recovery.then(|| {
        let what = "the server is a standby, gimbal reads from a primary";
        Finding::error("standby", Code::SourceStandby, what, Fix::Sql("SELECT pg_promote()".into()))
    })
}

fn wal_level(server: &Server) -> Option<Finding> {
    (server.wal_level != "logical").then(|| {
        let what = format!("the server has `wal_level = {}`, gimbal needs `logical`", server.wal_level);
        let fix = Fix::SqlAndRestart("ALTER SYSTEM SET wal_level = 'logical'".into());
        Finding::error("wal-level", Code::SourceSetting, what, fix)
    })
}

fn encoding(source: &Source) -> Option<Finding> {
    let name = &source.url.database;
    (source.server.encoding == "SQL_ASCII").then(|| {
        let what = format!("database `{name}` has the encoding SQL_ASCII, gimbal needs one that says what its bytes mean");
        let fix = format!(
            "createdb -T template0 -E UTF8 {name}_utf8 && pg_dump {name} | psql -v ON_ERROR_STOP=1 {name}_utf8   # then \
             name `{name}_utf8` in `source.url`"
        );
        Finding::error("encoding", Code::SourceSetting, what, Fix::Shell(fix))
    })
}

/// A slot keeps log without end unless this setting ends it: the one way in which gimbal could endanger the source.
fn keep_size(server: &Server) -> Option<Finding> {
    let propose = |bytes: u64| {
        let megabytes = (bytes >> 20).max(64);
        Fix::Sql(format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{megabytes}MB'; SELECT pg_reload_conf()"))
    };
    let half = server.disk_free.map(|free| free / 2);
    let proposed = half.map_or(KEEP_PROPOSED, |half| half.min(KEEP_PROPOSED));
    match (server.slot_keep, server.disk_free) {
        (None, _) => {
            let what = "the server has `max_slot_wal_keep_size = -1`: a daemon that is down for long fills its disk; gimbal \
                        needs a limit";
            Some(Finding::error("slot-keep-size", Code::SlotRetention, what, propose(proposed)))
        }
        (Some(keep), Some(free)) if keep > free => {
            let what = format!(
                "the server has `max_slot_wal_keep_size` = {} and {} free on its disk: slots may fill it",
                size(keep),
                size(free)
            );
            Some(Finding::error("slot-keep-size", Code::SlotRetention, what, propose(proposed)))
        }
        (Some(keep), _) if keep < KEEP_SMALL && proposed > keep => {
            let what = format!(
                "the server has `max_slot_wal_keep_size` = {}, less than {}: a daemon that is down for minutes can lose its \
                 slot",
                size(keep),
                size(KEEP_SMALL)
            );
            Some(Finding::warning("slot-keep-small", Code::SlotRetention, what, propose(proposed)))
        }
        _ => None,
    }
}

/// Since PostgreSQL 18 the server can end slots that nobody reads.
fn slot_idle(server: &Server) -> Option<Finding> {
    let seconds = server.slot_idle.filter(|seconds| *seconds < IDLE_SHORT)?;
    let what = format!(
        "the server has `idle_replication_slot_timeout` = {seconds} s, less than a day: a daemon that is down for longer \
         loses its slot"
    );
    let fix = "ALTER SYSTEM SET idle_replication_slot_timeout = '1d'; SELECT pg_reload_conf()";
    Some(Finding::warning("slot-idle-timeout", Code::SlotRetention, what, Fix::Sql(fix.into())))
}

fn role(source: &Source) -> Vec<Finding> {
    let (server, user) = (&source.server, &source.url.user);
    let mut findings = Vec::new();
    if !server.may_replicate && !server.superuser {
        let what = format!("role `{user}` has no REPLICATION, gimbal needs it to stream");
        let fix = Fix::Sql(format!("ALTER ROLE {} REPLICATION", quote(user)));
        findings.push(Finding::error("role-replication", Code::SourceRights, what, fix));
    }
    if !server.reads_all_stats {
        let what = format!(
            "role `{user}` is no member of pg_read_all_stats: gimbal cannot say whose transaction a snapshot waits for"
        );
        let fix = Fix::Sql(format!("GRANT pg_read_all_stats TO {}", quote(user)));
        findings.push(Finding::warning("role-stats", Code::SourceRights, what, fix));
    }
    findings
}

fn clock(offset: i64) -> Option<Finding> {
    (offset.abs() > CLOCK_OFFSET_MAX).then(|| {
        let seconds = offset.abs() as f64 / 1e6;
        let direction = if offset > 0 { "ahead of" } else { "behind" };
        let what = format!(
            "this machine's clock is {seconds:.1} s {direction} the server's: freshness and latency are wrong by as much"
        );
        Finding::warning("clock", Code::ClockSkew, what, Fix::Shell("timedatectl set-ntp true".into()))
    })
}

fn slots(source: &Source) -> Option<Finding> {
    let server = &source.server;
    let has_its_own = source.rest.as_ref().is_some_and(|rest| rest.slot.is_some());
    (server.slots >= server.slots_max && !has_its_own).then(|| {
        let what = format!(
            "the server has {} slots and `max_replication_slots = {}`, this pipeline needs one more",
            server.slots, server.slots_max
        );
        let fix = format!("ALTER SYSTEM SET max_replication_slots = {}", server.slots + 5);
        Finding::error("slots-exhausted", Code::SlotsExhausted, what, Fix::SqlAndRestart(fix))
    })
}

fn senders(source: &Source) -> Option<Finding> {
    let server = &source.server;
    (server.senders >= server.senders_max && !streams(source)).then(|| {
        let what = format!(
            "the server has {} replication connections and `max_wal_senders = {}`, this pipeline needs one more",
            server.senders, server.senders_max
        );
        let fix = format!("ALTER SYSTEM SET max_wal_senders = {}", server.senders + 5);
        Finding::error("senders-exhausted", Code::SlotsExhausted, what, Fix::SqlAndRestart(fix))
    })
}

/// True if somebody reads the slot, most likely the daemon.
fn streams(source: &Source) -> bool {
    let slot = source.rest.as_ref().and_then(|rest| rest.slot.as_ref());
    slot.is_some_and(|slot| slot.active_pid.is_some())
}

/// A login for replication that failed for a reason that no other check names.
fn replication(source: &Source) -> Option<Finding> {
    let server = &source.server;
    let error = source.replication.as_ref().err()?;
    let named = (!server.may_replicate && !server.superuser)
        || server.senders >= server.senders_max
        || server.encoding == "SQL_ASCII";
    if named {
        return None;
    }
    let mut finding = Finding::of_error("replication-login", error);
    if error.code() == Code::SourceAuth {
        finding.what = format!("ordinary SQL works, and a login for replication does not: {}", error.diagnosis());
    }
    if error.kind() == Kind::Transient {
        finding.severity = crate::diagnostic::Severity::Warning;
    }
    Some(finding)
}

/// A number of bytes as people read it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}
