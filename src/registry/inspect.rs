//! Looks at a registry without changing it, for `doctor`.

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::error::Result;
use crate::registry::http::HttpRegistry;

/// What a registry says about itself and about some subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// `READWRITE`, `READONLY` …; absent where the registry knows no modes.
    pub mode: Option<String>,
    /// Of the subjects asked for, those that exist, with the compatibility level that holds for each, if it is told.
    pub subjects: Vec<(String, Option<String>)>,
}

impl HttpRegistry {
    /// Reads mode and compatibility levels. Fails as every request does: unreachable, refused, no registry.
    pub async fn inspect(&self, subjects: &[String]) -> Result<Inspection> {
        let doing = "list the registry's subjects";
        let reply = self.request(doing, Method::GET, &["subjects"], None).await?;
        let Some(Value::Array(known)) = reply.json.as_ref().filter(|_| reply.status.is_success()) else {
            return Err(self.refused(doing, &reply));
        };
        let known: Vec<&str> = known.iter().filter_map(Value::as_str).collect();
        let mode = self.text("read the registry's mode", &["mode"], "mode").await?;
        let global = self.text("read the registry's compatibility", &["config"], "compatibilityLevel").await?;
        let mut found = Vec::new();
        for subject in subjects.iter().filter(|subject| known.contains(&subject.as_str())) {
            let doing = format!("read the compatibility of subject `{subject}`");
            let own = self.text(&doing, &["config", subject], "compatibilityLevel").await?;
            found.push((subject.clone(), own.or_else(|| global.clone())));
        }
        Ok(Inspection { mode, subjects: found })
    }

    /// A member of an answer; `None` where the registry does not have it.
    async fn text(&self, doing: &str, path: &[&str], member: &str) -> Result<Option<String>> {
        let reply = self.request(doing, Method::GET, path, None).await?;
        match reply.status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(None),
            status if status.is_success() => {
                let text = reply.json.as_ref().and_then(|json| json.get(member)).and_then(Value::as_str);
                Ok(text.map(str::to_owned))
            }
            _ => Err(self.refused(doing, &reply)),
        }
    }
}
