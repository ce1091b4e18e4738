//! One run of `scripts/lab.sh run`: it stops its servers when our end of its input closes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Servers that live as long as this value, or as this process if it is killed.
pub struct Servers {
    environment: BTreeMap<String, String>,
    script: Child,
    input: Option<ChildStdin>,
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
        let input = script.stdin.take();
        let output = BufReader::new(script.stdout.take().expect("the output is a pipe"));
        let mut environment = BTreeMap::new();
        for line in output.lines().map_while(Result::ok) {
            if line == "ready" {
                return Servers { environment, script, input };
            }
            if let Some((name, value)) = line.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        drop(input);
        let status = script.wait().expect("the script ends");
        panic!("`scripts/lab.sh run {}` ended with {status}; what it said is above", what.join(" "));
    }

    /// A line of the environment that the script printed, such as `GIMBAL_TEST_KAFKA`.
    pub fn get(&self, name: &str) -> &str {
        self.environment.get(name).unwrap_or_else(|| panic!("`scripts/lab.sh` printed no `{name}`"))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.script.wait();
    }
}
