//! Real servers for tests, started by `scripts/lab.sh` and gone when the test binary is, killed or not.
//!
//! ```text
//!  lab::postgres()   one shared cluster; each test makes its own database on it
//!  lab::kafka()      one shared broker;  each test makes its own topics
//!  lab::registry()   one shared schema registry
//!  Postgres::start   a private cluster, for tests that set, stop or crash the server
//!  lab::client       a client program of PostgreSQL
//!  lab::python       a script in the project's Python environment: a reader that gimbal did not write
//! ```
//!
//! The shared ones start on first use. With `GIMBAL_TEST_PG`, `GIMBAL_TEST_KAFKA` or `GIMBAL_TEST_REGISTRY` in the
//! environment (`eval "$(scripts/lab.sh start --for $$ pg kafka registry)"`) those servers are used instead, which
//! saves their start while one test is being written. With `GIMBAL_TEST_PG_BIN` all clusters are of the major whose
//! programs are there; `make test-matrix` sets it.
#![allow(dead_code, reason = "a set of tools: not every test uses every one")]

mod kafka;
mod postgres;
mod programs;
mod python;
mod servers;
mod sql;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "as above")]
pub use self::{
    kafka::{Kafka, Registry, kafka, registry},
    postgres::{Database, Options, Postgres, postgres},
    programs::{client, in_matrix, lacks, server_programs},
    python::{python, python_command, python_inline},
    servers::Servers,
    sql::Sql,
};

/// Pause between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The repository's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `scripts/setup.sh` put the downloads.
pub fn lab_folder() -> PathBuf {
    std::env::var_os("GIMBAL_LAB").map_or_else(|| root().join(".lab"), PathBuf::from)
}

/// A port of 127.0.0.1 on which nobody listens right now.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a listener has an address").port()
}

/// Polls until there is an answer; panics with `what` when the deadline passes.
pub fn eventually<T>(what: &str, deadline: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A command whose process is killed when the thread that spawns it ends, and so also when the test binary is killed.
///
/// It is the program's own process (its id is the child's id), so it can be signalled. Spawn it from the test that
/// uses it, not from a `static`.
pub fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    tied_by("KILL", program)
}

/// As [`tied`], with another signal than KILL.
fn tied_by(signal: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal, "--"]).arg(program);
    command
}
