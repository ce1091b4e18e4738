//! Topic names: legal in Kafka and as file names, and never two that a broker would mix up.

use std::collections::HashMap;

use super::format::ContractFile;
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::yaml::Report;

/// Kafka's limit for a topic's name.
const TOPIC_LENGTH_MAX: usize = 249;

/// Topics that belong to a contract's topic, as suffixes; they must fit beside it.
const SUFFIXES: [&str; 2] = [".parked", ".dead"];

/// All topics seen so far, in the form in which a broker compares them.
#[derive(Default)]
pub(super) struct Topics {
    /// The contract and the name as it is written.
    taken: HashMap<String, (String, String)>,
}

impl Topics {
    /// Checks the topics of all versions of a contract, and takes their names.
    pub fn take(&mut self, report: &Report, contract: &ContractFile) {
        let template = &contract.topic;
        if !template.value.contains("{major}") && contract.versions.len() > 1 {
            let message = format!("`{}` would be the topic of {} versions", template.value, contract.versions.len());
            report.error_with_hint(&template.span, message, "put `{major}` in it: each major has a topic of its own");
            return;
        }
        for major in contract.versions.keys() {
            let topic = template.value.replace("{major}", &major.to_string());
            if let Some(why) = illegal(&topic) {
                report.error(&template.span, format!("`{topic}` is no legal topic name: {why}"));
                return;
            }
            let mut reported = false;
            for name in std::iter::once(topic.clone()).chain(SUFFIXES.iter().map(|suffix| format!("{topic}{suffix}"))) {
                let owner = (contract.name.value.clone(), name.clone());
                // A broker keeps metrics under names in which dots are underscores, and refuses two that meet there.
                if let Some((other, theirs)) = self.taken.insert(name.replace('.', "_"), owner)
                    && other != contract.name.value
                    && !std::mem::replace(&mut reported, true)
                {
                    let message = format!("topic `{name}` meets `{theirs}` of contract `{other}`");
                    let finding = Diagnostic::error(Code::ContractInvalid, message);
                    report.push(finding.at(&report.file, template.span.clone()).hint("give one of them another name"));
                }
            }
        }
    }
}

fn illegal(topic: &str) -> Option<String> {
    let suffix = SUFFIXES.iter().map(|suffix| suffix.len()).max().unwrap_or(0);
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if topic.len() + suffix > TOPIC_LENGTH_MAX {
        Some(format!("it is longer than {} characters", TOPIC_LENGTH_MAX - suffix))
    } else if topic.is_empty() || !topic.chars().all(legal) || topic == "." || topic == ".." {
        Some("use letters, digits, `.`, `_` and `-`".into())
    } else if topic.starts_with("__") || topic.starts_with("gimbal.") {
        Some("names that begin with `__` or `gimbal.` are taken".into())
    } else {
        None
    }
}
