//! Whole numbers from PostgreSQL's text.

use super::reason::Reason;

/// The number that an int2, int4, int8 or oid prints: no sign but `-`, no leading zero.
#[inline]
pub fn parse(text: &[u8]) -> Result<i64, Reason> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if let [b'0', rest @ ..] = digits {
        return if rest.is_empty() && !negative { Ok(0) } else { Err(Reason::NotCanonical) };
    }
    if digits.is_empty() {
        return Err(Reason::NotCanonical);
    }
    if digits.len() > DIGITS_MAX {
        return Err(if digits.iter().all(u8::is_ascii_digit) { Reason::OutOfRange } else { Reason::NotCanonical });
    }
    let magnitude = unsigned(digits).ok_or(Reason::NotCanonical)?;
    let value = if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
    value.ok_or(Reason::OutOfRange)
}

/// Digits of the largest i64; any number of so many digits fits u64.
const DIGITS_MAX: usize = 19;

/// The value of up to 19 digits; leading zeros do not matter. `None` if one is no digit.
#[inline]
pub fn unsigned(digits: &[u8]) -> Option<u64> {
    let mut value = 0u64;
    let mut rest = digits;
    while let Some((eight, after)) = rest.split_first_chunk::<8>() {
        value = value.wrapping_mul(100_000_000).wrapping_add(eight_digits(eight)?);
        rest = after;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    Some(value)
}

/// Eight digits at once, in one register: pairs of digits, then pairs of pairs, then the two halves.
#[inline]
fn eight_digits(digits: &[u8; 8]) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH_NIBBLES: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    let word = u64::from_le_bytes(*digits);
    // A byte is a digit if its high nibble is 3 and adding 6 does not carry into it.
    if (word & HIGH_NIBBLES) != ZEROS || (word.wrapping_add(0x0606_0606_0606_0606) & HIGH_NIBBLES) != ZEROS {
        return None;
    }
    let word = word - ZEROS;
    let word = (word.wrapping_mul(10) + (word >> 8)) & 0x00FF_00FF_00FF_00FF;
    let word = (word.wrapping_mul(100) + (word >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((word.wrapping_mul(10_000) + (word >> 32)) & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges() {
        for value in [0, 1, -1, i64::from(i32::MIN), i64::MAX, i64::MIN, 99_999_999, 100_000_000, -12_345_678] {
            assert_eq!(parse(value.to_string().as_bytes()), Ok(value));
        }
        for text in ["9223372036854775808", "-9223372036854775809", "9999999999999999999", "123456789012345678901"] {
            assert_eq!(parse(text.as_bytes()), Err(Reason::OutOfRange), "{text}");
        }
        for text in
            ["", "-", "+1", "01", "-0", "00", " 1", "1 ", "1.0", "1e3", "0x1", "12345678a", "1234567:", "1234567/"]
        {
            assert_eq!(parse(text.as_bytes()), Err(Reason::NotCanonical), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_number_reads_back(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(parse(value.to_string().as_bytes()), Ok(value));
        }

        #[test]
        fn what_std_would_print_otherwise_is_refused(text in "[-+0-9 ]{0,22}|\\PC{0,9}") {
            if let Ok(value) = parse(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            }
        }

        #[test]
        fn eight_bytes_are_digits_or_not(bytes: [u8; 8]) {
            prop_assert_eq!(eight_digits(&bytes).is_some(), bytes.iter().all(u8::is_ascii_digit));
        }
    }
}
