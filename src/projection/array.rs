//! PostgreSQL's array text, item by item, straight into Avro's array encoding.

use super::convert::Conversion;
use super::encode;
use super::reason::Reason;
use super::scratch::Scratch;
use super::text;

/// How the items of an array are written.
#[derive(Debug)]
pub struct Item {
    /// The byte before an item that is not null, where the item is a union.
    pub branch: Option<u8>,
    /// What a null item is, unless it is an error.
    pub null: Option<u8>,
    /// For items that are not null. Labels are compared in their escaped form.
    pub convert: Conversion,
}

/// One item as it stands in the text.
enum Element<'a> {
    Null,
    /// Content without its quotes; a backslash escapes the character after it.
    Text {
        raw: &'a [u8],
        escaped: bool,
    },
}

/// Items that a count of one byte can tell.
const SHORT_COUNT_MAX: i64 = 63;

impl Item {
    /// Appends the array. Errors: more than one dimension, another lower bound, an item that does not fit.
    pub fn encode_array(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        let mut rest = match text {
            b"{}" => {
                out.push(0);
                return Ok(());
            }
            [b'{', rest @ ..] => rest,
            [b'[', ..] => return Err(bounds(text)),
            _ => return Err(Reason::NotCanonical),
        };
        // One block. Its count is known only at the end, and mostly fits the byte kept for it.
        let at = out.len();
        out.push(0);
        let mut count = 0i64;
        loop {
            let (element, after) = next(rest)?;
            self.encode(element, out)?;
            count += 1;
            rest = match after {
                [b',', more @ ..] => more,
                b"}" => break,
                _ => return Err(Reason::NotCanonical),
            };
        }
        set_count(count, at, out);
        out.push(0);
        Ok(())
    }

    #[inline]
    fn encode(&self, element: Element<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        match element {
            Element::Null => out.push(self.null.ok_or(Reason::NullElement)?),
            Element::Text { raw, escaped } => {
                out.extend(self.branch);
                if escaped {
                    escaped_item(&self.convert, raw, out)?;
                } else {
                    self.convert.encode(raw, out)?;
                }
            }
        }
        Ok(())
    }
}

/// A prefix such as `[2:3]=` or `[1:2][2:3]=`, printed when a lower bound is not 1.
fn bounds(text: &[u8]) -> Reason {
    let head = text.split(|byte| *byte == b'=').next().unwrap_or_default();
    match head.iter().filter(|byte| **byte == b'[').count() {
        1 => Reason::Bounds,
        _ => Reason::Dimensions,
    }
}

#[inline]
fn next(text: &[u8]) -> Result<(Element<'_>, &[u8]), Reason> {
    match text {
        [b'{', ..] => Err(Reason::Dimensions),
        [b'"', rest @ ..] => quoted(rest),
        _ => {
            let end = memchr::memchr2(b',', b'}', text).ok_or(Reason::NotCanonical)?;
            let (raw, after) = text.split_at_checked(end).ok_or(Reason::NotCanonical)?;
            match raw {
                b"NULL" => Ok((Element::Null, after)),
                // What holds one of these is printed in quotes.
                [] => Err(Reason::NotCanonical),
                _ if memchr::memchr3(b'"', b'\\', b'{', raw).is_some() => Err(Reason::NotCanonical),
                _ => Ok((Element::Text { raw, escaped: false }, after)),
            }
        }
    }
}

fn quoted(text: &[u8]) -> Result<(Element<'_>, &[u8]), Reason> {
    let mut escaped = false;
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let found = memchr::memchr2(b'"', b'\\', rest).ok_or(Reason::NotCanonical)?;
        at += found;
        match text.get(at..) {
            Some([b'\\', b'\\' | b'"', ..]) => {
                escaped = true;
                at += 2;
            }
            Some([b'"', after @ ..]) => {
                let raw = text.get(..at).unwrap_or_default();
                return Ok((Element::Text { raw, escaped }, after));
            }
            _ => return Err(Reason::NotCanonical),
        }
    }
}

/// An item with escapes. Only texts, labels and the first backslash of a bytea have any.
fn escaped_item(convert: &Conversion, raw: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    match convert {
        Conversion::String => escaped_string(raw, out),
        Conversion::Unpadded(inner) => escaped_item(inner, text::unpadded(raw), out),
        Conversion::Label(labels) => labels.encode(raw, out),
        Conversion::Bytes(_) => match raw {
            [b'\\', bytea @ ..] => convert.encode(bytea, out),
            _ => Err(Reason::NotCanonical),
        },
        _ => {
            let mut text = Scratch::new();
            let mut rest = raw;
            while let Some((plain, after)) = split_escape(rest) {
                text.extend(plain);
                text.extend(after.get(..1).unwrap_or_default());
                rest = after.get(1..).unwrap_or_default();
            }
            text.extend(rest);
            convert.encode(text.bytes(), out)
        }
    }
}

fn escaped_string(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    // A backslash before an ASCII character changes nothing about being UTF-8.
    if std::str::from_utf8(raw).is_err() {
        return Err(Reason::InvalidText);
    }
    let mut escapes = 0;
    let mut rest = raw;
    while let Some((_, after)) = split_escape(rest) {
        escapes += 1;
        rest = after.get(1..).unwrap_or_default();
    }
    encode::long((raw.len() - escapes) as i64, out);
    let mut rest = raw;
    while let Some((before, after)) = split_escape(rest) {
        out.extend_from_slice(before);
        out.extend(after.first());
        rest = after.get(1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// What stands before and after the next backslash.
fn split_escape(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, after) = text.split_at_checked(memchr::memchr(b'\\', text)?)?;
    Some((before, after.get(1..)?))
}

/// The form in which a label stands between an item's quotes.
pub fn escape(label: &str) -> Vec<u8> {
    label.bytes().flat_map(|byte| matches!(byte, b'"' | b'\\').then_some(b'\\').into_iter().chain([byte])).collect()
}

fn set_count(count: i64, at: usize, out: &mut Vec<u8>) {
    let (bytes, len) = encode::long_bytes(count);
    if count > SHORT_COUNT_MAX {
        let end = out.len();
        out.resize(end + len - 1, 0);
        out.copy_within(at + 1..end, at + len);
    }
    out.iter_mut().skip(at).zip(&bytes).take(len).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Result<Vec<Option<String>>, Reason> {
        let item = Item { branch: Some(2), null: Some(0), convert: Conversion::String };
        let mut out = vec![];
        item.encode_array(text.as_bytes(), &mut out)?;
        Ok(decode(&out))
    }

    /// Reads an array of `["null", string]` with one block.
    fn decode(bytes: &[u8]) -> Vec<Option<String>> {
        let mut rest = bytes;
        let long = |rest: &mut &[u8]| {
            let mut value = 0u64;
            for shift in 0.. {
                let (byte, after) = rest.split_first().unwrap();
                *rest = after;
                value |= u64::from(byte & 0x7F) << (7 * shift);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            value >> 1
        };
        let count = long(&mut rest);
        let mut items = Vec::new();
        for _ in 0..count {
            items.push((long(&mut rest) == 1).then(|| {
                let len = long(&mut rest) as usize;
                let (text, after) = rest.split_at(len);
                rest = after;
                String::from_utf8(text.to_vec()).unwrap()
            }));
        }
        if count > 0 {
            assert_eq!(long(&mut rest), 0);
        }
        assert!(rest.is_empty());
        items
    }

    #[test]
    fn quotes_escapes_and_nulls_are_undone() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(strings("{}"), Ok(vec![]));
        assert_eq!(
            strings("{a,NULL,\"NULL\",\"\",null}"),
            Ok(vec![some("a"), None, some("NULL"), some(""), some("null")])
        );
        assert_eq!(
            strings(r#"{"a,b","{}","\"\\","é \\\\"}"#),
            Ok(vec![some("a,b"), some("{}"), some("\"\\"), some("é \\\\")])
        );
        let many = vec!["x"; 1_000].join(",");
        assert_eq!(strings(&format!("{{{many}}}")), Ok(vec![some("x"); 1_000]));
    }

    #[test]
    fn other_shapes_are_errors() {
        for (text, reason) in [
            ("{{1,2},{3,4}}", Reason::Dimensions),
            ("[1:1][2:3]={{1,2}}", Reason::Dimensions),
            ("[2:3]={1,2}", Reason::Bounds),
            ("[0:0]={\"=[\"}", Reason::Bounds),
            ("", Reason::NotCanonical),
            ("1 2", Reason::NotCanonical),
            ("{", Reason::NotCanonical),
            ("{a", Reason::NotCanonical),
            ("{a,}", Reason::NotCanonical),
            ("{,a}", Reason::NotCanonical),
            ("{a}b", Reason::NotCanonical),
            ("{\"a}", Reason::NotCanonical),
            ("{\"a\"b}", Reason::NotCanonical),
            ("{\"\\a\"}", Reason::NotCanonical),
            ("{\"\\", Reason::NotCanonical),
            ("{a\"b}", Reason::NotCanonical),
        ] {
            assert_eq!(strings(text), Err(reason), "{text}");
        }
        let item = Item { branch: None, null: None, convert: Conversion::String };
        assert_eq!(item.encode_array(b"{NULL}", &mut vec![]), Err(Reason::NullElement));
        assert_eq!(item.encode_array(b"{\"\\\\\xFF\"}", &mut vec![]), Err(Reason::InvalidText));
    }

    #[test]
    fn labels_and_bytea_are_found_through_their_escapes() {
        let labels = text::Labels::new([(escape("a\"b\\"), 1), (escape("plain"), 0)], None);
        let item = Item { branch: None, null: None, convert: Conversion::Label(labels) };
        let mut out = vec![];
        item.encode_array(br#"{"a\"b\\",plain}"#, &mut out).unwrap();
        assert_eq!(out, [4, 2, 0, 0]);
        let item = Item { branch: None, null: None, convert: Conversion::Bytes(None) };
        out.clear();
        item.encode_array(br#"{"\\x00ff"}"#, &mut out).unwrap();
        assert_eq!(out, [2, 4, 0, 255, 0]);
    }
}
