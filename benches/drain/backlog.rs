//! A backlog of changes behind a slot that nobody reads: only copies of it are read.

use std::path::{Path, PathBuf};
use std::process::Command;

use gimbal::sink::null::{Content, NullSink};

use crate::contender::Lab;
use crate::support::{contract_texts, lab};

/// How the rows are spread over transactions.
#[derive(Clone, Copy)]
pub struct Shape {
    /// For `BENCH_ONLY`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Number of transactions.
    pub transactions: u64,
    /// Rows of each.
    pub size: u64,
}

impl Shape {
    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.transactions * self.size
    }
}

/// What everyone reads.
pub struct Backlog {
    /// The slot that is copied; its checkpoint is in `folder`.
    pub slot: String,
    /// Config, contracts and the null sink of the daemon that made the slot.
    pub folder: PathBuf,
    /// Rows in it.
    pub rows: u64,
    /// Its end in the log.
    pub end_lsn: String,
    /// Bytes of log that it takes.
    pub log_bytes: u64,
    /// Key and value bytes of its records, once a run has shown them.
    pub record_bytes: std::cell::Cell<Option<u64>>,
}

impl Backlog {
    /// A daemon makes the slot and its first checkpoint and stops; then the rows are written.
    pub fn build(lab: &Lab, shape: &Shape) -> Backlog {
        let backlog = Backlog::empty(lab, shape.name);
        let lsn = || lab.sql().text("select pg_current_wal_flush_lsn()");
        let begin = lsn();
        lab.sql().run(&format!("call fill(0, {}, {})", shape.transactions, shape.size));
        // Flushed before the end is taken. The message behind the end tells a reader at once that it is there.
        lab.sql().run("select pg_logical_emit_message(true, 'bench', 'end')");
        lab.sql().run("checkpoint");
        let end_lsn = lsn();
        lab.sql().run("select pg_logical_emit_message(true, 'bench', 'behind the end')");
        let log_bytes = lab.sql().text(&format!("select pg_wal_lsn_diff('{end_lsn}', '{begin}')::bigint"));
        Backlog { rows: shape.rows(), end_lsn, log_bytes: log_bytes.parse().expect("a number"), ..backlog }
    }

    /// A slot with a checkpoint, and nothing behind it.
    pub fn empty(lab: &Lab, name: &str) -> Backlog {
        // Before the slot, so that its truncation is not part of the backlog.
        lab.sql().run("truncate orders");
        let (slot, folder) = (format!("bench_{name}"), lab.folder().join(name));
        write_config(lab, &folder, &slot, "bench", &format!("bench.{name}.v{{major}}"), "'null': {path: sink}");
        let status = lab.gimbal(&folder).arg("--once").status().expect("gimbal starts");
        assert!(status.success(), "the daemon that makes the slot ended with {status}");
        let record_bytes = std::cell::Cell::new(None);
        Backlog { slot, folder, rows: 0, end_lsn: String::new(), log_bytes: 0, record_bytes }
    }

    /// A copy of slot and checkpoint, with the sink to be written to (text of the config): its folder.
    pub fn copy(&self, lab: &Lab, name: &str, pipeline: &str, topic: &str, sink: &str) -> PathBuf {
        let folder = lab.folder().join(name);
        write_config(lab, &folder, name, pipeline, topic, sink);
        copy_folder(&self.folder.join("sink"), &folder.join("sink"));
        self.copy_slot(lab, name);
        folder
    }

    /// A copy of the slot.
    pub fn copy_slot(&self, lab: &Lab, name: &str) {
        lab.sql().run(&format!("select pg_copy_logical_replication_slot('{}', '{name}')", self.slot));
    }

    /// The checkpoint that everyone starts from.
    pub fn checkpoint(&self) -> Content {
        content(&self.folder)
    }

    /// Drops the slot, so that the server can forget the log.
    pub fn remove(self, lab: &Lab) {
        lab.drop_slot(&self.slot);
    }
}

/// What the null sink of a daemon's folder holds.
pub fn content(folder: &Path) -> Content {
    NullSink::open(&folder.join("sink")).expect("a null sink").content().clone()
}

/// A project for the one table: `sink` is the text in the braces.
fn write_config(lab: &Lab, folder: &Path, slot: &str, pipeline: &str, topic: &str, sink: &str) {
    let (contract, schema) = contract_texts(lab.images(), topic);
    let catalog = gimbal::contract::Catalog::new(lab.images().iter().cloned()).to_text();
    let registry = if sink.starts_with("'null'") { "embedded" } else { "{url: \"http://127.0.0.1:9\"}" };
    let config = format!(
        "pipeline: {pipeline}\nsource:\n  url: {}?sslmode=disable\n  slot: {slot}\n  publication: bench\n\
         sink: {{{sink}}}\nregistry: {registry}\nlisten: 127.0.0.1:{}\n",
        lab.url(),
        lab::free_port(),
    );
    for (path, text) in [
        ("gimbal.yaml", &config),
        ("contracts/orders.yaml", &contract),
        ("contracts/catalog.json", &catalog),
        ("schemas/orders/1.0.avsc", &schema),
    ] {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is ours");
        std::fs::write(path, text).expect("the file is ours");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "cp ended with {status}");
}
