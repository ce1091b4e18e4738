//! Programs of PostgreSQL: the server's of a chosen major, and clients, which not every build of a server has.

use std::path::{Path, PathBuf};
use std::process::Command;

/// True while `make test-matrix` runs, where the server may have come without the clients of its major.
pub fn in_matrix() -> bool {
    std::env::var_os("GIMBAL_TEST_MATRIX").is_some()
}

/// The folder of the server under test: `GIMBAL_TEST_PG_BIN`, or the newest major that is installed.
pub fn server_programs() -> PathBuf {
    std::env::var_os("GIMBAL_TEST_PG_BIN").filter(|bin| !bin.is_empty()).map_or_else(installed, PathBuf::from)
}

/// The newest major that is installed, as `pg_bin` of `scripts/common.sh` finds it.
pub fn installed() -> PathBuf {
    let majors = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let majors = majors.filter_map(|entry| {
        let major = entry.file_name().to_str()?.parse::<u32>().ok()?;
        Some((major, entry.path().join("bin"))).filter(|(_, bin)| bin.join("initdb").exists())
    });
    majors.max().map_or_else(by_pg_config, |(_, bin)| bin)
}

fn by_pg_config() -> PathBuf {
    let output = Command::new("pg_config").arg("--bindir").output().expect("PostgreSQL is here: scripts/setup.sh pg");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// A client for a server: the one of its own folder, or else an installed one. Most clients speak to every major; for one
/// that does not, ask [`lacks`] first.
pub fn client(bin: &Path, name: &str) -> PathBuf {
    let own = bin.join(name);
    if own.exists() { own } else { installed().join(name) }
}

/// True if there is no `program` as new as the server: the calling test cannot run. It is said on its output, which
/// `make test-matrix` reads, and elsewhere it is a failure.
pub fn lacks(bin: &Path, program: &str) -> bool {
    let (needed, found) = (major(&bin.join("postgres")), major(&client(bin, program)));
    if found >= needed {
        return false;
    }
    assert!(in_matrix(), "`{program}` of PostgreSQL {needed} is missing, the installed one is of {found}");
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("not run: {test}: needs {program} of PostgreSQL {needed}, here is {found}");
    true
}

/// `postgres (PostgreSQL) 17.7`
fn major(program: &Path) -> u32 {
    let output =
        Command::new(program).arg("--version").output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let digits = version.and_then(|version| version.split(|c: char| !c.is_ascii_digit()).next());
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("{}: no version in `{said}`", program.display()))
}
