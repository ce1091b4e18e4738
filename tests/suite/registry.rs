//! The HTTP registry client against a real Confluent-compatible server, and against answers that no real one gives on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use gimbal::error::{Code, Error, Kind, Result};
use gimbal::registry::Registry;
use gimbal::registry::http::HttpRegistry;

use crate::lab::{self, free_port};

const V1: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#;
/// V1 and a field with a default: FULL_TRANSITIVE.
const V1_1: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"n","type":["null","string"],"default":null}]}"#;
/// A required field more: not even backward.
const V2: &str =
    r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"must","type":"string"}]}"#;
/// A type changed to a wider one: BACKWARD, but not FULL.
const WIDER: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"double"}]}"#;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn client(url: &str) -> HttpRegistry {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    HttpRegistry::open(url, None, None).unwrap()
}

fn register(registry: &HttpRegistry, subject: &str, schema: &str) -> Result<u32> {
    run(registry.register(subject, schema))
}

/// The base URL of a real one.
fn real() -> &'static str {
    lab::registry().url()
}

fn assert_error(error: &Error, kind: Kind, code: Code, parts: &[&str]) {
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in: {text}");
    }
}

// ---- a real registry ---------------------------------------------------------------------------------------------------

#[test]
fn a_schema_gets_one_id_however_often_and_by_whomever_it_is_registered() {
    let first = client(real());
    let id = register(&first, "once-value", V1).unwrap();
    assert_eq!(register(&first, "once-value", V1).unwrap(), id);
    assert_eq!(register(&client(real()), "once-value", V1).unwrap(), id, "found there by another process");
    assert_eq!(register(&first, "other-value", V1).unwrap(), id, "one schema, one id");
    let text = run(first.schema(id)).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        serde_json::from_str::<serde_json::Value>(V1).unwrap()
    );
}

#[test]
fn the_registry_guards_a_subject_from_its_first_version_on() {
    let registry = client(real());
    let first = register(&registry, "guarded-value", V1).unwrap();
    let minor = register(&registry, "guarded-value", V1_1).unwrap();
    assert_ne!(minor, first);
    for schema in [V2, WIDER] {
        let error = register(&registry, "guarded-value", schema).unwrap_err();
        assert_error(&error, Kind::Definite, Code::RegistryIncompatible, &["guarded-value", "new major"]);
    }
}

#[test]
fn a_base_url_without_the_api_path_is_named() {
    let url = real().replace("/apis/ccompat/v7", "");
    let error = register(&client(&url), "lost-value", V1).unwrap_err();
    assert_error(&error, Kind::Definite, Code::RegistryRefused, &["lost-value", "/apis/ccompat/v7"]);
}

#[test]
fn an_invalid_schema_is_refused_with_the_servers_words() {
    let error = register(&client(real()), "invalid-value", r#"{"type":"recrod"}"#).unwrap_err();
    assert_error(&error, Kind::Definite, Code::RegistryRefused, &["invalid-value", "422"]);
}

// ---- injected answers --------------------------------------------------------------------------------------------------

/// Answers one request after the other from a list, the last for ever. `None` never answers.
struct Scripted {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

type Script = Vec<Option<(u16, &'static str)>>;

fn scripted(script: Script) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for (n, stream) in listener.incoming().map_while(std::io::Result::ok).enumerate() {
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap_or(0) > 2 {
                let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |text| text.parse().unwrap());
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            seen.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
            let mut stream = reader.into_inner();
            match script.get(n).or(script.last()).unwrap() {
                None => silent.push(stream),
                Some((status, body)) => {
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                }
            }
        }
    });
    Scripted { url, requests }
}

impl Scripted {
    fn first_lines(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|r| r.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned()).collect()
    }
}

const NO_SUBJECT: (u16, &str) = (404, r#"{"error_code":40401,"message":"Subject not found"}"#);
const OK: (u16, &str) = (200, "{}");
const ID: (u16, &str) = (200, r#"{"id":42}"#);

#[test]
fn the_first_version_is_registered_under_full_transitive_and_then_cached() {
    let server = scripted(vec![Some(NO_SUBJECT), Some(OK), Some(ID)]);
    let registry = client(&server.url);
    assert_eq!(register(&registry, "a b/c-value", V1).unwrap(), 42);
    assert_eq!(register(&registry, "a b/c-value", V1).unwrap(), 42);
    let expected = [
        "POST /base/subjects/a%20b%2Fc-value",
        "PUT /base/config/a%20b%2Fc-value",
        "POST /base/subjects/a%20b%2Fc-value/versions",
    ];
    assert_eq!(server.first_lines(), expected);
    let requests = server.requests.lock().unwrap();
    assert!(requests[1].contains(r#"{"compatibility":"FULL_TRANSITIVE"}"#));
    assert!(!requests[2].contains("schemaType"));
}

#[test]
fn a_registry_that_cannot_set_compatibility_is_used_all_the_same() {
    let refused = (405, r#"{"error_code":405,"message":"no"}"#);
    let server = scripted(vec![Some(NO_SUBJECT), Some(refused), Some(ID), Some(refused)]);
    assert_eq!(register(&client(&server.url), "x-value", V1).unwrap(), 42);
}

#[test]
fn a_busy_or_broken_registry_is_tried_again() {
    let html = "<html>bad gateway</html>";
    let server = scripted(vec![Some((429, "{}")), Some((500, html)), Some((503, "")), None, Some(ID)]);
    let registry = client(&server.url).patience(6, Duration::from_millis(300));
    assert_eq!(register(&registry, "x-value", V1).unwrap(), 42);
    assert_eq!(server.first_lines().len(), 5);
}

#[test]
fn a_registry_that_stays_away_is_a_transient_error_after_a_bounded_number_of_tries() {
    let patience = (3, Duration::from_millis(200));
    let server = scripted(vec![Some((502, "<html>"))]);
    let error = register(&client(&server.url).patience(patience.0, patience.1), "x-value", V1).unwrap_err();
    assert_error(&error, Kind::Transient, Code::RegistryUnreachable, &["x-value", "502", "3 tries"]);
    assert_eq!(server.first_lines().len(), 3);

    let silent = scripted(vec![None]);
    let error = register(&client(&silent.url).patience(patience.0, patience.1), "x-value", V1).unwrap_err();
    assert_error(&error, Kind::Transient, Code::RegistryUnreachable, &["3 tries"]);

    let nobody = format!("http://127.0.0.1:{}", free_port());
    let error = register(&client(&nobody).patience(patience.0, patience.1), "x-value", V1).unwrap_err();
    assert_error(&error, Kind::Transient, Code::RegistryUnreachable, &["refused", &nobody]);
}

#[test]
fn an_answer_that_no_retry_changes_is_refused_at_once_with_what_to_look_at() {
    let cases = [
        (401, r#"{"message":"who are you"}"#, "registry.username"),
        (403, r#"{"message":"not you"}"#, "grant"),
        (422, r#"{"error_code":42201,"message":"bad schema"}"#, "bad schema"),
        (404, "<html>nothing here</html>", "ccompat"),
        (200, "<html>please log in</html>", "no JSON"),
        (200, r#"{"hello":1}"#, "ccompat"),
        (200, r#"{"id":-1}"#, "ccompat"),
    ];
    for (status, body, part) in cases {
        let server = scripted(vec![Some((status, body))]);
        let error = register(&client(&server.url), "x-value", V1).unwrap_err();
        assert_error(&error, Kind::Definite, Code::RegistryRefused, &["x-value", part]);
        assert_eq!(server.first_lines().len(), 1);
    }
}

#[test]
fn credentials_travel_in_a_header_and_in_no_error() {
    let server = scripted(vec![Some((401, r#"{"message":"no"}"#))]);
    client(&server.url);
    // `PATH` is a variable that surely exists; its value plays the secret.
    let secret = std::env::var("PATH").unwrap();
    let registry = HttpRegistry::open(&server.url, Some("me"), Some("PATH")).unwrap();
    let error = register(&registry, "x-value", V1).unwrap_err();
    assert!(!error.to_string().contains(&secret));
    assert!(server.requests.lock().unwrap()[0].to_ascii_lowercase().contains("authorization: basic "));

    let Err(error) = HttpRegistry::open("http://h", Some("me"), Some("GIMBAL_NO_SUCH_VARIABLE")) else { panic!() };
    assert_error(&error, Kind::Definite, Code::ConfigInvalid, &["GIMBAL_NO_SUCH_VARIABLE"]);
    let Err(error) = HttpRegistry::open("http://me:hunter2@h", None, None) else { panic!() };
    assert_error(&error, Kind::Definite, Code::ConfigInvalid, &["registry.password_env"]);
    assert!(!error.to_string().contains("hunter2"));
}
