//! The demo as a user runs it, in small: real server, real daemon, and an example that judges itself.

use std::process::Command;

/// What the last page has to say; the example has compared these figures with production's before it says so.
const TOLD: [&str; 9] = [
    "PRODUCTION: renamed shop.orders.ttl_amt to total_amount, added sales_channel",
    "NAIVE READER: `ttl_amt` is not in the stream any more",
    "shop: version 42 of the application is live",
    "`total_amount` of the contract follows `ttl_amt` to `total_amount`",
    "subscriber    did not notice",
    "naive reader  went blind",
    "ok     sales by category and region",
    "ok     shop.orders.v1",
    "All checks passed",
];

#[test]
fn the_demo_survives_its_own_migration_and_says_so() {
    let example = build_example();
    let output = Command::new(&example)
        .args(["play", "--quick", "--gimbal", env!("CARGO_BIN_EXE_gimbal")])
        .output()
        .expect("the example starts");
    let told = String::from_utf8_lossy(&output.stdout);
    let failure = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{told}\n{failure}", output.status);
    for line in TOLD {
        assert!(told.contains(line), "the demo does not say `{line}`:\n{told}");
    }
    assert!(!told.contains("FAILED"), "{told}");
}

/// `cargo test` builds the examples, `cargo test --test suite` does not: so cargo is asked, and gives the place.
fn build_example() -> String {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--example", "demo", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo tells the test about its package would make build scripts run anew, and all that rests on them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().expect("cargo starts");
    let messages = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{messages}\n{}", String::from_utf8_lossy(&output.stderr));
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| Some(message.get("executable")?.as_str()?.to_owned()));
    executable.expect("cargo says where the example is")
}
