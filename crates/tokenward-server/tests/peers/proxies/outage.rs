//! An authorization service that does not answer, or not as one: what is not allowed is not passed on.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::door::Door;
use super::echo::Echo;
use super::place::Listening;
use super::raw;
use super::row::get;
use super::stage::{self, Standing};
use crate::child::wait_for;

const ALLOW: &str = "HTTP/1.1 200 OK\r\nx-tokenward-subject: alice\r\ncontent-length: 0\r\n\r\n";

/// What becomes of a connection to the authorization service.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Nobody listens.
    Down,
    /// It is taken, and nothing comes.
    Hangs,
    /// It is closed as soon as something was asked.
    Closes,
    /// It is closed within the head of an answer that would allow.
    Breaks,
    /// What comes is no HTTP.
    Babbles,
    /// An answer that allows comes after so many milliseconds.
    Late(u64),
    /// This is the whole answer.
    Says(&'static str),
}

/// The fault, and the status that a client sees behind Envoy, nginx, Traefik and Caddy. 200 is the service's own answer.
const TABLE: &[(Fault, [u16; 4])] = &[
    (Fault::Hangs, [503, 500, 500, 504]),
    (Fault::Closes, [503, 500, 500, 502]),
    (Fault::Breaks, [503, 500, 500, 502]),
    (Fault::Babbles, [503, 500, 500, 502]),
    (Fault::Late(300), [200, 200, 200, 200]),
    // Traefik waits for half a minute, and there is no telling it otherwise.
    (Fault::Late(3000), [503, 500, 200, 504]),
    (
        Fault::Says("HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"),
        [503, 500, 503, 503],
    ),
    (
        Fault::Says("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
        [503, 500, 500, 500],
    ),
    (
        Fault::Says("HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"),
        [429, 500, 429, 429],
    ),
    // What the listener says by itself of a head that is too large.
    (
        Fault::Says(
            "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        ),
        [431, 500, 431, 431],
    ),
    (
        Fault::Says("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 0\r\n\r\n"),
        [302, 500, 302, 302],
    ),
    // The last one: nobody comes back from it.
    (Fault::Down, [503, 500, 500, 502]),
];

#[test]
fn what_is_not_allowed_is_not_passed_on() {
    let authorization = Authorization::start();
    let service = Echo::start();
    let doors = stage::doors(&Door::BY_HTTP, authorization.listening(), &service);
    let mut wrong = Vec::new();
    for (fault, statuses) in TABLE {
        authorization.fail(*fault);
        wrong.extend(try_out(*fault, *statuses, &doors, &service));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn try_out(fault: Fault, statuses: [u16; 4], doors: &[Standing], service: &Echo) -> Vec<String> {
    // At once, since one of them takes half a minute where nothing comes.
    let replies: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = doors
            .iter()
            .map(|one| scope.spawn(|| raw::send(one.port, &get("/hello").bearer("x").bytes())))
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut wrong = Vec::new();
    let mut passed = 0;
    for (one, reply) in doors.iter().zip(replies) {
        let expected = statuses[match one.door {
            Door::Envoy | Door::Grpc | Door::Istio => 0,
            Door::Nginx => 1,
            Door::Traefik => 2,
            Door::Caddy => 3,
        }];
        let status = reply.as_ref().map_or(0, |reply| reply.status);
        let of_the_service = reply.is_some_and(|reply| reply.is_of_the_service());
        passed += usize::from(expected == 200);
        if (status, of_the_service) != (expected, expected == 200) {
            wrong.push(format!(
                "{fault:?} at {:?}: {status} instead of {expected}",
                one.door
            ));
        }
    }
    let arrived = service.take().len();
    if arrived != passed {
        wrong.push(format!(
            "{fault:?}: {arrived} requests at the service instead of {passed}"
        ));
    }
    wrong
}

/// An authorization service that allows everything, until it fails.
struct Authorization {
    port: u16,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Authorization {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(Mutex::new(None));
        let current = Arc::clone(&fault);
        // The threads end with the process: a test is one.
        let accept = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if *current.lock().unwrap() == Some(Fault::Down) {
                    return;
                }
                let current = Arc::clone(&current);
                let serve = move || serve(stream, &current);
                thread::Builder::new().spawn(serve).unwrap();
            }
        };
        thread::Builder::new().spawn(accept).unwrap();
        Self { port, fault }
    }

    fn listening(&self) -> Listening {
        Listening {
            http: self.port,
            grpc: self.port,
        }
    }

    /// From now on, on connections that are open, too.
    fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
        if fault == Fault::Down {
            // The listener sees it with the next connection, and is gone after it.
            wait_for("nobody listens", || {
                TcpStream::connect(("127.0.0.1", self.port)).is_err()
            });
        }
    }
}

fn serve(mut stream: TcpStream, fault: &Mutex<Option<Fault>>) {
    let mut head = [0; 4096];
    while stream.read(&mut head).is_ok_and(|length| length > 0) {
        let fault = *fault.lock().unwrap();
        let text = match fault {
            None => ALLOW,
            Some(Fault::Down | Fault::Closes) => return,
            Some(Fault::Hangs) => continue,
            Some(Fault::Breaks) => {
                let _ = stream.write_all(&ALLOW.as_bytes()[..30]);
                return;
            }
            Some(Fault::Babbles) => "* OK IMAP4rev1\r\n\r\n",
            Some(Fault::Late(milliseconds)) => {
                thread::sleep(Duration::from_millis(milliseconds));
                ALLOW
            }
            Some(Fault::Says(answer)) => answer,
        };
        if stream.write_all(text.as_bytes()).is_err() || fault == Some(Fault::Babbles) {
            return;
        }
    }
}
