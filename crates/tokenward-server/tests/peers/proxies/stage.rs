//! tokenward, a service, and proxies between them, all as the examples say.

use super::door::Door;
use super::echo::Echo;
use super::place::{Listening, Place, Ports, Running, free_port};
use super::raw;
use super::row::get;
use crate::child::wait_for;
use crate::process::root;
use crate::tokenward::Tokenward;

pub(super) struct Standing {
    pub(super) door: Door,
    pub(super) port: u16,
    pub(super) running: Running,
    _place: Place,
}

/// `examples/tokenward.yaml` with more in it.
pub(super) fn tokenward(more: &[(&str, &str)]) -> Tokenward {
    let mut config = std::fs::read_to_string(root().join("examples/tokenward.yaml")).unwrap();
    for (place, text) in more {
        assert!(config.contains(place), "{place} is not in the example");
        config = config.replacen(place, &format!("{place}{text}"), 1);
    }
    Tokenward::development(&config)
}

/// Starts `doors` in front of `service`, with an authorization service at `tokenward` that lets `/public/` through.
pub(super) fn doors(doors: &[Door], tokenward: Listening, service: &Echo) -> Vec<Standing> {
    edited(doors, tokenward, service, |_| ())
}

/// The same, from examples that `edit` has changed.
pub(super) fn edited(
    doors: &[Door],
    tokenward: Listening,
    service: &Echo,
    edit: impl Fn(&Place),
) -> Vec<Standing> {
    let mut standing: Vec<Standing> = doors
        .iter()
        .map(|door| {
            let ports = Ports {
                proxy: free_port(),
                tokenward,
                service: service.address.port(),
            };
            let place = Place::new(ports);
            edit(&place);
            Standing {
                door: *door,
                port: ports.proxy,
                running: door.start(&place),
                _place: place,
            }
        })
        .collect();
    for one in &mut standing {
        wait_for(&format!("{:?} passes requests on", one.door), || {
            one.running.must_run();
            raw::send(one.port, &get("/public/").bytes()).is_some_and(|reply| reply.is_of_the_service())
        });
    }
    service.take();
    standing
}

pub(super) fn listening(tokenward: &Tokenward) -> Listening {
    let (_, port) = tokenward.url.rsplit_once(':').unwrap();
    Listening {
        http: port.parse().unwrap(),
        grpc: tokenward.grpc().port(),
    }
}
