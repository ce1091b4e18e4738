//! How to log in to a registry over HTTP, and whom to trust. Secrets come from the environment and go into no error.

use std::path::Path;

use reqwest::{Certificate, RequestBuilder};

use crate::error::{Code, Error, Result};

/// How to log in, and whom to trust. The secrets are in environment variables.
#[derive(Clone, Copy, Debug, Default)]
pub struct Login<'a> {
    /// For basic authentication.
    pub username: Option<&'a str>,
    /// Names the variable with the password.
    pub password_env: Option<&'a str>,
    /// Names the variable with a token, for bearer authentication.
    pub token_env: Option<&'a str>,
    /// PEM file of the only authorities to trust.
    pub ca_file: Option<&'a Path>,
}

/// What a request carries.
pub(super) enum Credentials {
    Basic { username: String, password: Option<String> },
    Bearer(String),
}

impl Credentials {
    /// Finds the secret in the environment.
    pub(super) fn of(login: &Login<'_>) -> Result<Option<Credentials>> {
        let secret = |key: &str, name: &str| {
            std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
                invalid(format!("the environment variable `{name}` of `registry.{key}` is not set"))
                    .hint(format!("set `{name}` where gimbal starts"))
            })
        };
        if let Some(name) = login.token_env {
            return Ok(Some(Credentials::Bearer(secret("token_env", name)?)));
        }
        let password = login.password_env.map(|name| secret("password_env", name)).transpose()?;
        Ok(login.username.map(|username| Credentials::Basic { username: username.to_owned(), password }))
    }

    /// The request with the login on it.
    pub(super) fn put_on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Credentials::Basic { username, password } => request.basic_auth(username, password.as_ref()),
            Credentials::Bearer(token) => request.bearer_auth(token),
        }
    }

    /// The server's words without the secret, should it send that back.
    pub(super) fn strike_out(&self, message: &str) -> String {
        let secret = match self {
            Credentials::Basic { password, .. } => password.as_deref(),
            Credentials::Bearer(token) => Some(token.as_str()),
        };
        secret.map_or_else(|| message.to_owned(), |secret| message.replace(secret, "…"))
    }
}

/// The certificates of `registry.ca_file`.
pub(super) fn authorities(path: &Path) -> Result<Vec<Certificate>> {
    let problem = |text: String| {
        Error::definite(Code::RegistryTls, format!("the file `{}` of `registry.ca_file` {text}", path.display()))
            .hint("it has to be PEM, with `-----BEGIN CERTIFICATE-----`")
    };
    let bytes = std::fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    match Certificate::from_pem_bundle(&bytes) {
        Ok(found) if found.is_empty() => Err(problem("holds no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(problem(format!("is not PEM: {}", chain(&error)))),
    }
}

pub(super) fn invalid(diagnosis: String) -> Error {
    Error::definite(Code::ConfigInvalid, diagnosis)
}

/// An error with its causes, which `reqwest` keeps apart.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
