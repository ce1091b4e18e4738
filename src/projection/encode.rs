//! Avro's binary encoding, the parts that gimbal publishes.

/// Appends an int or long: zig-zag, seven bits a byte, least significant first.
#[inline]
pub fn long(value: i64, out: &mut Vec<u8>) {
    let zig_zag = ((value << 1) ^ (value >> 63)) as u64;
    if zig_zag < 0x80 {
        out.push(zig_zag as u8);
    } else if zig_zag < 1 << 56 {
        let (bytes, len) = eight_groups(zig_zag);
        // A copy of fixed length and a truncation cost less than a copy of unknown length.
        out.extend_from_slice(&bytes);
        out.truncate(out.len() - (bytes.len() - len));
    } else {
        let (bytes, len) = long_bytes(value);
        out.extend_from_slice(&bytes);
        out.truncate(out.len() - (bytes.len() - len));
    }
}

/// Up to 56 bits as groups of seven, all at once: halves, quarters and eighths move apart in one register.
#[inline]
fn eight_groups(bits: u64) -> ([u8; 8], usize) {
    let len = (70 - (bits | 1).leading_zeros() as usize) / 7;
    let bits = (bits & 0x0FFF_FFFF) | (bits & 0x00FF_FFFF_F000_0000) << 4;
    let bits = (bits & 0x0000_3FFF_0000_3FFF) | (bits & 0x0FFF_C000_0FFF_C000) << 2;
    let bits = (bits & 0x007F_007F_007F_007F) | (bits & 0x3F80_3F80_3F80_3F80) << 1;
    // All but the last byte say that more follow.
    let more = 0x8080_8080_8080_8080 & ((1u64 << (8 * (len - 1))) - 1);
    ((bits | more).to_le_bytes(), len)
}

/// An int or long, and how many of the bytes it takes.
pub fn long_bytes(value: i64) -> ([u8; LONG_BYTES_MAX], usize) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    let mut buffer = [0u8; LONG_BYTES_MAX];
    let mut len = 0;
    for byte in &mut buffer {
        len += 1;
        *byte = rest as u8 | 0x80;
        rest >>= 7;
        if rest == 0 {
            *byte &= 0x7F;
            break;
        }
    }
    (buffer, len)
}

/// Bytes of the longest long.
pub const LONG_BYTES_MAX: usize = 10;

/// Appends bytes or a string: length, then content.
#[inline]
pub fn bytes(content: &[u8], out: &mut Vec<u8>) {
    long(content.len() as i64, out);
    out.extend_from_slice(content);
}

/// Appends a float: IEEE 754, little endian.
#[inline]
pub fn float(value: f32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a double: IEEE 754, little endian.
#[inline]
pub fn double(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// The byte of a union branch, 0 or 1.
pub fn branch(index: u8) -> u8 {
    index << 1
}

/// Confluent's frame: a zero byte, then the schema id, big endian.
pub fn frame(schema_id: u32) -> [u8; 5] {
    let [a, b, c, d] = schema_id.to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = vec![0xEE];
        long(value, &mut out);
        out.split_off(1)
    }

    #[test]
    fn longs_are_those_of_the_specification() {
        for (value, bytes) in [(0, &[0u8][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7F]), (64, &[0x80, 0x01])] {
            assert_eq!(encoded(value), bytes, "{value}");
        }
        assert_eq!(encoded(i64::MIN), [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
        assert_eq!(encoded(i64::MAX), [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]);
    }

    proptest! {
        #[test]
        fn longs_read_back(value: i64, shift in 0u32..64) {
            let value = value >> shift;
            let bytes = encoded(value);
            let zig_zag = bytes.iter().rev().fold(0u64, |n, byte| n << 7 | u64::from(byte & 0x7F));
            prop_assert_eq!((zig_zag >> 1) as i64 ^ -((zig_zag & 1) as i64), value);
            let (last, rest) = bytes.split_last().unwrap();
            prop_assert!(last & 0x80 == 0 && rest.iter().all(|byte| byte & 0x80 != 0));
        }
    }
}
