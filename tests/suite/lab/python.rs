//! Python scripts in the project's own environment: code that gimbal did not write reads what gimbal wrote.

use std::process::Command;

use super::{lab_folder, root, tied_by};

/// Longest that a script may run. A hung one must not hold the suite for ever.
const SECONDS_MAX: &str = "180";

/// Runs a script (its path under `tests/`) and returns what it printed; panics with that if it fails.
pub fn python(script: &str, arguments: &[&str]) -> String {
    let output = python_command(script, arguments).output().expect("setpriv starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{script}` ended with {}:\n{printed}{complaints}", output.status);
    printed
}

/// The command that [`python`] runs, for tests that add an environment or look at the output themselves.
pub fn python_command(script: &str, arguments: &[&str]) -> Command {
    let mut command = interpreter();
    command.arg(root().join("tests").join(script)).args(arguments);
    command
}

/// A command for a program that is given as text.
pub fn python_inline(program: &str, arguments: &[&str]) -> Command {
    let mut command = interpreter();
    command.args(["-c", program]).args(arguments);
    command
}

fn interpreter() -> Command {
    let interpreter = lab_folder().join("venv/bin/python");
    assert!(interpreter.exists(), "no Python environment here: run scripts/setup.sh python");
    // `timeout` passes TERM on to the interpreter; it could not pass on KILL.
    let mut command = tied_by("TERM", "timeout");
    command.args(["--kill-after=5", SECONDS_MAX]).arg(interpreter).args(["-u", "-B"]);
    command
}
