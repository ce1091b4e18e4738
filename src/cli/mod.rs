//! The command line: arguments → config and contracts → one command.

pub mod adopt;
pub mod check;
pub mod doctor;
pub mod init;
pub mod install;
pub mod introspect;
pub mod render;
pub mod repair;
pub mod run;
pub mod schema;
pub mod status;
pub mod tail;
mod tail_kafka;
pub mod tail_unseal;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::Config;
use crate::contract::ContractVersion;
use crate::diagnostic::{Diagnostic, Severity};
use crate::error::{Code, Error, Result};

/// Stable, versioned Avro topics from a PostgreSQL database whose schema changes
#[derive(Parser, Debug)]
#[command(name = "gimbal", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// The config file
    #[arg(long, short, global = true, default_value = "gimbal.yaml", env = "GIMBAL_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Log lines as JSON (the default where standard error is no terminal); GIMBAL_LOG sets the level
    #[arg(long, global = true)]
    pub log_json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Look at a database and draft contracts, schemas and a config for it
    Init(introspect::InitArgs),
    /// Check config, contracts and schemas, without a database
    #[command(after_help = "Exit code: 0 clean or warnings only, 2 errors were found, 1 could not check.")]
    Check {
        /// How to print it
        #[arg(long, value_enum, default_value_t = render::Format::Text)]
        format: render::Format,
        /// A commit, branch or tag of git: refuse what breaks a promise that was released there
        #[arg(long, value_name = "REF")]
        against: Option<String>,
        /// Another database: say what its tables lack, and where they differ; only reads its catalog
        #[arg(long, value_name = "URL")]
        env: Option<String>,
    },
    /// Print the JSON Schema of contract files, for editors
    Schema {
        /// Of what
        #[arg(value_enum)]
        of: schema::Of,
    },
    /// Look for what is wrong with source, sink and registry; each finding has a line that mends it
    #[command(after_help = "Exit code: 0 nothing is wrong or warnings only, 2 errors were found, 1 could not look.")]
    Doctor(doctor::DoctorArgs),
    /// Set up role, rights and publications on the source; --print shows every statement that gimbal ever runs
    Install(install::InstallArgs),
    /// Run the daemon: copy the tables, follow their changes, until SIGTERM
    Run(run::RunArgs),
    /// Go on with another server, or with a slot that was lost or made anew: the next epoch, every table copied again
    Adopt(adopt::AdoptArgs),
    /// Show what the running daemon does
    Status(status::StatusArgs),
    /// Make a topic level with its table again, while the daemon runs
    Repair(repair::RepairArgs),
    /// Print a topic's records, from files or Kafka
    Tail(tail::TailArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Standard output; a reader that goes away early is no error.
#[derive(Default)]
pub struct Output {
    closed: bool,
}

impl Output {
    /// Prints a line.
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.text(&format!("{text}\n"))
    }

    /// Prints a text as it is.
    pub fn text(&mut self, text: &str) -> Result<()> {
        if self.closed {
            return Ok(());
        }
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Error::definite(Code::Io, format!("standard output: {error}"))),
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    logging(&args);
    match command(args) {
        Ok(code) => code,
        Err(Failure::Error(error)) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
        Err(Failure::Findings(findings)) => {
            eprint!("{}", render::text(&findings, std::io::stderr().is_terminal()));
            ExitCode::from(check::EXIT_FINDINGS)
        }
    }
}

/// Why a command failed.
enum Failure {
    Error(Error),
    /// Config, contracts or schemas have errors; all of them are shown.
    Findings(Vec<Diagnostic>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

fn config(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(Failure::Findings)
}

/// Config and contracts, if neither has an error.
fn load(path: &Path) -> Result<(Config, Vec<ContractVersion>), Failure> {
    let config = config(path)?;
    let report = check::check(&config)?;
    if report.count(Severity::Error) > 0 {
        return Err(Failure::Findings(report.findings));
    }
    Ok((config, report.versions))
}

fn command(args: Args) -> Result<ExitCode, Failure> {
    let mut out = Output::default();
    match args.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "gimbal", &mut std::io::stdout());
        }
        Command::Init(init) => introspect::init(&args.config, &init, &mut out)?,
        Command::Schema { of } => out.text(of.text())?,
        Command::Check { format, against, env } => {
            let against = check::Against { reference: against, environment: env, ..check::Against::today() };
            let report = check::check_file(&args.config, &against)?;
            out.text(&report.render(format, std::io::stdout().is_terminal()))?;
            return Ok(ExitCode::from(report.exit_code()));
        }
        Command::Doctor(doctor) => {
            let (config, contracts) = load(&args.config)?;
            return Ok(ExitCode::from(doctor::doctor(&config, &contracts, &doctor, &mut out)?));
        }
        Command::Install(install) => {
            let (config, contracts) = load(&args.config)?;
            install::install(&config, &contracts, &install, &mut out)?;
        }
        Command::Run(run) => {
            let (config, contracts) = load(&args.config)?;
            run::run(config, contracts, &run)?;
        }
        Command::Adopt(adopt) => {
            let (config, contracts) = load(&args.config)?;
            adopt::adopt(&config, contracts, &adopt, &mut out)?;
        }
        Command::Status(status) => status::status(&config(&args.config)?, &status, &mut out)?,
        Command::Repair(repair) => repair::repair(&config(&args.config)?, &repair, &mut out)?,
        Command::Tail(tail) => tail::run(&config(&args.config)?, &tail)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Structured log lines on standard error, `GIMBAL_LOG` sets the level (`info` by default).
fn logging(args: &Args) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("GIMBAL_LOG")
        // The driver tells every NOTICE of the server at `info`.
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,tokio_postgres=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if args.log_json || !std::io::stderr().is_terminal() {
        log.json().flatten_event(true).init();
    } else {
        log.with_target(false).init();
    }
}

/// An async runtime for one command.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::definite(Code::Io, format!("the async runtime does not start: {e}")))
}
