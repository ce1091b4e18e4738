//! What the kernel knows about a process: CPU seconds and peak memory.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(5);

/// What a run cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// From the start of the process to its end.
    pub wall: f64,
    /// CPU seconds of the process.
    pub own_cpu: f64,
    /// CPU seconds of the server's process that decodes the log for it.
    pub walsender_cpu: f64,
    /// CPU seconds of the broker meanwhile.
    pub broker_cpu: f64,
    /// Largest resident set of the process, in MiB.
    pub peak_mib: f64,
}

/// Waits for a process, and watches it and the walsender that `walsender` finds, once it does.
pub fn watch(mut child: Child, begin: Instant, mut walsender: impl FnMut() -> Option<u32>) -> (ExitStatus, Cost) {
    let (mut cost, mut sender, mut looks) = (Cost::default(), None, 0u32);
    let status = loop {
        if let Some((status, cpu)) = reap(&mut child) {
            cost.wall = begin.elapsed().as_secs_f64();
            cost.own_cpu = cpu;
            break status;
        }
        if sender.is_none() {
            sender = walsender();
        }
        if let Some(cpu) = sender.and_then(cpu_seconds) {
            cost.walsender_cpu = cpu;
        }
        // The kernel keeps the peak; it only has to be read before the process ends.
        if looks.is_multiple_of(4) {
            cost.peak_mib = peak_mib(child.id()).unwrap_or(cost.peak_mib);
        }
        looks += 1;
        std::thread::sleep(PAUSE);
    };
    (status, cost)
}

/// The exit status and CPU seconds of a child that has ended.
fn reap(child: &mut Child) -> Option<(ExitStatus, f64)> {
    use std::os::unix::process::ExitStatusExt;
    let (mut status, pid) = (0, i32::try_from(child.id()).ok()?);
    // SAFETY: both structures are valid for the call; all zeroes is a valid `rusage`.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (ended == pid).then(|| (ExitStatus::from_raw(status), seconds(usage.ru_utime) + seconds(usage.ru_stime)))
}

/// CPU seconds of a running process, its threads included.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything; utime and stime are the 12th and 13th field behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    // SAFETY: asks for a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Some((ticks()? + ticks()?) / per_second)
}

/// The largest resident set of a process, in MiB.
pub fn peak_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kib.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

/// The process of the lab's broker: the one whose folder holds this broker's settings.
pub fn broker(bootstrap: &str) -> Option<u32> {
    let listener = format!("listeners=CLIENT://{bootstrap}");
    let of_broker = |folder: &Path| {
        let cmdline = std::fs::read_to_string(folder.join("cmdline")).unwrap_or_default();
        let settings = std::fs::read_to_string(folder.join("cwd/server.properties")).unwrap_or_default();
        cmdline.contains("kafka.Kafka\0") && settings.contains(&listener)
    };
    let folders = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let found: Option<PathBuf> = folders.into_iter().find(|folder| of_broker(folder));
    found?.file_name()?.to_str()?.parse().ok()
}
