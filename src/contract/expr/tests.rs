use super::*;
use crate::table::{EnumLabel, SourceType};
use proptest::prelude::*;

fn types(expr: &Expr) -> Vec<SourceType> {
    let known = |name: &String| match name.as_str() {
        "i" => SourceType::Int4,
        "n" => SourceType::Numeric { precision: Some(10), scale: Some(2) },
        "b" => SourceType::Bool,
        "c" => SourceType::Char,
        "d" => SourceType::Date,
        "f" => SourceType::Float8,
        "j" => SourceType::Jsonb,
        "e" => SourceType::Enum { labels: vec![EnumLabel { oid: 1, label: "new".to_owned() }] },
        _ => SourceType::Text,
    };
    expr.columns().iter().map(known).collect()
}

fn result(text: &str) -> Result<SourceType, ExprError> {
    let expr = Expr::parse(text)?;
    expr.typed(&types(&expr)).map(|typed| typed.result)
}

#[test]
fn every_form_has_a_type() {
    let any = SourceType::Numeric { precision: None, scale: None };
    for (text, ty) in [
        ("a is null", SourceType::Bool),
        ("not a is not null and b or i >= -2.5", SourceType::Bool),
        ("a || 'x' || i || b", SourceType::Text),
        ("coalesce(n, n)", SourceType::Numeric { precision: Some(10), scale: Some(2) }),
        ("coalesce(n, 0)", any.clone()),
        ("coalesce(i, 0)", SourceType::Int4),
        ("coalesce(i, 3000000000)", SourceType::Int8),
        ("case when b then 'x' end", SourceType::Text),
        ("case i when 1 then 'x' when 2 then a else c end", SourceType::Text),
        ("case when d = '2026-01-01' then d end", SourceType::Date),
        ("e = 'new'", SourceType::Bool),
        ("c = 'x  '", SourceType::Bool),
        ("\"Odd \"\" name\" = 'it''s'", SourceType::Bool),
        ("null", SourceType::Text),
        ("(((i)))", SourceType::Int4),
        ("J IS NULL", SourceType::Bool),
    ] {
        assert_eq!(result(text), Ok(ty), "{text}");
    }
    assert_eq!(Expr::parse("B and b and \"B\"").unwrap().columns(), ["b", "B"]);
}

#[test]
fn what_is_wrong_is_shown_at_its_place() {
    for (text, place, part) in [
        ("", 0..1, "a value is wanted"),
        ("a =", 3..4, "a value is wanted"),
        ("a = 1 = 2", 6..7, "do not follow"),
        ("a is", 4..5, "`null` is wanted"),
        ("lower(a)", 0..6, "no functions"),
        ("i + 1", 2..3, "no arithmetic"),
        ("a = 'x", 4..6, "closing"),
        ("1e3 = i", 0..3, "no number"),
        ("case a end", 7..10, "`when` is wanted"),
        ("(a", 2..3, "`)` is missing"),
        ("a b", 2..3, "ends here"),
        ("a; b", 1..2, "no meaning"),
        ("a = 1", 0..5, "cannot be compared"),
        ("i = '1'", 4..7, "text beside"),
        ("f > 1", 0..5, "cannot be compared"),
        ("f = f", 0..5, "cannot be compared"),
        ("d < d", 0..5, "cannot be ordered"),
        ("d = '2026-1-1'", 4..14, "no `date`"),
        ("e = 'old'", 4..9, "no label"),
        ("i and b", 0..1, "not true or false"),
        ("coalesce(i, a)", 12..13, "what stands before"),
        ("coalesce(i, 'x')", 12..15, "text beside"),
        ("i || i", 0..6, "needs a text"),
        ("'x' || j", 7..8, "does not join"),
        ("case when b then j else 'x' end", 24..27, "cannot be written"),
    ] {
        let error = result(text).unwrap_err();
        assert_eq!((error.span.clone(), error.message.contains(part)), (place, true), "{text}: {error:?}");
    }
    assert!(result(&"(".repeat(100_000)).is_err());
    assert!(result(&"(".repeat(1_000)).is_err());
    assert!(result(&"not ".repeat(1_000)).is_err());
}

#[test]
fn what_cannot_be_null_is_known() {
    let never = |text: &str| Expr::parse(text).unwrap().never_null(&|column| column == 0);
    assert!(never("a") && never("coalesce(a)") && never("a || 'x'") && never("case when a is null then 1 else 2 end"));
    assert!(!never("a || b") && !never("case when a = 'x' then 1 end") && !never("null"));
    assert!(never("a is null or coalesce(b, 'x') = 'y'"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}|([abi'\"()=<>|,.0-9 -]|is|null|not|and|case|when|then|end|coalesce){0,25}") {
        if let Ok(expr) = Expr::parse(&text)
            && let Err(error) = expr.typed(&types(&expr))
        {
            prop_assert!(error.span.start <= text.len());
        }
    }
}
