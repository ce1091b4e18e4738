//! The axes of the matrix: what columns and fields count as, what an entry may add, and what comes of it.

use crate::avro::BaseType;
use crate::contract::{Encoding, FeedOptions};
use crate::table::SourceType;

/// What a column's type counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Money,
    Text,
    Varchar,
    Char,
    Name,
    Citext,
    Bytea,
    Date,
    Time,
    Timetz,
    Interval,
    Timestamp,
    Timestamptz,
    Uuid,
    Json,
    Jsonb,
    Enum,
    Array,
    Other,
    /// What `path` finds in json or jsonb.
    Path,
}

/// A field's type without its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Date,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    LocalTimestampMicros,
    UuidString,
    UuidFixed,
    Decimal,
    Fixed,
    Enum,
    Array,
}

/// The option that decides a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// None.
    Nothing,
    /// `map:`, with or without `else:`.
    Map,
    /// `timezone:`
    Timezone,
    /// `round:`
    Round,
    /// `encode: hex`
    Hex,
    /// `encode: base64`
    Base64,
    /// `encode: utf8`
    Utf8,
}

/// How well values fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Every value.
    Exact,
    /// Every value but the few that have no counterpart: infinities, 24:00:00.
    ExactBut,
    /// Exact into the decimal of the same precision and scale, else value by value.
    ExactIfSame,
    /// Every value, into a decimal of 19 digits, two of them behind the point.
    Money,
    /// Value by value: lossless, or an error.
    Checked,
    /// Labels that the map or the enum has.
    Labels,
    /// As its items; arrays of another shape are refused.
    Items,
}

impl Fit {
    /// Whether there are values that are refused.
    pub const fn can_refuse(self) -> bool {
        !matches!(self, Fit::Exact | Fit::Money)
    }
}

/// A conversion; [`crate::projection`] has the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Boolean,
    BooleanOfWord,
    WordOfBoolean,
    /// Whole number → int or long.
    Integer,
    /// Numeric without a fraction → int or long.
    Integral,
    /// JSON number or the text of one → int, long or decimal, by its value.
    Number,
    Float,
    DoubleOfFloat,
    Double,
    /// JSON number → the float that prints as this number.
    SameFloat,
    /// JSON number → the double that prints as this number.
    SameDouble,
    NearestFloat,
    NearestDouble,
    Decimal,
    /// Half even, to the field's scale.
    RoundedDecimal,
    /// Half even, to a whole number.
    RoundedInteger,
    Money,
    StringOfMoney,
    String,
    /// bytea → bytes or fixed.
    Bytes,
    HexOfBytes,
    Base64OfBytes,
    Utf8OfBytes,
    BytesOfHex,
    BytesOfBase64,
    BytesOfUtf8,
    Date,
    Time,
    LocalMicros,
    Micros,
    Millis,
    MicrosInZone,
    LocalMicrosInZone,
    DateInZone,
    UuidString,
    UuidFixed,
    Label,
    Array,
}

impl Kind {
    /// What a type counts as.
    pub fn of(source: &SourceType) -> Kind {
        match source {
            SourceType::Bool => Kind::Bool,
            SourceType::Int2 => Kind::Int2,
            SourceType::Int4 => Kind::Int4,
            SourceType::Int8 => Kind::Int8,
            SourceType::Oid => Kind::Oid,
            SourceType::Float4 => Kind::Float4,
            SourceType::Float8 => Kind::Float8,
            SourceType::Numeric { .. } => Kind::Numeric,
            SourceType::Money => Kind::Money,
            SourceType::Text => Kind::Text,
            SourceType::Varchar => Kind::Varchar,
            SourceType::Char => Kind::Char,
            SourceType::Name => Kind::Name,
            SourceType::Citext => Kind::Citext,
            SourceType::Bytea => Kind::Bytea,
            SourceType::Date => Kind::Date,
            SourceType::Time => Kind::Time,
            SourceType::Timetz => Kind::Timetz,
            SourceType::Interval => Kind::Interval,
            SourceType::Timestamp => Kind::Timestamp,
            SourceType::Timestamptz => Kind::Timestamptz,
            SourceType::Uuid => Kind::Uuid,
            SourceType::Json => Kind::Json,
            SourceType::Jsonb => Kind::Jsonb,
            SourceType::Enum { .. } => Kind::Enum,
            SourceType::Array(_) => Kind::Array,
            SourceType::Other { .. } => Kind::Other,
        }
    }

    /// Whether the type's equality is the equality of its text, so that one key in SQL is one key in a topic.
    ///
    /// 1.0 and 1.00 are one numeric, 'A' and 'a' one citext, 24 hours and a day one interval, 0 and -0 one float.
    pub fn is_key(self) -> bool {
        match self {
            Kind::Bool | Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Oid => true,
            Kind::Text | Kind::Varchar | Kind::Char | Kind::Name | Kind::Bytea => true,
            Kind::Date | Kind::Timestamp | Kind::Timestamptz | Kind::Uuid | Kind::Enum => true,
            Kind::Float4 | Kind::Float8 | Kind::Numeric | Kind::Money | Kind::Citext => false,
            Kind::Time | Kind::Timetz | Kind::Interval | Kind::Json | Kind::Jsonb => false,
            Kind::Array | Kind::Other | Kind::Path => false,
        }
    }
}

impl Form {
    /// A type without its parameters.
    pub fn of(base: &BaseType) -> Form {
        match base {
            BaseType::Boolean => Form::Boolean,
            BaseType::Int => Form::Int,
            BaseType::Long => Form::Long,
            BaseType::Float => Form::Float,
            BaseType::Double => Form::Double,
            BaseType::Bytes => Form::Bytes,
            BaseType::String => Form::String,
            BaseType::Date => Form::Date,
            BaseType::TimeMicros => Form::TimeMicros,
            BaseType::TimestampMillis => Form::TimestampMillis,
            BaseType::TimestampMicros => Form::TimestampMicros,
            BaseType::LocalTimestampMicros => Form::LocalTimestampMicros,
            BaseType::UuidString => Form::UuidString,
            BaseType::UuidFixed => Form::UuidFixed,
            BaseType::Decimal { .. } => Form::Decimal,
            BaseType::Fixed { .. } => Form::Fixed,
            BaseType::Enum { .. } => Form::Enum,
            BaseType::Array(_) => Form::Array,
        }
    }

    /// The type of this form where it needs no parameters.
    pub fn plain(self) -> Option<BaseType> {
        Some(match self {
            Form::Boolean => BaseType::Boolean,
            Form::Int => BaseType::Int,
            Form::Long => BaseType::Long,
            Form::Float => BaseType::Float,
            Form::Double => BaseType::Double,
            Form::Bytes => BaseType::Bytes,
            Form::String => BaseType::String,
            Form::Date => BaseType::Date,
            Form::TimeMicros => BaseType::TimeMicros,
            Form::TimestampMillis => BaseType::TimestampMillis,
            Form::TimestampMicros => BaseType::TimestampMicros,
            Form::LocalTimestampMicros => BaseType::LocalTimestampMicros,
            Form::UuidString => BaseType::UuidString,
            Form::UuidFixed => BaseType::UuidFixed,
            Form::Decimal | Form::Fixed | Form::Enum | Form::Array => return None,
        })
    }
}

impl By {
    /// The options that an entry has, of those that decide a pair.
    pub fn of(options: &FeedOptions) -> impl Iterator<Item = By> {
        let encoding = options.encode.map(|encoding| match encoding {
            Encoding::Hex => By::Hex,
            Encoding::Base64 => By::Base64,
            Encoding::Utf8 => By::Utf8,
        });
        let maps = options.map.is_some() || options.otherwise.is_some();
        [
            maps.then_some(By::Map),
            options.timezone.is_some().then_some(By::Timezone),
            options.round.map(|_| By::Round),
            encoding,
        ]
        .into_iter()
        .flatten()
    }

    /// As a contract writes it.
    pub fn name(self) -> &'static str {
        match self {
            By::Nothing => "nothing",
            By::Map => "map",
            By::Timezone => "timezone",
            By::Round => "round",
            By::Hex => "encode: hex",
            By::Base64 => "encode: base64",
            By::Utf8 => "encode: utf8",
        }
    }
}
