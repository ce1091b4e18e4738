//! The project as it was at a commit, read by the `git` program.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::config::Config;
use crate::contract::Sources;
use crate::diagnostic::SourceText;
use crate::error::{Code, Error, Result};

/// Most files that are read of one folder: a wrong path must not be read through.
const FILES_MAX: usize = 20_000;

/// Reads contracts and schemas as they were at `reference`: a commit, a branch, a tag. A folder that was not there yet is
/// empty. Without git, outside a repository or for an unknown reference: [`Code::ReferenceUnknown`].
pub fn read(config: &Config, reference: &str) -> Result<Sources> {
    let commit = commit(&config.contracts, reference)?;
    let mut sources = Sources::default();
    for (path, text) in files(&config.contracts, &commit, reference)? {
        if !path.contains('/') && (path.ends_with(".yaml") || path.ends_with(".yml")) {
            let name = format!("{} at {reference}", config.contracts.join(&path).display());
            sources.contracts.push(SourceText::new(name, text));
        }
    }
    for (path, text) in files(&config.schemas, &commit, reference)? {
        if path.ends_with(".avsc") {
            let name = format!("{} at {reference}", config.schemas.join(&path).display());
            sources.schemas.insert(path, SourceText::new(name, text));
        }
    }
    Ok(sources)
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    // Inside a hook git sets these, relative to a folder that is not this one; the folder itself says which repository.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command.arg("-C").arg(folder).stdin(Stdio::null());
    command
}

fn no_git(error: &std::io::Error) -> Error {
    let hint = "`--against` compares with what git holds: install git, or leave `--against` out";
    Error::definite(Code::ReferenceUnknown, format!("cannot run `git`: {error}")).hint(hint)
}

fn refused(what: &str, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("").trim_start_matches("fatal: ").to_owned();
    Error::definite(Code::ReferenceUnknown, format!("{what}: {said}"))
}

/// The commit's id.
fn commit(folder: &Path, reference: &str) -> Result<String> {
    let inside = git(folder).args(["rev-parse", "--is-inside-work-tree"]).output().map_err(|e| no_git(&e))?;
    if !inside.status.success() {
        let what = format!("`{}` is in no git repository", folder.display());
        return Err(refused(&what, &inside).hint("run it in a clone of the repository that holds the contracts"));
    }
    let wanted = format!("{reference}^{{commit}}");
    let arguments = ["rev-parse", "--verify", "--end-of-options", &wanted];
    let found = git(folder).args(arguments).output().map_err(|e| no_git(&e))?;
    if !found.status.success() {
        let hint = "name a commit, branch or tag that is here, such as `origin/main`; a shallow clone may lack it: \
                    `git fetch --depth 1 origin main`";
        return Err(refused(&format!("git knows no commit `{reference}`"), &found).hint(hint));
    }
    Ok(String::from_utf8_lossy(&found.stdout).trim().to_owned())
}

/// All files below a folder at a commit: path below the folder, with `/`, and text. Hidden ones are left out.
fn files(folder: &Path, commit: &str, reference: &str) -> Result<Vec<(String, String)>> {
    let listed = git(folder).args(["ls-tree", "-r", "-z", commit]).output().map_err(|e| no_git(&e))?;
    if !listed.status.success() {
        return Err(refused(&format!("git cannot list `{}` at `{reference}`", folder.display()), &listed));
    }
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut wanted: Vec<(String, String)> = Vec::new();
    for entry in text.split('\0').filter(|entry| !entry.is_empty()) {
        let Some((head, path)) = entry.split_once('\t') else { continue };
        let mut words = head.split(' ').skip(1);
        let (Some("blob"), Some(id)) = (words.next(), words.next()) else { continue };
        if path.split('/').any(|part| part.starts_with('.')) {
            continue;
        }
        if [".yaml", ".yml", ".avsc"].iter().any(|end| path.ends_with(end)) {
            wanted.push((path.to_owned(), id.to_owned()));
        }
    }
    if wanted.len() > FILES_MAX {
        let message = format!("more than {FILES_MAX} files in `{}` at `{reference}`", folder.display());
        return Err(Error::definite(Code::ReferenceUnknown, message));
    }
    wanted.sort();
    contents(folder, wanted)
}

/// The texts of blobs, by one process.
fn contents(folder: &Path, wanted: Vec<(String, String)>) -> Result<Vec<(String, String)>> {
    let broken = |error: std::io::Error| Error::definite(Code::ReferenceUnknown, format!("reading from git: {error}"));
    let mut child = git(folder)
        .args(["cat-file", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| no_git(&e))?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::definite(Code::Internal, "git was started without pipes"));
    };
    let mut output = BufReader::new(output);
    let mut found = Vec::new();
    for (path, id) in wanted {
        // One question, one answer: so neither pipe fills up while the other is waited for.
        writeln!(input, "{id}").and_then(|()| input.flush()).map_err(broken)?;
        let mut head = String::new();
        output.read_line(&mut head).map_err(broken)?;
        let size = head.trim_end().rsplit(' ').next().and_then(|text| text.parse::<usize>().ok());
        let Some(size) = size else {
            return Err(Error::definite(
                Code::ReferenceUnknown,
                format!("git does not show `{path}`: {}", head.trim()),
            ));
        };
        let mut text = vec![0; size + 1];
        output.read_exact(&mut text).map_err(broken)?;
        text.pop();
        found.push((path, String::from_utf8_lossy(&text).into_owned()));
    }
    drop(input);
    child.wait().map_err(broken)?;
    Ok(found)
}
