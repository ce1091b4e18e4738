//! Looks a path up in a JSON document, as PostgreSQL's `#>>` does, without building a tree.

use crate::contract::PathStep;

use super::reason::Reason;
use super::scratch::Scratch;

/// What stands at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// Nothing, or JSON's null: for SQL they are one.
    Null,
    /// The content of a string, between its quotes.
    String {
        raw: &'a [u8],
        /// Whether it holds a backslash.
        escaped: bool,
    },
    /// A number as it is written.
    Number(&'a [u8]),
    /// `true` or `false`.
    Word(&'a [u8]),
    /// An object or array as it is written.
    Container(&'a [u8]),
}

/// Looks a path up. Of an object's equal keys the last one counts.
///
/// Errors: a document that PostgreSQL itself cannot walk (`\u0000`, half of a surrogate pair), or that is no JSON.
pub fn find<'a>(document: &'a [u8], steps: &[PathStep]) -> Result<Found<'a>, Reason> {
    let mut scanner = Scanner { text: document, at: 0 };
    let found = scanner.value(steps)?;
    scanner.blanks();
    if scanner.at != document.len() {
        return Err(Reason::NotCanonical);
    }
    Ok(found.unwrap_or(Found::Null))
}

/// A string's content without its escapes.
pub fn unescape(raw: &[u8], out: &mut Scratch) -> Result<(), Reason> {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at_checked(at).ok_or(Reason::NotCanonical)?;
        out.extend(plain);
        let (character, after) = escaped(escape)?;
        out.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
    out.extend(rest);
    Ok(())
}

/// The character that an escape stands for, and what follows it.
fn escaped(escape: &[u8]) -> Result<(char, &[u8]), Reason> {
    let (character, after) = match escape {
        [b'\\', b'u', rest @ ..] => return unicode(rest),
        [b'\\', letter, rest @ ..] => match letter {
            b'"' | b'\\' | b'/' => (char::from(*letter), rest),
            b'b' => ('\u{8}', rest),
            b'f' => ('\u{c}', rest),
            b'n' => ('\n', rest),
            b'r' => ('\r', rest),
            b't' => ('\t', rest),
            _ => return Err(Reason::NotCanonical),
        },
        _ => return Err(Reason::NotCanonical),
    };
    Ok((character, after))
}

fn unicode(text: &[u8]) -> Result<(char, &[u8]), Reason> {
    let (high, rest) = four_digits(text)?;
    let (code, rest) = match (high, rest) {
        (0xD800..=0xDBFF, [b'\\', b'u', low @ ..]) => match four_digits(low)? {
            (low @ 0xDC00..=0xDFFF, rest) => (0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00), rest),
            _ => return Err(Reason::NotCanonical),
        },
        (code, rest) => (code, rest),
    };
    // PostgreSQL's text holds no zero character; half of a pair is no character.
    match char::from_u32(code).filter(|character| *character != '\0') {
        Some(character) => Ok((character, rest)),
        None => Err(Reason::NotCanonical),
    }
}

fn four_digits(text: &[u8]) -> Result<(u32, &[u8]), Reason> {
    let (digits, rest) = text.split_at_checked(4).ok_or(Reason::NotCanonical)?;
    let mut value = 0;
    for digit in digits {
        value = value << 4 | char::from(*digit).to_digit(16).ok_or(Reason::NotCanonical)?;
    }
    Ok((value, rest))
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Result<u8, Reason> {
        self.text.get(self.at).copied().ok_or(Reason::NotCanonical)
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte after blanks, taken.
    fn take(&mut self) -> Result<u8, Reason> {
        self.blanks();
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// The value that begins here. It is read to its end, whatever the path finds in it. Calls itself once a step.
    fn value(&mut self, steps: &[PathStep]) -> Result<Option<Found<'a>>, Reason> {
        self.blanks();
        let Some((step, rest)) = steps.split_first() else { return self.whole().map(Some) };
        match (self.peek()?, step) {
            (b'{', PathStep::Key(key)) => self.member(key, rest),
            (b'[', PathStep::Index(index)) => self.item(*index, rest),
            _ => self.whole().map(|_| None),
        }
    }

    fn member(&mut self, key: &str, rest: &[PathStep]) -> Result<Option<Found<'a>>, Reason> {
        let mut found = None;
        self.at += 1;
        self.blanks();
        if self.peek()? == b'}' {
            self.at += 1;
            return Ok(None);
        }
        loop {
            self.blanks();
            let name = match self.whole()? {
                Found::String { raw, escaped: false } => raw == key.as_bytes(),
                Found::String { raw, escaped: true } => {
                    let mut name = Scratch::new();
                    unescape(raw, &mut name)?;
                    name.bytes() == key.as_bytes()
                }
                _ => return Err(Reason::NotCanonical),
            };
            if self.take()? != b':' {
                return Err(Reason::NotCanonical);
            }
            match name {
                // A later member without what the path looks for leaves an earlier one's, as PostgreSQL's scan does.
                true => found = self.value(rest)?.or(found),
                false => self.skip()?,
            }
            match self.take()? {
                b',' => {}
                b'}' => return Ok(found),
                _ => return Err(Reason::NotCanonical),
            }
        }
    }

    fn item(&mut self, index: u32, rest: &[PathStep]) -> Result<Option<Found<'a>>, Reason> {
        let mut found = None;
        self.at += 1;
        self.blanks();
        if self.peek()? == b']' {
            self.at += 1;
            return Ok(None);
        }
        for number in 0u64.. {
            match number == u64::from(index) {
                true => found = self.value(rest)?,
                false => self.skip()?,
            }
            match self.take()? {
                b',' => {}
                b']' => break,
                _ => return Err(Reason::NotCanonical),
            }
        }
        Ok(found)
    }

    fn skip(&mut self) -> Result<(), Reason> {
        self.blanks();
        self.whole().map(|_| ())
    }

    /// The value that begins here, as a whole. PostgreSQL has checked the form: brackets are only counted, so that no
    /// depth of nesting costs anything.
    fn whole(&mut self) -> Result<Found<'a>, Reason> {
        let start = self.at;
        match self.peek()? {
            b'"' => self.string(),
            b'{' | b'[' => {
                let mut depth = 0usize;
                loop {
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    let next = rest.iter().position(|byte| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']'));
                    self.at += next.ok_or(Reason::NotCanonical)?;
                    match self.peek()? {
                        b'"' => {
                            self.string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        _ => depth -= 1,
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
                Ok(Found::Container(self.since(start)))
            }
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\t' | b'\r');
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
                match self.since(start) {
                    b"null" => Ok(Found::Null),
                    word @ (b"true" | b"false") => Ok(Found::Word(word)),
                    number @ [b'-' | b'0'..=b'9', ..] => Ok(Found::Number(number)),
                    _ => Err(Reason::NotCanonical),
                }
            }
        }
    }

    fn string(&mut self) -> Result<Found<'a>, Reason> {
        self.at += 1;
        let start = self.at;
        let mut has_escapes = false;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            self.at += memchr::memchr2(b'"', b'\\', rest).ok_or(Reason::NotCanonical)?;
            if self.peek()? == b'"' {
                let raw = self.since(start);
                self.at += 1;
                return Ok(Found::String { raw, escaped: has_escapes });
            }
            has_escapes = true;
            let (_, after) = escaped(self.text.get(self.at..).unwrap_or_default())?;
            self.at = self.text.len() - after.len();
        }
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.at).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::JsonPath;
    use proptest::prelude::*;
    use serde_json::Value;

    fn look(document: &str, path: &str) -> Result<Option<String>, Reason> {
        let text = |bytes: &[u8]| Some(String::from_utf8(bytes.to_vec()).unwrap());
        Ok(match find(document.as_bytes(), &JsonPath::parse(path).unwrap().0)? {
            Found::Null => None,
            Found::String { raw, escaped: true } => {
                let mut out = Scratch::new();
                unescape(raw, &mut out)?;
                text(out.bytes())
            }
            Found::String { raw, .. } => text(raw),
            Found::Number(raw) | Found::Word(raw) | Found::Container(raw) => text(raw),
        })
    }

    #[test]
    fn a_path_finds_scalars_as_text_and_containers_as_json() {
        let document = r#" {"a": {"b": [10, {"c": "x\n\u00e9\ud83d\ude42"}, null]}, "": 1.50, "a\"": true, "k": "}"} "#;
        for (path, found) in [
            ("$.a.b[0]", Some("10")),
            ("$.a.b[1].c", Some("x\né🙂")),
            ("$.a.b[1]", Some(r#"{"c": "x\n\u00e9\ud83d\ude42"}"#)),
            ("$.a.b[2]", None),
            ("$.a.b[3]", None),
            ("$.a.b.c", None),
            ("$.a[0]", None),
            ("$[0]", None),
            ("$[\"\"]", Some("1.50")),
            ("$[\"a\\\"\"]", Some("true")),
            ("$.k", Some("}")),
            ("$.k.x", None),
            ("$.absent", None),
        ] {
            assert_eq!(look(document, path), Ok(found.map(str::to_owned)), "{path}");
        }
        assert_eq!(look(r#"{"a":1,"\u0061":2}"#, "$.a").unwrap().as_deref(), Some("2"));
        assert_eq!(look("[]", "$[0]"), Ok(None));
        assert_eq!(look("{}", "$.a"), Ok(None));
        let deep = format!("{{\"a\": {}1{}, \"b\": 2}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(look(&deep, "$.b").unwrap().as_deref(), Some("2"));
    }

    #[test]
    fn what_postgresql_cannot_walk_is_refused_wherever_it_stands() {
        for document in [
            r#"{"x":"\u0000","a":1}"#,
            r#"{"a":1,"x":["\ud800"]}"#,
            r#"{"a":1,"x":"\udc00\ud800"}"#,
            r#"{"\u0000":1,"a":1}"#,
            r#"{"a":1} 2"#,
            r#"{"a":1"#,
            r#"{"a":}"#,
            "",
        ] {
            assert_eq!(look(document, "$.a"), Err(Reason::NotCanonical), "{document}");
        }
    }

    fn documents() -> impl Strategy<Value = Value> {
        let scalars = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c\"\\\\{}\\[\\],:\né🙂]{0,5}".prop_map(Value::from),
        ];
        scalars.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c\"\\\\]{0,1}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn steps() -> impl Strategy<Value = Vec<PathStep>> {
        let step = prop_oneof!["[a-c\"\\\\]{0,1}".prop_map(PathStep::Key), (0u32..4).prop_map(PathStep::Index)];
        proptest::collection::vec(step, 1..4)
    }

    proptest! {
        #[test]
        fn a_path_finds_what_a_tree_has(document in documents(), steps in steps(), pretty: bool) {
            let mut node = Some(&document);
            for step in &steps {
                node = node.and_then(|node| match step {
                    PathStep::Key(key) => node.as_object().and_then(|object| object.get(key)),
                    PathStep::Index(index) => node.as_array().and_then(|array| array.get(*index as usize)),
                });
            }
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let found = look(&text, &JsonPath(steps).to_string()).unwrap();
            match node {
                None | Some(Value::Null) => prop_assert_eq!(found, None),
                Some(Value::String(string)) => prop_assert_eq!(found.as_ref(), Some(string)),
                Some(other) => prop_assert_eq!(&serde_json::from_str::<Value>(&found.unwrap()).unwrap(), other),
            }
        }

        #[test]
        fn no_text_makes_the_scanner_panic(text in "[\\[\\]{}:,\"\\\\u0d8a1e. ntrufalse-]{0,40}", steps in steps()) {
            let _ = find(text.as_bytes(), &steps);
        }
    }
}
