//! Time zones by name, with PostgreSQL's reading of `AT TIME ZONE`.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};

/// A time zone of the tz database that is compiled into the program.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

/// Zone rules repeat with the Gregorian calendar, every 400 years.
const CYCLE_YEARS: i32 = 400;

/// Seconds of 400 Gregorian years.
const CYCLE_SECONDS: i64 = 146_097 * 86_400;

/// The first year of the cycle that stands for all later ones; inside jiff's range, after the last listed transition.
const CYCLE_START: i32 = 9_400;

/// [`CYCLE_START`]-01-01 00:00 UTC in seconds since 1970.
const CYCLE_START_SECONDS: i64 = 234_468_172_800;

impl Zone {
    /// The zone of this name.
    ///
    /// Errors: unknown names, and names without a region other than `UTC`: PostgreSQL reads `CET` or `EST` as an
    /// abbreviation with a fixed offset first, the tz database as a zone.
    pub fn named(name: &str) -> Result<Zone, String> {
        if !name.contains('/') && !name.eq_ignore_ascii_case("utc") {
            return Err(format!("`{name}` is not a time zone name with a region"));
        }
        match TimeZoneDatabase::bundled().get(name) {
            Ok(zone) => Ok(Zone(zone)),
            Err(_) => Err(format!("the tz database has no time zone `{name}`")),
        }
    }

    /// The zone's offset from UTC in seconds for a wall clock time, as PostgreSQL takes it: the offset before a gap,
    /// and the offset after a fold (the later instant of an ambiguous time).
    ///
    /// `None` for a date that does not exist or lies before the year -9999.
    pub fn offset_of_local(&self, year: i32, month: u8, day: u8, second_of_day: u32) -> Option<i32> {
        let year = if year < CYCLE_START { year } else { CYCLE_START + (year - CYCLE_START) % CYCLE_YEARS };
        let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
        let (minutes, second) = (second_of_day / 60, second_of_day % 60);
        let part = |n: u32| i8::try_from(n).ok();
        let time = Time::new(part(minutes / 60)?, part(minutes % 60)?, part(second)?, 0).ok()?;
        let local = DateTime::from_parts(date, time);
        let offset = match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } => before,
            AmbiguousOffset::Fold { after, .. } => after,
        };
        Some(offset.seconds())
    }

    /// The zone's offset from UTC in seconds at an instant, seconds since 1970. `None` before the year -9999.
    pub fn offset_at(&self, seconds: i64) -> Option<i32> {
        let seconds = match seconds.checked_sub(CYCLE_START_SECONDS) {
            Some(after) if after >= 0 => CYCLE_START_SECONDS + after % CYCLE_SECONDS,
            _ => seconds,
        };
        Some(self.0.to_offset(Timestamp::from_second(seconds).ok()?).seconds())
    }
}
