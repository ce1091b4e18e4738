//! `gimbal schema`: the JSON Schemas that editors complete and check files by.

use clap::ValueEnum;

/// What has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// Contract files
    Contract,
}

impl Of {
    /// The schema, a JSON text.
    pub fn text(self) -> &'static str {
        match self {
            Of::Contract => include_str!("schema/contract.schema.json"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::contract::{Sources, resolve};
    use crate::diagnostic::SourceText;

    /// Far from every key, so that the parser lists those that it knows.
    const UNKNOWN: &str = "zzzzzzzzzzzzzzzz";

    fn known(top: &str, version: &str, fields: &str) -> BTreeSet<String> {
        let text = format!(
            "contract: c\nkind: state\ntopic: t.v{{major}}\n{top}\nversions:\n  1:\n    schema: c/1.0.avsc\n{version}\n    fields: {{{fields}}}\n"
        );
        let contracts = vec![SourceText::new("c.yaml", text)];
        let findings = resolve(&Sources { contracts, ..Sources::default() }).findings;
        let hint = findings.iter().find(|one| one.message.contains(UNKNOWN)).and_then(|one| one.hint.clone());
        let list =
            hint.as_deref().and_then(|hint| hint.strip_prefix("known keys: ")).expect("the parser lists its keys");
        list.split(", ").map(|key| key.trim_matches('`').to_owned()).collect()
    }

    fn properties(schema: &Value, pointer: &str) -> BTreeSet<String> {
        let part = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert_eq!(part["additionalProperties"], false, "{pointer}");
        part["properties"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_schema_of_contracts_has_exactly_the_keys_that_the_parser_knows() {
        let schema: Value = serde_json::from_str(Of::Contract.text()).unwrap();
        let unknown = format!("{UNKNOWN}: 1");
        for (pointer, keys) in [
            ("", known(&unknown, "", "")),
            ("/$defs/sla", known(&format!("sla: {{{unknown}}}"), "", "")),
            (
                "/$defs/subscriber",
                known(&format!("subscribers: [{{name: a, version: 1, fields: all, {unknown}}}]"), "", ""),
            ),
            ("/$defs/version", known("", &format!("    {unknown}"), "")),
            ("/$defs/entry", known("", "", &format!("f: {{{unknown}}}"))),
        ] {
            assert_eq!(properties(&schema, pointer), keys, "{pointer}");
        }
    }

    #[test]
    fn every_reference_of_the_schema_leads_somewhere() {
        let schema: Value = serde_json::from_str(Of::Contract.text()).unwrap();
        let references: Vec<&str> =
            Of::Contract.text().split("\"$ref\": \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.len() > 5);
        for reference in references {
            assert!(schema.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}
