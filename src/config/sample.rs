//! The config file that `init` writes.

use super::without_password;
use crate::yaml::scalar;

/// A config text for a pipeline and a source URL, with the embedded defaults; a password in the URL is left out.
pub fn sample(pipeline: &str, url: &str) -> String {
    let identifier = format!("gimbal_{}", pipeline.replace('-', "_"));
    format!(
        "\
pipeline: {pipeline}
source:
  url: {url}   # the password: PGPASSWORD, the passfile, or password_file
  slot: {identifier}
  publication: {identifier}          # append-only tables without identity: {identifier}_inserts
contracts: contracts                 # *.yaml, and catalog.json, which `gimbal check` reads instead of the database
schemas: schemas                     # *.avsc; never edit one that was released, add the next minor beside it
state: state
sink:
  files: {{path: topics}}              # Avro files in a folder; no server needed
  # kafka: {{bootstrap: \"127.0.0.1:9092\", replication: 3}}
registry: embedded                   # with kafka: {{url: \"http://127.0.0.1:8081\"}}
keys: {{seal: {{file: state/seal.key}}}}  # seals rows that cannot be published; keep it, and keep it secret
listen: 127.0.0.1:8642               # health, metrics, status, schemas, API
api_token: {{file: state/api.token}}   # for commands that change something; `gimbal init` writes it
",
        pipeline = scalar(pipeline),
        url = scalar_url(&without_password(url)),
    )
}

/// URLs are plain in YAML unless they hold one of the few characters that end a plain text.
fn scalar_url(url: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?@&=%+".contains(c);
    if url.chars().all(plain) && !url.ends_with(':') {
        url.to_owned()
    } else {
        serde_json::Value::from(url).to_string()
    }
}
