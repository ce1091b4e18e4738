//! What an entry may ask for between a column and its field: a path, an encoding, a rounding, a mask.

use std::fmt;
use std::sync::Arc;

/// `encode:`, how bytes and text stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Two lower-case digits a byte.
    Hex,
    /// RFC 4648, with padding, without line breaks.
    Base64,
    /// The bytes of the text.
    Utf8,
}

/// `round:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, and half-way to the even one.
    HalfEven,
}

/// `mask:`, as far as it depends on the value; `null` and `drop` are constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The HMAC-SHA-256 of the text.
    HmacSha256 {
        /// Whose.
        key: MaskKey,
    },
    /// Every character but the last few becomes `*`; a text of no more characters is hidden wholly.
    KeepLast(u32),
}

impl Mask {
    /// As a contract writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Mask::HmacSha256 { .. } => "hmac_sha256",
            Mask::KeepLast(_) => "keep_last",
        }
    }
}

/// A key of the config, by name; the secret comes with the daemon and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MaskKey {
    name: String,
    secret: Option<Arc<[u8]>>,
}

impl MaskKey {
    /// A key of which only the name is known.
    pub fn named(name: impl Into<String>) -> MaskKey {
        MaskKey { name: name.into(), secret: None }
    }

    /// Its name in `keys:`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The secret, once it is known.
    pub fn secret(&self) -> Option<&[u8]> {
        self.secret.as_deref()
    }

    /// Takes the secret.
    pub fn set_secret(&mut self, secret: &[u8]) {
        self.secret = Some(Arc::from(secret));
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `path:`, one step after the other into a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(pub Vec<PathStep>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// The member of an object.
    Key(String),
    /// The item of an array, from 0.
    Index(u32),
}

/// What is wrong with a path, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// Lower-case diagnosis.
    pub message: String,
    /// Byte offset.
    pub at: usize,
}

/// Most steps of a path: PostgreSQL's documents are rarely deeper than ten.
const STEPS_MAX: usize = 64;

impl JsonPath {
    /// Reads `$.a.b`, `$[0]`, `$["odd key"]`. A name after a point has letters, digits, `_`, `-` and wide characters.
    pub fn parse(text: &str) -> Result<JsonPath, PathError> {
        let fail = |message: &str, at: usize| PathError { message: message.to_owned(), at };
        let mut rest = text.strip_prefix('$').ok_or_else(|| fail("a path begins with `$`", 0))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            if steps.len() == STEPS_MAX {
                return Err(PathError { message: format!("a path has at most {STEPS_MAX} steps"), at });
            }
            let (step, after) = if let Some(name) = rest.strip_prefix('.') {
                let ends = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' && c != '-';
                let (name, after) = name.split_at_checked(name.find(ends).unwrap_or(name.len())).unwrap_or((name, ""));
                if name.is_empty() {
                    return Err(fail("a name must follow the point; write an odd one as `[\"odd key\"]`", at + 1));
                }
                (PathStep::Key(name.to_owned()), after)
            } else if let Some(inner) = rest.strip_prefix('[') {
                bracket(inner).map_err(|message| fail(message, at + 1))?
            } else {
                return Err(fail("a step begins with `.` or `[`", at));
            };
            steps.push(step);
            rest = after;
        }
        if steps.is_empty() {
            return Err(fail("`$` alone is the whole document: leave `path` out", 0));
        }
        Ok(JsonPath(steps))
    }
}

/// What stands after `[`, and the text after `]`.
fn bracket(inner: &str) -> Result<(PathStep, &str), &'static str> {
    if inner.starts_with('"') {
        let mut strings = serde_json::Deserializer::from_str(inner).into_iter::<String>();
        let Some(Ok(key)) = strings.next() else { return Err("this key is no JSON string") };
        let after = inner.get(strings.byte_offset()..).unwrap_or_default();
        let after = after.strip_prefix(']').ok_or("`]` must follow the key")?;
        if key.contains('\0') {
            return Err("PostgreSQL knows no key with a zero character");
        }
        return Ok((PathStep::Key(key), after));
    }
    let (digits, after) = inner.split_once(']').ok_or("`]` is missing")?;
    let index: u32 = digits.parse().map_err(|_| "an item's number counts from 0: `[0]`")?;
    match index.to_string() == digits {
        true => Ok((PathStep::Index(index), after)),
        false => Err("an item's number counts from 0: `[0]`"),
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        self.0.iter().try_for_each(|step| match step {
            PathStep::Key(key) => write!(f, "[{}]", serde_json::Value::from(key.as_str())),
            PathStep::Index(index) => write!(f, "[{index}]"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str) -> PathStep {
        PathStep::Key(name.to_owned())
    }

    #[test]
    fn a_path_is_names_and_numbers() {
        for (text, steps) in [
            ("$.a", vec![key("a")]),
            ("$.a-b.größe", vec![key("a-b"), key("größe")]),
            ("$[0][12].x", vec![PathStep::Index(0), PathStep::Index(12), key("x")]),
            ("$[\"odd \\\"key]\"].b", vec![key("odd \"key]"), key("b")]),
            ("$[\"\"]", vec![key("")]),
        ] {
            assert_eq!(JsonPath::parse(text), Ok(JsonPath(steps)), "{text}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused_at_its_place() {
        for (text, at) in [
            ("", 0),
            ("a", 0),
            ("$", 0),
            ("$a", 1),
            ("$.", 2),
            ("$.a..b", 4),
            ("$.a[", 4),
            ("$.a[-1]", 4),
            ("$.a[01]", 4),
            ("$[\"a]", 2),
            ("$[\"a\"b]", 2),
            ("$.a b", 3),
            ("$[*]", 2),
            ("$[\"\\u0000\"]", 2),
        ] {
            assert_eq!(JsonPath::parse(text).map_err(|error| error.at), Err(at), "{text}");
        }
        assert!(JsonPath::parse(&format!("${}", ".a".repeat(65))).is_err());
    }

    #[test]
    fn a_key_never_shows_its_secret() {
        let mut key = MaskKey::named("email_key");
        key.set_secret(b"canary");
        let mask = Mask::HmacSha256 { key };
        assert!(!format!("{mask:?}").contains("canary") && !format!("{mask:?}").contains("99"));
    }

    proptest! {
        #[test]
        fn a_printed_path_reads_back(steps in proptest::collection::vec(
            prop_oneof!["\\PC{0,6}|[ \"\\\\.]{0,3}".prop_map(PathStep::Key), any::<u32>().prop_map(PathStep::Index)], 1..5)) {
            let path = JsonPath(steps);
            prop_assert_eq!(JsonPath::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn no_text_makes_the_path_reader_panic(text in "\\PC{0,20}|\\$[.\\[\\]\"a0\\\\]{0,9}") {
            let _ = JsonPath::parse(&text);
        }
    }
}
