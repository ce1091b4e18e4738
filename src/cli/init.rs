//! `gimbal init`: writes drafts for tables that were read from a database, and never over an author's work.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::cli::schema;
use crate::config::{self, Config, SecretSource};
use crate::contract::Catalog;
use crate::contract::draft::{SCHEMA_FILE, drafts};
use crate::daemon::sealing;
use crate::diagnostic::SourceText;
use crate::error::{Code, Error, Result};
use crate::project::CATALOG_FILE;
use crate::seal::KEY_BYTES;
use crate::table::{QualifiedName, TableDetails, TableImage};

/// What `init` was told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// The config file. Where it is there already, it rules and stays as it is.
    pub config: PathBuf,
    /// The pipeline's name, for a new config file.
    pub pipeline: String,
    /// The source, for a new config file; a password in it is not written.
    pub source_url: String,
    /// Overwrite drafts that differ.
    pub force: bool,
    /// What is known of the tables beyond their images, for `catalog.json`.
    pub details: Details,
}

/// What is known of tables beyond their images.
pub type Details = BTreeMap<QualifiedName, TableDetails>;

/// A file to be written.
struct Planned {
    path: PathBuf,
    text: String,
    /// False for a file that is the program's own and may always be written anew.
    guarded: bool,
}

/// Writes config, contracts, schemas and `catalog.json` for these tables; gives the files that it wrote, in order.
///
/// A file that is there and says the same is left alone. If one says something else, nothing is written at all, unless
/// `force` is set. `catalog.json` keeps what it has of other tables.
pub fn write_drafts(images: &[TableImage], options: &InitOptions) -> Result<Vec<PathBuf>> {
    if let Some(image) = images.iter().find(|image| image.listed().next().is_none()) {
        let message = format!("`{}` has no column that could be published", image.name);
        return Err(Error::definite(Code::Usage, message).hint("leave it out of `--tables`"));
    }
    let mut planned = Vec::new();
    let config = config(options, &mut planned)?;
    for draft in drafts(images, &config.pipeline) {
        let (contract, schema) = (config.contracts.join(draft.contract_path), config.schemas.join(draft.schema_path));
        planned.push(Planned { path: contract, text: draft.contract_text, guarded: true });
        planned.push(Planned { path: schema, text: draft.schema_text, guarded: true });
    }
    let schema = config.contracts.join(SCHEMA_FILE);
    planned.push(Planned { text: schema::Of::Contract.text().to_owned(), path: schema, guarded: false });
    let path = config.contracts.join(CATALOG_FILE);
    planned.push(Planned { text: catalog_text(images, &path, options)?, path, guarded: false });
    let mut written = write_all(&planned, options.force)?;
    written.extend(write_seal_key(&config)?);
    Ok(written)
}

/// Makes the key for sealing, if the config names a file for it that is not there. A key that is there is never touched:
/// without it what was sealed is lost.
fn write_seal_key(config: &Config) -> Result<Option<PathBuf>> {
    match config.keys.get(sealing::KEY_NAME) {
        Some(SecretSource::File(path)) => new_secret(path),
        _ => Ok(None),
    }
}

/// The tables that `catalog.json` has.
pub fn catalog_tables(config: &Config) -> Result<Vec<QualifiedName>> {
    let path = config.contracts.join(CATALOG_FILE);
    let Some(text) = read(&path)? else { return Ok(Vec::new()) };
    let catalog = Catalog::parse(&SourceText::new(path.display().to_string(), text))
        .map_err(|finding| Error::from(vec![finding]))?;
    Ok(catalog.tables().iter().map(|image| image.name.clone()).collect())
}

/// Writes a token for the API where the config wants a file and there is none; gives its path if it did.
pub fn write_token(config: &Config) -> Result<Option<PathBuf>> {
    match &config.api_token {
        Some(SecretSource::File(path)) => new_secret(path),
        _ => Ok(None),
    }
}

/// Writes random bytes in hexadecimal to a file that is not there yet; gives its path if it did.
fn new_secret(path: &Path) -> Result<Option<PathBuf>> {
    let fail = |error: std::io::Error| failed("write", path, &error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut bytes = [0u8; KEY_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::definite(Code::Io, format!("the system gives no random bytes: {error}")))?;
    let text = bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")) + "\n";
    // Never readable by others, not even for a moment, and never over another one.
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(None),
        opened => opened.map_err(fail)?,
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
    Ok(Some(path.to_owned()))
}

/// Writes `catalog.json` with exactly these tables; gives its path.
pub fn write_catalog(config: &Config, images: &[TableImage], details: &Details) -> Result<PathBuf> {
    let path = config.contracts.join(CATALOG_FILE);
    let text = Catalog::new(images.iter().cloned()).with_details(details.clone()).to_text();
    write(&Planned { text, path: path.clone(), guarded: false })?;
    Ok(path)
}

fn config(options: &InitOptions, planned: &mut Vec<Planned>) -> Result<Config> {
    if options.config.exists() {
        return Config::load(&options.config).map_err(Error::from);
    }
    let text = config::sample(&options.pipeline, &options.source_url);
    let folder = options.config.parent().unwrap_or(Path::new(""));
    let config = Config::parse(&options.config.display().to_string(), &text, folder).map_err(Error::from)?;
    planned.push(Planned { path: options.config.clone(), text, guarded: true });
    Ok(config)
}

fn catalog_text(images: &[TableImage], path: &Path, options: &InitOptions) -> Result<String> {
    let known = match read(path)? {
        None => Catalog::new([]),
        Some(text) => match Catalog::parse(&SourceText::new(path.display().to_string(), text)) {
            Ok(catalog) => catalog,
            Err(_) if options.force => Catalog::new([]),
            Err(finding) => return Err(Error::from(vec![finding.hint("`gimbal init --force` writes it anew")])),
        },
    };
    let images = known.tables().iter().chain(images).cloned();
    Ok(Catalog::new(images).with_details(known.details().clone()).with_details(options.details.clone()).to_text())
}

fn write_all(planned: &[Planned], force: bool) -> Result<Vec<PathBuf>> {
    let mut to_write = Vec::new();
    let mut in_the_way = Vec::new();
    for file in planned {
        match read(&file.path)? {
            Some(text) if text == file.text => {}
            Some(_) if file.guarded && !force => in_the_way.push(format!("`{}`", file.path.display())),
            _ => to_write.push(file),
        }
    }
    if !in_the_way.is_empty() {
        let message = format!("{} would be overwritten, so nothing was written", in_the_way.join(", "));
        return Err(Error::definite(Code::Usage, message)
            .hint("leave these tables out of `--tables`, or use `--force` to lose what is there"));
    }
    to_write.into_iter().map(|file| write(file).map(|()| file.path.clone())).collect()
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Writes beside the file and renames, so that a crash leaves the old file or the new one.
fn write(file: &Planned) -> Result<()> {
    let fail = |error: std::io::Error| failed("write", &file.path, &error);
    if let Some(folder) = file.path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    let mut name = file.path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let beside = file.path.with_file_name(name);
    std::fs::write(&beside, &file.text).map_err(fail)?;
    std::fs::rename(&beside, &file.path).map_err(fail)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::definite(Code::Io, format!("cannot {what} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cli::check::{Against, check_file};
    use crate::contract::testing::{orders_table, table};
    use crate::table::SourceType;

    fn options(folder: &Path) -> InitOptions {
        InitOptions {
            config: folder.join("gimbal.yaml"),
            pipeline: "shop".into(),
            source_url: "postgresql://u:hunter2@127.0.0.1/shop".into(),
            force: false,
            details: Details::new(),
        }
    }

    fn names(written: &[PathBuf], folder: &Path) -> Vec<String> {
        written.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    #[test]
    fn init_writes_a_project_that_is_clean_and_writes_nothing_the_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let written = write_drafts(&[orders_table()], &options).unwrap();
        assert_eq!(
            names(&written, folder.path()),
            [
                "gimbal.yaml",
                "contracts/orders.yaml",
                "schemas/orders/1.0.avsc",
                "contracts/contract.schema.json",
                "contracts/catalog.json",
                "state/seal.key"
            ]
        );
        let key = folder.path().join("state/seal.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let config = Config::load(&options.config).unwrap();
        assert!(sealing::key(&config).unwrap().is_some());
        let report = check_file(&options.config, &Against::today()).unwrap();
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        assert!(write_drafts(&[orders_table()], &options).unwrap().is_empty());
        assert!(!std::fs::read_to_string(&options.config).unwrap().contains("hunter2"));
    }

    #[test]
    fn the_token_is_random_for_nobody_else_to_read_and_stays() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        write_drafts(&[orders_table()], &options).unwrap();
        let config = Config::load(&options.config).unwrap();
        let path = write_token(&config).unwrap().unwrap();
        assert_eq!(path, folder.path().join("state/api.token"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(&path).unwrap();
        assert_eq!(token.trim().len(), 64);
        assert_eq!(write_token(&config).unwrap(), None);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), token);
    }

    #[test]
    fn a_file_that_was_edited_keeps_init_from_writing_anything() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        write_drafts(&[orders_table()], &options).unwrap();
        let contract = folder.path().join("contracts/orders.yaml");
        std::fs::write(&contract, "mine\n").unwrap();
        let audit = table("audit", vec![("what", "text", SourceType::Text, false)], &[]);
        let error = write_drafts(&[audit.clone(), orders_table()], &options).unwrap_err();
        assert!(error.to_string().contains("contracts/orders.yaml"), "{error}");
        assert_eq!(std::fs::read_to_string(&contract).unwrap(), "mine\n");
        assert!(!folder.path().join("contracts/audit.yaml").exists());

        let forced = InitOptions { force: true, ..options };
        let written = write_drafts(&[audit, orders_table()], &forced).unwrap();
        assert!(names(&written, folder.path()).contains(&"contracts/orders.yaml".to_owned()));
    }

    #[test]
    fn a_further_table_joins_the_project_and_its_catalog() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        write_drafts(&[orders_table()], &options).unwrap();
        let audit = table("audit", vec![("what", "text", SourceType::Text, false)], &[]);
        let written = write_drafts(&[audit], &options).unwrap();
        assert_eq!(
            names(&written, folder.path()),
            ["contracts/audit.yaml", "schemas/audit/1.0.avsc", "contracts/catalog.json"]
        );
        let report = check_file(&options.config, &Against::today()).unwrap();
        assert_eq!((report.contracts, report.findings.len()), (2, 0), "{:?}", report.findings);
    }

    #[test]
    fn a_config_that_is_there_rules_where_the_drafts_go() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let text = "pipeline: eu\nsource: {url: \"postgresql://u@h/d\"}\ncontracts: c\nschemas: s\n";
        std::fs::write(&options.config, text).unwrap();
        let written = write_drafts(&[orders_table()], &options).unwrap();
        assert_eq!(
            names(&written, folder.path()),
            ["c/orders.yaml", "s/orders/1.0.avsc", "c/contract.schema.json", "c/catalog.json"]
        );
        assert!(std::fs::read_to_string(folder.path().join("c/orders.yaml")).unwrap().contains("eu.orders.v{major}"));
        assert_eq!(std::fs::read_to_string(&options.config).unwrap(), text);
    }
}
