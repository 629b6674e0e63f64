//! The command line.

mod check;
mod output;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::Environment;
use output::Output;

/// A JWT trust plane: fetches, guards and serves the signing keys of identity providers, and verifies the tokens that
/// they sign.
#[derive(Parser)]
#[command(name = "tokenward", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 ok, 1 the answer is no, 2 usage or configuration, 3 the server or network failed.";

#[derive(Subcommand)]
enum Command {
    /// Validate a configuration: every problem is printed with its place
    Check {
        /// The file; else TOKENWARD_CONFIG, CONFIG_PATH or ./tokenward.yaml names it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How a command ended.
#[derive(Clone, Copy)]
enum Ending {
    Ok,
    Usage,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(match ending {
            Ending::Ok => 0,
            Ending::Usage => 2,
        })
    }
}

/// Runs what the arguments ask for.
pub(crate) fn run() -> ExitCode {
    let environment = Environment::of_process();
    let output = Output::new(&environment);
    // Clap itself ends with 2 where the arguments are not right.
    let ending = match Cli::parse().command {
        Command::Check { config, json } => check::run(config.as_deref(), json, &environment, &output),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tokenward", &mut std::io::stdout());
            Ending::Ok
        }
    };
    ending.into()
}
