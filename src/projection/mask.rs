//! `mask:` what is published in place of a text.

use ring::hmac;

use crate::avro::BaseType;
use crate::contract::Mask;

use super::encode;
use super::reason::Reason;

/// A compiled mask.
#[derive(Debug)]
pub enum Masking {
    /// HMAC-SHA-256 of the text.
    Mac {
        /// With the key's padding worked out.
        key: hmac::Key,
        form: MacForm,
    },
    /// Stars for all but the last characters.
    KeepLast(usize),
}

/// How a MAC is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacForm {
    /// A string of 64 lower-case hexadecimal digits.
    Hex,
    /// 32 bytes.
    Bytes,
    /// 32 bytes of a fixed.
    Fixed,
}

impl Masking {
    /// Compiles a mask for a type that the matrix allows; none if the key's secret is not known.
    pub fn of(mask: &Mask, target: &BaseType) -> Option<Masking> {
        Some(match mask {
            Mask::KeepLast(count) => Masking::KeepLast(*count as usize),
            Mask::HmacSha256 { key } => Masking::Mac {
                key: hmac::Key::new(hmac::HMAC_SHA256, key.secret()?),
                form: match target {
                    BaseType::Bytes => MacForm::Bytes,
                    BaseType::Fixed { .. } => MacForm::Fixed,
                    _ => MacForm::Hex,
                },
            },
        })
    }

    /// Puts the mask in place of the text that stands at the end of `out`, from `start` on, behind its length.
    pub fn replace(&self, start: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        let string = out.get(start..).unwrap_or_default();
        let length = string.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let text = string.get(length..).unwrap_or_default();
        match self {
            Masking::Mac { key, form } => {
                let tag = hmac::sign(key, text);
                out.truncate(start);
                match form {
                    MacForm::Bytes => encode::bytes(tag.as_ref(), out),
                    MacForm::Fixed => out.extend_from_slice(tag.as_ref()),
                    MacForm::Hex => {
                        encode::long(tag.as_ref().len() as i64 * 2, out);
                        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                        out.extend(tag.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
                    }
                }
            }
            Masking::KeepLast(count) => {
                let text = std::str::from_utf8(text).map_err(|_| Reason::InvalidText)?;
                let characters = text.chars().count();
                // A text that would show wholly is hidden wholly.
                let hidden = if characters > *count { characters - count } else { characters };
                let shown = text.char_indices().nth(hidden).map_or(0, |(at, _)| text.len() - at);
                // In place, so that the text is never copied.
                let end = out.len();
                let kept = end - shown..end;
                let (length, length_len) = encode::long_bytes((hidden + shown) as i64);
                let head = start + length_len + hidden;
                out.resize(end.max(head + shown), 0);
                out.copy_within(kept, head);
                let stars = length.into_iter().take(length_len).chain(std::iter::repeat_n(b'*', hidden));
                out.iter_mut().skip(start).zip(stars).for_each(|(to, from)| *to = from);
                out.truncate(head + shown);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::MaskKey;

    fn masked(mask: &Mask, target: &BaseType, text: &str) -> Vec<u8> {
        let mut out = vec![0xEE];
        encode::bytes(text.as_bytes(), &mut out);
        Masking::of(mask, target).unwrap().replace(1, &mut out).unwrap();
        assert_eq!(out[0], 0xEE);
        out.split_off(1)
    }

    #[test]
    fn all_but_the_last_characters_are_stars() {
        let long = "x".repeat(100);
        for (text, count, shown) in [
            ("4111111111111111", 4, "************1111".to_owned()),
            ("ab", 4, "**".to_owned()),
            ("abcd", 4, "****".to_owned()),
            ("", 4, String::new()),
            ("größe🙂", 2, "****e🙂".to_owned()),
            ("🙂🙂🙂", 1, "**🙂".to_owned()),
            ("abc", 0, "***".to_owned()),
            (&long, 1, format!("{}x", "*".repeat(99))),
        ] {
            let mut expected = Vec::new();
            encode::bytes(shown.as_bytes(), &mut expected);
            assert_eq!(masked(&Mask::KeepLast(count), &BaseType::String, text), expected, "{text}");
        }
    }

    #[test]
    fn a_mac_is_that_of_rfc_4231() {
        let mut key = MaskKey::named("k");
        key.set_secret(b"Jefe");
        let mask = Mask::HmacSha256 { key };
        let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let text = "what do ya want for nothing?";
        assert_eq!(masked(&mask, &BaseType::String, text), [b"\x80\x01", hex.as_bytes()].concat());
        assert_eq!(masked(&mask, &BaseType::Bytes, text).len(), 33);
        assert_eq!(masked(&mask, &BaseType::Fixed { name: "f".into(), size: 32 }, text)[..2], [0x5b, 0xdc]);
        assert!(Masking::of(&Mask::HmacSha256 { key: MaskKey::named("k") }, &BaseType::String).is_none());
    }
}
