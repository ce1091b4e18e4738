//! PostgreSQL clusters: one for all tests, private ones for those that change or stop the server.

use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::{Servers, Sql, eventually};

/// How long a server may take to read its configuration again.
const RELOAD_DEADLINE: Duration = Duration::from_secs(20);

/// The cluster that tests share. Do not change its settings, and wait for no transaction of the whole cluster on it.
pub fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("GIMBAL_TEST_PG") {
        Ok(url) => Postgres { url, data: None, bin: None, servers: None },
        Err(_) => Postgres::start(Options::default()),
    })
}

/// What a private cluster has beyond the lab's defaults (`wal_level=logical`, `fsync=off`, trust on 127.0.0.1).
#[derive(Default)]
pub struct Options {
    settings: String,
    programs: Option<PathBuf>,
}

impl Options {
    /// Runs the server of this folder of programs, which may be another major.
    #[must_use]
    pub fn programs(mut self, bin: PathBuf) -> Options {
        self.programs = Some(bin);
        self
    }

    /// Adds a line to `postgresql.conf`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Options {
        self.settings += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        self
    }
}

/// A running server. A private one is stopped and removed when this is dropped.
pub struct Postgres {
    url: String,
    data: Option<PathBuf>,
    bin: Option<PathBuf>,
    servers: Option<Servers>,
}

impl Postgres {
    /// Starts a private cluster on a free port.
    pub fn start(options: Options) -> Postgres {
        let bin = options.programs.as_ref().map(|bin| bin.to_string_lossy().into_owned());
        let mut variables = vec![("GIMBAL_LAB_PG_SETTINGS", options.settings.as_str())];
        variables.extend(bin.as_deref().map(|bin| ("GIMBAL_TEST_PG_BIN", bin)));
        let servers = Servers::run(&["pg"], &variables);
        Postgres {
            url: servers.get("GIMBAL_TEST_PG").to_owned(),
            data: Some(servers.get("GIMBAL_TEST_PG_DATA").into()),
            bin: Some(servers.get("GIMBAL_TEST_PG_BIN").into()),
            servers: Some(servers),
        }
    }

    /// `postgresql://postgres@127.0.0.1:PORT/DATABASE`: the superuser, without a password.
    pub fn url(&self, database: &str) -> String {
        let (server, _) = self.url.rsplit_once('/').expect("the URL names a database");
        format!("{server}/{database}")
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        let (server, _) = self.url.rsplit_once('/').expect("the URL names a database");
        server.rsplit(':').next().and_then(|port| port.parse().ok()).expect("the URL has a port")
    }

    /// A connection to the database `postgres`.
    pub fn sql(&self) -> Sql {
        Sql::connect(&self.url("postgres"))
    }

    /// True on this major or a newer one.
    pub fn at_least(&self, major: u32) -> bool {
        self.sql().text(&format!("select current_setting('server_version_num')::int >= {major} * 10000")) == "t"
    }

    /// A new, empty database of that name; one that an earlier run left is dropped with its slots.
    pub fn fresh_database(&self, name: &str) -> Database {
        // Copying the template database fails while another session does it.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let sql = self.sql();
        sql.run(&format!(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where database = '{name}' and active"
        ));
        eventually("the database's slots are dropped", RELOAD_DEADLINE, || {
            let slots = format!("select slot_name from pg_replication_slots where database = '{name}'");
            sql.try_run(&format!("select pg_drop_replication_slot(slot_name) from ({slots}) s")).ok()
        });
        sql.run(&format!("drop database if exists \"{name}\" with (force)"));
        sql.run(&format!("create database \"{name}\""));
        let url = self.url(name);
        Database { sql: Sql::connect(&url), name: name.to_owned(), url }
    }

    /// Sets a server setting that can change while the server runs, and waits until new connections have it.
    pub fn configure(&self, name: &str, value: &str) {
        self.sql().run(&format!("alter system set {name} = '{}'", value.replace('\'', "''")));
        self.reload();
    }

    /// Replaces `pg_hba.conf` by these lines; the lab itself is always let in as `postgres`, without TLS or password.
    pub fn host_based_authentication(&self, lines: &str) {
        self.write_file("pg_hba.conf", &format!("hostnossl all postgres 127.0.0.1/32 trust\n{lines}\n"));
        self.reload();
    }

    /// Makes the server read its files again, and waits until new connections see that.
    pub fn reload(&self) {
        // A new connection inherits the time of loading from the server's first process.
        let loaded = || self.sql().text("select extract(epoch from pg_conf_load_time())::text");
        let before = loaded();
        self.sql().run("select pg_reload_conf()");
        eventually("the server reads its configuration again", RELOAD_DEADLINE, || (loaded() != before).then_some(()));
    }

    /// Writes a file into the data folder, readable by the server alone: certificates, keys.
    pub fn write_file(&self, name: &str, contents: &str) {
        let path = self.data().join(name);
        std::fs::write(&path, contents).expect("the data folder is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("we own the file");
        let owner = self.data().metadata().expect("the data folder is there");
        chown(&path, Some(owner.uid()), Some(owner.gid())).expect("the server's user may own the file");
    }

    /// An orderly stop, as for maintenance.
    pub fn stop(&self) {
        self.control(&["-m", "fast", "-w", "stop"]);
    }

    /// Kills the server without a checkpoint: the next start runs crash recovery.
    pub fn crash(&self) {
        self.control(&["-m", "immediate", "-w", "stop"]);
    }

    /// Starts the server again after [`Postgres::stop`] or [`Postgres::crash`], on the same port.
    pub fn start_again(&self) {
        let log = self.data().with_file_name("pg.log");
        if let Ok(owner) = self.data().metadata() {
            let _ = chown(&log, Some(owner.uid()), Some(owner.gid()));
        }
        self.control(&["-w", "-l", &log.to_string_lossy(), "start"]);
    }

    /// The data folder of a private cluster.
    pub fn data(&self) -> &Path {
        self.data.as_deref().expect("only the lab's own clusters can be changed, not the one of GIMBAL_TEST_PG")
    }

    /// The folder of the programs of a private cluster.
    pub fn bin(&self) -> &Path {
        self.bin.as_deref().expect("the lab's own clusters know their programs")
    }

    /// Runs `pg_ctl` as the user that owns the data folder.
    fn control(&self, arguments: &[&str]) {
        let owner = self.data().metadata().expect("the data folder is there");
        let mut command = Command::new(self.bin().join("pg_ctl"));
        command.arg("-D").arg(self.data()).args(arguments).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).uid(owner.uid()).gid(owner.gid());
        let status = command.status().expect("pg_ctl starts");
        assert!(status.success(), "`pg_ctl {}` failed: {status}", arguments.join(" "));
    }
}

/// A database of its own, with a connection to it: everything that [`Sql`] can do works on it.
pub struct Database {
    name: String,
    url: String,
    sql: Sql,
}

impl Database {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL, as superuser.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One more connection.
    pub fn connect(&self) -> Sql {
        Sql::connect(&self.url)
    }
}

impl Deref for Database {
    type Target = Sql;

    fn deref(&self) -> &Sql {
        &self.sql
    }
}
