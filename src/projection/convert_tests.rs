use super::*;
use crate::contract::{Encoding, Mask, Rounding};
use proptest::prelude::*;

fn converted(source: SourceType, target: BaseType, options: &FeedOptions, text: &[u8]) -> Result<Vec<u8>, Reason> {
    let convert = Conversion::of(&source, &target, options).expect("a pair that is fed");
    let mut out = Vec::new();
    convert.encode(text, &mut out).map(|()| out)
}

fn plain(source: SourceType, target: BaseType, text: &str) -> Result<Vec<u8>, Reason> {
    converted(source, target, &FeedOptions::default(), text.as_bytes())
}

fn long(value: i64) -> Result<Vec<u8>, Reason> {
    let mut out = Vec::new();
    encode::long(value, &mut out);
    Ok(out)
}

fn string(text: &str) -> Result<Vec<u8>, Reason> {
    let mut out = Vec::new();
    encode::bytes(text.as_bytes(), &mut out);
    Ok(out)
}

fn in_zone(name: &str) -> FeedOptions {
    FeedOptions { timezone: Some(name.to_owned()), ..FeedOptions::default() }
}

#[test]
fn integers_are_held_to_the_targets_range() {
    assert_eq!(plain(SourceType::Int8, BaseType::Int, "2147483647"), long(2_147_483_647));
    assert_eq!(plain(SourceType::Int8, BaseType::Int, "2147483648"), Err(Reason::OutOfRange));
    assert_eq!(plain(SourceType::Oid, BaseType::Int, "4294967295"), Err(Reason::OutOfRange));
    assert_eq!(plain(SourceType::Oid, BaseType::Long, "4294967295"), long(4_294_967_295));
    assert_eq!(plain(SourceType::Text, BaseType::Int, "-7"), long(-7));
    assert_eq!(plain(SourceType::Text, BaseType::Int, "07"), Err(Reason::NotCanonical));
    assert_eq!(plain(SourceType::Char, BaseType::Int, "7   "), long(7));
    let numeric = SourceType::Numeric { precision: None, scale: None };
    assert_eq!(plain(numeric.clone(), BaseType::Int, "-5.00"), long(-5));
    assert_eq!(plain(numeric.clone(), BaseType::Int, "2147483648.0"), Err(Reason::OutOfRange));
    assert_eq!(plain(numeric, BaseType::Long, "0.1"), Err(Reason::Inexact));
}

#[test]
fn booleans_are_t_and_f_or_words() {
    assert_eq!(plain(SourceType::Bool, BaseType::Boolean, "t"), Ok(vec![1]));
    assert_eq!(plain(SourceType::Bool, BaseType::String, "f"), string("false"));
    assert_eq!(plain(SourceType::Text, BaseType::Boolean, "true"), Ok(vec![1]));
    assert_eq!(plain(SourceType::Text, BaseType::Boolean, "t"), Err(Reason::NotCanonical));
    assert_eq!(plain(SourceType::Bool, BaseType::Boolean, "true"), Err(Reason::NotCanonical));
}

#[test]
fn floats_keep_every_bit() {
    for text in ["0.1", "-0", "1e-45", "3.4028235e+38", "Infinity", "-Infinity", "1.17549435e-38"] {
        let float: f32 = text.parse().unwrap();
        assert_eq!(plain(SourceType::Float4, BaseType::Float, text), Ok(float.to_le_bytes().to_vec()), "{text}");
        let widened = f64::from(float).to_le_bytes().to_vec();
        assert_eq!(plain(SourceType::Float4, BaseType::Double, text), Ok(widened), "{text}: the binary value");
    }
    for text in ["0.1", "5e-324", "1.7976931348623157e+308", "2.2250738585072011e-308"] {
        let bytes = text.parse::<f64>().unwrap().to_le_bytes().to_vec();
        assert_eq!(plain(SourceType::Float8, BaseType::Double, text), Ok(bytes), "{text}");
    }
    let nan = plain(SourceType::Float8, BaseType::Double, "NaN").unwrap();
    assert!(f64::from_le_bytes(nan.try_into().unwrap()).is_nan());
    assert_eq!(plain(SourceType::Float8, BaseType::Double, "x"), Err(Reason::NotCanonical));
}

#[test]
fn text_must_be_utf8_and_char_loses_its_padding() {
    let options = FeedOptions::default();
    assert_eq!(converted(SourceType::Text, BaseType::String, &options, b"a\xFF"), Err(Reason::InvalidText));
    assert_eq!(plain(SourceType::Text, BaseType::String, "é  "), string("é  "));
    assert_eq!(plain(SourceType::Char, BaseType::String, "é  "), string("é"));
    let items = BaseType::Array(Box::new(FieldType { null_branch: None, base: BaseType::String }));
    let chars = SourceType::Array(Box::new(SourceType::Char));
    assert_eq!(plain(chars, items, r#"{"\" ","a "}"#), Ok(vec![4, 2, b'"', 2, b'a', 0]));
}

#[test]
fn a_fixed_takes_its_length_only() {
    let fixed = || BaseType::Fixed { name: "f".to_owned(), size: 2 };
    assert_eq!(plain(SourceType::Bytea, fixed(), "\\x01ff"), Ok(vec![1, 255]));
    assert_eq!(plain(SourceType::Bytea, fixed(), "\\x01"), Err(Reason::Length));
    assert_eq!(plain(SourceType::Bytea, BaseType::Bytes, "\\x"), Ok(vec![0]));
}

#[test]
fn millis_are_lossless_or_refused() {
    let millis = |text| plain(SourceType::Timestamptz, BaseType::TimestampMillis, text);
    assert_eq!(millis("1969-12-31 23:59:59.999+00"), long(-1));
    assert_eq!(millis("1970-01-01 00:00:00.0001+00"), Err(Reason::Inexact));
}

#[test]
fn a_map_alone_decides_and_else_takes_the_rest() {
    let target =
        || BaseType::Enum { name: "e".to_owned(), symbols: ["A", "B"].map(str::to_owned).to_vec(), default: None };
    let map = |otherwise: Option<&str>| FeedOptions {
        map: Some(vec![("1".to_owned(), "B".to_owned()), ("x".to_owned(), "A".to_owned())]),
        otherwise: otherwise.map(str::to_owned),
        ..FeedOptions::default()
    };
    assert_eq!(converted(SourceType::Int2, target(), &map(None), b"1"), long(1));
    assert_eq!(converted(SourceType::Char, target(), &map(None), b"x  "), long(0));
    assert_eq!(converted(SourceType::Text, target(), &map(None), b"A"), Err(Reason::Unmapped), "not in the map");
    assert_eq!(converted(SourceType::Text, target(), &map(Some("A")), b"?"), long(0));
    assert_eq!(plain(SourceType::Text, target(), "B"), long(1));
    assert_eq!(plain(SourceType::Text, target(), "b"), Err(Reason::Unmapped));
}

#[test]
fn a_gap_takes_the_offset_before_it_and_a_fold_the_later_instant() {
    let micros = |zone: &str, text: &str| {
        converted(SourceType::Timestamp, BaseType::TimestampMicros, &in_zone(zone), text.as_bytes())
    };
    let utc = |text: &str| plain(SourceType::Timestamptz, BaseType::TimestampMicros, text);
    assert_eq!(micros("Europe/Berlin", "2024-03-31 02:30:00"), utc("2024-03-31 01:30:00+00"), "gap");
    assert_eq!(micros("Europe/Berlin", "2024-10-27 02:30:00"), utc("2024-10-27 01:30:00+00"), "fold");
    assert_eq!(micros("Europe/Berlin", "2024-10-27 02:30:00.25"), utc("2024-10-27 01:30:00.25+00"), "fold");
    assert_eq!(micros("UTC", "0044-03-15 00:00:00 BC"), utc("0044-03-15 00:00:00+00 BC"));
    assert_eq!(micros("America/New_York", "infinity"), Err(Reason::Infinity));
    // Rules go on in the far future, by the same calendar.
    assert_eq!(micros("Europe/Berlin", "294246-07-01 00:00:00"), utc("294246-06-30 22:00:00+00"));
    assert_eq!(micros("Europe/Berlin", "9999-12-31 23:59:59"), utc("9999-12-31 22:59:59+00"));
}

#[test]
fn a_zones_wall_clock_and_date_come_from_the_instant() {
    let zone = in_zone("Asia/Kolkata");
    let convert = |target, text: &str| converted(SourceType::Timestamptz, target, &zone, text.as_bytes());
    assert_eq!(convert(BaseType::LocalTimestampMicros, "1970-01-01 00:00:00+00"), long(19_800_000_000));
    assert_eq!(convert(BaseType::Date, "1970-01-01 18:29:59+00"), long(0));
    assert_eq!(convert(BaseType::Date, "1970-01-01 18:30:00+00"), long(1));
    assert_eq!(convert(BaseType::Date, "1969-12-30 18:29:59.5+00"), long(-2));
}

fn every_option() -> Vec<FeedOptions> {
    let encode = |encoding| FeedOptions { encode: Some(encoding), ..FeedOptions::default() };
    vec![
        FeedOptions::default(),
        in_zone("Europe/Berlin"),
        FeedOptions { round: Some(Rounding::HalfEven), ..FeedOptions::default() },
        encode(Encoding::Hex),
        encode(Encoding::Base64),
        encode(Encoding::Utf8),
        FeedOptions { mask: Some(Mask::KeepLast(2)), ..FeedOptions::default() },
    ]
}

/// Every conversion that can be built from these, to throw bytes at.
fn all() -> Vec<Conversion> {
    let symbols = vec!["a".to_owned()];
    let targets = [
        BaseType::Boolean,
        BaseType::Int,
        BaseType::Long,
        BaseType::Float,
        BaseType::Double,
        BaseType::Bytes,
        BaseType::String,
        BaseType::Date,
        BaseType::TimeMicros,
        BaseType::TimestampMillis,
        BaseType::TimestampMicros,
        BaseType::LocalTimestampMicros,
        BaseType::UuidString,
        BaseType::UuidFixed,
        BaseType::Decimal { precision: 60, scale: 2 },
        BaseType::Fixed { name: "f".to_owned(), size: 2 },
        BaseType::Enum { name: "e".to_owned(), symbols, default: None },
    ];
    let sources = [
        SourceType::Bool,
        SourceType::Int4,
        SourceType::Float4,
        SourceType::Float8,
        SourceType::Numeric { precision: None, scale: None },
        SourceType::Money,
        SourceType::Text,
        SourceType::Char,
        SourceType::Bytea,
        SourceType::Date,
        SourceType::Time,
        SourceType::Timestamp,
        SourceType::Timestamptz,
        SourceType::Uuid,
    ];
    let array = |source: &SourceType, base: &BaseType| {
        let item = FieldType { null_branch: Some(1), base: base.clone() };
        (SourceType::Array(Box::new(source.clone())), BaseType::Array(Box::new(item)))
    };
    let mut all = Vec::new();
    for source in &sources {
        for target in &targets {
            let (list, items) = array(source, target);
            for options in every_option() {
                all.extend(Conversion::of(source, target, &options));
                all.extend(Conversion::of(&list, &items, &options));
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_make_a_conversion_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..40),
        near in "[-0-9:. +BC]{0,30}|\\{[-0-9a-f,\"\\\\{}NUL ]{0,20}\\}|\\$?[-0-9,.]{0,20}|\\\\x[0-9a-f]{0,9}",
    ) {
        let conversions = all();
        prop_assert!(conversions.len() > 80);
        for convert in conversions {
            for text in [&noise[..], near.as_bytes()] {
                let _ = convert.encode(text, &mut Vec::new());
            }
        }
    }
}
