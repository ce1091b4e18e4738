use super::*;
use crate::table::EnumLabel;

fn sources() -> Vec<SourceType> {
    let other = |name: &str| SourceType::Other { name: name.to_owned() };
    let labels = vec![EnumLabel { oid: 1, label: "a".to_owned() }];
    vec![
        SourceType::Bool,
        SourceType::Int2,
        SourceType::Int4,
        SourceType::Int8,
        SourceType::Oid,
        SourceType::Float4,
        SourceType::Float8,
        SourceType::Numeric { precision: Some(10), scale: Some(2) },
        SourceType::Numeric { precision: None, scale: None },
        SourceType::Money,
        SourceType::Text,
        SourceType::Varchar,
        SourceType::Char,
        SourceType::Name,
        SourceType::Citext,
        SourceType::Bytea,
        SourceType::Date,
        SourceType::Time,
        SourceType::Timetz,
        SourceType::Interval,
        SourceType::Timestamp,
        SourceType::Timestamptz,
        SourceType::Uuid,
        SourceType::Json,
        SourceType::Jsonb,
        SourceType::Enum { labels },
        SourceType::Array(Box::new(SourceType::Int4)),
        SourceType::Array(Box::new(other("box"))),
        other("inet"),
    ]
}

fn targets() -> Vec<BaseType> {
    let symbols = vec!["a".to_owned(), "b".to_owned()];
    vec![
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
        BaseType::Decimal { precision: 10, scale: 2 },
        BaseType::Decimal { precision: 19, scale: 2 },
        BaseType::Fixed { name: "f".to_owned(), size: 4 },
        BaseType::Enum { name: "e".to_owned(), symbols, default: Some("a".to_owned()) },
        BaseType::Array(Box::new(FieldType { null_branch: Some(0), base: BaseType::Long })),
        BaseType::Array(Box::new(FieldType { null_branch: None, base: BaseType::Long })),
    ]
}

fn required(base: BaseType) -> FieldType {
    FieldType { null_branch: None, base }
}

fn is_refused(pair: &Pair) -> bool {
    matches!(pair, Pair::Refused { .. })
}

/// One letter a pair, columns in the order of `targets()`: E exact, c checked, a dot refused.
const MATRIX: &[(&str, &str)] = &[
    ("bool", "E.....E............."),
    ("int2", ".EE...E............."),
    ("int4", ".EE...E............."),
    ("int8", ".cE...E............."),
    ("oid", ".cE...E............."),
    ("float4", "...EE.E............."),
    ("float8", "....E.E............."),
    ("numeric(10,2)", ".cc...E.......Ec...."),
    ("numeric", ".cc...E.......cc...."),
    ("money", "......E........E...."),
    ("text", "ccc...Ec.ccccccc.c.."),
    ("varchar", "ccc...Ec.ccccccc.c.."),
    ("char(n)", "ccc...Ec.ccccccc.c.."),
    ("name", "ccc...Ec.ccccccc.c.."),
    ("citext", "ccc...Ec.ccccccc.c.."),
    ("bytea", ".....E..........c..."),
    ("date", "......EE............"),
    ("time", "......E.E..........."),
    ("timetz", "......E............."),
    ("interval", "......E............."),
    ("timestamp", "......E....E........"),
    ("timestamptz", "......E..cE........."),
    ("uuid", "......E.....EE......"),
    ("json", "......E............."),
    ("jsonb", "......E............."),
    ("enum", "......E..........c.."),
    ("int4[]", "......E...........Ec"),
    ("box[]", "......E............."),
    ("inet", "......E............."),
];

#[test]
fn the_matrix_is_the_documented_one() {
    let options = FeedOptions::default();
    let found: Vec<(String, String)> = sources()
        .iter()
        .map(|source| {
            let letter = |target| match classify(source, &required(target), &options) {
                Pair::Exact => 'E',
                Pair::Checked => 'c',
                Pair::Refused { .. } => '.',
            };
            (source_type_name(source), targets().into_iter().map(letter).collect())
        })
        .collect();
    let expected: Vec<(String, String)> = MATRIX.iter().map(|(s, row)| ((*s).to_owned(), (*row).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_draft_is_an_exact_pair() {
    for source in sources() {
        let draft = draft_type(&source);
        let pair = classify(&source, &required(draft.base.clone()), &FeedOptions::default());
        assert_eq!(pair, Pair::Exact, "{} → {:?}", source_type_name(&source), draft.base);
    }
}

#[test]
fn every_refusal_says_why_and_what_to_do() {
    for source in sources() {
        for target in targets() {
            if let Pair::Refused { why, hint } = classify(&source, &required(target), &FeedOptions::default()) {
                assert!(why.contains(&source_type_name(&source)), "{why}");
                let hint = hint.unwrap();
                assert!(hint.contains('`'), "{why}: {hint}");
                let text = classify(&source, &required(BaseType::String), &FeedOptions::default());
                assert!(!hint.contains("`string`") || text == Pair::Exact, "{why}: {hint}");
            }
        }
    }
}

#[test]
fn options_turn_refused_pairs_into_fed_ones() {
    let zone = FeedOptions { timezone: Some("Europe/Berlin".to_owned()), ..FeedOptions::default() };
    for (source, target) in [
        (SourceType::Timestamp, BaseType::TimestampMicros),
        (SourceType::Timestamptz, BaseType::LocalTimestampMicros),
        (SourceType::Timestamptz, BaseType::Date),
    ] {
        assert!(is_refused(&classify(&source, &required(target.clone()), &FeedOptions::default())));
        assert_eq!(classify(&source, &required(target), &zone), Pair::Exact);
    }
    let map = vec![("1".to_owned(), "a".to_owned())];
    let map = FeedOptions { map: Some(map), otherwise: Some("b".to_owned()), ..FeedOptions::default() };
    for source in [SourceType::Int2, SourceType::Int4, SourceType::Text, SourceType::Char] {
        let target = targets().remove(17);
        assert_eq!(classify(&source, &required(target), &map), Pair::Checked, "{source:?}");
    }
}

#[test]
fn options_without_meaning_are_refused() {
    let zone = |name: &str| FeedOptions { timezone: Some(name.to_owned()), ..FeedOptions::default() };
    let otherwise = FeedOptions { otherwise: Some("a".to_owned()), ..FeedOptions::default() };
    let unknown = FeedOptions { otherwise: Some("z".to_owned()), ..FeedOptions::default() };
    let an_enum = targets().remove(17);
    assert!(is_refused(&classify(&SourceType::Timestamptz, &required(BaseType::TimestampMicros), &zone("UTC"))));
    assert!(is_refused(&classify(&SourceType::Text, &required(BaseType::String), &otherwise)));
    assert!(is_refused(&classify(&SourceType::Text, &required(an_enum), &unknown)));
    for name in ["CET", "EST", "Europe/Atlantis", ""] {
        let pair = classify(&SourceType::Timestamp, &required(BaseType::TimestampMicros), &zone(name));
        assert!(is_refused(&pair), "{name}");
    }
}

#[test]
fn an_enum_without_default_is_refused_for_enum_columns() {
    let target = BaseType::Enum { name: "e".to_owned(), symbols: vec!["a".to_owned()], default: None };
    let source = SourceType::Enum { labels: vec![] };
    assert!(is_refused(&classify(&source, &required(target.clone()), &FeedOptions::default())));
    assert_eq!(classify(&SourceType::Text, &required(target), &FeedOptions::default()), Pair::Checked);
}

#[test]
fn a_key_takes_only_exact_pairs_of_types_whose_equality_is_that_of_the_text() {
    let key = |source: &SourceType, base| classify_key(source, &required(base), &FeedOptions::default());
    for source in sources() {
        let pair = key(&source, draft_type(&source).base);
        let fits = matches!(
            source_type_name(&source).as_str(),
            "bool"
                | "int2"
                | "int4"
                | "int8"
                | "oid"
                | "text"
                | "varchar"
                | "char(n)"
                | "name"
                | "bytea"
                | "date"
                | "timestamp"
                | "timestamptz"
                | "uuid"
                | "enum"
        );
        assert_eq!(pair == Pair::Exact, fits, "{source:?}");
    }
    assert!(is_refused(&key(&SourceType::Int8, BaseType::Int)), "checked");
    let nullable = FieldType { null_branch: Some(0), base: BaseType::Long };
    assert!(is_refused(&classify_key(&SourceType::Int8, &nullable, &FeedOptions::default())));
}
