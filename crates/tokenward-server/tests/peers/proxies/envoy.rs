//! What tokenward tells Envoy beside the decision, and a tokenward that stops.

use std::time::{Duration, Instant};

use serde_json::json;

use super::cast::{Office, text};
use super::door::{Door, is_identity};
use super::echo::Echo;
use super::place::Place;
use super::row::get;
use super::{raw, stage};
use crate::child::wait_for;

#[test]
fn envoy_knows_what_was_decided_and_whose_token_it_was() {
    let tokenward = stage::tokenward(&[]);
    let service = Echo::start();
    let doors = stage::doors(&[Door::Grpc], stage::listening(&tokenward), &service);
    let minted = Office(&tokenward).mint(&json!({"user_id": "alice", "scope": "read"}));
    for (request, status) in [
        (get("/hello"), 401),
        (get("/hello").bearer(&text(&minted, "token")), 200),
    ] {
        assert_eq!(raw::send(doors[0].port, &request.bytes()).unwrap().status, status);
    }
    // The access log, which the example writes to standard output, every ten seconds or when it is full by default.
    for line in [
        "401 GET {\"tokenward\":{\"reason\":\"token_missing\"}}",
        "\"subject\":\"alice\"",
        "\"tenant\":\"default\"",
    ] {
        wait_for(line, || doors[0].running.log().contains(line));
    }
}

#[test]
fn envoy_is_told_which_headers_of_clients_to_remove() {
    let tokenward = stage::tokenward(&[]);
    let service = Echo::start();
    // Without the filter that would remove them before tokenward is asked.
    let edit = |place: &Place| {
        for path in ["examples/envoy/envoy.yaml", "examples/envoy/grpc.yaml"] {
            let text = place.read(path);
            let without = text.replace("(?i)x[^a-z0-9](tokenward[^a-z0-9].*|user[^a-z0-9]email)", "none");
            assert_ne!(text, without, "{path}");
            place.write(path, &without);
        }
    };
    let doors = [Door::Envoy, Door::Grpc];
    let doors = stage::edited(&doors, stage::listening(&tokenward), &service, edit);
    let bare = Office(&tokenward).mint(&json!({"user_id": "bare"}));
    let bare = text(&bare, "token");
    for one in &doors {
        for (request, identity) in [(get("/public/x"), 0), (get("/hello").bearer(&bare), 3)] {
            let spoofed = [
                "X-Tokenward-Subject",
                "X_Tokenward_Token-Id",
                "x_tokenward_scope",
                "X-User_Email",
            ];
            let request = spoofed
                .iter()
                .fold(request, |request, name| request.header(name, "root"));
            assert_eq!(raw::send(one.port, &request.bytes()).unwrap().status, 200);
            let seen = service.take().remove(0);
            let of_identity: Vec<_> = seen
                .headers
                .iter()
                .filter(|(name, _)| is_identity(name))
                .collect();
            assert_eq!(of_identity.len(), identity, "{:?}: {of_identity:?}", one.door);
            assert!(
                of_identity.iter().all(|(_, value)| value != "root"),
                "{of_identity:?}"
            );
        }
        // A spelling that tokenward cannot know of. The filter is there for it.
        let request = get("/public/x").header("X.User.Email", "root");
        raw::send(one.port, &request.bytes()).unwrap();
        let seen = service.take().remove(0);
        assert!(
            seen.headers.iter().any(|(name, _)| name == "x.user.email"),
            "{seen:?}"
        );
    }
}

#[test]
fn a_tokenward_that_stands_still_or_is_gone_lets_nothing_through() {
    let tokenward = stage::tokenward(&[]);
    let service = Echo::start();
    let doors = [Door::Grpc, Door::Envoy, Door::Nginx, Door::Caddy];
    let doors = stage::doors(&doors, stage::listening(&tokenward), &service);
    let ask = || {
        let ask = |one: &stage::Standing| raw::send(one.port, &get("/public/x").bytes()).unwrap().status;
        let statuses: Vec<u16> = doors.iter().map(ask).collect();
        (statuses, service.take().len())
    };
    assert_eq!(ask(), (vec![200; 4], 4));
    tokenward.pause();
    #[expect(
        clippy::disallowed_methods,
        reason = "how long proxies wait is a matter of real time"
    )]
    let began = Instant::now();
    assert_eq!(ask(), (vec![503, 503, 500, 504], 0));
    // One after the other waits for a second.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    tokenward.resume();
    wait_for("it goes on", || ask() == (vec![200; 4], 4));
    drop(tokenward);
    assert_eq!(ask(), (vec![503, 503, 500, 502], 0));
}
