//! A project for one table, and servers whose history can be broken.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gimbal::error::Code;
use serde_json::Value as Json;

use crate::crash::project::{End, Project, Sink, said};
use crate::lab::{self, Postgres, Sql};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Table `t` with rows 1 to 20, and a pipeline for it, installed.
pub struct Scene {
    pub name: String,
    pub project: Project,
}

impl Scene {
    pub fn new(server: &Postgres, name: &str) -> Scene {
        Scene::with(server, name, Sink::Files)
    }

    pub fn with(server: &Postgres, name: &str, sink: Sink) -> Scene {
        let database = server.fresh_database(name);
        database
            .run("create table t (id int primary key, n int); insert into t select g, 0 from generate_series(1, 20) g");
        let project = Project::new(name, database.url(), sink);
        project.add(&["t"]);
        Scene { name: name.to_owned(), project }
    }

    /// A connection to the pipeline's database on a server.
    pub fn sql(&self, server: &Postgres) -> Sql {
        Sql::connect(&server.url(&self.name))
    }

    pub fn slot(&self) -> String {
        format!("gimbal_{}", self.name)
    }

    /// A catch-up that ends well.
    pub fn once(&self) {
        self.project.start(&["--once"], None).finish(DEADLINE);
    }

    /// A start that ends with this code, a hint that names `adopt`, and nothing published.
    pub fn refused(&self, code: Code) {
        let before = (self.position(), self.records());
        let mut daemon = self.project.start(&["--once"], None);
        assert_eq!(daemon.wait(DEADLINE), End::Exit(1), "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains(&format!("error[{code}]")), "not {code}: {log}");
        assert!(log.contains("hint: ") && log.contains("gimbal adopt"), "{log}");
        assert_eq!((self.position(), self.records()), before, "{log}");
    }

    /// `gimbal adopt --yes` that finds this code.
    pub fn adopt(&self, code: Code) -> String {
        let said = self.project.must(&["adopt", "--yes"]);
        assert!(said.contains(&format!("[{code} ")) && said.contains("adopted; now"), "{said}");
        said
    }

    /// An `adopt` that fails with this code.
    pub fn adopt_refused(&self, arguments: &[&str], code: Code) -> String {
        let output = self.project.gimbal(arguments);
        let said = said(&output);
        assert!(!output.status.success() && said.contains(&format!("error[{code}]")), "not {code}: {said}");
        said
    }

    /// The checkpoint's position; nothing before there is one.
    pub fn position(&self) -> Option<Json> {
        let text = std::fs::read_to_string(self.project.path("topics/manifest.json")).ok()?;
        let manifest: Json = serde_json::from_str(&text).expect("a manifest is JSON");
        let sealed: Json = serde_json::from_str(manifest["state"]["position"].as_str()?).expect("an entry is JSON");
        Some(sealed["data"].clone())
    }

    fn records(&self) -> usize {
        let topic = self.project.path("topics").join(self.project.topic("t"));
        if topic.exists() { self.project.read(&["t"]).records.len() } else { 0 }
    }

    /// The topic, folded by key: `n` by `id`.
    pub fn folded(&self) -> BTreeMap<String, String> {
        let mut rows = BTreeMap::new();
        let mut newest = BTreeMap::new();
        for record in self.project.read(&["t"]).records {
            let before = newest.insert(record.key.clone(), record.pos.clone());
            assert!(before.is_none_or(|before| before < record.pos), "positions rise: {record:?}");
            match record.value {
                Some(value) => drop(rows.insert(record.key, value["n"].to_string())),
                None => drop(rows.remove(&record.key)),
            }
        }
        rows
    }

    /// Catches up, repairs included, and the topic shows the table.
    pub fn is_level(&self, sql: &Sql) {
        self.once();
        let folded = self.folded();
        let rows = sql.rows("select id, coalesce(n::text, 'null') from t");
        let table: BTreeMap<String, String> = rows
            .into_iter()
            .map(|row| (row[0].clone().unwrap_or_default(), row[1].clone().unwrap_or_default()))
            .collect();
        assert_eq!(folded, table);
    }

    /// Points the config to another server.
    pub fn point_to(&self, port: u16) {
        let path = self.project.path("gimbal.yaml");
        let text = std::fs::read_to_string(&path).expect("a config");
        let (head, rest) = text.split_once("@127.0.0.1:").expect("the source's address");
        let (_, tail) = rest.split_once('/').expect("the database");
        std::fs::write(&path, format!("{head}@127.0.0.1:{port}/{tail}")).expect("the folder is writable");
    }
}

/// Lets the server's log grow past everything that was published, with heartbeats in it.
pub fn grow(sql: &Sql) {
    sql.run(
        "create table grown as select generate_series(1, 30000) x;
         select pg_logical_emit_message(true, 'gimbal.heartbeat', 'another nonce')",
    );
}

/// A command as the user that owns the data folder.
fn owned(data: &Path, program: &Path) -> Command {
    let owner = data.metadata().expect("the data folder is there");
    let mut command = Command::new(program);
    command.uid(owner.uid()).gid(owner.gid()).current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program starts");
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

/// Copies a data folder over another.
pub fn copy(from: &Path, to: &Path) {
    run(Command::new("rm").arg("-rf").arg(to));
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// A standby of a server, in a folder beside its data, on a port of its own.
pub struct Standby {
    pub port: u16,
    pub data: PathBuf,
    bin: PathBuf,
}

impl Standby {
    /// A copy of the stopped primary, which is started again; the standby is not. Not every build of a server comes with
    /// `pg_basebackup`.
    pub fn of(primary: &Postgres, name: &str) -> Standby {
        let data = primary.data().with_file_name(name);
        primary.stop();
        copy(primary.data(), &data);
        primary.start_again();
        let standby = Standby { port: lab::free_port(), data, bin: primary.bin().to_owned() };
        standby.has_port();
        standby.has_line(&format!("primary_conninfo = 'host=127.0.0.1 port={} user=postgres'", primary.port()));
        std::fs::write(standby.data.join("standby.signal"), "").expect("the folder is writable");
        standby
    }

    /// The same at this moment, under another name; both must be stopped.
    pub fn twin(&self, name: &str) -> Standby {
        let data = self.data.with_file_name(name);
        copy(&self.data, &data);
        let twin = Standby { port: lab::free_port(), data, bin: self.bin.clone() };
        twin.has_port();
        twin
    }

    fn has_port(&self) {
        self.has_line(&format!("port = {}", self.port));
    }

    /// Adds a line to its configuration.
    fn has_line(&self, line: &str) {
        let path = self.data.join("postgresql.auto.conf");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(&path, format!("{text}\n{line}\n")).expect("the folder is writable");
    }

    pub fn start(&self) {
        let log = self.data.join("standby.log");
        self.control(&["-w", "-l", &log.to_string_lossy(), "start"]);
    }

    pub fn stop(&self) {
        self.control(&["-m", "fast", "-w", "stop"]);
    }

    pub fn promote(&self) {
        self.control(&["-w", "promote"]);
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = owned(&self.data, &self.bin.join("pg_ctl"));
        command.arg("-D").arg(&self.data).args(arguments);
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let status = command.status().expect("pg_ctl starts");
        assert!(status.success(), "`pg_ctl {}` failed: {status}", arguments.join(" "));
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Waits until it has replayed all that the primary has flushed.
    pub fn caught_up(&self, primary: &Postgres) {
        let end = primary.sql().text("select pg_current_wal_flush_lsn()");
        let sql = Sql::connect(&self.url("postgres"));
        lab::eventually("the standby has caught up", DEADLINE, || {
            (sql.text(&format!("select pg_last_wal_replay_lsn() >= '{end}'::pg_lsn")) == "t").then_some(())
        });
    }

    /// Gives it the slot of another data folder, as tools for failover do; it must be stopped.
    pub fn takes_slot(&self, data: &Path, slot: &str) {
        copy(&data.join("pg_replslot").join(slot), &self.data.join("pg_replslot").join(slot));
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        // It may be stopped already.
        let mut command = owned(&self.data, &self.bin.join("pg_ctl"));
        let _ = command.arg("-D").arg(&self.data).args(["-m", "immediate", "-w", "stop"]).output();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Copies a database to another server by `pg_dump`.
pub fn dump(from: &Postgres, to: &Postgres, database: &str) {
    to.fresh_database(database);
    let script = format!(
        "'{}' -d '{}' | '{}' -qX -v ON_ERROR_STOP=1 -d '{}' >/dev/null",
        lab::client(from.bin(), "pg_dump").display(),
        from.url(database),
        lab::client(from.bin(), "psql").display(),
        to.url(database)
    );
    run(Command::new("bash").args(["-ec", &format!("set -o pipefail; {script}")]));
}
