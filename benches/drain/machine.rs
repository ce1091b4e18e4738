//! What the figures were taken on.

use std::process::Command;

use crate::contender::Lab;

/// Prints machine, versions and commit.
pub fn describe(lab: &Lab, quick: bool) {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = file("/proc/cpuinfo");
    let field = |name: &str| cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(": "));
    let model = field("model name").map_or("", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: u64 = file("/proc/meminfo").split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    let kernel = file("/proc/sys/kernel/osrelease");
    let server = lab.sql().text("show server_version");
    println!("machine   {model}, {cores} cores, {} GiB, Linux {}", memory >> 20, kernel.trim());
    println!("versions  PostgreSQL {server}, Kafka {}, {}", kafka_version(), said("rustc", &["--version"]));
    let dirty =
        if said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() { "" } else { ", changed" };
    println!("commit    {}{dirty}", said("git", &["rev-parse", "--short", "HEAD"]));
    println!("mode      {}, load average {}", if quick { "quick" } else { "full" }, load());
}

/// The load average of the last minute.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(crate::support::lab::root()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn kafka_version() -> String {
    let pom = std::fs::read_to_string(crate::support::lab::root().join("scripts/kafka-pom.xml")).unwrap_or_default();
    let version = pom.split_once("<kafka.version>").and_then(|(_, rest)| rest.split_once('<'));
    version.map_or("?", |(version, _)| version).to_owned()
}
