//! The slot: ours, read by our daemon or by nobody, with log to spare.

use super::facts::{Facts, Rest, SinkFacts, Slot, Source};
use super::report::{Finding, Fix};
use super::server::size;
use crate::diagnostic::Severity;
use crate::error::Code;
use crate::postgres::catalog::quote_literal;
use crate::postgres::connection::APPLICATION_NAME;

/// Of what a slot may keep, the shares in percent from which it is a warning, and an error.
const RETAINED_WARNING: u64 = 50;
const RETAINED_ERROR: u64 = 80;

/// All checks of the slot.
pub(super) fn check(source: &Source, rest: &Rest, facts: &Facts<'_>) -> Vec<Finding> {
    let name = &facts.config.source.slot;
    let Some(slot) = &rest.slot else { return missing(name, facts).into_iter().collect() };
    if let Some(finding) = foreign(name, slot, source, facts) {
        return vec![finding];
    }
    if slot.wal_status.as_deref() == Some("lost") {
        let what = format!("slot `{name}` was invalidated: the server dropped log that it still needed");
        return vec![Finding::error("slot-lost", Code::SlotLost, what, begin_anew(facts))];
    }
    let mut findings = Vec::new();
    findings.extend(held(name, slot, facts));
    findings.extend(retention(name, slot, source));
    if facts.sink.is_new() && slot.active_pid.is_none() {
        let what = format!("slot `{name}` exists, and the sink has no checkpoint for it");
        let fix = Fix::Sql(format!("SELECT pg_drop_replication_slot({})", quote_literal(name)));
        findings.push(Finding::error("slot-without-state", Code::SlotWithoutState, what, fix));
    }
    findings
}

/// No slot is as it should be before the first start, and only then.
fn missing(name: &str, facts: &Facts<'_>) -> Option<Finding> {
    facts.sink.checkpoint().filter(|checkpoint| checkpoint.started()).map(|_| {
        let what =
            format!("slot `{name}` is gone, and the sink has a checkpoint: changes since then can no longer be read");
        Finding::error("slot-missing", Code::SlotLost, what, begin_anew(facts))
    })
}

/// The pipeline begins with a snapshot again, in topics of its own.
fn begin_anew(facts: &Facts<'_>) -> Fix {
    match &facts.sink {
        SinkFacts::Folder(folder) => {
            let path = folder.path.display();
            Fix::Shell(format!("gimbal install --remove && mv '{path}' '{path}.lost' && gimbal install && gimbal run"))
        }
        SinkFacts::Kafka(_) => Fix::Config { key: "pipeline".into(), value: format!("{}_2", facts.config.pipeline) },
    }
}

fn foreign(name: &str, slot: &Slot, source: &Source, facts: &Facts<'_>) -> Option<Finding> {
    let plugin = slot.plugin.as_deref().unwrap_or("none (a physical slot)");
    let database = slot.database.as_deref().unwrap_or("none");
    if plugin == "pgoutput" && database == source.url.database {
        return None;
    }
    let what = format!(
        "slot `{name}` has plugin `{plugin}` and database `{database}`, gimbal needs `pgoutput` and `{}`",
        source.url.database
    );
    let fix = Fix::Config { key: "source.slot".into(), value: format!("{}_2", facts.config.source.slot) };
    Some(Finding::error("slot-foreign", Code::SourceMismatch, what, fix))
}

fn held(name: &str, slot: &Slot, facts: &Facts<'_>) -> Option<Finding> {
    let pid = slot.active_pid.filter(|_| !facts.daemon_runs())?;
    let application = slot.application.as_deref().unwrap_or("unknown");
    let what = format!(
        "slot `{name}` is held by process {pid} of the server (application `{application}`), and no daemon of this pipeline \
         answers at `{}`",
        facts.config.listen
    );
    let fix = Fix::Sql(format!("SELECT pg_terminate_backend({pid})"));
    let finding = Finding::error("slot-held", Code::SlotHeld, what, fix);
    // It may be this pipeline's daemon on another machine.
    let severity = if application == APPLICATION_NAME { Severity::Warning } else { Severity::Error };
    Some(Finding { severity, ..finding })
}

fn retention(name: &str, slot: &Slot, source: &Source) -> Option<Finding> {
    let keep = source.server.slot_keep?;
    let percent = slot.retained.saturating_mul(100) / keep.max(1);
    let severity = match slot.wal_status.as_deref() {
        Some("unreserved") => Severity::Error,
        _ if percent >= RETAINED_ERROR => Severity::Error,
        _ if percent >= RETAINED_WARNING => Severity::Warning,
        _ => return None,
    };
    let what = format!(
        "slot `{name}` keeps {} of log, {percent} % of `max_slot_wal_keep_size` = {}: beyond it the slot is lost",
        size(slot.retained),
        size(keep)
    );
    let fix = match slot.active_pid {
        None => Fix::Shell("gimbal run".into()),
        Some(_) => {
            let megabytes = (keep >> 20) * 2;
            Fix::Sql(format!("ALTER SYSTEM SET max_slot_wal_keep_size = '{megabytes}MB'; SELECT pg_reload_conf()"))
        }
    };
    let finding = Finding::error("slot-retention", Code::SlotRetention, what, fix);
    Some(Finding { severity, ..finding })
}
