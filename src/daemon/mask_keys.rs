//! The secrets of masks: read once, before anything runs.

use std::path::Path;

use crate::config::{Config, SecretSource};
use crate::contract::{ContractVersion, FeedSource, Mask};
use crate::error::{Code, Error, Result};

/// Fewest bytes of a mask's key: below 128 bits, whoever has the topic can try all keys.
const KEY_BYTES_MIN: usize = 16;

/// Gives the masks of these versions their secrets.
///
/// Errors: `MaskKeyInvalid` (a key that the config lacks, that cannot be read, or that is too short).
pub fn load(config: &Config, versions: &mut [ContractVersion]) -> Result<()> {
    for feed in versions.iter_mut().flat_map(|version| &mut version.feeds) {
        let options = match &mut feed.source {
            FeedSource::Column { options, .. } | FeedSource::Expr { options, .. } => options,
            FeedSource::Const(_) => continue,
        };
        if let Some(Mask::HmacSha256 { key }) = &mut options.mask {
            let secret = secret(config, key.name())?;
            key.set_secret(&secret);
        }
    }
    Ok(())
}

fn secret(config: &Config, name: &str) -> Result<Vec<u8>> {
    let invalid = |why: String| Error::definite(Code::MaskKeyInvalid, format!("the key `{name}` of the config {why}"));
    let secret = match config.keys.get(name) {
        None => {
            return Err(invalid("is not there, and a mask needs it".to_owned()).hint("add it to `keys:` of the config"));
        }
        Some(SecretSource::File(path)) => read(path).map_err(|error| invalid(format!("cannot be read: {error}")))?,
        Some(SecretSource::Env(variable)) => match std::env::var(variable) {
            Ok(value) => value.into_bytes(),
            Err(_) => {
                let why = invalid(format!("is in the environment variable `{variable}`, which is not set"));
                return Err(why.hint("set it for the daemon, or name a `file` in the config"));
            }
        },
    };
    if secret.len() < KEY_BYTES_MIN {
        let why = invalid(format!("has {} bytes, a mask needs {KEY_BYTES_MIN} at least", secret.len()));
        return Err(why.hint("`openssl rand -hex 32` makes a good one"));
    }
    Ok(secret)
}

/// The file's bytes without the line end that editors add.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(path)?;
    while let [rest @ .., b'\n' | b'\r'] = bytes.as_slice() {
        bytes.truncate(rest.len());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        let text = "pipeline: p\nsource: {url: \"postgresql://u@h/d\"}\n\
                    keys: {good: {file: good}, short: {file: short}, gone: {file: gone}, unset: {env: NOT_SET_IN_TESTS}}\n";
        Config::parse("gimbal.yaml", text, folder).unwrap()
    }

    #[test]
    fn a_key_is_read_without_its_line_end_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("good"), "0123456789abcdef\r\n").unwrap();
        std::fs::write(folder.path().join("short"), "canary\n").unwrap();
        let config = config(folder.path());
        assert_eq!(secret(&config, "good").unwrap(), b"0123456789abcdef");
        for (name, part) in
            [("short", "6 bytes"), ("gone", "cannot be read"), ("unset", "`NOT_SET_IN_TESTS`"), ("other", "not there")]
        {
            let error = secret(&config, name).unwrap_err();
            assert_eq!(error.code(), Code::MaskKeyInvalid);
            let text = error.to_string();
            assert!(text.contains(part) && text.contains(name) && !text.contains("canary"), "{text}");
        }
    }
}
