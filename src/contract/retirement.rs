//! The end of a version's life: what comes near is said in time, and who still reads it.

use jiff::civil::Date;

use super::format::{ContractFile, Placed, VersionEntry};
use super::model::VersionStatus;
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::yaml::Report;

/// The days before `retire_on` at which its nearness is said anew.
pub const NOTICE_DAYS: [i32; 3] = [30, 7, 1];

/// How near a retirement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Days from today to `retire_on`; negative when it has passed.
    pub days: i32,
    /// The smallest of [`NOTICE_DAYS`] that it is within; 0 on the day and after it.
    pub stage: i32,
}

/// What is to be said today about a version that retires on a day; none while that is far.
pub fn notice(retire_on: Date, today: Date) -> Option<Notice> {
    let days = (retire_on - today).get_days();
    let stage = if days <= 0 { Some(0) } else { NOTICE_DAYS.into_iter().filter(|stage| days <= *stage).min() };
    stage.map(|stage| Notice { days, stage })
}

/// Warns of versions whose end is near or overdue, and of subscribers to versions that are not published any more.
pub(super) fn warn(report: &Report, contract: &ContractFile, today: Option<Date>) {
    for (major, entry) in &contract.versions {
        match (entry.status, &entry.retire_on, today) {
            (VersionStatus::Retired, ..) => still_subscribed(report, contract, *major),
            (VersionStatus::Active | VersionStatus::Deprecated, Some(retire_on), Some(today)) => {
                near(report, contract, *major, entry, retire_on, today);
            }
            _ => {}
        }
    }
}

fn near(
    report: &Report,
    contract: &ContractFile,
    major: u32,
    entry: &VersionEntry,
    retire_on: &Placed<Date>,
    today: Date,
) {
    let Some(notice) = notice(retire_on.value, today) else { return };
    let subject = format!("version {major} of `{}`", contract.name.value);
    let date = retire_on.value;
    let message = match notice.days {
        0 => format!("{subject} retires today"),
        1 => format!("{subject} retires tomorrow, on {date}"),
        days if days > 0 => format!("{subject} retires in {days} days, on {date}"),
        _ => format!("{subject} was to retire on {date}, and is still `{}`", entry.status.word()),
    };
    let readers = readers(contract, major);
    let message = if readers.is_empty() { message } else { format!("{message}; {readers} still reads it") };
    let hint = match notice.days {
        ..=0 => "set `status: retired`, or move `retire_on` to a later day",
        _ => "move its subscribers to another version; `retire_on` may move later, never earlier",
    };
    let finding = Diagnostic::warning(Code::VersionRetiring, message).at(&report.file, retire_on.span.clone());
    report.push(finding.hint(hint));
}

fn still_subscribed(report: &Report, contract: &ContractFile, major: u32) {
    for one in contract.subscribers.iter().filter(|one| one.version.value == major) {
        let message =
            format!("`{}` subscribes to version {major}, which is retired: nothing more comes", one.name.value);
        let finding = Diagnostic::warning(Code::VersionRetiring, message).at(&report.file, one.version.span.clone());
        report.push(finding.hint("name the version that it reads now, or take it off the list"));
    }
}

/// Names of the subscribers of a version, for a message; empty if there are none.
pub(super) fn readers(contract: &ContractFile, major: u32) -> String {
    let names: Vec<String> = contract
        .subscribers
        .iter()
        .filter(|one| one.version.value == major)
        .map(|one| match &one.owner {
            Some(owner) => format!("`{}` ({owner})", one.name.value),
            None => format!("`{}`", one.name.value),
        })
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retirement_is_announced_a_month_a_week_and_a_day_ahead() {
        let retire_on: Date = "2027-03-31".parse().unwrap();
        for (today, expected) in [
            ("2027-02-28", None),
            ("2027-03-01", Some((30, 30))),
            ("2027-03-23", Some((8, 30))),
            ("2027-03-24", Some((7, 7))),
            ("2027-03-29", Some((2, 7))),
            ("2027-03-30", Some((1, 1))),
            ("2027-03-31", Some((0, 0))),
            ("2027-04-02", Some((-2, 0))),
            ("2026-03-31", None),
        ] {
            let found = notice(retire_on, today.parse().unwrap());
            assert_eq!(found.map(|notice| (notice.days, notice.stage)), expected, "{today}");
        }
    }
}
