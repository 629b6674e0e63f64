//! What only Envoy's gRPC door has, and a tokenward that stops.

use rustix::process::Signal;
use serde_json::json;

use super::cast::{Office, text};
use super::door::Door;
use super::echo::Echo;
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
    for line in ["401 GET {\"reason\":\"token_missing\"}", "\"subject\":\"alice\""] {
        wait_for(line, || doors[0].running.log().contains(line));
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
    tokenward.signal(Signal::STOP);
    assert_eq!(ask(), (vec![503, 503, 500, 504], 0));
    tokenward.signal(Signal::CONT);
    wait_for("it goes on", || ask() == (vec![200; 4], 4));
    drop(tokenward);
    assert_eq!(ask(), (vec![503, 503, 500, 502], 0));
}
