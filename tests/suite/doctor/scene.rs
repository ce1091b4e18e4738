//! A pipeline that is well, to be broken one way after the other; fix lines are run as they are printed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use gimbal::config::Config;
use gimbal::diagnostic::Severity;
use gimbal::doctor::{self, Finding, Fix, Machine, Report};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::lab::{self, Database, Postgres, Sql, eventually};

/// Longest that a broken or mended thing may take to show.
const SHOWS: Duration = Duration::from_secs(30);

/// Stands in for the program on the path: it says who the tables' owner is, and does not stay.
const WRAPPER: &str = r#"#!/bin/sh
command=$1; shift
case $command in
  install) set -- --admin "$GIMBAL_ADMIN" "$@" ;;
  run) set -- --once "$@" ;;
esac
exec "$GIMBAL" "$command" "$@"
"#;

pub struct Scene<'a> {
    pub server: &'a Postgres,
    pub database: Database,
    pub name: String,
    pub config: Json,
    pub machine: Machine,
    folder: TempDir,
}

impl<'a> Scene<'a> {
    /// A pipeline over a database with a table, a partitioned one, and an append-only one without key.
    pub fn new(server: &'a Postgres, name: &str, sink: &Json, registry: &Json) -> Scene<'a> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = server.fresh_database(name);
        database.run(&format!(
            "create schema shop;
             create table shop.orders (id int primary key, code text not null unique, note text);
             create table shop.events (id int, at date not null, primary key (id, at)) partition by range (at);
             create table shop.events_1 partition of shop.events for values from ('2020-01-01') to ('2021-01-01');
             create table shop.audit (what text);
             create table shop.other (id int primary key);
             drop role if exists {name};
             create role {name} login replication;
             grant pg_read_all_stats to {name}"
        ));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = json!({
            "pipeline": name,
            "source": {"url": format!("postgresql://{name}@127.0.0.1:{}/{name}", server.port())},
            "sink": sink,
            "registry": registry,
            "listen": format!("127.0.0.1:{}", lab::free_port()),
        });
        let machine = Machine::default();
        let scene = Scene { server, database, name: name.to_owned(), config, machine, folder };
        scene.write("bin/gimbal", WRAPPER);
        scene.sh("chmod +x bin/gimbal");
        scene.write_config();
        let url = scene.database.url().to_owned();
        scene
            .sh(&format!("gimbal init --source '{url}' --tables shop.orders,shop.events,shop.audit && gimbal install"));
        scene
    }

    pub fn with_files(server: &'a Postgres, name: &str) -> Scene<'a> {
        Scene::new(server, name, &json!({"files": {"path": "topics"}}), &json!("embedded"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is writable");
        std::fs::write(path, text).expect("the folder is writable");
    }

    /// JSON is YAML.
    pub fn write_config(&self) {
        self.write("gimbal.yaml", &format!("{:#}", self.config));
    }

    /// Sets an entry of the config, such as `sink.kafka.replication`.
    pub fn set(&mut self, key: &str, value: Json) {
        let mut at = &mut self.config;
        // A name with dots in it stands in quotation marks.
        for part in
            key.split('"').flat_map(|part| if part.ends_with(".ms") { vec![part] } else { part.split('.').collect() })
        {
            if !part.is_empty() {
                at = &mut at[part];
            }
        }
        *at = value;
        self.write_config();
    }

    /// On a connection of its own: the server may have been restarted.
    pub fn sql(&self, statements: &str) {
        Sql::connect(self.database.url()).run(statements);
    }

    /// Runs a script in the pipeline's folder, with the program and PostgreSQL's clients on the path.
    pub fn try_sh(&self, script: &str) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        let client = lab::client(self.server.bin(), "psql");
        let clients = client.parent().expect("a folder");
        let paths = format!("{}:{}:{path}", self.path("bin").display(), clients.display());
        let mut command = lab::tied("timeout");
        command.args(["--kill-after=1", "60", "sh", "-ec", script]).current_dir(self.folder.path());
        command.env("PATH", paths).env("GIMBAL", env!("CARGO_BIN_EXE_gimbal")).env("GIMBAL_ADMIN", self.database.url());
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.server.port().to_string()).env("PGUSER", "postgres");
        command.output().expect("setpriv starts")
    }

    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "`{script}`: {said}");
        said
    }

    pub fn examine(&self) -> Report {
        let config = Config::load(&self.path("gimbal.yaml")).expect("a config");
        let checked = gimbal::cli::check::check(&config).expect("a project");
        assert_eq!(checked.count(Severity::Error), 0, "{:?}", checked.findings);
        doctor::examine(&config, &checked.versions, &self.machine).expect("a report")
    }

    pub fn find(&self, check: &str) -> Option<Finding> {
        self.examine().findings.into_iter().find(|finding| finding.check == check)
    }

    /// Waits until a check finds something.
    pub fn wait_for(&self, check: &str) -> Finding {
        eventually(check, SHOWS, || self.find(check))
    }

    pub fn wait_until_gone(&self, check: &str) {
        eventually(&format!("no more {check}"), SHOWS, || self.find(check).is_none().then_some(()));
    }

    pub fn assert_well(&self, when: &str) {
        let report = self.examine();
        assert!(report.findings.is_empty(), "{when}: {}", report.text());
    }

    /// Runs a fix as it is printed. The server is not restarted.
    pub fn apply(&mut self, fix: &Fix) {
        match fix {
            Fix::Sql(text) | Fix::SqlAndRestart(text) => {
                let session = Sql::connect(self.database.url());
                // As psql does: ALTER SYSTEM refuses to be one of several.
                text.split("; ").for_each(|statement| session.run(statement));
            }
            Fix::Shell(text) => drop(self.sh(text)),
            Fix::Config { key, value } => {
                let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
                self.set(key, value);
            }
            Fix::Advice(text) => panic!("`{text}` is nothing to run"),
        }
    }

    pub fn restart(&self) {
        self.server.stop();
        self.server.start_again();
    }
}

/// One way to be unwell.
pub struct Case {
    pub check: &'static str,
    pub severity: Severity,
    /// Statements, with `{r}` for the role's and the publication's name.
    pub sql: &'static str,
    /// What the finding must name.
    pub names: &'static [&'static str],
    /// Brings back what the fix left otherwise than it was.
    pub after: &'static str,
}

impl Case {
    /// Breaks the server, sees the finding, runs its fix, and sees all well again.
    pub fn play(&self, scene: &mut Scene<'_>) {
        let fill = |text: &str| text.replace("{r}", &scene.name).replace("{p}", &format!("gimbal_{}", scene.name));
        for statement in fill(self.sql).split(";;") {
            scene.sql(statement);
        }
        let finding = scene.wait_for(self.check);
        assert_eq!(finding.severity, self.severity, "{finding:?}");
        for name in self.names {
            assert!(finding.what.contains(&fill(name)), "`{name}` is missing: {finding:?}");
        }
        let after = fill(self.after);
        scene.apply(&finding.fix);
        scene.wait_until_gone(self.check);
        if !after.is_empty() {
            after.split(";;").for_each(|statement| scene.sql(statement));
        }
        let well = || scene.examine().findings.is_empty().then_some(());
        if scene.examine().findings.is_empty() {
            return;
        }
        eventually(&format!("all well after {} ({})", self.check, scene.examine().text()), SHOWS, well);
    }
}

/// A command of the Kafka tools, run by the class that its script would run.
pub fn kafka_tool(line: &str) -> Command {
    let line = line.split(" #").next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let class = match words.next() {
        Some("kafka-configs.sh") => "kafka.admin.ConfigCommand",
        Some("kafka-topics.sh") => "org.apache.kafka.tools.TopicCommand",
        other => panic!("{other:?} is no tool of Kafka's"),
    };
    let libraries = format!("{}/*", Path::new(&lab::lab_folder()).join("kafka").display());
    let mut command = lab::tied("java");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &libraries, class]).args(words);
    command
}
