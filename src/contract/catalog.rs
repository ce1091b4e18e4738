//! `catalog.json`: what the contracted tables looked like when it was written, so that `check` works without a database.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, SourceText};
use crate::error::Code;
use crate::table::{QualifiedName, TableImage};

/// The version of the file's format that this program writes and reads.
const FORMAT_VERSION: u32 = 1;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalog {
    format_version: u32,
    /// Sorted by name, each once.
    tables: Vec<TableImage>,
}

impl Catalog {
    /// A catalog of these tables; of two images of one name the later one stays.
    pub fn new(images: impl IntoIterator<Item = TableImage>) -> Catalog {
        let tables: std::collections::BTreeMap<QualifiedName, TableImage> =
            images.into_iter().map(|image| (image.name.clone(), image)).collect();
        Catalog { format_version: FORMAT_VERSION, tables: tables.into_values().collect() }
    }

    /// Parses the file's text.
    pub fn parse(file: &Arc<SourceText>) -> Result<Catalog, Diagnostic> {
        let invalid = |message: String| Diagnostic::error(Code::CatalogFileInvalid, message);
        let catalog: Catalog = serde_json::from_str(&file.text).map_err(|error| {
            let text = error.to_string();
            let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
            invalid(format!("the catalog file does not parse: {message}"))
                .at(file, file.byte_at(error.line(), error.column()))
                .hint("it is written by `gimbal init`; do not edit it, write it anew")
        })?;
        if catalog.format_version != FORMAT_VERSION {
            return Err(invalid(format!(
                "the catalog file has format version {}, this gimbal reads {FORMAT_VERSION}",
                catalog.format_version
            ))
            .hint("write it anew with `gimbal init`, or use the gimbal that wrote it"));
        }
        for image in &catalog.tables {
            let in_order = image.columns.iter().zip(1i16..).all(|(column, attnum)| column.attnum == attnum);
            if !in_order {
                let message = format!("the columns of `{}` are not numbered from 1 without a gap", image.name);
                return Err(invalid(message).hint("write the catalog file anew with `gimbal init`"));
            }
        }
        Ok(Catalog::new(catalog.tables))
    }

    /// The file's text: one line a column, so that a diff shows which column moved.
    pub fn to_text(&self) -> String {
        let mut text = format!("{{\n  \"format_version\": {},\n  \"tables\": [", self.format_version);
        for (at, image) in self.tables.iter().enumerate() {
            text.push_str(if at == 0 { "\n" } else { ",\n" });
            text.push_str(&table_text(image));
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
}

fn table_text(image: &TableImage) -> String {
    let list = |items: Vec<String>| match items.is_empty() {
        true => "[]".to_owned(),
        false => format!("[\n        {}\n      ]", items.join(",\n        ")),
    };
    let columns = list(image.columns.iter().map(compact).collect());
    let keys = list(image.keys.iter().map(compact).collect());
    format!(
        "    {{\n      \"relation\": {},\n      \"name\": {},\n      \"partitioned\": {},\n      \
         \"replica_identity\": {},\n      \"columns\": {columns},\n      \"keys\": {keys}\n    }}",
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
