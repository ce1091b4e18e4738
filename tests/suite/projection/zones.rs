//! `timezone:` against PostgreSQL's AT TIME ZONE, at every half hour around the transitions of several zones.

use gimbal::avro::{BaseType, FieldType};
use gimbal::contract::FeedOptions;
use gimbal::table::SourceType;

use super::Fed;
use crate::lab;

/// Europe; America; half an hour of daylight saving; none; a zone that jumped a day; a permanent change without one.
const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "Europe/Moscow"];

fn compare(zone: &str, source: SourceType, base: BaseType, column: &str, answer: &str, range: &str) -> usize {
    let options = FeedOptions { timezone: Some(zone.to_owned()), ..FeedOptions::default() };
    let fed = Fed { options, ..Fed::plain(source, FieldType { null_branch: None, base }) };
    let projection = super::projection(&[fed]);
    let sql = lab::postgres().sql();
    sql.run("set timezone = 'UTC'; set datestyle = 'ISO'");
    let rows = sql.rows(&format!("select {column}, ({answer})::text from {range} g(v)"));
    for row in &rows {
        let (text, expected) = (row[0].as_deref(), row[1].as_deref().unwrap());
        let framed = super::encode(&projection, [text]).unwrap_or_else(|error| panic!("{zone} {text:?}: {error:?}"));
        assert_eq!(long(&framed[5..]), expected.parse::<i64>().unwrap(), "{zone} {text:?}");
    }
    rows.len()
}

/// The number that a record of one long holds.
fn long(body: &[u8]) -> i64 {
    let zig_zag = body.iter().rev().fold(0u64, |n, byte| n << 7 | u64::from(byte & 0x7F));
    (zig_zag >> 1) as i64 ^ -((zig_zag & 1) as i64)
}

/// Years with their transitions; the last ones lie beyond every listed transition.
const YEARS: [(&str, &str); 5] = [
    ("1979-01-01", "1982-01-01"),
    ("2011-01-01", "2015-01-01"),
    ("2026-01-01", "2028-01-01"),
    ("9998-06-01", "10001-06-01"),
    ("294240-01-01", "294242-01-01"),
];

#[test]
fn a_wall_clock_time_is_the_instant_that_postgresql_takes() {
    for zone in ZONES {
        for (from, to) in YEARS {
            let range = format!("generate_series('{from}'::timestamp, '{to}', '30 minutes')");
            let answer = format!("(extract(epoch from v at time zone '{zone}') * 1000000)::numeric(30,0)");
            let rows = compare(zone, SourceType::Timestamp, BaseType::TimestampMicros, "v", &answer, &range);
            assert!(rows > 30_000, "{rows}");
        }
    }
}

#[test]
fn an_instant_is_the_wall_clock_time_and_date_that_postgresql_shows() {
    for zone in ZONES {
        for (from, to) in YEARS {
            let range = format!("generate_series('{from}'::timestamptz, '{to}', '59 minutes 30.5 seconds')");
            let answer = format!("(extract(epoch from v at time zone '{zone}') * 1000000)::numeric(30,0)");
            compare(zone, SourceType::Timestamptz, BaseType::LocalTimestampMicros, "v", &answer, &range);
            let answer = format!("(v at time zone '{zone}')::date - date '1970-01-01'");
            compare(zone, SourceType::Timestamptz, BaseType::Date, "v", &answer, &range);
        }
    }
}
