//! The HTTP registry client against a real Confluent-compatible server, and against answers that no real one gives on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::Duration;

use gimbal::error::{Code, Error, Kind, Result};
use gimbal::registry::Registry;
use gimbal::registry::http::{HttpRegistry, Login};

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
    HttpRegistry::open(url, &Login::default()).unwrap()
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
    assert_error(&error, Kind::Definite, Code::RegistryProtocol, &["lost-value", "/apis/ccompat/v7"]);
}

#[test]
fn an_invalid_schema_is_refused_with_the_servers_words() {
    let error = register(&client(real()), "invalid-value", r#"{"type":"recrod"}"#).unwrap_err();
    assert_error(&error, Kind::Definite, Code::RegistrySchema, &["invalid-value", "422"]);
}

// ---- injected answers --------------------------------------------------------------------------------------------------

/// Stand for 200 in a [`Script`]: with a body that is shorter than its head says, and with one that says to be JSON.
const SHORT: u16 = 1;
const JSON_200: u16 = 2;

/// Head and body of a request.
fn read_request(reader: &mut BufReader<std::net::TcpStream>) -> (String, String) {
    let (mut head, mut length) = (String::new(), 0);
    while reader.read_line(&mut head).unwrap_or(0) > 2 {
        let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
        length = line.strip_prefix("content-length: ").map_or(length, |text| text.parse().unwrap());
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    (head, String::from_utf8_lossy(&body).into_owned())
}

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
            let (head, body) = read_request(&mut reader);
            seen.lock().unwrap().push(format!("{head}{body}"));
            let mut stream = reader.into_inner();
            match script.get(n).or(script.last()).unwrap() {
                None => silent.push(stream),
                Some((status, body)) => {
                    let (status, more, kind) = match *status {
                        SHORT => (200, 10, "content-type: application/json\r\n"),
                        JSON_200 => (200, 0, "content-type: application/json\r\n"),
                        status => (status, 0, ""),
                    };
                    let length = body.len() + more;
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {status} X\r\n{kind}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
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
        (401, r#"{"message":"who are you"}"#, Code::RegistryAuth, "registry.username"),
        (401, "<html>please log in</html>", Code::RegistryAuth, "registry.token_env"),
        (403, r#"{"message":"not you"}"#, Code::RegistryAuth, "grant"),
        (422, r#"{"error_code":42201,"message":"bad schema"}"#, Code::RegistrySchema, "bad schema"),
        (404, "<html>nothing here</html>", Code::RegistryProtocol, "ccompat"),
        (200, "<html>please log in</html>", Code::RegistryProtocol, "no JSON"),
        (200, r#"{"hello":1}"#, Code::RegistryProtocol, "ccompat"),
        (200, r#"{"id":-1}"#, Code::RegistryProtocol, "ccompat"),
        (501, r#"{"message":"never"}"#, Code::RegistryRefused, "never"),
    ];
    for (status, body, code, part) in cases {
        let server = scripted(vec![Some((status, body))]);
        let error = register(&client(&server.url), "x-value", V1).unwrap_err();
        assert_error(&error, Kind::Definite, code, &["x-value", part]);
        assert_eq!(server.first_lines().len(), 1);
    }
}

#[test]
fn an_incompatible_schema_is_told_from_every_other_refusal() {
    let server = scripted(vec![Some(NO_SUBJECT), Some(OK), Some((409, r#"{"error_code":409,"message":"not full"}"#))]);
    let error = register(&client(&server.url), "x-value", V1).unwrap_err();
    assert_error(&error, Kind::Definite, Code::RegistryIncompatible, &["x-value", "not full", "new major"]);
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again() {
    let registry = |url: &str| client(url).patience(3, Duration::from_secs(1));
    // The connection ends before the length that the head promised.
    let server = scripted(vec![Some((SHORT, "{")), Some(ID)]);
    assert_eq!(register(&registry(&server.url), "x-value", V1).unwrap(), 42);
    // The body ends in the middle of its JSON.
    let server = scripted(vec![Some((JSON_200, r#"{"id":4"#)), Some(ID)]);
    assert_eq!(register(&registry(&server.url), "x-value", V1).unwrap(), 42);
    let server = scripted(vec![Some((JSON_200, r#"{"id":4"#))]);
    let error = register(&registry(&server.url), "x-value", V1).unwrap_err();
    assert_error(&error, Kind::Transient, Code::RegistryUnreachable, &["x-value", "breaks off", "3 tries"]);
}

#[test]
fn of_several_servers_the_next_one_is_asked_when_one_is_away() {
    let server = scripted(vec![Some(ID)]);
    let urls = format!("http://127.0.0.1:{}, {}", free_port(), server.url);
    let registry = client(&urls).patience(3, Duration::from_secs(1));
    assert_eq!(register(&registry, "x-value", V1).unwrap(), 42);
    assert_eq!(register(&registry, "y-value", V1).unwrap(), 42);
    assert_eq!(server.first_lines().len(), 2, "and stays with it");
}

#[test]
fn credentials_travel_in_a_header_and_in_no_error() {
    // `PATH` is a variable that surely exists; its value plays the secret, and the server sends it back.
    let secret = std::env::var("PATH").unwrap();
    let body: &'static str = serde_json::json!({"message": format!("no right for {secret}")}).to_string().leak();
    for (login, scheme) in [
        (Login { username: Some("me"), password_env: Some("PATH"), ..Login::default() }, "authorization: basic "),
        (Login { token_env: Some("PATH"), ..Login::default() }, "authorization: bearer "),
    ] {
        let server = scripted(vec![Some((401, body))]);
        client(&server.url);
        let registry = HttpRegistry::open(&server.url, &login).unwrap();
        let error = register(&registry, "x-value", V1).unwrap_err();
        assert_error(&error, Kind::Definite, Code::RegistryAuth, &["no right"]);
        assert!(!error.to_string().contains(&secret), "{error}");
        assert!(server.requests.lock().unwrap()[0].to_ascii_lowercase().contains(scheme));
    }

    for (name, login) in [
        ("password_env", Login { password_env: Some("GIMBAL_NO_SUCH_VARIABLE"), ..Login::default() }),
        ("token_env", Login { token_env: Some("GIMBAL_NO_SUCH_VARIABLE"), ..Login::default() }),
    ] {
        let Err(error) = HttpRegistry::open("http://h", &login) else { panic!() };
        assert_error(&error, Kind::Definite, Code::ConfigInvalid, &["GIMBAL_NO_SUCH_VARIABLE", name]);
    }
    let Err(error) = HttpRegistry::open("http://me:hunter2@h", &Login::default()) else { panic!() };
    assert_error(&error, Kind::Definite, Code::ConfigInvalid, &["registry.password_env"]);
    assert!(!error.to_string().contains("hunter2"));
}

#[test]
fn tls_is_verified_against_the_authority_of_the_config() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _server) = https(folder.path(), lab::registry().url());
    let ca = |name: &str| folder.path().join(name);
    client(&url);
    let open = |ca: &std::path::Path, url: &str| {
        let login = Login { ca_file: Some(ca), ..Login::default() };
        HttpRegistry::open(url, &login).map(|registry| registry.patience(2, Duration::from_secs(5)))
    };
    let trusted = open(&ca("ca.crt"), &url).unwrap();
    assert!(register(&trusted, "tls-value", V1).is_ok());

    let error = register(&open(&ca("other.crt"), &url).unwrap(), "tls-value", V1).unwrap_err();
    assert_error(&error, Kind::Definite, Code::RegistryTls, &["tls-value", "registry.ca_file"]);
    let elsewhere = url.replace("localhost", "127.0.0.1");
    let error = register(&open(&ca("ca.crt"), &elsewhere).unwrap(), "tls-value", V1).unwrap_err();
    assert_error(&error, Kind::Definite, Code::RegistryTls, &["127.0.0.1", "registry.ca_file"]);
    for (name, part) in [("nothing.crt", "cannot be read"), ("server.key", "holds no certificate")] {
        let Err(error) = open(&ca(name), &url) else { panic!("{name} is accepted") };
        assert_error(&error, Kind::Definite, Code::RegistryTls, &[part]);
    }
}

/// A proxy that speaks TLS for `localhost` to its clients, in front of a registry.
fn https(folder: &std::path::Path, registry: &str) -> (String, crate::connection::TlsProxy) {
    let folder_text = folder.display();
    let script = format!(
        "cd {folder_text} && for ca in ca other; do
             openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.crt
         done
         openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr
         printf 'subjectAltName=DNS:localhost' >names
         openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt"
    );
    let output = std::process::Command::new("sh").args(["-ec", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (address, path) = registry.trim_start_matches("http://").split_once('/').unwrap();
    let proxy = crate::connection::TlsProxy::start(folder, "server", address, "https");
    (format!("https://localhost:{}/{path}", proxy.port), proxy)
}

/// A tiny registry without subjects that is read-only until it is told otherwise; its base URL.
pub fn modes() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut mode = r#"{"mode":"READONLY"}"#.to_owned();
        for stream in listener.incoming().map_while(std::io::Result::ok) {
            let mut reader = BufReader::new(stream);
            let (request, body) = read_request(&mut reader);
            let answer = match request.split_whitespace().take(2).collect::<Vec<_>>()[..] {
                ["PUT", "/mode"] => {
                    mode = body;
                    &mode
                }
                [_, "/mode"] => &mode,
                [_, "/subjects"] => "[]",
                _ => r#"{"compatibilityLevel":"FULL_TRANSITIVE"}"#,
            };
            let length = answer.len();
            let _ = write!(
                reader.into_inner(),
                "HTTP/1.1 200 X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
            );
        }
    });
    url
}

// ---- the real one and the embedded one, by one suite -------------------------------------------------------------------

/// What a registry can be asked by both sides.
struct Both {
    name: &'static str,
    base: String,
    registry: Arc<dyn Registry>,
    runtime: tokio::runtime::Runtime,
}

impl Both {
    fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        self.runtime.block_on(self.registry.register(subject, schema))
    }

    fn get(&self, path: &str) -> (u16, serde_json::Value) {
        self.runtime.block_on(async {
            let answer = reqwest::get(format!("{}{path}", self.base)).await.unwrap();
            (answer.status().as_u16(), answer.json().await.unwrap())
        })
    }

    /// Keys that the other implementation does not know are not compared.
    fn has(&self, path: &str, wanted: &serde_json::Value) {
        let (status, mut found) = self.get(path);
        if let (Some(found), Some(wanted)) = (found.as_object_mut(), wanted.as_object()) {
            found.retain(|key, _| wanted.contains_key(key));
        }
        if let Some(schema) = found.get_mut("schema") {
            *schema = serde_json::from_str(schema.as_str().unwrap()).unwrap();
        }
        assert_eq!((status, &found), (200, wanted), "{}: {path}", self.name);
    }

    fn lacks(&self, path: &str, code: u32) {
        let (status, found) = self.get(path);
        assert_eq!((status, &found["error_code"]), (404, &serde_json::json!(code)), "{}: {path}", self.name);
    }
}

#[test]
fn the_real_registry_and_the_embedded_one_answer_alike() {
    client(real());
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let embedded = Arc::new(gimbal::registry::embedded::EmbeddedRegistry::open(folder.path()).unwrap());
    let (address, serving) = (format!("127.0.0.1:{}", free_port()), runtime());
    let (board, metrics) = (gimbal::daemon::status::StatusBoard::default(), gimbal::metrics::Metrics::new());
    let (api, _) = gimbal::daemon::api::queue(None);
    let serve = gimbal::server::serve(address.parse().unwrap(), board, metrics, Some(embedded.clone()), api);
    serving.block_on(serve).unwrap();
    for both in [
        Both { name: "real", base: real().to_owned(), registry: Arc::new(client(real())), runtime: runtime() },
        Both { name: "embedded", base: format!("http://{address}"), registry: embedded, runtime: runtime() },
    ] {
        suite(&both);
    }
}

fn suite(both: &Both) {
    let (subject, other) = ("suite a-value", "suite-b-value");
    let path = "/subjects/suite%20a-value";
    both.lacks(&format!("{path}/versions"), 40401);
    let id = both.register(subject, V1).unwrap();
    assert_eq!(both.register(subject, V1).unwrap(), id, "{}: once more", both.name);
    assert_eq!(both.register(other, V1).unwrap(), id, "{}: one schema, one id", both.name);
    let minor = both.register(subject, V1_1).unwrap();
    assert_ne!(minor, id);
    let (first, second): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(V1).unwrap(), serde_json::from_str(V1_1).unwrap());
    use serde_json::json;
    both.has(&format!("/schemas/ids/{id}"), &json!({"schema": first}));
    both.has(&format!("/schemas/ids/{minor}"), &json!({"schema": second}));
    both.has(&format!("{path}/versions"), &json!([1, 2]));
    both.has(&format!("{path}/versions/1"), &json!({"subject": subject, "version": 1, "id": id, "schema": first}));
    both.has(
        &format!("{path}/versions/latest"),
        &json!({"subject": subject, "version": 2, "id": minor, "schema": second}),
    );
    both.has("/config/suite%20a-value", &json!({"compatibilityLevel": "FULL_TRANSITIVE"}));
    both.lacks(&format!("{path}/versions/9"), 40402);
    both.lacks("/schemas/ids/999999", 40403);
    let (_, subjects) = both.get("/subjects");
    for name in [subject, other] {
        assert!(subjects.as_array().unwrap().contains(&json!(name)), "{}: {subjects}", both.name);
    }
}
