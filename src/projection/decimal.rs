//! `numeric` text to whole numbers, and to the two's complement bytes of Avro's decimal.

use super::encode;
use super::integer;
use super::reason::Reason;

/// A finite numeric's text, taken apart: `-`, digits, `.`, digits.
struct Parts<'a> {
    negative: bool,
    /// At least one digit; a zero only alone.
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Only what PostgreSQL prints: no exponent, no `+`, no leading zero but one, a digit on both sides of the point.
    fn parse(text: &'a [u8]) -> Result<Parts<'a>, Reason> {
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
            None => (digits, &[][..]),
            Some(point) => match digits.split_at_checked(point) {
                Some((whole, [_, fraction @ ..])) if !fraction.is_empty() => (whole, fraction),
                _ => return Err(Reason::NotCanonical),
            },
        };
        match (text, whole) {
            (b"NaN", _) => Err(Reason::Nan),
            (b"Infinity" | b"-Infinity", _) => Err(Reason::Infinity),
            (_, [] | [b'0', _, ..]) => Err(Reason::NotCanonical),
            _ => Ok(Parts { negative, whole, fraction }),
        }
    }

    /// The whole part without a lone zero.
    fn significant(&self) -> &'a [u8] {
        if self.whole == b"0" { &[] } else { self.whole }
    }
}

/// The fraction cut to `scale` digits; what is cut must be zeros.
fn cut(fraction: &[u8], scale: usize) -> Result<&[u8], Reason> {
    match fraction.split_at_checked(scale) {
        None => Ok(fraction),
        Some((kept, [])) => Ok(kept),
        Some((kept, rest)) if rest.iter().all(|digit| *digit == b'0') => Ok(kept),
        Some(_) if fraction.iter().all(u8::is_ascii_digit) => Err(Reason::Inexact),
        Some(_) => Err(Reason::NotCanonical),
    }
}

/// An integral numeric: `12`, `12.00`. Errors: a fraction, NaN, infinity, beyond 64 bits.
pub fn integral(text: &[u8]) -> Result<i64, Reason> {
    let parts = Parts::parse(text)?;
    cut(parts.fraction, 0)?;
    if parts.whole == b"0" {
        return if parts.negative { Err(Reason::NotCanonical) } else { Ok(0) };
    }
    let whole = text.get(..text.len() - parts.fraction.len() - usize::from(!parts.fraction.is_empty()));
    integer::parse(whole.unwrap_or_default())
}

/// Appends a decimal (length, then big-endian two's complement of minimal length) of this precision and scale.
#[inline]
pub fn encode(text: &[u8], precision: u32, scale: u32, out: &mut Vec<u8>) -> Result<(), Reason> {
    match short(text, precision, scale) {
        Some(value) => unscaled(value, out),
        None => encode_any(text, precision, scale, out)?,
    }
    Ok(())
}

/// The unscaled value in one pass, for what nearly every number is: short, canonical and within the type.
#[inline]
fn short(text: &[u8], precision: u32, scale: u32) -> Option<i64> {
    let (negative, number) = match text {
        [b'-', number @ ..] => (true, number),
        number => (false, number),
    };
    if number.len() > SHORT_DIGITS_MAX || matches!(number, [] | [b'0', b'0'..=b'9', ..]) {
        return None;
    }
    let mut value = 0u64;
    let mut fraction = None;
    for (byte, left) in number.iter().zip((0..number.len()).rev()) {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + u64::from(digit);
        } else if *byte == b'.' && fraction.is_none() && left > 0 && left + 1 < number.len() {
            fraction = Some(left);
        } else {
            return None;
        }
    }
    let zeros = (scale as usize).checked_sub(fraction.unwrap_or(0))?;
    if number.len() + zeros > SHORT_DIGITS_MAX {
        return None;
    }
    let value = (value * power_of_ten(zeros) as u64) as i64;
    let fits = precision as usize >= SHORT_DIGITS_MAX || value < power_of_ten(precision as usize) as i64;
    let negative_zero = negative && value == 0;
    (fits && !negative_zero).then_some(if negative { -value } else { value })
}

/// Digits that always fit u64 and i64, whatever they are.
const SHORT_DIGITS_MAX: usize = 18;

/// As [`encode`], for all texts, with the reason if it does not fit.
fn encode_any(text: &[u8], precision: u32, scale: u32, out: &mut Vec<u8>) -> Result<(), Reason> {
    let parts = Parts::parse(text)?;
    let fraction = cut(parts.fraction, scale as usize)?;
    let whole = parts.significant();
    let zeros = scale as usize - fraction.len();
    let digits = match whole.len() {
        0 => fraction.len() - fraction.iter().take_while(|digit| **digit == b'0').count() + zeros,
        n => n + scale as usize,
    };
    if digits > precision as usize {
        // Zero has no digits that count.
        let is_zero = whole.is_empty() && fraction.iter().all(|digit| *digit == b'0');
        if !is_zero {
            let all_digits = whole.iter().chain(fraction).all(u8::is_ascii_digit);
            return Err(if all_digits { Reason::OutOfRange } else { Reason::NotCanonical });
        }
    }
    match narrow(whole, fraction, zeros)? {
        Some(0) if parts.negative => Err(Reason::NotCanonical),
        Some(magnitude) => {
            unscaled_wide(if parts.negative { -magnitude } else { magnitude }, out);
            Ok(())
        }
        None => wide(&parts, fraction, zeros, digits, out),
    }
}

/// Digits that always fit i128.
const NARROW_DIGITS_MAX: usize = 38;

/// Up to 38 digits as one number; `None` for more.
fn narrow(whole: &[u8], fraction: &[u8], zeros: usize) -> Result<Option<i128>, Reason> {
    let digits = whole.len() + fraction.len() + zeros;
    if digits > NARROW_DIGITS_MAX {
        return Ok(None);
    }
    let mut value = 0i128;
    for chunk in whole.chunks(SHORT_DIGITS_MAX).chain(fraction.chunks(SHORT_DIGITS_MAX)) {
        let chunk_value = integer::unsigned(chunk).ok_or(Reason::NotCanonical)?;
        value = value * power_of_ten(chunk.len()) + i128::from(chunk_value);
    }
    Ok(Some(value * power_of_ten(zeros)))
}

/// 10^n for n up to 38; the caller has counted the digits.
#[inline]
fn power_of_ten(n: usize) -> i128 {
    const POWERS: [i128; NARROW_DIGITS_MAX + 1] = {
        let mut powers = [1; NARROW_DIGITS_MAX + 1];
        let mut n = 1;
        while n <= NARROW_DIGITS_MAX {
            powers[n] = powers[n - 1] * 10;
            n += 1;
        }
        powers
    };
    POWERS.get(n).copied().unwrap_or(0)
}

/// Appends an unscaled value: length, then the fewest bytes that keep the sign.
#[inline]
pub fn unscaled(value: i64, out: &mut Vec<u8>) {
    // The sign bit and the bits after those that only repeat it, in whole bytes.
    let bits = 65 - (value ^ (value >> 63)).leading_zeros();
    let len = bits.div_ceil(8);
    out.push((len << 1) as u8);
    out.extend_from_slice(&(value << (64 - 8 * len)).to_be_bytes());
    out.truncate(out.len() - (8 - len as usize));
}

/// As [`unscaled`].
fn unscaled_wide(value: i128, out: &mut Vec<u8>) {
    let bits = 129 - (value ^ (value >> 127)).leading_zeros();
    let len = bits.div_ceil(8);
    out.push((len << 1) as u8);
    out.extend_from_slice(&(value << (128 - 8 * len)).to_be_bytes());
    out.truncate(out.len() - (16 - len as usize));
}

/// Any number of digits, worked out in place at the end of `out`.
fn wide(parts: &Parts<'_>, fraction: &[u8], zeros: usize, digits: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    // log2(10) / 8 < 0.416 bytes a digit, and room for the sign.
    let size = digits * 416 / 1000 + 2;
    let body = start + encode::LONG_BYTES_MAX;
    out.resize(body + size, 0);
    let Some(magnitude) = out.get_mut(body..) else { return Err(Reason::OutOfRange) };
    let whole = parts.significant();
    // Sixteen digits: a byte times 10^16 and a carry fit u64.
    for part in [whole, fraction] {
        for chunk in part.chunks(16) {
            let value = integer::unsigned(chunk).ok_or(Reason::NotCanonical)?;
            multiply_add(magnitude, power_of_ten(chunk.len()) as u64, value);
        }
    }
    let mut zeros = zeros;
    while zeros > 0 {
        let step = zeros.min(16);
        multiply_add(magnitude, power_of_ten(step) as u64, 0);
        zeros -= step;
    }
    if parts.negative {
        if magnitude.iter().all(|byte| *byte == 0) {
            return Err(Reason::NotCanonical);
        }
        negate(magnitude);
    }
    let redundant = redundant_bytes(magnitude);
    // The length takes fewer bytes than were kept for it: close the gap.
    let (head, head_len) = encode::long_bytes((size - redundant) as i64);
    out.copy_within(body + redundant.., start + head_len);
    out.truncate(start + head_len + size - redundant);
    out.iter_mut().skip(start).zip(&head).take(head_len).for_each(|(to, from)| *to = *from);
    Ok(())
}

/// `number = number * factor + add`, big endian. It has room for the result.
fn multiply_add(number: &mut [u8], factor: u64, add: u64) {
    let mut carry = add;
    for byte in number.iter_mut().rev() {
        let value = u64::from(*byte) * factor + carry;
        *byte = value as u8;
        carry = value >> 8;
    }
}

/// Two's complement, big endian.
fn negate(number: &mut [u8]) {
    let mut carry = true;
    for byte in number.iter_mut().rev() {
        (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
    }
}

/// Leading bytes that only repeat the sign.
fn redundant_bytes(number: &[u8]) -> usize {
    let repeats =
        |pair: &&[u8]| matches!(pair, [0, next] if *next < 0x80) || matches!(pair, [0xFF, next] if *next >= 0x80);
    number.windows(2).take_while(repeats).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    /// The unscaled number in `encoded`, which must be minimal.
    fn decode(encoded: &[u8]) -> BigInt {
        let (len, shift) = match encoded {
            [low, ..] if *low < 0x80 => (usize::from(*low) >> 1, 1),
            [low, high, ..] => ((usize::from(*low & 0x7F) | usize::from(*high) << 7) >> 1, 2),
            _ => panic!("no length"),
        };
        let body = &encoded[shift..];
        assert_eq!(body.len(), len);
        let number = BigInt::from_signed_bytes_be(body);
        assert_eq!(number.to_signed_bytes_be(), body, "minimal length");
        number
    }

    fn encoded(text: &str, precision: u32, scale: u32) -> Result<BigInt, Reason> {
        let mut out = vec![7];
        encode(text.as_bytes(), precision, scale, &mut out).map(|()| decode(&out[1..]))
    }

    #[test]
    fn edges() {
        let number = |n: i64| Ok(BigInt::from(n));
        for (text, value) in [("0", 0), ("0.00", 0), ("1.27", 127), ("1.28", 128), ("-1.28", -128), ("-1.29", -129)] {
            assert_eq!(encoded(text, 10, 2), number(value), "{text}");
        }
        assert_eq!(encoded("5", 10, 2), number(500));
        assert_eq!(encoded("0.5000", 10, 2), number(50));
        assert_eq!(encoded("99999999.99", 10, 2), number(9_999_999_999));
        assert_eq!(encoded("100000000.00", 10, 2), Err(Reason::OutOfRange));
        assert_eq!(encoded("0.00", 1, 1), number(0));
        assert_eq!(encoded("0.9", 1, 1), number(9));
        assert_eq!(encoded("1.0", 1, 1), Err(Reason::OutOfRange));
        assert_eq!(encoded("0.001", 10, 2), Err(Reason::Inexact));
        assert_eq!(encoded("NaN", 10, 2), Err(Reason::Nan));
        assert_eq!(encoded("Infinity", 10, 2), Err(Reason::Infinity));
        assert_eq!(encoded("-Infinity", 10, 2), Err(Reason::Infinity));
        for text in ["", "-", ".5", "5.", "05", "-0", "-0.00", "+1", "1e3", "1.2.3", "1,2", " 1", "0x1", "nan", "--1"] {
            assert_eq!(encoded(text, 60, 2), Err(Reason::NotCanonical), "{text}");
            assert_eq!(encoded(text, 10, 2), Err(Reason::NotCanonical), "{text}");
        }
    }

    #[test]
    fn integral_takes_zeros_after_the_point_only() {
        assert_eq!(integral(b"12.000"), Ok(12));
        assert_eq!(integral(b"-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(integral(b"0.0"), Ok(0));
        assert_eq!(integral(b"9223372036854775808"), Err(Reason::OutOfRange));
        assert_eq!(integral(b"0.5"), Err(Reason::Inexact));
        assert_eq!(integral(b"NaN"), Err(Reason::Nan));
        assert_eq!(integral(b"-0"), Err(Reason::NotCanonical));
    }

    proptest! {
        #[test]
        fn any_number_equals_the_big_integer(negative: bool, whole in "0|[1-9][0-9]{0,70}", fraction in "[0-9]{0,40}", more in 0u32..30) {
            let zero = whole == "0" && fraction.bytes().all(|b| b == b'0');
            let sign = if negative && !zero { "-" } else { "" };
            let text = if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
            let scale = fraction.len() as u32 + more;
            let model: BigInt = format!("{sign}{whole}{fraction}{}", "0".repeat(more as usize)).parse().unwrap();
            let digits = model.magnitude().to_string().len() as u32;
            prop_assert_eq!(encoded(&text, 200, scale), Ok(model.clone()));
            prop_assert_eq!(encoded(&text, digits.max(scale), scale), Ok(model));
            if !zero && digits > scale.max(1) {
                prop_assert_eq!(encoded(&text, digits - 1, scale), Err(Reason::OutOfRange));
            }
            let kept = fraction.trim_end_matches('0');
            prop_assert!(encoded(&text, 200, kept.len() as u32).is_ok());
            if !kept.is_empty() {
                prop_assert_eq!(encoded(&text, 200, kept.len() as u32 - 1), Err(Reason::Inexact));
            }
        }

        #[test]
        fn any_bytes_are_a_number_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60), precision in 1u32..80, scale in 0u32..40) {
            let _ = encode(&bytes, precision, scale.min(precision), &mut Vec::new());
            let _ = integral(&bytes);
        }
    }
}
