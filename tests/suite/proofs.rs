//! What the design rests on, proved on live servers or on a model by the scripts in `tests/proofs`.
//!
//! A proof prints one line per claim, `ok` or `FAIL`, and ends with `n/n as expected`. Those that stall the commits of
//! their server, or wait for all of its transactions, have a private one.

use crate::lab::{self, Kafka, Options, Postgres};

#[test]
fn p4_a_snapshot_by_key_ranges_is_level_under_load() {
    let server = Postgres::start(Options::default());
    prove("p4_snapshot.py", &["3"], 2, &[("GIMBAL_TEST_PG", &server.url("postgres"))]);
}

#[test]
fn p4c_a_snapshot_by_ctid_ranges_is_level_under_load() {
    let server = Postgres::start(Options::default());
    prove("p4c_ctid.py", &["3"], 17, &[("GIMBAL_TEST_PG", &server.url("postgres"))]);
}

#[test]
fn p7_a_table_added_to_the_publication_needs_the_xmin_fence() {
    let server = Postgres::start(Options::default());
    prove("p7_publication.py", &[], 5, &[("GIMBAL_TEST_PG", &server.url("postgres"))]);
}

#[test]
fn p9_the_newest_checkpoint_is_found_only_after_fencing_and_at_the_high_watermark() {
    prove("p9_kafka.py", &[], 10, &[("GIMBAL_TEST_KAFKA", lab::kafka().bootstrap())]);
}

#[test]
fn p11_delivery_is_exactly_once_in_every_interleaving_and_needs_every_rule() {
    prove("p11_eos_model.py", &["2", "3"], 11, &[]);
}

#[test]
fn p11b_a_late_end_of_transaction_is_fenced_by_a_new_producer() {
    let proxy = format!("127.0.0.1:{}", lab::free_port());
    let broker = Kafka::start(&[("GIMBAL_LAB_KAFKA_ADVERTISED", &proxy)]);
    let environment = [("GIMBAL_TEST_KAFKA", broker.bootstrap()), ("GIMBAL_TEST_KAFKA_PROXY", &proxy)];
    prove("p11b_endtxn.py", &[], 4, &environment);
}

/// Runs a proof and demands all of its `claims`, each as expected.
fn prove(script: &str, arguments: &[&str], claims: usize, environment: &[(&str, &str)]) {
    let mut command = lab::python_command(&format!("proofs/{script}"), arguments);
    let output = command.envs(environment.iter().copied()).output().expect("setpriv starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    println!("{printed}");
    assert!(output.status.success(), "`{script}` ended with {}\n{complaints}", output.status);
    let proved = printed.lines().filter(|line| line.starts_with("ok ")).count();
    let failed: Vec<_> = printed.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failed.is_empty(), "`{script}`: {}\n{complaints}", failed.join("\n"));
    assert_eq!(proved, claims, "`{script}` proved another number of claims");
    assert_eq!(printed.lines().last(), Some(format!("{claims}/{claims} as expected").as_str()), "`{script}`");
}
