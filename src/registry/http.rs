//! A Confluent-compatible registry over HTTP: the common subset of its API, with retries.
//!
//! Own calls on `reqwest`: `schema_registry_converter` hides status codes, on which every decision here rests (409 is
//! incompatible, 404 not there yet, 429 and 500 worth a retry), and always sends `schemaType`, which older registries
//! refuse.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::config::RegistryConfig;
use crate::error::{Code, Error, Result};
use crate::postgres::tls;
use crate::registry::login::{Credentials, authorities, chain, invalid};
use crate::registry::{Answer, Registry};

pub use crate::registry::login::Login;

/// What registries speak.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// The only mode that gimbal publishes under: every version of a major reads every other.
const COMPATIBILITY: &str = "FULL_TRANSITIVE";
/// How long one answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Tries of one request, the first included; with the pauses between them about 6 s when answers come at once.
const TRIES: u32 = 6;
/// The pause after the first try; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest pause, whatever the server asks for.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Longest part of a server's message that is passed on.
const MESSAGE_CHARS_MAX: usize = 600;

/// `error_code` of a 404: there is no such subject (rather than no such schema under it).
const SUBJECT_NOT_FOUND: i64 = 40401;

/// A registry server. Needs a tokio runtime, and a rustls provider that is installed for the process.
pub struct HttpRegistry {
    client: Client,
    base: Url,
    /// Further servers of the same registry.
    others: Vec<Url>,
    /// The server that answered last.
    current: AtomicUsize,
    credentials: Option<Credentials>,
    tries: u32,
    answer_wait: Duration,
    /// By subject and schema text: with the ids here, a registry that is down stops nothing.
    ids: Mutex<HashMap<(String, String), u32>>,
}

/// What came back, whatever the status.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// `None` if it is not JSON, as from a proxy, a login page, or a server of another kind.
    pub(super) json: Option<Value>,
    /// It says that it is JSON, and does not parse: its end is missing.
    cut_off: bool,
}

impl Reply {
    fn message(&self) -> String {
        let text = self.json.as_ref().and_then(|json| json.get("message")).and_then(Value::as_str).unwrap_or_default();
        text.chars().take(MESSAGE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
    }

    fn error_code(&self) -> i64 {
        self.json.as_ref().and_then(|json| json.get("error_code")).and_then(Value::as_i64).unwrap_or_default()
    }
}

impl HttpRegistry {
    /// Of a config that names a server.
    pub fn new(config: &RegistryConfig) -> Result<HttpRegistry> {
        match config {
            RegistryConfig::Http { url, username, password_env, token_env, ca_file } => {
                let login = Login {
                    username: username.as_deref(),
                    password_env: password_env.as_deref(),
                    token_env: token_env.as_deref(),
                    ca_file: ca_file.as_deref(),
                };
                HttpRegistry::open(url, &login)
            }
            RegistryConfig::Embedded => Err(Error::definite(Code::Internal, "the embedded registry has no server")),
        }
    }

    /// Of one base URL, which may have a path, or of several, separated by commas.
    pub fn open(urls: &str, login: &Login<'_>) -> Result<HttpRegistry> {
        let (first, rest) = urls.split_once(',').map_or((urls, None), |(first, rest)| (first, Some(rest)));
        let others = rest.iter().flat_map(|rest| rest.split(',')).map(|url| base(url.trim()));
        let others = others.collect::<Result<Vec<Url>>>()?;
        let mut client =
            Client::builder().user_agent(concat!("gimbal/", env!("CARGO_PKG_VERSION"))).connect_timeout(ANSWER_WAIT);
        if let Some(path) = login.ca_file {
            client = client.tls_certs_only(authorities(path)?);
        }
        let client = client
            .build()
            .map_err(|error| invalid(format!("cannot set up the registry client: {}", chain(&error.without_url()))))?;
        Ok(HttpRegistry {
            client,
            base: base(first.trim())?,
            others,
            current: AtomicUsize::new(0),
            credentials: Credentials::of(login)?,
            tries: TRIES,
            answer_wait: ANSWER_WAIT,
            ids: Mutex::default(),
        })
    }

    /// Tries a request this often, and waits this long for each answer (defaults: 6, 10 s).
    #[must_use]
    pub fn patience(mut self, tries: u32, answer_wait: Duration) -> HttpRegistry {
        (self.tries, self.answer_wait) = (tries.max(1), answer_wait);
        self
    }

    /// The JSON text of the schema with this id.
    pub async fn schema(&self, id: u32) -> Result<String> {
        let doing = format!("look up schema {id}");
        let reply = self.request(&doing, Method::GET, &["schemas", "ids", &id.to_string()], None).await?;
        match reply.json.as_ref().and_then(|json| json.get("schema")).and_then(Value::as_str) {
            Some(schema) if reply.status.is_success() => Ok(schema.to_owned()),
            _ => Err(self.refused(&doing, &reply)),
        }
    }

    async fn find_or_register(&self, subject: &str, schema: &str) -> Result<u32> {
        let body = json!({ "schema": schema });
        let doing = format!("look up the schema of subject `{subject}`");
        // Looking up first needs no right to write, and leaves a registry in read-only mode usable.
        let reply = self.request(&doing, Method::POST, &["subjects", subject], Some(&body)).await?;
        let is_new = match reply.status {
            status if status.is_success() => return self.id_of(&doing, &reply),
            StatusCode::NOT_FOUND if reply.json.is_some() => reply.error_code() == SUBJECT_NOT_FOUND,
            _ => return Err(self.refused(&doing, &reply)),
        };
        let guarded = !is_new || self.set_compatibility(subject).await?;
        let doing = format!("register a schema under subject `{subject}`");
        let reply = self.request(&doing, Method::POST, &["subjects", subject, "versions"], Some(&body)).await?;
        if reply.status == StatusCode::CONFLICT {
            let diagnosis = format!("the registry refuses the new schema of subject `{subject}`: {}", reply.message());
            return Err(Error::definite(Code::RegistryIncompatible, diagnosis).hint(
                "a minor version may only add or remove fields with defaults; publish anything else as a new major",
            ));
        }
        if !reply.status.is_success() {
            return Err(self.refused(&doing, &reply));
        }
        let id = self.id_of(&doing, &reply)?;
        // Some registries can only guard a subject that exists.
        if !guarded && !self.set_compatibility(subject).await? {
            tracing::warn!(
                subject,
                "the registry cannot set a subject's compatibility; only gimbal's own check guards it"
            );
        }
        Ok(id)
    }

    /// False if this registry cannot do it (now).
    async fn set_compatibility(&self, subject: &str) -> Result<bool> {
        let doing = format!("set the compatibility of subject `{subject}`");
        let body = json!({ "compatibility": COMPATIBILITY });
        let reply = self.request(&doing, Method::PUT, &["config", subject], Some(&body)).await?;
        match reply.status {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
            _ => Err(self.refused(&doing, &reply)),
        }
    }

    fn id_of(&self, doing: &str, reply: &Reply) -> Result<u32> {
        let id = reply.json.as_ref().and_then(|json| json.get("id")).and_then(Value::as_u64);
        id.and_then(|id| u32::try_from(id).ok()).ok_or_else(|| self.refused(doing, reply))
    }

    /// Sends until there is an answer that is worth acting on; a server that gives none is left for the next one.
    pub(super) async fn request(
        &self,
        doing: &str,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Reply> {
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let base = self.base();
            let mut url = base.clone();
            if let Ok(mut segments) = url.path_segments_mut() {
                segments.pop_if_empty().extend(path);
            }
            let (trouble, asked) = match self.send(method.clone(), url, body).await {
                Ok((reply, asked)) if is_passing(reply.status) => (describe(&reply), asked),
                Ok((reply, _)) if reply.cut_off => ("the server's answer breaks off".to_owned(), None),
                Ok((reply, _)) => return Ok(reply),
                Err(error) => match tls::cause(&error) {
                    Some(cause) => return Err(untrusted(doing, base, cause)),
                    None => (chain(&error.without_url()), None),
                },
            };
            if tries >= self.tries {
                let diagnosis = format!("cannot {doing}: {trouble} ({tries} tries)");
                return Err(Error::transient(Code::RegistryUnreachable, diagnosis)
                    .hint(format!("check that the registry at `{base}` is up; gimbal tries again")));
            }
            self.current.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(doing, trouble, "registry request is tried again");
            tokio::time::sleep(asked.unwrap_or(pause).min(PAUSE_MAX)).await;
            pause *= 2;
        }
    }

    /// The server to ask.
    fn base(&self) -> &Url {
        let at = self.current.load(Ordering::Relaxed) % (self.others.len() + 1);
        at.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.base)
    }

    /// One try: the reply, and the pause that the server asks for.
    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
    ) -> Result<(Reply, Option<Duration>), reqwest::Error> {
        let mut request = self.client.request(method, url).header(ACCEPT, MEDIA_TYPE).timeout(self.answer_wait);
        if let Some(credentials) = &self.credentials {
            request = credentials.put_on(request);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE).body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let says_json = kind.contains("json");
        let bytes = response.bytes().await?;
        let mut json: Option<Value> = serde_json::from_slice(&bytes).ok();
        if let (Some(credentials), Some(Value::String(message))) =
            (&self.credentials, json.as_mut().and_then(|json| json.get_mut("message")))
        {
            *message = credentials.strike_out(message);
        }
        let cut_off = says_json && json.is_none();
        Ok((Reply { status, json, cut_off }, asked))
    }

    /// An answer that no retry changes, with what to look at.
    pub(super) fn refused(&self, doing: &str, reply: &Reply) -> Error {
        let base = self.base();
        let wrong_url = format!(
            "`{base}` is not the base of a Confluent-compatible API; it may need a path, such as `/apis/ccompat/v7`"
        );
        let (code, hint) = match reply.status {
            // A proxy that stands before the registry refuses in HTML.
            StatusCode::UNAUTHORIZED => (
                Code::RegistryAuth,
                "check `registry.username` and the variable that `registry.password_env` or `registry.token_env` names"
                    .to_owned(),
            ),
            StatusCode::FORBIDDEN => {
                (Code::RegistryAuth, "grant the user the right to read and register the subject".to_owned())
            }
            _ if reply.json.is_none() => (Code::RegistryProtocol, wrong_url),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => (Code::RegistryProtocol, wrong_url),
            StatusCode::UNPROCESSABLE_ENTITY => (
                Code::RegistrySchema,
                "the registry finds the schema invalid, or it is read-only; its message says which".to_owned(),
            ),
            status if status.is_success() => (Code::RegistryProtocol, wrong_url),
            _ => (Code::RegistryRefused, "see the registry's log".to_owned()),
        };
        Error::definite(code, format!("cannot {doing}: {}", describe(reply))).hint(hint)
    }
}

impl Registry for HttpRegistry {
    fn register<'a>(&'a self, subject: &'a str, schema: &'a str) -> Answer<'a, u32> {
        Box::pin(async move {
            let key = (subject.to_owned(), schema.to_owned());
            if let Some(id) = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
                return Ok(*id);
            }
            let id = self.find_or_register(subject, schema).await?;
            self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(key, id);
            Ok(id)
        })
    }
}

/// A base URL without anything that a base does not have.
fn base(url: &str) -> Result<Url> {
    let base = Url::parse(url).map_err(|error| invalid(format!("`registry.url` is not a URL: {error}")))?;
    if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
        return Err(
            invalid(format!("`registry.url` has the scheme `{}`", base.scheme())).hint("gimbal speaks http and https")
        );
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(invalid("`registry.url` holds a user or a password".to_owned())
            .hint("put them into `registry.username` and the variable that `registry.password_env` names"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(invalid("`registry.url` has something after its path".to_owned()).hint("cut it at the `?`"));
    }
    Ok(base)
}

/// TLS failed, and will fail again until somebody acts.
fn untrusted(doing: &str, base: &Url, cause: &rustls::Error) -> Error {
    Error::definite(Code::RegistryTls, format!("cannot {doing}: TLS with the registry at `{base}` failed: {cause}"))
        .hint("name the file with the issuer's certificate by `registry.ca_file`, and the host that the certificate names")
}

/// A state of the server that passes: busy, or broken. 501 and 505 say what the server never does.
fn is_passing(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 425 | 429 => true,
        501 | 505 => false,
        status => status >= 500,
    }
}

fn describe(reply: &Reply) -> String {
    let message = reply.message();
    match (&reply.json, message.is_empty()) {
        (None, _) => format!("the server answered HTTP {} and no JSON", reply.status),
        (_, true) => format!("the server answered HTTP {}", reply.status),
        _ => format!("the server answered HTTP {}: {}", reply.status, message.trim_end_matches('.')),
    }
}
