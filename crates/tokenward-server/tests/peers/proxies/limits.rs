//! A token that is used more often than it may be.

use serde_json::json;

use super::cast::{Office, text};
use super::door::Door;
use super::echo::Echo;
use super::row::get;
use super::{raw, stage};

#[test]
fn a_token_that_is_used_too_often_is_refused_at_every_door() {
    let tokenward = stage::tokenward(&[("authorize:\n", "  enforce_rate_limit: true\n")]);
    let service = Echo::start();
    for one in stage::doors(&Door::ALL, stage::listening(&tokenward), &service) {
        let minted = Office(&tokenward).mint(&json!({"user_id": "eager", "rate_limit": 1}));
        let request = get("/hello").bearer(&text(&minted, "token")).bytes();
        let first = raw::send(one.port, &request).unwrap();
        assert_eq!(first.status, 200, "{:?}: {first:?}", one.door);
        assert_eq!(service.take().len(), 1);

        let second = raw::send(one.port, &request).unwrap();
        assert_eq!(service.take().len(), 0, "{:?}", one.door);
        if one.door == Door::Nginx {
            // It would make an outage of a 429, and passes on no header of a refusal.
            assert_eq!(second.status, 403, "{second:?}");
            continue;
        }
        assert_eq!(second.status, 429, "{:?}: {second:?}", one.door);
        assert_eq!(second.error_code().as_deref(), Some("rate_limited"));
        for name in ["retry-after", "ratelimit", "ratelimit-policy"] {
            assert!(
                second.value(name).is_some(),
                "{:?}: no {name}: {second:?}",
                one.door
            );
        }
    }
}
