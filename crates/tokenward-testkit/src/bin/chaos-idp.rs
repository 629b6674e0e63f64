//! Identity providers that misbehave by a script, for tests of whatever fetches key sets.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is how a program talks"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use tokenward_core::{BoxFuture, Clock, Timestamp};
use tokenward_testkit::{Chaos, Script};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "Identity providers that misbehave by a script.

Usage: chaos-idp --script FILE [--listen ADDRESS:PORT] [--json]

      --script FILE           What there is and what becomes of it, YAML or JSON
      --listen ADDRESS:PORT   A loopback address; 127.0.0.1:0 by default, port 0 is a free one
      --json                  Print where everything is as one line of JSON
  -h, --help                  Print this

docs/chaos-idp.md of the repository describes the script. It ends with SIGINT or SIGTERM.
";

/// The longest script that is read, in bytes.
const MAX_SCRIPT: u64 = 4 << 20;

struct Arguments {
    script: String,
    listen: SocketAddr,
    json: bool,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("chaos-idp: {problem}; --help tells more");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("chaos-idp: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Nothing where help is wanted.
fn arguments(mut given: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let (mut script, mut json) = (None, false);
    let mut listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "--json" => json = true,
            "--script" => script = Some(value()?),
            "--listen" => {
                let text = value()?;
                listen = text
                    .parse()
                    .map_err(|_| format!("--listen {text}: not an address with a port"))?;
                // It signs whatever it is asked to.
                if !listen.ip().is_loopback() {
                    return Err(format!("--listen {text}: not a loopback address"));
                }
            }
            other => return Err(format!("{other} is not known")),
        }
    }
    let script = script.ok_or("--script is missing")?;
    Ok(Some(Arguments { script, listen, json }))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let file = &arguments.script;
    let size = fs::metadata(file)
        .map_err(|error| format!("{file}: {error}"))?
        .len();
    if size > MAX_SCRIPT {
        return Err(format!("{file}: more than {MAX_SCRIPT} bytes"));
    }
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let script = Script::parse(&text).map_err(|error| format!("{file}:{error}"))?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
    let chaos = Chaos::start(script, arguments.listen, &clock)
        .map_err(|error| format!("{}: {error}", arguments.listen))?;
    let description = chaos.describe();
    match arguments.json {
        true => println!("{description}"),
        false => print!("{}", readable(&chaos, &description)),
    }
    wait_for_the_end().map_err(|error| error.to_string())
}

fn readable(chaos: &Chaos, description: &Value) -> String {
    let mut text = format!(
        "http://{}/ tells where everything is and how far it has come\n",
        chaos.address()
    );
    let idps = description.get("idps").and_then(Value::as_array);
    for idp in idps.into_iter().flatten() {
        let member = |name: &str| idp.get(name).and_then(Value::as_str).unwrap_or_default();
        text += &format!("\n{}\n", member("name"));
        for name in ["issuer", "jwks_uri", "token"] {
            text += &format!("  {name:<9} {}\n", member(name));
        }
        if member("issuer").starts_with("https:") {
            text += &format!("  {:<9} {}\n", "ca_file", chaos.ca_file().display());
        }
    }
    text
}

fn wait_for_the_end() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminated.recv() => Ok(()),
        }
    })
}

/// The machine's clock.
struct RealClock {
    start: (Timestamp, Instant),
}

#[expect(
    clippy::disallowed_methods,
    reason = "a script's timeline is in real time, and this program has no other clock"
)]
impl RealClock {
    fn new() -> Self {
        Self {
            start: (Self::civil(), Instant::now()),
        }
    }

    fn civil() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp::from_millis(0) + since.unwrap_or_default()
    }

    fn elapsed(&self) -> Duration {
        Instant::now().duration_since(self.start.1)
    }
}

impl Clock for RealClock {
    fn wall(&self) -> Timestamp {
        Self::civil()
    }

    fn steady(&self) -> Timestamp {
        self.start.0 + self.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "as above")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
