//! Dates, times and timestamps from PostgreSQL's ISO text: strict, proleptic Gregorian, microseconds.

use super::integer;
use super::reason::Reason;

/// Microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

/// A date and a time of day, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Astronomical: 1 BC is 0.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31, checked against the month.
    pub day: u8,
    /// Microseconds since midnight, less than a day.
    pub micros: i64,
}

impl Moment {
    /// Days since 1970-01-01.
    #[inline]
    pub fn days(&self) -> i64 {
        days_from_civil(self.year, self.month, self.day)
    }

    /// Microseconds since 1970-01-01 00:00, if 64 bits hold them.
    #[inline]
    pub fn epoch_micros(&self) -> Result<i64, Reason> {
        let micros = self.days().checked_mul(DAY_MICROS).and_then(|micros| micros.checked_add(self.micros));
        micros.ok_or(Reason::OutOfRange)
    }
}

/// What may follow the time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffix {
    /// Nothing: `timestamp`.
    None,
    /// `+00`: `timestamptz` under `TimeZone=UTC`.
    Utc,
}

/// 4714-11-24 BC in days since 1970: Julian day 0, PostgreSQL's first day.
const DAYS_MIN: i64 = -2_440_588;

/// The year of that day, before Christ.
const FIRST_YEAR_BC: i32 = 4_714;

/// 5874897-12-31 in days since 1970, PostgreSQL's last date.
const DAYS_MAX: i64 = 2_145_042_905;

/// A date in days since 1970. Errors: infinity, anything that PostgreSQL does not print.
pub fn date(text: &[u8]) -> Result<i32, Reason> {
    let (date, rest) = civil_date(text)?;
    let moment = era(date, rest)?;
    let days = moment.days();
    if !(DAYS_MIN..=DAYS_MAX).contains(&days) {
        return Err(Reason::OutOfRange);
    }
    i32::try_from(days).map_err(|_| Reason::OutOfRange)
}

/// A time of day in microseconds. Errors: `24:00:00`, anything that PostgreSQL does not print.
#[inline]
pub fn time(text: &[u8]) -> Result<i64, Reason> {
    let (micros, rest) = time_of_day(text)?;
    if rest.is_empty() { Ok(micros) } else { Err(Reason::NotCanonical) }
}

/// A timestamp, as written. Errors: infinity, anything that PostgreSQL does not print.
#[inline]
pub fn timestamp(text: &[u8], suffix: Suffix) -> Result<Moment, Reason> {
    let (date, rest) = civil_date(text)?;
    let [b' ', rest @ ..] = rest else { return Err(Reason::NotCanonical) };
    let (micros, rest) = time_of_day(rest)?;
    let rest = match (suffix, rest) {
        (Suffix::None, rest) => rest,
        (Suffix::Utc, [b'+', b'0', b'0', rest @ ..]) => rest,
        (Suffix::Utc, _) => return Err(Reason::NotCanonical),
    };
    let moment = era(Moment { micros, ..date }, rest)?;
    // Only far from here can a moment lie before Julian day 0.
    if moment.year < -4_000 && moment.days() < DAYS_MIN { Err(Reason::OutOfRange) } else { Ok(moment) }
}

/// `YYYY-MM-DD` with four or more digits of year; the day is checked once the era is known.
#[inline]
fn civil_date(text: &[u8]) -> Result<(Moment, &[u8]), Reason> {
    let (year, month, rest) = match text.split_first_chunk::<8>() {
        Some((head, rest)) if head[4] == b'-' => {
            let pairs = digit_pairs(head, b"0000-00-").ok_or(Reason::NotCanonical)?;
            (i32::from(pairs[0]) * 100 + i32::from(pairs[2]), pairs[5], rest)
        }
        _ => far_year(text)?,
    };
    let [d1, d2, rest @ ..] = rest else { return Err(Reason::NotCanonical) };
    let day = two_digits(*d1, *d2)?;
    if year == 0 || month.wrapping_sub(1) > 11 || day == 0 {
        return Err(Reason::NotCanonical);
    }
    Ok((Moment { year, month, day, micros: 0 }, rest))
}

/// Year, month and what follows the hyphen after it, for years above 9999, and the infinities.
#[cold]
fn far_year(text: &[u8]) -> Result<(i32, u8, &[u8]), Reason> {
    // No year above 9999 is printed with a leading zero, none has more than seven digits.
    let (year, rest) = match text {
        b"infinity" | b"-infinity" => return Err(Reason::Infinity),
        [b'1'..=b'9', ..] => match memchr::memchr(b'-', text) {
            Some(len @ 5..=7) => text.split_at_checked(len).ok_or(Reason::NotCanonical)?,
            _ => return Err(Reason::NotCanonical),
        },
        _ => return Err(Reason::NotCanonical),
    };
    let [b'-', m1, m2, b'-', rest @ ..] = rest else { return Err(Reason::NotCanonical) };
    let year = integer::unsigned(year).ok_or(Reason::NotCanonical)?;
    Ok((year as i32, two_digits(*m1, *m2)?, rest))
}

/// Applies ` BC` or its absence, which must end the text, and checks the day against the month.
#[inline]
fn era(written: Moment, rest: &[u8]) -> Result<Moment, Reason> {
    let year = match rest {
        [] => written.year,
        b" BC" if written.year > FIRST_YEAR_BC => return Err(Reason::OutOfRange),
        b" BC" => 1 - written.year,
        _ => return Err(Reason::NotCanonical),
    };
    let last_day = match written.month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if written.day > last_day { Err(Reason::NotCanonical) } else { Ok(Moment { year, ..written }) }
}

/// `HH:MM:SS`, then up to six digits after a point, the last of them not zero.
#[inline]
fn time_of_day(text: &[u8]) -> Result<(i64, &[u8]), Reason> {
    let (head, rest) = text.split_first_chunk::<8>().ok_or(Reason::NotCanonical)?;
    let [hour, _, _, minute, _, _, second, _] = digit_pairs(head, b"00:00:00").ok_or(Reason::NotCanonical)?;
    if (hour, minute, second) == (24, 0, 0) && rest.is_empty() {
        return Err(Reason::OutOfRange);
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Reason::NotCanonical);
    }
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    let (fraction, rest) = match rest {
        [b'.', digits @ ..] => fraction(digits)?,
        rest => (0, rest),
    };
    Ok((seconds * 1_000_000 + fraction, rest))
}

fn fraction(text: &[u8]) -> Result<(i64, &[u8]), Reason> {
    const SCALES: [i64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(len).ok_or(Reason::NotCanonical)?;
    let scale = SCALES.get(len).ok_or(Reason::NotCanonical)?;
    match digits.last() {
        None | Some(b'0') => Err(Reason::NotCanonical),
        Some(_) => Ok((integer::unsigned(digits).ok_or(Reason::NotCanonical)? as i64 * scale, rest)),
    }
}

/// Eight bytes at once, which are digits where `form` has zeros and else are as in `form`. The byte of a pair's first
/// digit becomes the pair's value.
#[inline]
fn digit_pairs(text: &[u8; 8], form: &[u8; 8]) -> Option<[u8; 8]> {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let form = u64::from_le_bytes(*form);
    let digits = u64::from_le_bytes(*text) ^ form;
    // A byte above 9 gets its high bit from the sum, or has it.
    let above_nine = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & HIGH_BITS;
    // Of `0`, `-` and `:` only the zero has bit 4 and not bit 3; the others must match exactly.
    let zeros = form >> 4 & !(form >> 3) & 0x0101_0101_0101_0101;
    let between = digits & !(zeros * 0xFF);
    if above_nine | between != 0 {
        return None;
    }
    Some((digits * 10 + (digits >> 8)).to_le_bytes())
}

#[inline]
fn two_digits(tens: u8, ones: u8) -> Result<u8, Reason> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { Err(Reason::NotCanonical) } else { Ok(tens * 10 + ones) }
}

/// Days since 1970-01-01 of a Gregorian date after 8001 BC. Years begin in March, so that the leap day is the last of
/// its year, and are counted from a leap cycle before all of them, so that divisions are of unsigned numbers.
#[inline]
fn days_from_civil(year: i32, month: u8, day: u8) -> i64 {
    const CYCLES_BEFORE: u32 = 21;
    let month = u32::from(month);
    let year = year.wrapping_add(CYCLES_BEFORE as i32 * 400 - i32::from(month <= 2)) as u32;
    let (century, leaps) = (year / 100, year / 4);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + u32::from(day) - 1;
    let days = i64::from(year) * 365 + i64::from(leaps) - i64::from(century) + i64::from(century / 4);
    days + i64::from(day_of_year) - i64::from(CYCLES_BEFORE) * 146_097 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil;
    use proptest::prelude::*;

    fn at(text: &str) -> Result<i64, Reason> {
        timestamp(text.as_bytes(), Suffix::None)?.epoch_micros()
    }

    #[test]
    fn edges_of_dates() {
        for (text, days) in [
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("0001-01-01", -719_162),
            ("0001-12-31 BC", -719_163),
            ("4714-11-24 BC", -2_440_588),
            ("5874897-12-31", 2_145_042_905),
        ] {
            assert_eq!(date(text.as_bytes()), Ok(days), "{text}");
        }
        assert_eq!(date(b"infinity"), Err(Reason::Infinity));
        assert_eq!(date(b"-infinity"), Err(Reason::Infinity));
        for text in ["4714-11-23 BC", "4715-12-31 BC", "9999-01-01 BC", "999999-01-01 BC"] {
            assert_eq!(date(text.as_bytes()), Err(Reason::OutOfRange), "{text}");
        }
        assert_eq!(date(b"5874898-01-01"), Err(Reason::OutOfRange));
        for text in [
            "",
            "1970-1-1",
            "0000-01-01",
            "1970-00-01",
            "1970-13-01",
            "1970-01-00",
            "1970-01-32",
            "2023-02-29",
            "1900-02-29",
            "0100-02-29",
            "01970-01-01",
            "99999999-01-01",
            "1970-01-01 ",
            "1970-01-01 AD",
            "1970/01/01",
            "19a0-01-01",
            "1970-01-01BC",
            "-1970-01-01",
            "1970-01-01 00:00:00",
        ] {
            assert_eq!(date(text.as_bytes()), Err(Reason::NotCanonical), "{text}");
        }
        assert_eq!(date(b"0005-02-29 BC"), Ok(-720_930), "5 BC is the year -4, a leap year");
    }

    #[test]
    fn edges_of_times() {
        for (text, micros) in [("00:00:00", 0), ("23:59:59.999999", DAY_MICROS - 1), ("00:00:00.5", 500_000)] {
            assert_eq!(time(text.as_bytes()), Ok(micros), "{text}");
        }
        assert_eq!(time(b"24:00:00"), Err(Reason::OutOfRange));
        for text in ["", "1:00:00", "24:00:01", "00:60:00", "00:00:60", "00:00:00.", "00:00:00.50", "00:00:00.1234567"]
        {
            assert_eq!(time(text.as_bytes()), Err(Reason::NotCanonical), "{text}");
        }
    }

    #[test]
    fn edges_of_timestamps() {
        assert_eq!(at("1969-12-31 23:59:59.999999"), Ok(-1));
        assert_eq!(at("0044-03-15 12:00:00 BC"), Ok(-735_160 * DAY_MICROS + DAY_MICROS / 2));
        assert_eq!(at("4714-11-24 00:00:00 BC"), Ok(-2_440_588 * DAY_MICROS));
        assert_eq!(at("294247-01-10 04:00:54.775807"), Ok(i64::MAX));
        assert_eq!(at("294247-01-10 04:00:54.775808"), Err(Reason::OutOfRange));
        assert_eq!(at("294276-12-31 23:59:59.999999"), Err(Reason::OutOfRange));
        assert_eq!(at("4715-11-24 00:00:00 BC"), Err(Reason::OutOfRange));
        assert_eq!(at("infinity"), Err(Reason::Infinity));
        for text in ["1970-01-01", "1970-01-01T00:00:00", "1970-01-01 00:00:00+00", "2023-02-29 00:00:00"] {
            assert_eq!(at(text), Err(Reason::NotCanonical), "{text}");
        }
        let utc = |text: &str| timestamp(text.as_bytes(), Suffix::Utc).and_then(|moment| moment.epoch_micros());
        assert_eq!(utc("1970-01-01 00:00:01.25+00"), Ok(1_250_000));
        assert_eq!(utc("0001-12-31 00:00:00+00 BC"), Ok(-719_163 * DAY_MICROS));
        for text in ["1970-01-01 00:00:00", "1970-01-01 00:00:00+01", "1970-01-01 00:00:00+00:30"] {
            assert_eq!(utc(text), Err(Reason::NotCanonical), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_date_is_that_of_jiff(days in -3_000_000i32..2_900_000) {
            let epoch = civil::date(1970, 1, 1);
            let day = epoch.checked_add(jiff::Span::new().days(days)).unwrap();
            let (year, bc) = if day.year() > 0 { (day.year(), "") } else { (1 - day.year(), " BC") };
            let text = format!("{year:04}-{:02}-{:02}{bc}", day.month(), day.day());
            let expected = if days < DAYS_MIN as i32 { Err(Reason::OutOfRange) } else { Ok(days) };
            prop_assert_eq!(date(text.as_bytes()), expected);
        }

        #[test]
        fn a_text_that_parses_is_a_real_day(year in 1i16..9999, month in 0i8..15, day in 0i8..34) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            prop_assert_eq!(date(text.as_bytes()).is_ok(), civil::Date::new(year, month, day).is_ok());
        }

        #[test]
        fn every_time_reads_back(micros in 0..DAY_MICROS) {
            let (s, fraction) = (micros / 1_000_000, format!("{:06}", micros % 1_000_000));
            let text = format!("{:02}:{:02}:{:02}.{fraction}", s / 3600, s / 60 % 60, s % 60);
            let text = text.trim_end_matches('0').trim_end_matches('.');
            // Trimming may also have eaten zeros of the seconds.
            let text = if text.len() < 8 { format!("{text:0<8}") } else { text.to_owned() };
            prop_assert_eq!(time(text.as_bytes()), Ok(micros));
        }

        #[test]
        fn any_bytes_are_a_moment_or_an_error(text in "[-0-9: .+BCinfinity]{0,32}|\\PC{0,12}") {
            let _ = (date(text.as_bytes()), time(text.as_bytes()), at(&text));
        }
    }
}
