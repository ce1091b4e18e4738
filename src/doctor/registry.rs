//! The registry: reachable, taking schemas, guarding the subjects.

use super::facts::Facts;
use super::report::{Finding, Fix};
use crate::config::RegistryConfig;
use crate::error::Code;

/// What every subject must be held to.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// All checks of a registry server; none with the embedded registry.
pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let RegistryConfig::Http { url, username, token_env, .. } = &facts.config.registry else { return Vec::new() };
    let found = match &facts.registry {
        Some(Ok(found)) => found,
        Some(Err(error)) => return vec![Finding::of_error("registry", error)],
        None => return Vec::new(),
    };
    let base = url.split(',').next().unwrap_or_default().trim().trim_end_matches('/');
    let login = match (username, token_env) {
        (_, Some(name)) => format!(" -H \"authorization: Bearer ${name}\""),
        (Some(username), None) => format!(" -u {username}"),
        (None, None) => String::new(),
    };
    let put = |path: &str, body: &str| {
        Fix::Shell(format!(
            "curl -fsS{login} -X PUT -H 'content-type: application/vnd.schemaregistry.v1+json' --data '{body}' \
             '{base}/{path}'"
        ))
    };
    let mut findings = Vec::new();
    if let Some(mode) = found.mode.as_deref().filter(|mode| !mode.starts_with("READWRITE")) {
        let what = format!("the registry is in mode {mode}, gimbal needs READWRITE to register a new schema");
        let fix = put("mode", r#"{"mode":"READWRITE"}"#);
        findings.push(Finding::error("registry-mode", Code::RegistryReadOnly, what, fix));
    }
    for (subject, level) in &found.subjects {
        let level = level.as_deref().unwrap_or("none that it tells");
        if level != COMPATIBILITY {
            let what = format!(
                "subject `{subject}` has the compatibility {level}, gimbal needs {COMPATIBILITY}: others could register what \
                 subscribers cannot read"
            );
            let fix = put(&format!("config/{subject}"), &format!(r#"{{"compatibility":"{COMPATIBILITY}"}}"#));
            findings.push(Finding::warning("registry-compatibility", Code::RegistryCompatibility, what, fix));
        }
    }
    findings
}
