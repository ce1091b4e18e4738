//! Login, TLS and simple statements on the replication connection, against real servers.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use gimbal::error::{Code, Error, Kind};
use gimbal::lsn::Lsn;
use gimbal::postgres::connection::Connection;
use gimbal::postgres::password::Password;
use gimbal::postgres::url::SourceUrl;

use crate::pg::{Postgres, shell, wait_until};

/// The error of a connection that must fail.
fn refused(outcome: gimbal::error::Result<Connection>) -> Error {
    match outcome {
        Ok(_) => panic!("the connection was accepted"),
        Err(error) => error,
    }
}

#[test]
fn a_trusted_login_tells_who_the_server_is() {
    let server = Postgres::shared();
    let identity = server.connect("postgres").identify_system().expect("an identity");
    let expected = server.psql("postgres", "SELECT system_identifier FROM pg_control_system()");
    assert_eq!(identity.system_id.to_string(), expected);
    assert_eq!((identity.timeline, identity.database.as_str()), (1, "postgres"));
    assert!(identity.flush_lsn > Lsn(0));
}

#[test]
fn every_password_method_lets_the_right_password_in_and_no_other() {
    let server = Postgres::shared();
    server.psql(
        "postgres",
        "CREATE ROLE scram_user LOGIN REPLICATION PASSWORD 'right wörd';
         CREATE ROLE clear_user LOGIN REPLICATION PASSWORD 'right wörd';
         SET password_encryption = 'md5';
         CREATE ROLE md5_user LOGIN REPLICATION PASSWORD 'right wörd';",
    );
    for user in ["scram_user", "md5_user", "clear_user"] {
        let mut connection = server.log_in(user, Some("right wörd")).unwrap_or_else(|error| panic!("{user}: {error}"));
        let rows = connection.simple_query("SELECT current_user").expect("an answer");
        assert_eq!(rows, [[Some(user.to_string())]]);

        let error = refused(server.log_in(user, Some("hunter2")));
        assert_eq!((error.code(), error.kind()), (Code::SourceAuth, Kind::Definite), "{user}");
        assert!(!error.to_string().contains("hunter2"), "{error}");

        let error = refused(server.log_in(user, None));
        assert_eq!((error.code(), error.kind()), (Code::SourceAuth, Kind::Definite), "{user}");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("PGPASSWORD")), "{error}");
    }
}

#[test]
fn a_role_without_replication_is_refused_with_what_it_needs() {
    let server = Postgres::shared();
    server.psql("postgres", "CREATE ROLE plain_user LOGIN");
    let error = refused(server.log_in("plain_user", None));
    assert_eq!(error.code(), Code::SourceAuth);
    assert!(error.hint_text().is_some_and(|hint| hint.contains("REPLICATION")), "{error}");
}

#[test]
fn an_unknown_database_and_a_closed_port_are_told_apart() {
    let server = Postgres::shared();
    let error = refused(Connection::connect(&server.url("postgres", "nowhere"), None));
    assert_eq!((error.code(), error.kind()), (Code::SourceUrl, Kind::Definite), "{error}");

    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let url = format!("postgresql://u@{free}/d").parse().expect("a URL");
    let error = refused(Connection::connect(&url, None));
    assert_eq!((error.code(), error.kind()), (Code::SourceUnreachable, Kind::Transient), "{error}");
}

#[test]
fn the_pins_win_over_the_settings_of_role_and_database() {
    let server = Postgres::shared();
    let database = server.database("pins");
    server.psql(
        "postgres",
        "CREATE ROLE pinned LOGIN SUPERUSER REPLICATION;
         ALTER ROLE pinned SET DateStyle = 'SQL, DMY'; ALTER ROLE pinned SET IntervalStyle = 'postgres_verbose';
         ALTER ROLE pinned SET TimeZone = 'Asia/Tokyo'; ALTER ROLE pinned SET bytea_output = 'escape';
         ALTER ROLE pinned SET extra_float_digits = 0; ALTER ROLE pinned SET search_path = public;
         ALTER DATABASE pins SET statement_timeout = '1s'; ALTER DATABASE pins SET synchronous_commit = 'off';",
    );
    let mut connection = Connection::connect(&server.url("pinned", &database), None).expect("a connection");
    for (name, expected) in [
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "iso_8601"),
        ("TimeZone", "UTC"),
        ("bytea_output", "hex"),
        ("client_encoding", "UTF8"),
        ("extra_float_digits", "1"),
        ("standard_conforming_strings", "on"),
        ("search_path", ""),
        ("statement_timeout", "1min"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "5min"),
        ("wal_sender_timeout", "10s"),
        ("synchronous_commit", "local"),
        ("row_security", "off"),
        ("synchronize_seqscans", "off"),
        ("max_parallel_workers_per_gather", "0"),
        ("application_name", "gimbal"),
    ] {
        let rows = connection.simple_query(&format!("SELECT current_setting('{name}')")).expect("an answer");
        assert_eq!(rows, [[Some(expected.to_string())]], "{name}");
    }
}

#[test]
fn a_database_in_sql_ascii_is_refused() {
    let server = Postgres::shared();
    server.psql("postgres", "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    let error = refused(Connection::connect(&server.url("postgres", "ascii"), None));
    assert_eq!((error.code(), error.kind()), (Code::SourceSetting, Kind::Definite), "{error}");
}

#[test]
fn a_connection_survives_a_failed_statement_and_hides_its_values() {
    let mut connection = Postgres::shared().connect("postgres");
    let error = connection.simple_query("SELECT 'hunter2'::int").expect_err("refused");
    assert_eq!(error.code(), Code::SourceStatement);
    assert!(!error.to_string().contains("hunter2") && error.to_string().contains("22P02"), "{error}");
    let rows = connection.simple_query("SELECT 1, NULL").expect("an answer");
    assert_eq!(rows, [[Some("1".to_string()), None]]);
}

/// What an impostor makes of a message that it received.
type Answer = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;

/// A server that plays `answers`, one after each message that it receives.
fn impostor(answers: Vec<Answer>) -> SourceUrl {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("postgresql://u@{}/d?sslmode=disable", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        for answer in answers {
            let mut message = [0; 4096];
            if let Ok(len) = socket.read(&mut message) {
                socket.write_all(&answer(&message[..len])).ok();
            }
        }
    });
    url.parse().expect("a URL")
}

/// The same whatever it received.
fn fixed(answer: Vec<u8>) -> Answer {
    Box::new(move |_| answer.clone())
}

/// An authentication request of this kind.
fn authentication(kind: u32, body: &[u8]) -> Vec<u8> {
    [&b"R"[..], &(8 + body.len() as u32).to_be_bytes(), &kind.to_be_bytes(), body].concat()
}

#[test]
fn a_server_that_cannot_prove_that_it_knows_the_password_is_refused() {
    let offer = || fixed(authentication(10, b"SCRAM-SHA-256\0\0"));
    // Goes on from the client's nonce, as a real server does.
    let go_on = || -> Answer {
        Box::new(|message| {
            let message = String::from_utf8_lossy(message);
            let nonce = message.rsplit("r=").next().expect("a nonce");
            authentication(11, format!("r={nonce}more,s=c2FsdA==,i=4096").as_bytes())
        })
    };
    let accept = || fixed(authentication(0, b""));
    let password = Password::new("hunter2");
    for (case, answers, code) in [
        ("no SCRAM at all", vec![offer(), accept()], Code::SourceProtocol),
        ("no proof at the end", vec![offer(), go_on(), accept()], Code::SourceProtocol),
        ("a wrong proof", vec![offer(), go_on(), fixed(authentication(12, b"v=AAAA"))], Code::SourceAuth),
        (
            "a nonce that is not ours",
            vec![offer(), fixed(authentication(11, b"r=abc,s=c2FsdA==,i=4096"))],
            Code::SourceAuth,
        ),
        ("another mechanism", vec![fixed(authentication(10, b"OAUTHBEARER\0\0"))], Code::SourceAuth),
        ("GSSAPI", vec![fixed(authentication(7, b""))], Code::SourceAuth),
        ("SSPI", vec![fixed(authentication(9, b""))], Code::SourceAuth),
    ] {
        let error = refused(Connection::connect(&impostor(answers), Some(&password)));
        assert_eq!((error.code(), error.kind()), (code, Kind::Definite), "{case}: {error}");
    }
}

/// Makes two authorities, and certificates of the first one for `localhost`: a good and an expired one.
fn make_certificates(folder: &Path) {
    shell(&format!(
        "cd {} && for ca in ca other; do
             openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.crt
         done
         openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout server.key -out server.csr
         printf 'subjectAltName=DNS:localhost' >names
         openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -sha256 -days 2 -extfile names -out good.crt
         openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days -1 -extfile names -out old.crt
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -sha384 -nodes -days 2 -subj /CN=eca \
             -keyout eca.key -out eca.crt
         openssl x509 -req -in server.csr -CA eca.crt -CAkey eca.key -CAcreateserial -sha384 -days 2 -extfile names -out ec.crt
         cp good.crt server.crt && chmod 600 server.key && chmod 644 *.crt",
        folder.display()
    ));
}

pub fn start_with_tls() -> Postgres {
    Postgres::start(&[("ssl", "on")], make_certificates)
}

#[test]
fn tls_is_verified_and_each_failure_has_its_diagnosis() {
    let server = start_with_tls();
    let root = |name: &str| server.folder.join(name).display().to_string();
    let connect = |host: &str, mode: &str, root: &str| {
        let url = server.url_to(host, "postgres", "postgres", &format!("?sslmode={mode}&sslrootcert={root}"));
        Connection::connect(&url, None)
    };
    let mut connection = connect("localhost", "verify-full", &root("ca.crt")).expect("verified");
    let rows = connection.simple_query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").expect("rows");
    assert_eq!(rows, [[Some("t".to_string())]]);
    connect("127.0.0.1", "verify-ca", &root("ca.crt")).expect("the chain is good, whatever the name");

    let failed_as = |error: Error, code: Code, part: &str| {
        assert_eq!((error.code(), error.kind()), (code, Kind::Definite), "{error}");
        assert!(error.diagnosis().contains(part), "`{part}` is missing: {error}");
    };
    let failed = |error: Error, part: &str| failed_as(error, Code::SourceTls, part);
    let wrong_name = refused(connect("127.0.0.1", "verify-full", &root("ca.crt")));
    failed_as(wrong_name, Code::CertificateName, "is not for `127.0.0.1`");
    for mode in ["verify-full", "verify-ca"] {
        let untrusted = refused(connect("localhost", mode, &root("other.crt")));
        failed_as(untrusted, Code::CertificateUntrusted, "no trusted root");
    }
    failed(refused(connect("localhost", "verify-full", &root("nothing.crt"))), "cannot be read");
    failed(refused(connect("localhost", "verify-full", &root("server.csr"))), "holds no certificate");

    shell(&format!("cd {} && cp old.crt server.crt", server.folder.display()));
    server.psql("postgres", "SELECT pg_reload_conf()");
    let url = server.url_to("localhost", "postgres", "postgres", &format!("?sslrootcert={}", root("ca.crt")));
    wait_until("the expired certificate", || Connection::connect(&url, None).is_err());
    failed(refused(Connection::connect(&url, None)), "has expired");
    failed(refused(connect("127.0.0.1", "verify-ca", &root("ca.crt"))), "has expired");
}

#[test]
fn a_server_that_refuses_tls_is_an_error_and_no_downgrade() {
    let server = Postgres::shared();
    let url = server.url_to("localhost", "postgres", "postgres", "?sslmode=verify-full");
    let error = refused(Connection::connect(&url, None));
    assert_eq!((error.code(), error.kind()), (Code::TlsRefused, Kind::Definite), "{error}");
    assert!(error.diagnosis().contains("refuses TLS"), "{error}");

    // Somebody on the way who takes the server's TLS away looks the same.
    let stripped = impostor(vec![fixed(b"N".to_vec())]).to_string().replace("sslmode=disable", "sslmode=verify-full");
    let error = refused(Connection::connect(&stripped.parse().expect("a URL"), None));
    assert_eq!((error.code(), error.kind()), (Code::TlsRefused, Kind::Definite), "{error}");
}

#[test]
fn ordinary_connections_share_pins_and_tls() {
    let server = start_with_tls();
    let root = server.folder.join("ca.crt").display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ask = |server: &Postgres, query: &str| {
        let url = server.url_to("localhost", "postgres", "postgres", query);
        let config = gimbal::postgres::connection::sql_config(&url, Some(&Password::new("unused")));
        let connector = gimbal::postgres::tls::sql_connector(&url).expect("a connector").expect("TLS");
        runtime.block_on(async {
            let (client, connection) = config.connect(connector).await?;
            tokio::spawn(connection);
            let ask = "SELECT ssl, current_setting('TimeZone') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            let row = client.query_one(ask, &[]).await?;
            Ok::<_, tokio_postgres::Error>((row.get::<_, bool>(0), row.get::<_, String>(1)))
        })
    };
    let query = format!("?sslmode=verify-full&sslrootcert={root}");
    assert_eq!(ask(&server, &query).expect("an answer"), (true, "UTC".to_string()));
    ask(Postgres::shared(), &query).expect_err("no downgrade");
}

// ---- channel binding -----------------------------------------------------------------------------------------------

/// Logs in on both kinds of connection: for replication, and for ordinary SQL.
fn log_in_twice(url: &SourceUrl, password: Option<&Password>) -> [gimbal::error::Result<()>; 2] {
    let source = gimbal::postgres::sql::Source { url: url.clone(), password: password.cloned() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ordinary = runtime.block_on(gimbal::postgres::sql::connect(&source)).map(|_| ());
    [Connection::connect(url, password).map(|_| ()), ordinary]
}

const ROLES: &str = "CREATE ROLE scram_user LOGIN REPLICATION PASSWORD 'right';
    CREATE ROLE clear_user LOGIN REPLICATION PASSWORD 'right'; CREATE ROLE trusted LOGIN REPLICATION;
    SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN REPLICATION PASSWORD 'right'";

#[test]
fn a_login_is_bound_to_certificates_of_both_kinds_and_every_other_login_is_refused_on_demand() {
    let server = start_with_tls();
    server.psql("postgres", ROLES);
    let right = Password::new("right");
    let url = |user: &str, port: u16, ca: &str, binding: &str| -> SourceUrl {
        let ca = server.folder.join(ca).display().to_string();
        format!("postgresql://{user}@localhost:{port}/postgres?sslrootcert={ca}&channel_binding={binding}")
            .parse()
            .expect("a URL")
    };
    for (certificate, ca) in [("good.crt", "ca.crt"), ("ec.crt", "eca.crt")] {
        shell(&format!("cd {} && cp {certificate} server.crt", server.folder.display()));
        server.psql("postgres", "SELECT pg_reload_conf()");
        let trusted = url("trusted", server.port, ca, "prefer");
        wait_until("the server's certificate", || Connection::connect(&trusted, None).is_ok());
        for binding in ["require", "prefer", "disable"] {
            let logins = log_in_twice(&url("scram_user", server.port, ca, binding), Some(&right));
            logins
                .into_iter()
                .for_each(|login| login.unwrap_or_else(|error| panic!("{certificate} {binding}: {error}")));
        }
        let wrong = Password::new("wrong");
        for login in log_in_twice(&url("scram_user", server.port, ca, "require"), Some(&wrong)) {
            assert_eq!(login.expect_err("refused").code(), Code::SourceAuth);
        }
    }
    let demand = |user: &str, port: u16, part: &str| {
        for login in log_in_twice(&url(user, port, "eca.crt", "require"), Some(&right)) {
            let error = login.expect_err("refused");
            assert_eq!((error.code(), error.kind()), (Code::ChannelBinding, Kind::Definite), "{user}: {error}");
            assert!(!error.to_string().contains("right"), "{error}");
        }
        let error = refused(Connection::connect(&url(user, port, "eca.crt", "require"), Some(&right)));
        assert!(error.diagnosis().contains(part), "{error}");
    };
    demand("trusted", server.port, "without SCRAM");
    demand("clear_user", server.port, "in clear");
    demand("md5_user", server.port, "MD5");

    // A server that speaks TLS by somebody in front of it offers no -PLUS.
    let address = format!("127.0.0.1:{}", server.port);
    let in_front = TlsProxy::start(&server.folder, "ec", &address, "postgres");
    demand("scram_user", in_front.port, "does not offer SCRAM-SHA-256-PLUS");
    for login in log_in_twice(&url("scram_user", in_front.port, "eca.crt", "prefer"), Some(&right)) {
        login.expect("without binding");
    }
    // Somebody in between, with another certificate that we trust: both sides see TLS, and the binding differs.
    let between = TlsProxy::start(&server.folder, "good", &address, "postgres-tls");
    for binding in ["require", "prefer"] {
        for login in log_in_twice(&url("scram_user", between.port, "ca.crt", binding), Some(&right)) {
            let error = login.expect_err("the server notices");
            assert_eq!((error.code(), error.kind()), (Code::SourceAuth, Kind::Definite), "{error}");
            assert!(error.diagnosis().contains("channel binding"), "{error}");
        }
    }
    for login in log_in_twice(&url("scram_user", between.port, "ca.crt", "disable"), Some(&right)) {
        login.expect("that is what the binding is for");
    }
}

#[test]
fn ordinary_sql_fails_with_the_same_codes_as_the_stream() {
    let server = start_with_tls();
    let url = |host: &str, root: &str| {
        let root = server.folder.join(root).display().to_string();
        server.url_to(host, "postgres", "postgres", &format!("?sslmode=verify-full&sslrootcert={root}"))
    };
    server.psql("postgres", ROLES);
    for (url, code) in [
        (url("127.0.0.1", "ca.crt"), Code::CertificateName),
        (url("localhost", "other.crt"), Code::CertificateUntrusted),
        (Postgres::shared().url_to("localhost", "postgres", "postgres", "?sslmode=verify-full"), Code::TlsRefused),
        (server.url("scram_user", "postgres"), Code::SourceAuth),
    ] {
        for login in log_in_twice(&url, None) {
            let error = login.expect_err("refused");
            assert_eq!((error.code(), error.kind()), (code, Kind::Definite), "{url}: {error}");
        }
    }
}

/// Takes TLS connections with a certificate of its own, and passes on what they say.
pub struct TlsProxy {
    pub port: u16,
    process: std::process::Child,
}

const TLS_PROXY: &str = r#"
import select, socket, ssl, sys, threading
certificate, key, host, port, mode = sys.argv[1:]
REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
front.load_cert_chain(certificate, key)
behind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
behind.check_hostname, behind.verify_mode = False, ssl.CERT_NONE

def serve(client):
    try:
        server = socket.create_connection((host, int(port)))
        if mode != "https":
            assert client.recv(8, socket.MSG_WAITALL) == REQUEST
            client.sendall(b"S")
        if mode == "postgres-tls":
            server.sendall(REQUEST)
            assert server.recv(1) == b"S"
            server = behind.wrap_socket(server)
        client = front.wrap_socket(client, server_side=True)
        other = {client: server, server: client}
        while True:
            ready = [s for s in other if isinstance(s, ssl.SSLSocket) and s.pending()]
            for s in ready or select.select(list(other), [], [])[0]:
                data = s.recv(65536)
                if not data:
                    return
                other[s].sendall(data)
    except (OSError, AssertionError):
        pass
    finally:
        client.close()
        server.close()

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

impl TlsProxy {
    /// With `<certificate>.crt` and `server.key` of a folder, in front of `address`. `mode`: `https`, `postgres` (clear
    /// text behind it), `postgres-tls`.
    pub fn start(folder: &Path, certificate: &str, address: &str, mode: &str) -> TlsProxy {
        let (certificate, key) = (folder.join(format!("{certificate}.crt")), folder.join("server.key"));
        let (host, port) = address.rsplit_once(':').expect("host and port");
        let paths = [certificate, key].map(|path| path.display().to_string());
        let mut command = crate::lab::python_inline(TLS_PROXY, &[&paths[0], &paths[1], host, port, mode]);
        let mut process = command.stdout(std::process::Stdio::piped()).spawn().expect("python starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("a pipe");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).expect("a line");
        TlsProxy { port: line.trim().parse().expect("a port"), process }
    }
}

impl Drop for TlsProxy {
    fn drop(&mut self) {
        // `timeout` passes TERM on.
        let _ = std::process::Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}
