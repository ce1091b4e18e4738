//! Where the password comes from: `PGPASSWORD`, a file named in the config, or libpq's passfile. Never the URL.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::url::SourceUrl;
use crate::error::{Code, Error, Result};

/// A password. It is printed as dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// Takes the bytes as they are.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Password {
        Password(bytes.into())
    }

    /// The bytes to send or to hash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Finds the password for `url`: `PGPASSWORD`, else `password_file`, else the matching line of the passfile
    /// (`PGPASSFILE` or `~/.pgpass`). Nothing found is no error: the server may not ask.
    ///
    /// Errors: `password_file` or an explicit `PGPASSFILE` that cannot be read; a matching passfile that others can read.
    pub fn find(url: &SourceUrl, password_file: Option<&Path>) -> Result<Option<Password>> {
        Password::find_in(&Environment::of_process(), url, password_file)
    }

    fn find_in(environment: &Environment, url: &SourceUrl, password_file: Option<&Path>) -> Result<Option<Password>> {
        if let Some(password) = &environment.password {
            return Ok(Some(password.clone()));
        }
        if let Some(path) = password_file {
            let mut text = fs::read(path).map_err(|error| unreadable("password file", path, &error))?;
            if text.last() == Some(&b'\n') {
                text.pop();
                text.pop_if(|last| *last == b'\r');
            }
            if text.is_empty() {
                return Err(Error::definite(
                    Code::ConfigInvalid,
                    format!("the password file `{}` is empty", path.display()),
                ));
            }
            return Ok(Some(Password(text)));
        }
        if let Some(path) = &environment.passfile {
            let text = fs::read_to_string(path).map_err(|error| unreadable("passfile", path, &error))?;
            return matching_line(&text, url).map(|password| guarded(path, password)).transpose();
        }
        let Some(path) = environment.home.as_ref().map(|home| home.join(".pgpass")) else { return Ok(None) };
        match fs::read_to_string(&path) {
            Ok(text) => matching_line(&text, url).map(|password| guarded(&path, password)).transpose(),
            // The default file is a courtesy: where it does not exist nobody meant it.
            Err(_) => Ok(None),
        }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What the process was started with.
#[derive(Default)]
struct Environment {
    password: Option<Password>,
    passfile: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    fn of_process() -> Environment {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Environment {
            password: set("PGPASSWORD").map(|value| Password(value.into_encoded_bytes())),
            passfile: set("PGPASSFILE").map(PathBuf::from),
            home: set("HOME").map(PathBuf::from),
        }
    }
}

/// The password of the first line `host:port:database:user:password` that fits, as libpq reads it.
fn matching_line(text: &str, url: &SourceUrl) -> Option<Password> {
    let port = url.port.to_string();
    let wanted = [url.host.as_str(), port.as_str(), url.database.as_str(), url.user.as_str()];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, after) = next_field(rest)?;
            if field != "*" && unescape_field(field) != wanted {
                return None;
            }
            rest = after;
        }
        Some(Password(unescape_field(rest.trim_end_matches('\r')).into_bytes()))
    })
}

/// The text up to the next colon that no backslash covers, and what follows it.
fn next_field(line: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((line.get(..at)?, line.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

fn unescape_field(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        // A backslash at the very end stands for itself.
        out.push(if character == '\\' { characters.next().unwrap_or('\\') } else { character });
    }
    out
}

/// Hands out the password only if nobody else can read the file.
fn guarded(path: &Path, password: Password) -> Result<Password> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(|error| unreadable("passfile", path, &error))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::definite(
                Code::SourceAuth,
                format!("the passfile `{}` can be read by others (mode {:03o})", path.display(), mode & 0o777),
            )
            .hint(format!("run `chmod 600 {}`", path.display())));
        }
    }
    Ok(password)
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::definite(Code::Io, format!("the {what} `{}` cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> SourceUrl {
        "postgresql://gimbal@db.example:6432/shop".parse().expect("a valid URL")
    }

    fn line(text: &str) -> Option<String> {
        matching_line(text, &url()).map(|password| String::from_utf8(password.0).expect("UTF-8"))
    }

    #[test]
    fn the_first_fitting_line_of_the_passfile_counts() {
        assert_eq!(line("db.example:6432:shop:gimbal:one\n*:*:*:*:two").as_deref(), Some("one"));
        assert_eq!(line("#db.example:6432:shop:gimbal:no\nother:*:*:*:no\n*:*:shop:*:yes").as_deref(), Some("yes"));
        assert_eq!(line("db.example:6432:shop:gimbal"), None);
        assert_eq!(line("db.example:5432:shop:gimbal:no"), None);
        assert_eq!(line(""), None);
    }

    #[test]
    fn escapes_in_the_passfile_are_undone() {
        assert_eq!(line(r"*:*:*:gimbal:a\:b\\c:d").as_deref(), Some(r"a:b\c:d"));
        let odd = SourceUrl { user: "a:b".into(), ..url() };
        assert_eq!(matching_line(r"*:*:*:a\:b:pw", &odd), Some(Password::new("pw")));
    }

    #[test]
    fn the_environment_comes_before_the_file_and_the_file_before_the_passfile() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, passfile) = (folder.path().join("password"), folder.path().join("passfile"));
        fs::write(&file, "from file\n").expect("written");
        write_private(&passfile, "*:*:*:*:from passfile");
        let mut environment =
            Environment { password: Some(Password::new("from environment")), passfile: Some(passfile), home: None };
        let find = |environment: &Environment, file: Option<&Path>| {
            Password::find_in(environment, &url(), file).expect("no error")
        };
        assert_eq!(find(&environment, Some(&file)), Some(Password::new("from environment")));
        environment.password = None;
        assert_eq!(find(&environment, Some(&file)), Some(Password::new("from file")));
        assert_eq!(find(&environment, None), Some(Password::new("from passfile")));
        environment.passfile = None;
        assert_eq!(find(&environment, None), None);
    }

    #[test]
    fn the_passfile_in_the_home_folder_is_optional() {
        let home = tempfile::tempdir().expect("a folder");
        let environment = Environment { home: Some(home.path().into()), ..Environment::default() };
        assert_eq!(Password::find_in(&environment, &url(), None).expect("no error"), None);
        write_private(&home.path().join(".pgpass"), "*:*:*:*:pw");
        assert_eq!(Password::find_in(&environment, &url(), None).expect("no error"), Some(Password::new("pw")));
    }

    #[cfg(unix)]
    #[test]
    fn a_passfile_that_others_can_read_is_refused_without_showing_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("passfile");
        write_private(&path, "*:*:*:*:hunter2");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode set");
        let environment = Environment { passfile: Some(path), ..Environment::default() };
        let error = Password::find_in(&environment, &url(), None).expect_err("refused");
        assert_eq!(error.code(), Code::SourceAuth);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_password_is_never_printed() {
        assert_eq!(format!("{:?}", Some(Password::new("hunter2"))), "Some(Password(…))");
    }

    fn write_private(path: &Path, text: &str) {
        fs::write(path, text).expect("written");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("mode set");
        }
    }
}
