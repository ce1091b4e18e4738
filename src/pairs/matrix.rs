//! The matrix: which source type may feed which schema type, by which option, how exactly, and by which conversion.
//!
//! ```text
//!  gimbal check ──▶ classify ──┐
//!  gimbal init ───▶ draft_type ┼──▶ MATRIX ◀── the tests: every entry's values, on live servers
//!  projection ────▶ entry ─────┘
//! ```
//!
//! What is not listed is refused. Every entry carries values: those that PostgreSQL accepts and that must be published
//! as PostgreSQL itself reads them, and those that must be refused, with the reason. An entry without does not compile.

use super::axes::{By, Fit, Form, How, Kind};

/// One pair.
#[derive(Debug)]
pub struct Entry {
    /// The column's type; the entry holds for each of these.
    pub from: &'static [Kind],
    /// The field's type.
    pub to: Form,
    /// The option that the entry must have; without it the pair is refused, or is another entry.
    pub by: By,
    /// How well the values fit.
    pub fit: Fit,
    /// The conversion.
    pub how: How,
    /// Values for the tests.
    pub cases: &'static [Case],
    /// What `init` says of it, where it drafts this pair for the type.
    pub draft: Option<Note>,
}

/// Values of a pair, as SQL literals.
#[derive(Debug)]
pub struct Case {
    /// The column's type in SQL; empty for each kind's plain type.
    pub column: &'static str,
    /// The field's type, such as `decimal(12,3)`; empty for a type without parameters.
    pub field: &'static str,
    /// Must be published.
    pub accepted: &'static [&'static str],
    /// Must be refused, with the reason's code.
    pub refused: &'static [(&'static str, &'static str)],
}

/// What a draft says.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// For the field's doc: what a reader who ignores logical types would miss.
    pub doc: Option<&'static str>,
    /// For the contract's author; `{type}` stands for the column's type.
    pub remark: Option<&'static str>,
}

impl Entry {
    /// Drafted by `init`, and nothing to say.
    const fn drafted(self) -> Entry {
        self.noted(None, None)
    }

    /// Drafted, with a sentence for readers.
    const fn doc(self, doc: &'static str) -> Entry {
        self.noted(Some(doc), None)
    }

    const fn noted(mut self, doc: Option<&'static str>, remark: Option<&'static str>) -> Entry {
        self.draft = Some(Note { doc, remark });
        self
    }
}

/// A pair that needs no option.
const fn pair(from: &'static [Kind], to: Form, fit: Fit, how: How, cases: &'static [Case]) -> Entry {
    by(By::Nothing, from, to, fit, how, cases)
}

/// A pair that an option makes.
const fn by(by: By, from: &'static [Kind], to: Form, fit: Fit, how: How, cases: &'static [Case]) -> Entry {
    Entry { from, to, by, fit, how, cases, draft: None }
}

/// Any type as its text.
const fn text(kind: &'static [Kind], cases: &'static [Case]) -> Entry {
    pair(kind, Form::String, Fit::Exact, How::String, cases)
}

/// Values of the kinds' plain types.
const fn all(accepted: &'static [&'static str]) -> Case {
    of("", "", accepted, &[])
}

/// The same, and what is refused.
const fn but(accepted: &'static [&'static str], refused: &'static [(&'static str, &'static str)]) -> Case {
    of("", "", accepted, refused)
}

/// Values of a type with parameters, or for a field with parameters.
const fn of(
    column: &'static str,
    field: &'static str,
    accepted: &'static [&'static str],
    refused: &'static [(&'static str, &'static str)],
) -> Case {
    Case { column, field, accepted, refused }
}

const INTS: &[Kind] = &[Kind::Int2, Kind::Int4];
const TEXTS: &[Kind] = &[Kind::Text, Kind::Varchar, Kind::Char, Kind::Name, Kind::Citext];
const FLOATS: &[Kind] = &[Kind::Float4, Kind::Float8];

/// Every byte.
const ALL_BYTES: &str = concat!(
    "\\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f",
    "303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f",
    "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182838485868788898a8b8c8d8e8f",
    "909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf",
    "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef",
    "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
);

const FAR: (&str, &str) = ("294276-12-31 23:59:59.999999", "out_of_range");
const FAR_UTC: (&str, &str) = ("294276-12-31 23:59:59.999999+00", "out_of_range");
const SHAPES: &[(&str, &str)] =
    &[("{{1,2},{3,4}}", "dimensions"), ("[2:3]={1,2}", "bounds"), ("[0:0][1:1]={{7}}", "dimensions")];

/// Every pair that is not refused. A table: filled lines, one pair after the other.
#[rustfmt::skip]
pub const MATRIX: &[Entry] = &[
    // ---- booleans and whole numbers ----
    pair(&[Kind::Bool], Form::Boolean, Fit::Exact, How::Boolean, &[all(&["t", "f"])]).drafted(),
    pair(&[Kind::Bool], Form::String, Fit::Exact, How::WordOfBoolean, &[all(&["t", "f"])]),
    pair(INTS, Form::Long, Fit::Exact, How::Integer, &[all(&["-32768", "0", "32767"])]).drafted(),
    pair(INTS, Form::Int, Fit::Exact, How::Integer, &[all(&["-32768", "-1", "32767"])]),
    text(INTS, &[all(&["-32768", "0"])]),
    by(By::Map, INTS, Form::Enum, Fit::Labels, How::Label, &[of("", "enum(A B): 1=A, -20=B", &["1", "-20"],
        &[("2", "unmapped")])]),
    pair(&[Kind::Int8], Form::Long, Fit::Exact, How::Integer, &[all(&["-9223372036854775808", "0",
        "9223372036854775807"])]).drafted(),
    pair(&[Kind::Oid], Form::Long, Fit::Exact, How::Integer, &[all(&["0", "4294967295"])]).drafted(),
    pair(&[Kind::Int8, Kind::Oid], Form::Int, Fit::Checked, How::Integer, &[but(&["0", "2147483647"],
        &[("2147483648", "out_of_range")])]),
    text(&[Kind::Int8, Kind::Oid], &[all(&["0", "4294967295"])]),
    // ---- numbers with a fraction ----
    pair(&[Kind::Float4], Form::Float, Fit::Exact, How::Float, &[all(&["0.1", "-0", "1e-45", "Infinity",
        "NaN"])]).drafted(),
    pair(&[Kind::Float4], Form::Double, Fit::Exact, How::DoubleOfFloat, &[all(&["0.1", "-0", "3.4028235e38",
        "NaN"])]),
    pair(&[Kind::Float8], Form::Double, Fit::Exact, How::Double, &[all(&["0.1", "-0", "5e-324",
        "1.7976931348623157e308", "-Infinity", "NaN", "0.30000000000000004", "1e15"])]).drafted(),
    text(FLOATS, &[all(&["0.1", "-0", "1e-7", "1e20", "NaN", "-Infinity"])]),
    by(By::Round, FLOATS, Form::Decimal, Fit::Checked, How::RoundedDecimal, &[of("", "decimal(9,2)", &["0.125",
        "0.375", "-0.125", "1e-30", "-0", "1.005", "9999999", "1.5e3"], &[("1e7", "out_of_range"), ("NaN", "nan"),
        ("-Infinity", "infinity")])]),
    by(By::Round, FLOATS, Form::Int, Fit::Checked, How::RoundedInteger, &[but(&["0.5", "1.5", "-2.5", "8388608"],
        &[("1e10", "out_of_range"), ("NaN", "nan")])]),
    by(By::Round, FLOATS, Form::Long, Fit::Checked, How::RoundedInteger, &[but(&["0.5", "1.5", "-2.5", "1e15"],
        &[("1e19", "out_of_range"), ("Infinity", "infinity")])]),
    pair(&[Kind::Numeric], Form::Decimal, Fit::ExactIfSame, How::Decimal, &[of("numeric(12,3)", "decimal(12,3)",
        &["0", "0.001", "-0.001", "999999999.999", "-128e-3", "1e5"], &[("NaN", "nan")]),
        of("numeric(60,0)", "decimal(60,0)", &["170141183460469231731687303715884105728",
        "-999999999999999999999999999999999999999999999999999999999999"], &[("NaN", "nan")]),
        of("numeric", "decimal(10,2)", &["0", "1.50", "-99999999.99", "1.5000"], &[("0.001", "inexact"),
        ("100000000", "out_of_range"), ("1e131071", "out_of_range"), ("Infinity", "infinity"),
        ("NaN", "nan")])]).drafted(),
    text(&[Kind::Numeric], &[of("numeric", "", &["NaN", "Infinity", "1e131071", "0.10", "-1e-20"],
        &[])]).doc("a decimal number as text, without limit of digits"),
    pair(&[Kind::Numeric], Form::Int, Fit::Checked, How::Integral, &[but(&["7.000", "-2147483648"],
        &[("0.5", "inexact"), ("2147483648", "out_of_range"), ("NaN", "nan")])]),
    pair(&[Kind::Numeric], Form::Long, Fit::Checked, How::Integral, &[but(&["7.000", "-9223372036854775808"],
        &[("0.5", "inexact"), ("9223372036854775808", "out_of_range"), ("Infinity", "infinity")])]),
    by(By::Round, &[Kind::Numeric], Form::Decimal, Fit::Checked, How::RoundedDecimal, &[of("", "decimal(10,2)",
        &["0.005", "0.015", "0.0251", "-0.004", "99999999.985", "1e-16000", "12"],
        &[("99999999.995", "out_of_range"), ("1e131071", "out_of_range"), ("NaN", "nan"),
        ("-Infinity", "infinity")])]),
    by(By::Round, &[Kind::Numeric], Form::Int, Fit::Checked, How::RoundedInteger, &[but(&["0.5", "1.5", "-2.5",
        "2147483647.5e-1"], &[("2147483647.5", "out_of_range"), ("NaN", "nan")])]),
    by(By::Round, &[Kind::Numeric], Form::Long, Fit::Checked, How::RoundedInteger, &[but(&["0.5", "1.5", "-2.5",
        "9223372036854775807.4"], &[("9223372036854775807.5", "out_of_range")])]),
    by(By::Round, &[Kind::Numeric], Form::Float, Fit::Checked, How::NearestFloat, &[but(&["0.1", "16777217", "NaN",
        "Infinity"], &[("1e39", "out_of_range")])]),
    by(By::Round, &[Kind::Numeric], Form::Double, Fit::Checked, How::NearestDouble, &[but(&["0.1",
        "9007199254740993", "1e-300", "NaN", "-Infinity"], &[("1e309", "out_of_range")])]),
    pair(&[Kind::Money], Form::Decimal, Fit::Money, How::Money, &[of("", "decimal(19,2)", &["0", "1234.5", "-0.01",
        "-92233720368547758.08", "92233720368547758.07"], &[])]).noted(None,
        Some("money: the scale must be the digits of the server's lc_monetary")),
    pair(&[Kind::Money], Form::String, Fit::Exact, How::StringOfMoney, &[all(&["0", "1234.5", "-0.01"])]),
    // ---- texts ----
    text(TEXTS, &[all(&["", "é\\n\"", " a ", "🙂"])]).drafted(),
    pair(TEXTS, Form::Boolean, Fit::Checked, How::BooleanOfWord, &[but(&["true", "false"], &[("t", "not_canonical"),
        ("", "not_canonical")])]),
    pair(TEXTS, Form::Int, Fit::Checked, How::Integer, &[but(&["7", "-2147483648"], &[("07", "not_canonical"),
        ("2147483648", "out_of_range"), ("1.0", "not_canonical")])]),
    pair(TEXTS, Form::Long, Fit::Checked, How::Integer, &[but(&["7", "9223372036854775807"],
        &[("+7", "not_canonical"), ("9223372036854775808", "out_of_range")])]),
    pair(TEXTS, Form::Decimal, Fit::Checked, How::Decimal, &[of("", "decimal(5,2)", &["1.5", "-999.99"],
        &[("1.555", "inexact"), ("1e2", "not_canonical"), ("1000", "out_of_range")])]),
    pair(TEXTS, Form::Date, Fit::Checked, How::Date, &[but(&["2026-07-01", "0044-03-15 BC"],
        &[("2026-7-1", "not_canonical"), ("infinity", "infinity")])]),
    pair(TEXTS, Form::TimestampMicros, Fit::Checked, How::Micros, &[but(&["2026-07-01 12:00:00.5+00"],
        &[("2026-07-01T12:00:00Z", "not_canonical"), ("infinity", "infinity")])]),
    pair(TEXTS, Form::TimestampMillis, Fit::Checked, How::Millis, &[but(&["2026-07-01 12:00:00.5+00"],
        &[("2026-07-01 12:00:00.0005+00", "inexact")])]),
    pair(TEXTS, Form::LocalTimestampMicros, Fit::Checked, How::LocalMicros, &[but(&["2026-07-01 12:00:00.5"],
        &[("2026-07-01 12:00:00+00", "not_canonical")])]),
    pair(TEXTS, Form::UuidString, Fit::Checked, How::UuidString, &[but(&["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
        &[("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "not_canonical")])]),
    pair(TEXTS, Form::UuidFixed, Fit::Checked, How::UuidFixed, &[but(&["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
        &[("a0eebc999c0b4ef8bb6d6bb9bd380a11", "not_canonical")])]),
    pair(TEXTS, Form::Enum, Fit::Labels, How::Label, &[of("", "enum(a b)", &["a", "b"], &[("c", "unmapped")])]),
    by(By::Map, TEXTS, Form::Enum, Fit::Labels, How::Label, &[of("", "enum(A B): a b=A, \"=B", &["a b", "\""],
        &[("A", "unmapped")])]),
    by(By::Utf8, TEXTS, Form::Bytes, Fit::Exact, How::BytesOfUtf8, &[all(&["", "é🙂"])]),
    by(By::Utf8, TEXTS, Form::Fixed, Fit::Checked, How::BytesOfUtf8, &[of("", "fixed(2)", &["ab", "é"],
        &[("a", "length"), ("abc", "length")])]),
    by(By::Hex, TEXTS, Form::Bytes, Fit::Checked, How::BytesOfHex, &[but(&["", "00ff"], &[("00FF", "not_canonical"),
        ("0", "not_canonical"), ("\\x00", "not_canonical")])]),
    by(By::Hex, TEXTS, Form::Fixed, Fit::Checked, How::BytesOfHex, &[of("", "fixed(2)", &["00ff"],
        &[("00", "length"), ("00f", "not_canonical")])]),
    by(By::Base64, TEXTS, Form::Bytes, Fit::Checked, How::BytesOfBase64, &[but(&["", "AP8=", "AA==", "AAAA"],
        &[("AP8", "not_canonical"), ("AP9=", "not_canonical"), ("A A=", "not_canonical")])]),
    by(By::Base64, TEXTS, Form::Fixed, Fit::Checked, How::BytesOfBase64, &[of("", "fixed(2)", &["AP8="],
        &[("AA==", "length"), ("AP-=", "not_canonical")])]),
    // ---- bytes ----
    pair(&[Kind::Bytea], Form::Bytes, Fit::Exact, How::Bytes, &[all(&["", ALL_BYTES, "a\\\\b"])]).drafted(),
    pair(&[Kind::Bytea], Form::Fixed, Fit::Checked, How::Bytes, &[of("", "fixed(2)", &["\\x00ff"],
        &[("\\x00", "length"), ("", "length")])]),
    by(By::Hex, &[Kind::Bytea], Form::String, Fit::Exact, How::HexOfBytes, &[all(&["", ALL_BYTES])]),
    by(By::Base64, &[Kind::Bytea], Form::String, Fit::Exact, How::Base64OfBytes, &[all(&["", "\\x00", "\\x00ff",
        "\\x00ff5c"])]),
    by(By::Utf8, &[Kind::Bytea], Form::String, Fit::Checked, How::Utf8OfBytes, &[but(&["", "\\xc3a9"],
        &[("\\xff", "invalid_text"), ("\\xeda080", "invalid_text")])]),
    // ---- time ----
    pair(&[Kind::Date], Form::Date, Fit::ExactBut, How::Date, &[but(&["1970-01-01", "2000-02-29", "0001-01-01",
        "0001-12-31 BC", "4714-11-24 BC", "5874897-12-31", "10000-01-01"], &[("infinity", "infinity"),
        ("-infinity", "infinity")])]).doc("days since 1970-01-01"),
    text(&[Kind::Date], &[all(&["infinity", "0044-03-15 BC", "10000-01-01"])]),
    pair(&[Kind::Time], Form::TimeMicros, Fit::ExactBut, How::Time, &[but(&["00:00:00", "23:59:59.999999",
        "12:30:00.5"], &[("24:00:00", "out_of_range")])]).doc("microseconds since midnight"),
    text(&[Kind::Time], &[all(&["24:00:00", "12:30:00.5"])]),
    text(&[Kind::Timetz], &[all(&["12:34:56.7+05:30", "24:00:00-15:59"])]).doc("as text, in ISO 8601"),
    text(&[Kind::Interval], &[all(&["1 year -2 days 03:04:05.5", "0",
        "-178000000 years"])]).doc("as text, in ISO 8601"),
    pair(&[Kind::Timestamp], Form::LocalTimestampMicros, Fit::ExactBut, How::LocalMicros,
        &[but(&["1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "0044-03-15 12:00:00.25 BC",
        "4714-11-24 00:00:00 BC", "294247-01-10 04:00:54.775807"], &[("infinity", "infinity"),
        ("294247-01-10 04:00:54.775808", "out_of_range"),
        FAR])]).noted(Some("date and time without zone, as microseconds since 1970-01-01 00:00:00 on the same clock"),
        Some("has no time zone; if its clock is known, write `timestamp-micros` in the schema and `timezone:` here")),
    text(&[Kind::Timestamp], &[all(&["infinity", "0044-03-15 12:00:00.25 BC", "294276-12-31 23:59:59.999999"])]),
    by(By::Timezone, &[Kind::Timestamp], Form::TimestampMicros, Fit::ExactBut, How::MicrosInZone,
        &[but(&["2026-10-25 02:30:00", "2026-03-29 02:30:00", "1893-03-31 23:59:59.5", "0044-03-15 12:00:00 BC"],
        &[("-infinity", "infinity"), FAR])]),
    pair(&[Kind::Timestamptz], Form::TimestampMicros, Fit::ExactBut, How::Micros,
        &[but(&["2026-07-01 12:00:00.123456+05:30", "0001-01-01 00:00:00+14", "4714-11-24 00:00:00+00 BC"],
        &[("infinity", "infinity"), FAR_UTC])]).doc("microseconds since 1970-01-01 00:00:00 UTC"),
    text(&[Kind::Timestamptz], &[all(&["infinity", "2026-07-01 12:00:00+05:30"])]),
    pair(&[Kind::Timestamptz], Form::TimestampMillis, Fit::Checked, How::Millis,
        &[but(&["1969-12-31 23:59:59.999+00", "2026-07-01 12:00:00+02"],
        &[("2026-07-01 00:00:00.000001+00", "inexact"), ("infinity", "infinity")])]),
    by(By::Timezone, &[Kind::Timestamptz], Form::LocalTimestampMicros, Fit::ExactBut, How::LocalMicrosInZone,
        &[but(&["2026-10-25 01:30:00+00", "2026-03-29 01:00:00+00"], &[("infinity", "infinity"), FAR_UTC])]),
    by(By::Timezone, &[Kind::Timestamptz], Form::Date, Fit::ExactBut, How::DateInZone,
        &[but(&["2026-12-31 23:30:00+00", "1969-12-31 22:59:59+00"], &[("infinity", "infinity"), FAR_UTC])]),
    // ---- identifiers, enums, documents ----
    pair(&[Kind::Uuid], Form::UuidString, Fit::Exact, How::UuidString,
        &[all(&["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"])]).drafted(),
    pair(&[Kind::Uuid], Form::UuidFixed, Fit::Exact, How::UuidFixed,
        &[all(&["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"])]),
    text(&[Kind::Uuid], &[all(&["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"])]),
    text(&[Kind::Json], &[all(&["{\"a\" : [1,  2.50], \"a\": null}", "null", "\"é\"",
        "\"\\u0000\""])]).doc("JSON text"),
    text(&[Kind::Jsonb], &[all(&["{\"b\":1,\"a\":\"\\\"\"}", "1e2"])]).doc("JSON text"),
    text(&[Kind::Enum], &[all(&["sad", "so, so", "happy \"!\"", "NULL"])]).drafted(),
    pair(&[Kind::Enum], Form::Enum, Fit::Labels, How::Label, &[of("", "enum(sad NULL) default sad", &["sad",
        "NULL"], &[("so, so", "unmapped")])]),
    by(By::Map, &[Kind::Enum], Form::Enum, Fit::Labels, How::Label,
        &[of("", "enum(SAD SO_SO) default SAD: sad=SAD, so\\, so=SO_SO, happy \"!\"=SO_SO", &["sad", "so, so",
        "happy \"!\""], &[("NULL", "unmapped")])]),
    // ---- arrays: items follow this matrix ----
    pair(&[Kind::Array], Form::Array, Fit::Items, How::Array, &[of("int4[]", "array(null long)", &["{}",
        "{1,NULL,-3}", "[1:2]={8,9}"], SHAPES), of("int8[]", "array(long)", &["{9223372036854775807}"],
        &[("{1,NULL}", "null_element")]), of("bool[]", "array(null boolean)", &["{t,f,NULL}"],
        &[("{{t}}", "dimensions")]), of("text[]", "array(null string)", &["{}",
        r#"{a,"",NULL,"NULL","null","a,b","{}","\"","\\"," ","é🙂"}"#], SHAPES),
        of("char(3)[]", "array(null string)", &["{a,\"b c\"}"], SHAPES), of("bytea[]", "array(null bytes)",
        &[r#"{"\\x00ff","",NULL}"#], &[("{{a}}", "dimensions")]), of("numeric(8,2)[]", "array(null decimal(8,2))",
        &["{1.5,-0.01,NULL}"], &[("{NaN}", "nan")]), of("money[]", "array(null decimal(19,2))", &["{1234.5,-1}"],
        &[("{{1}}", "dimensions")]), of("date[]", "array(null date)", &["{2026-07-01,\"0001-01-01 BC\"}"],
        &[("{infinity}", "infinity")]), of("timestamptz[]", "array(null timestamp-micros)", &["{2026-07-01,NULL}"],
        &[("{infinity}", "infinity")]), of("float8[]", "array(null double)", &["{0.1,-Infinity}"], SHAPES),
        of("uuid[]", "array(null uuid)", &["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"],
        &[("{{NULL}}", "dimensions")]), of("jsonb[]", "array(null string)", &[r#"{"{\"a\": \"\\\"\"}"}"#],
        &[(r#"{{"1"}}"#, "dimensions")]), of("int4range[]", "array(null string)", &["{\"[1,5)\"}"],
        &[("{{empty}}", "dimensions")]), of("mood[]", "array(null enum(sad NULL) default sad)",
        &[r#"{sad,"NULL",NULL}"#], &[(r#"{"so, so"}"#, "unmapped")])]).drafted(),
    text(&[Kind::Array], &[of("int4[]", "", &["{{1,2},{3,4}}", "[2:3]={1,2}"], &[]), of("box[]", "",
        &["{(1,2),(3,4);(5,6),(7,8)}"], &[])]).noted(Some("as PostgreSQL prints it"),
        Some("{type} is published as PostgreSQL's text")),
    // ---- everything else, as text ----
    text(&[Kind::Other], &[of("inet", "", &["10.0.0.1/8"], &[]), of("macaddr", "", &["08:00:2b:01:02:03"], &[]),
        of("int4range", "", &["[1,5)", "empty"], &[]), of("int4multirange", "", &["{[1,5),[7,9)}"], &[]),
        of("bit varying", "", &["1010"], &[]), of("box", "", &["(1,2),(3,4)"], &[]), of("tsvector", "",
        &["a fat cat"], &[]), of("pg_lsn", "", &["16/B374D848"], &[]), of("xml", "", &["<a>é</a>"], &[]),
        of("pair", "", &["(1,\"a \"\"b\"\"\")", "(,)"], &[])]).noted(Some("as PostgreSQL prints it"),
        Some("{type} is published as PostgreSQL's text")),
    // ---- what `path` finds in json and jsonb: the case's value stands at `$.v` ----
    text(&[Kind::Path], &[all(&["\"é\\n\"", "1.50", "true", "{\"a\": [1, 2]}", "[1, \"x\"]", "\"\""])]),
    pair(&[Kind::Path], Form::Boolean, Fit::Checked, How::BooleanOfWord, &[but(&["true", "\"false\""],
        &[("1", "not_canonical"), ("[true]", "path_type")])]),
    pair(&[Kind::Path], Form::Int, Fit::Checked, How::Number, &[but(&["7", "\"7\"", "1e3", "12.00"],
        &[("0.5", "inexact"), ("2147483648", "out_of_range"), ("{}", "path_type")])]),
    pair(&[Kind::Path], Form::Long, Fit::Checked, How::Number, &[but(&["-7", "9223372036854775807", "1e3"],
        &[("1e400", "out_of_range"), ("\"x\"", "not_canonical"), ("true", "not_canonical")])]),
    pair(&[Kind::Path], Form::Decimal, Fit::Checked, How::Number, &[of("", "decimal(9,2)", &["1.5", "\"1.50\"",
        "12e2", "-0"], &[("0.001", "inexact"), ("1e9", "out_of_range")])]),
    pair(&[Kind::Path], Form::Float, Fit::Checked, How::SameFloat, &[but(&["0.5", "0.1", "1e10"],
        &[("16777217", "inexact"), ("1e39", "out_of_range")])]),
    pair(&[Kind::Path], Form::Double, Fit::Checked, How::SameDouble, &[but(&["0.1", "1e22", "1.50", "-7"],
        &[("9007199254740993", "inexact"), ("1e309", "out_of_range"), ("\"x\"", "not_canonical")])]),
    pair(&[Kind::Path], Form::Date, Fit::Checked, How::Date, &[but(&["\"2026-07-01\""],
        &[("\"1 July\"", "not_canonical"), ("[]", "path_type")])]),
    pair(&[Kind::Path], Form::TimestampMicros, Fit::Checked, How::Micros, &[but(&["\"2026-07-01 12:00:00+00\""],
        &[("\"2026-07-01T12:00:00Z\"", "not_canonical")])]),
    pair(&[Kind::Path], Form::TimestampMillis, Fit::Checked, How::Millis, &[but(&["\"2026-07-01 12:00:00.5+00\""],
        &[("\"2026-07-01 12:00:00.0005+00\"", "inexact")])]),
    pair(&[Kind::Path], Form::LocalTimestampMicros, Fit::Checked, How::LocalMicros,
        &[but(&["\"2026-07-01 12:00:00\""], &[("\"2026-07-01 12:00:00+00\"", "not_canonical")])]),
    pair(&[Kind::Path], Form::UuidString, Fit::Checked, How::UuidString,
        &[but(&["\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""], &[("\"a0eebc99\"", "not_canonical")])]),
    pair(&[Kind::Path], Form::UuidFixed, Fit::Checked, How::UuidFixed,
        &[but(&["\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\""], &[("\"a0eebc99\"", "not_canonical")])]),
    pair(&[Kind::Path], Form::Enum, Fit::Labels, How::Label, &[of("", "enum(a b)", &["\"a\""],
        &[("\"c\"", "unmapped"), ("{}", "path_type")])]),
    by(By::Map, &[Kind::Path], Form::Enum, Fit::Labels, How::Label, &[of("", "enum(A B): 1=A, x y=B", &["1",
        "\"x y\""], &[("2", "unmapped")])]),
    by(By::Round, &[Kind::Path], Form::Decimal, Fit::Checked, How::RoundedDecimal, &[of("", "decimal(9,2)",
        &["0.125", "1e-30", "\"0.375\""], &[("1e9", "out_of_range"), ("\"x\"", "not_canonical")])]),
    by(By::Round, &[Kind::Path], Form::Long, Fit::Checked, How::RoundedInteger, &[but(&["2.5", "3.5", "-0.5"],
        &[("1e19", "out_of_range")])]),
    by(By::Round, &[Kind::Path], Form::Int, Fit::Checked, How::RoundedInteger, &[but(&["2.5", "3.5", "-0.5"],
        &[("1e10", "out_of_range")])]),
    by(By::Round, &[Kind::Path], Form::Double, Fit::Checked, How::NearestDouble, &[but(&["9007199254740993", "0.1"],
        &[("1e309", "out_of_range"), ("true", "not_canonical")])]),
    by(By::Utf8, &[Kind::Path], Form::Bytes, Fit::Checked, How::BytesOfUtf8, &[but(&["\"é\"", "7"],
        &[("{}", "path_type")])]),
    by(By::Hex, &[Kind::Path], Form::Bytes, Fit::Checked, How::BytesOfHex, &[but(&["\"00ff\""],
        &[("\"0\"", "not_canonical")])]),
    by(By::Base64, &[Kind::Path], Form::Bytes, Fit::Checked, How::BytesOfBase64, &[but(&["\"AP8=\""],
        &[("\"AP8\"", "not_canonical")])]),
];

/// A pair whose promise no test could hold is no pair: this does not compile then.
const _: () = every_entry_has_values(MATRIX);

const fn every_entry_has_values(matrix: &[Entry]) {
    let mut at = 0;
    while at < matrix.len() {
        let entry = &matrix[at];
        let mut case = 0;
        let (mut accepted, mut refused) = (0, 0);
        while case < entry.cases.len() {
            accepted += entry.cases[case].accepted.len();
            refused += entry.cases[case].refused.len();
            case += 1;
        }
        assert!(accepted > 0, "a pair without a value that it accepts");
        assert!(refused > 0 || !entry.fit.can_refuse(), "a pair that can refuse, without a value that it refuses");
        at += 1;
    }
}
