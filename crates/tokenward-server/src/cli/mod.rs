//! The command line.

mod answers;
mod api;
mod check;
mod fetch;
mod idps;
mod input;
mod inspect;
mod keys;
mod output;
mod raw;
mod runtime;
mod serve;
mod source;
mod store;
mod tokens;
mod verify;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand};
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
    /// Run the server
    Serve {
        #[command(flatten)]
        config: ConfigFile,
        /// Try things out: on loopback only, plain HTTP and private addresses allowed, with lines to paste
        #[arg(long)]
        dev: bool,
    },
    /// Validate a configuration: every problem is printed with its place
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Look at key sets
    #[command(subcommand)]
    Jwks(Jwks),
    /// Verify signatures with a key at hand
    #[command(subcommand)]
    Jws(Jws),
    /// Look at tokens and verify them; mint, renew, follow and revoke those of a running server
    #[command(subcommand)]
    Token(Token),
    /// Revoke what a running server issued to a user
    #[command(subcommand)]
    User(tokens::User),
    /// List, make, rotate, revoke, import and export the signing keys of a running server
    #[command(subcommand)]
    Keys(keys::Keys),
    /// List, add, change, remove, refresh and purge the identity providers of a running server
    #[command(subcommand)]
    Idps(idps::Idps),
    /// Print the OpenAPI 3.1 document of the server's interface
    Openapi,
    /// Back up, restore and move the store that the configuration names
    #[command(subcommand)]
    Store(Store),
    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Subcommand)]
enum Jwks {
    /// Fetch a key set as the server does, and tell of each key whether it is usable, and of the set how long it is fresh
    Fetch {
        /// The key set's address
        url: String,
        #[command(flatten)]
        guards: FetchArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
enum Jws {
    /// Verify the signature, and nothing else, of tokens with a JWK or a set of them, and print their payloads
    Verify {
        /// A file with one JWK, symmetric ones too, or a set
        #[arg(long, value_name = "FILE")]
        jwk: PathBuf,
        /// The token; else standard input holds one a line
        token: Option<String>,
    },
}

#[derive(Subcommand)]
enum Token {
    /// Print a token's header and claims, unverified, with what is remarkable about them
    Inspect {
        /// The token; `-` or absent: standard input
        token: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Verify a token: signature and claims
    Verify(VerifyArgs),
    #[command(flatten)]
    Call(tokens::Call),
}

#[derive(Subcommand)]
enum Store {
    /// Copy the store to a new file, while the server runs or not
    Backup {
        /// The backup; a file of this name is never overwritten
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the store from a backup; there must be none yet
    Restore {
        /// The backup
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Copy everything to a new store, which may be of another engine; the server must not run
    Migrate {
        /// The new store, as `store.url` names one; `${NAME}` in it stands for a variable, for passwords
        #[arg(long, value_name = "URL")]
        to: String,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct VerifyArgs {
    /// The token; `-` or absent: standard input
    token: Option<String>,
    /// Verify by the IdP of this configuration that has the token's issuer
    #[arg(long, value_name = "FILE", required_unless_present = "jwks", conflicts_with_all = ["jwks", "issuer", "audience"])]
    config: Option<PathBuf>,
    /// The tenant of the configuration whose issuers are accepted
    #[arg(long, value_name = "NAME", default_value = tokenward::DEFAULT_TENANT, conflicts_with = "jwks")]
    tenant: String,
    /// Verify by this key set, a file or an http or https URL
    #[arg(long, value_name = "FILE|URL", requires_all = ["issuer", "audience"])]
    jwks: Option<String>,
    /// The `iss` that the token must have
    #[arg(long, requires = "jwks")]
    issuer: Option<String>,
    /// An `aud` of which the token must have one; may be repeated
    #[arg(long, requires = "jwks")]
    audience: Vec<String>,
    #[command(flatten)]
    guards: FetchArgs,
    /// Verify as at this time: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "RFC3339|SECONDS", value_parser = verify::parse_time)]
    at: Option<tokenward_core::Timestamp>,
    /// Print every check in its order
    #[arg(long)]
    explain: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration; else TOKENWARD_CONFIG, CONFIG_PATH or ./tokenward.yaml names it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What a fetch may do.
#[derive(Args)]
struct FetchArgs {
    /// Fetch over plain http too
    #[arg(long)]
    allow_http: bool,
    /// Connect to loopback and private addresses too
    #[arg(long)]
    allow_private_addresses: bool,
    /// Trust these certificates (PEM) beside the platform's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// How a command ended that did what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Ok,
    /// The answer is no.
    No,
}

/// Why a command could not do what it was asked for.
enum Failure {
    /// The arguments, a file or the configuration are not right.
    Usage(String),
    /// The server or the network failed.
    Network(String),
}

impl Failure {
    fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }
}

/// Runs what the arguments ask for.
pub(crate) fn run() -> ExitCode {
    let environment = Environment::of_process();
    let output = Output::new(&environment);
    // Clap itself ends with 2 where the arguments are not right.
    let ending = match Cli::parse().command {
        Command::Serve { config, dev } => serve::run(config.config.as_deref(), dev, &environment),
        Command::Check { config, json } => check::run(config.config.as_deref(), json, &environment, &output),
        Command::Jwks(Jwks::Fetch { url, guards, json }) => fetch::run(&url, &guards, json, &output),
        Command::Jws(Jws::Verify { jwk, token }) => raw::run(&jwk, token.as_deref(), &output),
        Command::Token(Token::Inspect { token, json }) => inspect::run(token.as_deref(), json, &output),
        Command::Token(Token::Verify(arguments)) => verify::run(&arguments, &environment, &output),
        Command::Token(Token::Call(call)) => tokens::run(&call, &environment, &output),
        Command::User(command) => tokens::run_user(&command, &environment, &output),
        Command::Keys(command) => keys::run(&command, &environment, &output),
        Command::Idps(command) => idps::run(&command, &environment, &output),
        Command::Openapi => {
            output.line(crate::admin::openapi_json());
            Ok(Ending::Ok)
        }
        Command::Store(command) => store::run(&command, &environment, &output),
        Command::Completions { shell } => {
            // Made whole first: it panics where it cannot write, as to a pipe that `head` has closed.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tokenward", &mut script);
            output.line(String::from_utf8_lossy(&script).trim_end());
            Ok(Ending::Ok)
        }
    };
    match ending {
        Ok(Ending::Ok) => ExitCode::SUCCESS,
        Ok(Ending::No) => ExitCode::from(1),
        Err(failure) => {
            let (message, code) = match failure {
                Failure::Usage(message) => (message, 2),
                Failure::Network(message) => (message, 3),
            };
            output.failure(message);
            ExitCode::from(code)
        }
    }
}
