//! Keeps secrets that stand where they should not out of messages, and reads those that are where they should be.

use super::SecretSource;

impl SecretSource {
    /// The secret's text; what is wrong if it cannot be had, without the secret.
    pub fn read(&self) -> Result<String, String> {
        match self {
            SecretSource::File(path) => {
                std::fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
            }
            SecretSource::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable `{name}` is not set"))
            }
        }
    }
}

/// The text with every password blotted out, byte for byte as long, so that places stay what they are.
pub(super) fn blot(text: &str) -> String {
    text.split_inclusive('\n').map(blot_line).collect()
}

fn blot_line(line: &str) -> String {
    let mut bytes = line.as_bytes().to_vec();
    let mut cover = |from: usize, to: usize| {
        for byte in bytes.get_mut(from..to).unwrap_or_default() {
            *byte = b'*';
        }
    };
    let mut at = 0;
    while let Some(found) = line.get(at..).and_then(|rest| rest.find("://")) {
        let start = at + found + 3;
        if let Some((from, to)) = password_in_authority(line, start) {
            cover(from, to);
        }
        at = start;
    }
    let lower = line.to_ascii_lowercase();
    for word in ["password:", "password=", "secret:", "token:"] {
        let Some(found) = lower.find(word) else { continue };
        let from = found + word.len();
        // A mapping after the word is a reference such as {file: …}, which is no secret.
        let value = line.get(from..).unwrap_or("").trim_start();
        if !value.starts_with('{') && !value.is_empty() {
            let end =
                line.get(from..).and_then(|rest| rest.find([',', '}', '&', '\n'])).map_or(line.len(), |n| from + n);
            cover(from, end);
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Byte range of `password` in `user:password@host`, which begins at `start`.
fn password_in_authority(text: &str, start: usize) -> Option<(usize, usize)> {
    let rest = text.get(start..)?;
    let end = rest.find(['/', '?', '#', '"', '\'', ' ', '\n']).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    // A password may itself hold an @ that nobody escaped.
    let at = authority.rfind('@').or_else(|| rest.split(['\n', '"', '\'', ' ']).next()?.rfind('@'))?;
    let colon = rest.get(..at)?.find(':')?;
    Some((start + colon + 1, start + at))
}

/// Whether a URL carries a password, in its authority or as a parameter.
pub(super) fn has_password(url: &str) -> bool {
    without_password(url) != url
}

/// The URL without its password, as it may be written to a file.
pub fn without_password(url: &str) -> String {
    let mut clean = url.to_owned();
    if let Some(start) = url.find("://").map(|at| at + 3)
        && let Some((from, to)) = password_in_authority(url, start)
    {
        clean.replace_range(from - 1..to, "");
    }
    let Some((base, query)) = clean.split_once('?') else { return clean };
    let kept: Vec<&str> = query.split('&').filter(|part| !part.to_ascii_lowercase().starts_with("password=")).collect();
    if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_blotted_out_and_places_stay() {
        for (text, blotted) in [
            ("url: postgresql://u:pw@h/d?x=1\n", "url: postgresql://u:**@h/d?x=1\n"),
            ("url: postgresql://u:p/w@h/d\n", "url: postgresql://u:***@h/d\n"),
            ("url: postgresql://u@h:5432/d?password=a&b=c\n", "url: postgresql://u@h:5432/d?password=*&b=c\n"),
            ("  sasl.password: hunter, x: y\n", "  sasl.password:*******, x: y\n"),
            ("password_env: NAME\n", "password_env: NAME\n"),
            ("api_token: {file: a}\n", "api_token: {file: a}\n"),
            ("url: postgresql://u@h:5432/d\n", "url: postgresql://u@h:5432/d\n"),
        ] {
            assert_eq!(blot(text), blotted);
        }
    }

    #[test]
    fn a_url_loses_its_password_and_nothing_else() {
        assert_eq!(without_password("postgresql://u:p@h:5/d?sslmode=require"), "postgresql://u@h:5/d?sslmode=require");
        assert_eq!(without_password("postgresql://u@h/d?password=x&a=b"), "postgresql://u@h/d?a=b");
        assert_eq!(without_password("postgresql://u@h/d?password=x"), "postgresql://u@h/d");
        assert!(!has_password("postgresql://u@h:5432/d?sslmode=verify-full"));
    }
}
