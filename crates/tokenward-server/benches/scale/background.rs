//! Whether those who ask notice that sets are refreshed: how long `/authorize` takes a client while a fleet is kept fresh, beside
//! the same fleet at rest.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use rustix::process::Signal;
use tokenward_testkit::bench::{Instant, Rows, pin, quantile};

use crate::{
    keys::KeyServer,
    program::{Program, configure_with},
};

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_secs(2);
/// As many refreshes in a second as 100,000 providers need with one in an hour.
const REFRESHES: usize = 28;
/// Those that are loaded together stay together, so that intervals of many lengths spread them. With as many of each, from so many
/// seconds on, there are as many refreshes as that in a second.
const INTERVALS: std::ops::Range<usize> = 20..60;
const OF_EACH: usize = 26;
/// Of the same at rest.
const LIMIT: f64 = 1.1;
const SECRET: &str = "bench-credential-of-more-than-32-characters";

pub(crate) fn run(n: usize, rows: &mut Rows) {
    // The key server, and those who ask, have a processor; the programs have another.
    pin(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = KeyServer::start(n);
    let length = |idp: usize| {
        let at = INTERVALS.start + idp / OF_EACH;
        INTERVALS.contains(&at).then(|| Duration::from_secs(at as u64))
    };
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    pin(1);
    let start = |directory: &tempfile::TempDir, is_busy: bool| {
        let own = own(directory.path());
        let hour = Duration::from_secs(3_600);
        configure_with(directory.path(), &server, n, hour, &own, |idp| {
            length(idp).filter(|_| is_busy)
        });
        let mut program = Program::start(directory.path());
        runtime.block_on(program.until_ok("/livez"));
        program
    };
    let mut busy = start(&directories[0], true);
    let mut idle = start(&directories[1], false);
    pin(0);
    runtime.block_on(busy.until_asked(&server, 2 * n));
    runtime.block_on(idle.until_ok("/livez"));
    let tokens = [&busy, &idle].map(token);
    let mut quantiles = [(0.5, Vec::new()), (0.99, Vec::new())];
    let before = runtime.block_on(server.requests());
    for round in 0..=ROUNDS {
        let took = [(&busy, &idle, &tokens[0]), (&idle, &busy, &tokens[1])].map(|(asked, other, token)| {
            other.signal(Signal::STOP);
            asked.signal(Signal::CONT);
            // What became due while it stood still.
            ask(asked, token, Duration::from_millis(500));
            ask(asked, token, ROUND)
        });
        for (part, ratios) in &mut quantiles {
            let [busy, idle] = took
                .each_ref()
                .map(|took| quantile(took, *part).as_secs_f64() * 1e6);
            println!("round {round}, {part}: {busy:.1} µs while sets are refreshed, {idle:.1} µs without");
            if round > 0 {
                ratios.push(busy / idle);
            }
        }
    }
    busy.signal(Signal::CONT);
    idle.signal(Signal::CONT);
    let refreshes = runtime.block_on(server.requests()) - before;
    println!("{refreshes} refreshes meanwhile");
    let measured = ROUND * u32::try_from(ROUNDS).unwrap();
    assert!(
        refreshes as u64 >= REFRESHES as u64 * measured.as_secs(),
        "there was too little that could have been noticed"
    );
    for (part, mut ratios) in quantiles {
        ratios.sort_by(f64::total_cmp);
        rows.at_most(
            &format!("GET /authorize while {n} sets are refreshed, to at rest: quantile {part}"),
            ratios[ratios.len() / 2],
            LIMIT,
        );
    }
}

/// A token service, so that there are tokens to ask about.
fn own(directory: &Path) -> String {
    let secret = directory.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    format!(
        "logging: {{ requests: false }}\n\
         credentials: [{{ name: bench, secret_file: {}, scopes: [admin] }}]\n\
         token_service: {{ issuer: \"https://auth.example\", audience: [my-api], algorithm: ES256, \
         generate_key: true, allow_plaintext_keys: true }}\n",
        secret.display(),
    )
}

fn token(program: &Program) -> String {
    let body = r#"{"user_id":"alice","scope":"read","expires_in":3600}"#;
    let request = format!(
        "POST /tokens HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {SECRET}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(program.public).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let minted: serde_json::Value =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("no token: {answer}"));
    minted["token"].as_str().unwrap().to_owned()
}

/// One question after the other on one connection, and how long each took.
fn ask(program: &Program, token: &str, time: Duration) -> Vec<Duration> {
    let request = format!("GET /authorize HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n\r\n");
    let mut stream = TcpStream::connect(program.public).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 4_096];
    let mut took = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let began = Instant::now();
        stream.write_all(request.as_bytes()).unwrap();
        let read = stream.read(&mut answer).unwrap();
        took.push(began.elapsed());
        assert!(
            answer[..read].starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer[..read])
        );
    }
    took
}
