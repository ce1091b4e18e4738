//! What the HTTP API asks of the running session: requests that change something, each with a place for its answer.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::config::SecretSource;
use crate::engine::{Engine, JobId};
use crate::error::{Code, Error, Result};

/// Most requests that wait for the session.
const WAITING_MAX: usize = 16;

/// How long a request waits for the session and for its commit.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Most keys of one request: they are kept in the checkpoint until they are done.
const KEYS_MAX: usize = 1000;

/// The body of `POST /api/v1/repair`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepairRequest {
    /// The contract's name.
    pub contract: String,
    /// The major; absent for all that are live.
    #[serde(default)]
    pub version: Option<u32>,
    /// The keys to repair, each an object of the key's fields or, where there is one field, its value; all if empty.
    #[serde(default)]
    pub keys: Vec<Json>,
}

/// The answer, once the repairs are in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairAccepted {
    /// The numbers of the repairs, as `status` shows them.
    pub repairs: Vec<JobId>,
}

/// A request on its way to the session.
pub struct Command {
    /// What is asked.
    pub request: RepairRequest,
    /// Where the answer goes; whoever asked may have gone.
    pub reply: SyncSender<Result<RepairAccepted>>,
}

/// The API's end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    commands: Sender<Command>,
    token: Option<SecretSource>,
}

/// A queue for the API and the sessions.
pub fn queue(token: Option<SecretSource>) -> (Api, Receiver<Command>) {
    let (commands, receiver) = bounded(WAITING_MAX);
    (Api { commands, token }, receiver)
}

impl Api {
    /// Demands the token of the config. Read anew each time, so that a new token needs no restart.
    ///
    /// Errors: `ApiDenied`.
    pub fn admit(&self, bearer: Option<&str>) -> Result<()> {
        let wanted = token(self.token.as_ref())?;
        match bearer {
            Some(shown) if same(shown.as_bytes(), wanted.as_bytes()) => Ok(()),
            Some(_) => Err(denied("the request's token is not the one of the config")),
            None => Err(denied("the request carries no token")),
        }
    }

    /// Asks for a repair; returns once it is in the checkpoint. Blocks.
    ///
    /// Errors: those of [`Engine::repair`]; `DaemonBusy`.
    pub fn repair(&self, request: RepairRequest) -> Result<RepairAccepted> {
        let (reply, answer) = sync_channel(1);
        match self.commands.try_send(Command { request, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(busy(&format!("{WAITING_MAX} requests wait already"))),
            Err(TrySendError::Disconnected(_)) => return Err(busy("the daemon is on its way out")),
        }
        match answer.recv_timeout(ANSWER_WAIT) {
            Ok(answer) => answer,
            Err(_) => Err(busy("the request was not taken in time: the source or the sink does not answer")),
        }
    }
}

/// The token of the config.
///
/// Errors: `ApiDenied` if there is none.
pub fn token(source: Option<&SecretSource>) -> Result<String> {
    let text = match source {
        None => None,
        Some(SecretSource::Env(name)) => std::env::var(name).ok(),
        Some(SecretSource::File(path)) => std::fs::read_to_string(path).ok(),
    };
    match text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) {
        Some(token) => Ok(token),
        None => {
            Err(denied("there is no API token: the file or variable of `api_token` in the config is missing or empty"))
        }
    }
}

fn denied(what: &str) -> Error {
    Error::definite(Code::ApiDenied, what)
        .hint("`gimbal init` writes a token to the file of `api_token`; send it as `Authorization: Bearer …`")
}

fn busy(what: &str) -> Error {
    Error::transient(Code::DaemonBusy, what).hint("look at `gimbal status`, then ask again")
}

/// Compares in a time that does not depend on where the texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Queues what a request asks for.
///
/// Errors: `RepairRefused`.
pub fn queue_repair(engine: &mut Engine, request: &RepairRequest) -> Result<RepairAccepted> {
    if request.keys.len() > KEYS_MAX {
        let what = format!("{} keys were named, at most {KEYS_MAX} can be", request.keys.len());
        return Err(Error::definite(Code::RepairRefused, what).hint("leave `--key` out, to repair the whole topic"));
    }
    let find = |contract: &&crate::engine::Contract| contract.entry.contract == request.contract;
    let fields = engine.contracts().iter().find(find).map(|contract| contract.version.key.clone()).unwrap_or_default();
    let keys = request.keys.iter().map(|key| key_texts(key, &fields)).collect::<Option<Vec<_>>>();
    let Some(keys) = keys else {
        let what = format!("a key of contract `{}` does not name its fields: {}", request.contract, fields.join(", "));
        return Err(Error::definite(Code::RepairRefused, what)
            .hint("give a JSON object with every field of the key, as `gimbal tail` prints it"));
    };
    Ok(RepairAccepted { repairs: engine.repair(&request.contract, request.version, keys)? })
}

/// The texts of a key's fields: of an object by name, of a value alone where there is one field.
fn key_texts(key: &Json, fields: &[String]) -> Option<Vec<String>> {
    let text = |value: &Json| match value {
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        Json::Bool(truth) => Some(truth.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    };
    match (key, fields) {
        (Json::Object(object), fields) if object.len() == fields.len() => {
            fields.iter().map(|field| text(object.get(field)?)).collect()
        }
        (Json::Object(_), _) => None,
        // Without fields the contract is unknown or has no key, which the engine says better.
        (value, [_] | []) => Some(vec![text(value)?]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_an_object_of_its_fields_or_the_value_of_the_only_one() {
        let one = ["id".to_owned()];
        let two = ["tenant".to_owned(), "id".to_owned()];
        assert_eq!(key_texts(&json!(7), &one), Some(vec!["7".to_owned()]));
        assert_eq!(key_texts(&json!({"id": "a"}), &one), Some(vec!["a".to_owned()]));
        assert_eq!(key_texts(&json!({"id": 9, "tenant": true}), &two), Some(vec!["true".to_owned(), "9".to_owned()]));
        for wrong in [json!(7), json!({"id": 9}), json!({"id": 9, "other": 1}), json!({"id": null, "tenant": 1})] {
            assert_eq!(key_texts(&wrong, &two), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_token_of_the_config_is_admitted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (api, _commands) = queue(Some(SecretSource::File(path.clone())));
        assert_eq!(api.admit(Some("")).unwrap_err().code(), Code::ApiDenied, "no file");
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(api.admit(Some("")).unwrap_err().code(), Code::ApiDenied, "an empty token admits nobody");
        std::fs::write(&path, "secret\n").unwrap();
        assert!(api.admit(Some("secret")).is_ok());
        for wrong in [None, Some("secre"), Some("secreT"), Some("secrets"), Some("")] {
            let error = api.admit(wrong).unwrap_err();
            assert!(error.code() == Code::ApiDenied && !error.to_string().contains("secre"), "{error}");
        }
    }

    #[test]
    fn requests_beyond_the_bound_are_refused_at_once() {
        let (api, _commands) = queue(None);
        for _ in 0..WAITING_MAX {
            let (reply, _) = sync_channel(1);
            api.commands.try_send(Command { request: RepairRequest::default(), reply }).unwrap();
        }
        assert_eq!(api.repair(RepairRequest::default()).unwrap_err().code(), Code::DaemonBusy);
    }
}
