//! This machine: the topics' folder and its disk, the port of the API, the files of secrets.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::facts::{Facts, Folder, SinkFacts};
use super::report::{Finding, Fix};
use super::server::size;
use crate::config::SecretSource;
use crate::error::Code;

/// Free room below which the topics' disk is nearly full: an error, and a warning.
const FREE_ERROR: u64 = 256 << 20;
const FREE_WARNING: u64 = 2 << 30;

/// All checks of the machine.
pub(super) fn check(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let SinkFacts::Folder(folder) = &facts.sink {
        findings.extend(self::folder(folder, facts));
    }
    findings.extend(listen(facts));
    findings.extend(secrets(facts));
    findings
}

/// What stands against listening there, if anything.
pub(super) fn try_listen(address: SocketAddr) -> Option<String> {
    TcpListener::bind(address).err().map(|error| error.to_string())
}

fn folder(folder: &Folder, facts: &Facts<'_>) -> Vec<Finding> {
    let path = folder.path.display();
    let nearest = folder.nearest.display();
    let mut findings = Vec::new();
    if folder.exists && !folder.is_folder {
        let what = format!("`{path}` is to be the topics' folder, and is a file");
        let fix = Fix::Shell(format!("mv '{path}' '{path}.moved' && mkdir '{path}'"));
        return vec![Finding::error("sink-folder", Code::SinkRefused, what, fix)];
    }
    if !folder.writable {
        let what = format!("the topics go to `{path}`, and this user may not write in `{nearest}`");
        let fix = Fix::Shell(format!("sudo chown \"$(id -u)\" '{nearest}' && chmod u+rwx '{nearest}'"));
        findings.push(Finding::error("sink-folder", Code::SinkRefused, what, fix));
    }
    findings.extend(disk(folder));
    if let (Some(pid), false) = (folder.holder, facts.daemon_runs()) {
        let what = format!(
            "process {pid} holds `{path}`, and no daemon of this pipeline answers at `{}`",
            facts.config.listen
        );
        findings.push(Finding::error("sink-held", Code::SinkHeld, what, Fix::Shell(format!("kill {pid}"))));
    }
    if let Some(Err(error)) = &folder.state {
        findings.push(Finding::of_error("sink-damaged", error));
    }
    findings
}

fn disk(folder: &Folder) -> Option<Finding> {
    let free = folder.free.filter(|free| *free < FREE_WARNING)?;
    let what =
        format!("the disk of `{}` has {} free: the daemon stops when it is full", folder.path.display(), size(free));
    let fix = Fix::Advice("free space there, or name a folder on another disk in a new pipeline".into());
    Some(match free < FREE_ERROR {
        true => Finding::error("sink-disk", Code::SinkDiskLow, what, fix),
        false => Finding::warning("sink-disk", Code::SinkDiskLow, what, fix),
    })
}

fn listen(facts: &Facts<'_>) -> Option<Finding> {
    let address = facts.config.listen;
    let what = match (&facts.daemon, &facts.listen) {
        (Some(pipeline), _) if *pipeline != facts.config.pipeline => {
            format!(
                "the daemon of pipeline `{pipeline}` listens at `{address}`, where this one's `{}` should",
                facts.config.pipeline
            )
        }
        (None, Some(problem)) => format!("the daemon cannot listen at `{address}`: {problem}"),
        _ => return None,
    };
    // The kernel names a port that is free now.
    let free = TcpListener::bind((address.ip(), 0)).and_then(|socket| socket.local_addr()).ok();
    let fix = match free {
        Some(free) => Fix::Config { key: "listen".into(), value: free.to_string() },
        None => Fix::Config { key: "listen".into(), value: format!("127.0.0.1:{}", address.port()) },
    };
    Some(Finding::error("listen", Code::Io, what, fix))
}

/// Files of secrets must be there, and for their owner alone.
fn secrets(facts: &Facts<'_>) -> Vec<Finding> {
    let config = facts.config;
    let keys = config.keys.iter().map(|(name, source)| (format!("`keys.{name}`"), source));
    let token = config.api_token.iter().map(|source| ("`api_token`".to_owned(), source));
    let mut files: Vec<(String, &Path)> = Vec::new();
    let mut findings = Vec::new();
    for (what, source) in keys.chain(token) {
        match source {
            SecretSource::File(path) => files.push((what, path)),
            SecretSource::Env(name) if std::env::var_os(name).is_none() => {
                let text = format!("{what} is in the environment variable `{name}`, which is not set here");
                let fix = Fix::Advice(format!("set `{name}` where the daemon starts"));
                findings.push(Finding::warning("secret-missing", Code::ConfigInvalid, text, fix));
            }
            SecretSource::Env(_) => {}
        }
    }
    files.extend(config.source.password_file.iter().map(|path| ("`source.password_file`".to_owned(), path.as_path())));
    findings.extend(files.into_iter().filter_map(|(what, path)| secret_file(&what, path)));
    findings
}

fn secret_file(what: &str, path: &Path) -> Option<Finding> {
    let shown = path.display();
    let mode = match std::fs::metadata(path) {
        Err(error) => {
            let text = format!("{what} is in `{shown}`, which cannot be read: {error}");
            let fix = Fix::Shell(format!(
                "(umask 077 && mkdir -p \"$(dirname '{shown}')\" && openssl rand -hex -out '{shown}' 32)"
            ));
            // A new password would be no password of the role.
            let fix = if what.contains("password") { Fix::Advice("write the password into it".into()) } else { fix };
            return Some(Finding::error("secret-missing", Code::Io, text, fix));
        }
        Ok(about) => about.permissions().mode() & 0o777,
    };
    (mode & 0o077 != 0).then(|| {
        let text = format!("{what} is in `{shown}`, which others can read (mode {mode:03o}, must be 600)");
        Finding::error("secret-mode", Code::Io, text, Fix::Shell(format!("chmod 600 '{shown}'")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Severity;

    #[test]
    fn a_disk_is_a_warning_when_it_fills_up_and_an_error_before_it_is_full() {
        let with = |free: Option<u64>| {
            disk(&Folder {
                path: "topics".into(),
                exists: true,
                is_folder: true,
                nearest: "topics".into(),
                writable: true,
                free,
                holder: None,
                state: None,
            })
        };
        for (free, severity) in [
            (Some(FREE_WARNING), None),
            (Some(FREE_WARNING - 1), Some(Severity::Warning)),
            (Some(FREE_ERROR - 1), Some(Severity::Error)),
            (None, None),
        ] {
            assert_eq!(with(free).map(|finding| finding.severity), severity, "{free:?}");
        }
    }
}
