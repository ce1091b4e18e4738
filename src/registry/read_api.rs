//! The read part of the Confluent registry's HTTP interface over the embedded registry, as a pure function of the path.

use serde_json::{Value as Json, json};

use crate::registry::embedded::{EmbeddedRegistry, SubjectVersion, Which};

/// What every subject is held to.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// A refusal: status, Confluent's error code, message.
type Refusal = (u16, u32, String);

impl EmbeddedRegistry {
    /// Answers `GET path`: the status and the JSON body. A query string is ignored; segments are percent-decoded.
    pub fn respond(&self, path: &str) -> (u16, String) {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let segments: Option<Vec<String>> =
            path.split('/').filter(|segment| !segment.is_empty()).map(percent_decode).collect();
        let segments = segments.unwrap_or_else(|| vec!["%".into()]);
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match self.answer(&segments) {
            Ok(body) => (200, body),
            Err((status, code, message)) => (status, json!({"error_code": code, "message": message}).to_string()),
        }
    }

    fn answer(&self, segments: &[&str]) -> Result<String, Refusal> {
        let body: Json = match segments {
            [] => json!({}),
            ["config"] => json!({"compatibilityLevel": COMPATIBILITY}),
            ["config", subject] => {
                self.versions(subject).ok_or_else(|| subject_unknown(subject))?;
                json!({"compatibilityLevel": COMPATIBILITY})
            }
            ["mode"] => json!({"mode": "READONLY"}),
            ["schemas", "types"] => json!(["AVRO"]),
            ["schemas", "ids", id] => json!({"schema": self.schema_of(id)?}),
            ["schemas", "ids", id, "schema"] => return self.schema_of(id),
            ["schemas", "ids", id, "versions"] => {
                self.schema_of(id)?;
                let uses = self.uses(id.parse().unwrap_or_default()).into_iter();
                uses.map(|(subject, version)| json!({"subject": subject, "version": version})).collect()
            }
            ["schemas", "ids", id, "subjects"] => {
                self.schema_of(id)?;
                let mut subjects: Vec<String> =
                    self.uses(id.parse().unwrap_or_default()).into_iter().map(|(subject, _)| subject).collect();
                subjects.dedup();
                json!(subjects)
            }
            ["subjects"] => json!(self.subjects()),
            ["subjects", subject, "versions"] => {
                json!(self.versions(subject).ok_or_else(|| subject_unknown(subject))?)
            }
            ["subjects", subject, "versions", version] => {
                let found = self.version_of(subject, version)?;
                json!({"subject": found.subject, "version": found.version, "id": found.id, "schema": found.schema})
            }
            ["subjects", subject, "versions", version, "schema"] => {
                return Ok(self.version_of(subject, version)?.schema);
            }
            _ => return Err((404, 404, "HTTP 404 Not Found".into())),
        };
        Ok(body.to_string())
    }

    fn schema_of(&self, id: &str) -> Result<String, Refusal> {
        id.parse()
            .ok()
            .and_then(|id| self.schema_by_id(id))
            .ok_or_else(|| (404, 40403, format!("Schema {id} not found")))
    }

    fn version_of(&self, subject: &str, version: &str) -> Result<SubjectVersion, Refusal> {
        self.versions(subject).ok_or_else(|| subject_unknown(subject))?;
        let which = match (version, version.parse::<u32>()) {
            ("latest" | "-1", _) => Which::Latest,
            (_, Ok(number)) if number > 0 && number < 1 << 31 => Which::Number(number),
            _ => {
                let message = format!(
                    "The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
                );
                return Err((422, 42202, message));
            }
        };
        self.version(subject, which).ok_or_else(|| (404, 40402, format!("Version {version} not found.")))
    }
}

fn subject_unknown(subject: &str) -> Refusal {
    (404, 40401, format!("Subject '{subject}' not found."))
}

/// Decodes `%XX`; `None` for a broken escape or for what is not UTF-8 after it.
fn percent_decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    const SCHEMA: &str = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;
    const OTHER: &str = r#""string""#;

    /// A registry with `a/b ü-value` in versions 1 and 2, and `u` with the first schema.
    fn registry() -> (tempfile::TempDir, EmbeddedRegistry) {
        let folder = tempfile::tempdir().unwrap();
        let registry = EmbeddedRegistry::open(folder.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (subject, schema) in [("a/b ü-value", SCHEMA), ("a/b ü-value", OTHER), ("u", SCHEMA)] {
            runtime.block_on(registry.register(subject, schema)).unwrap();
        }
        (folder, registry)
    }

    #[test]
    fn every_read_path_of_a_consumer_is_answered_as_confluent_does() {
        let (_folder, registry) = registry();
        let get = |path: &str| {
            let (status, body) = registry.respond(path);
            (status, serde_json::from_str::<Json>(&body).unwrap())
        };
        let schema: Json = serde_json::from_str(SCHEMA).unwrap();
        let second = json!({"subject": "a/b ü-value", "version": 2, "id": 2, "schema": OTHER});
        for (path, body) in [
            ("/", json!({})),
            ("/schemas/ids/1", json!({"schema": SCHEMA})),
            ("/schemas/ids/1?fetchMaxId=false&subject=u", json!({"schema": SCHEMA})),
            ("/schemas/ids/1/schema", schema.clone()),
            (
                "/schemas/ids/1/versions",
                json!([{"subject": "a/b ü-value", "version": 1}, {"subject": "u", "version": 1}]),
            ),
            ("/schemas/ids/2/subjects", json!(["a/b ü-value"])),
            ("/schemas/types", json!(["AVRO"])),
            ("/schemas/types/", json!(["AVRO"])),
            ("/subjects", json!(["a/b ü-value", "u"])),
            ("/subjects/a%2Fb%20%C3%BC-value/versions", json!([1, 2])),
            ("/subjects/a%2fb%20%c3%bc-value/versions/2", second.clone()),
            ("/subjects/a%2Fb%20%C3%BC-value/versions/latest", second),
            ("/subjects/u/versions/1/schema", schema),
            ("/subjects/u/versions/-1/schema", serde_json::from_str(SCHEMA).unwrap()),
            ("/config", json!({"compatibilityLevel": "FULL_TRANSITIVE"})),
            ("/config/u", json!({"compatibilityLevel": "FULL_TRANSITIVE"})),
            ("/mode", json!({"mode": "READONLY"})),
        ] {
            assert_eq!(get(path), (200, body), "{path}");
        }
    }

    #[test]
    fn what_is_not_there_has_confluents_error_code() {
        let (_folder, registry) = registry();
        for (path, status, code) in [
            ("/subjects/v/versions", 404, 40401),
            ("/subjects/v/versions/1", 404, 40401),
            ("/config/v", 404, 40401),
            ("/subjects/u/versions/2", 404, 40402),
            ("/subjects/u/versions/9/schema", 404, 40402),
            ("/subjects/u/versions/0", 422, 42202),
            ("/subjects/u/versions/x", 422, 42202),
            ("/schemas/ids/3", 404, 40403),
            ("/schemas/ids/0", 404, 40403),
            ("/schemas/ids/x/versions", 404, 40403),
            ("/subjects/%zz/versions", 404, 404),
            ("/subjects/%f", 404, 404),
            ("/nothing", 404, 404),
        ] {
            let (got, body) = registry.respond(path);
            let body: Json = serde_json::from_str(&body).unwrap();
            assert_eq!((got, &body["error_code"]), (status, &json!(code)), "{path}");
            assert!(body["message"].is_string());
        }
    }
}
