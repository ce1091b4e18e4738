//! The key for sealing, as the config names it, and the system's randomness for its nonces.

use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::seal::{NONCE_BYTES, SealKey, Sealer};

/// The name of the key in `keys:`.
pub const KEY_NAME: &str = "seal";

/// True if the config names a key for sealing.
pub fn configured(config: &Config) -> bool {
    config.keys.contains_key(KEY_NAME)
}

/// The configured key.
pub fn key(config: &Config) -> Result<Option<SealKey>> {
    let Some(source) = config.keys.get(KEY_NAME) else { return Ok(None) };
    let text = source.read().map_err(|why| {
        Error::definite(Code::SealKeyInvalid, format!("the key for sealing cannot be read: {why}"))
            .hint("`gimbal init` writes the file that `keys: {seal: {file: …}}` names, if it is missing")
    })?;
    SealKey::parse(&text).map(Some)
}

/// A sealer with the configured key.
pub fn sealer(config: &Config) -> Result<Option<Sealer>> {
    let nonces = || {
        let mut nonce = [0; NONCE_BYTES];
        // Never a nonce twice: without randomness nothing is sealed.
        getrandom::fill(&mut nonce)
            .map_err(|e| Error::definite(Code::Io, format!("the system gives no randomness: {e}")))?;
        Ok(nonce)
    };
    Ok(key(config)?.map(|key| Sealer::new(key, &config.pipeline, Box::new(nonces))))
}
