//! The lab's servers as the tests of connection and stream want them: more ways to log in, rows as psql prints them, and
//! scripts that run as the server's user.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use gimbal::postgres::connection::Connection;
use gimbal::postgres::password::Password;
use gimbal::postgres::url::SourceUrl;

use crate::lab;

/// Who may log in how. Replication connections to a database follow these lines too.
const HBA: &str = "\
host all scram_user 127.0.0.1/32 scram-sha-256
host all md5_user 127.0.0.1/32 md5
host all clear_user 127.0.0.1/32 password
host all all 127.0.0.1/32 trust
";

/// A running server.
pub struct Postgres {
    pub port: u16,
    /// The data folder, which also holds what a test puts there.
    pub folder: PathBuf,
    _server: lab::Postgres,
}

impl Postgres {
    /// A server that all tests share; each makes its own database.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::start(&[], |_| ()))
    }

    /// Starts a server with these settings, which must be ones that it can take while it runs: before, `prepare` may put
    /// files into the folder.
    pub fn start(settings: &[(&str, &str)], prepare: impl FnOnce(&Path)) -> Postgres {
        let server = lab::Postgres::start(lab::Options::default());
        let folder = server.data().to_owned();
        prepare(&folder);
        server.host_based_authentication(HBA);
        for (name, value) in settings {
            server.configure(name, value);
        }
        Postgres { port: server.port(), folder, _server: server }
    }

    /// Runs statements, and returns their rows as psql prints them unaligned.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(lab::client(&lab::server_programs(), "psql"));
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", database]);
        psql.args(["-p", &self.port.to_string(), "-f", "-"]).env("PGCONNECT_TIMEOUT", "5");
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = psql.spawn().expect("psql");
        child.stdin.take().expect("a pipe").write_all(sql.as_bytes()).ok();
        let output = child.wait_with_output().expect("psql's end");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A new database.
    pub fn database(&self, name: &str) -> String {
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name.to_string()
    }

    pub fn url(&self, user: &str, database: &str) -> SourceUrl {
        self.url_to("127.0.0.1", user, database, "")
    }

    pub fn url_to(&self, host: &str, user: &str, database: &str, query: &str) -> SourceUrl {
        format!("postgresql://{user}@{host}:{}/{database}{query}", self.port).parse().expect("a URL")
    }

    /// A replication connection as the superuser.
    pub fn connect(&self, database: &str) -> Connection {
        Connection::connect(&self.url("postgres", database), None).expect("a connection")
    }

    pub fn log_in(&self, user: &str, password: Option<&str>) -> gimbal::error::Result<Connection> {
        Connection::connect(&self.url(user, "postgres"), password.map(Password::new).as_ref())
    }
}

/// Asks until the answer is yes, for at most 30 seconds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    lab::eventually(what, Duration::from_secs(30), || condition().then_some(()));
}

/// Runs a script as the user that the servers run as.
pub fn shell(script: &str) -> String {
    let output = as_postgres().args(["sh", "-ec", script]).stdin(Stdio::null()).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The servers refuse to run as root.
fn as_postgres() -> Command {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let mut command = Command::new(if root { "runuser" } else { "env" });
    if root {
        command.args(["-u", "postgres", "--"]);
    }
    command.current_dir("/");
    command
}
