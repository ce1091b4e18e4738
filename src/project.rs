//! Reads a project's folders (contracts, schemas, `catalog.json`) into the texts that [`contract::resolve`] takes.
//!
//! [`contract::resolve`]: crate::contract::resolve

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::contract::Sources;
use crate::diagnostic::SourceText;
use crate::error::{Code, Error, Result};

/// Name of the catalog file, in the contracts folder.
pub const CATALOG_FILE: &str = "catalog.json";

/// Largest contract or schema file (1 MiB): the largest sensible one has a few thousand lines.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Largest catalog file (256 MiB): some 200 bytes a column, for a million columns.
const CATALOG_BYTES_MAX: u64 = 256 << 20;

/// Most files in one folder tree, and its greatest depth: a wrong path such as `/` must not be read through.
const FILES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 8;

/// Reads everything that `check` and the daemon look at. Missing folders are errors; a missing catalog is a finding
/// of the core.
pub fn read(config: &Config) -> Result<Sources> {
    let mut sources = Sources {
        receivers: Some(config.receivers.clone()),
        keys: Some(config.keys.keys().cloned().collect()),
        ..Sources::default()
    };
    for path in files_below(&config.contracts, "contracts", &["yaml", "yml"], 0)? {
        sources.contracts.push(read_text(&path, FILE_BYTES_MAX)?);
    }
    let mut schemas = BTreeMap::new();
    for path in files_below(&config.schemas, "schemas", &["avsc"], DEPTH_MAX)? {
        let below = path.strip_prefix(&config.schemas).unwrap_or(&path);
        let parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        schemas.insert(parts.join("/"), read_text(&path, FILE_BYTES_MAX)?);
    }
    sources.schemas = schemas;
    let catalog = config.contracts.join(CATALOG_FILE);
    if catalog.exists() {
        sources.catalog = Some(read_text(&catalog, CATALOG_BYTES_MAX)?);
    }
    Ok(sources)
}

/// Files with one of the extensions, sorted; hidden ones are left out.
fn files_below(folder: &Path, key: &str, extensions: &[&str], depth: usize) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_path_buf(), 0)];
    while let Some((folder, level)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|error| {
            Error::definite(Code::Io, format!("cannot read the folder `{}`: {error}", folder.display()))
                .hint(format!("`{key}` in the config names it; `gimbal init` writes drafts"))
        })?;
        for entry in entries {
            let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
            if path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            if path.is_dir() {
                if level < depth {
                    folders.push((path, level + 1));
                }
            } else if path.extension().is_some_and(|own| extensions.iter().any(|wanted| own == *wanted)) {
                found.push(path);
            }
            if found.len() > FILES_MAX {
                let message = format!("more than {FILES_MAX} files in `{}`", folder.display());
                return Err(Error::definite(Code::Io, message).hint(format!("`{key}` in the config names the folder")));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read_text(path: &Path, bytes_max: u64) -> Result<Arc<SourceText>> {
    let size = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    if size > bytes_max {
        let message = format!("`{}` has {size} bytes, more than {bytes_max}", path.display());
        return Err(Error::definite(Code::Io, message).hint("is this the right file?"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(SourceText::new(path.display().to_string(), text))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::definite(Code::Io, format!("cannot read `{}`: {error}", path.display()))
}
