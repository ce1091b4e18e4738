use super::*;
use crate::contract::testing::{orders_table, table};
use crate::contract::{Catalog, Sources, resolve};
use crate::diagnostic::SourceText;
use crate::table::SourceType;

/// A table with every type, and with names that Avro does not allow.
fn wide_table() -> TableImage {
    let numeric = |precision, scale| SourceType::Numeric { precision, scale };
    table(
        "Wide table",
        vec![
            ("tenant", "uuid", SourceType::Uuid, true),
            ("nr", "smallint", SourceType::Int2, true),
            ("größe", "integer", SourceType::Int4, false),
            ("2nd", "oid", SourceType::Oid, false),
            ("a b", "boolean", SourceType::Bool, true),
            ("a_b", "real", SourceType::Float4, false),
            ("a-b", "double precision", SourceType::Float8, false),
            ("price", "numeric(12,2)", numeric(Some(12), Some(2)), false),
            ("tiny", "numeric(2,5)", numeric(Some(2), Some(5)), false),
            ("round", "numeric(4,-2)", numeric(Some(4), Some(-2)), false),
            ("free", "numeric", numeric(None, None), false),
            ("cash", "money", SourceType::Money, false),
            ("code", "character(3)", SourceType::Char, false),
            ("email", "citext", SourceType::Citext, false),
            ("raw", "bytea", SourceType::Bytea, false),
            ("day", "date", SourceType::Date, false),
            ("at", "time without time zone", SourceType::Time, false),
            ("att", "time with time zone", SourceType::Timetz, false),
            ("span", "interval", SourceType::Interval, false),
            ("local", "timestamp without time zone", SourceType::Timestamp, false),
            ("instant", "timestamp with time zone", SourceType::Timestamptz, false),
            ("doc", "jsonb", SourceType::Jsonb, false),
            ("state", "mood", SourceType::Enum { labels: vec![] }, false),
            ("tags", "text[]", SourceType::Array(Box::new(SourceType::Text)), false),
            ("areas", "box[]", SourceType::Array(Box::new(SourceType::Other { name: "box".into() })), false),
            ("spot", "point", SourceType::Other { name: "point".into() }, false),
            ("true", "text", SourceType::Text, false),
        ],
        &["tenant", "nr"],
    )
}

fn shown(images: &[TableImage]) -> String {
    drafts(images, "shop-eu")
        .iter()
        .map(|draft| {
            format!(
                "== contracts/{}\n{}== schemas/{}\n{}",
                draft.contract_path, draft.contract_text, draft.schema_path, draft.schema_text
            )
        })
        .collect()
}

/// Everything that `check` says about the drafts of these tables.
fn checked(images: &[TableImage]) -> Vec<String> {
    let drafts = drafts(images, "shop-eu");
    let sources = Sources {
        contracts: drafts.iter().map(|draft| SourceText::new(&draft.contract_path, &draft.contract_text)).collect(),
        schemas: drafts
            .iter()
            .map(|draft| (draft.schema_path.clone(), SourceText::new(&draft.schema_path, &draft.schema_text)))
            .collect(),
        catalog: Some(SourceText::new("catalog.json", Catalog::new(images.to_vec()).to_text())),
        ..Sources::default()
    };
    let resolved = resolve(&sources);
    assert!(resolved.has_errors() || resolved.versions.len() == drafts.len());
    resolved.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_simple_table_drafts_readably() {
    insta::assert_snapshot!(shown(&[orders_table()]));
}

#[test]
fn every_type_and_every_odd_name_has_a_draft() {
    insta::assert_snapshot!(shown(&[wide_table()]));
}

#[test]
fn drafts_are_clean() {
    let log = table("audit", vec![("what", "text", SourceType::Text, false)], &[]);
    let mut sales = orders_table();
    sales.name.namespace = "sales".into();
    let mut upper = orders_table();
    upper.name.name = "Orders".into();
    let mut odd = orders_table();
    odd.name.name = "odd.\"name\"\n: #x".into();
    assert_eq!(checked(&[orders_table(), wide_table(), log, sales, upper, odd]), [""; 0]);
}

#[test]
fn a_table_without_identity_is_drafted_as_an_append_only_log() {
    insta::assert_snapshot!(shown(&[table("audit", vec![("what", "text", SourceType::Text, false)], &[])]));
}

#[test]
fn a_primary_key_that_cannot_be_a_key_is_drafted_with_the_reason_and_refused_by_check() {
    let numeric = SourceType::Numeric { precision: Some(10), scale: Some(2) };
    let image = table("prices", vec![("amount", "numeric(10,2)", numeric, true)], &["amount"]);
    insta::assert_snapshot!(shown(std::slice::from_ref(&image)));
    let found = checked(&[image]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("error[E0108]: column `amount` of `public.prices`"), "{}", found[0]);
}

#[test]
fn another_unique_index_takes_the_place_of_a_primary_key_that_cannot_be_a_key() {
    let mut image = orders_table();
    image.columns[0].source_type = SourceType::Citext;
    image.replica_identity = ReplicaIdentity::Full;
    assert!(drafts(&[image.clone()], "shop")[0].contract_text.contains("key: [code]"));
    assert_eq!(checked(&[image]), [""; 0]);
}

#[test]
fn names_that_would_collide_get_a_number() {
    let mut sales = orders_table();
    sales.name.name = "sales_orders".into();
    let mut other = orders_table();
    other.name.namespace = "sales".into();
    let names: Vec<String> = drafts(&[sales, other], "shop").into_iter().map(|draft| draft.contract).collect();
    assert_eq!(names, ["sales_orders", "sales_orders_2"]);

    // File systems that ignore case would make one file of these two.
    let mut upper = orders_table();
    upper.name.name = "Orders".into();
    let names: Vec<String> = drafts(&[orders_table(), upper], "shop").into_iter().map(|draft| draft.contract).collect();
    assert_eq!(names, ["orders", "Orders_2"]);
}

proptest::proptest! {
    /// Whatever PostgreSQL allows as a name, the draft is valid and feeds every column.
    #[test]
    fn any_name_drafts_cleanly(
        table_name in "\\PC{1,20}|[a-z.\" ]{1,8}",
        columns in proptest::collection::btree_set("\\PC{1,12}|[a-zA-Z_\\-]{1,3}|true|null|[0-9.]{1,3}|\n", 1..6),
    ) {
        let list = columns.iter().map(|name| (name.as_str(), "text", SourceType::Text, false)).collect();
        let mut image = table("t", list, &[]);
        image.name.name = table_name;
        proptest::prop_assert_eq!(checked(&[image]), [""; 0]);
    }
}
