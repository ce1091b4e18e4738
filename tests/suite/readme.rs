//! The README's commands and programs, run as they stand there, against real servers.
//!
//! A comment above a fenced block says what it is:
//!
//! ```text
//!  <!-- run: files -->             is run (sh or python), in order, in one folder; it must succeed
//!  <!-- run: files background -->  is started; what follows waits until the daemon is level
//!  <!-- run: files eventually -->  is run again until it prints what is shown: it only reads
//!  <!-- run: kafka … -->           the same, with a broker and a registry
//!  <!-- prints -->                 is what the block before it prints: these lines, in this order, among others
//!  <!-- file: PATH -->             is in that file: these lines, in this order, among others
//! ```
//!
//! In what is printed `…` stands for anything, and blanks count as one.

mod blocks;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;

use self::blocks::{Block, Purpose, blocks, missing_line};
use crate::lab::{self, eventually};

/// How long a daemon may take to be level, and a block to print what is shown.
const PATIENCE: Duration = Duration::from_secs(60);

/// The database of the README.
const DATABASE: &str = "bookshop";

#[test]
fn everything_in_the_readme_runs_as_it_stands_there() {
    let text = std::fs::read_to_string(lab::root().join("README.md")).expect("README.md is there");
    let mut reader = Reader::new();
    for block in blocks(&text) {
        reader.follow(&block);
    }
    assert!(reader.ran >= 12, "only {} blocks were run", reader.ran);
    reader.metrics_are_those_that_are_documented();
}

#[test]
fn every_program_in_the_readme_is_run_but_for_names_of_servers() {
    let text = std::fs::read_to_string(lab::root().join("README.md")).expect("README.md is there");
    for block in blocks(&text).iter().filter(|block| matches!(block.language.as_str(), "sh" | "python")) {
        let runs = matches!(block.purpose, Purpose::Run { .. });
        assert!(runs || block.text.lines().all(|line| line.starts_with("export ")), "not run:\n{}", block.text);
    }
}

/// Tells what is new; the message of a deadline knows only what was expected.
fn changed(last: String, now: String) -> String {
    if last != now {
        eprintln!("{now}");
    }
    now
}

/// Someone who follows the README, on servers of their own.
struct Reader {
    server: lab::Postgres,
    kafka: Option<lab::Kafka>,
    folder: tempfile::TempDir,
    daemons: Vec<Daemon>,
    /// What the last block printed, and how to run it again if that only reads.
    printed: String,
    again: Option<Block>,
    ran: usize,
}

/// A daemon that was started from a block; killed when the test ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Reader {
    fn new() -> Reader {
        let server = lab::Postgres::start(lab::Options::default());
        // The README's role has a password, and it must be the one that lets it in.
        server.host_based_authentication("host all gimbal 127.0.0.1/32 scram-sha-256");
        server.sql().run(&format!("create database {DATABASE}"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        Reader { server, kafka: None, folder, daemons: Vec::new(), printed: String::new(), again: None, ran: 0 }
    }

    fn follow(&mut self, block: &Block) {
        match &block.purpose {
            Purpose::Run { group, mode } => {
                if group == "kafka" && self.kafka.is_none() {
                    // Its own: what an earlier run left in a shared one would be another pipeline's.
                    self.kafka = Some(lab::Kafka::start(&[]));
                }
                self.ran += 1;
                match mode.as_str() {
                    "background" => self.start(block),
                    _ => {
                        self.printed = self.run(block).unwrap_or_else(|error| panic!("{error}\n{}", block.text));
                        self.own_ports();
                        self.again = (mode == "eventually").then(|| block.clone());
                    }
                }
            }
            Purpose::Prints => self.compare(block),
            Purpose::File(path) => {
                let path = self.folder.path().join(path);
                let content = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                if let Some(line) = missing_line(&block.text, &content) {
                    panic!("`{}` has no line `{line}` in its place:\n{content}", path.display());
                }
            }
            Purpose::None => {}
        }
    }

    fn compare(&mut self, shown: &Block) {
        let Some(again) = self.again.clone() else {
            let missing = missing_line(&shown.text, &self.printed);
            assert!(missing.is_none(), "not printed: `{}`\n{}", missing.unwrap_or_default(), self.printed);
            return;
        };
        let mut last = self.printed.clone();
        eventually(&format!("it prints\n{}", shown.text), PATIENCE, || {
            if missing_line(&shown.text, &last).is_none() {
                return Some(());
            }
            last = changed(last.clone(), self.run(&again).unwrap_or_else(|error| error));
            None
        });
    }

    /// Runs a block to its end; gives what it printed.
    fn run(&self, block: &Block) -> Result<String, String> {
        let mut command = match block.language.as_str() {
            "python" => lab::python_inline(&block.text, &[]),
            _ => {
                let mut bash = lab::tied("bash");
                bash.args(["-euo", "pipefail", "-c", &block.text]);
                bash
            }
        };
        let output = self.at_home(&mut command).stdin(Stdio::null()).output().expect("setpriv starts");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(printed),
            false => {
                Err(format!("ended with {}:\n{printed}{}", output.status, String::from_utf8_lossy(&output.stderr)))
            }
        }
    }

    /// Starts a daemon, and waits until what was in the tables is in the topics.
    fn start(&mut self, block: &Block) {
        let text = block.text.trim();
        let mut command = lab::tied("bash");
        command.args(["-c", &format!("exec {text}")]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = Daemon(self.at_home(&mut command).spawn().expect("setpriv starts"));
        let program = text.strip_suffix(" run").expect("a daemon is started by `run`");
        let ask = Block { text: format!("{program} status --format json"), ..block.clone() };
        let mut last = String::new();
        eventually("the daemon is level", PATIENCE, || {
            let ended = child.0.try_wait().expect("it is our child");
            assert!(ended.is_none(), "`{text}` ended: {ended:?}");
            last = changed(std::mem::take(&mut last), self.run(&ask).unwrap_or_else(|error| error));
            let status: Json = serde_json::from_str(&last).ok()?;
            let position = status["position"].as_str()?;
            let level = |contract: &Json| contract["since"].as_str().is_some_and(|since| since <= position);
            let contracts = status["contracts"].as_array()?;
            (!contracts.is_empty() && contracts.iter().all(level)).then_some(())
        });
        self.daemons.push(child);
    }

    /// A daemon is running anyway.
    fn metrics_are_those_that_are_documented(&self) {
        let curl = Block {
            language: "sh".into(),
            text: "curl -fsS http://$GIMBAL_LISTEN/metrics".into(),
            purpose: Purpose::None,
        };
        let text = self.run(&curl).unwrap_or_else(|error| panic!("{error}"));
        // A counter's samples are called `…_total`, its family is not.
        let family = |line: &str| match line.strip_prefix("# TYPE ")?.split_once(' ')? {
            (name, "counter") => Some(format!("{name}_total")),
            (name, _) => Some(name.to_owned()),
        };
        let served: BTreeSet<String> = text.lines().filter_map(family).collect();
        let page =
            std::fs::read_to_string(lab::root().join("docs/operations.md")).expect("docs/operations.md is there");
        let named = |line: &str| Some(line.strip_prefix("| `gimbal_")?.split_once('`')?.0.to_owned());
        let documented: BTreeSet<String> =
            page.lines().filter_map(named).map(|rest| format!("gimbal_{rest}")).collect();
        assert_eq!(served, documented, "docs/operations.md");
    }

    /// The README's ports may be taken here.
    fn own_ports(&self) {
        for name in ["gimbal.yaml", "kafka.yaml"] {
            let path = self.folder.path().join(name);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let port = |number: u16| format!("listen: 127.0.0.1:{number}");
            let mut own = text.clone();
            for number in [8642, 8643] {
                own = own.replace(&port(number), &port(lab::free_port()));
            }
            std::fs::write(&path, own).expect("the folder is writable");
        }
    }

    /// `host:port` of the first daemon, once there is a config.
    fn listen(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("gimbal.yaml")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("listen: "));
        line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned()
    }

    fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let program = Path::new(env!("CARGO_BIN_EXE_gimbal")).parent().expect("the program is in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let kafka = self.kafka.as_ref();
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("PATH", format!("{}:{path}", program.display()))
            .envs([("PGHOST", "127.0.0.1"), ("PGUSER", "postgres"), ("PGDATABASE", DATABASE)])
            .env("PGPORT", self.server.port().to_string())
            .envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")])
            .env("GIMBAL_LISTEN", self.listen())
            .env("BOOTSTRAP", kafka.map_or("", lab::Kafka::bootstrap))
            .env("REGISTRY", kafka.map_or("", |_| lab::registry().url()))
            .env_remove("PGPASSWORD")
            .env_remove("PGPASSFILE")
            .env_remove("GIMBAL_CONFIG")
    }
}
