//! `encode:` text that stands for bytes, and bytes that stand as text.

use super::encode;
use super::reason::Reason;
use super::text;

const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends a bytea's bytes as a string of hexadecimal digits.
pub fn hex_string(bytea: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let digits = text::bytea_digits(bytea)?;
    if !digits.iter().all(|digit| HEX.contains(digit)) {
        return Err(Reason::NotCanonical);
    }
    encode::bytes(digits, out);
    Ok(())
}

/// Appends a bytea's bytes as a base64 string: padded, without line breaks.
pub fn base64_string(bytea: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let digits = text::bytea_digits(bytea)?;
    encode::long((digits.len() / 2).div_ceil(3) as i64 * 4, out);
    for six_digits in digits.chunks(6) {
        let start = out.len();
        text::hex(six_digits, out)?;
        let mut bits = 0u32;
        for i in 0..3 {
            bits = bits << 8 | u32::from(out.get(start + i).copied().unwrap_or(0));
        }
        out.truncate(start);
        for i in 0..4 {
            let used = i <= six_digits.len() / 2;
            let symbol = BASE64.get((bits >> (18 - 6 * i)) as usize & 63);
            out.push(if used { symbol.copied().unwrap_or(b'=') } else { b'=' });
        }
    }
    Ok(())
}

/// Appends a bytea's bytes as a string; they must be UTF-8.
pub fn utf8_string(bytea: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let digits = text::bytea_digits(bytea)?;
    encode::long((digits.len() / 2) as i64, out);
    let start = out.len();
    text::hex(digits, out)?;
    match out.get(start..).map(std::str::from_utf8) {
        Some(Ok(_)) => Ok(()),
        _ => Err(Reason::InvalidText),
    }
}

/// Appends bytes, or fixed bytes where `size` says how many: `count` of them come from `append`.
pub fn sized(
    size: Option<usize>,
    count: usize,
    out: &mut Vec<u8>,
    append: impl FnOnce(&mut Vec<u8>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    match size {
        Some(size) if size != count => {
            // What is no such text at all is told apart from a text of another length.
            append(out)?;
            return Err(Reason::Length);
        }
        Some(_) => {}
        None => encode::long(count as i64, out),
    }
    append(out)
}

/// How many bytes a base64 text stands for.
pub fn base64_len(text: &[u8]) -> Result<usize, Reason> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    match text.len().is_multiple_of(4) && padding <= 2 {
        true => Ok((text.len() / 4 * 3).saturating_sub(padding)),
        false => Err(Reason::NotCanonical),
    }
}

/// Appends the bytes of a base64 text: exactly what [`base64_string`] prints.
pub fn base64(text: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let blocks = text.len() / 4;
    for (block, at) in text.chunks(4).zip(1..) {
        let padding = if at == blocks { block.iter().rev().take_while(|byte| **byte == b'=').count() } else { 0 };
        let mut bits = 0u32;
        for (byte, i) in block.iter().zip(0..) {
            bits = bits << 6 | if i >= 4 - padding { 0 } else { six_bits(*byte).ok_or(Reason::NotCanonical)? };
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        let (kept, cut) = bytes.split_at_checked(3 - padding.min(2)).ok_or(Reason::NotCanonical)?;
        if cut.iter().any(|byte| *byte != 0) || padding > 2 {
            return Err(Reason::NotCanonical);
        }
        out.extend_from_slice(kept);
    }
    Ok(())
}

fn six_bits(symbol: u8) -> Option<u32> {
    Some(u32::from(match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(text: &[u8]) -> Result<Vec<u8>, Reason> {
        let mut out = Vec::new();
        let len = base64_len(text)?;
        base64(text, &mut out)?;
        assert_eq!(out.len(), len);
        Ok(out)
    }

    #[test]
    fn base64_is_strict() {
        assert_eq!(decoded(b""), Ok(vec![]));
        assert_eq!(decoded(b"AP8="), Ok(vec![0, 255]));
        assert_eq!(decoded(b"AA=="), Ok(vec![0]));
        for text in ["AP8", "AP9=", "AB==", "A===", "====", "A A=", "AP8=AP8=", "AP-=", "=AP8", "AP8=\n"] {
            assert_eq!(decoded(text.as_bytes()), Err(Reason::NotCanonical), "{text}");
        }
    }

    proptest! {
        #[test]
        fn bytes_read_back_from_base64_and_from_hex(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytea = format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            let mut out = Vec::new();
            base64_string(bytea.as_bytes(), &mut out).unwrap();
            prop_assert_eq!(decoded(&out[1..]), Ok(bytes));
            out.clear();
            hex_string(bytea.as_bytes(), &mut out).unwrap();
            let prefix = if bytea.len() - 2 < 64 { 1 } else { 2 };
            prop_assert_eq!(&out[prefix..], &bytea.as_bytes()[2..]);
        }

        #[test]
        fn a_text_that_decodes_is_the_one_that_its_bytes_print(text in "[A-Za-z0-9+/=]{0,3}|([A-D]{4}){0,2}[A-Z]{1,3}={0,3}") {
            if let Ok(bytes) = decoded(text.as_bytes()) {
                let bytea = format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
                let mut out = Vec::new();
                base64_string(bytea.as_bytes(), &mut out).unwrap();
                prop_assert_eq!(&out[1..], text.as_bytes());
            }
        }
    }
}
