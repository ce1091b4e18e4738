//! Values whose text is copied, looked up or taken apart byte by byte: strings, uuid, bytea, money, labels.

use super::encode;
use super::integer;
use super::reason::Reason;

/// Appends a string: the text, which must be UTF-8.
#[inline]
pub fn string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    if !is_ascii(text) && std::str::from_utf8(text).is_err() {
        return Err(Reason::InvalidText);
    }
    encode::bytes(text, out);
    Ok(())
}

/// Most texts are short and ASCII: this costs a fraction of the whole check for them.
#[inline]
fn is_ascii(text: &[u8]) -> bool {
    let mut rest = text;
    let mut bits = 0;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        bits |= u64::from_le_bytes(*eight);
        rest = after;
    }
    let last = rest.iter().fold(0, |bits, byte| bits | byte);
    (bits & 0x8080_8080_8080_8080) | u64::from(last & 0x80) == 0
}

/// The text of a char(n) without its padding.
#[inline]
pub fn unpadded(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// A float's text for the standard library, which rounds correctly and knows `NaN` and `Infinity`.
#[inline]
pub fn float<T: std::str::FromStr>(text: &[u8]) -> Result<T, Reason> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Reason::NotCanonical)
}

/// Digits of a uuid's text.
const UUID_TEXT_LEN: usize = 36;

/// Appends a uuid as a string: lower-case, 8-4-4-4-12.
pub fn uuid_string(text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let text: &[u8; UUID_TEXT_LEN] = text.try_into().map_err(|_| Reason::NotCanonical)?;
    let fits = text.iter().enumerate().all(|(i, byte)| match i {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => hex_digit(*byte) < 16,
    });
    if !fits {
        return Err(Reason::NotCanonical);
    }
    encode::bytes(text, out);
    Ok(())
}

/// Appends a uuid as its 16 bytes.
pub fn uuid_fixed(text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let text: &[u8; UUID_TEXT_LEN] = text.try_into().map_err(|_| Reason::NotCanonical)?;
    let mut rest = &text[..];
    for group in [8, 4, 4, 4, 12] {
        let (digits, after) = rest.split_at_checked(group).ok_or(Reason::NotCanonical)?;
        hex(digits, out)?;
        rest = match after {
            [] => after,
            [b'-', after @ ..] => after,
            _ => return Err(Reason::NotCanonical),
        };
    }
    Ok(())
}

/// The digits of a bytea under `bytea_output=hex`.
pub fn bytea_digits(text: &[u8]) -> Result<&[u8], Reason> {
    match text {
        [b'\\', b'x', digits @ ..] if digits.len().is_multiple_of(2) => Ok(digits),
        _ => Err(Reason::NotCanonical),
    }
}

/// Appends the bytes of an even number of lower-case hexadecimal digits.
pub fn hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    let mut wrong = 0;
    out.extend(digits.chunks_exact(2).map(|pair| match pair {
        [high, low] => {
            let (high, low) = (hex_digit(*high), hex_digit(*low));
            wrong |= high | low;
            high << 4 | low & 15
        }
        _ => 0,
    }));
    if wrong & 0xF0 == 0 {
        return Ok(());
    }
    out.truncate(start);
    Err(Reason::NotCanonical)
}

/// The digit's value, or 255.
#[inline]
fn hex_digit(byte: u8) -> u8 {
    const VALUES: [u8; 256] = {
        let mut values = [255; 256];
        let mut digit = 0;
        while digit < 16 {
            values[b"0123456789abcdef"[digit] as usize] = digit as u8;
            digit += 1;
        }
        values
    };
    VALUES[byte as usize]
}

/// Hundredths of a money value.
///
/// What money's text means depends on `lc_monetary`: of the digits, where the unit lies. So only a text that shows it
/// is taken: whole digits in groups of three by commas (or no commas), a point, exactly two digits; before them at most
/// a minus and a currency symbol. Under a `lc_monetary` with another number of fraction digits or other separators
/// (`￥1,250`, `1.250,00 €`) each value is refused, never read a hundred times too small.
pub fn money(text: &[u8]) -> Result<i64, Reason> {
    let text = std::str::from_utf8(text).map_err(|_| Reason::InvalidText)?;
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let amount = rest.trim_start_matches(|c: char| !c.is_ascii_digit() && !"-.,+()".contains(c));
    let (whole, [f1, f2]) = match amount.as_bytes() {
        [whole @ .., b'.', f1, f2] => (whole, [*f1, *f2]),
        _ => return Err(Reason::NotCanonical),
    };
    let grouped = whole.contains(&b',');
    let mut digits = 0usize;
    let mut value = 0i64;
    for group in whole.split(|byte| *byte == b',') {
        let full = if digits == 0 { (1..=3).contains(&group.len()) } else { group.len() == 3 };
        if group.is_empty() || (grouped && !full) || digits + group.len() > 17 {
            return Err(Reason::NotCanonical);
        }
        let factor = 10i64.checked_pow(group.len() as u32).ok_or(Reason::OutOfRange)?;
        let group_value = integer::unsigned(group).ok_or(Reason::NotCanonical)?;
        value = value * factor + group_value as i64;
        digits += group.len();
    }
    let cents = integer::unsigned(&[f1, f2]).ok_or(Reason::NotCanonical)?;
    let leading_zero = digits > 1 && whole.first() == Some(&b'0');
    if leading_zero || (negative && value == 0 && cents == 0) {
        return Err(Reason::NotCanonical);
    }
    let signed = if negative {
        -i128::from(value) * 100 - i128::from(cents)
    } else {
        i128::from(value) * 100 + i128::from(cents)
    };
    i64::try_from(signed).map_err(|_| Reason::OutOfRange)
}

/// Appends hundredths as a string: `-12.50`.
pub fn money_string(cents: i64, out: &mut Vec<u8>) {
    let mut text = [b'0'; 24];
    let mut start = text.len();
    let mut rest = cents.unsigned_abs();
    let mut put = |byte: u8, start: &mut usize| {
        *start -= 1;
        if let Some(slot) = text.get_mut(*start) {
            *slot = byte;
        }
    };
    for place in 0.. {
        if place == 2 {
            put(b'.', &mut start);
        }
        put(b'0' + (rest % 10) as u8, &mut start);
        rest /= 10;
        if rest == 0 && place >= 2 {
            break;
        }
    }
    if cents < 0 {
        put(b'-', &mut start);
    }
    encode::bytes(text.get(start..).unwrap_or_default(), out);
}

/// Which symbol each label stands for.
#[derive(Debug)]
pub struct Labels {
    /// Sorted by label, without duplicates.
    entries: Box<[(Box<[u8]>, i64)]>,
    /// For all other labels.
    otherwise: Option<i64>,
}

impl Labels {
    /// From labels and the indexes of their symbols; of equal labels the first counts.
    pub fn new(entries: impl IntoIterator<Item = (Vec<u8>, usize)>, otherwise: Option<usize>) -> Labels {
        let mut entries: Vec<(Box<[u8]>, i64)> =
            entries.into_iter().map(|(label, index)| (label.into_boxed_slice(), index as i64)).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries.dedup_by(|later, first| later.0 == first.0);
        Labels { entries: entries.into_boxed_slice(), otherwise: otherwise.map(|index| index as i64) }
    }

    /// Appends the index of the label's symbol.
    #[inline]
    pub fn encode(&self, label: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        let found = self.entries.binary_search_by(|(entry, _)| entry.as_ref().cmp(label)).ok();
        let index = found.and_then(|at| self.entries.get(at)).map(|(_, index)| *index).or(self.otherwise);
        encode::long(index.ok_or(Reason::Unmapped)?, out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn money_is_read_only_where_the_text_shows_its_unit() {
        for (text, cents) in [
            ("$0.00", 0),
            ("$1,234.56", 123_456),
            ("-$12.50", -1_250),
            ("£0.07", 7),
            ("12.50", 1_250),
            ("€1234567.00", 123_456_700),
            ("-$92,233,720,368,547,758.08", i64::MIN),
            ("$92,233,720,368,547,758.07", i64::MAX),
        ] {
            assert_eq!(money(text.as_bytes()), Ok(cents), "{text}");
        }
        for text in [
            "￥1,250",
            "1.250,00 €",
            "$1,25.00",
            "$1,2345.00",
            "$12,34,567.00",
            "1,234.567",
            "$.50",
            "$",
            "",
            "-$0.00",
            "$1.5",
            "($12.50)",
            "$-12.50",
            "$1,,234.00",
            "$1.234.56",
            "$0,123.00",
            "$01.00",
            "12.50 $",
            "+1.00",
        ] {
            assert_eq!(money(text.as_bytes()), Err(Reason::NotCanonical), "{text}");
        }
        assert_eq!(money(b"$92,233,720,368,547,758.08"), Err(Reason::OutOfRange));
        assert_eq!(money(b"\xFF1.00"), Err(Reason::InvalidText));
    }

    #[test]
    fn a_uuid_is_lower_case_with_four_hyphens() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let mut out = Vec::new();
        uuid_fixed(text.as_bytes(), &mut out).unwrap();
        assert_eq!(out, (0u8..16).map(|n| n * 0x11).collect::<Vec<_>>());
        out.clear();
        uuid_string(text.as_bytes(), &mut out).unwrap();
        assert_eq!(out, [b"\x48", text.as_bytes()].concat());
        for text in [
            "00112233-4455-6677-8899-AABBCCDDEEFF",
            "00112233445566778899aabbccddeeff",
            "{00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeefg",
            "00112233-4455-6677-88990aabbccddeeff",
            "00112233-4455-6677-8899-aabbccddeeff0",
            "001122334-455-6677-8899-aabbccddeeff",
        ] {
            assert_eq!(uuid_fixed(text.as_bytes(), &mut Vec::new()), Err(Reason::NotCanonical), "{text}");
            assert_eq!(uuid_string(text.as_bytes(), &mut Vec::new()), Err(Reason::NotCanonical), "{text}");
        }
    }

    #[test]
    fn bytea_is_hexadecimal_only() {
        let decode = |text: &str| {
            let mut out = Vec::new();
            bytea_digits(text.as_bytes()).and_then(|digits| hex(digits, &mut out)).map(|()| out)
        };
        assert_eq!(decode("\\x"), Ok(vec![]));
        assert_eq!(decode("\\x00ff7f"), Ok(vec![0, 255, 127]));
        for text in ["", "\\x0", "\\xFF", "\\xzz", "abc", "\\000", "x00"] {
            assert_eq!(decode(text), Err(Reason::NotCanonical), "{text}");
        }
    }

    #[test]
    fn padding_is_blanks_at_the_end_only() {
        assert_eq!(unpadded(b" a b  "), b" a b");
        assert_eq!(unpadded(b"   "), b"");
        assert_eq!(unpadded(b"a\t "), b"a\t");
    }

    proptest! {
        #[test]
        fn money_strings_are_plain_decimals(cents: i64, shift in 0u32..64) {
            let cents = cents >> shift;
            let mut out = Vec::new();
            money_string(cents, &mut out);
            let sign = if cents < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:02}", cents.unsigned_abs() / 100, cents.unsigned_abs() % 100);
            prop_assert_eq!(&out[1..], text.as_bytes());
            prop_assert_eq!(money(text.as_bytes()), Ok(cents));
        }
    }
}
