//! The lab itself: what the other tests take for granted about their servers.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::lab::{self, Options, Postgres, Sql};

#[test]
fn a_private_cluster_keeps_its_rows_over_a_crash_and_a_stop() {
    let server = Postgres::start(Options::default().set("application_name", "it's private"));
    let database = server.fresh_database("kept");
    assert_eq!(database.text("show wal_level"), "logical");
    assert_eq!(server.sql().text("show search_path"), "\"$user\", public");
    database.run("create table t(id int); insert into t values (1); select pg_switch_wal()");
    server.crash();
    assert!(Sql::try_connect(database.url()).is_err());
    server.start_again();
    assert_eq!(database.connect().text("select count(*) from t"), "1");
    server.stop();
    server.start_again();
    assert_eq!(database.connect().text("select count(*) from t"), "1");
}

#[test]
fn a_private_cluster_can_demand_a_password() {
    let server = Postgres::start(Options::default().set("password_encryption", "scram-sha-256"));
    server.sql().run("create role reader login password 'right'");
    server.host_based_authentication("host all reader 127.0.0.1/32 scram-sha-256");
    let url = |password: &str| format!("postgresql://reader:{password}@127.0.0.1:{}/postgres", server.port());
    assert!(Sql::try_connect(&url("wrong")).is_err());
    assert_eq!(Sql::connect(&url("right")).text("select current_user"), "reader");
    server.configure("work_mem", "9MB");
    assert_eq!(server.sql().text("show work_mem"), "9MB");
}

#[test]
fn servers_end_when_the_process_that_wanted_them_is_killed() {
    let script = r#"eval "$(scripts/lab.sh start --for $$ pg)"; echo "$GIMBAL_TEST_PG"; kill -KILL $$"#;
    let output = Command::new("bash").args(["-c", script]).current_dir(lab::root()).output().expect("bash starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let server = printed.trim().trim_start_matches("postgresql://postgres@").trim_end_matches("/postgres");
    assert!(server.starts_with("127.0.0.1:"), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    lab::eventually("the server is gone", Duration::from_secs(20), || TcpStream::connect(server).err());
}

#[test]
fn the_shared_registry_answers_python() {
    let script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1] + '/subjects').status)";
    let mut command = lab::python_inline(script, &[lab::registry().url()]);
    let output = command.output().expect("setpriv starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "200", "{}", String::from_utf8_lossy(&output.stderr));
}
