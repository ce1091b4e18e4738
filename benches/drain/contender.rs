//! Who reads the backlog: `pg_recvlogical`, gimbal to the null sink, gimbal to Kafka.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use gimbal::postgres::connection::session_options;
use gimbal::postgres::{sampling, sql};
use gimbal::table::{QualifiedName, TableImage};

use crate::backlog::{Backlog, content};
use crate::process::{self, Cost};
use crate::support::{PUBLICATIONS, create_table, lab};
use crate::topic;

/// Settings of the server beyond the lab's: nothing may write log, or wait for it, between two runs.
const SERVER: [(&str, &str); 4] =
    [("autovacuum", "off"), ("max_wal_size", "16GB"), ("checkpoint_timeout", "1h"), ("jit", "off")];

/// The broker's Java, with its default compilers, as people run it.
const JAVA: &str = "-Xms1g -Xmx1g";

/// The servers, and the folder of everything that is written.
pub struct Lab {
    postgres: lab::Postgres,
    kafka: lab::Kafka,
    database: lab::Database,
    images: Vec<TableImage>,
    folder: tempfile::TempDir,
    broker: Option<u32>,
    runs: Cell<u32>,
}

impl Lab {
    /// Starts the servers and makes the table.
    pub fn start() -> Lab {
        let options = SERVER.iter().fold(lab::Options::default(), |options, (name, value)| options.set(name, value));
        let postgres = lab::Postgres::start(options);
        let kafka = lab::Kafka::start(&[("GIMBAL_LAB_JAVA_OPTIONS", JAVA)]);
        let database = postgres.fresh_database("bench");
        create_table(&database);
        let source = sql::Source::of_url(&format!("{}?sslmode=disable", database.url()), None).expect("a URL");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let table = QualifiedName { namespace: "public".to_owned(), name: "orders".to_owned() };
        let sample = runtime.block_on(async {
            let client = sql::connect(&source).await.expect("a connection");
            sampling::sample_named(&client, &[table]).await.expect("a sample")
        });
        let broker = process::broker(kafka.bootstrap());
        assert!(broker.is_some(), "the broker's process was not found");
        let folder = tempfile::tempdir().expect("a temporary folder");
        Lab { postgres, kafka, database, images: sample.images, folder, broker, runs: Cell::new(0) }
    }

    /// The bench's database.
    pub fn sql(&self) -> &lab::Sql {
        &self.database
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// The broker's address.
    pub fn bootstrap(&self) -> &str {
        self.kafka.bootstrap()
    }

    /// The table as the catalog has it.
    pub fn images(&self) -> &[TableImage] {
        &self.images
    }

    /// Where everything is written.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's port.
    pub fn port(&self) -> u16 {
        self.postgres.port()
    }

    /// The name of the bench's database.
    pub fn database_name(&self) -> &str {
        self.database.name()
    }

    /// CPU seconds of the broker so far.
    pub fn broker_cpu(&self) -> f64 {
        self.broker.and_then(process::cpu_seconds).unwrap_or_default()
    }

    /// A name that no run had.
    pub fn name(&self, what: &str) -> String {
        self.runs.set(self.runs.get() + 1);
        format!("{what}_{}", self.runs.get())
    }

    /// `gimbal run` in a folder; what it says goes to the terminal.
    pub fn gimbal(&self, folder: &Path) -> Command {
        let program = std::env::var_os("BENCH_GIMBAL").unwrap_or_else(|| env!("CARGO_BIN_EXE_gimbal").into());
        let mut command = lab::tied(program);
        command.arg("-c").arg(folder.join("gimbal.yaml")).args(["run", "--no-progress"]);
        command.env("GIMBAL_LOG", "warn").stdin(Stdio::null());
        command
    }

    /// The server's process that reads the log for a slot.
    pub fn walsender(&self, slot: &str) -> Option<u32> {
        let row = self.sql().rows(&format!("select active_pid from pg_replication_slots where slot_name = '{slot}'"));
        row.first()?.first()?.as_ref()?.parse().ok()
    }

    /// Drops a slot that nobody reads any more.
    pub fn drop_slot(&self, slot: &str) {
        lab::eventually("the slot is free", std::time::Duration::from_secs(20), || {
            self.sql().try_run(&format!("select pg_drop_replication_slot('{slot}')")).ok()
        });
    }

    fn recvlogical(&self) -> PathBuf {
        self.postgres.bin().join("pg_recvlogical")
    }

    /// Runs a reader of a slot, then drops the slot.
    fn measure(&self, mut command: Command, slot: &str) -> Cost {
        let (begin, before) = (Instant::now(), self.broker_cpu());
        let child = command.spawn().expect("the contender starts");
        let (status, mut cost) = process::watch(child, begin, || self.walsender(slot));
        cost.broker_cpu = self.broker_cpu() - before;
        assert!(status.success(), "{command:?} ended with {status}");
        self.drop_slot(slot);
        cost
    }
}

/// `pg_recvlogical` to `/dev/null`, with gimbal's options.
pub fn control(lab: &Lab, backlog: &Backlog) -> Cost {
    let slot = lab.name("control");
    backlog.copy_slot(lab, &slot);
    let mut command = lab::tied(lab.recvlogical());
    command.args(["-d", lab.url(), "-S", &slot, "--start", "--no-loop", "-f", "/dev/null"]);
    command.args(["--endpos", &backlog.end_lsn, "-o", "proto_version=1", "-o", "messages=true"]);
    command.args(["-o", &format!("publication_names={}", PUBLICATIONS.join(","))]);
    command.env("PGOPTIONS", session_options());
    lab.measure(command, &slot)
}

/// gimbal to the null sink.
pub fn null(lab: &Lab, backlog: &Backlog) -> Cost {
    let slot = lab.name("null");
    let folder = backlog.copy(lab, &slot, "bench", "bench.null.v{major}", "'null': {path: sink}");
    let mut command = lab.gimbal(&folder);
    command.arg("--once");
    let cost = lab.measure(command, &slot);
    let (before, after) = (backlog.checkpoint(), content(&folder));
    check(backlog, after.records - before.records, after.bytes - before.bytes);
    cost
}

/// gimbal to Kafka, exactly once.
pub fn kafka(lab: &Lab, backlog: &Backlog) -> Cost {
    let slot = lab.name("kafka");
    let (topic, sink) = (format!("bench.{slot}.v1"), format!("kafka: {{bootstrap: \"{}\"}}", lab.bootstrap()));
    let folder = backlog.copy(lab, &slot, &slot, &format!("bench.{slot}.v{{major}}"), &sink);
    topic::seed(lab.bootstrap(), &slot, &backlog.checkpoint());
    let mut command = lab.gimbal(&folder);
    command.arg("--once");
    let cost = lab.measure(command, &slot);
    let found = topic::read(lab.bootstrap(), &topic);
    check(backlog, found.records, found.bytes);
    topic::remove(lab.bootstrap(), &[&topic, &format!("__gimbal.{slot}.state")]);
    cost
}

/// A figure counts only if exactly the backlog's records arrived.
fn check(backlog: &Backlog, records: u64, bytes: u64) {
    assert_eq!(records, backlog.rows, "records");
    let known = backlog.record_bytes.replace(Some(bytes));
    assert_eq!(bytes, known.unwrap_or(bytes), "bytes of keys and values");
}
