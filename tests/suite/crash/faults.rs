//! Everything around the daemon fails while it runs: it waits, goes on, and loses and repeats nothing.

use std::io::copy;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::load::Size;
use super::project::{Daemon, Sink, live};
use super::run::{Crash, endure};
use super::{number, server};
use crate::lab::{self, Database, Kafka, Options, Postgres};

/// From the end of a fault until the daemon publishes again: its longest pause between two tries, and then some.
const RECOVERY: Duration = Duration::from_secs(60);

/// How long a broker is away in the test of a long outage; five minutes in a full run.
const OUTAGE_SECONDS: u64 = 8;

/// Most rows that are written meanwhile.
const ROWS_MAX: u64 = 100_000;

/// Most memory that the daemon may ever have used, in KiB.
const MEMORY_KIB_MAX: u64 = 128 << 10;

fn of(name: &'static str, database: Database, sink: Sink) -> Crash {
    let seed = number("GIMBAL_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    Crash { name, database, sink, seed, kills: 0, size: Size { orders: 2_000, notes: 100 } }
}

fn kafka_sink(kafka: &Kafka) -> Sink {
    Sink::Kafka { bootstrap: kafka.bootstrap().into(), registry: lab::registry().url().into() }
}

/// The durable position.
fn position(status: &Json) -> String {
    status["position"].as_str().unwrap_or_default().to_owned()
}

/// Waits until what is committed from now on has been published.
fn goes_on(daemon: &mut Daemon, database: &Database) {
    let lsn = database.connect().text("select pg_current_wal_insert_lsn() - '0/0'");
    let lsn: u64 = lsn.parse().expect("a log position");
    let beyond = format!("0000-{lsn:016X}-");
    daemon.until("the daemon goes on", RECOVERY, |status| position(status) > beyond);
}

/// A fault that is there for a time: nothing can be waited for, since nothing may happen.
fn lasts(time: Duration, mut meanwhile: impl FnMut()) {
    let end = Instant::now() + time;
    lab::eventually("the fault has lasted", time * 4, || {
        meanwhile();
        (Instant::now() > end).then_some(())
    });
}

/// The most memory that a process has used, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn postgresql_may_crash_restart_and_be_cut_off() {
    let server = Postgres::start(Options::default());
    let network = Network::to(server.port());
    let crash = of("source_faults", server.fresh_database("source_faults"), Sink::Files);
    let through = crash.database.url().replace(&format!(":{}/", server.port()), &format!(":{}/", network.port));
    endure(&crash, &through, |_, daemon| {
        server.crash();
        server.start_again();
        goes_on(daemon, &crash.database);
        server.stop();
        daemon.until("the daemon sees that the server is gone", RECOVERY, |status| status["state"] == "starting");
        server.start_again();
        goes_on(daemon, &crash.database);
        network.cut();
        daemon.until("the daemon sees that the network is gone", RECOVERY, |status| status["state"] == "starting");
        network.mend();
        goes_on(daemon, &crash.database);
    });
}

#[test]
fn the_broker_may_die_hang_and_come_back() {
    let kafka = Kafka::start(&[]);
    let crash = of("broker_faults", server().fresh_database("broker_faults"), kafka_sink(&kafka));
    let url = crash.database.url().to_owned();
    endure(&crash, &url, |_, daemon| {
        kafka.kill();
        kafka.start_again();
        goes_on(daemon, &crash.database);
        kafka.pause();
        let stood = position(&daemon.status().expect("a status"));
        // Long enough for a request to time out, and to be sent again.
        lasts(Duration::from_secs(3), || assert_eq!(daemon.ended(), None, "{}", daemon.log()));
        kafka.resume();
        daemon.until("the daemon commits again", RECOVERY, |status| position(status) > stood);
        goes_on(daemon, &crash.database);
    });
}

/// Memory stays flat, the server keeps the log, and everything arrives in the end.
#[test]
fn a_long_outage_of_the_broker_costs_neither_memory_nor_records() {
    let seconds = number("GIMBAL_OUTAGE_SECONDS").unwrap_or(OUTAGE_SECONDS);
    let kafka = Kafka::start(&[]);
    let crash = of("outage", server().fresh_database("outage"), kafka_sink(&kafka));
    let url = crash.database.url().to_owned();
    endure(&crash, &url, |project, daemon| {
        kafka.kill();
        let (sql, mut first) = (crash.database.connect(), 50_000_000_u64);
        lasts(Duration::from_secs(seconds), || {
            // More than all batches and queues take.
            if first < 50_000_000 + ROWS_MAX {
                let rows = format!("select {first} + g, 0 from generate_series(1, 500) g");
                sql.run(&format!("insert into lines(order_id, line) {rows}"));
                first += 500;
            }
            assert_eq!(daemon.ended(), None, "{}", daemon.log());
        });
        let slot = format!("gimbal_{}", project.pipeline().replace('-', "_"));
        let kept = "active, wal_status in ('reserved', 'extended')";
        let slots = sql.rows(&format!("select {kept} from pg_replication_slots where slot_name = '{slot}'"));
        assert_eq!(slots.len(), 1, "the slot is there");
        assert_eq!(slots[0][1].as_deref(), Some("t"), "the server keeps the log: {slots:?}");
        let peak = peak_kib(daemon.pid());
        assert!(peak < MEMORY_KIB_MAX, "{} MiB after {seconds} s without a broker", peak >> 10);
        println!("{} rows waited; peak {} MiB", first - 50_000_000, peak >> 10);
        kafka.start_again();
        goes_on(daemon, &crash.database);
    });
}

/// Ids are in the checkpoint: nothing but a new schema needs the registry.
#[test]
fn a_registry_that_is_down_stops_neither_a_running_daemon_nor_a_restart() {
    let kafka = lab::kafka();
    let crash = of("registry_down", server().fresh_database("registry_down"), kafka_sink(kafka));
    let url = crash.database.url().to_owned();
    endure(&crash, &url, |project, daemon| {
        let text = std::fs::read_to_string(project.path("gimbal.yaml")).expect("a config");
        let nowhere = format!("http://127.0.0.1:{}", lab::free_port());
        let down = text.replace(lab::registry().url(), &nowhere);
        assert_ne!(text, down);
        std::fs::write(project.path("gimbal.yaml"), &down).expect("the folder is writable");
        daemon.signal("TERM");
        daemon.wait(RECOVERY);
        *daemon = project.start(&[], None);
        daemon.until("the daemon is live without a registry", RECOVERY, live);
        goes_on(daemon, &crash.database);
    });
}

/// A disk that is full ends the daemon with a code and a clean checkpoint; with room again it goes on where it was.
#[test]
fn a_full_disk_is_a_clean_stop() {
    let crash = of("full_disk", server().fresh_database("full_disk"), Sink::Files);
    let url = crash.database.url().to_owned();
    endure(&crash, &url, |project, daemon| {
        daemon.signal("TERM");
        daemon.wait(RECOVERY);
        // No file may grow beyond what the largest is now, and some more: as good as a full disk.
        let folder = project.path("topics");
        let largest = |folder: &std::path::Path| {
            let sizes = std::fs::read_dir(folder).expect("a folder").flatten().flat_map(|entry| {
                let inside = std::fs::read_dir(entry.path()).into_iter().flatten().flatten();
                inside
                    .chain([entry])
                    .filter_map(|entry| entry.metadata().ok())
                    .map(|meta| meta.len())
                    .collect::<Vec<_>>()
            });
            sizes.max().unwrap_or_default()
        };
        let limit = largest(&folder) + 4096;
        let sql = crash.database.connect();
        sql.run("insert into lines(order_id, line) select 60000000 + g, 0 from generate_series(1, 20000) g");
        let said = Command::new("bash")
            .args(["-c", "trap '' XFSZ; exec prlimit --fsize=\"$1\" \"$2\" run --once", "bash", &limit.to_string()])
            .arg(env!("CARGO_BIN_EXE_gimbal"))
            .current_dir(project.path(""))
            .output()
            .expect("bash starts");
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(1), "{text}");
        assert!(text.contains("error[E05") && text.contains("hint: "), "{text}");
        *daemon = project.start(&[], None);
        daemon.until("the daemon is live again", RECOVERY, live);
        goes_on(daemon, &crash.database);
    });
}

/// A path to a server that can be cut.
struct Network {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Network {
    fn to(server: u16) -> Network {
        let front = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = front.local_addr().expect("it is bound").port();
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            for client in front.incoming().map_while(Result::ok) {
                let Ok(behind) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                if serving.cut.load(Ordering::SeqCst) {
                    continue;
                }
                let mut open = serving.open.lock().expect("no thread panicked");
                for (from, to) in [(&client, &behind), (&behind, &client)] {
                    let (mut from, mut to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    open.push(from.try_clone().expect("a handle"));
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Network { port, state }
    }

    /// Breaks every connection, and lets none through.
    fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
        for stream in self.state.open.lock().expect("no thread panicked").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.state.cut.store(false, Ordering::SeqCst);
    }
}
