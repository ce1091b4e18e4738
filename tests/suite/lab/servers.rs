//! One run of `scripts/lab.sh run`: it stops its servers when our end of its input closes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// Servers that live as long as this value, or as this process if it is killed.
pub struct Servers {
    environment: BTreeMap<String, String>,
    script: Child,
    pipes: Option<Mutex<Pipes>>,
}

/// Commands to the script, and its answers.
struct Pipes {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Servers {
    /// Starts `pg`, `kafka` or `registry` and waits until they answer. `settings` are the script's variables.
    pub fn run(what: &[&str], settings: &[(&str, &str)]) -> Servers {
        let mut script = Command::new("bash")
            .arg(super::root().join("scripts/lab.sh"))
            .arg("run")
            .args(what)
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A signal for the group of the test run must not kill the script before it has cleaned up.
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let input = script.stdin.take().expect("the input is a pipe");
        let mut output = BufReader::new(script.stdout.take().expect("the output is a pipe"));
        let mut environment = BTreeMap::new();
        for line in output.by_ref().lines().map_while(Result::ok) {
            if line == "ready" {
                return Servers { environment, script, pipes: Some(Mutex::new(Pipes { input, output })) };
            }
            if let Some((name, value)) = line.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        drop(input);
        let status = script.wait().expect("the script ends");
        panic!("`scripts/lab.sh run {}` ended with {status}; what it said is above", what.join(" "));
    }

    /// Gives the script a command, such as `kill kafka`, and waits until it is done.
    pub fn command(&self, command: &str) {
        let mut pipes = self.pipes.as_ref().expect("the servers run").lock().expect("no command panicked");
        writeln!(pipes.input, "{command}").expect("the script reads");
        let done = pipes.output.by_ref().lines().map_while(Result::ok).any(|line| line == "ready");
        assert!(done, "the script ended at `{command}`; what it said is above");
    }

    /// A line of the environment that the script printed, such as `GIMBAL_TEST_KAFKA`.
    pub fn get(&self, name: &str) -> &str {
        self.environment.get(name).unwrap_or_else(|| panic!("`scripts/lab.sh` printed no `{name}`"))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.pipes.take());
        let _ = self.script.wait();
    }
}
