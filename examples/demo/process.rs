//! Child processes that end with who started them: their standard input is held open for as long as they shall run.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// The child's side: tells when standard input has ended.
pub struct Held(Arc<AtomicBool>);

impl Held {
    /// Starts to watch standard input.
    pub fn watch() -> Held {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = ended.clone();
        thread::spawn(move || {
            let mut rest = Vec::new();
            let _ = io::stdin().lock().read_to_end(&mut rest);
            flag.store(true, Ordering::Relaxed);
        });
        Held(ended)
    }

    /// True for as long as standard input is open.
    pub fn is_open(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// The parent's side: a running process.
pub struct Running {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Running {
    /// Starts a command. Its standard input stays open, what it prints is read as lines, and standard error goes to a
    /// log. Ctrl-C reaches this process alone, so that the end is orderly.
    pub fn start(name: &'static str, command: &mut Command, logs: &Path) -> Result<Running> {
        let log = logs.join(format!("{name}.log"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?).process_group(0);
        let mut child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(io::Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        Ok(Running { name, child, lines, log })
    }

    /// A line that it has printed and nobody has read, if there is one.
    pub fn line(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Reads its lines up to the one that is wanted, and returns that one's rest after `prefix`.
    pub fn await_line(&self, prefix: &str, patience: Duration) -> Result<(Vec<String>, String)> {
        let deadline = Instant::now() + patience;
        let mut before = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).map_err(|_| self.failure(&format!("did not say `{prefix}`")))?;
            if let Some(rest) = line.strip_prefix(prefix) {
                return Ok((before, rest.trim().to_owned()));
            }
            before.push(line);
        }
    }

    /// Fails if it has ended, with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.failure(&format!("ended early ({status})"))),
        }
    }

    /// Ends its standard input, waits for its own end, and returns what it still said.
    pub fn release(mut self, patience: Duration) -> Result<Vec<String>> {
        drop(self.child.stdin.take());
        self.finish(patience)?;
        Ok(self.lines.iter().collect())
    }

    /// Asks it to end as an operator would, with SIGTERM, and waits until it has.
    pub fn terminate(mut self, patience: Duration) -> Result<()> {
        self.ask()?;
        self.finish(patience)
    }

    fn ask(&self) -> io::Result<ExitStatus> {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).stderr(Stdio::null()).status()
    }

    fn finish(&mut self, patience: Duration) -> Result<()> {
        match self.wait(patience)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.failure(&format!("failed ({status})"))),
            None => Err(self.failure(&format!("did not stop within {} s", patience.as_secs()))),
        }
    }

    fn wait(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.child.try_wait()? {
                None if Instant::now() < deadline => thread::sleep(POLL),
                status => return Ok(status),
            }
        }
    }

    fn failure(&self, what: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.split_at(lines.len().saturating_sub(20)).1.join("\n  ");
        format!("{} {what}\n  {end}", self.name).into()
    }
}

impl Drop for Running {
    /// A process that is forgotten on the way out of a failure must not outlive it.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Ok(None) = self.wait(Duration::from_secs(2)) {
            let _ = self.ask();
        }
        if let Ok(None) = self.wait(Duration::from_secs(15)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Prints text. Fails, and does not panic, if nobody reads any more.
pub fn print_all(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Prints a line, for a parent to read.
pub fn print_line(text: &str) -> io::Result<()> {
    print_all(&format!("{text}\n"))
}

/// Runs a command to its end; its output belongs to the failure, if it fails.
pub fn complete(name: &str, command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {name}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} failed ({})\n{text}{error}", output.status).into())
}
