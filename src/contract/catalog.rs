//! `catalog.json`: what the contracted tables looked like when it was written, so that `check` works without a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, SourceText};
use crate::error::Code;
use crate::table::{
    ColumnImage, QualifiedName, RelationId, ReplicaIdentity, TableDetails, TableImage, UnfitIndex, UniqueKey,
};

/// The version of the file's format that this program writes and reads.
const FORMAT_VERSION: u32 = 1;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// Sorted by name, each once.
    tables: Vec<TableImage>,
    /// Of the tables for which they were read; a file from before there were details has none.
    details: BTreeMap<QualifiedName, TableDetails>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format_version: u32,
    tables: Vec<Entry>,
}

/// A table in the file: its image, and details where they were read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    relation: RelationId,
    name: QualifiedName,
    partitioned: bool,
    replica_identity: ReplicaIdentity,
    columns: Vec<ColumnImage>,
    keys: Vec<UniqueKey>,
    carried_by_leaves: Option<Vec<i16>>,
    unfit_indexes: Option<Vec<UnfitIndex>>,
    toastable: Option<Vec<String>>,
}

impl Entry {
    fn split(self) -> (TableImage, Option<TableDetails>) {
        let details = match (self.unfit_indexes, self.toastable) {
            (None, None) => None,
            (unfit_indexes, toastable) => Some(TableDetails {
                unfit_indexes: unfit_indexes.unwrap_or_default(),
                toastable: toastable.unwrap_or_default(),
            }),
        };
        let Entry { relation, name, partitioned, replica_identity, columns, keys, carried_by_leaves, .. } = self;
        (TableImage { relation, name, partitioned, replica_identity, columns, keys, carried_by_leaves }, details)
    }
}

impl Catalog {
    /// A catalog of these tables; of two images of one name the later one stays.
    pub fn new(images: impl IntoIterator<Item = TableImage>) -> Catalog {
        let tables: BTreeMap<QualifiedName, TableImage> =
            images.into_iter().map(|image| (image.name.clone(), image)).collect();
        Catalog { tables: tables.into_values().collect(), details: BTreeMap::new() }
    }

    /// Adds what is known of its tables beyond their images; of other tables it is left out.
    #[must_use]
    pub fn with_details(mut self, details: impl IntoIterator<Item = (QualifiedName, TableDetails)>) -> Catalog {
        let known = details.into_iter().filter(|(name, _)| self.tables.iter().any(|image| image.name == *name));
        let known: Vec<_> = known.collect();
        self.details.extend(known);
        self
    }

    /// Parses the file's text.
    pub fn parse(file: &Arc<SourceText>) -> Result<Catalog, Diagnostic> {
        let invalid = |message: String| Diagnostic::error(Code::CatalogFileInvalid, message);
        let file_content: File = serde_json::from_str(&file.text).map_err(|error| {
            let text = error.to_string();
            let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
            invalid(format!("the catalog file does not parse: {message}"))
                .at(file, file.byte_at(error.line(), error.column()))
                .hint("it is written by `gimbal init`; do not edit it, write it anew")
        })?;
        if file_content.format_version != FORMAT_VERSION {
            return Err(invalid(format!(
                "the catalog file has format version {}, this gimbal reads {FORMAT_VERSION}",
                file_content.format_version
            ))
            .hint("write it anew with `gimbal init`, or use the gimbal that wrote it"));
        }
        let (mut images, mut details) = (Vec::new(), BTreeMap::new());
        for entry in file_content.tables {
            let (image, known) = entry.split();
            let in_order = image.columns.iter().zip(1i16..).all(|(column, attnum)| column.attnum == attnum);
            if !in_order {
                let message = format!("the columns of `{}` are not numbered from 1 without a gap", image.name);
                return Err(invalid(message).hint("write the catalog file anew with `gimbal init`"));
            }
            details.extend(known.map(|known| (image.name.clone(), known)));
            images.push(image);
        }
        Ok(Catalog::new(images).with_details(details))
    }

    /// The file's text: one line a column, so that a diff shows which column moved.
    pub fn to_text(&self) -> String {
        let mut text = format!("{{\n  \"format_version\": {FORMAT_VERSION},\n  \"tables\": [");
        for (at, image) in self.tables.iter().enumerate() {
            text.push_str(if at == 0 { "\n" } else { ",\n" });
            text.push_str(&table_text(image, self.details.get(&image.name)));
        }
        text.push_str("\n  ]\n}\n");
        text
    }

    /// All tables, by name.
    pub fn tables(&self) -> &[TableImage] {
        &self.tables
    }

    /// The table of this name.
    pub fn table(&self, name: &QualifiedName) -> Option<&TableImage> {
        self.tables.iter().find(|image| image.name == *name)
    }

    /// What is known of all tables beyond their images.
    pub fn details(&self) -> &BTreeMap<QualifiedName, TableDetails> {
        &self.details
    }
}

fn table_text(image: &TableImage, details: Option<&TableDetails>) -> String {
    let list = |items: Vec<String>| match items.is_empty() {
        true => "[]".to_owned(),
        false => format!("[\n        {}\n      ]", items.join(",\n        ")),
    };
    let columns = list(image.columns.iter().map(compact).collect());
    let keys = list(image.keys.iter().map(compact).collect());
    let details = details.map_or(String::new(), |details| {
        let unfit = list(details.unfit_indexes.iter().map(compact).collect());
        format!(",\n      \"unfit_indexes\": {unfit},\n      \"toastable\": {}", compact(&details.toastable))
    });
    format!(
        "    {{\n      \"relation\": {},\n      \"name\": {},\n      \"partitioned\": {},\n      \
         \"replica_identity\": {},\n      \"columns\": {columns},\n      \"keys\": {keys}{details}\n    }}",
        image.relation,
        compact(&image.name),
        image.partitioned,
        compact(&image.replica_identity),
    )
}

/// JSON on one line. Values of these types always serialize, so the empty text never appears.
fn compact<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::testing::orders_table;

    #[test]
    fn the_catalog_file_reads_back_as_it_was_written() {
        let catalog = Catalog::new([orders_table()]);
        let text = catalog.to_text();
        insta::assert_snapshot!(text);
        assert_eq!(Catalog::parse(&SourceText::new("catalog.json", text)).unwrap(), catalog);
        assert_eq!(Catalog::parse(&SourceText::new("catalog.json", Catalog::new([]).to_text())).unwrap().tables(), []);
    }

    #[test]
    fn details_are_kept_where_they_were_read_and_a_file_without_them_is_read_too() {
        let image = orders_table();
        let index = UnfitIndex { name: "n".into(), columns: vec!["id".into()], why: crate::table::Unfit::Partial };
        let details = TableDetails { unfit_indexes: vec![index], toastable: vec!["shipping".into()] };
        let other = QualifiedName { namespace: "public".into(), name: "other".into() };
        let catalog = Catalog::new([image.clone()])
            .with_details([(image.name.clone(), details.clone()), (other, TableDetails::default())]);
        let text = catalog.to_text();
        assert!(text.contains(r#""unfit_indexes": ["#) && text.contains(r#""toastable": ["shipping"]"#), "{text}");
        let read = Catalog::parse(&SourceText::new("catalog.json", text)).unwrap();
        assert_eq!(read, catalog);
        assert_eq!(read.details().values().collect::<Vec<_>>(), [&details]);
    }

    #[test]
    fn a_damaged_catalog_file_is_refused_with_its_code_and_place() {
        let good = Catalog::new([orders_table()]).to_text();
        for bad in [
            good.replace("\"format_version\": 1", "\"format_version\": 2"),
            good.replace("\"relation\"", "\"relatoin\""),
            good.replacen("\"attnum\":1,", "\"attnum\":9,", 1),
            good.replacen("\"kind\":\"ordinary\"", "\"kind\":\"odd\"", 1),
            "{".into(),
        ] {
            assert_ne!(bad, good);
            let error = Catalog::parse(&SourceText::new("catalog.json", bad)).unwrap_err();
            assert_eq!(error.code, Code::CatalogFileInvalid, "{error}");
        }
    }
}
