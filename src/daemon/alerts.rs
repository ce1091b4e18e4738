//! The alerts that follow from the contracts' state. What they say is all in the checkpoint, so they survive a restart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::Contract;
use crate::error::Code;
use crate::position::Position;
use crate::sink::json::timestamp;

/// How long a resolved alert is still shown, in microseconds: a week.
const RESOLVED_SHOWN: i64 = 7 * 24 * 3600 * 1_000_000;

/// An alert, in Alertmanager's shape: labels identify it, annotations explain it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// `alertname`, `contract`, `version`, and `field` where it is about one.
    pub labels: BTreeMap<String, String>,
    /// critical or warning.
    pub severity: String,
    /// `summary`, `code` and `hint` where there is one.
    pub annotations: BTreeMap<String, String>,
    /// ISO 8601; absent if nothing was committed yet.
    #[serde(rename = "startsAt")]
    pub starts_at: Option<String>,
    /// Absent while it fires.
    #[serde(rename = "endsAt")]
    pub ends_at: Option<String>,
    /// Where it began.
    pub pos: Option<String>,
    /// Where it ended.
    pub resolved_pos: Option<String>,
}

/// The alerts of a contract version, firing or resolved within the last week. `now`: microseconds since 1970.
pub fn alerts(contract: &Contract, now: i64) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = parked(contract).into_iter().collect();
    let Some(span) = contract.entry.dead_span else { return alerts };
    let dead = |name: &str, severity: &str, summary: String, hint: &str| {
        let mut alert = alert(contract, name, severity, &summary, Some(hint));
        (alert.starts_at, alert.pos) = (Some(time(span.starts_at)), Some(span.pos.to_string()));
        alert
    };
    if contract.entry.unlevel {
        let summary = "more keys than can be counted show an older row than the table, or none".to_owned();
        alerts.push(dead("RepairNeeded", "critical", summary, "mend the rows, then `gimbal repair`"));
    }
    if span.ended.is_none_or(|(ended, _)| now - ended < RESOLVED_SHOWN) {
        let summary = format!("{} keys show an older row than the table, or none", contract.dead.len());
        let hint = format!("mend the rows; `gimbal tail {}.dead --unseal` shows them", contract.version.topic);
        let mut alert = dead("DeadLetters", "warning", summary, &hint);
        if let Some((ended, position)) = span.ended {
            (alert.ends_at, alert.resolved_pos) = (Some(time(ended)), Some(position.to_string()));
        }
        alerts.push(alert);
    }
    alerts
}

/// The alert of a contract that is parked.
fn parked(contract: &Contract) -> Option<Alert> {
    let (parked, since) = (contract.entry.parked.as_ref()?, since(contract)?);
    let unknown = [Code::IdentityUnknown, Code::CatalogContradiction].iter().any(|c| c.to_string() == parked.code);
    let name = if unknown { "IdentityUnknown" } else { "ContractBroken" };
    let mut alert = alert(contract, name, "critical", &parked.message, parked.hint.as_deref());
    alert.annotations.insert("code".into(), parked.code.clone());
    if let Some(field) = &parked.field {
        alert.labels.insert("field".into(), field.clone());
    }
    (alert.starts_at, alert.pos) = (parked.starts_at.map(time), Some(since.to_string()));
    Some(alert)
}

fn alert(contract: &Contract, name: &str, severity: &str, summary: &str, hint: Option<&str>) -> Alert {
    let (of, version) = (contract.entry.contract.clone(), contract.entry.major.to_string());
    let labels = [("alertname", name.to_owned()), ("contract", of), ("version", version)];
    let mut annotations = BTreeMap::from([("summary".to_owned(), summary.to_owned())]);
    annotations.extend(hint.map(|hint| ("hint".to_owned(), hint.to_owned())));
    Alert {
        labels: labels.into_iter().map(|(label, value)| (label.to_owned(), value)).collect(),
        severity: severity.to_owned(),
        annotations,
        ..Alert::default()
    }
}

fn since(contract: &Contract) -> Option<Position> {
    match contract.entry.progress {
        crate::state::Progress::Parked { since, .. } => Some(since),
        _ => None,
    }
}

fn time(micros: i64) -> String {
    timestamp(i128::from(micros)) + "Z"
}
