//! What was released must not change: the project as it is, against what it was at a commit.
//!
//! Readers hold copies of schemas, keep their place in partitions, and plan by dates. What they hold on to is frozen from
//! the moment a version is not a draft any more; drafts are free.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::civil::Date;
use serde_json::Value;

use super::format::{ContractFile, VersionEntry};
use super::model::{ContractVersion, VersionStatus};
use super::retirement::readers;
use super::schemas::{SchemaPath, place};
use super::{Resolved, Sources, resolve};
use crate::diagnostic::{Diagnostic, Severity, SourceText};
use crate::error::Code;

const SECONDS_A_DAY: u64 = 86_400;

/// What the project was: its texts, and how people call that moment.
pub struct Released<'a> {
    /// The texts; the catalog plays no part.
    pub sources: &'a Sources,
    /// The commit, branch or tag.
    pub reference: &'a str,
}

/// What is wrong with the project for those who rely on what was released. `now` and `resolved` are the project as it is.
pub fn against(released: &Released<'_>, now: &Sources, resolved: &Resolved, today: Date) -> Vec<Diagnostic> {
    let old = resolve(released.sources);
    let mut judge = Judge { reference: released.reference, today, findings: Vec::new() };
    for file in &released.sources.contracts {
        if !old.contracts.iter().any(|contract| contract.file == *file) {
            let message = format!("`{}` does not parse, and nothing is held against it", file.name);
            judge.findings.push(Diagnostic::warning(Code::ContractInvalid, message));
        }
    }
    let unread = unread(now, resolved);
    for before in &old.contracts {
        let contract = resolved.contracts.iter().find(|contract| contract.name.value == before.name.value);
        for (major, entry) in before.versions.iter().filter(|(_, entry)| entry.status != VersionStatus::Draft) {
            let Some((contract, current)) = contract.and_then(|found| Some((found, found.versions.get(major)?))) else {
                // It may be in a file that does not parse: then that is what is wrong.
                if !unread {
                    judge.removed(before, *major, entry, contract);
                }
                continue;
            };
            let pair = Pair { before, old: entry, contract, new: current, major: *major };
            judge.life(&pair);
            judge.schemas(&released.sources.schemas, now, &pair);
            let version = |versions: &[ContractVersion]| {
                versions.iter().position(|one| one.contract == before.name.value && one.major == *major)
            };
            let (then, here) = (version(&old.versions), version(&resolved.versions));
            if let (Some(then), Some(here)) =
                (then.and_then(|at| old.versions.get(at)), here.and_then(|at| resolved.versions.get(at)))
                && entry.status != VersionStatus::Retired
            {
                judge.frozen(&pair, then, here);
                judge.read_fields(&pair, then, here);
            }
        }
    }
    judge.findings
}

/// Whether a contract, or a part of one, could not be read, so that nothing can be said to be gone.
fn unread(now: &Sources, resolved: &Resolved) -> bool {
    let files = now.contracts.iter().any(|file| !resolved.contracts.iter().any(|contract| contract.file == *file));
    let of_contracts = |finding: &Diagnostic| {
        let place = finding.place.as_ref();
        finding.severity == Severity::Error
            && finding.code == Code::ContractInvalid
            && place.is_some_and(|place| now.contracts.contains(&place.file))
    };
    files || resolved.findings.iter().any(of_contracts)
}

/// A version then and now.
struct Pair<'a> {
    before: &'a ContractFile,
    old: &'a VersionEntry,
    contract: &'a ContractFile,
    new: &'a VersionEntry,
    major: u32,
}

struct Judge<'a> {
    reference: &'a str,
    today: Date,
    findings: Vec<Diagnostic>,
}

impl Judge<'_> {
    fn error(&mut self, code: Code, place: Option<(&Arc<SourceText>, &Range<usize>)>, message: String, hint: &str) {
        let finding = Diagnostic::error(code, message).hint(hint);
        self.findings.push(match place {
            Some((file, span)) => finding.at(file, span.clone()),
            None => finding,
        });
    }

    /// A version that is not there any more.
    fn removed(&mut self, before: &ContractFile, major: u32, old: &VersionEntry, now: Option<&ContractFile>) {
        let Some(why) = self.not_over(old) else { return };
        let readers = readers(before, major);
        let readers = if readers.is_empty() { String::new() } else { format!("; {readers} reads it") };
        let message = format!("version {major} of `{}` is gone, and {why}{readers}", before.name.value);
        let place = now.map(|contract| (&contract.file, &contract.name.span));
        self.error(Code::RetiredEarly, place, message, "put it back, and announce its end by `retire_on`");
    }

    /// Why a version must still be published; none if it need not be.
    fn not_over(&self, old: &VersionEntry) -> Option<String> {
        match &old.retire_on {
            _ if old.status == VersionStatus::Retired => None,
            Some(retire_on) if retire_on.value <= self.today => None,
            Some(retire_on) => Some(format!("`{}` promises it until {}", self.reference, retire_on.value)),
            None => Some(format!("`{}` has no `retire_on` for it", self.reference)),
        }
    }

    /// Status and dates.
    fn life(&mut self, pair: &Pair<'_>) {
        let (file, major, name) = (&pair.contract.file, pair.major, &pair.contract.name.value);
        if let (Some(then), Some(now)) = (&pair.old.retire_on, &pair.new.retire_on)
            && now.value < then.value
        {
            let message = format!(
                "`retire_on` of version {major} of `{name}` is {}, earlier than {} at `{}`",
                now.value, then.value, self.reference
            );
            self.error(Code::RetiredEarly, Some((file, &now.span)), message, "it may move later, never earlier");
        }
        self.notice(pair);
        let was_published = pair.old.status != VersionStatus::Retired;
        if !was_published || matches!(pair.new.status, VersionStatus::Active | VersionStatus::Deprecated) {
            return;
        }
        let place = Some((file, &pair.new.span));
        let word = pair.new.status.word();
        if pair.new.status == VersionStatus::Draft {
            let message = format!("version {major} of `{name}` is `{word}`, and was released at `{}`", self.reference);
            self.error(
                Code::RetiredEarly,
                place,
                message,
                "what was released ends as `retired`, after its `retire_on`",
            );
        } else if let Some(why) = self.not_over(pair.old) {
            let message = format!("version {major} of `{name}` is `{word}`, and {why}");
            self.error(Code::RetiredEarly, place, message, "announce its end by `retire_on`, and retire it then");
        }
    }

    /// An end that is announced anew leaves subscribers the time that was promised.
    fn notice(&mut self, pair: &Pair<'_>) {
        let (None, Some(end), Some(notice)) = (&pair.old.retire_on, &pair.new.retire_on, pair.before.sla.notice) else {
            return;
        };
        let days = (end.value - self.today).get_days();
        let promised = notice.as_secs().div_ceil(SECONDS_A_DAY);
        if i64::from(days) >= i64::try_from(promised).unwrap_or(i64::MAX) {
            return;
        }
        let message = format!(
            "`retire_on` of version {} of `{}` is in {days} days, and `sla` at `{}` promises a notice of {promised}",
            pair.major, pair.contract.name.value, self.reference
        );
        let hint = "announce a later day";
        self.error(Code::RetiredEarly, Some((&pair.contract.file, &end.span)), message, hint);
    }

    /// Released `.avsc` files stay as they are.
    fn schemas(&mut self, then: &BTreeMap<String, Arc<SourceText>>, now: &Sources, pair: &Pair<'_>) {
        let Some(named) = SchemaPath::parse(&pair.old.schema.value) else { return };
        let of_major = |path: &str| {
            SchemaPath::parse(path).is_some_and(|other| {
                (other.folder, other.major) == (named.folder, named.major) && other.minor <= named.minor
            })
        };
        for (path, released) in then.iter().filter(|(path, _)| of_major(path)) {
            let next = format!("{}{}.{}.avsc", named.prefix(), named.major, named.minor + 1);
            match now.schemas.get(path) {
                None => {
                    let place = Some((&pair.contract.file, &pair.new.schema.span));
                    let message = format!("the schema `{path}` is gone, and was released at `{}`", self.reference);
                    self.error(Code::SchemaFrozen, place, message, "put it back: readers hold copies of it");
                }
                Some(file) => {
                    let Some(pointer) = difference(&released.text, &file.text) else { continue };
                    let message = format!("`{path}` is not what was released at `{}`", self.reference);
                    let hint = format!("undo the edit; a change that is compatible is a new minor, such as `{next}`");
                    let finding = Diagnostic::error(Code::SchemaFrozen, message).hint(hint);
                    self.findings.push(place(finding, file, &pointer));
                }
            }
        }
    }

    /// What is frozen with the major.
    fn frozen(&mut self, pair: &Pair<'_>, then: &ContractVersion, now: &ContractVersion) {
        let shape = pair.new.shape.or(&pair.contract.shape);
        let key_span = shape.key.as_ref().map_or(&pair.new.span, |key| &key.span);
        let list = |names: &[String]| format!("[{}]", names.join(", "));
        let (kind, append) = (|one: &ContractVersion| one.kind.word(), |one: &ContractVersion| one.append_only);
        let mut changes: Vec<(&str, &Range<usize>, String, String)> = Vec::new();
        if then.key != now.key {
            changes.push(("key", key_span, list(&then.key), list(&now.key)));
        } else if then.key_schema_json != now.key_schema_json {
            let schema = |one: &ContractVersion| one.key_schema_json.clone().unwrap_or_default();
            changes.push(("key's schema", key_span, schema(then), schema(now)));
        }
        if then.partitions != now.partitions {
            let (from, to) = (then.partitions.to_string(), now.partitions.to_string());
            changes.push(("number of partitions", &pair.new.span, from, to));
        }
        if then.topic != now.topic {
            changes.push(("topic", &pair.contract.topic.span, then.topic.clone(), now.topic.clone()));
        }
        if then.kind != now.kind {
            changes.push(("kind", &pair.contract.name.span, kind(then).into(), kind(now).into()));
        } else if append(then) != append(now) {
            let (from, to) = (append(then).to_string(), append(now).to_string());
            changes.push(("`append_only`", &pair.contract.name.span, from, to));
        }
        for (what, span, from, to) in changes {
            let message = format!(
                "the {what} of version {} of `{}` is `{to}`, and was released as `{from}` at `{}`",
                pair.major, pair.contract.name.value, self.reference
            );
            let hint = "it is frozen with the major: publish a new major beside this one";
            self.error(Code::MajorFrozen, Some((&pair.contract.file, span)), message, hint);
        }
    }

    /// A minor takes no field away that somebody reads.
    fn read_fields(&mut self, pair: &Pair<'_>, then: &ContractVersion, now: &ContractVersion) {
        for field in then.schema.fields.iter().filter(|field| now.schema.field(&field.name).is_none()) {
            let reads = |fields: &Option<Vec<crate::yaml::Text>>| {
                fields.as_ref().is_none_or(|list| list.iter().any(|name| name.value == field.name))
            };
            let readers: Vec<String> = pair
                .before
                .subscribers
                .iter()
                .filter(|one| one.version.value == pair.major && reads(&one.fields))
                .map(|one| format!("`{}`", one.name.value))
                .collect();
            if readers.is_empty() {
                continue;
            }
            let message = format!(
                "field `{}` is gone from version {} of `{}`, and {} reads it at `{}`",
                field.name,
                pair.major,
                pair.contract.name.value,
                readers.join(", "),
                self.reference
            );
            let hint =
                "keep it; or let the subscriber's `fields` say first, in a commit before this, that it is not read";
            self.error(Code::FieldStillRead, Some((&pair.contract.file, &pair.new.schema.span)), message, hint);
        }
    }
}

/// JSON pointer of the first difference between two JSON texts, beyond blanks and the order of members; none if equal.
fn difference(then: &str, now: &str) -> Option<String> {
    match (serde_json::from_str::<Value>(then), serde_json::from_str::<Value>(now)) {
        (Ok(then), Ok(now)) => differs(&then, &now, String::new()),
        _ => (then != now).then(String::new),
    }
}

fn differs(then: &Value, now: &Value, pointer: String) -> Option<String> {
    match (then, now) {
        (Value::Object(a), Value::Object(b)) => {
            let gone = a.keys().any(|key| !b.contains_key(key));
            let member = b.iter().find_map(|(key, value)| match a.get(key) {
                Some(old) => differs(old, value, format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))),
                None => Some(format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))),
            });
            member.or(gone.then_some(pointer))
        }
        (Value::Array(a), Value::Array(b)) => {
            let item = a.iter().zip(b).enumerate().find_map(|(at, (a, b))| differs(a, b, format!("{pointer}/{at}")));
            item.or_else(|| match b.len() > a.len() {
                true => Some(format!("{pointer}/{}", a.len())),
                false => (a.len() > b.len()).then_some(pointer),
            })
        }
        _ => (then != now).then_some(pointer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_differs_where_a_reader_would_see_it() {
        let then = r#"{"name": "R", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "int"}]}"#;
        for (now, expected) in [
            (then.replace(' ', "\n"), None),
            (r#"{"fields": [{"type": "long", "name": "a"}, {"name": "b", "type": "int"}], "name": "R"}"#.into(), None),
            (then.replace("\"int\"", "\"long\""), Some("/fields/1/type")),
            (then.replace("}]", "}, {}]"), Some("/fields/2")),
            (then.replace(r#", {"name": "b", "type": "int"}"#, ""), Some("/fields")),
            (then.replace(r#""type": "int""#, r#""type": "int", "doc": "d""#), Some("/fields/1/doc")),
            (then.replace(r#", "type": "int""#, ""), Some("/fields/1")),
            ("no JSON".into(), Some("")),
        ] {
            assert_eq!(difference(then, &now).as_deref(), expected, "{now}");
        }
    }
}
