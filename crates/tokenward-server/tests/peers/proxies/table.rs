//! The same requests at every door: decided the same, told to the client as documented, and passed on without a word of the client's
//! about who it is.

use super::cast::Cast;
use super::door::Door;
use super::echo::Echo;
use super::row::{Outcome, Row};
use super::{raw, rows, stage};
use crate::provider::Provider;

#[test]
fn every_request_is_decided_the_same_at_every_door() {
    let provider = Provider::start();
    let idp = format!(
        "idps:\n  - {{ name: provider, issuer: \"{}\", audiences: [my-api], leeway: 0 }}\n\n",
        provider.issuer
    );
    let tokenward = stage::tokenward(&[("store: { url: \"memory:\" }\n", &idp)]);
    let service = Echo::start();
    let doors = stage::doors(&Door::ALL, stage::listening(&tokenward), &service);
    let cast = Cast::new(&tokenward, &provider);
    let rows = rows::all(&cast);
    assert!(rows.len() >= 150, "{} rows", rows.len());

    let mut wrong = Vec::new();
    let mut counts = [0; 3];
    for row in &rows {
        for one in &doors {
            let reply = raw::send(one.port, &row.request().bytes());
            let seen = service.take();
            if let Err(what) = row.check(one.door, reply.as_ref(), &seen) {
                wrong.push(format!("{:?}: {}: {what}", one.door, row.what()));
            }
            counts[match row.outcome(one.door) {
                Outcome::Through(_) | Outcome::Rewritten { .. } => 0,
                Outcome::Refused(..) => 1,
                Outcome::Answered(_) => 2,
            }] += 1;
        }
    }
    println!(
        "{} requests at {} doors: {counts:?} passed, refused, answered by the proxy",
        rows.len(),
        doors.len()
    );
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_names_are_unique(&rows);
}

fn assert_names_are_unique(rows: &[Row]) {
    let mut names: Vec<_> = rows.iter().map(Row::what).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "rows that cannot be told apart: {twice:?}");
}
