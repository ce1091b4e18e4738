//! A project as a user sets it up, with the program as processes: started, killed, asked, and read from outside.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::time::{Duration, Instant};

use gimbal::killpoint::VARIABLE;
use serde_json::Value as Json;
use tempfile::TempDir;

use super::checker::Record;
use crate::lab;

/// Longest that a command other than `run` may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

/// Where the topics are.
#[derive(Clone, Debug)]
pub enum Sink {
    Files,
    Kafka { bootstrap: String, registry: String },
}

/// A folder with a config, and what `init` adds.
pub struct Project {
    folder: TempDir,
    pipeline: String,
    listen: u16,
    source: String,
    sink: Sink,
}

/// What a reader got.
pub struct Read {
    /// The checkpoint's entries by key.
    pub state: Json,
    /// In the order of delivery, topic after topic.
    pub records: Vec<Record>,
}

impl Project {
    /// Writes the config of a new pipeline.
    pub fn new(pipeline: &str, source: &str, sink: Sink) -> Project {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let project =
            Project { folder, pipeline: pipeline.into(), listen: lab::free_port(), source: source.into(), sink };
        project.configure("gimbal.yaml", "topics", project.listen);
        project
    }

    /// Writes a config file: the same pipeline and slot, perhaps with other files and another port.
    pub fn configure(&self, name: &str, topics: &str, listen: u16) {
        let sink = match &self.sink {
            Sink::Files => format!("sink: {{files: {{path: {topics}}}}}\nregistry: embedded"),
            Sink::Kafka { bootstrap, registry } => {
                format!("sink: {{kafka: {{bootstrap: \"{bootstrap}\"}}}}\nregistry: {{url: \"{registry}\"}}")
            }
        };
        let Project { pipeline, source, .. } = self;
        let text = format!("pipeline: {pipeline}\nsource: {{url: \"{source}\"}}\n{sink}\nlisten: 127.0.0.1:{listen}\n");
        std::fs::write(self.path(name), text).expect("the folder is writable");
    }

    /// Adds a key for sealing to the config; `init` makes it.
    pub fn seal(&self) {
        let path = self.path("gimbal.yaml");
        let text = std::fs::read_to_string(&path).expect("a config");
        std::fs::write(&path, text + "keys: {seal: {file: state/seal.key}}\n").expect("the folder is writable");
    }

    /// The records that `tail` prints.
    pub fn tail(&self, topic: &str, arguments: &[&str]) -> Vec<Json> {
        let printed = self.must(&[&["tail", topic, "--format", "json"], arguments].concat());
        printed.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// The topic of a table's drafted contract.
    pub fn topic(&self, table: &str) -> String {
        format!("{}.{table}.v1", self.pipeline)
    }

    /// Drafts contracts for tables and sets up the source for them.
    pub fn add(&self, tables: &[&str]) {
        let names: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
        self.must(&["init", "--source", &self.source, "--tables", &names.join(",")]);
        self.must(&["install"]);
    }

    /// Runs a command that must succeed.
    pub fn must(&self, arguments: &[&str]) -> String {
        let output = self.gimbal(arguments);
        assert!(output.status.success(), "`gimbal {}`: {}", arguments.join(" "), said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command to its end.
    pub fn gimbal(&self, arguments: &[&str]) -> Output {
        let seconds = COMMAND_DEADLINE.as_secs().to_string();
        let mut command = lab::tied("timeout");
        command.args(["--kill-after=1", &seconds, env!("CARGO_BIN_EXE_gimbal")]).args(arguments);
        command.current_dir(self.folder.path()).output().expect("setpriv starts")
    }

    /// Starts the daemon, perhaps armed to die at a kill point.
    pub fn start(&self, arguments: &[&str], kill_at: Option<&str>) -> Daemon {
        let log = self.path("daemon.log");
        let file = File::options().create(true).append(true).open(&log).expect("the folder is writable");
        let begin = file.metadata().expect("the log is there").len();
        let mut command = lab::tied(env!("CARGO_BIN_EXE_gimbal"));
        command.arg("run").args(arguments).current_dir(self.folder.path());
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        if let Some(point) = kill_at {
            command.env(VARIABLE, point);
        }
        let child = command.spawn().expect("setpriv starts");
        Daemon { child, log, begin, listen: self.listen }
    }

    /// Reads everything with code that gimbal did not write.
    pub fn read(&self, tables: &[&str]) -> Read {
        let topics: Vec<String> = tables.iter().map(|table| self.topic(table)).collect();
        let folder = self.path("topics").to_string_lossy().into_owned();
        let state_topic = format!("__gimbal.{}.state", self.pipeline);
        let mut arguments = match &self.sink {
            Sink::Files => vec!["files", &folder],
            Sink::Kafka { bootstrap, registry } => vec!["kafka", bootstrap, registry, &state_topic],
        };
        arguments.extend(topics.iter().map(String::as_str));
        let printed = lab::python("py/read_committed.py", &arguments);
        let mut lines = printed.lines().map(|line| serde_json::from_str::<Json>(line).expect("a JSON line"));
        let state = lines.next().map(|mut line| line["state"].take()).expect("the state comes first");
        Read { state, records: lines.map(record).collect() }
    }
}

fn record(mut line: Json) -> Record {
    let key = line["key"].as_object().expect("a key is a record");
    let part = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let key = key.values().map(part).collect::<Vec<_>>().join(",");
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let (topic, op, pos) = (text("topic"), text("op"), text("pos"));
    Record {
        topic,
        partition: line["partition"].as_i64().unwrap_or(-1),
        key,
        op: op.chars().next().unwrap_or('?'),
        pos,
        ts: line["ts"].as_i64().unwrap_or(-1),
        last: line["last"].as_bool().unwrap_or_default(),
        value: Some(line["value"].take()).filter(|value| !value.is_null()),
    }
}

/// What a command printed.
pub fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// A running daemon. It is killed when this is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    begin: u64,
    listen: u16,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, "--", &pid]).status().expect("kill starts");
        assert!(sent.success(), "signal {name} to {pid}: {sent}");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<End> {
        let status = self.child.try_wait().expect("our own child")?;
        Some(match status.code() {
            Some(code) => End::Exit(code),
            None => End::Signal(status.signal().unwrap_or_default()),
        })
    }

    /// Waits until it ends by itself; panics with its log if it does not in time.
    pub fn wait(&mut self, deadline: Duration) -> End {
        let end = Instant::now() + deadline;
        let ended = lab::eventually("the daemon ends or its time is up", deadline * 2, || {
            self.ended().map(Some).or_else(|| (Instant::now() > end).then_some(None))
        });
        ended.unwrap_or_else(|| panic!("the daemon did not end within {deadline:?}:\n{}", self.log()))
    }

    /// Waits until it ends well.
    pub fn finish(mut self, deadline: Duration) {
        let end = self.wait(deadline);
        assert_eq!(end, End::Exit(0), "{}", self.log());
    }

    pub fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// What it wrote since it was started.
    pub fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(text.get(self.begin as usize..).unwrap_or_default()).into_owned()
    }

    /// What `/status` says; `None` while nobody listens.
    pub fn status(&self) -> Option<Json> {
        serde_json::from_str(&self.get("/status")?).ok()
    }

    /// What it answers under a path; `None` while nobody listens.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.listen)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    /// Records published by this process, over all contracts.
    pub fn records(&self) -> u64 {
        let status = self.status().unwrap_or_default();
        let contracts = status["contracts"].as_array().cloned().unwrap_or_default();
        contracts.iter().filter_map(|contract| contract["records"].as_u64()).sum()
    }

    /// Waits until status satisfies a condition; panics with the log if the daemon ends or the time is up.
    pub fn until(&mut self, what: &str, deadline: Duration, condition: impl Fn(&Json) -> bool) -> Json {
        let end = Instant::now() + deadline;
        lab::eventually(what, deadline * 2, || {
            let over = self.ended();
            let status = self.status();
            let in_time = over.is_none() && Instant::now() < end;
            assert!(in_time, "{what}: {over:?}, {}\n{}", status.unwrap_or_default(), self.log());
            status.filter(&condition)
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True if every contract is past its snapshot.
pub fn live(status: &Json) -> bool {
    let contracts = status["contracts"].as_array().cloned().unwrap_or_default();
    !contracts.is_empty() && contracts.iter().all(|contract| contract["state"] == "live")
}

/// The position in the committed checkpoint of a folder of file topics.
pub fn checkpoint(folder: &Path) -> Json {
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let manifest: Json = serde_json::from_str(&text).expect("a manifest is JSON");
    let sealed = manifest["state"]["position"].as_str().expect("a position");
    serde_json::from_str::<Json>(sealed).expect("a sealed entry is JSON")["data"].take()
}
