//! What only nginx's example does: it keeps decisions for as long as tokenward says, and is told what it asks with.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::cast::{Office, text};
use super::door::Door;
use super::echo::Echo;
use super::row::{Request, get};
use super::{raw, stage};
use crate::http;
use crate::tokenward::Tokenward;

/// Of nginx, with decisions that are kept for two seconds.
struct Cached {
    tokenward: Tokenward,
    service: Echo,
    door: stage::Standing,
}

impl Cached {
    fn start() -> Self {
        let tokenward = stage::tokenward(&[("authorize:\n", "  cache_max_age: 2\n")]);
        let service = Echo::start();
        let door = stage::doors(&[Door::Nginx], stage::listening(&tokenward), &service).remove(0);
        Self {
            tokenward,
            service,
            door,
        }
    }

    /// The status of a request, and whom the service was told that it is from.
    fn ask(&self, request: &Request) -> (u16, Option<String>) {
        self.service.take();
        let reply = raw::send(self.door.port, &request.bytes()).unwrap();
        let seen = self.service.take().pop();
        let subject = seen.and_then(|seen| {
            let subject = |(name, value): (String, String)| {
                name.eq_ignore_ascii_case("x-tokenward-subject").then_some(value)
            };
            seen.headers.into_iter().find_map(subject)
        });
        (reply.status, subject)
    }

    /// How often tokenward has decided.
    fn decisions(&self) -> u64 {
        let metrics = http::get(&format!("{}/metrics", self.tokenward.admin), &[]);
        String::from_utf8_lossy(&metrics.body)
            .lines()
            .filter(|line| line.starts_with("tokenward_decisions_total{") && line.contains("door=\"nginx\""))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }

    fn mint(&self, body: &Value) -> (String, String) {
        let minted = Office(&self.tokenward).mint(body);
        (text(&minted, "token"), text(&minted, "token_id"))
    }
}

#[test]
fn a_decision_is_kept_for_what_it_was_about() {
    let stage = Cached::start();
    let (alice, _) = stage.mint(&json!({"user_id": "alice", "scope": "write"}));
    let (bob, _) = stage.mint(&json!({"user_id": "bob"}));
    let once = |what: &str, request: &Request, expected: (u16, Option<&str>)| {
        let before = stage.decisions();
        for _ in 0..3 {
            let (status, subject) = stage.ask(request);
            assert_eq!((status, subject.as_deref()), expected, "{what}");
        }
        stage.decisions() - before
    };
    let of_alice = (200, Some("alice"));
    // Each differs from the first one in one thing that decisions depend on.
    for (what, request, expected) in [
        ("the first", get("/hello").bearer(&alice), of_alice),
        ("another path", get("/hallo").bearer(&alice), of_alice),
        ("another query", get("/hello?x").bearer(&alice), of_alice),
        (
            "another method",
            Request::new("DELETE", "/hello").bearer(&alice),
            of_alice,
        ),
        (
            "another host",
            get("/hello").bearer(&alice).host("other.example.com"),
            of_alice,
        ),
        ("another token", get("/hello").bearer(&bob), (200, Some("bob"))),
        ("another carrier", get("/hello").cookie(&alice), of_alice),
        (
            "a cookie beside it",
            get("/hello").bearer(&alice).header("Cookie", "c=1"),
            of_alice,
        ),
        ("nobody", get("/public/x"), (200, None)),
    ] {
        assert_eq!(once(what, &request, expected), 1, "{what} is decided once");
    }
    // Its words are those of the request with another cookie, divided in another way.
    let divided = get("/hello")
        .header("Authorization", "Bearer")
        .header("Cookie", &format!("{alice} c=1"));
    for (what, request, status) in [
        ("a token that is no carrier's", divided, 401),
        ("no token", get("/hello"), 401),
        ("a bad token", get("/hello").bearer("abc"), 401),
        ("too little scope", get("/admin/").bearer(&alice), 403),
        ("a path in no normal form", get("/public//").bearer(&alice), 403),
        ("two carriers", get("/hello").bearer(&alice).cookie(&bob), 401),
    ] {
        assert_eq!(
            once(what, &request, (status, None)),
            3,
            "{what} is decided each time"
        );
    }
}

#[test]
fn a_request_without_a_host_is_decided_like_any_other() {
    let stage = Cached::start();
    for (path, status) in [("/public/x", 200), ("/hello", 401)] {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let reply = raw::send(stage.door.port, request.as_bytes()).unwrap();
        assert_eq!(reply.status, status, "{path}");
    }
}

#[test]
fn a_client_does_not_say_who_it_is() {
    let stage = Cached::start();
    let request = get("/hello").header("X-Forwarded-For", "203.0.113.77");
    assert_eq!(stage.ask(&request).0, 401);
    let log = stage.tokenward.log();
    assert!(log.contains("\"route\":\"/authorize/nginx\""), "{log}");
    assert!(!log.contains("203.0.113.77"), "{log}");
}

#[test]
fn a_decision_ends_with_its_time_or_its_token() {
    let stage = Cached::start();
    let (revoked, id) = stage.mint(&json!({"user_id": "alice"}));
    let request = get("/hello").bearer(&revoked);
    assert_eq!(stage.ask(&request).0, 200);
    Office(&stage.tokenward).revoke(&format!("/tokens/{id}"));
    assert_eq!(
        stage.ask(&get("/other").bearer(&revoked)).0,
        401,
        "what was not kept"
    );
    assert_eq!(stage.ask(&request).0, 200, "what was");
    // nginx counts whole seconds, and keeps what lives for two until the third.
    thread::sleep(Duration::from_millis(3100));
    assert_eq!(stage.ask(&request).0, 401);

    // Less than a second is left of it.
    let (short, _) = stage.mint(&json!({"user_id": "alice", "expires_in": 1}));
    let before = stage.decisions();
    for _ in 0..3 {
        assert_eq!(
            stage.ask(&get("/hello").bearer(&short)).0,
            200,
            "within the leeway"
        );
    }
    assert_eq!(stage.decisions() - before, 3, "kept no longer than its token");
}
